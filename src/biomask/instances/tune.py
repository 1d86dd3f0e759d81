"""Thresholds that suit a network, found on images with known objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from biomask.errors import SizeError
from biomask.instances.basins import Basins, find_basins
from biomask.instances.watershed import InstanceTarget, ObjectMaps, Thresholds, merge_basins, object_maps, smoothed

#: Probabilities (channels, *S), true ids (*S), and a bool (*S) that is True where nothing is known.
Known = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.bool_] | None]

#: Score of truth, predicted ids and ignore: higher is better; None = undefined.
Score = Callable[[npt.NDArray[Any], npt.NDArray[np.int32], npt.NDArray[np.bool_] | None], float | None]

#: Scores nearer than this are equal, however many images agree.
EQUAL = 1e-9


class Trial(NamedTuple):
    """Thresholds that were tried, and the mean score of the images."""

    thresholds: Thresholds
    score: float


class Tuned(NamedTuple):
    """The best thresholds, their score, and all that were tried, in order."""

    thresholds: Thresholds
    score: float
    tried: list[Trial]


def tune_thresholds(maps: Sequence[Known], score: Score, start: Thresholds, *, target: InstanceTarget = "distance",
                    spacing: Mapping[str, float] | None = None, seconds: float | None = None) -> Tuned:
    """Thresholds whose objects have the highest mean score over images with known objects.

    maps: probabilities as for `label_instances`, truth, ignore. score: of one image; those without one (None) do not count,
    and where none has one the score is NaN and `start` stays. seconds: no trial begins later than this; `start` is always tried.

    First a few values of the two that matter most, all with all, those near `start` first: what is best for one alone may
    be worst with the other. Then one threshold at a time (coordinate descent) until nothing changes, then with finer steps.
    A threshold moves only to a better score, and better means by more than the standard error of the difference over the images:
    the best of many trials on a few images is a lucky one (as the one-standard-error rule of Breiman et al. 1984). Where several
    are equally good it goes to the middle of the run of them that is nearest, since the edges of a plateau are where
    other images may fall off. Without `seconds` the same maps always give the same thresholds. Raises SizeError where a truth does
    not have the size of its probabilities.
    """
    search = _Search([_Case(object_maps(p, target), truth, ignore) for p, truth, ignore in maps], score, spacing,
                     None if seconds is None else time.monotonic() + seconds)
    best = start
    if np.isfinite(search.try_(start)):
        best = _best_pair(search, start)
        for fine in (False, True):
            best = _descend(search, best, start, fine=fine)
    return Tuned(best, search.scores[best], [Trial(t, s) for t, s in search.scores.items()])


#: Steps to either side of the value so far once the coarse grid has nothing better.
FINE = {"valley": 0.025, "foreground": 0.05}

#: Values of foreground and valley that are tried together.
PAIRS = ((0.2, 0.35, 0.5, 0.65, 0.8), (0.1, 0.2, 0.3, 0.5))

#: Rounds over all thresholds on each grid; two are the rule.
ROUNDS = 4


#: Values to try of each, ascending; `min_size` follows from what it begins with.
GRID: Mapping[str, tuple[float, ...]] = {
    "valley": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0), "foreground": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "sigma": (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0), "hole": (0.0, 0.1, 0.3, 1.0),
}


def _grid(name: str, start: Thresholds) -> Sequence[float]:
    """Values to try, ascending."""
    if name != "min_size":
        return GRID[name]
    return sorted({1, *(max(1, start.min_size * n // 2) for n in (1, 2, 4, 8)), *((10, 30) if start.min_size < 8 else ())})


def _best_pair(search: _Search, start: Thresholds) -> Thresholds:
    pairs = [replace(start, foreground=f, valley=v) for f, v in product(*PAIRS)]
    best = start
    for pair in sorted(pairs, key=lambda t: abs(t.foreground - start.foreground) + abs(t.valley - start.valley)):
        if np.isfinite(search.try_(pair)) and search.better(pair, best):
            best = pair
    return best


def _descend(search: _Search, best: Thresholds, start: Thresholds, *, fine: bool) -> Thresholds:
    for _ in range(ROUNDS):
        before = best
        for name in FINE if fine else ("valley", "foreground", "sigma", "min_size", "hole"):
            now = getattr(best, name)
            if fine:
                values = sorted({now, *(v for n in (-2, -1, 1, 2) if 0 <= (v := round(now + n * FINE[name], 4)) <= 1)})
            else:
                values = sorted({now, *_grid(name, start)})
            best = _best_of(search, best, name, values)
        if best == before or search.over:
            break
    return best


def _best_of(search: _Search, best: Thresholds, name: str, values: Sequence[float]) -> Thresholds:
    """`best`, or with another value of one threshold where that is better."""
    options = [Thresholds(**{**asdict(best), name: v}) for v in values]
    scores = np.array([search.try_(option) for option in options])
    highest = options[int(np.nanargmax(scores))]  # the value so far is among them
    if not search.better(highest, best):
        return best
    top = np.array([np.isfinite(s) and not search.better(highest, o) for s, o in zip(scores, options, strict=True)])
    here = values.index(getattr(best, name))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], top.astype(np.int8), [0]])))
    runs = [(first, last - 1) for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]
    first, last = min(runs, key=lambda run: min(abs(run[0] - here), abs(run[1] - here)))
    middle = (first + last + (last < here)) // 2  # of two in the middle the one that is nearer to the value so far
    chosen: Thresholds = options[middle]
    return chosen


@dataclass(frozen=True)
class _Case:
    maps: ObjectMaps
    truth: npt.NDArray[Any]
    ignore: npt.NDArray[np.bool_] | None

    def __post_init__(self) -> None:
        if self.truth.shape != self.maps.foreground.shape:
            raise SizeError(f"truth has shape {self.truth.shape}, probabilities {self.maps.foreground.shape}")


class _Search:
    """Scores of thresholds, each found once."""

    def __init__(self, cases: Sequence[_Case], score: Score, spacing: Mapping[str, float] | None, until: float | None) -> None:
        self.scores: dict[Thresholds, float] = {}
        self.images: dict[Thresholds, npt.NDArray[np.float64]] = {}
        self._cases, self._score, self._spacing, self._until = cases, score, spacing, until
        self._at: tuple[float, float] | None = None
        self._found: list[tuple[npt.NDArray[np.float32], Basins]] = []

    @property
    def over(self) -> bool:
        """Whether the time is."""
        return self._until is not None and time.monotonic() >= self._until

    def try_(self, thresholds: Thresholds) -> float:
        """The mean score; NaN where no image has one or no time is left."""
        if thresholds in self.scores:
            return self.scores[thresholds]
        if self.scores and self.over:
            return float("nan")
        self._flood(thresholds)
        found = [self._score(case.truth, merge_basins(basins, interior, thresholds), case.ignore)
                 for case, (interior, basins) in zip(self._cases, self._found, strict=True)]
        each = np.array([np.nan if s is None else s for s in found], np.float64)
        self.images[thresholds] = each
        self.scores[thresholds] = float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")
        return self.scores[thresholds]

    def better(self, one: Thresholds, other: Thresholds) -> bool:
        """Whether the score of the one is higher by more than the standard error of the difference."""
        gain = self.scores[one] - self.scores[other]
        if one not in self.images or other not in self.images:
            return gain > EQUAL
        differences = self.images[one] - self.images[other]
        differences = differences[np.isfinite(differences)]
        error = differences.std(ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
        return bool(gain > max(EQUAL, error))

    def _flood(self, thresholds: Thresholds) -> None:
        """Smoothed interiors and basins; those of the last foreground and sigma alone are kept: they are as large as the images."""
        at = (thresholds.foreground, thresholds.sigma)
        if self._at == at:
            return
        if self._at is None or self._at[1] != thresholds.sigma:
            interiors = [smoothed(c.maps.interior, thresholds.sigma, self._spacing) for c in self._cases]
        else:
            interiors = [interior for interior, _ in self._found]
        self._found = [(interior, find_basins(interior, case.maps.foreground > thresholds.foreground))
                       for case, interior in zip(self._cases, interiors, strict=True)]
        self._at = at
