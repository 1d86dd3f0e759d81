"""Cross-entropy, Brier and ECE against their formulas, torch and simulated probabilities that are what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn.functional import binary_cross_entropy, cross_entropy

from biomask.errors import LabelsError, SizeError
from biomask.metrics import Reliability, class_reliability, structure_reliability
from biomask.metrics.calibration import BINS, CLIP


@st.composite
def cases(draw):
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    classes = draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    maps = rng.dirichlet(np.ones(classes), shape).transpose(2, 0, 1).astype(np.float32)
    return maps, rng.integers(0, classes, shape), draw(hnp.arrays(bool, shape))


def brute_ece(confidence, right):
    """Over bins [0, 0.1), [0.1, 0.2), … [0.9, 1]."""
    total = 0.0
    for k in range(BINS):
        inside = (confidence >= k / BINS) & ((confidence < (k + 1) / BINS) | (k == BINS - 1))
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return total


@settings(deadline=None)
@given(cases())
def test_classes_equal_the_formulas(case):
    maps, truth, ignore = case
    found = class_reliability(maps, truth, ignore)
    known = ~ignore
    assert found.answers == known.sum()
    if not known.any():
        assert (found.bce, found.brier, found.ece) == (None, None, None)
        return
    p, true = maps[:, known].astype(np.float64), truth[known]
    logits = torch.from_numpy(np.log(np.maximum(p.T, CLIP)))
    assert found.bce == pytest.approx(float(cross_entropy(logits, torch.from_numpy(true))), rel=1e-4)
    squares = [sum((p[k, i] - (true[i] == k)) ** 2 for k in range(len(p))) / 2 for i in range(len(true))]
    assert found.brier == pytest.approx(np.mean(squares))
    assert found.ece == pytest.approx(brute_ece(p.max(axis=0), p.argmax(axis=0) == true))


@settings(deadline=None)
@given(cases())
def test_a_structure_equals_the_formulas(case):
    maps, truth, ignore = case
    found, known = structure_reliability(maps[0], truth == 0, ignore), ~ignore
    if known.any():
        p, true = maps[0][known].astype(np.float64), (truth == 0)[known]
        want = binary_cross_entropy(torch.from_numpy(p.clip(CLIP, 1 - CLIP)), torch.from_numpy(true.astype(float)))
        assert found.bce == pytest.approx(float(want), rel=1e-4)
        assert found.brier == pytest.approx(np.mean((p - true) ** 2))
        assert found.ece == pytest.approx(brute_ece(p, true))


@settings(deadline=None)
@given(cases())
def test_two_classes_have_the_scores_of_the_second_alone(case):
    maps, truth, _ = case
    second = truth > 0
    whole, alone = class_reliability(np.stack([1 - maps[0], maps[0]]), second.astype(int)), structure_reliability(maps[0], second)
    assert (whole.bce, whole.brier) == (pytest.approx(alone.bce, rel=1e-5), pytest.approx(alone.brier, rel=1e-5))  # float32


@settings(deadline=None)
@given(cases())
def test_images_add_up(case):
    maps, truth, ignore = case
    both = class_reliability(maps, truth, ignore) + class_reliability(maps, truth, ~ignore)
    whole = class_reliability(maps, truth)
    assert both.pixels.tolist() == whole.pixels.tolist()
    assert both.ece == pytest.approx(whole.ece)
    assert both.bce == pytest.approx(whole.bce)


def test_probabilities_that_are_what_they_say_are_calibrated_and_others_are_not():
    """Truth drawn from the probabilities: an ECE of the sampling noise. Sharpened ones are too sure by what was added."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, (300, 300))
    truth = rng.random(p.shape) < p
    assert structure_reliability(p, truth).ece < 0.01
    assert structure_reliability(p, truth).brier == pytest.approx(1 / 6, abs=0.005)
    sure = np.where(p > 0.5, np.minimum(p + 0.2, 1), np.maximum(p - 0.2, 0))
    assert structure_reliability(sure, truth).ece > 0.1


def test_sure_and_right_is_perfect_and_sure_and_wrong_is_finite():
    truth = np.array([0, 1, 1])
    right = np.stack([truth == 0, truth == 1]).astype(float)
    found = class_reliability(right, truth)
    assert (found.bce, found.brier, found.ece) == (0, 0, 0)
    wrong = class_reliability(right[::-1], truth)
    assert (wrong.bce, wrong.brier, wrong.ece) == (pytest.approx(-np.log(CLIP)), 1, 1)


def test_a_class_without_a_probability_is_never_right():
    found = class_reliability(np.array([[0.9], [0.1]]), np.array([-1]))
    assert found.correct.sum() == 0
    assert found.bce == pytest.approx(-np.log(CLIP))


def test_edges_of_bins_belong_above_and_one_to_the_last():
    found = structure_reliability(np.array([0.0, 0.5, 1.0]), np.array([False, True, True]))
    assert np.flatnonzero(found.pixels).tolist() == [0, 5, 9]


def test_nothing_is_undefined():
    found = Reliability.none()
    assert (found.bce, found.brier, found.ece, found.answers) == (None, None, None, 0)


@pytest.mark.parametrize("value", [1.5, -0.5, np.nan, 200.0])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(LabelsError, match="no probabilities"):
        structure_reliability(np.array([0.5, value]), np.array([True, False]))


def test_other_shapes_are_refused():
    with pytest.raises(SizeError):
        class_reliability(np.zeros((2, 3, 4)), np.zeros((4, 3), int))
    with pytest.raises(SizeError):
        structure_reliability(np.zeros((3, 4)), np.zeros((4, 3), bool))
