"""Dice, IoU, precision, recall, specificity and pixel error from one confusion matrix (spec 7.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import SizeError

#: Pixels counted at a time.
STRIP = 2**20


@dataclass(frozen=True)
class Overlap:
    """Scores of every class, and the pixel error of all. None = undefined: 0 / 0. A: the truth, B: the prediction."""

    dice: tuple[float | None, ...]
    """2 |A∩B| / (|A| + |B|), one a class; None where the class is in neither."""
    iou: tuple[float | None, ...]
    """|A∩B| / |A∪B|, one a class; None where the class is in neither."""
    precision: tuple[float | None, ...]
    """|A∩B| / |B|, one a class; None where nothing is predicted as it."""
    recall: tuple[float | None, ...]
    """|A∩B| / |A|, also called sensitivity, one a class; None where the truth has none of it."""
    specificity: tuple[float | None, ...]
    """Known pixels outside both over those outside A, one a class; None where the truth is nothing else."""
    pixel_error: float | None
    """Share of known pixels whose class differs; None when no pixel is known."""


def confusion_matrix(truth: npt.NDArray[Any], prediction: npt.NDArray[Any], classes: int,
                     ignore: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int64]:
    """n[i, j] = known pixels of true class i that were predicted as j; int64 (classes, classes).

    truth, prediction: integer class ids 0..classes-1 of one shape; ignore: bool, True = unknown. Raises SizeError for
    other shapes or ids.

    >>> confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2).tolist()
    [[1, 1], [0, 2]]
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise SizeError(f"truth has shape {truth.shape}, prediction {prediction.shape}")
    if ignore is not None:
        truth, prediction = truth[~ignore], prediction[~ignore]
    for name, ids in (("truth", truth), ("prediction", prediction)):
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= classes):
            raise SizeError(f"{name} has ids {ids.min()}..{ids.max()}, which are not all in 0..{classes - 1}")
    true, found = truth.ravel(), prediction.ravel()
    counts = np.zeros(classes * classes, np.int64)
    for start in range(0, true.size, STRIP):  # pairs are int64: never of a whole large image at once
        pairs = true[start : start + STRIP].astype(np.int64) * classes + found[start : start + STRIP]
        counts += np.bincount(pairs, minlength=classes * classes)
    return counts.reshape(classes, classes)


def overlap(confusion: npt.NDArray[Any]) -> Overlap:
    """All scores from a confusion matrix, of one image or summed over several (pooled).

    >>> found = overlap(np.array([[1, 1], [0, 2]]))
    >>> found.dice, found.iou, found.pixel_error
    ((0.6666666666666666, 0.8), (0.5, 0.6666666666666666), 0.25)
    >>> found.precision, found.recall, found.specificity
    ((1.0, 0.6666666666666666), (0.5, 1.0), (1.0, 0.5))
    """
    both, predicted, true, known = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1), confusion.sum()
    return Overlap(
        dice=_shares(2 * both, true + predicted),
        iou=_shares(both, true + predicted - both),
        precision=_shares(both, predicted),
        recall=_shares(both, true),
        specificity=_shares(known - true - predicted + both, known - true),
        pixel_error=float(1 - both.sum() / known) if known else None,
    )


def _shares(parts: npt.NDArray[Any], wholes: npt.NDArray[Any]) -> tuple[float | None, ...]:
    return tuple(float(part / whole) if whole else None for part, whole in zip(parts, wholes, strict=True))


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the defined values; None when there is none.

    >>> mean([1.0, None, 0.5])
    0.75
    """
    defined = [v for v in values if v is not None]
    return float(np.mean(defined)) if defined else None
