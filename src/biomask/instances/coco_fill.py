"""Polygons filled as COCO fills them, on a grid five times as fine: for scores that equal those of other programs to the last digit.

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

#: Points of a polygon on the fine grid; an outline that needs more is damaged.
MOST_POINTS = 2**26


def polygon_bounds(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Ints:
    """The pixels of polygons that add up, as bounds of stretches down the columns: those of one mask of `Runs`.

    polygons: each x, y, x, y, … in pixels. size: (Y, X) of the image. Raises LabelsError for other than pairs of numbers.
    """
    each = [_bounds(polygon, size) for polygon in polygons]
    if len(each) == 1:
        return each[0]
    starts = np.concatenate([np.zeros(0, np.int64), *(b[::2] for b in each)])
    stops = np.concatenate([np.zeros(0, np.int64), *(b[1::2] for b in each)])
    places, numbers = np.unique(np.concatenate([starts, stops]), return_inverse=True)
    change = np.zeros(len(places), np.int64)
    np.add.at(change, numbers, np.repeat([1, -1], [len(starts), len(stops)]))
    inside = np.cumsum(change) > 0
    return places[np.diff(inside, prepend=False)]


def _bounds(polygon: Sequence[float], size: tuple[int, int]) -> Ints:
    """Where a line down each column, through the middles of the pixels, enters and leaves one polygon."""
    rows, columns = size
    u, v = _traced(_points(polygon))
    steps = np.flatnonzero(np.diff(u)) + 1
    column = (np.minimum(u[steps], u[steps - 1]) + 0.5) / FINE - 0.5
    inside = (np.floor(column) == column) & (column >= 0) & (column <= columns - 1)
    steps, column = steps[inside], column[inside]
    row = np.ceil(np.clip((np.minimum(v[steps], v[steps - 1]) + 0.5) / FINE - 0.5, 0, rows))
    places, count = np.unique(column.astype(np.int64) * rows + row.astype(np.int64), return_counts=True)
    bounds = places[count % 2 == 1]
    if len(bounds) % 2:
        bounds = np.append(bounds, rows * columns)
    return bounds[:-2] if len(bounds) and bounds[-2] == bounds[-1] else bounds


def _points(polygon: Sequence[float]) -> Ints:
    """(N + 1, 2): x, y on the fine grid, the first point again at the end."""
    try:
        flat = np.asarray(polygon, np.float64)
    except (ValueError, TypeError, OverflowError):
        flat = np.zeros((0, 0))
    if flat.ndim != 1 or len(flat) % 2 or not (np.abs(flat) <= FARTHEST).all():  # NaN fails too
        raise LabelsError("a polygon of it is no list of x, y, x, y, …")
    points = (FINE * flat.reshape(-1, 2) + 0.5).astype(np.int64)
    return np.concatenate([points, points[:1]])


def _traced(points: Ints) -> tuple[Ints, Ints]:
    """x and y of all points of the fine grid along an outline, both ends of each edge among them: a step at a time along the axis on
    which the edge is longer, from its lower end, so that an edge that is drawn both ways is the same."""
    start, end = points[:-1], points[1:]
    along = np.where(np.abs(end - start)[:, 0] >= np.abs(end - start)[:, 1], 0, 1)
    edges = np.arange(len(start))
    turned = start[edges, along] > end[edges, along]
    low, high = np.where(turned[:, None], end, start), np.where(turned[:, None], start, end)
    length = (high - low)[edges, along]
    if int((length + 1).sum()) > MOST_POINTS:
        raise LabelsError("it has coordinates far beyond any image")
    slope = (high - low)[edges, 1 - along] / np.maximum(length, 1)
    edge = np.repeat(edges, length + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - (length + 1), length + 1)
    step = np.where(turned[edge], length[edge] - step, step)
    main = low[edge, along[edge]] + step
    other = (low[edge, 1 - along[edge]] + slope[edge] * step + 0.5).astype(np.int64)
    return np.where(along[edge] == 0, main, other), np.where(along[edge] == 0, other, main)
