"""Masks of single objects, each cut to a part of its image: what they share, and put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.instances.polygons import Crop


def box_crop(box: Sequence[float] | npt.NDArray[Any], size: Sequence[int]) -> Crop:
    """The pixels of an image of `size` (Y, X) whose centres lie in a box x0 y0 x1 y1."""
    spans = (((box[0], box[2]), size[1]), ((box[1], box[3]), size[0]))
    (left, right), (top, bottom) = (np.clip(np.ceil(np.array(ends, np.float64) - 0.5), 0, n).astype(int) for ends, n in spans)
    return np.ones((max(0, bottom - top), max(0, right - left)), bool), (int(top), int(left))


def resampled_crop(crop: Crop, factors: Sequence[float], size: Sequence[int]) -> Crop:
    """A mask in an image that is `factors` times as large and has `size` pixels."""
    pixels, origin = crop
    places, starts = [], []
    for start, length, factor, n in zip(origin, pixels.shape, factors, size, strict=True):
        first, last = max(0, int(np.floor(start * factor))), min(n, int(np.ceil((start + length) * factor)))
        source = np.floor((np.arange(first, max(first, last)) + 0.5) / factor).astype(int) - start
        inside = (source >= 0) & (source < length)
        places.append(source[inside])
        starts.append(first + (int(inside.argmax()) if inside.any() else 0))
    return pixels[np.ix_(*places)], (starts[0], starts[1])


def shared_pixels(first: Crop, second: Crop) -> int:
    """Pixels that are in both masks."""
    (a, (ay, ax)), (b, (by, bx)) = first, second
    top, left = max(ay, by), max(ax, bx)
    bottom, right = min(ay + a.shape[0], by + b.shape[0]), min(ax + a.shape[1], bx + b.shape[1])
    if bottom <= top or right <= left:
        return 0
    return int(np.count_nonzero(a[top - ay:bottom - ay, left - ax:right - ax] & b[top - by:bottom - by, left - bx:right - bx]))


def pixels_in(mask: Crop, region: tuple[slice, slice]) -> int:
    """Pixels of a mask in these rows and columns."""
    pixels, origin = mask
    rows, columns = (slice(max(0, s.start - start), max(0, s.stop - start)) for s, start in zip(region, origin, strict=True))
    return int(np.count_nonzero(pixels[rows, columns]))


def union(masks: Sequence[Crop]) -> Crop:
    """All pixels of several masks."""
    top, left = (min(origin[axis] for _, origin in masks) for axis in (0, 1))
    bottom, right = (max(origin[axis] + pixels.shape[axis] for pixels, origin in masks) for axis in (0, 1))
    out = np.zeros((bottom - top, right - left), bool)
    for pixels, (y, x) in masks:
        out[y - top:y - top + pixels.shape[0], x - left:x - left + pixels.shape[1]] |= pixels
    return out, (top, left)
