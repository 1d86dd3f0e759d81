"""Changes of grey values against scipy and plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from biomask.errors import SizeError
from biomask.transforms import brightness_contrast, gamma, gaussian_blur, gaussian_noise, grey_field, low_resolution, spread

SIZES = [(24, 31), (6, 15, 12)]


def pictures(size: tuple[int, ...], channels: int = 2, count: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(len(size)))


@pytest.mark.parametrize("size", SIZES)
def test_brightness_and_contrast(size: tuple[int, ...]) -> None:
    images = pictures(size)
    found = brightness_contrast(images, torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.0, 1.0, -1.0]))
    assert torch.equal(found[0], images[0])
    torch.testing.assert_close(found[1], 2 * images[1] + 1)
    each = brightness_contrast(images, torch.tensor([[1.0, 2.0]] * 3), torch.tensor([[3.0, 0.0]] * 3))
    torch.testing.assert_close(each[:, 0], images[:, 0] + 3)
    torch.testing.assert_close(each[:, 1], 2 * images[:, 1])


@pytest.mark.parametrize("size", SIZES)
def test_gamma_keeps_the_range_and_follows_the_formula(size: tuple[int, ...]) -> None:
    images = pictures(size)
    found = gamma(images, torch.tensor([1.0, 2.5, 0.6]), invert=torch.tensor([False, False, True]))
    assert torch.equal(found[0], images[0])
    for b, exponent, turned in ((1, 2.5, False), (2, 0.6, True)):
        for values, changed in zip(images[b].double().numpy(), found[b].numpy()):
            low, span = values.min(), values.max() - values.min()
            x = (values - low) / span
            expected = 1 - (1 - x) ** exponent if turned else x**exponent
            np.testing.assert_allclose(changed, expected * span + low, atol=1e-5)
            assert changed.min() == pytest.approx(values.min(), abs=1e-5)
            assert changed.max() == pytest.approx(values.max(), abs=1e-5)


def test_gamma_of_a_constant_image_is_that_image() -> None:
    torch.testing.assert_close(gamma(torch.full((1, 1, 4, 4), -2.0), torch.tensor([2.0])), torch.full((1, 1, 4, 4), -2.0))


@pytest.mark.parametrize("size", [*SIZES, (3, 20)])
def test_blur_equals_scipys(size: tuple[int, ...]) -> None:
    images = pictures(size)
    found = gaussian_blur(images, torch.tensor([0.0, 0.8, 2.1]))
    assert torch.equal(found[0], images[0])
    for b, sigma in ((1, 0.8), (2, 2.1)):
        for c in range(2):  # scipy calls our border "mirror", and cuts at 4 sigma too
            expected = ndimage.gaussian_filter(images[b, c].double().numpy(), sigma, mode="mirror")
            np.testing.assert_allclose(found[b, c].numpy(), expected, atol=1e-5)


def test_blur_of_each_axis_and_of_none() -> None:
    images = pictures((6, 15, 12))
    found = gaussian_blur(images, torch.tensor([[0.0, 1.5, 0.7]] * 3))
    expected = ndimage.gaussian_filter(images.double().numpy(), (0, 0, 0, 1.5, 0.7), mode="mirror")
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert torch.equal(gaussian_blur(images, torch.zeros(3)), images)


def test_noise_has_the_deviation_asked_for_and_is_the_samples_own() -> None:
    images = torch.zeros(3, 1, 200, 200)
    sigmas = torch.tensor([0.0, 0.1, 0.5])

    def drawn(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(s) for s in seeds]

    found = gaussian_noise(images, sigmas, drawn(1, 2, 3))
    assert torch.equal(found[0], images[0])
    assert found[1].std() == pytest.approx(0.1, rel=0.03)
    assert found[2].std() == pytest.approx(0.5, rel=0.03)
    assert abs(float(found[2].mean())) < 0.02
    assert torch.equal(gaussian_noise(images[2:], sigmas[2:], drawn(3))[0], found[2]), "whatever the batch"
    shared = gaussian_noise(images, torch.ones(3), drawn(7)[0])
    assert not torch.equal(shared[0], shared[1])
    with pytest.raises(SizeError, match="generators"):
        gaussian_noise(images, sigmas, drawn(1))


@pytest.mark.parametrize("size", [(24, 32), (8, 16, 12)])
def test_low_resolution(size: tuple[int, ...]) -> None:
    images = pictures(size)
    found = low_resolution(images, torch.tensor([1.0, 2.0, 4.0]))
    assert torch.equal(found[0], images[0])
    assert found.shape == images.shape
    for b, factor in ((1, 2), (2, 4)):
        small = images[b].numpy()
        for axis in range(1, 1 + len(size)):  # means of blocks, then read at the centres of the old pixels
            small = small.reshape(*small.shape[:axis], -1, factor, *small.shape[axis + 1:]).mean(axis + 1)
        at = np.meshgrid(*((np.arange(n) + 0.5) / factor - 0.5 for n in size), indexing="ij")
        for c in range(2):
            expected = ndimage.map_coordinates(small[c], at, order=1, mode="nearest")
            np.testing.assert_allclose(found[b, c].numpy(), expected, atol=1e-5)
    along = low_resolution(images, torch.full((3,), 2.0), axes=(-1,))
    steps = torch.arange(size[-1] // 2) * 2
    torch.testing.assert_close(along.sum(-1), images[..., steps].add(images[..., steps + 1]).sum(-1), atol=1e-3, rtol=0)


def test_grey_field_adds_a_smooth_field() -> None:
    images, knots = pictures((20, 20)), torch.randn(3, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grey_field(images, knots) - images, spread(knots, (20, 20)).expand(3, 2, 20, 20), atol=1e-6, rtol=0)
