"""Scores of found objects: AP, F1, panoptic quality, counts (spec 7.5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import UsageError
from biomask.metrics.matching import count_overlaps, match_overlaps

#: 0.5, 0.55, … 0.95.
THRESHOLDS: tuple[float, ...] = tuple(n / 100 for n in range(50, 100, 5))


@dataclass(frozen=True)
class InstanceScores:
    """What was found in one image, or in several together. Every score is None where neither side has an object."""

    thresholds: tuple[float, ...]
    """Of the IoU, inclusive."""
    found: tuple[int, ...]
    """True objects that were found, at each threshold."""
    true: int
    """True objects."""
    predicted: int
    """Predicted objects."""
    merges: int
    """Predicted objects that cover several true ones; as in `Overlaps`."""
    splits: int
    """True objects in several predicted ones; as in `Overlaps`."""
    overlapping: int
    """Pairs with an IoU above 0.5, which the panoptic quality counts."""
    overlap: float
    """The sum of their IoU."""

    def tp(self, threshold: float = 0.5) -> int:
        """True objects that were found. Raises UsageError for a threshold that was not asked for."""
        if threshold not in self.thresholds:
            raise UsageError(f"nothing was counted at an IoU of {threshold:g}", fix=f"one of {self.thresholds}")
        return self.found[self.thresholds.index(threshold)]

    def fp(self, threshold: float = 0.5) -> int:
        """Predicted objects that are none."""
        return self.predicted - self.tp(threshold)

    def fn(self, threshold: float = 0.5) -> int:
        """True objects that were missed."""
        return self.true - self.tp(threshold)

    def precision_at(self, threshold: float = 0.5) -> float | None:
        """TP / (TP + FP + FN): what DSB 2018 and StarDist call (average) precision."""
        return _over(self.tp(threshold), self.true + self.predicted - self.tp(threshold))

    def f1(self, threshold: float = 0.5) -> float | None:
        """2 TP / (2 TP + FP + FN)."""
        return _over(2 * self.tp(threshold), self.true + self.predicted)

    @property
    def average_precision(self) -> float | None:
        """Mean of `precision_at` over the thresholds."""
        values = [v for t in self.thresholds if (v := self.precision_at(t)) is not None]
        return float(np.mean(values)) if values else None

    @property
    def panoptic_quality(self) -> float | None:
        """Sum of the IoU of pairs above 0.5, over TP + FP/2 + FN/2 (Kirillov et al. 2019)."""
        return _over(2 * self.overlap, self.true + self.predicted)

    @property
    def matched_iou(self) -> float | None:
        """Mean IoU of pairs above 0.5; None without one."""
        return _over(self.overlap, self.overlapping)

    @property
    def count_error(self) -> int:
        """Predicted objects less true ones."""
        return self.predicted - self.true


def instance_scores(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], ignore: npt.NDArray[np.bool_] | None = None,
                    thresholds: Sequence[float] = THRESHOLDS) -> InstanceScores:
    """All scores of an image from one count of overlaps. truth, predicted, ignore and errors: as in `match_instances`.

    >>> scores = instance_scores(np.array([[1, 1, 0, 2]]), np.array([[7, 7, 0, 0]]))
    >>> scores.precision_at(0.5), scores.f1(0.75), scores.count_error
    (0.5, 0.6666666666666666, -1)
    """
    overlaps = count_overlaps(truth, predicted, ignore)
    above = overlaps.ious[overlaps.ious > 0.5]
    return InstanceScores(tuple(thresholds), tuple(match_overlaps(overlaps, t).tp for t in thresholds), len(overlaps.true_ids),
                          len(overlaps.predicted_ids), overlaps.merges, overlaps.splits, len(above), float(above.sum()))


def pooled(images: Iterable[InstanceScores]) -> InstanceScores:
    """Several images as one: the counts are summed. Raises UsageError for none, or for other thresholds."""
    images = list(images)
    if len({i.thresholds for i in images}) != 1:
        raise UsageError("scores of no image, or at several sets of thresholds, have no sum")
    return InstanceScores(images[0].thresholds, tuple(int(n) for n in np.sum([i.found for i in images], axis=0)),
                          sum(i.true for i in images), sum(i.predicted for i in images), sum(i.merges for i in images),
                          sum(i.splits for i in images), sum(i.overlapping for i in images), sum(i.overlap for i in images))


def precision_at(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], threshold: float = 0.5,
                 ignore: npt.NDArray[np.bool_] | None = None) -> float | None:
    """TP / (TP + FP + FN) of an image at one threshold of the IoU; None where neither side has an object.

    Arguments and errors: as in `match_instances`.

    >>> precision_at(np.array([1, 1, 0, 2]), np.array([1, 1, 0, 0])), precision_at(np.zeros(3, int), np.zeros(3, int))
    (0.5, None)
    """
    return instance_scores(truth, predicted, ignore, (threshold,)).precision_at(threshold)


def average_precision(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], thresholds: Sequence[float] = THRESHOLDS,
                      ignore: npt.NDArray[np.bool_] | None = None) -> float | None:
    """Mean of `precision_at` over thresholds of the IoU: the score of the Data Science Bowl 2018.

    >>> average_precision(np.array([1, 1, 1, 1]), np.array([1, 1, 1, 0]), (0.5, 0.75, 0.9))
    0.6666666666666666
    """
    return instance_scores(truth, predicted, ignore, thresholds).average_precision


def _over(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
