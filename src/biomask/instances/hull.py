"""Pixels in the convex hulls of objects; for all objects of a 2D image at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.instances.filter import Boxes

#: Stands for "no pixel here"; far beyond any doubled coordinate.
NONE = 2**40

#: Coordinates of points tested at a time.
STRIP = 2**18

Whole = npt.NDArray[np.int64]


def hull_sizes(ids: npt.NDArray[Any], boxes: Boxes) -> npt.NDArray[np.float64]:
    """Number of pixels in the convex hull of each object: float64 (n,), as `area_convex` of `skimage.measure.regionprops`.

    ids: integers 0..n, 2D or 3D. The hull is that of the middles of the sides (faces) of an object's pixels; those pixels
    count whose centres it holds, its edge included. All in whole numbers in 2D. NaN in 3D where Qhull gives up.
    """
    return _sizes_2d(ids, boxes) if ids.ndim == 2 else _sizes_3d(ids, boxes)


def _sizes_2d(ids: npt.NDArray[Any], boxes: Boxes) -> npt.NDArray[np.float64]:
    """The left and right edges of the hulls, from top to bottom, on a grid of half pixels."""
    rows = boxes.stop[:, 0] - boxes.start[:, 0]
    order = np.argsort(-rows, kind="stable")  # tall ones first: those still at work are always the first so many
    start = np.concatenate([[0], np.cumsum(2 * rows + 1)])
    left, right = _extremes(ids, boxes, start)
    total = np.zeros(len(rows), np.int64)
    bounds = [_edge_of_hull(side, start, rows, order) for side in (left, -right)]
    at = np.flatnonzero(_middles(start))
    # Doubled x of both edges as fractions: centres between them, ends included.
    (low, low_by), (high, high_by) = ((n[at], d[at]) for n, d in bounds)
    centres = (-high) // (2 * high_by) + (-low) // (2 * low_by) + 1
    owner = np.repeat(np.arange(len(rows)), 2 * rows + 1)[at]
    np.add.at(total, owner, centres)
    return total.astype(np.float64)


def _middles(start: Whole) -> npt.NDArray[np.bool_]:
    """Which places on the grid of half rows are middles of rows: the second, fourth, … of each object."""
    place = np.arange(start[-1]) - np.repeat(start[:-1], np.diff(start))
    return np.asarray(place % 2 == 1)


def _extremes(ids: npt.NDArray[Any], boxes: Boxes, start: Whole) -> tuple[Whole, Whole]:
    """Doubled x of the leftmost and rightmost middles of sides on each half row of each object; NONE, -NONE where it has none."""
    left, right = np.full(start[-1], NONE), np.full(start[-1], -NONE)
    y, x = np.nonzero(_ends(ids))
    number = ids[y, x].astype(np.int64) - 1
    place = start[number] + 2 * (y - boxes.start[number, 0]) + 1
    for shift, reach in ((-1, 0), (0, 1), (1, 0)):
        np.minimum.at(left, place + shift, 2 * x - reach)
        np.maximum.at(right, place + shift, 2 * x + reach)
    return left, right


def _ends(ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """First and last pixels of the runs along the last axis; none between them can be a corner of a hull."""
    change = np.diff(ids, axis=-1) != 0
    edge = np.ones((*ids.shape[:-1], 1), bool)
    return np.asarray((ids > 0) & (np.concatenate([edge, change], axis=-1) | np.concatenate([change, edge], axis=-1)))


def _edge_of_hull(side: Whole, start: Whole, rows: Whole,
                  order: Whole) -> tuple[Whole, Whole]:
    """The lower convex edge of the points (place, side) of each object, at each place: numerators and denominators.

    A monotone chain (Andrew, 1979), one step down all objects at once.
    """
    first, lengths = start[:-1][order], (2 * rows + 1)[order]
    chain = np.zeros(start[-1], np.int64)  # places of the corners so far, object by object
    depth = np.zeros(len(order), np.int64)
    for place in range(int(lengths[0]) if len(lengths) else 0):
        at_work = int(np.searchsorted(-lengths, -place))
        base = first[:at_work]
        here = np.flatnonzero(side[base + place] != NONE)
        popping = here
        while len(popping):
            popping = popping[depth[popping] >= 2]
            root = first[popping]
            second, last = chain[root + depth[popping] - 2], chain[root + depth[popping] - 1]
            a, b, c = side[root + second], side[root + last], side[root + place]
            popping = popping[(b - a) * (place - second) >= (c - a) * (last - second)]
            depth[popping] -= 1
        chain[first[here] + depth[here]] = place
        depth[here] += 1
    return _between_corners(side, chain, depth, first, start)


def _between_corners(side: Whole, chain: Whole, depth: Whole,
                     first: Whole, start: Whole) -> tuple[Whole, Whole]:
    """Straight lines from corner to corner, as fractions, at each place."""
    owner = np.repeat(np.arange(len(first)), depth - 1)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(depth - 1) - (depth - 1), depth - 1)
    root = first[owner]
    top, bottom = chain[root + nth], chain[root + nth + 1]
    run = bottom - top
    place = np.repeat(root + top, run) + np.arange(int(run.sum())) - np.repeat(np.cumsum(run) - run, run)
    numerator, denominator = np.zeros(start[-1], np.int64), np.ones(start[-1], np.int64)
    x, dx = side[root + top], side[root + bottom] - side[root + top]
    numerator[place] = np.repeat(x * run, run) + np.repeat(dx, run) * (place - np.repeat(root + top, run))
    denominator[place] = np.repeat(run, run)
    return numerator, denominator


def _sizes_3d(ids: npt.NDArray[Any], boxes: Boxes) -> npt.NDArray[np.float64]:
    """One object after the other, by Qhull."""
    from scipy.spatial import ConvexHull, QhullError

    sizes = np.full(len(boxes.start), np.nan)
    halves = np.concatenate([np.eye(3), -np.eye(3)]) / 2
    for number, (start, stop) in enumerate(zip(boxes.start.tolist(), boxes.stop.tolist(), strict=True)):
        crop = ids[tuple(map(slice, start, stop))] == number + 1
        points = np.argwhere(_ends(crop.astype(np.int8)))
        try:
            hull = ConvexHull((points[:, None] + halves).reshape(-1, 3))
        except QhullError:  # too flat for its precision
            continue
        planes = np.unique(hull.equations.round(12), axis=0)
        grid = np.argwhere(~crop).astype(np.float64)  # its own voxels are inside
        sizes[number] = crop.sum() + sum(_count_inside(part, planes) for part in np.array_split(grid, 1 + grid.size // STRIP))
    return sizes


def _count_inside(points: npt.NDArray[np.float64], planes: npt.NDArray[np.float64]) -> int:
    """How many of the points (m, 3) are on the inner side of all planes (k, 4), or on one."""
    for some in np.array_split(planes, 1 + len(planes) // 32):  # most points are outside of one of the first
        points = points[(points @ some[:, :3].T + some[:, 3]).max(axis=1, initial=-np.inf) <= 1e-9]
    return len(points)
