"""Training patches: sample n is a pure function of (seed, n), so workers, ranks and resume agree by construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from biomask.tiling import mirror
from biomask.transforms import flip_rotate

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.recipe import AugmentationSettings


@dataclass(frozen=True)
class PatchGeometry:
    """How large a patch is.

    The image patch is `target` + 2 `margin` pixels along each axis, the label patch its middle `target` pixels.
    """

    target: tuple[int, ...]
    margin: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Tensors of one step on one device."""

    images: Tensor
    """float32 (B, C, *S), normalised."""
    targets: Tensor
    """int64 (B, *S'), class ids."""
    ignore: Tensor | None
    """bool (B, *S'), True = unknown."""


@dataclass(frozen=True)
class Draw:
    """The random choices of one sample."""

    image: int
    start: tuple[int, ...]
    """First label pixel along each axis; negative only where the image is smaller than the patch."""
    flips: tuple[int, ...]
    """Axes to mirror, counted from the end."""
    turns: int
    """Quarter turns in y-x."""


def draw_sample(seed: int, n: int, sizes: Sequence[tuple[int, ...]], geometry: PatchGeometry,
                augmentation: AugmentationSettings) -> Draw:
    """The choices of sample `n`: an image with a chance that follows its number of pixels, a place, a symmetry."""
    rng = np.random.Generator(np.random.Philox(key=[seed, n]))
    weights = _cumulative_pixels(tuple(sizes))
    image = int(np.searchsorted(weights, rng.random() * weights[-1], side="right").clip(max=len(sizes) - 1))
    start = tuple(int(rng.integers(0, s - t + 1)) if s >= t else -((t - s) // 2)
                  for s, t in zip(sizes[image], geometry.target, strict=True))
    names = "zyx"[-len(start):]
    flips = tuple(-1 - i for i, axis in enumerate(reversed(names)) if rng.random() < 0.5 and axis in augmentation.flip)
    square = geometry.target[-1] == geometry.target[-2] and geometry.margin[-1] == geometry.margin[-2]
    turns = int(rng.integers(0, 4)) if augmentation.rotate90 and square else 0
    return Draw(image, start, flips, turns)


@lru_cache(maxsize=4)
def _cumulative_pixels(sizes: tuple[tuple[int, ...], ...]) -> npt.NDArray[np.float64]:
    return np.cumsum([float(np.prod(s)) for s in sizes])


def make_batch(dataset: Dataset, seed: int, samples: Sequence[int], geometry: PatchGeometry,
               augmentation: AugmentationSettings, device: torch.device) -> Batch:
    """Read, stack and augment the samples with the given numbers."""
    draws = [draw_sample(seed, n, dataset.facts.sizes, geometry, augmentation) for n in samples]
    images, targets, unknown = zip(*(_cut(dataset, draw, geometry) for draw in draws), strict=True)
    flips, turns = [d.flips for d in draws], [d.turns for d in draws]

    def stack(arrays: Sequence[npt.NDArray[Any]]) -> Tensor:
        return flip_rotate(torch.from_numpy(np.stack(arrays)).to(device), flips, turns)

    ignore = stack([u if u is not None else np.zeros(geometry.target, bool) for u in unknown]) if any(
        u is not None for u in unknown) else None
    return Batch(stack(images), stack(targets).long(), ignore)


def _cut(dataset: Dataset, draw: Draw,
         geometry: PatchGeometry) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None]:
    """One image patch, mirrored beyond the borders, and its label patch."""
    image, labels, ignore = dataset.item(draw.image)
    inner = [mirror(np.arange(s, s + t), n) for s, t, n in zip(draw.start, geometry.target, labels.shape, strict=True)]
    outer = [mirror(np.arange(s - m, s + t + m), n)
             for s, t, m, n in zip(draw.start, geometry.target, geometry.margin, labels.shape, strict=True)]
    read: Any = (slice(None), *np.ix_(*outer))
    keep = np.ix_(*inner)
    return image[read], labels[keep], None if ignore is None else ignore[keep]
