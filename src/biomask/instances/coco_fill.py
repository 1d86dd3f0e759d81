"""Polygons filled as COCO fills them, on a grid five times as fine: for scores that equal those of other programs exactly.

Everywhere else biomask fills polygons by the centres of pixels (`biomask.shapes.Shape`); the two differ by at most a pixel along
the outline.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.shapes import FARTHEST

Ints = npt.NDArray[np.int64]

#: Steps of the fine grid in a pixel.
FINE = 5

#: Points of a polygon on the fine grid, at most; an outline that may need more is damaged.
MOST_POINTS = 2**28


def polygon_bounds(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Ints:
    """The pixels of polygons that add up, as bounds of stretches down the columns: those of one mask of `Runs`.

    polygons: each x, y, x, y, … in pixels. size: (Y, X) of the image. Raises LabelsError for other than pairs of numbers.
    """
    return fill([[fine_points(p) for p in polygons]], size)[0]


def fine_points(polygon: Sequence[float]) -> Ints:
    """(N, 2): x, y of a polygon on the fine grid. Raises LabelsError for other than pairs of numbers, and for those too far out."""
    try:
        flat = np.asarray(polygon, np.float64)
    except (ValueError, TypeError, OverflowError):
        flat = np.zeros((0, 0))
    if flat.ndim != 1 or len(flat) % 2 or not (np.abs(flat) <= FARTHEST).all():  # NaN fails too
        raise LabelsError("a polygon of it is no list of x, y, x, y, …")
    points = (FINE * flat + 0.5).astype(np.int64)
    if len(points) and len(points) * int(np.ptp(points)) > MOST_POINTS:
        raise LabelsError("it has coordinates far beyond any image")
    return points.reshape(-1, 2)


def fill(objects: Sequence[Sequence[Ints]], size: tuple[int, int]) -> list[Ints]:
    """The same of many objects at once: bounds of each. objects: of each the `fine_points` of its polygons."""
    polygons = [p for own in objects for p in own if len(p)]
    each = _bounds(polygons, size) if polygons else []
    found, first = list[Ints](), 0
    for own in objects:
        count = sum(len(p) > 0 for p in own)
        parts = each[first:first + count]
        found.append(parts[0] if count == 1 else _union(parts))
        first += count
    return found


def _union(parts: Sequence[Ints]) -> Ints:
    """Bounds of the pixels that are in any of several masks."""
    starts = np.concatenate([np.zeros(0, np.int64), *(b[::2] for b in parts)])
    stops = np.concatenate([np.zeros(0, np.int64), *(b[1::2] for b in parts)])
    places, numbers = np.unique(np.concatenate([starts, stops]), return_inverse=True)
    change = np.zeros(len(places), np.int64)
    np.add.at(change, numbers, np.repeat([1, -1], [len(starts), len(stops)]))
    inside = np.cumsum(change) > 0
    return np.asarray(places[np.diff(inside, prepend=False)])


def _bounds(polygons: Sequence[Ints], size: tuple[int, int]) -> list[Ints]:
    """Where a line down each column, through the middles of the pixels, enters and leaves each polygon."""
    rows, columns = size
    end = rows * columns
    start = np.concatenate(polygons)
    stop = np.concatenate([np.roll(p, -1, axis=0) for p in polygons])
    u, v, edge = _traced(start, stop)
    owner = np.repeat(np.arange(len(polygons)), [len(p) for p in polygons])[edge]
    steps = np.flatnonzero((np.diff(u) != 0) & (np.diff(owner) == 0)) + 1
    column = (np.minimum(u[steps], u[steps - 1]) + 0.5) / FINE - 0.5
    inside = (np.floor(column) == column) & (column >= 0) & (column <= columns - 1)
    steps, column = steps[inside], column[inside]
    row = np.ceil(np.clip((np.minimum(v[steps], v[steps - 1]) + 0.5) / FINE - 0.5, 0, rows))
    place = column.astype(np.int64) * rows + row.astype(np.int64)
    # Lines that cross at one place cancel each other; what is entered and never left reaches to the end of the image.
    keys, count = np.unique((owner[steps] * (end + 1) + place)[place < end], return_counts=True)
    keys = keys[count % 2 == 1]
    odd = np.flatnonzero(np.bincount(keys // (end + 1), minlength=len(polygons)) % 2)
    keys = np.sort(np.concatenate([keys, odd * (end + 1) + end]))
    return np.split(keys % (end + 1), np.searchsorted(keys // (end + 1), np.arange(1, len(polygons))))


def _traced(start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """(x, y, number of the edge) of all points of the fine grid along edges (N, 2), both ends among them.

    A step at a time along the axis on which the edge is longer, from its lower end, so that an edge that is drawn both ways is the
    same.
    """
    span = np.abs(end - start)
    along = np.where(span[:, 0] >= span[:, 1], 0, 1)
    edges = np.arange(len(start))
    turned = start[edges, along] > end[edges, along]
    low, high = np.where(turned[:, None], end, start), np.where(turned[:, None], start, end)
    length = span[edges, along]
    slope = (high - low)[edges, 1 - along] / np.maximum(length, 1)
    edge = np.repeat(edges, length + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - (length + 1), length + 1)
    step = np.where(turned[edge], length[edge] - step, step)
    main = low[edges, along][edge] + step
    other = (low[edges, 1 - along][edge] + slope[edge] * step + 0.5).astype(np.int64)
    level = along[edge] == 0
    return np.where(level, main, other), np.where(level, other, main), edge
