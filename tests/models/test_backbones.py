"""Residual networks: published counts, names, sizes, and what is frozen."""

import pytest
import torch
from torch import nn

from biomask.errors import SizeError
from biomask.models.backbones import BACKBONES, FrozenBatchNorm, ResNet, conv_norm, res5
from biomask.models.blocks import parameter_count


@pytest.mark.parametrize(("name", "count", "classifier"), [
    ("resnet18", 11_689_512, 512 * 1000 + 1000), ("resnet50", 25_557_032, 2048 * 1000 + 1000),
    ("resnet101", 44_549_160, 2048 * 1000 + 1000), ("resnext101-32x8d", 88_791_336, 2048 * 1000 + 1000),
    ("resnext101-64x4d", 83_455_272, 2048 * 1000 + 1000)])
def test_parameters_with_the_classifier_are_the_published_ones(name, count, classifier):
    with torch.device("meta"):
        batch, frozen, none = (ResNet(name, norm=norm) for norm in ("batch", "frozen", "none"))
    assert parameter_count(batch) + classifier == count
    norms = sum(p.numel() for m in batch.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    assert parameter_count(frozen) == parameter_count(batch) - norms
    assert parameter_count(none) == parameter_count(batch) - norms // 2  # a bias instead of a scale and a shift


@pytest.mark.parametrize("name", BACKBONES)
def test_sizes_of_the_stages_at_any_width_and_channels(name):
    network = ResNet(name, in_channels=2, width=4).eval()
    with torch.no_grad():
        out = network(torch.zeros(1, 2, 70, 101))
    factor = 1 if name == "resnet18" else 4
    assert network.channels == (4 * factor, 8 * factor, 16 * factor, 32 * factor)
    assert list(out) == ["0", "1", "2", "3"]
    for x, channels, stride in zip(out.values(), network.channels, network.strides, strict=True):
        assert x.shape == (1, channels, -(-70 // stride), -(-101 // stride))


def test_three_stages_and_the_fourth_apart_are_the_whole():
    whole, three, fourth = ResNet("resnet50", width=4), ResNet("resnet50", width=4, stages=3), res5("resnet50", width=4, stride=2)
    state = whole.state_dict()
    three.load_state_dict({k: v for k, v in state.items() if not k.startswith("layer4.")})
    fourth.load_state_dict({k.removeprefix("layer4."): v for k, v in state.items() if k.startswith("layer4.")})
    x = torch.randn(2, 3, 40, 48)
    with torch.no_grad():
        torch.testing.assert_close(fourth(three(x)["2"]), whole(x)["3"])
        assert res5("resnet50", width=4)(torch.zeros(3, 64, 7, 7)).shape == (3, 128, 7, 7)


def random_statistics(norm):
    for name, low in (("weight", 0.5), ("bias", -1.0), ("running_mean", -1.0), ("running_var", 0.2)):
        getattr(norm, name).data.uniform_(low, 2.0)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.3])
def test_frozen_normalisation_is_the_formula_folded_or_not(eps):
    norm, conv, x = FrozenBatchNorm(4, eps=eps), nn.Conv2d(3, 4, 3, bias=False), torch.randn(2, 3, 9, 9)
    random_statistics(norm)
    y = conv(x)
    mean, var, weight, bias = (t[None, :, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    expected = (y - mean) / torch.sqrt(var + eps) * weight + bias
    torch.testing.assert_close(norm(y), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(conv_norm(conv, norm, x), expected, atol=1e-5, rtol=1e-5)
    assert not list(norm.parameters())


def test_batch_normalisation_is_folded_in_prediction_alone():
    norm, conv, x = nn.BatchNorm2d(4), nn.Conv2d(3, 4, 3, bias=False), torch.randn(2, 3, 9, 9)
    random_statistics(norm)
    with torch.no_grad():
        torch.testing.assert_close(conv_norm(conv, norm.eval(), x), norm(conv(x)), atol=1e-5, rtol=1e-5)
        assert norm.num_batches_tracked == 0
        means = conv_norm(conv, norm.train(), x).mean(dim=(0, 2, 3))
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(means, norm.bias.detach(), atol=1e-5, rtol=1e-5)


def test_gradients_of_a_folded_convolution_are_those_of_the_pair():
    norm, conv, x = FrozenBatchNorm(4), nn.Conv2d(3, 4, 3, bias=False), torch.randn(2, 3, 9, 9)
    random_statistics(norm)
    folded, apart = (torch.autograd.grad(y.square().sum(), conv.weight)[0] for y in (conv_norm(conv, norm, x), norm(conv(x))))
    torch.testing.assert_close(folded, apart, atol=1e-3, rtol=1e-4)


def test_frozen_normalisation_takes_the_state_of_a_trained_one():
    trained = ResNet("resnet18", width=4, norm="batch")
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            random_statistics(module)
    state = trained.state_dict()
    frozen = ResNet("resnet18", width=4)
    frozen.load_state_dict(state)
    assert "bn1.num_batches_tracked" in state
    assert "bn1.num_batches_tracked" not in frozen.state_dict()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(frozen(x), trained.eval()(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("trainable", range(6))
def test_what_is_not_trained_keeps_weights_and_statistics(trainable):
    network = ResNet("resnet18", width=2, norm="batch", trainable=trainable)
    parts = ["layer4", "layer3", "layer2", "layer1", "conv1", "bn1"]
    trained = set(parts[:trainable] if trainable < 5 else parts)
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad} == trained
    before = {name: b.clone() for name, b in network.named_buffers() if name.endswith("running_mean")}
    network.train()(torch.randn(2, 3, 64, 64))
    assert {name.split(".")[0] for name, b in network.named_buffers() if name in before and not torch.equal(b, before[name])} \
        == trained - {"conv1"}


def test_initial_weights_follow_the_fan_out():
    network = ResNet("resnet18", width=32)
    weight = network.layer4[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)


def test_without_normalisation_every_block_starts_as_the_identity():
    network = ResNet("resnet50", width=4, norm="none")
    x = torch.randn(1, 16, 8, 8).abs()
    with torch.no_grad():
        assert torch.equal(network.layer1[1](x), x)
        assert network(torch.randn(1, 3, 64, 64))["3"].isfinite().all()


@pytest.mark.parametrize("norm", ["frozen", "batch", "none"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_gradients_predict_what_a_step_changes(name, norm):
    generator = torch.Generator().manual_seed(1)
    network = ResNet(name, width=2, norm=norm).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.2)
    x = torch.randn(2, 3, 40, 40, generator=generator, dtype=torch.float64)

    def total():
        return sum(y.square().mean() for y in network(x).values())

    before = total()
    gradients = torch.autograd.grad(before, list(network.parameters()))
    directions = [torch.randn(g.shape, generator=generator, dtype=torch.float64) for g in gradients]
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    ends = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, direction in zip(network.parameters(), directions, strict=True):
                parameter.add_(direction, alpha=step)
            ends.append(total())
    assert slope.abs() > 1e-6
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-6, slope.detach(), rtol=1e-3, atol=1e-7)


def test_wrong_choices_are_named():
    for options, named in ({"name": "resnet34"}, "resnet34"), ({"norm": "group"}, "group"), ({"width": 0}, "width=0"), \
            ({"trainable": 6}, "trainable=6"), ({"stages": 5}, "stages=5"):
        with pytest.raises(SizeError, match=named):
            ResNet(**({"name": "resnet18"} | options))
    with pytest.raises(SizeError, match="C = 3"):
        ResNet("resnet18", width=2)(torch.zeros(1, 1, 32, 32))
