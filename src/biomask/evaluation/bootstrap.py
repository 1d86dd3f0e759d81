"""How sure a mean over images is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: With fewer images a bootstrap interval would claim more than they can tell.
FEWEST = 8

RESAMPLES = 2000


def interval(values: Sequence[float | None], seed: int = 0) -> dict[str, Any]:
    """{low, high, kind, n} for the mean over images; None values do not count.

    kind "bootstrap 95 %": percentiles 2.5 and 97.5 of the means of 2000 resamples of the images.
    kind "range": lowest and highest image, for fewer than 8 images.
    """
    defined = np.array([v for v in values if v is not None], np.float64)
    if not defined.size:
        return {"low": None, "high": None, "kind": "range", "n": 0}
    if defined.size < FEWEST:
        return {"low": float(defined.min()), "high": float(defined.max()), "kind": "range", "n": int(defined.size)}
    rng = np.random.Generator(np.random.Philox(key=[seed, defined.size]))
    means = defined[rng.integers(0, defined.size, (RESAMPLES, defined.size))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"low": float(low), "high": float(high), "kind": "bootstrap 95 %", "n": int(defined.size)}
