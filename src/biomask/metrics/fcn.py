"""The four scores of fully convolutional networks from a confusion matrix (Long, Shelhamer and Darrell, CVPR 2015; spec 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.metrics.overlap import mean, overlap


@dataclass(frozen=True)
class FcnScores:
    """With n_ij pixels of class i predicted as j, and t_i = Σ_j n_ij; 0..1, None without a known pixel.

    Background is a class like the others. A class that is in neither truth nor prediction counts nowhere, which the paper leaves
    open.
    """

    pixel_accuracy: float | None
    """Σ_i n_ii / Σ_i t_i."""
    mean_accuracy: float | None
    """The mean of n_ii / t_i over the classes in the truth."""
    mean_iou: float | None
    """The mean of n_ii / (t_i + Σ_j n_ji − n_ii) over the classes in truth or prediction."""
    frequency_weighted_iou: float | None
    """The same with weights t_i / Σ_k t_k."""


def fcn_scores(confusion: npt.NDArray[Any]) -> FcnScores:
    """From a confusion matrix (K, K), true by predicted, of one image or, as in the paper, summed over all.

    >>> found = fcn_scores(np.array([[3, 1], [0, 4]]))
    >>> found.pixel_accuracy, found.mean_accuracy, found.mean_iou, found.frequency_weighted_iou
    (0.875, 0.875, 0.775, 0.775)
    """
    known, true, classes = int(confusion.sum()), confusion.sum(axis=1), overlap(confusion)
    weighted = sum(float(t) * iou for t, iou in zip(true, classes.iou, strict=True) if iou is not None)
    return FcnScores(float(np.trace(confusion) / known) if known else None, mean(classes.recall), mean(classes.iou),
                     weighted / known if known else None)
