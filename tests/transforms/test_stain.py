"""Stain jitter against scikit-image's stain matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import hed_from_rgb, rgb_from_hed

from biomask.errors import SizeError
from biomask.transforms import stain_jitter
from biomask.transforms.stain import STAINS


def slide(amounts: np.ndarray) -> np.ndarray:
    """Colours, share of white, of amounts (B, 3, *S) of the three stains."""
    return np.exp(-np.einsum("bs...,sc->bc...", amounts, rgb_from_hed))


def test_the_matrix_is_ruifrok_and_johnstons() -> None:
    np.testing.assert_allclose(STAINS, rgb_from_hed)
    np.testing.assert_allclose(np.linalg.inv(STAINS), hed_from_rgb)


@pytest.mark.parametrize("size", [(20, 20), (4, 8, 8)])
@pytest.mark.parametrize("channelwise", [False, True])
def test_amounts_are_multiplied_and_shifted(size: tuple[int, ...], channelwise: bool) -> None:
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0, 0.8, (3, 3, *size))
    gains, offsets = rng.uniform(0.7, 1.4, (3, 3)), rng.uniform(-0.05, 0.1, (3, 3))
    wide = (3, 3, *[1] * len(size))
    expected = slide(amounts * gains.reshape(wide) + offsets.reshape(wide))
    low = rng.normal(size=(3, 3) if channelwise else (3, 1))
    high = low + rng.uniform(1, 4, low.shape)

    def normalised(light: np.ndarray) -> torch.Tensor:
        shape = (*low.shape, *[1] * len(size))
        return torch.from_numpy(light * (high - low).reshape(shape) + low.reshape(shape)).float()

    ends = [torch.from_numpy(e if channelwise else e[:, 0]).float() for e in (low, high)]
    found = stain_jitter(normalised(slide(amounts)), torch.from_numpy(gains), torch.from_numpy(offsets), *ends)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, normalised(expected), atol=1e-4, rtol=0)


def test_gain_one_and_offset_zero_change_nothing_even_beyond_black_and_white() -> None:
    images = torch.rand(4, 3, 30, 30, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.3
    images[0, :, 0, 0], images[0, :, 0, 1] = 0.0, 1.0
    same = stain_jitter(images, torch.ones(4, 3), torch.zeros(4, 3), torch.zeros(4), torch.ones(4))
    torch.testing.assert_close(same, images, atol=1e-4, rtol=0)


def test_white_stays_white_and_more_haematoxylin_is_darker() -> None:
    white = torch.ones(1, 3, 4, 4)
    gains = torch.tensor([[1.5, 1.0, 1.0]])
    ends = torch.zeros(1), torch.ones(1)
    torch.testing.assert_close(stain_jitter(white, gains, torch.zeros(1, 3), *ends), white)
    blue = torch.from_numpy(slide(np.array([0.6, 0.1, 0.0]).reshape(1, 3, 1, 1))).float()
    assert (stain_jitter(blue, gains, torch.zeros(1, 3), *ends) < blue).all()


def test_a_constant_patch_stays_what_it_is() -> None:
    images = torch.full((1, 3, 4, 4), -1.5)
    found = stain_jitter(images, torch.full((1, 3), 1.3), torch.full((1, 3), 0.1), torch.full((1,), -1.5), torch.full((1,), -1.5))
    torch.testing.assert_close(found, images)


def test_other_than_three_channels_are_refused() -> None:
    with pytest.raises(SizeError, match="1 channels"):
        stain_jitter(torch.zeros(1, 1, 4, 4), torch.ones(1, 3), torch.zeros(1, 3), torch.zeros(1), torch.ones(1))
