"""Objects, and pieces of classes, in figures: how large, how many, whether they touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gamma, pi
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

#: Pieces of a class with fewer pixels are specks of the drawing, unless there are no others.
SPECK = {2: 16, 3: 27}

@dataclass(frozen=True)
class Objects:
    """Objects of instances; of classes and structures their connected pieces (pixels that share a side), without specks."""

    count: int
    """In the images looked at; 0 leaves all else 0."""
    per_image: tuple[int, int, int]
    """Fewest, median, most."""
    diameter: tuple[float, float, float]
    """5, 50 and 95 % of the diameters of discs or balls of the same size, in pixels (of the volume's own grid)."""
    extent: tuple[float, ...]
    """Median length along each axis, in pixels."""
    extent_95: tuple[float, ...]
    """Length along each axis that 95 % of them stay within."""
    largest: int
    """Greatest length along any axis."""
    area_1: float
    """Pixels that 99 % of them reach."""
    touching: float
    """Share that touch another one: a pixel beside one of another id. 0 for pieces of classes, which cannot."""


@dataclass(frozen=True)
class Pieces:
    """Of one image: pixels (N,), lengths (N, dims), whether each touches another (N,)."""

    areas: npt.NDArray[np.int64]
    extents: npt.NDArray[np.int64]
    touching: npt.NDArray[np.bool_]


def components_of(mask: npt.NDArray[np.bool_]) -> Pieces:
    """Connected pieces, without specks where there are larger ones."""
    from scipy import ndimage

    found = pieces_of(ndimage.label(mask)[0])
    keep = found.areas >= SPECK[mask.ndim]
    touching = np.zeros(len(found.areas), bool)
    if not keep.any():
        return Pieces(found.areas, found.extents, touching)
    return Pieces(found.areas[keep], found.extents[keep], touching[keep])


def pieces_of(ids: npt.NDArray[Any]) -> Pieces:
    """Pixels, lengths and contacts of each id but 0, in ascending order; ids (*S) of any integer dtype."""
    from scipy import ndimage

    values, flat = np.unique(ids, return_inverse=True)
    table = np.where(values == 0, 0, np.cumsum(values != 0)).astype(np.int32)
    numbers = table[flat].reshape(ids.shape)
    count = int(numbers.max(initial=0))
    areas = np.bincount(numbers.reshape(-1), minlength=count + 1)[1:]
    extents = np.array([[s.stop - s.start for s in box] for box in ndimage.find_objects(numbers) if box is not None])
    touching = np.zeros(count + 1, bool)
    for axis in range(ids.ndim):
        a, b = np.moveaxis(numbers, axis, 0)[:-1], np.moveaxis(numbers, axis, 0)[1:]
        meet = (a != b) & (a != 0) & (b != 0)
        touching[a[meet]] = touching[b[meet]] = True
    return Pieces(areas, extents.reshape(-1, ids.ndim), touching[1:])


def joined(parts: Sequence[Pieces], dims: int) -> Pieces:
    """All of them in one."""
    return Pieces(np.concatenate([np.zeros(0, np.int64), *(p.areas for p in parts)]),
                   np.concatenate([np.zeros((0, dims), np.int64), *(p.extents for p in parts)]),
                   np.concatenate([np.zeros(0, bool), *(p.touching for p in parts)]))


def summary_of(parts: Sequence[Pieces], dims: int) -> Objects:
    """Figures over the pieces of several images, at least one."""
    counts = [len(p.areas) for p in parts]
    per_image = (min(counts), int(median(counts)), max(counts))
    together = joined(parts, dims)
    if not len(together.areas):
        return Objects(0, per_image, (0.0, 0.0, 0.0), (0.0,) * dims, (0.0,) * dims, 0, 0.0, 0.0)
    ball = pi ** (dims / 2) / gamma(dims / 2 + 1)  # volume of the unit ball
    low, middle, high = np.percentile(2 * (together.areas / ball) ** (1 / dims), [5, 50, 95])
    return Objects(len(together.areas), per_image, (float(low), float(middle), float(high)),
                   tuple(float(v) for v in np.percentile(together.extents, 50, axis=0)),
                   tuple(float(v) for v in np.percentile(together.extents, 95, axis=0)),
                   int(together.extents.max()), float(np.percentile(together.areas, 1)), float(together.touching.mean()))
