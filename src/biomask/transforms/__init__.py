"""Batched torch transforms; the same object works in training, prediction and exports."""

from biomask.transforms.elastic import elastic_field, spread
from biomask.transforms.intensity import brightness_contrast, gamma, gaussian_blur, gaussian_noise, grey_field, low_resolution
from biomask.transforms.normalize import Normalization, normalization_of
from biomask.transforms.spatial import affine, coordinates, covering_margin, flip_rotate, moved, needed_margin, warp, warp_labels
from biomask.transforms.stain import stain_jitter

__all__ = [
    "Normalization",
    "affine",
    "brightness_contrast",
    "coordinates",
    "covering_margin",
    "elastic_field",
    "flip_rotate",
    "gamma",
    "gaussian_blur",
    "gaussian_noise",
    "grey_field",
    "low_resolution",
    "moved",
    "needed_margin",
    "normalization_of",
    "spread",
    "stain_jitter",
    "warp",
    "warp_labels",
]
