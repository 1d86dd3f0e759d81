"""All scores of the ISBI 2012 challenge over the thresholds of a map of probabilities (spec 7.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import SizeError, UsageError
from biomask.metrics.overlap import mean
from biomask.metrics.rand import TENTHS, RandScore, region_scores, regions, thinned
from biomask.metrics.warping import Warping, warping_error

#: The ten thresholds. 1.0 is none: nothing is above it, and a truth that shrinks to nothing has neither splits nor mergers.
LEVELS: tuple[float, ...] = (0.0, *TENTHS)

#: Of each slice; None without a true region.
Information = tuple[float | None, ...]


@dataclass(frozen=True)
class IsbiLevel:
    """What one threshold gives, over one slice or, added with +, several; pixels above it are cell."""

    threshold: float
    known: int
    """Pixels that are judged."""
    wrong: int
    """Those of them that differ."""
    both: int
    """Those of them that are cell in truth and segmentation."""
    rand: RandScore
    """Of the 4-connected regions above the threshold."""
    information: Information
    rand_thinned: RandScore | None
    """Of the regions after thinning; None at 0, where they are not grown (see `biomask.metrics.rand.thinned`)."""
    information_thinned: Information
    """Empty where `rand_thinned` is None."""
    warping: Warping

    def __add__(self, other: IsbiLevel) -> IsbiLevel:
        thin = None if self.rand_thinned is None or other.rand_thinned is None else self.rand_thinned + other.rand_thinned
        return IsbiLevel(self.threshold, self.known + other.known, self.wrong + other.wrong, self.both + other.both,
                         self.rand + other.rand, self.information + other.information, thin,
                         self.information_thinned + other.information_thinned, self.warping + other.warping)

    @property
    def pixel_error(self) -> float | None:
        """Share of known pixels that differ."""
        return self.wrong / self.known if self.known else None

    @property
    def pixel_f(self) -> float | None:
        """F-score of the pixels of cell; None without one on either side."""
        whole = 2 * self.both + self.wrong
        return 2 * self.both / whole if whole else None

    @property
    def rand_f(self) -> float | None:
        """As `biomask.metrics.isbi_rand_f`."""
        return self.rand.f

    @property
    def rand_f_thinned(self) -> float | None:
        """The same after thinning."""
        return None if self.rand_thinned is None else self.rand_thinned.f

    @property
    def information_f(self) -> float | None:
        """V_info, as `biomask.metrics.isbi_information_f`."""
        return mean(self.information)

    @property
    def information_f_thinned(self) -> float | None:
        """The same after thinning."""
        return mean(self.information_thinned)

    @property
    def warping_error(self) -> float | None:
        """Share of pixels on which the warped truth and the segmentation disagree."""
        return self.warping.error

    @property
    def splits_and_mergers(self) -> float | None:
        """The same of splits and mergers alone."""
        return self.warping.splits_and_mergers


@dataclass(frozen=True)
class IsbiScores:
    """Each score at the threshold that is best for it, over one slice or, added with +, several."""

    levels: tuple[IsbiLevel, ...]
    """One a threshold, ascending."""

    def __add__(self, other: IsbiScores) -> IsbiScores:
        if [i.threshold for i in self.levels] != [i.threshold for i in other.levels]:
            raise UsageError("scores at several sets of thresholds have no sum")
        return IsbiScores(tuple(a + b for a, b in zip(self.levels, other.levels, strict=True)))

    @property
    def pixel_error(self) -> float | None:
        """The lowest share of known pixels that differ."""
        return self._best(min, "pixel_error")

    @property
    def pixel_f_error(self) -> float | None:
        """1 − the highest F-score of the pixels of cell: the challenge's pixel error, as far as is known."""
        best = self._best(max, "pixel_f")
        return None if best is None else 1 - best

    @property
    def rand_f(self) -> float | None:
        """The highest foreground-restricted Rand F-score; the challenge's Rand error is 1 − it."""
        return self._best(max, "rand_f")

    @property
    def rand_f_thinned(self) -> float | None:
        """V_rand after thinning, as the challenge was judged again in 2015."""
        return self._best(max, "rand_f_thinned")

    @property
    def information_f(self) -> float | None:
        """The highest V_info."""
        return self._best(max, "information_f")

    @property
    def information_f_thinned(self) -> float | None:
        """V_info after thinning."""
        return self._best(max, "information_f_thinned")

    @property
    def warping_error(self) -> float | None:
        """The warping error in its first reading: all pixels on which the warped truth and the segmentation disagree."""
        return self._best(min, "warping_error")

    @property
    def splits_and_mergers(self) -> float | None:
        """The warping error in its second reading, as far as is known that of the challenge's table: splits and mergers alone."""
        return self._best(min, "splits_and_mergers")

    def _best(self, best: Callable[[Iterable[float]], float], score: str) -> float | None:
        values = [v for level in self.levels if (v := getattr(level, score)) is not None]
        return best(values) if values else None


def isbi_scores(truth: npt.NDArray[Any], probabilities: npt.NDArray[Any], thresholds: Sequence[float] = LEVELS,
                ignore: npt.NDArray[np.bool_] | None = None) -> IsbiScores:
    """The challenge's scores of a stack, or of one slice.

    truth: (Y, X), or (Z, Y, X) of slices, not 0 = cell, 0 = membrane; its 4-connected regions are the cells. probabilities: of
    cell, the same shape, 0..1; of a mask, 0 and 1 with the threshold 0.5 alone. ignore: bool, True = unknown: such pixels count
    nowhere. Raises SizeError for other shapes. A slice of 512 x 512 takes seconds, most of them for thinning.

    >>> truth = np.ones((5, 7), bool)
    >>> truth[:, 3] = False
    >>> found = isbi_scores(truth, np.where(truth, 0.8, 0.3))
    >>> found.rand_f, found.rand_f_thinned, found.pixel_error, found.warping_error
    (1.0, 1.0, 0.0, 0.0)
    """
    inside, p = np.asarray(truth) != 0, np.asarray(probabilities)
    unknown = np.zeros(inside.shape, np.bool_) if ignore is None else np.asarray(ignore, np.bool_)
    if not inside.shape == p.shape == unknown.shape:
        raise SizeError(f"truth has shape {inside.shape}, probabilities {p.shape}, ignore {unknown.shape}")
    cells = np.where(unknown, 0, regions(inside))
    return IsbiScores(tuple(_level(inside, cells, p, float(t), unknown) for t in sorted(thresholds)))


def _level(inside: npt.NDArray[np.bool_], cells: npt.NDArray[Any], p: npt.NDArray[Any], threshold: float,
           unknown: npt.NDArray[np.bool_]) -> IsbiLevel:
    """cells: ids of the true regions."""
    above = p > threshold
    rand, information = region_scores(cells, regions(above))
    thin = region_scores(cells, thinned(p, threshold)) if threshold > 0 else None
    return IsbiLevel(threshold, int((~unknown).sum()), int(((above != inside) & ~unknown).sum()),
                     int((above & inside & ~unknown).sum()), rand, information, None if thin is None else thin[0],
                     () if thin is None else thin[1], warping_error(inside, p, threshold, unknown))
