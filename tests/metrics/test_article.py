"""The scores of the optic disc report against torch, its formulas and its slip: the Dice it prints is a loss."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.errors import SizeError
from biomask.losses.structures import binary_cross_entropy, binary_dice_loss
from biomask.metrics import article_scores, confusion_matrix, overlap


@st.composite
def images(draw):
    """(logits, truth, ignore) of one to three structures."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    truth = rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    return rng.normal(0, 3, shape), truth, rng.random(shape[1:]) < 0.2 if draw(st.booleans()) else None


def probabilities_of(logits):
    return 1 / (1 + np.exp(-logits))


@given(images())
@settings(deadline=None)
def test_equals_the_losses_that_the_recipe_trains_with(case):
    """A batch of one image; the losses count an image of unknown pixels alone as 0, the scores as undefined."""
    logits, truth, ignore = case
    found = article_scores(probabilities_of(logits), truth, ignore=ignore)
    if ignore is not None and ignore.all():
        assert (found.iou, found.dice_loss, found.dice, found.bce) == (None,) * 4
        return
    given_ = [torch.from_numpy(a)[None] for a in (logits, truth)]
    hidden = None if ignore is None else torch.from_numpy(ignore)[None]
    assert found.dice_loss == pytest.approx(float(binary_dice_loss(*given_, hidden)), abs=1e-5)
    assert found.bce == pytest.approx(float(binary_cross_entropy(*given_, hidden)), abs=1e-5)


@given(images(), st.sampled_from([1e-5, 1.0, 10.0]))
@settings(deadline=None)
def test_the_dice_that_is_printed_and_the_coefficient_add_up_to_one(case, smooth):
    logits, truth, _ = case
    p = probabilities_of(logits)
    coefficients = [(2 * (q * y).sum() + smooth) / (q.sum() + y.sum() + smooth) for q, y in zip(p, truth, strict=True)]
    found = article_scores(p, truth, smooth=smooth)
    assert found.dice_loss + np.mean(coefficients) == pytest.approx(1)
    assert found.dice == pytest.approx(np.mean(coefficients))


@given(images(), st.sampled_from([0.2, 0.5, 0.7]))
@settings(deadline=None)
def test_iou_is_that_of_all_structures_laid_end_to_end(case, threshold):
    logits, truth, ignore = case
    p = probabilities_of(logits)
    hidden = None if ignore is None else np.broadcast_to(ignore, p.shape)
    want = overlap(confusion_matrix(truth.astype(int), (p > threshold).astype(int), 2, hidden)).iou[1]
    assert article_scores(p, truth, threshold=threshold, ignore=ignore).iou == (None if want is None else pytest.approx(want))


def test_of_masks_dice_is_never_below_iou_so_the_printed_pair_cannot_be_two_coefficients():
    """0.8367 and 0.8421 as printed: read as a loss, the former is a coefficient of 0.1633 of soft, unsure probabilities."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, found = rng.random((2, 2, 8, 8)) < rng.random()
        scores = article_scores(found[:1].astype(float), truth[:1], smooth=0)
        assert scores.dice >= scores.iou
    unsure = article_scores(np.where(truth, 0.6, 0.4), truth)
    assert unsure.iou == 1
    assert unsure.dice < unsure.iou


def test_probabilities_of_zero_are_raised_in_the_cross_entropy():
    assert article_scores(np.array([[0.0]]), np.array([[True]])).bce == pytest.approx(-np.log(1e-7))


def test_shapes_that_differ_are_refused():
    for p, y, ignore in ((np.zeros((1, 2)), np.zeros((2, 2)), None), (np.zeros(3), np.zeros(3), None),
                         (np.zeros((1, 2)), np.zeros((1, 2)), np.zeros(3, bool))):
        with pytest.raises(SizeError):
            article_scores(p, y, ignore=ignore)
