"""What is tried with the best weights when training ends: thresholds of objects, and averaging over copies of the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from biomask.data.task import CUT
from biomask.instances import Thresholds, label_instances
from biomask.instances.tune import tune_thresholds
from biomask.metrics.average_precision import instance_scores, pooled
from biomask.models.calibration import Calibration, fit_calibration
from biomask.prediction.maps import Augment, Symmetry
from biomask.prediction.refine import Refinement
from biomask.training.validation import Judge

#: Cuts between two classes that are tried.
CUTS = tuple(n / 50 for n in range(10, 41))

#: Pixels of held-out images by which thresholds are tuned.
MOST_TUNED = 3_000_000


def choose_augment(network: nn.Module, judge: Judge, wanted: Augment | None, copies: Callable[[Augment], list[Symmetry]],
                   thresholds: Thresholds) -> tuple[Augment, dict[str, float]]:
    """(the copies that predictions are the mean of, scores of what was tried). wanted: as the recipe says; None = try.

    The mean is kept wherever it scores better, however little: what it does for outlines that a score of pixels hardly sees was
    0.03 of the Rand F-score on ISBI 2012.
    """
    if wanted is not None:
        return wanted, {}
    plain = judge.score(network, [thresholds])
    if len(copies("symmetries")) == 1:
        return "none", {"none": plain.value}
    found = judge.score(network, [thresholds], copies("symmetries"))
    scores = {"none": plain.value, "symmetries": found.value}
    return ("symmetries" if found.value > plain.value else "none"), scores


def tune(network: nn.Module, judge: Judge, start: Thresholds, copies: list[Symmetry], *,
         seconds: float | None) -> tuple[Thresholds, dict[str, float]]:
    """(thresholds by which the held-out images score best; their score, that of `start`, objects, merges and splits).

    seconds: for trying; None = without bound.
    """
    indices = _some(network, judge)
    maps = {i: judge.maps(network, i, copies) for i in indices}
    known = [(maps[i], judge.dataset.item(i)[1][0], judge.dataset.item(i)[2]) for i in indices]

    def score(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], ignore: npt.NDArray[np.bool_] | None) -> float | None:
        return instance_scores(truth, predicted, ignore).average_precision

    found = tune_thresholds(known, score, start, target=judge.task.target, spacing=judge.dataset.facts.spacing, seconds=seconds)
    spacing = judge.dataset.facts.spacing
    scores = pooled(instance_scores(truth, label_instances(m, found.thresholds, target=judge.task.target, spacing=spacing), ignore)
                    for m, truth, ignore in known)
    before = [t.score for t in found.tried if t.thresholds == start]
    return found.thresholds, {"thresholds before": before[0] if before else float("nan"), "thresholds tuned": found.score,
                              "objects": scores.true, "merges": scores.merges, "splits": scores.splits}


def choose_together(network: nn.Module, judge: Judge, wanted: Augment | None, copies: Callable[[Augment], list[Symmetry]],
                    start: Thresholds, *, seconds: float | None) -> tuple[Augment, Thresholds, dict[str, float]]:
    """(the copies, the thresholds tuned for them, what was found): the mean over copies is smoother, so it has thresholds of its
    own, and each is judged by its best ones."""
    modes: list[Augment] = [wanted] if wanted is not None else ["none", "symmetries"] if len(copies("symmetries")) > 1 else ["none"]
    each = None if seconds is None else seconds / len(modes)
    tuned = {mode: tune(network, judge, start, copies(mode), seconds=each) for mode in modes}
    scores = {mode: found["thresholds tuned"] for mode, (_, found) in tuned.items()}
    best = modes[-1] if scores[modes[-1]] > scores[modes[0]] else modes[0]
    thresholds, found = tuned[best]
    return best, thresholds, {**found, **({str(mode): score for mode, score in scores.items()} if len(modes) > 1 else {})}


def tune_cut(network: nn.Module, judge: Judge, copies: list[Symmetry], *, calibrate: bool = False,
             radius: int = 0) -> tuple[dict[str, float], dict[str, float]]:
    """Of two classes: (thresholds: the probability of the second above which the held-out images score best, and the calibration if
    it is wanted; the scores before and with them).

    Of several cuts that score alike it is the one nearest to 0.5. radius: of the median filter that follows the network.
    """
    indices = _some(network, judge)
    maps = {i: judge.maps(network, i, copies) for i in indices}
    refine = Refinement(_calibration(judge, maps) if calibrate else None, radius)
    plain = {} if not refine.does_something else {"unrefined": _score_of(judge, maps, 0.5)}
    maps = {i: refine(m) for i, m in maps.items()} if refine.does_something else maps
    scores = {cut: _score_of(judge, maps, cut) for cut in CUTS}
    best = max(CUTS, key=lambda cut: (round(scores[cut], 5), -abs(cut - 0.5)))
    return {CUT: best, **refine.to_thresholds()}, {**plain, "cut before": scores[0.5], "cut tuned": scores[best]}


def _score_of(judge: Judge, maps: Mapping[int, npt.NDArray[np.float32]], cut: float) -> float:
    return judge.summary(np.sum([judge.count(m, i, cut=cut)[0] for i, m in maps.items()], axis=0)).value


def _calibration(judge: Judge, maps: Mapping[int, npt.NDArray[np.float32]]) -> Calibration:
    """From the probability of the second class to how often it is right, over the known pixels of these images."""
    found, truth = list[npt.NDArray[Any]](), list[npt.NDArray[Any]]()
    for i, m in maps.items():
        _, labels, ignore = judge.dataset.item(i)
        known = np.ones(labels.shape[1:], bool) if ignore is None else ~ignore
        found.append(m[1][known])
        truth.append(labels[-1][known] == 1)
    return fit_calibration(np.concatenate(found), np.concatenate(truth))


def _some(network: nn.Module, judge: Judge) -> list[int]:
    """Held-out images of together about `MOST_TUNED` pixels, at least one."""
    network.eval()
    indices, pixels = list[int](), 0
    for i in judge.indices:
        pixels += prod(judge.dataset.facts.sizes[i])
        if indices and pixels > MOST_TUNED:
            break
        indices.append(i)
    return indices
