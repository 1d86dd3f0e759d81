"""Applying a trained network: exact overlap-tile, bounded memory, files in and out."""

from biomask.prediction.overlap_tile import geometry_of, predict_array, predict_tiles

__all__ = ["geometry_of", "predict_array", "predict_tiles"]
