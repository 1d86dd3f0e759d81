"""Components of class ids and the class of objects, by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask.errors import LabelsError, SizeError
from biomask.instances import class_of_objects, components

SHAPES = st.one_of(hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9),
                   hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))


def flooded(classes: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Pixel by pixel: from each that has no number yet, all that can be reached through sides."""
    ids, of = np.zeros(classes.shape, int), [0]
    for start in np.ndindex(classes.shape):
        if classes[start] == 0 or ids[start]:
            continue
        of.append(int(classes[start]))
        todo = [start]
        while todo:
            here = todo.pop()
            if any(h < 0 or h >= n for h, n in zip(here, classes.shape)) or ids[here] or classes[here] != classes[start]:
                continue
            ids[here] = len(of) - 1
            for axis in range(classes.ndim):
                todo += [(*here[:axis], here[axis] + s, *here[axis + 1:]) for s in (-1, 1)]
    return ids, of


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([np.uint8, np.int64, np.uint64, bool]).flatmap(
    lambda t: hnp.arrays(t, SHAPES, elements=st.sampled_from([0, 1] if t is bool else [0, 0, 1, 1, 2, 200]))))
def test_components_by_flooding(classes: np.ndarray) -> None:
    ids, of = components(classes)
    expected, expected_of = flooded(classes)
    assert ids.dtype == np.int32
    assert of.dtype == np.int64
    np.testing.assert_array_equal(ids, expected)
    assert of.tolist() == expected_of


def test_components_of_other_arrays_are_refused() -> None:
    for bad in (np.zeros((3, 3)), np.zeros(3, int), np.array([[-1, 2]])):
        with pytest.raises(LabelsError):
            components(bad)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(2, 5))
def test_class_by_sums(data: st.DataObject, classes: int) -> None:
    shape = data.draw(SHAPES)
    ids = data.draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 6)))
    p = data.draw(hnp.arrays(np.float32, (classes + 2, *shape), elements=st.integers(0, 8).map(lambda n: n / 8)))
    found = class_of_objects(ids, p, classes)
    assert found.shape == (int(ids.max(initial=0)) + 1,)
    assert found[0] == 0
    for i in range(1, len(found)):
        inside = ids == i
        sums = [p[k][inside].sum(dtype=np.float64) for k in range(1, classes)]
        assert found[i] == (1 + int(np.argmax(sums)) if inside.any() else 0)


def test_class_needs_probabilities_of_the_classes() -> None:
    with pytest.raises(SizeError, match="3 classes"):
        class_of_objects(np.ones((2, 2), int), np.zeros((2, 2, 2)), 3)
    with pytest.raises(SizeError):
        class_of_objects(np.ones((2, 2), int), np.zeros((4, 2, 3)), 2)
