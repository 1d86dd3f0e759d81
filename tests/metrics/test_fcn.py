"""The four scores of FCN against the paper's formulas, written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask.metrics import confusion_matrix, fcn_scores


@st.composite
def matrices(draw):
    classes = draw(st.integers(1, 5))
    return draw(hnp.arrays(np.int64, (classes, classes), elements=st.integers(0, 3)))


def written_out(n):
    """Sums over i and j as the paper prints them; classes in neither truth nor prediction left out."""
    classes = range(len(n))
    t = [sum(int(n[i, j]) for j in classes) for i in classes]
    union = [t[i] + sum(int(n[j, i]) for j in classes) - int(n[i, i]) for i in classes]
    right = [int(n[i, i]) for i in classes]
    accuracies = [right[i] / t[i] for i in classes if t[i]]
    ious = [right[i] / union[i] for i in classes if union[i]]
    return (sum(right) / sum(t), sum(accuracies) / len(accuracies), sum(ious) / len(ious),
            sum(t[i] * right[i] / union[i] for i in classes if union[i]) / sum(t))


@given(matrices())
def test_equals_the_formulas(n):
    found = fcn_scores(n)
    scores = (found.pixel_accuracy, found.mean_accuracy, found.mean_iou, found.frequency_weighted_iou)
    assert scores == ((None,) * 4 if not n.sum() else pytest.approx(written_out(n)))


def test_a_large_class_rules_all_but_the_means_over_classes():
    """99 pixels of background right, 1 of a cell missed."""
    found = fcn_scores(np.array([[99, 0], [1, 0]]))
    assert (found.pixel_accuracy, found.mean_accuracy) == (0.99, 0.5)
    assert found.mean_iou == pytest.approx(0.495)
    assert found.frequency_weighted_iou == pytest.approx(0.99 * 0.99)


def test_a_class_that_is_nowhere_does_not_count_and_one_that_is_made_up_does():
    truth, found = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 2])
    scores = fcn_scores(confusion_matrix(truth, found, 3))
    assert (scores.mean_accuracy, scores.mean_iou, scores.frequency_weighted_iou) == (0.75, 0.375, 0.75)
