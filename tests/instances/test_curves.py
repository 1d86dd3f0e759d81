"""Curves as polygons, against their formulas; ImageJ's own masks are in tests/io/test_rois.py."""

from __future__ import annotations

import numpy as np
import pytest

from biomask.instances import rasterise
from biomask.instances.curves import bezier, ellipse, oval, spline
from biomask.instances.polygons import ring_area
from biomask.shapes import Shape


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 31, 100, 301])
@pytest.mark.parametrize("height", [1, 2, 5, 16, 99, 250])
def test_oval_by_the_sum_of_squares(width: int, height: int) -> None:
    a, b = width / 2, height / 2
    y, x = np.mgrid[:height, :width]
    expected = ((x - (a - 0.5)) ** 2) / (a * a) + ((y - (b - 0.5)) ** 2) / (b * b) <= 1
    ring = oval(4, 3, width, height)
    assert ring is not None
    assert ((ring != np.roll(ring, 1, axis=0)).sum(axis=1) == 1).all()
    np.testing.assert_array_equal(rasterise([Shape((ring,))], (height + 3, width + 4)).array[3:, 4:] > 0, expected)


@pytest.mark.parametrize("radius", [0.001, 0.5, 3, 40, 2000])
def test_ellipse_keeps_to_its_curve(radius: float) -> None:
    ring = ellipse((5, 6), (radius, 0), (0, 2 * radius))
    middles = (ring + np.roll(ring, 1, axis=0)) / 2
    for points in (ring, middles):
        from_centre = (points - (5, 6)) / (radius, 2 * radius)
        assert (abs(np.hypot(*from_centre.T) - 1) * 2 * radius <= 0.0101).all()
    assert len(ring) % 4 == 0


def test_turned_ellipse_has_its_area() -> None:
    first, second = np.array([30, 12.0]), np.array([-4, 10.0])
    assert abs(ring_area(ellipse((0, 0), tuple(first), tuple(second)))) == pytest.approx(np.pi * 12 * 10 * (2.5 + 0.4), rel=1e-3)


@pytest.mark.parametrize("count", [3, 4])
def test_bezier_keeps_to_its_curve(count: int) -> None:
    rng = np.random.default_rng(count)
    controls = rng.uniform(0, 50, (count, 2))
    points = bezier(controls)
    t = np.linspace(0, 1, 20_001)[:, None]
    weights = {3: [(1 - t) ** 2, 2 * t * (1 - t), t**2], 4: [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]}[count]
    curve = sum(w * c for w, c in zip(weights, controls, strict=True))
    walked = np.concatenate([controls[:1], points])
    middles = (walked[1:] + walked[:-1]) / 2
    for p in np.concatenate([walked, middles]):
        assert np.hypot(*(curve - p).T).min() < 0.02
    np.testing.assert_allclose(points[-1], controls[-1])
    assert bezier(np.zeros((3, 2))).shape == (1, 2)


def test_spline_goes_through_its_points() -> None:
    points = np.array([(10, 0), (20, 12), (8, 25), (-3, 11)], np.float64)
    curve = spline(points)
    for p in points:
        assert np.hypot(*(curve - p).T).min() < 0.5
    assert abs(ring_area(curve)) > abs(ring_area(points))
    assert len(spline(points * 1000)) > 10_000
