"""Modules of anybody's as networks: sizes, channels and context found by trying."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from biomask.errors import SizeError, UsageError
from biomask.models import MODELS, Network, UNet
from biomask.models.own import OwnNetwork, adapt, is_own, register_own
from biomask.prediction.memory import activation_bytes
from biomask.prediction.overlap_tile import predict_array, tiling_difference


class Pooled(nn.Module):
    """A small U-Net with nothing of ours: pools `levels` times, so that sizes must be multiples of 2^levels."""

    def __init__(self, in_channels: int, classes: int, levels: int = 1, width: int = 4) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(in_channels if n == 0 else width, width, 3, padding=1) for n in range(levels + 1))
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, 2) for _ in range(levels))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for n, conv in enumerate(self.down):
            x = torch.relu(conv(F.max_pool2d(x, 2) if n else x))
            skips.append(x)
        for skip, up in zip(reversed(skips[:-1]), self.up, strict=True):
            x = up(x) + skip
        return self.head(x)


class Heads(Pooled):
    def forward(self, x):
        out = super().forward(x)
        return [out, 2 * out]


class Volume(nn.Conv3d):
    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes, 3, padding=1)


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_sizes_that_it_takes_are_found(levels):
    network = OwnNetwork(Pooled(2, 3, levels), 2, 3, 2)
    assert isinstance(network, Network)
    assert network.strides == (2**levels,) * 2
    assert network(torch.zeros(2, 2, 37, 50)).shape == (2, 3, 37, 50)
    assert network.legal_size(37, 0) == -(-37 // 2**levels) * 2**levels
    x = torch.randn(1, 2, 32, 64)
    with torch.no_grad():
        assert torch.equal(network(x), network.inner(x))


def test_several_heads_the_final_one_last():
    out = OwnNetwork(Heads(1, 2), 1, 2, 2)(torch.zeros(1, 1, 33, 32))
    assert isinstance(out, tuple)
    assert [o.shape for o in out] == [(1, 2, 33, 32)] * 2


def test_volumes():
    network = OwnNetwork(Volume(1, 2), 1, 2, 3)
    assert (network.strides, network.halo) == ((1, 1, 1), (1, 1, 1))


def test_one_that_declares_all_is_taken_as_it_is():
    network = UNet(1, 2, width=2, depth=1)
    assert adapt(network, 1, 2, 2) is network
    assert isinstance(adapt(Pooled(1, 2), 1, 2, 2), OwnNetwork)


@pytest.mark.parametrize(("module", "said"), [
    (Pooled(1, 3), "labels need 2 channels"), (nn.Conv2d(1, 2, 3), "does not keep the size"),
    (nn.Conv3d(1, 2, 1), "labels need 2 channels"), (Pooled(4, 2), "does not keep the size.* 4 channels"),
    (nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), "does not keep the size|labels need")])
def test_what_cannot_be(module, said):
    with pytest.raises(UsageError, match=said):
        OwnNetwork(module, 1, 2, 2)


def test_what_returns_no_tensors():
    class Odd(nn.Module):
        def forward(self, x):
            return {"out": x}

    with pytest.raises(UsageError, match="returns a dict"):
        OwnNetwork(Odd(), 1, 1, 2)


def test_images_that_do_not_fit_are_named():
    with pytest.raises(SizeError, match="Pooled takes"):
        OwnNetwork(Pooled(1, 2), 1, 2, 2)(torch.zeros(1, 3, 32, 32))


class TestContext:
    def test_of_plain_convolutions_is_exact(self):
        """Five 3x3 convolutions see 5 pixels each way: 8 is the first of 1, 2, 4, 8 that holds them."""
        torch.manual_seed(0)
        layers = [nn.Conv2d(1 if n == 0 else 4, 4, 3, padding=1) for n in range(4)]
        network = OwnNetwork(nn.Sequential(*layers, nn.Conv2d(4, 2, 3, padding=1)), 1, 2, 2)
        assert network.halo == (8, 8)

    def test_of_one_that_sees_everything_is_bounded(self):
        class Whole(nn.Conv2d):
            def forward(self, x):
                return super().forward(x) + x.mean((2, 3), keepdim=True)

        assert OwnNetwork(Whole(1, 1, 1), 1, 1, 2).halo == (128, 128)

    def test_tiles_are_near_and_the_difference_is_told(self):
        torch.manual_seed(0)
        network = OwnNetwork(Pooled(1, 2, 2), 1, 2, 2).eval()
        image = torch.randn(1, 90, 130, generator=torch.Generator().manual_seed(1)).numpy()
        with pytest.raises(UsageError, match="cannot be tiled exactly"):
            predict_array(network, image, tile=32)
        assert tiling_difference(network, image, (32, 32), lambda x: x.softmax(0)) < 1e-4
        assert tiling_difference(network, image, (90, 130), lambda x: x.softmax(0)) is None

    def test_the_difference_sees_a_network_that_looks_at_the_whole_image(self):
        class Whole(nn.Conv2d):
            def forward(self, x):
                return super().forward(x) + torch.cat([x.mean((2, 3), keepdim=True), 0 * x[:, :1, :1, :1]], 1)

        network = OwnNetwork(Whole(1, 2, 1), 1, 2, 2).eval()
        image = torch.linspace(0, 2, 1000).square()[None, None].expand(1, 300, 1000).numpy()
        assert tiling_difference(network, image, (64, 64), lambda x: x.softmax(0)) > 0.005


class TestRegister:
    def test_a_class_with_options(self):
        name = register_own(Pooled)
        assert is_own(name)
        assert name.endswith(":Pooled")
        assert MODELS[name](1, 2, spatial_dims=2, levels=2, width=3).strides == (4, 4)
        with pytest.raises(UsageError, match="takes neither"):
            MODELS[name](1, 2, spatial_dims=2, colour="red")
        del MODELS[name]

    def test_a_module_is_copied_as_it_is(self):
        module = Pooled(1, 2)
        name = register_own(module)
        one, other = MODELS[name](1, 2, spatial_dims=2), MODELS[name](1, 2, spatial_dims=2)
        for key, value in module.state_dict().items():
            assert torch.equal(one.state_dict()[f"inner.{key}"], value)
        with torch.no_grad():
            next(one.parameters()).zero_()
        assert torch.equal(next(other.parameters()), next(module.parameters()))
        del MODELS[name]

    def test_a_function_without_arguments(self):
        name = register_own(lambda: Pooled(1, 2))
        assert MODELS[name](1, 2, spatial_dims=2).strides == (2, 2)
        del MODELS[name]

    def test_a_function_of_something_else(self):
        name = register_own(lambda: 3)
        with pytest.raises(UsageError, match=r"not a torch\.nn\.Module"):
            MODELS[name](1, 2, spatial_dims=2)
        del MODELS[name]


def test_memory_is_counted_by_running_it():
    """A module that asks for values would fail on tensors without any."""
    class Asks(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * (2.0 if float(x.sum()) > 0 else 1.0)

    network = OwnNetwork(Asks(1, 8, 3, padding=1), 1, 8, 2).eval()
    assert activation_bytes(network, (64, 64)) >= 4 * 9 * 64 * 64
