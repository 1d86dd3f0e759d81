"""The random choices of one training sample: a pure function of (seed, n)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import radians
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from biomask.recipe import AugmentationSettings

#: Largest turn about x or y of volumes, degrees: further ones would need context that thin volumes lack.
TILT = 15.0

#: Each axis is stretched by at most this on its own, where patches are scaled at all.
STRETCH = 0.05

#: Patches of fewer pixels along z are not tilted.
THICK = 16


@dataclass(frozen=True)
class PatchGeometry:
    """How large a patch is.

    The image patch is `target` + 2 `margin` pixels along each axis, the label patch its middle `target` pixels.
    """

    target: tuple[int, ...]
    margin: tuple[int, ...]

    @property
    def read(self) -> tuple[int, ...]:
        """Pixels of the image patch along each axis."""
        return tuple(t + 2 * m for t, m in zip(self.target, self.margin, strict=True))


@dataclass(frozen=True)
class Warp:
    """A rotation and scaling; the elastic deformation follows from the sample's seed."""

    angles: tuple[float, ...]
    """Radians: y → x; in 3D also z → x and z → y."""
    scales: tuple[float, ...]
    """Of each axis; 2 makes everything twice as large."""


@dataclass(frozen=True)
class Look:
    """How grey values change; the default is not at all."""

    gain: float = 1.0
    offset: float = 0.0
    gamma: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    stain: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    """Gain and offset of each stain."""


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
    focus: tuple[float, float] | None = None
    """Which class and which of its pixels, 0..1, lies somewhere in the patch; None = `start` counts as it is."""
    warp: Warp | None = None
    look: Look = Look()
    seed: int = 0
    """Of what is drawn on the device: deformation and noise."""


def draw_sample(seed: int, n: int, sizes: Sequence[tuple[int, ...]], geometry: PatchGeometry,
                augmentation: AugmentationSettings, oversample: float = 0.0,
                weights: tuple[float, ...] | None = None) -> Draw:
    """The choices of sample `n`: an image, a place, a symmetry, a warp, a look.

    oversample: share of the samples that are laid on an object. weights: how often each image is drawn; None = by the root of
    its pixels.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, n]))
    chances = cumulative(weights or tuple(float(np.prod(s)) ** 0.5 for s in sizes))
    image = int(np.searchsorted(chances, rng.random() * chances[-1], side="right").clip(max=len(sizes) - 1))
    start = tuple(int(rng.integers(0, s - t + 1)) if s >= t else -((t - s) // 2)
                  for s, t in zip(sizes[image], geometry.target, strict=True))
    names = "zyx"[-len(start):]
    flips = tuple(-1 - i for i, axis in enumerate(reversed(names)) if rng.random() < 0.5 and axis in augmentation.flip)
    square = geometry.target[-1] == geometry.target[-2] and geometry.margin[-1] == geometry.margin[-2]
    turns = int(rng.integers(0, 4)) if augmentation.rotate90 and square else 0
    focus = (rng.random(), rng.random()) if rng.random() < oversample else None
    warp = _warp(rng, geometry.target, augmentation) if rng.random() < (augmentation.warp or 0.0) else None
    return Draw(image, start, flips, turns, focus, warp, draw_look(rng, augmentation), int(rng.integers(2**62)))


@lru_cache(maxsize=4)
def cumulative(weights: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Sums of the weights up to each image."""
    return np.cumsum(weights)


def _warp(rng: np.random.Generator, target: Sequence[int], augmentation: AugmentationSettings) -> Warp:
    angles = [radians(rng.uniform(-augmentation.rotate, augmentation.rotate))]
    if len(target) == 3:
        most = min(TILT, augmentation.rotate) if min(target) >= THICK else 0.0
        angles += [radians(rng.uniform(-most, most)), radians(rng.uniform(-most, most))]
    zoom = (1 + augmentation.scale) ** rng.uniform(-1, 1)
    stretch = STRETCH if augmentation.scale else 0.0
    return Warp(tuple(angles), tuple(zoom * (1 + stretch) ** rng.uniform(-1, 1) for _ in target))


def draw_look(rng: np.random.Generator, augmentation: AugmentationSettings) -> Look:
    """How grey values change, in ranges after nnU-Net's, for normalised grey values."""
    chances, values = rng.random(5), rng.random(10)
    light, gamma = chances[0] < augmentation.intensity, chances[1] < augmentation.intensity
    stain = None
    if chances[4] < augmentation.stain:
        spread = rng.uniform(-1, 1, 6)
        stain = (tuple(float(1 + 0.25 * v) for v in spread[:3]), tuple(float(0.05 * v) for v in spread[3:]))
    return Look(gain=0.75 + 0.5 * values[0] if light else 1.0, offset=0.4 * (values[1] - 0.5) if light else 0.0,
                gamma=2 ** (1.4 * (values[2] - 0.5)) if gamma else 1.0,
                blur=0.5 + values[3] if chances[2] < augmentation.blur else 0.0,
                noise=0.15 * values[4] if chances[3] < augmentation.noise else 0.0, stain=stain)  # type: ignore[arg-type]
