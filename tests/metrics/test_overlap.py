"""Dice, IoU and pixel error against a brute force of sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask.metrics import confusion_matrix, mean, overlap

CLASSES = 4


@st.composite
def masks(draw):
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
    ids = hnp.arrays(np.int64, shape, elements=st.integers(0, CLASSES - 1))
    return draw(ids), draw(ids), draw(hnp.arrays(bool, shape))


def brute_force(truth, prediction, ignore=None):
    """{score: one a class} by sets of pixels."""
    known = {i for i in np.ndindex(truth.shape) if ignore is None or not ignore[i]}
    found = {key: [] for key in ("dice", "iou", "precision", "recall", "specificity")}
    for k in range(CLASSES):
        a, b = ({i for i in known if m[i] == k} for m in (truth, prediction))
        for key, part, whole in (("dice", 2 * len(a & b), len(a) + len(b)), ("iou", len(a & b), len(a | b)),
                                 ("precision", len(a & b), len(b)), ("recall", len(a & b), len(a)),
                                 ("specificity", len(known - a - b), len(known - a))):
            found[key].append(part / whole if whole else None)
    return found


def error_of(truth, prediction, ignore=None):
    known = [i for i in np.ndindex(truth.shape) if ignore is None or not ignore[i]]
    return sum(truth[i] != prediction[i] for i in known) / len(known) if known else None


def scores(truth, prediction, ignore=None):
    return overlap(confusion_matrix(truth, prediction, CLASSES, ignore))


def same(a, b):
    return all((x is None and y is None) or x == pytest.approx(y, abs=1e-12) for x, y in zip(a, b, strict=True))


@given(masks())
def test_equals_brute_force(case):
    truth, prediction, ignore = case
    for unknown in (None, ignore):
        found, wanted = scores(truth, prediction, unknown), brute_force(truth, prediction, unknown)
        for key, values in wanted.items():
            assert same(getattr(found, key), values), key
        assert same([found.pixel_error], [error_of(truth, prediction, unknown)])


@given(masks())
def test_dice_follows_from_iou_and_is_never_less(case):
    found = scores(*case)
    for dice, iou in zip(found.dice, found.iou, strict=True):
        assert (dice is None) == (iou is None)
        if dice is not None:
            assert dice == pytest.approx(2 * iou / (1 + iou))
            assert 0 <= iou <= dice <= 1


@given(masks(), st.permutations(range(CLASSES)))
def test_renaming_classes_renames_scores(case, order):
    truth, prediction, ignore = case
    before, after = scores(*case), scores(np.array(order)[truth], np.array(order)[prediction], ignore)
    assert same(before.dice, [after.dice[k] for k in order])
    assert before.pixel_error == after.pixel_error


@given(masks())
def test_truth_and_prediction_may_be_exchanged(case):
    truth, prediction, ignore = case
    one, other = scores(truth, prediction, ignore), scores(prediction, truth, ignore)
    assert (one.dice, one.iou, one.pixel_error) == (other.dice, other.iou, other.pixel_error)
    assert (one.precision, one.recall) == (other.recall, other.precision)


@given(masks())
def test_perfect(case):
    truth, _, ignore = case
    found = scores(truth, truth, ignore)
    assert {*found.dice, *found.precision, *found.recall, *found.specificity} <= {1.0, None}
    assert found.pixel_error in (0.0, None)


@given(masks())
def test_images_add_up_to_the_pooled_matrix(case):
    truth, prediction, _ = case
    halves = [confusion_matrix(t, p, CLASSES) for t, p in zip(np.array_split(truth.ravel(), 2),
                                                             np.array_split(prediction.ravel(), 2), strict=True)]
    assert np.array_equal(sum(halves), confusion_matrix(truth, prediction, CLASSES))


@given(masks())
def test_ignored_pixels_do_not_matter(case):
    truth, prediction, ignore = case
    other = np.where(ignore, (prediction + 1) % CLASSES, prediction)
    assert scores(truth, prediction, ignore) == scores(truth, other, ignore)
    assert confusion_matrix(truth, prediction, CLASSES, ignore).sum() == (~ignore).sum()


def test_a_class_in_neither_is_undefined_and_in_one_is_zero():
    found = scores(np.array([0, 0, 1]), np.array([0, 0, 2]))
    assert found.dice == (1.0, 0.0, 0.0, None)
    assert found.iou == (1.0, 0.0, 0.0, None)
    assert found.precision == (1.0, None, 0.0, None)
    assert found.recall == (1.0, 0.0, None, None)
    assert found.specificity == (1.0, 1.0, pytest.approx(2 / 3), 1.0)
    assert found.pixel_error == pytest.approx(1 / 3)


def test_nothing_known_is_undefined():
    found = scores(np.array([0, 1]), np.array([1, 1]), np.array([True, True]))
    assert found == type(found)(*[(None,) * CLASSES] * 5, None)
    assert scores(np.zeros(0, int), np.zeros(0, int)).pixel_error is None


def test_mean_leaves_out_the_undefined():
    assert mean([None, 0.5, None, 1.0]) == 0.75
    assert mean([None, None]) is None
    assert mean([]) is None
    assert mean([0.0]) == 0.0


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.uint16])
def test_any_integer_dtype(dtype):
    truth, found = np.array([0, 1, 1]).astype(dtype), np.array([1, 1, 0]).astype(dtype)
    assert confusion_matrix(truth, found, 2).tolist() == [[0, 1], [1, 1]]


def test_many_classes_in_eight_bits_do_not_overflow():
    truth = np.array([200, 255], np.uint8)
    assert confusion_matrix(truth, truth, 256)[255, 255] == 1
    assert confusion_matrix(truth, truth, 256)[200, 200] == 1


@pytest.mark.parametrize(("truth", "prediction"), [(np.zeros((2, 3), int), np.zeros((3, 2), int)),
                                                   (np.zeros(4, int), np.zeros((2, 2), int)),
                                                   (np.zeros((2, 3), int), np.zeros((1, 3), int))])
def test_other_shapes_are_refused_rather_than_raveled(truth, prediction):
    with pytest.raises(ValueError):
        confusion_matrix(truth, prediction, 2)


@pytest.mark.parametrize(("truth", "prediction"), [([0, 1], [0, 2]), ([0, 2], [0, 1]), ([0, 1], [0, -1]), ([-1, 1], [0, 1])])
def test_ids_beyond_the_classes_are_refused_rather_than_counted_as_others(truth, prediction):
    """Id 2 of 2 classes would be counted as true class 1, predicted 0."""
    with pytest.raises(ValueError):
        confusion_matrix(np.array(truth), np.array(prediction), 2)
