"""Whether two ways to count agree: bias and limits of agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biomask.errors import SizeError

#: Of a normal distribution, 95 % lie within so many standard deviations of the mean.
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Agreement:
    """Of differences over images (Bland & Altman, Lancet 1986). None = undefined."""

    n: int
    """Images."""
    bias: float | None
    """Mean difference."""
    sd: float | None
    """Standard deviation of the differences (n − 1); None for fewer than two."""
    slope: float | None
    """Of the least-squares line of the difference over the mean of both: other than 0, the bias grows with the count. None where
    all means are equal, or for fewer than three."""

    @property
    def low(self) -> float | None:
        """Lower limit of agreement, bias − 1.96 sd."""
        return None if self.bias is None or self.sd is None else self.bias - NORMAL_95 * self.sd

    @property
    def high(self) -> float | None:
        """Upper limit of agreement."""
        return None if self.bias is None or self.sd is None else self.bias + NORMAL_95 * self.sd


def agreement(predicted: Sequence[float], true: Sequence[float]) -> Agreement:
    """Agreement of predicted with true counts, (N,) each; differences are predicted − true. Raises SizeError for other lengths.

    >>> found = agreement([12, 9, 33], [10, 10, 30])
    >>> round(found.bias, 3), round(found.sd, 3), round(found.low, 3), round(found.high, 3)
    (1.333, 2.082, -2.747, 5.413)
    """
    if len(predicted) != len(true):
        raise SizeError(f"{len(predicted)} predicted counts and {len(true)} true ones")
    found, wanted = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    difference, middle = found - wanted, (found + wanted) / 2
    n = len(difference)
    spread = float(((middle - middle.mean()) ** 2).sum()) if n > 2 else 0.0
    slope = float(((middle - middle.mean()) * (difference - difference.mean())).sum() / spread) if spread > 0 else None
    return Agreement(n, float(difference.mean()) if n else None, float(difference.std(ddof=1)) if n > 1 else None, slope)
