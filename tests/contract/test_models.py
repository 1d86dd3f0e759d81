"""What every entry of MODELS keeps, so that tiling, training and export can rely on it."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from biomask.errors import SizeError, UsageError
from biomask.models import MODELS, Network
from biomask.prediction import geometry_of, predict_array
from biomask.prediction.overlap_tile import predict_tiles, tiling_difference

SMALL = {"width": 2, "depth": 2, "hidden": 3}

#: Of images alone.
FLAT = {"fcn", "sliding-window"}

#: Forms of networks that differ in what they depend on or return.
FORMS = [
    *((name, {}) for name in sorted(MODELS)),
    ("unet", {"padding": "valid"}), ("unet", {"up_width": 3}), ("unet", {"up": "nearest-conv", "norm": "batch"}),
    ("unet++", {"deep_supervision": True}), ("unet++", {"deep_supervision": True, "mode": "fast"}), ("unet++", {"pad_depth": 3}),
    ("unet++", {"up": "aligned", "norm": "batch"}), ("unet-padded", {"bilinear": True}),
    ("grid-attention-unet", {"gates": 0}), ("grid-attention-unet", {"gates": 2}), ("fcn", {"stride": 16}), ("fcn", {"stride": 32}),
]

EVERY = [pytest.param(name, dims, options, id=f"{name}-{dims}d-{'-'.join(f'{k}={v}' for k, v in options.items()) or 'default'}")
         for name, options in FORMS for dims in ((2,) if name in FLAT else (2, 3))]
FLAT_FORMS = [p for p in EVERY if p.values[1] == 2]


def make(name: str, dims: int, options: dict) -> nn.Module:
    """A small network."""
    accepted = inspect.signature(MODELS[name]).parameters
    return MODELS[name](2, 3, spatial_dims=dims, **{k: v for k, v in SMALL.items() if k in accepted}, **options)


def build(name: str, dims: int, options: dict, seed: int = 0) -> nn.Module:
    """The same with every weight and statistic random: none is zero by design."""
    torch.manual_seed(seed)
    network = make(name, dims, options)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.is_floating_point() and not value.any():
                value.normal_(0, 0.2)
    return network


def final(out: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    return out[-1] if isinstance(out, tuple) else out


@pytest.mark.parametrize(("name", "dims", "options"), EVERY)
class TestEveryNetwork:
    def test_declares_the_contract(self, name, dims, options):
        network = build(name, dims, options)
        assert isinstance(network, Network)
        assert (network.in_channels, network.classes, network.spatial_dims) == (2, 3, dims)
        for attribute in (network.strides, network.halo, network.margin):
            assert len(attribute) == dims
            assert all(isinstance(v, int) and v >= 0 for v in attribute)
        assert all(h % s == 0 for h, s in zip(network.halo, network.strides, strict=True))
        assert not any(h and m for h, m in zip(network.halo, network.margin, strict=True))

    def test_gives_logits_smaller_by_the_margin(self, name, dims, options):
        network = build(name, dims, options)
        size = [g.legal_size(24) for g in geometry_of(network)]
        for mode in (True, False):
            with torch.no_grad():
                out = network.train(mode)(torch.randn(2, 2, *size))
            for logits in out if isinstance(out, tuple) else (out,):
                assert logits.dtype == torch.float32
                assert logits.shape == (2, 3, *(n - 2 * m for n, m in zip(size, network.margin, strict=True)))
                assert torch.isfinite(logits).all()

    def test_every_parameter_learns(self, name, dims, options):
        network = build(name, dims, options).train()
        out = network(torch.randn(2, 2, *[g.legal_size(16) for g in geometry_of(network)]))
        sum(o.square().sum() for o in (out if isinstance(out, tuple) else (out,))).backward()
        assert [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []

    def test_tiled_equals_untiled(self, name, dims, options):
        network = build(name, dims, options).eval()
        image = np.random.default_rng(0).standard_normal((2, 50, 33) if dims == 2 else (2, 20, 17, 37)).astype(np.float32)
        tile = 16 if dims == 2 else (16, 32, 16)
        if not network.exact_tiling:
            with pytest.raises(UsageError, match="cannot be tiled exactly"):
                predict_array(network, image, tile=tile)
            self._tiles_are_near(network)
            return
        whole = predict_array(network, image)
        tiled = predict_array(network, image, tile=tile)
        assert np.abs(tiled - whole).max() <= 1e-5 * np.abs(whole).max()

    def _tiles_are_near(self, network):
        """Where they are let to: each pixel comes once, and what is measured on one tile is about what all differ by."""
        stride, halo = network.strides[-1], network.halo[-1]
        size = [16] * (network.spatial_dims - 1) + [3 * halo + 5 * stride + 3]  # longer than what a pixel sees
        image = np.random.default_rng(0).standard_normal((2, *size)).astype(np.float32)
        tile = (*size[:-1], 2 * stride)
        whole, tiled = predict_array(network, image), np.full((3, *size), np.nan, np.float32)
        for part, logits in predict_tiles(network, image, tile, approximate=True):
            tiled[(slice(None), *part.write)] = logits.numpy()
        real = np.abs(tiled - whole).max()
        assert 0 < real < np.abs(whole).max()
        assert 0 < tiling_difference(network, image, tile, lambda logits: logits) < 10 * real

    def test_state_travels(self, name, dims, options):
        network, other = build(name, dims, options).eval(), build(name, dims, options, seed=1).eval()
        x = torch.randn(1, 2, *[g.legal_size(16) for g in geometry_of(network)])
        with torch.no_grad():
            assert not torch.equal(network(x), other(x))
            other.load_state_dict(network.state_dict())
            assert torch.equal(network(x), other(x))

    def test_is_built_without_memory(self, name, dims, options):
        """As the model file does: all that is not in the state dict has to come from the constructor."""
        network = build(name, dims, options).eval()
        with torch.device("meta"):
            ghost = make(name, dims, options).eval()
        assert (ghost.strides, ghost.halo, ghost.margin) == (network.strides, network.halo, network.margin)
        ghost.load_state_dict(network.state_dict(), assign=True)
        x = torch.randn(1, 2, *[g.legal_size(16) for g in geometry_of(network)])
        with torch.no_grad():
            assert torch.equal(network(x), ghost(x))


@pytest.mark.parametrize(("name", "dims", "options"), FLAT_FORMS)
def test_a_changed_pixel_changes_only_tiles_that_read_it(name, dims, options):
    """Halo and margin, seen from outside."""
    network = build(name, dims, options).double().eval()
    if not network.exact_tiling:
        pytest.skip("has no halo that is enough")
    stride, halo, margin = network.strides[1], network.halo[1], network.margin[1]
    size = network.legal_size(2 * (halo + margin + stride) + stride, 1)
    x = torch.randn(1, 2, network.legal_size(1, 0), size, dtype=torch.float64)
    with torch.no_grad():
        before = final(network(x))
        for phase in {0, stride // 2, stride - 1}:
            pixel = (size // 2) // stride * stride + phase
            changed = x.clone()
            changed[..., pixel] += 3
            difference = (final(network(changed)) - before).abs().amax((0, 1, 2))
            moved = (difference > 1e-12 * before.abs().max()).nonzero().flatten() + margin  # in the input's frame
            assert len(moved)
            first = moved // stride * stride if not margin else moved  # of the tile that a moved pixel lies in
            last = first + (stride - 1 if not margin else 0)
            assert (first - halo - margin <= pixel).all()
            assert (last + halo + margin >= pixel).all()


@pytest.mark.parametrize(("name", "dims", "options"), FLAT_FORMS)
def test_declared_dependency_is_the_gradients(name, dims, options, monkeypatch):
    """With every ReLU smooth and every maximum a mean, all that can count does."""
    network = build(name, dims, options).double().eval()
    if name == "sliding-window" or not network.exact_tiling or any(network.margin):
        pytest.skip("the halo has no closed form, or is a margin (tests of these networks)")
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: F.softplus(x))
    monkeypatch.setattr(torch, "relu", F.softplus)
    monkeypatch.setattr(nn.MaxPool2d, "forward", lambda self, x: F.avg_pool2d(x, self.kernel_size))
    stride, halo = network.strides[1], network.halo[1]
    size = network.legal_size(2 * (halo + stride) + stride, 1)
    for phase in {0, 1 % stride, stride // 2, stride - 1}:
        pixel = (size // 2) // stride * stride + phase
        x = torch.randn(1, 2, stride, size, dtype=torch.float64, requires_grad=True)
        final(network(x))[0, :, 0, pixel].sum().backward()
        reached = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
        assert (int(reached.min()), int(reached.max())) == network.depends_on((pixel, pixel), 1)


@pytest.mark.parametrize(("name", "options"), FORMS)
@pytest.mark.parametrize("size", [(1, 1), (17, 40)])
def test_any_size_is_taken_or_the_legal_one_named(name, options, size):
    network = build(name, 2, options).eval()
    x = torch.zeros(1, 2, *size)
    if any(network.margin):
        with pytest.raises(SizeError, match=r"biomask\.prediction"):
            network(x)
        return
    with torch.no_grad():
        assert network(x).shape == (1, 3, *size)
    assert all(network.legal_size(n, axis) >= n for axis, n in enumerate(size))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_wrong_input_is_named(name):
    with pytest.raises(SizeError, match=r"C = 2, got \(1, 3, 16, 16\)"):
        build(name, 2, {})(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("name", sorted(FLAT))
def test_networks_of_images_refuse_volumes(name):
    with pytest.raises(SizeError, match="volumes"):
        MODELS[name](1, 2, spatial_dims=3)


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"one-layer"}))
@pytest.mark.parametrize("width", [0, -1, 1.5, "8"])
def test_a_width_that_cannot_be_is_refused(name, width):
    with pytest.raises((SizeError, TypeError)):
        MODELS[name](1, 2, width=width)


#: Steps and rate with which an eighth of the width learns four images by heart.
PLENTY = {"sliding-window": (60, 1e-2), "fcn": (80, 3e-3), "one-layer": (60, 1e-1), "grid-attention-unet": (60, 1e-2)}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_learns_four_small_images_by_heart(name):
    torch.manual_seed(0)
    width = {"unet++": 4, "grid-attention-unet": 2, "sliding-window": 6}.get(name, 8)
    options = {} if name == "one-layer" else {"width": width}
    network = MODELS[name](1, 2, spatial_dims=2, **options).train()
    margin = network.margin[0]
    truth = torch.zeros(4, 64, 64, dtype=torch.long)
    for k in range(4):
        truth[k, 8 * k : 8 * k + 32, 16 : 64 - 4 * k] = 1
    if margin:
        truth = truth[:, :32, :32]  # the window around it is large enough
    image = F.pad(truth[:, None] + 0.3 * torch.randn(4, 1, *truth.shape[1:]), [margin] * 4, mode="replicate")
    steps, rate = PLENTY.get(name, (60, 3e-3))
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        out = network(image)
        loss = torch.stack([F.cross_entropy(o, truth) for o in (out if isinstance(out, tuple) else (out,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (final(network(image)).argmax(1) == truth).float().mean() > 0.95
