"""What makes ids objects: numbered in order, large enough, without holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError


def in_scan_order(ids: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """The ids 1..n instead of any others, in the order of each object's first pixel (last axis fastest); 0 stays 0.

    ids: integers >= 0 (*S), objects in one piece or several.

    >>> in_scan_order(np.array([[0, 7], [3, 7]])).tolist()
    [[0, 1], [2, 1]]
    """
    require_ids(ids)
    flat = np.ascontiguousarray(ids).reshape(-1)
    inside = np.flatnonzero(flat)
    out = np.zeros(flat.shape, np.int32)
    if not len(inside):
        return out.reshape(ids.shape)
    position, known = positions(flat[inside].astype(np.int64))
    first = np.empty(len(known), np.int64)
    first[position[::-1]] = inside[::-1]  # the last one written stays: the first pixel
    number = np.empty(len(known), np.int32)
    number[np.argsort(first)] = np.arange(1, len(known) + 1)
    out[inside] = number[position]
    return out.reshape(ids.shape)


def positions(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each of the ids > 0 stands among those that occur, from 0; and these, ascending."""
    if not len(values):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    highest = int(values.max())
    if highest > max(4 * len(values), 2**20):  # a table of all ids would be larger than the image
        known, position = np.unique(values, return_inverse=True)
        return position.reshape(-1).astype(np.int64), known.astype(np.int64)
    there = np.zeros(highest + 1, bool)
    there[values] = True
    return (np.cumsum(there) - 1)[values], np.flatnonzero(there)


def require_ids(ids: npt.NDArray[Any]) -> None:
    """Raise LabelsError unless these are whole numbers >= 0 of an image or volume."""
    if ids.dtype.kind not in "uib" or ids.ndim not in (2, 3):
        raise LabelsError(f"an array of {ids.dtype} and shape {ids.shape} is not a label image")
    if ids.size and ids.dtype.kind == "i" and int(ids.min()) < 0:
        raise LabelsError(f"label {int(ids.min())} is negative", fix="0 is background, objects are 1 and more")


def fill_holes(ids: npt.NDArray[np.int32], share: float) -> npt.NDArray[np.int32]:
    """Objects with their small holes filled: int32 (*S).

    A hole is a region of background that one object alone encloses: it has no way out to the edge of the image, not even
    through a corner, and shares no side with another object. It is filled if it has at most `share` times as many pixels as its
    object, as found before any hole was filled. 0 fills none; 1 leaves open only those larger than the object.
    """
    from scipy import ndimage

    if share <= 0 or not ids.any():
        return ids
    if 1 in ids.shape:  # along an axis of one pixel every hole would touch the edge
        return ids if ids.size == 1 else fill_holes(ids.squeeze(), share).reshape(ids.shape)
    ids = np.ascontiguousarray(ids)
    regions, count = ndimage.label(ids == 0, np.ones((3,) * ids.ndim))
    enclosed = np.ones(count + 1, bool)
    enclosed[0] = False
    for axis in range(ids.ndim):
        for side in (0, -1):
            enclosed[np.take(regions, side, axis)] = False
    holes = np.flatnonzero(enclosed[regions])
    if not len(holes):
        return ids
    region, flat = regions.reshape(-1)[holes], ids.reshape(-1)
    lowest, highest = np.full(count + 1, np.iinfo(np.int32).max), np.zeros(count + 1, np.int64)
    for step in np.array(ids.strides) // ids.itemsize:
        for near in (flat[holes - step], flat[holes + step]):  # holes are never at the edge
            seen = near > 0
            np.minimum.at(lowest, region[seen], near[seen])
            np.maximum.at(highest, region[seen], near[seen])
    area = np.bincount(flat)
    size = np.bincount(region, minlength=count + 1)
    filled = enclosed & (lowest == highest) & (size <= share * area[np.where(enclosed, highest, 0)])
    out = ids.copy()
    within = filled[region]
    out.reshape(-1)[holes[within]] = highest[region[within]]
    return out


def min_size_of(areas: Sequence[int] | npt.NDArray[Any]) -> int:
    """The size in pixels below which a prediction is taken for noise: half of the 1st percentile of the training objects' areas.

    So 99 of 100 objects of the training would be kept, even if only half of each were found; and a few specks among
    hundreds of objects do not count. At least 1, also without any objects; with fewer than 100, half of the smallest.

    >>> min_size_of([3, *range(100, 400)]), min_size_of([]), min_size_of([1, 50])
    (51, 1, 1)
    """
    areas = np.asarray(areas)
    return max(1, int(np.quantile(areas, 0.01, method="lower")) // 2) if areas.size else 1


@dataclass(frozen=True)
class Boxes:
    """The boxes around objects, half-open: a pixel has start <= index < stop."""

    start: npt.NDArray[np.int64]
    """(n, dims), lowest index along each axis of the objects 1..n."""
    stop: npt.NDArray[np.int64]
    """(n, dims), one more than the highest."""


def boxes_of(ids: npt.NDArray[Any]) -> Boxes:
    """The boxes around the objects 1..n, each of which occurs."""
    from scipy import ndimage

    found = ndimage.find_objects(ids) if ids.size else []
    spans = np.array([[(s.start, s.stop) for s in box] for box in found], np.int64).reshape(len(found), ids.ndim, 2)
    return Boxes(spans[..., 0], spans[..., 1])
