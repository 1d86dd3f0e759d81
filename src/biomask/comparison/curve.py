"""The learning curve: what more labelled images would give.

Scores of segmentation rise with the number n of training images about as s(n) = a - b n^-c: a power law towards a limit (Hestness
et al. 2017, arXiv:1712.00409; Viering and Loog, "The shape of learning curves", IEEE TPAMI 2023). Few points do not tell the three
apart, so no single curve is fitted: many are drawn, by how well they fit, and their spread is the interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: Curves that are drawn, and exponents that are possible alike before any point is seen.
CURVES, EXPONENTS = 4000, np.linspace(0.1, 1.5, 29)

#: Standard deviation of the score of one training by chance alone (seed, order, which images were drawn), unless seeds tell more.
NOISE = 0.015

#: Fewer numbers of images than this say nothing of the rest.
FEWEST_POINTS = 2

#: Numbers of images that are forecast, as multiples of the largest there is.
AHEAD = (2, 4, 8)

Images = Mapping[str, float | None]


def forecast(points: Mapping[int, Images], groups: Mapping[str, str] | None = None, targets: Sequence[int] | None = None,
             seed: int = 0) -> dict[str, Any] | None:
    """What the score would be with more images; None with fewer than two numbers of images.

    points: number of training images: {image that was judged: its score}, the same images everywhere. groups: of these images.
    targets: numbers that are forecast; None: 2, 4 and 8 times the largest.

    Returns {"limit": {low, high, score}, "targets": [{images, score, low, high}], "says"}; intervals are 95 %.
    """
    counts = sorted(points)
    if len(counts) < FEWEST_POINTS:
        return None
    wanted = list(targets) if targets is not None else [k * counts[-1] for k in AHEAD]
    names = [n for n in points[counts[0]] if all(points[k].get(n) is not None for k in counts)]
    if not names:
        return None
    table = np.array([[points[k][n] for n in names] for k in counts], np.float64)
    units = np.unique(np.array([groups[n] if groups else n for n in names]), return_inverse=True)[1]
    rng = np.random.Generator(np.random.Philox(key=[seed, 0xC0FE]))
    drawn = draw_curves(np.array(counts, np.float64), table, units, rng)
    found = [{"images": n, **_ends(_at(drawn, float(n)) + rng.normal(0, NOISE, CURVES))} for n in wanted]
    limit = _ends(drawn[0])
    last = float(table[-1].mean())
    says = (f"with {wanted[0]:,} images instead of {counts[-1]:,} the score would go from {last:.3f} to about "
            f"{found[0]['score']:.3f} (95 % {found[0]['low']:.3f} to {found[0]['high']:.3f})")
    return {"limit": limit, "targets": found, "says": says}


Curves = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


def draw_curves(counts: npt.NDArray[np.float64], table: npt.NDArray[np.float64], units: npt.NDArray[np.intp],
                rng: np.random.Generator) -> Curves:
    """(a, b, c) of CURVES curves that fit. table: (points, images) scores; units: the group of each image.

    Each curve is fitted to means over resampled images, and to what chance of training may have added; its exponent is drawn by
    how well the best a and b with 0 <= b, a <= 1 then fit.
    """
    number = int(units.max()) + 1
    weights = rng.multinomial(number, np.full(number, 1 / number), CURVES)[:, units].astype(np.float64)
    means = weights @ table.T / weights.sum(axis=1, keepdims=True)
    means += rng.normal(0, NOISE, means.shape)
    fits = [_fit(counts, means, c) for c in EXPONENTS]
    errors = np.stack([e for _, _, e in fits])
    likely = np.exp(-(errors - errors.min(axis=0)) / (2 * NOISE**2))
    chosen = (likely.cumsum(axis=0) / likely.sum(axis=0) < rng.random(CURVES)).sum(axis=0).clip(max=len(EXPONENTS) - 1)
    rows = np.arange(CURVES)
    return np.stack([a for a, _, _ in fits])[chosen, rows], np.stack([b for _, b, _ in fits])[chosen, rows], EXPONENTS[chosen]


def _fit(counts: npt.NDArray[np.float64], means: npt.NDArray[np.float64],
         c: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(a, b, sum of squared errors) of each row of means (R, points), by least squares with b >= 0 and a <= 1."""
    x = counts**-c
    centred = x - x.mean()
    b = np.maximum(0.0, -(means - means.mean(axis=1, keepdims=True)) @ centred / (centred @ centred))
    a = means.mean(axis=1) + b * x.mean()
    over = a > 1
    b = np.where(over, np.maximum(0.0, (1 - means) @ x / (x @ x)), b)
    a = np.minimum(a, 1.0)
    return a, b, np.square(means - (a[:, None] - b[:, None] * x)).sum(axis=1)


def _at(curves: Curves, n: float) -> npt.NDArray[np.float64]:
    a, b, c = curves
    return a - b * n**-c


def _ends(values: npt.NDArray[np.float64]) -> dict[str, float]:
    low, middle, high = (float(v) for v in np.clip(np.percentile(values, [2.5, 50, 97.5]), 0, 1))
    return {"score": middle, "low": low, "high": high}
