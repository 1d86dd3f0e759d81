"""Scores of found objects against their formulas on a dense table of IoU."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from biomask.errors import UsageError
from biomask.metrics import THRESHOLDS, average_precision, instance_scores, pooled, precision_at


@st.composite
def cases(draw):
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    array = hnp.arrays(np.int32, shape, elements=st.integers(0, 4))
    truth, other = draw(array), draw(array)
    return truth, np.where(draw(hnp.arrays(bool, shape)), other, truth)


def ious(truth, predicted):
    a, b = ([array == n for n in np.unique(array) if n] for array in (truth, predicted))
    return np.array([[(x & y).sum() / (x | y).sum() for y in b] for x in a]).reshape(len(a), len(b))


def found(iou, threshold):
    hit = (iou >= threshold).astype(float)
    rows, columns = linear_sum_assignment(hit, maximize=True)
    return int(hit[rows, columns].sum())


@given(cases())
def test_equals_the_formulas(case):
    iou, got = ious(*case), instance_scores(*case)
    true, predicted = iou.shape
    precisions = []
    for t in THRESHOLDS:
        tp = found(iou, t)
        assert (got.tp(t), got.fp(t), got.fn(t)) == (tp, predicted - tp, true - tp)
        if true or predicted:
            precisions.append(tp / (true + predicted - tp))
            assert got.precision_at(t) == pytest.approx(precisions[-1])
            assert got.f1(t) == pytest.approx(2 * tp / (true + predicted))
    if not precisions:
        assert (got.average_precision, got.f1(0.5), got.panoptic_quality, got.matched_iou) == (None,) * 4
        return
    assert got.average_precision == pytest.approx(np.mean(precisions))
    above = iou[iou > 0.5]
    assert got.panoptic_quality == pytest.approx(above.sum() / (len(above) + (true + predicted - 2 * len(above)) / 2))
    assert got.matched_iou == (pytest.approx(above.mean()) if len(above) else None)
    assert got.count_error == predicted - true


def test_equals_the_masks_of_pycocotools():
    """IoU of every pair from run-length encoded masks, as COCO has them; above 0.5 a pair is the only one of its objects."""
    from pycocotools import mask

    rng = np.random.default_rng(0)
    truth = np.kron(np.arange(1, 37).reshape(6, 6), np.ones((9, 9), int)) * (rng.random((54, 54)) < 0.97)
    predicted = np.where(rng.random((54, 54)) < 0.03, 0, np.roll(truth, 1, axis=1) + 50 * (np.roll(truth, 1, axis=1) > 0))
    predicted[predicted == 53] = 0
    one, other = ([mask.encode(np.asfortranarray(array == n, np.uint8)) for n in np.unique(array) if n]
                  for array in (truth, predicted))
    iou = mask.iou(one, other, [0] * len(other))
    got = instance_scores(truth, predicted)
    for t in THRESHOLDS:
        assert got.tp(t) == (iou >= t).sum()
    assert got.overlap == pytest.approx(iou[iou > 0.5].sum())
    assert 0 < got.tp(0.75) < got.tp(0.5) < got.true


@given(cases())
def test_precision_falls_with_the_threshold(case):
    got = instance_scores(*case)
    assert list(got.found) == sorted(got.found, reverse=True)
    assert got.average_precision == average_precision(*case)
    assert got.precision_at(0.75) == precision_at(*case, 0.75)


@given(st.lists(cases(), min_size=1, max_size=4))
def test_pooled_counts_are_those_of_the_images_side_by_side(images):
    """Ids of one image must not meet those of another."""
    scores = pooled([instance_scores(*case) for case in images])
    sides = [np.concatenate([np.where(c[k] > 0, c[k] + 10 * i, 0).ravel() for i, c in enumerate(images)]) for k in (0, 1)]
    together = instance_scores(*sides)
    assert scores.overlap == pytest.approx(together.overlap)
    assert (scores.found, scores.true, scores.predicted, scores.merges, scores.splits, scores.overlapping) == (
        together.found, together.true, together.predicted, together.merges, together.splits, together.overlapping)


def test_empty_images():
    nothing, something = np.zeros((3, 3), int), np.ones((3, 3), int)
    assert average_precision(nothing, nothing) is None
    assert average_precision(something, nothing) == average_precision(nothing, something) == 0
    assert precision_at(something, something, 1.0) == 1


def test_thresholds_are_inclusive_at_each_of_their_values():
    """20 of 20 n-ths: the IoU is exactly the threshold."""
    for t in THRESHOLDS:
        truth = np.ones(100, int)
        predicted = (np.arange(100) < round(100 * t)).astype(int)
        assert precision_at(truth, predicted, t) == 1
        assert precision_at(truth, (np.arange(100) < round(100 * t) - 1).astype(int), t) == 0


def test_the_panoptic_quality_counts_above_one_half_only():
    got = instance_scores(np.array([1, 1]), np.array([1, 0]))
    assert (got.tp(0.5), got.panoptic_quality) == (1, 0)


def test_unknown_pixels_do_not_count():
    got = instance_scores(np.array([1, 1, 0]), np.array([2, 2, 2]), np.array([False, False, True]))
    assert got.average_precision == 1


def test_other_thresholds_have_no_counts():
    got = instance_scores(np.array([1]), np.array([1]), thresholds=(0.3,))
    assert got.tp(0.3) == 1
    with pytest.raises(UsageError, match=r"IoU of 0\.5"):
        got.f1()
    with pytest.raises(UsageError):
        pooled([got, instance_scores(np.array([1]), np.array([1]))])
    with pytest.raises(UsageError):
        pooled([])
