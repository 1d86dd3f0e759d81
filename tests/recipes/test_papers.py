"""What recipes do is what their papers or their code say: schedules, optimisers, losses, augmentation, copies."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from biomask import recipes
from biomask.data.draws import PatchGeometry, draw_sample
from biomask.data.patches import MOST_ELASTIC
from biomask.data.targets import Targets, make_targets
from biomask.data.task import Task
from biomask.losses import CombinedLoss, LossWeights
from biomask.models import MODELS
from biomask.prediction.maps import symmetries
from biomask.training.budget import learning_rate
from biomask.training.optimizer import make_optimizer

DRISHTI = ("unet-drishti", "attention-unet", "unet++-drishti")
PLUS = ("unet++", "unet++-3d", "unet++-l1", "unet++-l2", "unet++-l3", "unet++-l4", "narrow-unet", "wide-unet",
        "wide-unet-released")
RELEASED = ("attention-unet-3d", "attention-unet-3d-double")


def loss_of(name):
    settings = recipes.get(name).loss
    return CombinedLoss(LossWeights(cross_entropy=settings.cross_entropy, dice=settings.dice, published=settings.published))


def optimizer_of(name):
    network = nn.Conv2d(1, 2, 3).double()
    return network, make_optimizer(network, recipes.get(name).training, torch.device("cpu"))


def two_classes(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((3, 2, 5, 6), generator=generator, dtype=torch.float64)
    target = torch.randint(0, 2, (3, 5, 6), generator=generator)
    return logits, target, (logits[:, 1] - logits[:, 0]).sigmoid()


@pytest.mark.parametrize(("names", "epochs", "every", "factor"), [(DRISHTI, 50, 10, 0.1), (RELEASED, 1000, 250, 0.5)])
def test_the_rate_is_torchs_step_schedule(names, epochs, every, factor):
    for name in names:
        t = recipes.get(name).training
        _, optimizer = optimizer_of(name)
        assert type(optimizer) is torch.optim.Adam
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, every, factor)
        for epoch in range(epochs):
            rate = learning_rate((epoch + 0.5) / epochs, t.lr, t.schedule, t.warmup, (), (t.drop_every, t.drop_factor))
            assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        assert t.lr == 1e-4


@pytest.mark.parametrize("name", DRISHTI)
def test_the_loss_of_the_optic_disc_article(name):
    logits, target, p = two_classes()
    y = target.double()
    dice = [(2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, y, strict=True)]
    by_hand = 0.5 * F.binary_cross_entropy(p, y) + 0.5 * (1 - torch.stack(dice)).mean()
    assert float(loss_of(name)(logits, Targets(target))) == pytest.approx(float(by_hand))


@pytest.mark.parametrize("name", PLUS)
def test_the_loss_and_the_penalty_of_the_code_of_unet_plus_plus(name):
    logits, target, p = two_classes()
    y = target.double()
    by_hand = 0.5 * F.binary_cross_entropy(p, y) - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    assert float(loss_of(name)(logits, Targets(target))) == pytest.approx(float(by_hand))
    # Keras adds 1e-4 Σ w² to the loss: its gradient is what Adam adds.
    network, optimizer = optimizer_of(name)
    (gradient,) = torch.autograd.grad(1e-4 * network.weight.square().sum(), network.weight)
    assert type(optimizer) is torch.optim.Adam
    assert torch.allclose(optimizer.param_groups[0]["weight_decay"] * network.weight, gradient)
    assert recipes.get(name).training.lr == 3e-4
    assert recipes.get(name).training.until_flat


def test_unet_plus_plus_has_four_heads_that_weigh_alike():
    recipe = recipes.get("unet++")
    network = MODELS["unet++"](1, 2, **{**recipe.network.options, "width": 1})
    assert network.depths == (1, 2, 3, 4)
    assert recipe.loss.heads is None


@pytest.mark.parametrize("name", RELEASED)
def test_the_dice_of_the_code_of_the_attention_unet(name):
    logits, target, _ = two_classes()
    p, y = logits.softmax(dim=1).flatten(2), F.one_hot(target, 2).movedim(-1, 1).double().flatten(2)
    inter, union = (p * y).sum(dim=2) + 0.01, p.sum(dim=2) + y.sum(dim=2) + 0.01
    by_hand = 1 - (2 * inter / union).sum() / 6
    assert float(loss_of(name)(logits, Targets(target))) == pytest.approx(float(by_hand))


@pytest.mark.parametrize("name", ["unet-2015", "unet-2015-same"])
class TestUNet2015:
    def test_gradient_descent_with_high_momentum_one_patch_at_a_time(self, name):
        _, optimizer = optimizer_of(name)
        assert type(optimizer) is torch.optim.SGD
        assert optimizer.param_groups[0]["momentum"] == 0.99
        assert recipes.get(name).training.batch == 1

    def test_every_patch_is_turned_and_deformed_by_10_px_and_keeps_its_scale(self, name):
        recipe, side = recipes.get(name), 388
        geometry = PatchGeometry((side, side), (92, 92))
        draws = [draw_sample(0, n, [(600, 600)], geometry, recipe.augmentation) for n in range(200)]
        assert all(d.warp is not None and d.warp.scales == (1.0, 1.0) for d in draws)
        angles = [math.degrees(d.warp.angles[0]) for d in draws]
        assert min(angles) < -150
        assert max(angles) > 150
        assert min(recipe.augmentation.elastic, MOST_ELASTIC * (geometry.read[0] - 1) / 2) == 10
        assert len({d.look.gamma for d in draws}) > 20

    def test_the_loss_is_the_weighted_cross_entropy_alone(self, name):
        recipe = recipes.get(name)
        ids = torch.zeros(1, 12, 60, dtype=torch.int64)
        ids[0, 2:10, 2:10], ids[0, 2:10, 10:18] = 1, 2
        labels = torch.stack([ids, (ids > 0).long()], dim=1)
        task = Task("instances", 2, recipe.instances.target)
        targets = make_targets(labels, None, task, recipe.instances, None, (0.6, 3.0))
        logits = torch.randn((1, 2, 12, 60), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        pixels = F.cross_entropy(logits, targets.classes, reduction="none")
        assert float(loss_of(name)(logits, targets)) == pytest.approx(float((pixels * targets.weight).mean()))
        assert targets.weight[0, 0, 59] == pytest.approx(0.6)  # far from all: w_c of background
        assert targets.weight[0, 5, 5] == pytest.approx(3)
        assert targets.weight[0, 5, 10] == pytest.approx(0.6 + 10 * math.exp(-9 / 50))  # the line is 2 px wide there

    def test_seven_copies_predict(self, name):
        prediction = recipes.get(name).prediction
        copies = symmetries(prediction.augment, 2, rotations=prediction.rotations)
        assert len(set(copies)) == 7
