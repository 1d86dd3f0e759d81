"""Losses against hand-computed values, torch's own, and finite differences."""

from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from biomask.data.targets import Targets
from biomask.losses import CombinedLoss, LossWeights, cross_entropy, focal_loss, soft_dice_loss
from biomask.losses.dice import one_hot


def of_classes(loss):
    """A combined loss of classes alone, called like the others."""
    return lambda logits, target, ignore=None: loss(logits, Targets(target, ignore=ignore))


LOSSES = {
    "cross_entropy": cross_entropy,
    "dice": soft_dice_loss,
    "combined": of_classes(CombinedLoss(LossWeights(cross_entropy=0.7, dice=1.3))),
    "weighted": of_classes(CombinedLoss(class_weights=(0.5, 2.0, 1.0))),
}


def sample(seed=0, batch=2, classes=3, size=(4, 5), ignored=0.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((batch, classes, *size), generator=generator, dtype=torch.float64).to(dtype)
    target = torch.randint(0, classes, (batch, *size), generator=generator)
    ignore = torch.rand((batch, *size), generator=generator) < ignored if ignored else None
    return logits, target, ignore


def confident(target, classes, by=200.0):
    """Logits that are sure of `target`."""
    return by * F.one_hot(target, classes).movedim(-1, 1).float()


@pytest.fixture(params=sorted(LOSSES))
def loss(request):
    return LOSSES[request.param]


class TestEveryLoss:
    @pytest.mark.parametrize("size", [(3, 4), (2, 3, 3)])
    def test_gradient_equals_finite_differences(self, loss, size):
        logits, target, ignore = sample(1, size=size, ignored=0.2, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda given: loss(given, target, ignore), logits.requires_grad_())

    def test_ignored_pixels_have_no_gradient_at_all(self, loss):
        logits, target, ignore = sample(ignored=0.4)
        logits.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(logits, target, ignore), logits)
        unknown = ignore[:, None].expand_as(gradient)
        assert (gradient[unknown] == 0).all()
        assert (gradient[~unknown] != 0).all()

    def test_ignored_pixels_do_not_matter(self, loss):
        logits, target, ignore = sample(ignored=0.4)
        other, wild = target.clone(), logits.clone()
        other[ignore] = (other[ignore] + 1) % 3
        wild[ignore[:, None].expand_as(wild)] = 1e4
        assert loss(logits, target, ignore) == loss(wild, other, ignore)

    def test_no_ignore_equals_nothing_ignored(self, loss):
        logits, target, _ = sample()
        assert torch.equal(loss(logits, target), loss(logits, target, torch.zeros_like(target, dtype=torch.bool)))

    def test_an_image_of_which_nothing_is_known_is_no_nan(self, loss):
        logits, target, _ = sample()
        logits.requires_grad_()
        value = loss(logits, target, torch.ones_like(target, dtype=torch.bool))
        (gradient,) = torch.autograd.grad(value, logits)
        assert value == 0
        assert (gradient == 0).all()

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10**6), parts=st.integers(2, 4))
    def test_a_batch_is_the_mean_of_its_parts(self, seed, parts):
        for loss in LOSSES.values():
            logits, target, ignore = sample(seed, batch=2 * parts, ignored=0.3)
            means = [loss(*part) for part in zip(logits.chunk(parts), target.chunk(parts), ignore.chunk(parts), strict=True)]
            assert float(loss(logits, target, ignore)) == pytest.approx(float(torch.stack(means).mean()), rel=1e-5)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_float32(self, loss, dtype):
        logits, target, _ = sample(dtype=dtype)
        value = loss(logits, target)
        assert value.dtype == torch.float32
        assert torch.equal(value, loss(logits.float(), target))

    def test_extreme_logits_stay_finite(self, loss):
        logits, target, _ = sample()
        logits = (1e4 * logits).requires_grad_()
        value = loss(logits, target)
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()

    def test_a_scalar_that_falls_when_the_logits_improve(self, loss):
        logits, target, _ = sample()
        better = logits + confident(target, 3, by=1.0)
        assert loss(logits, target).shape == ()
        assert loss(better, target) < loss(logits, target)


class TestOneHot:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("size", [(4, 5), (2, 3, 4)])
    def test_equals_torchs(self, size, dtype):
        logits, target, _ = sample(size=size, classes=5, dtype=dtype)
        for like in (logits[:, :3], logits[:, :3].movedim(1, -1).contiguous().movedim(-1, 1)):
            found = one_hot(target % 3, like)
            assert found.dtype == dtype
            assert torch.equal(found, F.one_hot(target % 3, 3).movedim(-1, 1).to(dtype))
            assert torch.equal(one_hot(found, like), found)

    def test_losses_take_it_in_place_of_classes(self):
        logits, target, ignore = sample(ignored=0.3)
        weights = torch.tensor([0.5, 2.0, 3.0])
        for loss in (cross_entropy, soft_dice_loss, lambda *given: focal_loss(*given, class_weights=weights)):
            assert torch.equal(loss(logits, one_hot(target, logits), ignore), loss(logits, target, ignore))


class TestCrossEntropy:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 5))
    def test_equals_torchs(self, seed, batch, classes):
        logits, target, _ = sample(seed, batch, classes)
        assert torch.allclose(cross_entropy(logits, target), F.cross_entropy(logits, target))

    def test_hand_computed(self):
        logits = torch.zeros(1, 4, 3, 3)
        target = torch.zeros(1, 3, 3, dtype=torch.long)
        assert float(cross_entropy(logits, target)) == pytest.approx(log(4))
        assert float(cross_entropy(confident(target, 4), target)) == 0
        wrong = confident((target + 1) % 4, 4, by=20.0)
        assert float(cross_entropy(wrong, target)) == pytest.approx(20 + log(1 + 3 * exp(-20)), rel=1e-6)

    def test_the_mean_is_over_the_known_pixels_of_each_image(self):
        logits, target, _ = sample(batch=2, size=(2, 2))
        ignore = torch.tensor([[[True, True], [True, False]], [[False] * 2] * 2])
        pixels = F.cross_entropy(logits, target, reduction="none")
        assert torch.allclose(cross_entropy(logits, target, ignore), (pixels[0, 1, 1] + pixels[1].mean()) / 2)

    def test_class_weights_multiply_and_do_not_normalise(self):
        logits, target, _ = sample()
        weights = torch.tensor([0.5, 2.0, 3.0])
        pixels = F.cross_entropy(logits, target, reduction="none") * weights[target]
        assert torch.allclose(cross_entropy(logits, target, class_weights=weights), pixels.mean())
        twice = cross_entropy(logits, target, class_weights=torch.full((3,), 2.0))
        assert torch.allclose(twice, 2 * cross_entropy(logits, target))

    def test_weight_zero_leaves_a_class_out(self):
        logits, target, _ = sample()
        logits.requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(logits, target, class_weights=torch.tensor([0.0, 1.0, 1.0])), logits)
        assert (gradient[(target == 0)[:, None].expand_as(gradient)] == 0).all()


class TestDice:
    @pytest.mark.parametrize("classes", [2, 3])
    def test_perfect(self, classes):
        target = torch.arange(24).reshape(1, 4, 6) % classes
        assert float(soft_dice_loss(confident(target, classes), target)) == pytest.approx(0, abs=1e-6)

    def test_inverted(self):
        target = torch.tensor([[[0, 0, 0, 1]]])
        expected = 1 - 1 / (4 + 1)  # 2·0 + 1 over Σp + Σy + 1, the same for both classes
        assert float(soft_dice_loss(confident(1 - target, 2), target)) == pytest.approx(expected)
        assert float(soft_dice_loss(confident(1 - target, 2), target, smooth=1e-9)) == pytest.approx(1)

    def test_uniform(self):
        target = torch.tensor([[[0, 0, 0, 1]]])
        expected = np.mean([1 - (2 * 1.5 + 1) / (2 + 3 + 1), 1 - (2 * 0.5 + 1) / (2 + 1 + 1)])
        assert float(soft_dice_loss(torch.zeros(1, 2, 1, 4), target)) == pytest.approx(expected)

    def test_an_absent_class_costs_what_is_predicted_of_it(self):
        target = torch.zeros(1, 2, 2, dtype=torch.long)
        uniform = float(soft_dice_loss(torch.zeros(1, 2, 2, 2), target))
        assert uniform == pytest.approx(np.mean([1 - 5 / 7, 1 - 1 / 3]))
        assert float(soft_dice_loss(confident(target, 2), target)) == pytest.approx(0, abs=1e-6)

    def test_hard_predictions_give_one_minus_dice(self):
        truth, found = torch.tensor([[[0, 0, 1, 1, 1, 0]]]), torch.tensor([[[0, 1, 1, 1, 0, 0]]])
        assert float(soft_dice_loss(confident(found, 2), truth, smooth=1e-9)) == pytest.approx(1 - 4 / 6)

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.floats(0, 50))
    def test_range(self, seed, scale):
        logits, target, ignore = sample(seed, ignored=0.3)
        assert 0 <= float(soft_dice_loss(scale * logits, target, ignore)) <= 1

    def test_relabelling_all_classes_changes_nothing(self):
        logits, target, _ = sample()
        order = torch.tensor([2, 0, 1])
        assert torch.allclose(soft_dice_loss(logits[:, order], torch.argsort(order)[target]), soft_dice_loss(logits, target))


class TestCombined:
    def test_is_the_weighted_sum(self):
        logits, target, ignore = sample(ignored=0.2)
        combined = of_classes(CombinedLoss(LossWeights(cross_entropy=0.3, dice=2.0)))(logits, target, ignore)
        parts = 0.3 * cross_entropy(logits, target, ignore) + 2 * soft_dice_loss(logits, target, ignore)
        assert torch.allclose(combined, parts)

    def test_weight_zero_is_not_computed(self):
        logits, target, _ = sample()
        assert torch.equal(of_classes(CombinedLoss(LossWeights(dice=0)))(logits, target), cross_entropy(logits, target))
        assert torch.equal(of_classes(CombinedLoss(LossWeights(cross_entropy=0)))(logits, target), soft_dice_loss(logits, target))

    @pytest.mark.parametrize("weights", [(1, 2, 3), [1.0, 2.0, 3.0], np.array([1.0, 2.0, 3.0])])
    def test_class_weights_of_any_number_type(self, weights):
        logits, target, _ = sample()
        expected = cross_entropy(logits, target, class_weights=torch.tensor([1.0, 2.0, 3.0]))
        assert torch.allclose(of_classes(CombinedLoss(LossWeights(dice=0), class_weights=weights))(logits, target), expected)

    def test_class_weights_follow_the_module(self):
        assert CombinedLoss(class_weights=(1.0, 2.0)).to(torch.float64).class_weights.dtype == torch.float64
        assert "class_weights" in dict(CombinedLoss(class_weights=(1.0, 2.0)).named_buffers())

    def test_the_weight_map_multiplies_each_pixel_of_the_cross_entropy_alone(self):
        logits, target, ignore = sample(ignored=0.2)
        weight = torch.rand(target.shape, generator=torch.Generator().manual_seed(4)) * 10
        found = CombinedLoss()(logits, Targets(target, weight=weight, ignore=ignore))
        pixels = F.cross_entropy(logits, target, reduction="none") * weight
        by_hand = torch.stack([p[~i].mean() for p, i in zip(pixels, ignore, strict=True)]).mean()
        assert torch.allclose(found, by_hand + soft_dice_loss(logits, target, ignore))

    def test_nothing_to_compare_with_costs_nothing(self):
        logits, _, _ = sample()
        assert float(CombinedLoss()(logits, Targets(None))) == 0
