"""Pixels to outlines and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask.errors import LabelsError
from biomask.instances import objects_of, outlines, parts_of, rasterise
from biomask.instances.polygons import ring_area
from biomask.labels import Legend

LABELS = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
                    elements=st.sampled_from([0, 0, 1, 2, 70_000]))


@given(LABELS)
@settings(max_examples=120, deadline=None)
def test_back_to_the_same_pixels(labels: np.ndarray) -> None:
    shapes = outlines(labels)
    ids = np.unique(labels[labels > 0])
    assert len(shapes) == len(ids)
    drawn = rasterise(shapes, labels.shape, values=ids.tolist())
    np.testing.assert_array_equal(drawn.array, labels)
    assert (drawn.overlaps, drawn.empty, drawn.outside) == (0, (), ())


@given(LABELS)
@settings(max_examples=80, deadline=None)
def test_outlines_are_valid_polygons_on_corners_of_pixels(labels: np.ndarray) -> None:
    import shapely
    from scipy import ndimage

    for number, one in zip(np.unique(labels[labels > 0]), outlines(labels), strict=True):
        mask = labels == number
        for ring in one.rings:
            np.testing.assert_array_equal(ring, np.round(ring))
            along = np.diff(np.concatenate([ring[-1:], ring, ring[:1]]), axis=0)
            assert ((along == 0).sum(axis=1) == 1).all(), "along the axes, and no point twice in a row"
            assert ((along[1:] == 0) != (along[:-1] == 0)).all(), "every point is a corner"
        parts = parts_of(one)
        whole = shapely.MultiPolygon([(p[0], p[1:]) for p in parts])
        assert whole.is_valid, shapely.is_valid_reason(whole)
        assert whole.area == mask.sum()
        assert len(parts) == ndimage.label(mask)[1], "a part for each 4-connected component"
        assert sum(ring_area(r) for r in one.rings) == mask.sum(), "outer rings turn clockwise, holes the other way"
        assert all(ring_area(r) > 0 for r, *_ in parts)
        assert all(ring_area(r) < 0 for _, *holes in parts for r in holes)


def test_corners_by_hand() -> None:
    """By hand: a ring of pixels closed at a corner only, with a pixel inside that touches it."""
    mask = np.array([[1, 1, 1, 1],
                     [1, 0, 0, 1],
                     [1, 0, 1, 0],
                     [1, 1, 0, 0]])
    (one,) = outlines(mask)
    rings = sorted(ring.tolist() for ring in one.rings)
    outer = [[0, 0], [4, 0], [4, 2], [3, 2], [3, 1], [1, 1], [1, 3], [2, 3], [2, 4], [0, 4]]
    assert rings == [outer, [[2, 2], [3, 2], [3, 3], [2, 3]]]


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.integers(0, 2)),
       st.sampled_from([4, 8]))
@settings(max_examples=80, deadline=None)
def test_objects_are_connected_components(mask: np.ndarray, connectivity: int) -> None:
    from scipy import ndimage

    legend = Legend.of_values([0, 5, 9], {5: "nucleus", 9: "cell"})
    shapes = objects_of(mask, legend, connectivity=connectivity)  # type: ignore[arg-type]
    for position, name in ((1, "nucleus"), (2, "cell")):
        mine = [s for s in shapes if s.name == name]
        assert all(s.colour == legend.entries[position].colour for s in mine)
        assert len(mine) == ndimage.label(mask == position, ndimage.generate_binary_structure(2, connectivity // 4))[1]
        np.testing.assert_array_equal(rasterise(mine, mask.shape).array > 0, mask == position)
    assert rasterise(shapes, mask.shape).overlaps == 0


@given(hnp.arrays(np.int32, (3, 4, 5), elements=st.integers(0, 2)))
@settings(max_examples=30, deadline=None)
def test_volumes_plane_by_plane(labels: np.ndarray) -> None:
    shapes = outlines(labels, names={1: "a", 2: "b"})
    drawn = rasterise(shapes, labels.shape, values=[s.group or 0 for s in shapes])
    np.testing.assert_array_equal(drawn.array, labels)
    grouped = rasterise(shapes, labels.shape).array
    assert len(np.unique(grouped)) == len(np.unique(labels)), "an object on several planes stays one"


def test_names_and_colours_of_ids() -> None:
    one, two = outlines(np.array([[3, 8]], np.uint16), names={3: "a"}, colours={8: (1, 2, 3)})
    assert (one.name, one.colour, two.name, two.colour) == ("a", None, "", (1, 2, 3))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.uint64])
def test_any_whole_dtype(dtype: type) -> None:
    (one,) = outlines(np.ones((2, 3), dtype))
    assert one.bounds == (0, 0, 3, 2)


@pytest.mark.parametrize("empty", [np.zeros((4, 4), int), np.zeros((0, 4), int), np.zeros((2, 0), np.uint8)])
def test_no_objects(empty: np.ndarray) -> None:
    assert outlines(empty) == []


@pytest.mark.parametrize(("bad", "reason"), [
    (np.zeros((3, 3)), "not a label image"), (np.zeros(3, int), "not a label image"), (np.full((2, 2), -4), "-4 is negative"),
])
def test_what_is_no_label_image(bad: np.ndarray, reason: str) -> None:
    with pytest.raises(LabelsError, match=reason):
        outlines(bad)


def test_class_that_the_legend_lacks() -> None:
    with pytest.raises(LabelsError, match="class id 2"):
        objects_of(np.array([[0, 2]]), Legend.of_values([0, 1]))
