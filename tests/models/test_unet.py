"""The U-Net against the figures of the paper and of the specification (1.1-1.4, 9)."""

from math import sqrt

import pytest
import torch
from torch import nn

from biomask.errors import SizeError
from biomask.models import UNet
from biomask.models.blocks import parameter_count


def paper(**options) -> UNet:
    return UNet(**{"in_channels": 1, "classes": 2, "padding": "valid"} | options)


@pytest.mark.parametrize(("channels", "classes", "count"), [
    (1, 2, 31_030_658), (1, 1, 31_030_593), (3, 2, 31_031_810), (3, 1, 31_031_745)])
def test_parameters_of_the_paper(channels, classes, count):
    with torch.device("meta"):
        assert parameter_count(paper(in_channels=channels, classes=classes)) == count


@pytest.mark.parametrize(("depth", "count"), [(1, 402_690), (2, 1_861_762), (3, 7_696_258), (4, 31_030_658), (5, 124_361_090)])
def test_parameters_by_depth(depth, count):
    with torch.device("meta"):
        assert parameter_count(paper(depth=depth)) == count


def test_parameters_without_any_bias_and_with_batch_norm():
    with torch.device("meta"):
        network = paper(bias=False)
        biases = sum(p.numel() for n, p in network.named_parameters() if n.endswith("bias"))
        assert parameter_count(network) - biases == 31_023_808
        assert parameter_count(UNet(3, 2, norm="batch", bias=False)) == 31_037_698


def test_twenty_three_convolutions():
    convolutions = [m for m in paper(width=1).modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(convolutions) == 23


def test_every_map_has_the_size_of_figure_1():
    sizes = []
    network = paper(width=1)
    for module in [*network.encoder, *network.ups, *network.decoder]:
        module.register_forward_hook(lambda m, i, o: sizes.append(o.shape[-1]))
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert sizes == [568, 280, 136, 64, 28, 56, 52, 104, 100, 200, 196, 392, 388]


@pytest.mark.parametrize(("depth", "margin"), [(0, 4), (1, 16), (2, 40), (3, 88), (4, 184), (5, 376)])
def test_margin_of_the_unpadded_network(depth, margin):
    network = paper(width=1, depth=depth)
    assert network.margin == (margin // 2, margin // 2)
    size = network.legal_size(margin + 1, 0)
    with torch.no_grad():
        assert network(torch.zeros(1, 1, size, size)).shape[-1] == size - margin > 0


def test_unpadded_sizes_are_all_that_work():
    network = paper(width=1, depth=2)
    legal = {network.legal_size(n, 0) for n in range(1, 80)} - {80}
    for size in range(44, 80):
        if size in legal:
            assert network(torch.zeros(1, 1, size, size)).shape[-1] == size - 40
        else:
            with pytest.raises(SizeError, match=r"pad it to \(\d+, \d+\)"):
                network(torch.zeros(1, 1, size, size))


def test_every_convolution_of_the_figure_has_its_size():
    """The table of specification 1.1: 572 → 388, layer by layer."""
    network = paper(width=1)
    sizes = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(lambda m, i, o: sizes.append(o.shape[-1]))
    with torch.no_grad():
        network(torch.zeros(1, 1, 572, 572))
    assert sizes == [570, 568, 282, 280, 138, 136, 66, 64, 30, 28, 56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388]


def test_skips_are_cropped_by_4_16_40_and_88():
    network = paper(width=1)
    skips, joined = [], []
    for module in network.encoder:
        module.register_forward_hook(lambda m, i, o: skips.append(o.shape[-1]))
    for module in network.decoder:
        module.register_forward_hook(lambda m, i, o: joined.append(i[0].shape[-1]))
    with torch.no_grad():
        network(torch.zeros(1, 1, 572, 572))
    assert [(s - j) // 2 for s, j in zip(reversed(skips[:-1]), joined, strict=True)] == [4, 16, 40, 88]


@pytest.mark.parametrize("options", [{"padding": "valid"}, {"norm": "batch"}, {"up": "nearest"}, {"up": "nearest-conv"}])
def test_variance_of_activations_stays_near_1_through_depth(options):
    """Of each convolution: what comes out over twice the mean square of what went in, 1 by the choice of √(2 / fan-in)."""
    torch.manual_seed(0)
    network = UNet(1, 2, width=16, depth=4, **options)
    gains = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.out_channels > 2:
            module.register_forward_hook(lambda m, i, o: gains.append((o.square().mean() / (2 * i[0].square().mean())).item()))
    with torch.no_grad():
        network(torch.randn(2, 1, network.legal_size(200, 0), network.legal_size(200, 0)))
    assert len(gains) == 22
    assert all(0.4 < g < 2.5 for g in gains)
    assert sum(gains) / len(gains) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(("up", "needed"), [
    ("transposed", {1: 8, 2: 22, 3: 46, 4: 94, 5: 190}), ("nearest", {1: 8, 2: 22, 3: 46, 4: 94, 5: 190}),
    ("bilinear", {1: 10, 2: 26, 3: 54, 4: 110, 5: 222})])
def test_halo_is_the_specification_rounded_to_the_stride(up, needed):
    for depth, pixels in needed.items():
        network = UNet(1, 2, width=1, depth=depth, up=up)
        first, last = network.depends_on((0, 2**depth - 1), 0)
        assert max(-first, last - (2**depth - 1)) == pixels
        assert network.halo == (-(-pixels // 2**depth) * 2**depth,) * 2


@pytest.mark.parametrize("up", ["transposed", "nearest", "bilinear"])
def test_declared_dependency_is_the_gradients(up):
    network = UNet(1, 1, width=2, depth=2, up=up).double().eval()
    for m in network.modules():
        if isinstance(m, nn.ReLU):
            m.inplace = False
            m.forward = lambda x: nn.functional.softplus(x)  # no dead paths
        elif isinstance(m, nn.MaxPool2d):
            m.forward = lambda x: nn.functional.avg_pool2d(x, 2)
    for pixel in range(64, 68):
        x = torch.randn(1, 1, 4, 136, dtype=torch.float64, requires_grad=True)
        network(x)[0, 0, 0, pixel].backward()
        reached = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
        assert (int(reached.min()), int(reached.max())) == network.depends_on((pixel, pixel), 1)


@pytest.mark.parametrize("size", [(1, 1), (5, 16), (17, 31), (33, 64)])
@pytest.mark.parametrize("up", ["transposed", "nearest", "bilinear"])
def test_same_padding_keeps_any_size(size, up):
    with torch.no_grad():
        assert UNet(2, 3, width=2, depth=3, up=up)(torch.zeros(2, 2, *size)).shape == (2, 3, *size)


def test_three_dimensions_with_thick_slices():
    network = UNet(1, 2, width=2, depth=2, spatial_dims=3, scales=((1, 2, 2), (2, 2, 2)), kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)))
    assert network.strides == (2, 4, 4)
    assert network.halo[0] < network.halo[1]
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 5, 21, 16)).shape == (1, 2, 5, 21, 16)
        solid = UNet(1, 2, width=1, depth=2, spatial_dims=3, padding="valid")
        assert solid(torch.zeros(1, 1, 44, 44, 48)).shape == (1, 2, 4, 4, 8)


def test_initial_weights_have_the_papers_deviation():
    torch.manual_seed(0)
    network = UNet(1, 2, width=64, depth=2)
    second = network.encoder[0][2]
    assert second.weight.std().item() == pytest.approx(sqrt(2 / (9 * 64)), rel=0.02)
    assert network.ups[0].conv.weight.std().item() == pytest.approx(sqrt(2 / 128), rel=0.02)
    assert not second.bias.any()


def test_dropout_is_at_the_end_of_the_contracting_path():
    network = UNet(1, 2, width=4, depth=3, dropout=0.5).train()
    shapes = []
    network.dropout.register_forward_hook(lambda m, i, o: shapes.append(o.shape[-1]))
    x = torch.randn(1, 1, 32, 32)
    assert not torch.equal(network(x), network(x))
    assert shapes == [8, 4] * 2
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize("options", [
    {"padding": "full"}, {"norm": "instance"}, {"up": "cubic"}, {"spatial_dims": 4}, {"depth": -1}, {"depth": 99}, {"width": 0},
    {"scales": ((2, 2),)}, {"kernels": ((2, 2),) * 5}, {"padding": "valid", "up": "bilinear"},
    {"padding": "valid", "up": "nearest-conv"}, {"up_width": 0}])
def test_choices_that_do_not_exist_are_refused(options):
    with pytest.raises(SizeError):
        UNet(1, 2, **options)


def test_wrong_input_is_named():
    with pytest.raises(SizeError, match=r"C = 1, got \(1, 3, 16, 16\)"):
        UNet(1, 2, width=1, depth=1)(torch.zeros(1, 3, 16, 16))
