"""What every entry of MODELS keeps, so that tiling, training and export can rely on it."""

import inspect

import numpy as np
import pytest
import torch

from biomask.models import MODELS, Network
from biomask.prediction import geometry_of, predict_array

SMALL = {"width": 2, "depth": 2}


def build(name: str, dims: int, **options):
    torch.manual_seed(0)
    accepted = inspect.signature(MODELS[name]).parameters
    return MODELS[name](2, 3, spatial_dims=dims, **{k: v for k, v in SMALL.items() if k in accepted}, **options)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", sorted(MODELS))
class TestEveryNetwork:
    def test_declares_the_contract(self, name, dims):
        network = build(name, dims)
        assert isinstance(network, Network)
        assert (network.in_channels, network.classes, network.spatial_dims) == (2, 3, dims)
        for attribute in (network.strides, network.halo, network.margin):
            assert len(attribute) == dims
            assert all(isinstance(v, int) and v >= 0 for v in attribute)
        assert all(h % s == 0 for h, s in zip(network.halo, network.strides, strict=True))

    def test_gives_logits_smaller_by_the_margin(self, name, dims):
        network = build(name, dims)
        size = [g.legal_size(24) for g in geometry_of(network)]
        with torch.no_grad():
            logits = network(torch.randn(2, 2, *size))
        assert logits.dtype == torch.float32
        assert logits.shape == (2, 3, *(n - 2 * m for n, m in zip(size, network.margin, strict=True)))

    def test_every_parameter_learns(self, name, dims):
        network = build(name, dims).train()
        network(torch.randn(1, 2, *[g.legal_size(16) for g in geometry_of(network)])).square().sum().backward()
        assert [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []

    def test_tiled_equals_untiled(self, name, dims):
        network = build(name, dims).eval()
        if not network.exact_tiling:
            pytest.skip("declares that it cannot tile exactly")
        image = np.random.default_rng(0).standard_normal((2, *((37, 50, 33)[-dims:]))).astype(np.float32)
        whole = predict_array(network, image)
        tiled = predict_array(network, image, tile=16)
        assert np.abs(tiled - whole).max() <= 1e-5 * np.abs(whole).max()

    def test_state_travels(self, name, dims):
        network, other = build(name, dims).eval(), build(name, dims).eval()
        with torch.no_grad():
            for p in other.parameters():
                p.add_(1)
        other.load_state_dict(network.state_dict())
        x = torch.randn(1, 2, *[g.legal_size(16) for g in geometry_of(network)])
        with torch.no_grad():
            assert torch.equal(network(x), other(x))
