"""SEG of the Cell Tracking Challenge (spec 7.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.metrics.matching import count_overlaps


def seg_of_objects(truth: npt.NDArray[Any], predicted: npt.NDArray[Any],
                   ignore: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float64]:
    """Jaccard index of each true object of a frame, 0..1, float64 (T,), by ascending id.

    A predicted object is its partner if it covers more than half of it; without one, the true object scores 0.
    truth, predicted, ignore and errors: as in `biomask.metrics.matching.count_overlaps`.

    >>> seg_of_objects(np.array([1, 1, 1, 2, 2]), np.array([5, 5, 0, 6, 0])).tolist()
    [0.6666666666666666, 0.0]
    """
    overlaps = count_overlaps(truth, predicted, ignore)
    partners = 2 * overlaps.shared > overlaps.true_areas[overlaps.pairs[:, 0]]
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
