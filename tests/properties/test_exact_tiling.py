"""Tiled = untiled: the promise of the overlap-tile strategy, over sizes, depths, paddings and dimensions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.models import OneLayer, UNet
from biomask.prediction import geometry_of, predict_array

KINDS = {
    "same": {}, "same, batch norm": {"norm": "batch", "bias": False}, "same, nearest": {"up": "nearest"},
    "same, bilinear": {"up": "bilinear"}, "valid": {"padding": "valid"}, "valid, nearest": {"padding": "valid", "up": "nearest"},
}


def network_of(kind: str, depth: int, dims: int = 2, **options) -> UNet:
    torch.manual_seed(depth)
    network = UNet(1, 3, width=3, depth=depth, spatial_dims=dims, **KINDS[kind], **options).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(network.head.bias)  # classes differ even where every ReLU is dead, as on images of few pixels
    return network


def assert_same(network: torch.nn.Module, image: np.ndarray, tile: tuple[int, ...]) -> None:
    whole, tiled = predict_array(network, image), predict_array(network, image, tile=tile)
    assert whole.shape == tiled.shape == (3, *image.shape[1:])
    assert np.abs(tiled - whole).max() <= 1e-5 * max(1e-6, np.abs(whole).max())
    # Where two classes tie within rounding either answer is right; everywhere else the masks are identical.
    ordered = np.sort(whole, axis=0)
    clear = ordered[-1] - ordered[-2] > 2e-5 * np.abs(whole).max()
    assert (tiled.argmax(0) == whole.argmax(0))[clear].all()
    assert clear.mean() > 0.9


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), depth=st.integers(0, 4), size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
       tile=st.tuples(st.integers(1, 120), st.integers(1, 120)), seed=st.integers(0, 9))
def test_in_two_dimensions(kind, depth, size, tile, seed):
    image = np.random.default_rng(seed).standard_normal((1, *size)).astype(np.float32)
    stride = 2**depth
    tile = tuple(max(t, 2 * stride, n // 4) for t, n in zip(tile, size, strict=True))  # no thousands of tiles
    assert_same(network_of(kind, depth), image, tile)


@settings(max_examples=12, deadline=None)
@given(kind=st.sampled_from(["same", "same, batch norm", "same, bilinear", "valid"]), depth=st.integers(0, 2),
       size=st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 40)), tile=st.tuples(*[st.integers(8, 32)] * 3))
def test_in_three_dimensions(kind, depth, size, tile):
    image = np.random.default_rng(depth).standard_normal((1, *size)).astype(np.float32)
    assert_same(network_of(kind, depth, dims=3), image, tile)


def test_in_three_dimensions_with_thick_slices():
    network = network_of("same", 2, dims=3, scales=((1, 2, 2), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)))
    image = np.random.default_rng(0).standard_normal((1, 13, 70, 45)).astype(np.float32)
    assert_same(network, image, (4, 24, 24))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("up", ["transposed", "nearest", "bilinear"])
def test_one_stride_less_of_halo_is_too_little(depth, up):
    """The halo is not merely safe: less of it would show, so these tests would notice a mistake."""
    torch.manual_seed(depth)
    network = UNet(1, 3, width=3, depth=depth, up=up).double().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU):
            module.forward = torch.nn.functional.softplus
    geometry = geometry_of(network)[0]
    image = torch.randn(1, 1, geometry.stride, 40 * geometry.stride, dtype=torch.float64)
    first, last = 10 * geometry.stride, 10 * geometry.stride + geometry.stride

    def kept(halo: int) -> torch.Tensor:
        return network(image[..., first - halo : last + halo])[..., halo : halo + geometry.stride]

    with torch.no_grad():
        whole = network(image)[..., first:last]
        assert (kept(geometry.halo) - whole).abs().max() <= 1e-12
        assert (kept(geometry.halo - geometry.stride) - whole).abs().max() > 1e-12


def test_raw_images_are_normalised_by_the_whole_image():
    torch.manual_seed(0)
    network = OneLayer(1, 3, kernel=5).eval()
    image = np.random.default_rng(0).integers(0, 4000, (1, 61, 47)).astype(np.uint16)
    statistics = (np.array([2000.0], np.float32), np.array([800.0], np.float32))
    whole = predict_array(network, image, statistics=statistics)
    assert np.abs(predict_array(network, image, tile=10, statistics=statistics) - whole).max() <= 1e-5
    assert np.abs(predict_array(network, (image - 2000.0) / 800.0) - whole).max() <= 1e-5
