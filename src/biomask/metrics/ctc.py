"""SEG and DET of the Cell Tracking Challenge (spec 7.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.metrics.matching import Overlaps, count_overlaps

#: What it costs to part a segment, to add a missed object, and to delete one that is none.
SPLIT, MISSED, ADDED = 5, 10, 1


@dataclass(frozen=True)
class Detections:
    """What it takes to turn the objects found into the true ones, in one frame or, added with +, in several (AOGM-D)."""

    true: int
    """True objects, or markers of them."""
    splits: int
    """Segments that are to be parted: for each that covers k > 1 true objects, k − 1."""
    missed: int
    """True objects of which no segment covers more than half."""
    added: int
    """Segments that cover no true object."""

    def __add__(self, other: Detections) -> Detections:
        return Detections(self.true + other.true, self.splits + other.splits, self.missed + other.missed, self.added + other.added)

    @property
    def cost(self) -> int:
        """AOGM-D: 5 splits + 10 missed + 1 added."""
        return SPLIT * self.splits + MISSED * self.missed + ADDED * self.added

    @property
    def det(self) -> float | None:
        """1 − min(cost, D0) / D0, 0..1, where D0 is the cost of finding nothing; None without a true object."""
        nothing = MISSED * self.true
        return 1 - min(self.cost, nothing) / nothing if nothing else None


def detections(truth: npt.NDArray[Any], predicted: npt.NDArray[Any],
               ignore: npt.NDArray[np.bool_] | None = None) -> Detections:
    """The operations that one frame takes; a true object is found by the segment that covers more than half of it.

    truth: ids of true objects or of their markers. predicted, ignore and errors: as in `biomask.metrics.matching.count_overlaps`.

    >>> found = detections(np.array([1, 1, 2, 2, 0, 3]), np.array([7, 7, 7, 7, 8, 0]))
    >>> found, found.cost, round(found.det, 4)
    (Detections(true=3, splits=1, missed=1, added=1), 16, 0.4667)
    """
    overlaps = count_overlaps(truth, predicted, ignore)
    found = overlaps.pairs[_partners(overlaps)]
    covered = len(np.unique(found[:, 1]))
    return Detections(len(overlaps.true_ids), len(found) - covered, len(overlaps.true_ids) - len(found),
                      len(overlaps.predicted_ids) - covered)


def det(frames: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float | None:
    """DET: of the operations of all frames together; None without a true object.

    frames: (truth, predicted) of each frame, ids as in `detections`. The challenge's markers name every cell of a frame; against
    a truth that lacks some, the segments of these count as added.

    >>> det([(np.array([1, 1]), np.array([3, 3])), (np.array([1, 2]), np.array([0, 0]))])
    0.33333333333333337
    """
    return sum((detections(truth, predicted) for truth, predicted in frames), Detections(0, 0, 0, 0)).det


def seg_of_objects(truth: npt.NDArray[Any], predicted: npt.NDArray[Any],
                   ignore: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float64]:
    """Jaccard index of each true object of a frame, 0..1, float64 (T,), by ascending id.

    A predicted object is its partner if it covers more than half of it; without one, the true object scores 0.
    truth, predicted, ignore and errors: as in `biomask.metrics.matching.count_overlaps`.

    >>> seg_of_objects(np.array([1, 1, 1, 2, 2]), np.array([5, 5, 0, 6, 0])).tolist()
    [0.6666666666666666, 0.0]
    """
    overlaps = count_overlaps(truth, predicted, ignore)
    partners = _partners(overlaps)
    scores = np.zeros(len(overlaps.true_ids))
    scores[overlaps.pairs[partners, 0]] = overlaps.ious[partners]
    return scores


def seg(frames: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float | None:
    """SEG: the mean of `seg_of_objects` over all true objects of all frames; None where there are none.

    frames: (truth, predicted) of each annotated frame, ids as in `seg_of_objects`. Predicted objects without a partner are
    not punished, as the challenge's truth may be partial.

    >>> seg([(np.array([1, 1]), np.array([3, 3])), (np.array([1, 2]), np.array([0, 0]))])
    0.3333333333333333
    """
    scores = [seg_of_objects(truth, predicted) for truth, predicted in frames]
    every = np.concatenate(scores) if scores else np.zeros(0)
    return float(every.mean()) if every.size else None


def _partners(overlaps: Overlaps) -> npt.NDArray[np.bool_]:
    """Which pairs are partners: the predicted object has more than half of the true one."""
    return np.asarray(2 * overlaps.shared > overlaps.true_areas[overlaps.pairs[:, 0]])
