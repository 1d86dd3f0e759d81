"""Which of many predicted images are unlike the others: worth a look first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from biomask.reports.contents import percent

#: Fewer images have no usual.
FEWEST = 5

#: Robust standard deviations from the median from which on an image is unusual.
FAR = 3.0

#: Least standard deviation that counts, of shares and probabilities, and of logarithms of counts and sizes: what differs less is
#: alike, however alike the others are.
LEAST = 0.05


@dataclass(frozen=True)
class Unusual:
    """How far an image is from the others."""

    score: float
    """Robust standard deviations from the median, of the figure in which it is farthest."""
    reason: str
    """That figure, in words; empty where it is not far."""


def unusual(images: Mapping[str, Mapping[str, Any]]) -> dict[str, Unusual]:
    """Of each image by name. images: entries of run.json; their `summary` tells of counts, shares, sizes and probabilities.

    The deviation is from the median, in units of 1.4826 times the median absolute deviation, which single images do not move
    (Leys et al. 2013, doi:10.1016/j.jesp.2013.03.013). Of fewer than FEWEST images none is unusual.
    """
    found = {name: Unusual(0.0, "") for name in images}
    if len(images) < FEWEST:
        return found
    for figure in _figures(images):
        known = [v for v in figure.values if v is not None]
        if len(known) < FEWEST:
            continue
        middle = float(np.median(known))
        spread = max(LEAST, 1.4826 * float(np.median(np.abs(np.asarray(known) - middle))))
        for (name, before), value, shown in zip(list(found.items()), figure.values, figure.shown, strict=True):
            score = abs(value - middle) / spread if value is not None else 0.0
            if score > before.score:
                usual = figure.shown[_nearest(figure.values, middle)]
                found[name] = Unusual(score, f"{figure.name} {shown}, usually {usual}" if score >= FAR else "")
    return found


@dataclass(frozen=True)
class _Figure:
    name: str
    values: Sequence[float | None]
    """One an image, on a scale on which differences mean the same everywhere."""
    shown: Sequence[str]


def _figures(images: Mapping[str, Mapping[str, Any]]) -> list[_Figure]:
    rows = [entry.get("summary") or {} for entry in images.values()]
    found = []
    for key in dict.fromkeys(k for row in rows for k in row):
        values = [row.get(key) for row in rows]
        if key == "objects":
            pixels = [row.get("pixels") or 1 for row in rows]
            scaled = [None if v is None else log((v + 1) / p) for v, p in zip(values, pixels, strict=True)]
            found.append(_Figure("objects:", scaled, [f"{v:,}" if v is not None else "–" for v in values]))
        elif key.startswith("share_"):
            name = f"share of {key.removeprefix('share_')}:"
            found.append(_Figure(name, values, [percent(v) if v is not None else "–" for v in values]))
        elif key in ("area_px_median", "volume_px_median"):
            scaled = [log(v) if v else None for v in values]
            found.append(_Figure("median size of an object, px:", scaled, [f"{v:,.0f}" if v else "–" for v in values]))
        elif key == "probability_mean":
            found.append(_Figure("mean probability of objects:", values, [f"{v:.2f}" if v is not None else "–" for v in values]))
    return found


def _nearest(values: Sequence[float | None], middle: float) -> int:
    return min((n for n, v in enumerate(values) if v is not None), key=lambda n: abs((values[n] or 0.0) - middle))


def striking_first(images: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of all images: those with warnings first, then the most unusual."""
    far = unusual(images)
    order = {name: n for n, name in enumerate(images)}
    return sorted(images, key=lambda n: (not images[n].get("warnings"), -round(far[n].score, 6), order[n]))
