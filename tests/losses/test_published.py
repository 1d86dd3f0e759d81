"""Losses as papers and repositories have them: values that can be said beforehand, gradients, ignored pixels."""

from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from biomask.data.targets import Targets
from biomask.errors import SizeError
from biomask.losses import (
    CombinedLoss,
    LossWeights,
    attention_dice_loss,
    balanced_cross_entropy,
    binary_attention_dice_loss,
    binary_cross_entropy,
    binary_dice_loss,
    binary_focal_loss,
    binary_tversky_loss,
    cross_entropy,
    deep_supervision,
    focal_loss,
    one_against_rest,
    optic_disc_loss,
    soft_dice_loss,
    unet_plus_plus_loss,
    unet_plus_plus_printed_loss,
)

#: Losses of channels that are sigmoids of their own.
BINARY = {
    "cross_entropy": binary_cross_entropy, "dice": binary_dice_loss, "focal": binary_focal_loss, "tversky": binary_tversky_loss,
    "optic_disc": optic_disc_loss, "unet++": unet_plus_plus_loss, "unet++-printed": unet_plus_plus_printed_loss,
    "attention": binary_attention_dice_loss}

#: Losses of classes that exclude each other.
EXCLUSIVE = {"cross_entropy": cross_entropy, "dice": soft_dice_loss, "focal": focal_loss, "attention": attention_dice_loss}

PUBLISHED = {"optic-disc": optic_disc_loss, "unet++": unet_plus_plus_loss, "unet++-printed": unet_plus_plus_printed_loss}


def structures(seed=0, batch=2, channels=2, size=(4, 5), ignored=0.0):
    """(logits float64, target 0 or 1, ignore or None)."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((batch, channels, *size), generator=generator, dtype=torch.float64)
    target = (torch.rand(logits.shape, generator=generator) < 0.4).double()
    return logits, target, torch.rand((batch, *size), generator=generator) < ignored if ignored else None


def classes(seed=0, batch=2, channels=3, size=(4, 5), ignored=0.0):
    """The same with int64 classes."""
    logits, target, ignore = structures(seed, batch, channels, size, ignored)
    return logits, target.argmax(dim=1), ignore


def sure(target, by=200.0):
    """Logits that are sure of a target of zeros and ones."""
    return by * (2 * target - 1)


class TestEachLoss:
    @pytest.mark.parametrize("size", [(3, 4), (2, 3, 2)])
    @pytest.mark.parametrize(("loss", "sample"), [*((f, structures) for f in BINARY.values()), *((f, classes) for f in
                                                                                                EXCLUSIVE.values())])
    def test_gradients_equal_finite_differences(self, loss, sample, size):
        for ignored in (0.0, 0.3):
            logits, target, ignore = sample(1, size=size, ignored=ignored)
            assert torch.autograd.gradcheck(lambda x, t=target, i=ignore: loss(x, t, i), logits.requires_grad_())

    def test_gradients_of_borders_and_distances_and_of_classes_against_the_rest(self):
        logits, target, ignore = structures(1, channels=1, ignored=0.3)
        logits, target = logits[:, 0].requires_grad_(), target[:, 0]
        assert torch.autograd.gradcheck(lambda x: balanced_cross_entropy(x, target, target > 0, ignore, share=0.2), logits)
        assert torch.autograd.gradcheck(one_against_rest, structures(2, channels=4)[0].requires_grad_())

    @pytest.mark.parametrize(("loss", "sample"), [*((f, structures) for f in BINARY.values()), *((f, classes) for f in
                                                                                                EXCLUSIVE.values())])
    def test_ignored_pixels_count_nowhere(self, loss, sample):
        logits, target, ignore = sample(ignored=0.4)
        unknown = ignore[:, None].expand_as(logits)
        wild, other = logits.masked_fill(unknown, 1e4), target.clone()
        if target.ndim == logits.ndim:
            other[unknown] = 1 - other[unknown]
        else:
            other[ignore] = (other[ignore] + 1) % 3
        assert float(loss(wild, other, ignore)) == pytest.approx(float(loss(logits, target, ignore)), rel=1e-12)
        (gradient,) = torch.autograd.grad(loss(logits.requires_grad_(), target, ignore), logits)
        assert (gradient[unknown] == 0).all()
        assert (gradient[~unknown] != 0).any()

    @pytest.mark.parametrize("loss", BINARY.values())
    def test_half_precision_is_computed_in_float32_and_huge_logits_stay_finite(self, loss):
        logits, target, _ = structures()
        half = logits.bfloat16()
        assert loss(half, target).dtype == torch.float32
        assert torch.equal(loss(half, target), loss(half.float(), target))
        huge = (1e4 * logits.float()).requires_grad_()
        value = loss(huge, target)
        assert torch.isfinite(value)
        assert torch.isfinite(torch.autograd.grad(value, huge)[0]).all()


class TestStatedValues:
    """16 pixels of which 6 are foreground; logits of ±30."""

    TARGET = torch.zeros(1, 1, 4, 4).flatten().index_fill_(0, torch.arange(6), 1).reshape(1, 1, 4, 4)
    EMPTY = torch.zeros(1, 1, 4, 4)

    @pytest.mark.parametrize(("name", "perfect", "empty", "inverted"), [
        ("cross_entropy", 0, 0, 30), ("dice", 0, 0, 1 - 1 / 17), ("focal", 0, 0, 30), ("optic_disc", 0, 0, 15 + 0.5 - 0.5 / 17),
        ("tversky", 0, 0, 1 - 0.5 / (0.3 * 10 + 0.7 * 6 + 0.5)), ("unet++", -1, -1, 15 - 1 / 17),
        ("unet++-printed", -1, 0, 0.5 * 30 * 6 / 16), ("attention", 1 - 2 * 6.01 / 12.01, -1, 1 - 0.02 / 16.01)])
    def test_of_perfect_empty_and_inverted_predictions(self, name, perfect, empty, inverted):
        loss = BINARY[name]
        assert float(loss(sure(self.TARGET, 30), self.TARGET)) == pytest.approx(perfect, abs=1e-6)
        assert float(loss(sure(self.EMPTY, 200), self.EMPTY)) == pytest.approx(empty, abs=1e-6)
        assert float(loss(sure(1 - self.TARGET, 30), self.TARGET)) == pytest.approx(inverted, rel=1e-5)

    @pytest.mark.parametrize(("loss", "perfect", "inverted"), [
        (cross_entropy, 0, 60), (soft_dice_loss, 0, 1 - 1 / 17), (focal_loss, 0, 60),
        (attention_dice_loss, 1 - 6.01 / 12.01 - 10.01 / 20.01, 1 - 0.02 / 16.01)])
    def test_of_classes(self, loss, perfect, inverted):
        both = torch.cat([sure(1 - self.TARGET, 30), sure(self.TARGET, 30)], dim=1)
        target = self.TARGET[:, 0].long()
        assert float(loss(both, target)) == pytest.approx(perfect, abs=1e-6)
        assert float(loss(-both, target)) == pytest.approx(inverted, rel=1e-5)

    def test_what_knows_nothing(self):
        assert float(focal_loss(torch.zeros(1, 4, 3, 3), torch.zeros(1, 3, 3).long())) == pytest.approx(0.75**2 * log(4))
        assert float(binary_focal_loss(self.EMPTY, self.TARGET, gamma=1)) == pytest.approx(0.5 * log(2))

    def test_the_printed_form_does_not_see_images_without_foreground(self):
        wrong = sure(1 - self.EMPTY, 30).requires_grad_()
        value = unet_plus_plus_printed_loss(wrong, self.EMPTY)
        assert float(value.detach()) == 0
        assert not torch.autograd.grad(value, wrong)[0].any()

    def test_the_code_of_unet_plus_plus_takes_the_dice_of_the_whole_batch(self):
        logits, target, _ = structures(batch=3)
        p = logits.sigmoid()
        dice = (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
        by_hand = 0.5 * F.binary_cross_entropy(p, target) - dice
        assert float(unet_plus_plus_loss(logits, target)) == pytest.approx(float(by_hand), rel=1e-12)
        parts = torch.stack([unet_plus_plus_loss(x[None], t[None]) for x, t in zip(logits, target, strict=True)])
        assert float(parts.mean()) != pytest.approx(float(by_hand), rel=1e-4)


class TestRelations:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6))
    def test_special_cases_are_the_losses_they_generalise(self, seed):
        logits, target, ignore = structures(seed, ignored=0.3)
        assert torch.allclose(binary_tversky_loss(logits, target, ignore, alpha=0.5, beta=0.5),
                              binary_dice_loss(logits, target, ignore))
        assert torch.allclose(binary_focal_loss(logits, target, ignore, gamma=0), binary_cross_entropy(logits, target, ignore))
        assert torch.allclose(optic_disc_loss(logits, target, ignore), (binary_cross_entropy(logits, target, ignore)
                                                                       + binary_dice_loss(logits, target, ignore)) / 2)
        exclusive, truth, unknown = classes(seed, ignored=0.3)
        weights = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
        assert torch.allclose(focal_loss(exclusive, truth, unknown, gamma=0, class_weights=weights),
                              cross_entropy(exclusive, truth, unknown, class_weights=weights))

    @pytest.mark.parametrize("channels", [2, 5])
    def test_classes_against_the_rest_have_the_probabilities_of_the_softmax(self, channels):
        logits = 5 * structures(channels=channels)[0]
        assert torch.allclose(one_against_rest(logits).sigmoid(), logits.softmax(dim=1)[:, 1:])
        assert torch.isfinite(one_against_rest(1e4 * logits.float())).all()

    def test_missed_pixels_cost_more_than_wrong_ones_where_beta_is_larger(self):
        target = torch.zeros(1, 1, 1, 8)
        target[..., :4] = 1
        missed, wrong = target.clone(), target.clone()
        missed[..., 3], wrong[..., 4] = 0, 1
        found = [float(binary_tversky_loss(sure(t), target, alpha=0.2, beta=0.8, smooth=1e-9)) for t in (missed, wrong)]
        assert found == pytest.approx([1 - 3 / 3.8, 1 - 4 / 4.2], rel=1e-5)

    def test_focal_leaves_sure_pixels_out(self):
        logits = torch.tensor([[0.0, 8.0], [0.0, -1.0]]).reshape(1, 2, 1, 2)
        target = torch.tensor([[[1, 0]]])
        easy = 1 / (1 + exp(9))
        by_hand = (0.25 * log(2) - easy**2 * log(1 - easy)) / 2
        assert float(focal_loss(logits, target)) == pytest.approx(by_hand, rel=1e-5)


class TestCombined:
    @pytest.mark.parametrize("name", [*PUBLISHED, "attention"])
    def test_a_published_loss_stands_in_place_of_the_sum(self, name):
        loss = CombinedLoss(LossWeights(cross_entropy=3.0, dice=2.0, published=name))
        logits, target, ignore = structures(ignored=0.2)
        binary = PUBLISHED.get(name, binary_attention_dice_loss)
        assert torch.equal(loss(logits, Targets(None, target, ignore=ignore)), binary(logits, target, ignore))
        exclusive, truth, unknown = classes(ignored=0.2)
        found = loss(exclusive, Targets(truth, ignore=unknown))
        if name == "attention":
            assert torch.equal(found, attention_dice_loss(exclusive, truth, unknown))
        else:
            hot = F.one_hot(truth, 3).movedim(-1, 1)[:, 1:].double()
            assert torch.allclose(found, binary(one_against_rest(exclusive), hot, unknown))

    def test_two_classes_are_one_sigmoid(self):
        exclusive, truth, _ = classes(channels=2)
        logit = exclusive[:, 1:] - exclusive[:, :1]
        for name, binary in PUBLISHED.items():
            found = CombinedLoss(LossWeights(published=name))(exclusive, Targets(truth))
            assert torch.allclose(found, binary(logit, truth[:, None].double()))

    def test_tversky_and_focal_are_added(self):
        weights = LossWeights(cross_entropy=0, dice=0.5, tversky=2.0, tversky_alpha=0.4, tversky_beta=0.6, focal=3.0, focal_gamma=1)
        logits, target, ignore = structures(ignored=0.2)
        by_hand = (0.5 * binary_dice_loss(logits, target, ignore)
                   + 2 * binary_tversky_loss(logits, target, ignore, alpha=0.4, beta=0.6)
                   + 3 * binary_focal_loss(logits, target, ignore, gamma=1))
        assert torch.allclose(CombinedLoss(weights)(logits, Targets(None, target, ignore=ignore)), by_hand)
        exclusive, truth, unknown = classes(ignored=0.2)
        weight = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        hot = F.one_hot(truth, 3).movedim(-1, 1)[:, 1:].double()
        balance = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        by_hand = (0.5 * soft_dice_loss(exclusive, truth, unknown)
                   + 2 * binary_tversky_loss(one_against_rest(exclusive), hot, unknown, alpha=0.4, beta=0.6)
                   + 3 * focal_loss(exclusive, truth, unknown, gamma=1, class_weights=balance, weight=weight))
        found = CombinedLoss(weights, class_weights=(1, 2, 3))(exclusive, Targets(truth, weight=weight, ignore=unknown))
        assert torch.allclose(found, by_hand)

    def test_gradients_of_all_that_objects_have(self):
        logits, truth, ignore = classes(channels=5, ignored=0.2)
        logits, truth = logits.requires_grad_(), truth.clamp(max=2)
        distance = torch.rand(truth.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        border = (distance > 0.7).double()
        loss = CombinedLoss(LossWeights(tversky=1.0, focal=1.0), class_weights=(1, 2, 3))
        targets = Targets(truth, distance=distance, border=border, weight=1 + distance, ignore=ignore)
        assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits)


class TestDeepSupervision:
    def heads(self):
        return tuple(structures(seed)[0] for seed in range(4)), structures(9)[1]

    def loss(self, target):
        return lambda logits: binary_cross_entropy(logits, target)

    def test_alike_is_the_mean_and_one_head_is_itself(self):
        heads, target = self.heads()
        loss = self.loss(target)
        each = torch.stack([loss(h) for h in heads])
        assert torch.equal(deep_supervision(loss, heads), each.mean())
        assert torch.allclose(deep_supervision(loss, heads, (2, 2, 2, 2)), each.mean())
        assert torch.equal(deep_supervision(loss, heads[0]), each[0])

    def test_weights_are_shares(self):
        heads, target = self.heads()
        loss = self.loss(target)
        each = [float(loss(h)) for h in heads]
        assert float(deep_supervision(loss, heads, (1, 0, 3, 4))) == pytest.approx((each[0] + 3 * each[2] + 4 * each[3]) / 8)

    def test_a_head_of_weight_0_learns_nothing(self):
        heads, target = self.heads()
        heads = tuple(h.requires_grad_() for h in heads)
        found = torch.autograd.grad(deep_supervision(self.loss(target), heads, (0, 1, 1, 1)), heads)
        assert not found[0].any()
        assert all(g.any() for g in found[1:])

    def test_gradients_equal_finite_differences(self):
        heads, target = self.heads()
        assert torch.autograd.gradcheck(lambda *each: deep_supervision(self.loss(target), each, (1, 2, 3, 4)),
                                        tuple(h.requires_grad_() for h in heads))

    def test_as_many_weights_as_heads(self):
        heads, target = self.heads()
        with pytest.raises(SizeError, match="2 weights for 4 heads"):
            deep_supervision(self.loss(target), heads, (1, 1))
