"""Outlines to pixels: the centre rule, shared edges, overlaps, and other programs as oracles."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.errors import LabelsError
from biomask.instances import crop_mask, parts_of, rasterise
from biomask.instances.polygons import ring_area
from biomask.shapes import Shape, as_ring, as_rings, object_ids, on_plane, without_numbers


def shape(*rings: object, **said: object) -> Shape:
    return Shape(tuple(np.array(r, np.float64) for r in rings), **said)  # type: ignore[arg-type]


def by_counting(rings: list[list[tuple[Fraction, Fraction]]], size: tuple[int, int]) -> np.ndarray:
    """The rule of `Shape` in words: how many edges does a centre have on its left? In fractions, without rounding."""
    out = np.zeros(size, bool)
    half = Fraction(1, 2)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y = column + half, row + half
            left = 0
            for ring in rings:
                for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
                    if y0 > y1:
                        x0, y0, x1, y1 = x1, y1, x0, y0
                    if y0 < y <= y1:
                        left += x0 + (y - y0) * (x1 - x0) / (y1 - y0) < x
            out[row, column] = left % 2
    return out


#: Multiples of 1/4 in and around an image of 9 x 9: centres of pixels, their corners, and others.
COORDINATE = st.integers(-8, 44).map(lambda n: Fraction(n, 4))
RINGS = st.lists(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=7), min_size=1, max_size=2)


@given(RINGS)
@settings(max_examples=60, deadline=None)
def test_pixels_by_the_rule(rings: list[list[tuple[Fraction, Fraction]]]) -> None:
    drawn = rasterise([shape(*[[(float(x), float(y)) for x, y in r] for r in rings])], (9, 9)).array
    np.testing.assert_array_equal(drawn > 0, by_counting(rings, (9, 9)))


@given(st.integers(0, 2**31), st.integers(3, 12))
@settings(max_examples=40, deadline=None)
def test_like_scikit_image_and_shapely(seed: int, count: int) -> None:
    import shapely
    from skimage.draw import polygon

    rng = np.random.default_rng(seed)
    ring = rng.uniform(-5, 45, (count, 2))  # no centre is ever exactly on an edge
    drawn = rasterise([shape(ring)], (40, 40)).array > 0
    expected = np.zeros((40, 40), bool)
    expected[polygon(ring[:, 1] - 0.5, ring[:, 0] - 0.5, (40, 40))] = True
    np.testing.assert_array_equal(drawn, expected)
    y, x = np.mgrid[:40, :40] + 0.5
    simple = shapely.Polygon(ring)
    if simple.is_valid:
        np.testing.assert_array_equal(drawn, shapely.contains_xy(simple, x, y))


@given(st.integers(0, 2**31), st.integers(0, 15), st.integers(3, 9))
@settings(max_examples=40, deadline=None)
def test_neighbours_share_an_edge_without_gap_or_overlap(seed: int, x: int, spokes: int) -> None:
    """A square cut into slices around a point: corners and points at pixel centres too."""
    rng = np.random.default_rng(seed)
    middle = np.array([x + 0.5, rng.integers(0, 32) / 2])
    around = np.concatenate([np.stack([np.arange(17), np.zeros(17)], 1), np.stack([np.full(16, 16), np.arange(1, 17)], 1),
                             np.stack([np.arange(15, -1, -1), np.full(16, 16)], 1),
                             np.stack([np.zeros(15), np.arange(15, 0, -1)], 1)])
    cuts = np.sort(rng.choice(len(around), spokes, replace=False))
    slices = [shape(np.concatenate([np.roll(around, -cuts[i], axis=0)[: (cuts[(i + 1) % spokes] - cuts[i]) % len(around) + 1],
                                    [middle]]))
              for i in range(spokes)]
    drawn = rasterise(slices, (16, 16))
    assert (drawn.array > 0).all()
    assert drawn.overlaps == 0


def test_ties_go_to_the_left_and_up_one() -> None:
    """A centre on an edge belongs to the shape on its left, or above it."""
    left, right = shape([(0, 0), (2.5, 0), (2.5, 5), (0, 5)]), shape([(2.5, 0), (5, 0), (5, 5), (2.5, 5)])
    assert rasterise([left, right], (5, 5)).array[0].tolist() == [1, 1, 1, 2, 2]
    upper, lower = shape([(0, 0), (5, 0), (5, 2.5), (0, 2.5)]), shape([(0, 2.5), (5, 2.5), (5, 5), (0, 5)])
    assert rasterise([upper, lower], (5, 5)).array[:, 0].tolist() == [1, 1, 1, 2, 2]


def test_exact_far_from_the_origin() -> None:
    """A long, flat edge through centres near 65 000: the quotient alone would round some of them to the wrong side."""
    start, stop = (64_000.25, 0.5), (65_000.75, 7.5)
    upper = [start, stop, (65_000.75, 0.5)]
    ring = [(Fraction(x).limit_denominator(256) - 64_000, Fraction(y)) for x, y in upper]
    drawn, (top, left) = crop_mask([shape(upper)])
    assert (top, left) == (0, 64_000)
    rows = [by_counting([[(x - c, y) for x, y in ring]], (8, 3)) for c in (0, 499, 998)]
    for c, expected in zip((0, 499, 998), rows, strict=True):
        np.testing.assert_array_equal(drawn[:, c:c + 3], expected[: len(drawn)])


def test_later_ones_win_and_overlaps_are_counted() -> None:
    squares = [shape([(x, x), (x + 4, x), (x + 4, x + 4), (x, x + 4)]) for x in (0, 2, 2, 20)]
    drawn = rasterise(squares, (8, 8))
    assert drawn.array[3, 3] == 3
    assert drawn.overlaps == 16, "the third square lies on the second, 4 pixels of both on the first"
    assert drawn.hidden == (1,)
    assert drawn.empty == (3,)
    assert drawn.outside == (3,)
    same = rasterise(squares[:3], (8, 8), values=[7, 7, 7])
    assert same.overlaps == 0
    assert same.hidden == ()
    assert np.unique(same.array).tolist() == [0, 7]
    assert rasterise(squares[:2], (8, 8), values=[5, 0]).array.sum() == 5 * 12


def test_parts_of_one_object_share_an_id() -> None:
    parts = [replace(shape([(x, 0), (x + 2, 0), (x + 2, 2), (x, 2)]), name=name, group=group)
             for x, name, group in ((0, "a", 1), (2, "b", 1), (4, "a", 1), (6, "a", None), (8, "a", None), (1, "a", 1))]
    assert object_ids(parts) == [1, 2, 1, 3, 4, 1]
    drawn = rasterise(parts, (2, 10))
    assert drawn.array[0].tolist() == [1, 1, 1, 2, 1, 1, 3, 3, 4, 4]
    assert drawn.overlaps == 2, "only where the last part lies on another class"


def test_planes_of_a_volume() -> None:
    square = shape([(0, 0), (2, 0), (2, 2), (0, 2)])
    shapes = [replace(square, z=0, group=4), replace(square, z=2, group=4), replace(shape([(3, 0), (4, 0), (4, 1), (3, 1)])),
              replace(square, z=5)]
    drawn = rasterise(shapes, (3, 3, 4))
    assert drawn.array[:, 0, 0].tolist() == [1, 0, 1]
    assert drawn.array[:, 0, 3].tolist() == [2, 2, 2]
    assert (drawn.empty, drawn.outside) == ((3,), (3,))
    assert on_plane(shapes, z=2) == [shapes[1], shapes[2]]


def test_thin_shapes_cover_no_pixel() -> None:
    drawn = rasterise([shape([(0.6, 0), (0.9, 0), (0.9, 5), (0.6, 5)]), shape([(1, 1), (2, 1), (2, 2), (1, 2)])], (5, 5))
    assert drawn.empty == (0,)
    assert drawn.array.sum() == 2


def test_nothing_to_draw() -> None:
    assert rasterise([], (3, 4)).array.shape == (3, 4)
    assert rasterise([Shape(())], (3, 4)).empty == (0,)
    assert rasterise([shape([(0, 0), (1, 0), (1, 1)])], (0, 4)).empty == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_absurd_coordinates_are_refused(bad: float) -> None:
    with pytest.raises(LabelsError, match="not finite"):
        rasterise([shape([(0, 0), (bad, 1), (1, 1)], title="cell 3")], (5, 5))


def test_values_must_fit() -> None:
    with pytest.raises(LabelsError, match="2 values for 1 shapes"):
        rasterise([Shape(())], (3, 3), values=[1, 2])
    with pytest.raises(LabelsError, match="fit no label image"):
        rasterise([Shape(())], (3, 3), values=[2**31])


def test_many_shapes_are_drawn_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pixels, overlaps and order whatever is worked on at a time."""
    rng = np.random.default_rng(0)
    shapes = [shape(rng.uniform(0, 60, (5, 2))) for _ in range(40)]
    whole = rasterise(shapes, (60, 60))
    monkeypatch.setattr("biomask.instances.polygons.CHUNK", 50)
    parts = rasterise(shapes, (60, 60))
    np.testing.assert_array_equal(parts.array, whole.array)
    assert (parts.overlaps, parts.empty, parts.hidden) == (whole.overlaps, whole.empty, whole.hidden)


@given(RINGS, st.booleans())
@settings(max_examples=30, deadline=None)
def test_crop_is_a_window_of_the_image(rings: list[list[tuple[Fraction, Fraction]]], cut: bool) -> None:
    one = shape(*[[(float(x) + 5, float(y) + 7) for x, y in r] for r in rings])
    pixels, (top, left) = crop_mask([one], (18, 14) if cut else None)
    expected = rasterise([one], (18, 20)).array > 0
    if cut:
        expected[:, 14:] = False
    out = np.zeros((18, 20), bool)
    out[top:top + pixels.shape[0], left:left + pixels.shape[1]] = pixels
    np.testing.assert_array_equal(out, expected)


def test_parts_hold_their_own_holes() -> None:
    def box(x: float, y: float, n: float) -> list[tuple[float, float]]:
        return [(x, y), (x + n, y), (x + n, y + n), (x, y + n)]

    island, outer, hole, other, speck = box(4, 4, 2), box(0, 0, 10), box(2, 2, 6), box(20, 0, 5), box(21, 1, 1)
    parts = parts_of(shape(island, outer, hole, other, speck))
    assert sorted(tuple(ring[0].tolist() for ring in part) for part in parts) == [([0, 0], [2, 2]), ([4, 4],), ([20, 0], [21, 1])]


def test_area_of_an_outline() -> None:
    square = np.array([(1e6, 1e6), (1e6 + 3, 1e6), (1e6 + 3, 1e6 + 3), (1e6, 1e6 + 3)])
    assert ring_area(square) == 9
    assert ring_area(square[::-1]) == -9


@pytest.mark.parametrize(("points", "reason"), [
    ([], "0 different points"), ([(0, 0), (1, 1)], "2 different"), ([(0, 0), (1, 1), (1, 1), (0, 0)], "2 different"),
    (None, "pairs of numbers"), ([1, 2, 3], "pairs of numbers"), ([(0, 0), (1, 1), (2,)], "pairs of numbers"),
    ([("a", 0), (1, 1), (2, 2)], "pairs of numbers"), ([(0, 0), (1, float("nan")), (2, 1)], "not finite"),
    ([(0, 0), (1, float("inf")), (2, 1)], "not finite"), ([(0, 0), (10**400, 1), (2, 1)], "pairs of numbers"),
])
def test_what_is_no_outline(points: object, reason: str) -> None:
    with pytest.raises(LabelsError, match=reason):
        as_ring(points)


def test_closing_points_are_dropped() -> None:
    assert as_ring([(0, 0), (0, 0), (1, 0), (1, 1), (0, 0)]).tolist() == [[0, 0], [1, 0], [1, 1]]
    assert as_ring([(0, 0, 9), (1, 0, 9), (1, 1, 9)]).tolist() == [[0, 0], [1, 0], [1, 1]], "a third coordinate is height"
    assert len(as_rings([[(0, 0), (1, 0), (1, 1)], [(3, 3), (3, 3)]])) == 1
    with pytest.raises(LabelsError, match="2 different"):
        as_rings([[(0, 0), (1, 0)], []])


def test_numbers_of_objects_are_no_classes() -> None:
    named = [shape(name=n) for n in ("cell 1", "cell_02", "cell", "7", "Ki67", "Th 17")]
    assert [s.name for s in without_numbers(named)] == ["cell", "cell", "cell", "7", "Ki67", "Th"]
    assert without_numbers(named)[1].title == "cell_02"
    classes = ["class 1", "Class_2", "grade-3", "type 1"]
    assert [s.name for s in without_numbers([shape(name=n) for n in classes])] == classes
    others = [shape(name=n) for n in ("classy cell 1", "typed_2", "1")]
    assert [s.name for s in without_numbers(others)] == ["classy cell", "typed", "1"]
