"""Cross-validation: as many trainings as folds, each holding out another part, together one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, median
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from biomask.checkpoint import MODEL_FILE, ModelHeader, load_model, save_model
from biomask.data.splits import is_numbered, number_of
from biomask.errors import UsageError
from biomask.models import DETECTORS
from biomask.models.ensemble import Ensemble
from biomask.models.head_score import HeadScore
from biomask.recipe import Recipe
from biomask.training.resume import State
from biomask.training.setup import Place, Split, make_trainer

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.training.begin import Begin


@dataclass(frozen=True)
class FoldResult:
    """One training of a cross-validation."""

    held_out: int
    state: State


def fold_splits(names: Sequence[str], groups: Sequence[str] | None, folds: int, seed: int) -> list[Split]:
    """So many splits; every image is held out once, groups are never cut, and numbered names are held out in blocks.

    Raises UsageError for fewer images, or groups, than folds.

    >>> [s.validation for s in fold_splits(["s1", "s2", "s3", "s4"], None, 2, 0)]
    [[0, 1], [2, 3]]
    """
    own = list(groups) if groups is not None and len(set(groups)) < len(names) else [str(i) for i in range(len(names))]
    distinct = list(dict.fromkeys(own))
    if not 2 <= folds <= len(distinct):
        what = "groups of images" if len(distinct) < len(names) else "images"
        raise UsageError(f"--folds {folds}: there are {len(distinct)} {what}",
                         fix=f"--folds {min(5, len(distinct))}" if len(distinct) >= 2 else "leave --folds out")
    if len(distinct) == len(names) and is_numbered(names):
        order = sorted(range(len(names)), key=lambda i: number_of(names[i]))
        parts = [[order[int(k)] for k in part] for part in np.array_split(np.arange(len(order)), folds)]
        said = "a contiguous block"
    else:
        # The largest groups first, each to the part that has fewest images so far: parts of about one size.
        shuffled = [distinct[int(i)] for i in np.random.Generator(np.random.Philox(key=[seed, 0xF01D])).permutation(len(distinct))]
        members = {g: [i for i, o in enumerate(own) if o == g] for g in distinct}
        parts = [[] for _ in range(folds)]
        for group in sorted(shuffled, key=lambda g: -len(members[g])):
            min(parts, key=len).extend(members[group])
        said = "whole groups" if len(distinct) < len(names) else "at random"
    return [Split([i for i in range(len(names)) if i not in set(part)], sorted(part),
                  f"fold {n + 1} of {folds}: {len(part)} of {len(names)} images, {said}") for n, part in enumerate(parts)]


def train_folds(dataset: Dataset, recipe: Recipe, place: Place, folds: int,
                begin: Begin | None = None) -> tuple[list[FoldResult], str | None]:
    """Train each fold into folds/N, then write one model file that holds all of them; (results, the signal that stopped it).

    A budget in minutes is shared out among the folds, one in steps is that of each.
    """
    if recipe.network.name in DETECTORS:
        raise UsageError("--folds makes one model that predicts the mean of all, and detections have no mean",
                         fix="leave --folds out; 'biomask compare --folds' scores a recipe on other parts each time")
    splits = fold_splits([p.name for p in dataset.pairs], dataset.facts.groups, folds, recipe.training.seed)
    if recipe.training.minutes is not None:
        training = recipe.training.model_copy(update={"minutes": recipe.training.minutes / folds})
        recipe = recipe.model_copy(update={"training": training})
    results = list[FoldResult]()
    for number, split in enumerate(splits, start=1):
        place.progress.say(f"— {split.reason} —")
        inner = replace(place, out=place.out / "folds" / str(number))
        state, stopped = make_trainer(dataset, recipe, inner, split, begin).run()
        results.append(FoldResult(len(split.validation), state))
        if stopped:
            return results, stopped
    if place.world.leads:
        join(place, folds)
    return results, None


def _heads_of(headers: Sequence[ModelHeader]) -> tuple[HeadScore, ...]:
    """The mean over folds of what heads are worth and cost; recommended is the middle of what the folds recommend."""
    rows = list(zip(*(h.heads for h in headers), strict=True))
    usual = median(n for h in headers for n, row in enumerate(h.heads) if row.recommended) if rows else 0
    return tuple(replace(of[0], score=mean(r.score for r in of), seconds=sum(r.seconds for r in of),
                         cut=None if of[0].cut is None else median(r.cut or 0.5 for r in of),
                         parameters=sum(r.parameters for r in of), recommended=n == int(usual))
                 for n, of in enumerate(rows))


def join(place: Place, folds: int) -> None:
    """One model file from those of the folds: their mean predicts, thresholds are the median, scores the mean over folds."""
    models = [load_model(place.out / "folds" / str(n)) for n in range(1, folds + 1)]
    tensors: dict[str, Tensor] = Ensemble.prefixed([m.network.state_dict() for m in models])
    headers = [m.header for m in models]
    names = list(headers[0].scores)
    found = {k: [v for h in headers if (v := h.scores.get(k)) is not None] for k in names}
    scores: dict[str, float | None] = {k: mean(v) if v else None for k, v in found.items()}
    scores |= {f"fold {n}.score": h.scores.get("validation.score") for n, h in enumerate(headers, start=1)}
    thresholds = {k: float(median(h.thresholds[k] for h in headers)) for k in headers[0].thresholds}
    averaged = [h.recipe.prediction.augment for h in headers if h.recipe.prediction.augment not in (None, "none")]
    prediction = headers[0].recipe.prediction.model_copy(update={"augment": averaged[0] if 2 * len(averaged) > folds else "none"})
    header = headers[0].model_copy(update={"members": folds, "scores": scores, "thresholds": thresholds,
                                           "heads": _heads_of(headers), "scored": sum(h.scored for h in headers),
                                           "recipe": headers[0].recipe.model_copy(update={"prediction": prediction}),
                                           "step": max(h.step for h in headers)})
    save_model(place.out / MODEL_FILE, tensors, header)
