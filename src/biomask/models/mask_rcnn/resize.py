"""Images to the size and scale that a detector was trained at, and what it found back to theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biomask.errors import SizeError
from biomask.losses.precision import at_least_float32

#: Means and standard deviations of ImageNet's red, green and blue, of values 0..1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: The sides of a batch are multiples of the coarsest stride.
STRIDE = 32
#: No side is made longer than this, px: what a model file says may be a mistake, or meant to fill the memory.
LARGEST = 2**14


@dataclass(frozen=True)
class Batch:
    """Images of several sizes as one tensor."""

    images: Tensor
    """(B, C, H, W) float32, channels last in memory, in which convolutions and RoIAlign are fastest; each image lies at the top
    left, zeros fill the rest."""
    sizes: list[tuple[int, int]]
    """Height and width of each image in it."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W), with the zeros."""
        return self.images.shape[-2], self.images.shape[-1]


class Resize(nn.Module):
    """Values to (x - mean) / std, sizes to `short_side` at the shorter and at most `long_side` at the longer side (bilinear).

    short_side: several = in training one is drawn for each image from torch's global generator, in prediction the largest is taken;
    None = sizes stay. long_side: None = no limit. mean, std: one of each channel, of the values that the images come in.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, short_side: int | Sequence[int] | None, long_side: int | None, mean: Sequence[float],
                 std: Sequence[float]) -> None:
        super().__init__()
        sides = () if short_side is None else (short_side,) if isinstance(short_side, int) else tuple(short_side)
        if any(not 1 <= n <= LARGEST for n in (*sides, *(() if long_side is None else (long_side,)))) or min(std) <= 0:
            raise SizeError(f"short_side={short_side} and long_side={long_side} must be from 1 to {LARGEST}, std={list(std)} "
                            "above 0")
        self.short_sides, self.long_side = sides, long_side
        for name, values in (("mean", mean), ("std", std)):  # no weights, so they are there on the meta device too
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32, device="cpu")[:, None, None], persistent=False)

    def forward(self, images: Sequence[Tensor]) -> Batch:
        """Images (C, H, W) of any sizes, floating point → one batch."""
        ready = [self._one(image) for image in images]
        sizes = [(int(x.shape[1]), int(x.shape[2])) for x in ready]
        height, width = (-(-max(side) // STRIDE) * STRIDE for side in zip(*sizes, strict=True))
        batch = ready[0].new_zeros((len(ready), ready[0].shape[0], height, width))
        for place, x in zip(batch, ready, strict=True):
            place[:, :x.shape[1], :x.shape[2]] = x
        return Batch(batch.contiguous(memory_format=torch.channels_last), sizes)

    def _one(self, image: Tensor) -> Tensor:
        x = (at_least_float32(image) - self.mean) / self.std
        size = (int(image.shape[1]), int(image.shape[2]))
        target = resized(size, self._side(), self.long_side)
        return x if target == size else F.interpolate(x[None], size=target, mode="bilinear", align_corners=False)[0]

    def _side(self) -> int | None:
        if not self.short_sides:
            return None
        if self.training and len(self.short_sides) > 1:
            return self.short_sides[int(torch.randint(len(self.short_sides), ()))]
        return max(self.short_sides)


def resized(size: tuple[int, int], short_side: int | None, long_side: int | None) -> tuple[int, int]:
    """Height and width after scaling (height, width).

    torchvision's rule: the scale in float32, by the reciprocal of the length as it is, and lengths rounded down.

    >>> resized((480, 640), 800, 1333), resized((427, 640), 800, 1333)  # 800 (1 / 427) is a little too small
    ((800, 1066), (799, 1199))
    """
    sides = ((short_side, min(size)), (long_side, max(size)))
    scales = [np.float32(1) / np.float32(have) * np.float32(wanted) for wanted, have in sides if wanted is not None]
    if short_side is None:
        scales.append(np.float32(1))
    scale = float(min(scales))
    return max(1, floor(size[0] * scale)), max(1, floor(size[1] * scale))


def rescale_boxes(boxes: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) of an image of size `old` (H, W) in the same image of size `new`."""
    y, x = _ratios(old, new)
    return boxes * torch.tensor((x, y, x, y), dtype=boxes.dtype, device=boxes.device)


def rescale_keypoints(keypoints: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Keypoints (N, K, 3): x, y and what goes with them, likewise."""
    y, x = _ratios(old, new)
    return keypoints * torch.tensor((x, y, 1.0), dtype=keypoints.dtype, device=keypoints.device)


def rescale_masks(masks: Tensor, new: tuple[int, int]) -> Tensor:
    """Masks (N, H, W) uint8, nearest → (N, *new)."""
    if tuple(masks.shape[1:]) == new:
        return masks
    if not len(masks):
        return masks.new_zeros((0, *new))
    return F.interpolate(masks[:, None], size=new, mode="nearest")[:, 0]


def _ratios(old: tuple[int, int], new: tuple[int, int]) -> tuple[float, float]:
    return float(np.float32(new[0]) / np.float32(old[0])), float(np.float32(new[1]) / np.float32(old[1]))
