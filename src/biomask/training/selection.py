"""Which of two sets of weights to keep, by their scores on the same few held-out images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from biomask.training.objective import Score
    from biomask.training.resume import State

#: How sure a difference must be (one-sided t-test of the paired differences).
SURE = 0.95

#: Of a single image, which tells nothing of chance, a difference from which on it counts.
CLEAR = 0.02


def clearly_better(one: Sequence[float | None], other: Sequence[float | None]) -> bool:
    """Whether scores `one` are better than `other`, of the same images in the same order, by more than chance explains.

    Scores of a training jump about from one validation to the next, most where few images are scored. Keeping the highest of many
    keeps a lucky one; later weights, for which the learning rate was lower, are better more often than not. None = undefined,
    does not count.
    """
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    differences = np.array([a - b for a, b in both], np.float64)
    n = len(differences)
    if n < 2:
        return bool(n and differences[0] > CLEAR)
    from scipy.stats import t

    error = differences.std(ddof=1) / n**0.5
    return bool(differences.mean() > max(t.ppf(SURE, n - 1) * error, 1e-9))


def keep(state: State, score: Score, weights: Mapping[str, Tensor], step: int) -> None:
    """Make these the best weights so far, copied to the CPU."""
    state.best_step, state.best_score, state.best_parts = step, score.value, dict(score.parts)
    state.best_images = list(score.images)
    state.best = {k: v.detach().cpu().clone() for k, v in weights.items()}
    if score.thresholds:
        state.thresholds = dict(state.thresholds) | dict(score.thresholds)
