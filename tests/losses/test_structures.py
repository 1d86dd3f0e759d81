"""Losses of structures and of distance and border against torch, loops over pixels, and what perfect and empty must give."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from biomask.data.targets import Targets
from biomask.losses import (
    CombinedLoss,
    LossWeights,
    balanced_cross_entropy,
    binary_cross_entropy,
    binary_dice_loss,
    cross_entropy,
    soft_dice_loss,
)
from biomask.losses.combined import BORDER_SHARE

LOSSES = {"cross_entropy": binary_cross_entropy, "dice": binary_dice_loss}


def sample(seed=0, batch=2, structures=3, size=(4, 5), ignored=0.0):
    """(logits, target 0 or 1, ignore or None)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn((batch, structures, *size), generator=generator)
    target = (torch.rand(logits.shape, generator=generator) < 0.4).float()
    ignore = torch.rand((batch, *size), generator=generator) < ignored if ignored else None
    return logits, target, ignore


def sure(target, by=200.0):
    return by * (2 * target - 1)


def by_torch(logits, target):
    """A loss a pixel."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


@pytest.fixture(params=sorted(LOSSES))
def loss(request):
    return LOSSES[request.param]


class TestBoth:
    @pytest.mark.parametrize("size", [(4, 6), (2, 3, 4)])
    def test_perfect_is_0(self, loss, size):
        _, target, _ = sample(size=size)
        assert float(loss(sure(target), target)) == pytest.approx(0, abs=1e-6)

    def test_an_empty_structure_that_is_predicted_empty_is_0(self, loss):
        empty = torch.zeros(2, 3, 4, 5)
        assert float(loss(sure(empty), empty)) == pytest.approx(0, abs=1e-6)
        assert float(loss(sure(1 - empty), empty)) > 0.9

    def test_structures_do_not_exclude_each_other(self, loss):
        """Where two overlap, being sure of both is right."""
        both = torch.ones(1, 2, 3, 3)
        assert float(loss(sure(both), both)) == pytest.approx(0, abs=1e-6)

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.integers(2, 4))
    def test_a_batch_is_the_mean_of_its_parts(self, seed, parts):
        logits, target, ignore = sample(seed, batch=2 * parts, ignored=0.3)
        for one in LOSSES.values():
            means = [one(*part) for part in zip(logits.chunk(parts), target.chunk(parts), ignore.chunk(parts), strict=True)]
            assert float(one(logits, target, ignore)) == pytest.approx(float(torch.stack(means).mean()), rel=1e-5)

    def test_ignored_pixels_do_not_matter_and_have_no_gradient(self, loss):
        logits, target, ignore = sample(ignored=0.4)
        unknown = ignore[:, None].expand_as(logits)
        wild = torch.where(unknown, torch.full_like(logits, 1e4), logits)
        other = torch.where(unknown, 1 - target, target)
        assert float(loss(wild, other, ignore)) == pytest.approx(float(loss(logits, target, ignore)), rel=1e-6)
        logits.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(logits, target, ignore), logits)
        assert (gradient[unknown] == 0).all()
        assert (gradient[~unknown] != 0).all()

    def test_an_image_of_which_nothing_is_known_is_0(self, loss):
        logits, target, _ = sample()
        assert float(loss(logits, target, torch.ones(2, 4, 5, dtype=torch.bool))) == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_float32(self, loss, dtype):
        logits, target, _ = sample()
        logits = logits.to(dtype)
        assert torch.equal(loss(logits, target), loss(logits.float(), target))

    def test_huge_logits_stay_finite(self, loss):
        logits, target, _ = sample()
        logits = (1e4 * logits).requires_grad_()
        value = loss(logits, target)
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


class TestCrossEntropy:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 5))
    def test_equals_torchs(self, seed, batch, structures):
        logits, target, _ = sample(seed, batch, structures)
        assert torch.allclose(binary_cross_entropy(logits, target), F.binary_cross_entropy_with_logits(logits, target))

    def test_a_loop_over_pixels(self):
        logits, target, ignore = sample(ignored=0.4)
        images = []
        for n in range(2):
            costs = []
            for k in range(3):
                for y, x in (~ignore[n]).nonzero().tolist():
                    p = 1 / (1 + math.exp(-float(logits[n, k, y, x])))
                    costs.append(-math.log(p if target[n, k, y, x] else 1 - p))
            images.append(sum(costs) / len(costs))
        assert float(binary_cross_entropy(logits, target, ignore)) == pytest.approx(sum(images) / 2, rel=1e-4)

    def test_two_exclusive_classes_cost_what_softmax_does(self):
        """softmax of (0, a) is sigmoid of a."""
        logits, target, ignore = sample(structures=1, ignored=0.3)
        two = torch.cat([torch.zeros_like(logits), logits], dim=1)
        assert torch.allclose(binary_cross_entropy(logits, target, ignore), cross_entropy(two, target[:, 0].long(), ignore))

    def test_a_fraction_is_best_met_by_itself(self):
        """The distance is a fraction: its cross-entropy is least where the sigmoid equals it."""
        wanted = torch.tensor([0.2, 0.5, 0.9]).reshape(1, 1, 1, 3)
        logits = torch.logit(wanted).requires_grad_()
        (gradient,) = torch.autograd.grad(binary_cross_entropy(logits, wanted), logits)
        assert gradient.abs().max() < 1e-6


class TestDice:
    def test_hard_predictions_give_one_minus_the_mean_dice(self):
        truth = torch.tensor([[[[0.0, 0, 1, 1, 1, 0]], [[1, 1, 0, 0, 0, 0]]]])
        found = torch.tensor([[[[0.0, 1, 1, 1, 0, 0]], [[0, 0, 0, 0, 1, 1]]]])
        assert float(binary_dice_loss(sure(found), truth, smooth=1e-9)) == pytest.approx(1 - (4 / 6 + 0) / 2)

    def test_by_hand(self):
        logits, target = torch.zeros(1, 1, 1, 4), torch.tensor([[[[1.0, 0, 0, 0]]]])
        assert float(binary_dice_loss(logits, target)) == pytest.approx(1 - (2 * 0.5 + 1) / (2 + 1 + 1))

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.floats(0, 50))
    def test_range(self, seed, scale):
        logits, target, ignore = sample(seed, ignored=0.3)
        assert 0 <= float(binary_dice_loss(scale * logits, target, ignore)) <= 1


class TestCombined:
    def test_structures(self):
        logits, target, ignore = sample(ignored=0.2)
        found = CombinedLoss(LossWeights(cross_entropy=0.3, dice=2.0))(logits, Targets(None, target, ignore=ignore))
        by_hand = 0.3 * binary_cross_entropy(logits, target, ignore) + 2 * binary_dice_loss(logits, target, ignore)
        assert torch.allclose(found, by_hand)

    @pytest.mark.parametrize("classes", [2, 4])
    def test_objects_take_classes_then_distance_then_border(self, classes):
        generator = torch.Generator().manual_seed(1)
        logits, _, ignore = sample(structures=classes + 2, ignored=0.2)
        target = torch.randint(0, classes, (2, 4, 5), generator=generator)
        distance = torch.rand((2, 4, 5), generator=generator)
        border = (torch.rand((2, 4, 5), generator=generator) < 0.2).float()
        weights = LossWeights(cross_entropy=0.5, dice=0.7, distance=3.0, border=1.5)
        found = CombinedLoss(weights)(logits, Targets(target, distance=distance, border=border, ignore=ignore))
        semantic, objects = logits[:, :classes], target > 0
        far, near = (by_torch(logits[:, classes + i], t) for i, t in enumerate((distance, border)))
        by_hand = 0.5 * cross_entropy(semantic, target, ignore) + 0.7 * soft_dice_loss(semantic, target, ignore)
        for n in range(2):
            known, inside = ~ignore[n], objects[n]
            by_hand += 3 / 2 * (0.5 * far[n][known & inside].mean() + 0.5 * far[n][known & ~inside].mean())
            edge, rest = (near[n][known & inside & (border[n] == b)].mean() for b in (1, 0))
            by_hand += 1.5 / 2 * (BORDER_SHARE * edge + (1 - BORDER_SHARE) * rest)
        assert torch.allclose(found, by_hand)

    def test_few_pixels_that_matter_count_as_much_in_a_larger_image(self):
        """Background that is added, as it is there already, changes nothing."""
        torch.manual_seed(0)
        logits, target = torch.randn(1, 4, 6), torch.zeros(1, 4, 6)
        logits[:, :, 3:], target[:, :, :3] = 0.5, torch.rand(4, 3)
        wide = [torch.cat([t, t[:, :, 3:].repeat(1, 1, 9)], dim=2) for t in (logits, target)]
        assert torch.allclose(balanced_cross_entropy(logits, target, target > 0), balanced_cross_entropy(*wide, wide[1] > 0))

    def test_perfect_objects_cost_only_what_the_distance_cannot_avoid(self):
        """A fraction has entropy, so the least cost of the distance is not 0: it is its own entropy."""
        classes = torch.tensor([[[0, 1, 1, 1, 0]]])
        distance = torch.tensor([[[0.0, 0.5, 1.0, 0.5, 0.0]]])
        border = torch.zeros(1, 1, 5)
        logits = torch.cat([100.0 * F.one_hot(classes, 2).movedim(-1, 1), torch.logit(distance, eps=1e-6)[:, None],
                            sure(border)[:, None]], dim=1)
        found = CombinedLoss(LossWeights(distance=1.0))(logits, Targets(classes, distance=distance, border=border))
        assert float(found) == pytest.approx(0.5 * 2 * math.log(2) / 3, abs=1e-5)
