"""How well a detector finds the objects of held-out images, at every score threshold that may be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from biomask.data.detection import scene
from biomask.data.objects import Objects
from biomask.instances.polygons import Crop
from biomask.metrics.average_precision import THRESHOLDS
from biomask.metrics.keypoints import oks, usual_sigmas
from biomask.models.mask_rcnn.boxes import box_ioa, box_iou
from biomask.prediction.detect import detect_image
from biomask.prediction.detections import Detections, resolve
from biomask.training.distributed import World
from biomask.training.objective import Score

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset

#: Score thresholds that are tried; objects count whose score is above. With lower ones more is found that is none than is missed.
CUTS = tuple(n / 20 for n in range(6, 20))

#: A found object of which at least this share lies in a crowd, or where nothing is known, does not count unless it is right.
IN_CROWD = 0.5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DetectionJudge:
    """Scores detectors on a fixed choice of held-out images, which are shared out among the processes."""

    dataset: Dataset
    device: torch.device
    indices: Sequence[int]
    window: tuple[int, int] | None = None
    """(Y, X) of the windows that images are seen in, as in prediction; None = whole images."""
    least: int = 1
    """Objects of fewer pixels are left out."""
    world: World = field(default_factory=World)

    def score(self, network: nn.Module) -> Score:
        """At the best of `CUTS`, which `Score.thresholds` names; leaves the network's mode as it was."""
        was_training = network.training
        network.eval()
        counts = np.zeros((len(self.indices), len(CUTS), len(THRESHOLDS) + 2))
        try:
            for n in range(self.world.rank, len(self.indices), self.world.size):
                counts[n] = self.count(network, self.indices[n])
        finally:
            network.train(was_training)
        if self.world.size > 1:
            counts = self.world.total(torch.as_tensor(counts, device=self.device, dtype=torch.float64)).cpu().numpy()
        return best_of(counts)

    def count(self, network: nn.Module, i: int) -> Floats:
        """`tally` of held-out image i."""
        image, objects = self.dataset.kept(i, lambda: scene(self.dataset, i))
        found = detect_image(network, image, tile=self.window, limits={"score": CUTS[0]}, device=self.device)
        return tally(found, objects, self.least)


def best_of(counts: Floats) -> Score:
    """Of images (N, cuts, thresholds + 2) as `tally` counts them: the score at the best cut; of several alike the one nearest 0.5.

    The value of an image is the mean over IoU thresholds of TP / (TP + FP + FN), as of other object systems here, and that of all
    is the mean over images.
    """
    right, predicted, true = counts[..., :-2], counts[..., -2:-1], counts[..., -1:]
    both = true + predicted - right
    precisions = np.divide(right, both, out=np.full(right.shape, np.nan), where=both > 0)
    values = [_mean(precisions[:, k].mean(axis=-1)) for k in range(len(CUTS))]
    best = max(range(len(CUTS)), key=lambda k: (round(values[k] or 0.0, 6), -abs(CUTS[k] - 0.5)))
    each = precisions[:, best].mean(axis=-1)
    images = tuple(None if np.isnan(v) else float(v) for v in each)
    ap50 = _mean(precisions[:, best, THRESHOLDS.index(0.5)])
    return Score(values[best] or 0.0, {"ap50": ap50}, not counts[:, 0, -2].any(), images, {"score": CUTS[best]})


def _mean(values: Floats) -> float | None:
    """Of those that are defined."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def tally(found: Detections, objects: Objects, least: int = 1) -> Floats:
    """(cuts, thresholds + 2): at each of `CUTS`, true objects that were found at each overlap threshold, found objects, true ones.

    Overlap is the IoU of masks, found ones without the pixels that others with a higher score have, as predictions are written;
    of detectors of boxes that of boxes, of detectors of keypoints without masks their similarity (OKS). Objects of different
    classes do not overlap. Pairs are one to one, as many as there can be.
    """
    ignored = _ignored(found, objects)
    true = _taken(objects, ~ignored)
    scores, overlaps, inside = _overlaps(found, true, _taken(objects, ignored), least)
    out = np.zeros((len(CUTS), len(THRESHOLDS) + 2))
    counted = (inside < IN_CROWD) | (overlaps.max(axis=1, initial=0.0) >= THRESHOLDS[0])
    for row, cut in zip(out, CUTS, strict=True):
        some = overlaps[(scores > cut) & counted]
        row[:-2] = [_pairs(some >= t) for t in THRESHOLDS]
        row[-2:] = len(some), len(true)
    return out


def _taken(objects: Objects, which: npt.NDArray[np.bool_]) -> Objects:
    """Some of them."""
    return replace(objects, boxes=objects.boxes[which], classes=objects.classes[which], crowd=objects.crowd[which],
                   ids=objects.ids[which], masks=tuple(m for m, wanted in zip(objects.masks, which, strict=True) if wanted),
                   keypoints=None if objects.keypoints is None else objects.keypoints[which])


def _ignored(found: Detections, objects: Objects) -> npt.NDArray[np.bool_]:
    """Objects that say nothing of what is compared: crowds, those without a mask or without a labelled point where these count."""
    if found.keypoints is not None and not found.masked:
        points = objects.keypoints
        bare = np.ones(len(objects), bool) if points is None else ~(points[..., 2] > 0).any(axis=1)
        return np.asarray(objects.crowd | bare)
    return np.asarray(objects.crowd | np.array([found.masked and m is None for m in objects.masks], bool))


def _overlaps(found: Detections, true: Objects, ignored: Objects,
              least: int) -> tuple[npt.NDArray[np.float32], Floats, Floats]:
    """Of the D objects that are predicted: scores (D,), overlaps with true objects (D, T), shares in what is ignored (D,)."""
    if not found.masked:
        boxes = torch.from_numpy(found.boxes.astype(np.float64))
        inside = box_ioa(boxes, torch.from_numpy(ignored.boxes)).numpy().max(axis=1, initial=0.0)
        overlaps = (_similarities(found, true) if found.keypoints is not None else
                    box_iou(boxes, torch.from_numpy(true.boxes)).numpy())
        return found.scores, _of_class(overlaps, found.classes, true.classes), inside
    resolved = resolve(found, true.size, least=least)
    areas = np.bincount(resolved.ids.ravel(), minlength=len(resolved.of) + 1)[1:].astype(np.float64)
    shared = _shared(resolved.ids, len(resolved.of), true.masks)
    total = np.array([0 if m is None else np.count_nonzero(m[0]) for m in true.masks], np.float64)
    overlaps = shared / np.maximum(areas[:, None] + total - shared, 1)
    regions = tuple(_filled(m, b, true.size) for m, b in zip(ignored.masks, ignored.boxes, strict=True))
    inside = (_shared(resolved.ids, len(resolved.of), regions) / np.maximum(areas[:, None], 1)).max(axis=1, initial=0.0)
    return found.scores[resolved.of], _of_class(overlaps, found.classes[resolved.of], true.classes), inside


def _shared(ids: npt.NDArray[np.int32], count: int, masks: Sequence[Crop | None]) -> Floats:
    """(count, masks): pixels that each id shares with each mask."""
    out = np.zeros((count, len(masks)))
    for column, mask in enumerate(masks):
        if mask is not None:
            pixels, (top, left) = mask
            window = ids[top:top + pixels.shape[0], left:left + pixels.shape[1]]
            out[:, column] = np.bincount(window[pixels], minlength=count + 1)[1:]
    return out


def _filled(mask: Crop | None, box: Floats, size: tuple[int, int]) -> Crop:
    """A mask, or all pixels of a box where there is none."""
    if mask is not None:
        return mask
    left, top, right, bottom = (round(v) for v in box.tolist())
    return np.ones((min(bottom, size[0]) - max(top, 0), min(right, size[1]) - max(left, 0)), bool), (max(top, 0), max(left, 0))


def _similarities(found: Detections, true: Objects) -> Floats:
    """(D, T): similarity of keypoints; of an object without a mask the area is its box's."""
    if found.keypoints is None or true.keypoints is None:
        return np.zeros((len(found), len(true)))
    sides = np.concatenate([true.boxes[:, :2], true.boxes[:, 2:] - true.boxes[:, :2]], axis=1)
    areas = np.array([side[2] * side[3] if m is None else np.count_nonzero(m[0])
                      for m, side in zip(true.masks, sides, strict=True)], np.float64)
    pairs = np.stack(np.meshgrid(np.arange(len(found)), np.arange(len(true)), indexing="ij"), axis=2).reshape(-1, 2)
    sigmas = np.array(usual_sigmas(found.keypoints.shape[1]), np.float64)
    return oks(true.keypoints, areas, sides, found.keypoints.astype(np.float64), pairs, sigmas).reshape(len(found), len(true))


def _of_class(overlaps: Floats, found: npt.NDArray[Any], true: npt.NDArray[Any]) -> Floats:
    """Without those of different classes."""
    return np.where(found[:, None] == true, overlaps, 0.0)


def _pairs(fits: npt.NDArray[np.bool_]) -> int:
    """Most pairs, one to one, of a table (D, T) of what fits."""
    if not fits.any():
        return 0
    if fits.sum(axis=0).max() <= 1 and fits.sum(axis=1).max() <= 1:
        return int(fits.sum())
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    return int((maximum_bipartite_matching(csr_matrix(fits)) >= 0).sum())
