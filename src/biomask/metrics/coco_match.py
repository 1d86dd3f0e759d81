"""COCO's matching: which found objects are right, wrong or not judged, at each threshold and in each range of areas (spec 7.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError, SizeError
from biomask.instances.runs import Runs, shared_pixels
from biomask.metrics.keypoints import oks, points_area, usual_sigmas

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: What is compared: boxes, masks by their pixels, or key points by OKS.
CocoKind = Literal["boxes", "masks", "keypoints"]

#: Of the IoU or OKS: 0.5, 0.55, … 0.95.
COCO_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)

#: Pixels, with both ends: an area of exactly 32² is in two of them.
AREAS: dict[str, tuple[float, float]] = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}

#: Numbers of the surest objects of an image and category that count; the last is the most.
LIMITS: dict[str, tuple[int, ...]] = {"boxes": (1, 10, 100), "masks": (1, 10, 100), "keypoints": (20,)}

#: What became of a found object.
WRONG, RIGHT, IGNORED = 0, 1, 2


def ranges_of(kind: CocoKind) -> dict[str, tuple[float, float]]:
    """The areas of a kind: nobody labels the key points of small persons."""
    return {name: area for name, area in AREAS.items() if kind != "keypoints" or name != "small"}


@dataclass(frozen=True)
class TrueObjects:
    """The truth of an image, G objects."""

    categories: Ints
    """(G,)."""
    areas: Floats
    """(G,) pixels, as the truth says them: COCO's are those of the polygons."""
    boxes: Floats
    """(G, 4): x, y, width, height."""
    crowd: Bools
    """(G,) whether it is a region of many that nobody told apart, which any number of found objects may lie in."""
    masks: Runs | None = None
    keypoints: Floats | None = None
    """(G, K, 3): x, y, visibility; objects without a visibility above 0 are not judged."""

    def __post_init__(self) -> None:
        n = len(self.categories)
        _require_shapes("true", {"categories": (self.categories, (n,)), "areas": (self.areas, (n,)), "boxes": (self.boxes, (n, 4)),
                                 "crowd": (self.crowd, (n,)), "keypoints": (self.keypoints, (n, None, 3))}, self.masks, n)


@dataclass(frozen=True)
class FoundObjects:
    """What was found in an image, D objects in any order; of equal scores those that come first count as surer."""

    categories: Ints
    """(D,)."""
    scores: Floats
    """(D,) finite."""
    boxes: Floats
    """(D, 4): x, y, width, height."""
    masks: Runs | None = None
    keypoints: Floats | None = None
    """(D, K, 3): x, y and a number that counts for nothing."""

    def __post_init__(self) -> None:
        n = len(self.categories)
        _require_shapes("found", {"categories": (self.categories, (n,)), "scores": (self.scores, (n,)),
                                  "boxes": (self.boxes, (n, 4)), "keypoints": (self.keypoints, (n, None, 3))}, self.masks, n)
        if not np.isfinite(self.scores).all():
            raise LabelsError("scores of found objects are not finite")


def _require_shapes(side: str, arrays: dict[str, tuple[npt.NDArray[np.generic] | None, tuple[int | None, ...]]], masks: Runs | None,
                    count: int) -> None:
    for name, (array, shape) in arrays.items():
        if array is None:
            continue
        if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
            raise SizeError(f"{name} of {count} {side} objects have shape {array.shape}")
    if masks is not None and len(masks) != count:
        raise SizeError(f"{count} {side} objects have {len(masks)} masks")


@dataclass(frozen=True)
class MatchedImage:
    """What an image adds to COCO's scores. D: found objects within the limit; C: thresholds times areas, areas varying fastest."""

    categories: Ints
    """(D,) ascending, and within each by falling score."""
    scores: Floats
    """(D,)."""
    ranks: Ints
    """(D,) how many of its category are surer."""
    outcomes: npt.NDArray[np.int8]
    """(D, C): WRONG, RIGHT or IGNORED."""
    true_categories: Ints
    """(G,) ascending."""
    judged: Bools
    """(G, areas): the area fits, and it is no crowd."""


def match_image(truth: TrueObjects, found: FoundObjects, kind: CocoKind, sigmas: Floats | None = None) -> MatchedImage:
    """Match the objects of an image, each category on its own.

    By falling score each takes, of the true objects that are left, the one of the largest overlap of the threshold or more (the
    last of equals); those that are not judged only where no other is left, crowds again and again. What is matched to one that is
    not judged is ignored, and so is what is not matched and has an area outside the range. sigmas: (K,) of key points; None = those
    of `usual_sigmas`. Raises LabelsError where one side lacks what is compared, SizeError where sizes or numbers of points differ.
    """
    ranges = np.array(list(ranges_of(kind).values()))
    found_areas, extra_ignore = _areas(truth, found, kind)
    order = np.lexsort((-found.scores, found.categories))
    ranks = _ranks(found.categories[order])
    order, ranks = order[ranks < LIMITS[kind][-1]], ranks[ranks < LIMITS[kind][-1]]
    categories = found.categories[order]
    true_order = np.argsort(truth.categories, kind="stable")
    true_categories = truth.categories[true_order]
    pairs = _pairs(categories, true_categories)  # positions in the two orders
    overlaps = _overlaps(truth, found, np.stack([order[pairs[:, 0]], true_order[pairs[:, 1]]], axis=1), kind, sigmas)
    near = overlaps >= COCO_THRESHOLDS[0]
    outside = _outside(truth.areas[true_order], ranges)
    ignored = outside | (truth.crowd | extra_ignore)[true_order, None]
    outcomes = np.tile(np.where(_outside(found_areas[order], ranges), IGNORED, WRONG).astype(np.int8), len(COCO_THRESHOLDS))
    _match(pairs[near], overlaps[near], categories, ignored, truth.crowd[true_order], outcomes)
    return MatchedImage(categories, found.scores[order], ranks, outcomes, true_categories, ~ignored)


def _match(pairs: Ints, overlaps: Floats, categories: Ints, ignored: Bools, crowd: Bools, outcomes: npt.NDArray[np.int8]) -> None:
    """Fill in the outcomes (D, C) of found objects that overlap true ones. pairs: by the found one, positions ascending.

    Of each category one found object a step, in order of the scores; all categories, thresholds and areas at once.
    """
    columns = outcomes.shape[1]
    # Two thresholds at 1 would miss objects that fit exactly: rounding.
    least = np.repeat(np.minimum(COCO_THRESHOLDS, 1 - 1e-10), columns // len(COCO_THRESHOLDS))
    judged = np.tile(~ignored, len(COCO_THRESHOLDS))
    free = np.ones(judged.shape, np.bool_)
    order = np.lexsort((pairs[:, 1], overlaps, pairs[:, 0]))  # the best of each found object last
    pairs, overlaps = pairs[order], overlaps[order]
    first = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    counts = np.diff(np.append(first, len(pairs)))
    step = _ranks(categories[pairs[first, 0]])
    by_step = np.argsort(step, kind="stable")
    cuts = np.append(np.flatnonzero(np.diff(step[by_step], prepend=-1)), len(by_step))
    for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        objects = by_step[low:high]
        sizes = counts[objects]
        starts = np.cumsum(sizes) - sizes
        p = len(chosen := np.repeat(first[objects] - starts, sizes) + np.arange(sizes.sum()))
        true = pairs[chosen, 1]
        can = free[true] & (overlaps[chosen, None] >= least)
        place = np.where(judged[true], p, 0) + np.arange(1, p + 1)[:, None]  # 1…p not judged, p + 1…2 p judged
        best = np.maximum.reduceat(np.where(can, place, 0), starts, axis=0)
        own = outcomes[pairs[first[objects], 0]]
        outcomes[pairs[first[objects], 0]] = np.where(best > p, RIGHT, np.where(best > 0, IGNORED, own))
        rows, column = np.nonzero(best)
        taken = true[(best[rows, column] - 1) % p]
        free[taken, column] = crowd[taken]


def _ranks(categories: Ints) -> Ints:
    """(N,) how many of the same category come before. categories: ascending."""
    return np.arange(len(categories)) - np.searchsorted(categories, categories)


def _pairs(found: Ints, true: Ints) -> Ints:
    """(P, 2) positions of all pairs of one category. found, true: categories, ascending."""
    low, high = np.searchsorted(true, found), np.searchsorted(true, found, "right")
    count = high - low
    first = np.repeat(np.arange(len(found)), count)
    return np.stack([first, np.arange(len(first)) + np.repeat(low - (np.cumsum(count) - count), count)], axis=1)


def _outside(areas: Floats, ranges: Floats) -> Bools:
    """(N, areas)."""
    return np.asarray((areas[:, None] < ranges[:, 0]) | (areas[:, None] > ranges[:, 1]))


def _areas(truth: TrueObjects, found: FoundObjects, kind: CocoKind) -> tuple[Floats, Bools]:
    """((D,) areas of found objects: of what is compared, (G,) whether there is nothing to compare with). Raises LabelsError."""
    nothing = np.zeros(len(truth.categories), np.bool_)
    if kind == "boxes":
        return found.boxes[:, 2] * found.boxes[:, 3], nothing
    for side, has in (("true", getattr(truth, kind)), ("found", getattr(found, kind))):
        if has is None or (isinstance(has, np.ndarray) and not has.shape[1]):
            raise LabelsError(f"{side} objects have no {'masks' if kind == 'masks' else 'key points'}")
    if kind == "masks" and found.masks is not None:
        return found.masks.areas.astype(np.float64), nothing
    if found.keypoints is None or truth.keypoints is None:
        return np.zeros(0), nothing
    return points_area(found.keypoints), np.asarray(~(truth.keypoints[:, :, 2] > 0).any(axis=1))


def _overlaps(truth: TrueObjects, found: FoundObjects, pairs: Ints, kind: CocoKind, sigmas: Floats | None) -> Floats:
    """(P,) IoU or OKS of pairs (found, true); 0 for masks whose IoU is below the lowest threshold for sure."""
    d, g = pairs[:, 0], pairs[:, 1]
    if kind == "keypoints" and truth.keypoints is not None and found.keypoints is not None:
        sigmas = np.array(usual_sigmas(truth.keypoints.shape[1])) if sigmas is None else sigmas
        return oks(truth.keypoints, truth.areas, truth.boxes, found.keypoints, pairs, sigmas)
    if kind == "masks" and truth.masks is not None and found.masks is not None:
        return mask_overlaps(found.masks, truth.masks, pairs, truth.crowd[g])
    return box_overlaps(found.boxes[d], truth.boxes[g], truth.crowd[g])


def box_overlaps(found: Floats, true: Floats, crowd: Bools) -> Floats:
    """(P,) IoU of two boxes each (P, 4) of x, y, width, height; over the found box alone where the true one is a crowd."""
    both = np.minimum(found[:, :2] + found[:, 2:], true[:, :2] + true[:, 2:]) - np.maximum(found[:, :2], true[:, :2])
    shared = np.where((both > 0).all(axis=1), both[:, 0] * both[:, 1], 0)
    own = found[:, 2] * found[:, 3]
    union = np.where(crowd, own, own + true[:, 2] * true[:, 3] - shared)
    return np.divide(shared, union, out=np.zeros(len(shared)), where=shared > 0)


def mask_overlaps(found: Runs, true: Runs, pairs: Ints, crowd: Bools) -> Floats:
    """(P,) IoU of pairs (found, true) of masks; over the found mask alone where the true one is a crowd.

    0 where it is below COCO_THRESHOLDS for sure: boxes apart, or areas too different.
    """
    d, g = pairs[:, 0], pairs[:, 1]
    own, other = found.areas[d], true.areas[g]
    worth = (np.minimum(own, other) >= COCO_THRESHOLDS[0] * np.maximum(own, other)) | crowd
    worth &= box_overlaps(found.boxes[d], true.boxes[g], np.zeros(len(pairs), np.bool_)) > 0
    shared = np.zeros(len(pairs), np.int64)
    shared[worth] = shared_pixels(found, true, pairs[worth])
    return np.divide(shared, np.where(crowd, own, own + other - shared), out=np.zeros(len(pairs)), where=shared > 0)
