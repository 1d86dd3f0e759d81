"""COCO's AP and AR of boxes, masks and key points, equal to pycocotools (Lin et al., ECCV 2014; spec 7.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.metrics.coco_match import (
    COCO_THRESHOLDS,
    LIMITS,
    RIGHT,
    WRONG,
    CocoKind,
    FoundObjects,
    MatchedImage,
    TrueObjects,
    match_image,
    ranges_of,
)

Floats = npt.NDArray[np.float64]

#: Outcomes that are looked at together.
HELD = 2**20

#: At which precision is read off: 0, 0.01, … 1.
RECALLS: Floats = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class CocoScores:
    """Precision and recall of each category; NaN where the truth has nothing that is judged."""

    kind: CocoKind
    categories: tuple[int, ...]
    precision: Floats
    """(thresholds, RECALLS, categories, areas), with the most objects of an image that count."""
    recall: Floats
    """(thresholds, categories, areas, limits)."""
    true: npt.NDArray[np.int64]
    """(categories, areas) true objects that are judged."""

    def summary(self, category: int | None = None) -> dict[str, float | None]:
        """COCO's table, of one category or the mean over all that the truth has; None = undefined.

        Of boxes and masks ap, ap50, ap75, ap_small, ap_medium, ap_large, ar_1, ar_10, ar_100, ar_small, ar_medium, ar_large; of key
        points ap, ap50, ap75, ap_medium, ap_large, and ar alike. Raises LabelsError for a category that is none of these.
        """
        if category is not None and category not in self.categories:
            raise LabelsError(f"category {category} is none of those scored")
        chosen = slice(None) if category is None else [self.categories.index(category)]
        precision, recall = self.precision[:, :, chosen], self.recall[:, chosen]
        areas = {name: n for n, name in enumerate(ranges_of(self.kind))}
        most = recall[..., -1]
        ap: dict[str, Floats] = {"ap": precision[..., 0], "ap50": precision[0, ..., 0], "ap75": precision[5, ..., 0]}
        ap |= {f"ap_{name}": precision[..., n] for name, n in areas.items() if n}
        ar = {f"ar_{limit}": recall[..., 0, m] for m, limit in enumerate(LIMITS[self.kind])}
        if self.kind == "keypoints":
            ar = {"ar": most[..., 0], "ar50": most[0, ..., 0], "ar75": most[5, ..., 0]}
        ar |= {f"ar_{name}": most[..., n] for name, n in areas.items() if n}
        return {key: _mean(values) for key, values in (ap | ar).items()}


def coco_scores(truth: Sequence[TrueObjects], found: Sequence[FoundObjects], kind: CocoKind, categories: Iterable[int],
                sigmas: Floats | None = None) -> CocoScores:
    """The scores of images, truth beside what was found in it. categories: those that count; found objects of others are left out.

    Of found objects with equal scores those of earlier images count as surer: pycocotools takes images in order of their ids.
    sigmas: of key points, as in `match_image`. Raises as `match_image`.
    """
    return coco_summary([match_image(t, f, kind, sigmas) for t, f in zip(truth, found, strict=True)], kind, categories)


def coco_summary(images: Sequence[MatchedImage], kind: CocoKind, categories: Iterable[int]) -> CocoScores:
    """The same from images that are matched."""
    kept = tuple(sorted(set(categories)))
    areas, limits = len(ranges_of(kind)), LIMITS[kind]
    precision = np.full((len(COCO_THRESHOLDS), len(RECALLS), len(kept), areas), np.nan)
    recall = np.full((len(COCO_THRESHOLDS), len(kept), areas, len(limits)), np.nan)
    true = np.zeros((len(kept), areas), np.int64)
    if not images:
        return CocoScores(kind, kept, precision, recall, true)
    true_categories = np.concatenate([i.true_categories for i in images])
    judged = np.concatenate([i.judged for i in images])
    for k, category in enumerate(kept):
        true[k] = judged[true_categories == category].sum(axis=0)
    found = np.concatenate([i.categories for i in images])
    order = np.lexsort((-np.concatenate([i.scores for i in images]), found))
    ranks = np.concatenate([i.ranks for i in images])[order]
    outcomes = np.concatenate([i.outcomes for i in images])[order]
    cuts = np.stack([np.searchsorted(found[order], kept, side) for side in ("left", "right")])
    none, needed = true == 0, _needed(true.T)
    step = max(1, HELD // max(1, len(order)))
    for first in range(0, outcomes.shape[1], step):
        columns = np.arange(first, min(first + step, outcomes.shape[1]))
        t, a = np.divmod(columns, areas)
        block = outcomes[:, columns].T
        precision[t, :, :, a] = np.where(none.T[a][:, None], np.nan, _precision_at_recalls(block, cuts, needed[a]))
        for m, limit in enumerate(limits):
            right = np.pad(np.cumsum((block == RIGHT) & (ranks < limit), axis=1), ((0, 0), (1, 0)))
            recall[t, :, a, m] = np.divide(right[:, cuts[1]] - right[:, cuts[0]], true.T[a],
                                           out=np.full((len(columns), len(kept)), np.nan), where=~none.T[a])
    return CocoScores(kind, kept, precision, recall, true)


def _precision_at_recalls(outcomes: npt.NDArray[np.int8], cuts: npt.NDArray[np.int64], needed: npt.NDArray[np.int64]) -> Floats:
    """(C, 101, K): the best precision at a recall of RECALLS or more; 0 where none is reached.

    outcomes: (C, N) of found objects, by category and falling score. cuts: (2, K), where each category begins and ends in them.
    needed: (C, 101, K) of `_needed`. The recall only rises at right objects, where precision is at its best: those between need no
    look.
    """
    count, categories = outcomes.shape[0], cuts.shape[1]
    wrong = np.pad(np.cumsum(outcomes == WRONG, axis=1), ((0, 0), (1, 0)))
    column, place = np.nonzero(outcomes == RIGHT)
    category = np.searchsorted(cuts[1], place, "right")
    within = place >= cuts[0][np.minimum(category, categories - 1)] if categories else np.zeros(len(place), np.bool_)
    within &= category < categories
    column, place, category = column[within], place[within], category[within]
    group = column * categories + category  # ascending
    first, last = (np.searchsorted(group, np.arange(count * categories), side) for side in ("left", "right"))
    number = np.arange(len(group)) - first[group] + 1
    lost = wrong[column, place] - wrong[column, cuts[0][category]]
    best = _rising_back(number / (lost + number + np.spacing(1)), group)
    index = first.reshape(count, 1, categories) + np.maximum(needed, 1) - 1
    reached = index < last.reshape(count, 1, categories)
    return np.where(reached, np.append(best, 0)[np.where(reached, index, len(best))], 0)


def _rising_back(values: Floats, group: npt.NDArray[np.int64]) -> Floats:
    """The largest value from each place to the end of its group. group: ascending."""
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(values), np.int64)
    rank[order] = np.arange(len(values))
    above = (group.max(initial=0) - group) * len(values)  # so that the running maximum begins anew with each group
    return np.asarray(values[order[np.maximum.accumulate((rank + above)[::-1])[::-1] - above]])


def _needed(true: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(A, 101, K) the fewest right objects of `true` (A, K) that make a recall of RECALLS, in the rounding of the division."""
    total = np.maximum(true, 1)[:, None]
    recalls = RECALLS[:, None]
    needed = np.ceil(recalls * total).astype(np.int64)
    needed -= ((needed - 1) / total >= recalls) & (needed > 0)
    return np.asarray(needed + (needed / total < recalls))


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
