"""Normalisation: grey values to network input, by statistics of the whole image and never of a tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Method = Literal["zscore", "percentile", "none"]

#: Percentiles of larger images are taken from a regular grid of about this many pixels.
SAMPLE = 4_000_000


@dataclass(frozen=True)
class Normalization:
    """(x - offset) / scale per channel, with offset and scale from the image itself.

    method      offset              scale
    zscore      mean                standard deviation
    percentile  `low` percentile    `high` percentile - `low` percentile
    none        0                   1
    A scale of 0 (a constant channel) is taken as 1, so that the channel becomes 0.
    """

    method: Method = "zscore"
    low: float = 1.0
    high: float = 99.8

    def statistics(self, array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(offset, scale), float32 (C,), for an image (C, *S) of any real dtype. NaN and inf do not count."""
        pairs = [self._channel(np.asarray(channel)) for channel in array]
        offset, scale = np.asarray(pairs, np.float64).T
        return offset.astype(np.float32), np.where(scale > 0, scale, 1.0).astype(np.float32)

    def _channel(self, values: npt.NDArray[Any]) -> tuple[float, float]:
        if self.method == "none":
            return 0.0, 1.0
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            values = values[np.isfinite(values)]
            if not values.size:
                return 0.0, 1.0
        if self.method == "zscore":
            return _mean_and_deviation(values)
        step = max(1, int((values.size / SAMPLE) ** (1 / values.ndim)))
        low, high = np.percentile(values[(slice(None, None, step),) * values.ndim], [self.low, self.high])
        return float(low), float(high - low)


def _mean_and_deviation(values: npt.NDArray[Any]) -> tuple[float, float]:
    """In float64 by slices of the first axis: numpy's own std would make a float64 copy of a large image."""
    mean = float(values.mean(dtype=np.float64))
    rows = values if values.ndim > 1 else values[None]
    squares = sum(float(np.square(row.astype(np.float64) - mean).sum()) for row in rows)
    return mean, float(np.sqrt(squares / values.size))


def apply(window: npt.NDArray[Any], offset: npt.NDArray[np.float32],
          scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(window - offset) / scale, float32 (C, *S); NaN and inf become 0, the offset's place."""
    shape = (-1,) + (1,) * (window.ndim - 1)
    out = (window.astype(np.float32) - offset.reshape(shape)) / scale.reshape(shape)
    return np.nan_to_num(out, copy=False, nan=0.0, posinf=0.0, neginf=0.0) if window.dtype.kind == "f" else out


def normalization_of(settings: Any) -> Normalization:
    """The object for a recipe's `NormalizationSettings`."""
    return Normalization(settings.method, settings.low, settings.high)
