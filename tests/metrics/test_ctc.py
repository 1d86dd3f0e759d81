"""SEG against its definition, object by object."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask.metrics import seg, seg_of_objects


@st.composite
def frames(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=5))
    array = hnp.arrays(np.uint16, shape, elements=st.integers(0, 4))
    truth, other = draw(array), draw(array)
    return truth, np.where(draw(hnp.arrays(bool, shape)), other, truth)


def jaccards(truth, predicted):
    found = []
    for r in np.unique(truth[truth > 0]):
        reference, best = truth == r, 0.0
        for s in np.unique(predicted[predicted > 0]):
            segment = predicted == s
            if (reference & segment).sum() > 0.5 * reference.sum():
                best = (reference & segment).sum() / (reference | segment).sum()
        found.append(best)
    return found


@given(st.lists(frames(), max_size=4))
def test_equals_the_definition(movie):
    scores = [j for frame in movie for j in jaccards(*frame)]
    assert seg(movie) == (pytest.approx(np.mean(scores)) if scores else None)
    for frame in movie:
        assert seg_of_objects(*frame).tolist() == pytest.approx(jaccards(*frame))


def test_half_an_object_is_not_enough():
    assert seg([(np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2]))]) == 0
    assert seg([(np.array([1, 1, 1, 1]), np.array([1, 1, 1, 2]))]) == 0.75


def test_objects_are_averaged_over_all_frames_and_extra_ones_cost_nothing():
    one, many = np.array([1, 0, 0, 0]), np.array([1, 2, 3, 4])
    assert seg([(one, many), (many, np.zeros(4, int))]) == pytest.approx(1 / 5)


def test_a_merged_segment_serves_two_objects():
    """Unlike in one-to-one matching."""
    assert seg_of_objects(np.array([1, 1, 2, 2]), np.array([9, 9, 9, 9])).tolist() == [0.5, 0.5]
