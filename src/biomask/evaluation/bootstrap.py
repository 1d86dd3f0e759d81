"""How sure a mean over images is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: With fewer images a bootstrap interval would claim more than they can tell.
FEWEST = 8

RESAMPLES = 2000


def interval(rows: Sequence[float | None] | Sequence[Sequence[float | None]], seed: int = 0) -> dict[str, Any]:
    """{low, high, kind, n} for a mean over images, then over columns.

    rows: one an image: a value, or one value a class; None = undefined, does not count.
    kind "bootstrap 95 %": percentiles 2.5 and 97.5 of that mean over 2000 resamples of the images.
    kind "range": lowest and highest image, for fewer than 8 images.

    >>> interval([0.5, 0.75, None])
    {'low': 0.5, 'high': 0.75, 'kind': 'range', 'n': 2}
    """
    columns: list[Sequence[float | None]] = [row if isinstance(row, Sequence) else (row,) for row in rows]
    values = np.array([[np.nan if v is None else v for v in row] for row in columns] or [[np.nan]], np.float64)
    values = values[~np.isnan(values).all(axis=1)]
    n = len(values)
    if n == 0:
        return {"low": None, "high": None, "kind": "range", "n": 0}
    if n < FEWEST:
        means = _mean_of_columns(values, np.eye(n))
        return {"low": float(means.min()), "high": float(means.max()), "kind": "range", "n": n}
    rng = np.random.Generator(np.random.Philox(key=[seed, n]))
    low, high = np.percentile(_mean_of_columns(values, rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)), [2.5, 97.5])
    return {"low": float(low), "high": float(high), "kind": "bootstrap 95 %", "n": n}


def _mean_of_columns(values: npt.NDArray[np.float64], weights: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(R,) weighted mean over rows, then over the columns that are defined: values (n, K) with NaN, weights (R, n)."""
    there = ~np.isnan(values)
    sums, counts = weights @ np.where(there, values, 0.0), weights @ there
    means = np.where(counts > 0, sums / np.maximum(counts, 1), 0.0)
    defined = (counts > 0).sum(axis=1)
    return np.asarray(means.sum(axis=1)[defined > 0] / defined[defined > 0])
