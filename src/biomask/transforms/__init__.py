"""Batched torch transforms; the same object works in training, prediction and exports."""

from biomask.transforms.normalize import Normalization, normalization_of
from biomask.transforms.spatial import flip_rotate

__all__ = ["Normalization", "flip_rotate", "normalization_of"]
