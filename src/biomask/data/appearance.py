"""What an image looks like, in a few figures: brightness, contrast, fine detail."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.image import Image

#: Grey values of a channel that percentiles are taken from.
SAMPLE = 100_000

#: Side of the windows that detail is looked for in, windows along y and x, and planes of a volume.
WINDOW, WINDOWS, PLANES = 256, 3, 3

#: Times that a window is binned: it needs 3 pixels a side after the last one.
BINNINGS = 3
SMALLEST = 3 * 2**BINNINGS


@dataclass(frozen=True)
class Appearance:
    """An image in a few figures. Percentiles are of each channel, over its finite values."""

    dtype: str
    dark: tuple[float, ...]
    """1st percentile."""
    middle: tuple[float, ...]
    """50th."""
    bright: tuple[float, ...]
    """99th."""
    detail: tuple[float, ...] | None
    """Four figures that all fall when an image is blurred or enlarged, in powers of two; see `detail_of`. None for images too
    small or without any contrast."""
    grey: bool
    """Whether three channels are all the same."""

    @property
    def contrast(self) -> tuple[float, ...]:
        """From dark to bright, of each channel."""
        return tuple(b - d for d, b in zip(self.dark, self.bright, strict=True))

    @property
    def position(self) -> tuple[float | None, ...]:
        """Where the middle lies from dark (0) to bright (1), of each channel; 1 - that in a negative. None without contrast."""
        return tuple((m - d) / c if c > 0 else None for m, d, c in zip(self.middle, self.dark, self.contrast, strict=True))

    def of_grey(self) -> Appearance:
        """The same of one of three equal channels."""
        return replace(self, dark=self.dark[:1], middle=self.middle[:1], bright=self.bright[:1], grey=False)


def appearance_of(image: Image) -> Appearance | None:
    """The figures of an image; None for one without finite values."""
    array = image.array
    percentiles = [_percentiles(np.asarray(channel)) for channel in array]
    known = [p for p in percentiles if p is not None]
    if len(known) < len(percentiles):
        return None
    dark, middle, bright = (tuple(float(p[i]) for p in known) for i in range(3))
    contrast = max(b - d for d, b in zip(dark, bright, strict=True))
    step = max(1, int((array[0].size / SAMPLE) ** 0.5))
    thin = array[..., ::step, ::step]
    grey = len(array) == 3 and bool((thin[0] == thin[1]).all() and (thin[0] == thin[2]).all())
    return Appearance(str(array.dtype), dark, middle, bright, detail_of(array, contrast) if contrast > 0 else None, grey)


def _percentiles(channel: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
    step = max(1, int((channel.size / SAMPLE) ** (1 / channel.ndim)))
    values = channel[(slice(None, None, step),) * channel.ndim].astype(np.float64).reshape(-1)
    values = values[np.isfinite(values)]
    return np.percentile(values, [1, 50, 99]) if values.size else None


def detail_of(array: npt.NDArray[Any], contrast: float) -> tuple[float, ...] | None:
    """How much of an image (C, *S) is fine detail, by the root mean square L of its Laplacian after 0 to 3 binnings of 2 × 2:
    log2 of L0 / contrast, L1 / contrast, L0 / L2 and L1 / L3.

    Noise is in L0 alone, so an image that is as sharp with less noise keeps its L1 and L3; blur and enlargement lower all
    four. None for images of less than 24 pixels a side.
    """
    sums, count = np.zeros(BINNINGS + 1), np.zeros(BINNINGS + 1)
    for window in _windows(array):
        for level in range(BINNINGS + 1):
            inner = (window[1:-1, :-2] + window[1:-1, 2:] + window[:-2, 1:-1] + window[2:, 1:-1] - 4 * window[1:-1, 1:-1])
            finite = inner[np.isfinite(inner)]
            sums[level] += float(np.square(finite, dtype=np.float64).sum())
            count[level] += finite.size
            window = _binned(window)
    if not count.all() or not sums.all():
        return None
    size = np.log2(np.sqrt(sums / count))
    return tuple(float(v) for v in (size[0] - np.log2(contrast), size[1] - np.log2(contrast), size[0] - size[2], size[1] - size[3]))


def _windows(array: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
    """Parts (y, x) of the mean of the channels, spread over the image and over the planes of a volume."""
    height, width = array.shape[-2:]
    if min(height, width) < SMALLEST:
        return []
    planes = [array] if array.ndim == 3 else [array[:, z] for z in _starts(array.shape[1], 1, PLANES)]
    return [np.asarray(plane[:, y:y + WINDOW, x:x + WINDOW]).astype(np.float32).mean(axis=0) for plane in planes
            for y in _starts(height, WINDOW, WINDOWS) for x in _starts(width, WINDOW, WINDOWS)]


def _starts(length: int, part: int, most: int) -> list[int]:
    """Where parts begin that do not overlap: side by side where few of them cover all, else spread evenly."""
    count = -(-length // part)
    if count <= most:
        return [i * part for i in range(count)]
    return [round((2 * i + 1) * length / (2 * most) - part / 2) for i in range(most)]


def _binned(window: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    height, width = (n // 2 * 2 for n in window.shape)
    even = window[:height, :width]
    return np.asarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4)
