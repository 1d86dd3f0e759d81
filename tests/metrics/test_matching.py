"""Matching of objects against a dense table of IoU and scipy's assignment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from biomask.errors import LabelsError, SizeError, UsageError
from biomask.metrics import count_overlaps, match_instances

THRESHOLDS = (0.05, 0.2, 1 / 3, 0.5, 0.6, 0.75, 1.0)


@st.composite
def cases(draw, ids=6):
    """(truth, predicted, ignore): the prediction is often the truth with some blocks changed."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    array = hnp.arrays(np.int32, shape, elements=st.integers(0, ids))
    truth, other = draw(array), draw(array)
    changed = draw(hnp.arrays(bool, shape))
    return truth, np.where(changed, other, truth), draw(hnp.arrays(bool, shape))


def objects(array, ignore):
    """{id: set of known pixels} of the objects that count."""
    found = {}
    for number in np.unique(array[array != 0]).tolist():
        inside = array == number
        known = inside & ~ignore
        if 2 * known.sum() >= inside.sum():
            found[number] = set(zip(*np.nonzero(known), strict=True))
    return found


def dense(truth, predicted, ignore):
    """(ids, ids, shared (T, P), IoU (T, P)) by sets."""
    true, found = objects(truth, ignore), objects(predicted, ignore)
    shared = np.array([[len(a & b) for b in found.values()] for a in true.values()]).reshape(len(true), len(found))
    union = np.array([[len(a | b) for b in found.values()] for a in true.values()]).reshape(len(true), len(found))
    return true, found, shared, np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


@given(cases(), st.sampled_from(THRESHOLDS))
def test_equals_the_hungarian_method_on_all_pairs(case, threshold):
    truth, predicted, ignore = case
    for unknown in (None, ignore):
        true, found, _, iou = dense(truth, predicted, np.zeros_like(ignore) if unknown is None else unknown)
        gain = np.where(iou >= threshold, 1 + iou / 100, 0)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        best = [(r, c) for r, c in zip(rows, columns, strict=True) if iou[r, c] >= threshold]
        got = match_instances(truth, predicted, threshold, unknown)
        assert (got.tp, got.fp, got.fn) == (len(best), len(found) - len(best), len(true) - len(best))
        assert got.ious.sum() == pytest.approx(sum(iou[r, c] for r, c in best))
        assert len(set(got.pairs[:, 0].tolist())) == len(set(got.pairs[:, 1].tolist())) == got.tp
        for (a, b), value in zip(got.pairs.tolist(), got.ious.tolist(), strict=True):
            assert value == pytest.approx(iou[list(true).index(a), list(found).index(b)])
            assert value >= threshold


@given(cases())
def test_merges_and_splits_by_their_definition(case):
    truth, predicted, ignore = case
    true, found, shared, _ = dense(truth, predicted, ignore)
    merges = sum(sum(2 * shared[i, j] > len(a) for i, a in enumerate(true.values())) > 1 for j in range(len(found)))
    splits = sum(sum(2 * shared[i, j] > len(b) for j, b in enumerate(found.values())) > 1 for i in range(len(true)))
    got = match_instances(truth, predicted, 0.5, ignore)
    assert (got.merges, got.splits) == (merges, splits)


@given(cases())
def test_truth_and_prediction_exchanged_exchange_their_errors(case):
    truth, predicted, ignore = case
    for threshold in (0.3, 0.5):
        a, b = (match_instances(x, y, threshold, ignore) for x, y in ((truth, predicted), (predicted, truth)))
        assert (a.tp, a.fp, a.fn, a.merges, a.splits) == (b.tp, b.fn, b.fp, b.splits, b.merges)


@given(cases(), st.integers(1, 2**40))
def test_ids_are_only_names(case, step):
    truth, predicted, ignore = case
    a = match_instances(truth, predicted, 0.3, ignore)
    b = match_instances(truth.astype(np.int64) * step, predicted, 0.3, ignore)
    assert (a.tp, a.fp, a.fn, a.merges, a.splits) == (b.tp, b.fp, b.fn, b.merges, b.splits)
    assert (a.pairs[:, 0] * step).tolist() == b.pairs[:, 0].tolist()


@given(cases())
def test_what_is_predicted_where_nothing_is_known_changes_no_area(case):
    truth, predicted, ignore = case
    got = count_overlaps(truth, predicted, ignore)
    true, found, shared, _ = dense(truth, predicted, ignore)
    assert got.true_ids.tolist() == list(true)
    assert got.true_areas.tolist() == [len(a) for a in true.values()]
    assert got.predicted_areas.tolist() == [len(a) for a in found.values()]
    assert got.pairs.tolist() == np.argwhere(shared).tolist()
    assert got.shared.tolist() == shared[shared > 0].tolist()


@given(cases())
def test_an_object_matches_itself(case):
    truth, _, ignore = case
    got = match_instances(truth, truth, 1.0, ignore)
    assert (got.tp, got.fp, got.fn, got.merges, got.splits) == (len(objects(truth, ignore)), 0, 0, 0, 0)


@pytest.mark.parametrize(("truth", "predicted"), [([1, 1, 1, 1], [5, 5, 6, 6]), ([5, 5, 6, 6], [1, 1, 1, 1])])
def test_two_halves_have_an_iou_of_one_half_and_one_of_them_counts(truth, predicted):
    got = match_instances(np.array(truth), np.array(predicted))
    assert (got.tp, got.fp + got.fn) == (1, 1)
    assert got.pairs.tolist() == [[truth[0], predicted[0]]]


def test_more_pairs_come_before_a_better_one():
    """By IoU alone, 2 would take 8 (6/10) and leave 1 and 9 alone."""
    truth, predicted = np.array([1] * 5 + [2] * 8), np.array([8] * 4 + [0] + [8] * 6 + [9] * 2)
    got = match_instances(truth, predicted, 0.2)
    assert got.pairs.tolist() == [[1, 8], [2, 9]]


def test_an_object_mostly_in_unknown_pixels_is_none():
    truth, ignore = np.array([1, 1, 1, 2, 2]), np.array([True, True, False, False, True])
    got = match_instances(truth, np.zeros(5, int), 0.5, ignore)
    assert got.fn == 1


def test_a_merge_and_a_split():
    truth = np.array([1, 1, 1, 0, 2, 2, 2, 3, 3, 3, 3, 3, 3])
    predicted = np.array([7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 9, 9, 9])
    got = match_instances(truth, predicted)
    assert (got.merges, got.splits) == (1, 1)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 3), (2, 3, 4)])
def test_nothing_at_all(shape):
    nothing = np.zeros(shape, np.uint16)
    got = match_instances(nothing, nothing)
    assert (got.tp, got.fp, got.fn) == (0, 0, 0)
    assert got.pairs.shape == (0, 2)


def test_large_images_keep_their_sums():
    big = np.zeros((3000, 3000), np.uint8)
    big[:, 1:] = 255
    got = count_overlaps(big, big)
    assert got.shared.tolist() == [3000 * 2999]


def test_what_is_no_ids_is_refused():
    a = np.zeros((2, 3), int)
    with pytest.raises(SizeError):
        match_instances(a, a.T)
    with pytest.raises(SizeError):
        match_instances(a, a, 0.5, np.zeros((3, 2), bool))
    with pytest.raises(LabelsError):
        match_instances(a, a.astype(float))
    with pytest.raises(LabelsError):
        match_instances(a - 1, a)
    for threshold in (0, -1, 1.01):
        with pytest.raises(UsageError):
            match_instances(a, a, threshold)
