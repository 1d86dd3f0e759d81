"""From a classifier trained on balanced samples to probabilities: calibration and median filter (Cireşan et al. 2012).

Where both classes are drawn equally often in training, the rarer one is overestimated. The paper fits a monotone cubic from what
the network says to how often that is true, applies it to the maps, averages the maps of several networks, and takes the median
over a radius of 2 pixels. All of that is pointwise or local, so it may follow a tiled prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import InputError

#: Probabilities are counted in so many bins before the fit.
BINS = 256

#: Weight of the condition that no coefficient exceeds 1, against all pixels together.
STRICT = 1e4


@dataclass(frozen=True)
class Calibration:
    """A monotone cubic from probability to probability."""

    coefficients: tuple[float, float, float, float]
    """In the Bernstein basis of degree 3, ascending, within 0..1; that they ascend makes the cubic ascend."""

    def __call__(self, probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Calibrated probabilities, float32 of the same shape, 0..1."""
        return np.asarray(_bernstein(np.asarray(probabilities, np.float64)) @ np.array(self.coefficients), np.float32)

    @property
    def polynomial(self) -> tuple[float, float, float, float]:
        """a0 … a3 of a0 + a1 p + a2 p² + a3 p³.

        >>> Calibration((0.0, 1 / 3, 2 / 3, 1.0)).polynomial
        (0.0, 1.0, 0.0, 0.0)
        """
        b0, b1, b2, b3 = self.coefficients
        found = b0, 3 * (b1 - b0), 3 * (b2 - 2 * b1 + b0), b3 - 3 * b2 + 3 * b1 - b0
        return found[0], found[1], round(found[2], 12), round(found[3], 12)


def _bernstein(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(..., 4) values of the basis at p in 0..1."""
    p = p.clip(0, 1)
    q = 1 - p
    return np.stack([q**3, 3 * p * q**2, 3 * p**2 * q, p**3], axis=-1)


def fit_calibration(probabilities: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Calibration:
    """The monotone cubic nearest (least squares over pixels) to how often a pixel is of the class.

    probabilities: of the class, 0..1, any shape. truth: bool, the same shape. Exact up to bins of 1/256; where no pixel has a
    probability nothing is said of it but that the cubic ascends.
    Raises InputError for shapes that differ and for no pixels.
    """
    from scipy.optimize import nnls

    p, y = np.asarray(probabilities, np.float64).ravel(), np.asarray(truth).astype(np.float64).ravel()
    if p.shape != y.shape or not p.size:
        raise InputError(f"{p.size} probabilities and {y.size} true values cannot be fitted",
                         fix="give as many of both, at least one")
    bins = (p.clip(0, 1) * BINS).astype(np.int64).clip(max=BINS - 1)
    pixels = np.bincount(bins, minlength=BINS)
    used = pixels > 0
    mean_p, frequency = (np.bincount(bins, v, BINS)[used] / pixels[used] for v in (p, y))
    weight = np.sqrt(pixels[used] / p.size)
    # Coefficients are sums of steps that are not negative; with what is left above the last, the steps sum to 1.
    steps = np.tril(np.ones((4, 5)))
    rows = np.vstack([_bernstein(mean_p) @ steps * weight[:, None], np.full((1, 5), STRICT)])
    found, _ = nnls(rows, np.append(frequency * weight, STRICT))
    c = steps @ found
    return Calibration((float(c[0]), float(c[1]), float(c[2]), float(c[3])))


def median_filter(probabilities: npt.NDArray[Any], radius: int = 2) -> npt.NDArray[np.float32]:
    """The median over a disk (ball) of pixels, mirrored at the border: float32 of the same shape.

    probabilities: a map without channels. Radius 2, as in the paper, covers 13 pixels in 2D; whether it meant a disk or a square
    is open.
    """
    from scipy.ndimage import median_filter as scipy_median

    array = np.asarray(probabilities, np.float32)
    offsets = np.indices((2 * radius + 1,) * array.ndim) - radius
    return np.asarray(scipy_median(array, footprint=(offsets**2).sum(axis=0) <= radius**2, mode="mirror"), np.float32)
