"""Curved outlines as polygons."""

from __future__ import annotations

from math import acos, ceil, hypot, pi

import numpy as np
import numpy.typing as npt

from biomask.shapes import Ring

#: Pixels by which a polygon may miss its curve.
TOLERANCE = 0.01
#: Points of a curve at most.
MOST = 4096

Point = tuple[float, float]


def ellipse(centre: Point, first: Point, second: Point) -> Ring:
    """The ellipse with the half axes `first` and `second`, as vectors from the centre; points on it, in fours."""
    radius = max(hypot(*first), hypot(*second), TOLERANCE)
    count = 4 * min(MOST // 4, max(4, ceil(pi / 4 / acos(1 - min(1.0, TOLERANCE / radius)))))
    angle = 2 * pi * np.arange(count) / count
    return np.asarray(np.array(centre) + np.outer(np.cos(angle), first) + np.outer(np.sin(angle), second))


def bezier(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points (N, 2) of a quadratic or cubic curve with 3 or 4 control points (K, 2), without the first one."""
    bend = np.abs(np.diff(points, n=2, axis=0)).sum(axis=1).max()
    count = min(MOST, max(1, ceil(float(np.sqrt(bend / TOLERANCE)))))
    t = np.arange(1, count + 1)[:, None] / count
    while len(points) > 1:  # de Casteljau, one dimension of (K, N, 2) at a time
        if points.ndim == 2:
            points = np.repeat(points[:, None], count, axis=1)
        points = points[:-1] * (1 - t) + points[1:] * t
    return np.asarray(points[0])


def oval(left: int, top: int, width: int, height: int) -> Ring | None:
    """Outline along pixel edges of the pixels whose centre is in the ellipse that fills a box; None when it holds none.

    The box is in whole pixels. ImageJ fills an oval by this rule: (dx/a)² + (dy/b)² ≤ 1.
    """
    a, b = width / 2, height / 2
    down = np.arange(height) - (b - 0.5)
    rest = down * down / (b * b)
    column = np.ceil(a - 0.5 - a * np.sqrt(np.clip(1 - rest, 0, None)))
    for _ in range(2):  # the root is rounded; the sum decides
        inside = (column - 1 - (a - 0.5)) ** 2 / (a * a) + rest <= 1
        column = np.where(inside, column - 1, column)
        outside = (column - (a - 0.5)) ** 2 / (a * a) + rest > 1
        column = np.where(outside, column + 1, column)
    first = column.astype(np.int64)
    rows = np.flatnonzero(first < width - first)
    if not len(rows):
        return None
    first = first[rows]
    y = np.stack([rows, rows + 1], axis=1).reshape(-1)
    x = np.repeat(first, 2)
    side = np.stack([x, y], axis=1)
    other = np.stack([width - x, y], axis=1)
    return _corners(np.add(np.concatenate([other, side[::-1]]), (left, top), dtype=np.float64))


def _corners(ring: Ring) -> Ring:
    """Without repeated points and points on straight, axis-parallel edges."""
    ring = ring[(ring != np.roll(ring, -1, axis=0)).any(axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return np.asarray(ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]])


def spline(points: Ring) -> Ring:
    """The closed curve that ImageJ fits through points, as the polygon that it fills.

    Cubic over the square root of the distance between points; a polygon point each two pixels, 100 at least.
    """
    from scipy.interpolate import CubicSpline

    closed = np.concatenate([points, points[:1]])
    steps = np.sqrt(np.hypot(*np.diff(closed, axis=0).T)).clip(0.001)
    place = np.concatenate([[0], np.cumsum(steps)])
    length = float(np.hypot(*np.diff(closed, axis=0).T).sum())
    count = max(100, int(min(length, 1e6) / 2))
    more = min(7, len(points))  # nearly periodic: a few points go on around at both ends
    knots = np.concatenate([place[-1 - more:-1] - place[-1], place, place[1:more + 1] + place[-1]])
    values = np.concatenate([closed[-1 - more:-1], closed, closed[1:more + 1]])
    return np.asarray(CubicSpline(knots, values, bc_type="natural")(np.linspace(0, place[-1], count)))
