"""Metrics: small numpy functions on arrays of class ids; no files, no networks."""

from biomask.metrics.overlap import Overlap, confusion_matrix, mean, overlap

__all__ = ["Overlap", "confusion_matrix", "mean", "overlap"]
