"""IoU, Dice and cross-entropy as the report on the optic disc and cup of Drishti-GS computed them (spec 1.10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import SizeError
from biomask.metrics.calibration import CLIP


@dataclass(frozen=True)
class ArticleScores:
    """Of one image, which is a batch of its own; None without a known pixel."""

    iou: float | None
    """I / (Σp + Σy − I), I = Σ p y, with p = 1 above the threshold and else 0, over the pixels of all structures together; None
    where both sides are empty, where the report's own code divides 0 by 0."""
    dice_loss: float | None
    """The mean over structures of 1 − (2 Σ p y + smooth) / (Σp + Σy + smooth) with p as it is: what the report prints as Dice."""
    bce: float | None
    """The mean over pixels and structures of −(y ln p + (1 − y) ln(1 − p)), nats; probabilities below 1e-7 count as that."""

    @property
    def dice(self) -> float | None:
        """The soft Dice coefficient, 1 − `dice_loss`."""
        return None if self.dice_loss is None else 1 - self.dice_loss


def article_scores(probabilities: npt.NDArray[Any], truth: npt.NDArray[Any], *, threshold: float = 0.5, smooth: float = 1.0,
                   ignore: npt.NDArray[np.bool_] | None = None) -> ArticleScores:
    """Of the structures of an image, which may overlap.

    probabilities: (C, *S), 0..1. truth: bool (C, *S). threshold: of the IoU alone, exclusive. smooth: added to numerator and
    denominator of Dice. ignore: bool (*S), True = unknown. Raises SizeError for other shapes.

    >>> found = article_scores(np.array([[0.75, 0.25]]), np.array([[True, False]]))
    >>> found.iou, round(found.dice_loss, 4), round(found.dice, 4), round(found.bce, 4)
    (1.0, 0.1667, 0.8333, 0.2877)
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(truth, np.bool_)
    if p.shape != y.shape or p.ndim < 2 or (ignore is not None and ignore.shape != p.shape[1:]):
        raise SizeError(f"probabilities have shape {p.shape}, truth {y.shape}"
                        + ("" if ignore is None else f", ignore {ignore.shape}"))
    known = np.ones(p.shape[1:], np.bool_) if ignore is None else ~ignore
    p, y = p[:, known], y[:, known]
    if not p.size:
        return ArticleScores(None, None, None)
    above = p > threshold
    either = int((above | y).sum())  # Σp + Σy − I
    dice = (2 * (p * y).sum(axis=1) + smooth) / (p.sum(axis=1) + y.sum(axis=1) + smooth)
    return ArticleScores(float((above & y).sum() / either) if either else None, float((1 - dice).mean()),
                         float(-np.log(np.maximum(np.where(y, p, 1 - p), CLIP)).mean()))
