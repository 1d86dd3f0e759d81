"""`Detections`: objects of one image as a detector finds them, each on its own; `resolve` makes one map of ids of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.instances.polygons import Crop
from biomask.prediction.crops import resampled_crop

#: A visible part of at least this many pixels is an object, unless told.
LEAST = 1


@dataclass(frozen=True)
class Detections:
    """Objects of one image, by falling score. They may lie over each other.

    Coordinates are in pixel edges: the pixel in column 3 spans 3..4.
    """

    boxes: npt.NDArray[np.float32]
    """(N, 4), x0 y0 x1 y1 in pixels of the image."""
    classes: npt.NDArray[np.int64]
    """(N,), positions in the legend, from 1."""
    scores: npt.NDArray[np.float32]
    """(N,), 0..1."""
    masks: tuple[Crop, ...]
    """N of them; of a detector without masks the pixels whose centres lie in the box."""
    keypoints: npt.NDArray[np.float32] | None = None
    """(N, K, 3): x, y, 1; None of a detector without them."""
    keypoint_scores: npt.NDArray[np.float32] | None = None
    """(N, K), logits: how sure each point is; None where they are not known."""
    masked: bool = True
    """Whether the masks are the detector's, not filled boxes."""
    tile: tuple[int, int] = (0, 0)
    """(Y, X) of the windows that the image was seen in."""
    tiles: int = 1
    """How many."""
    at_limit: int = 0
    """Of these, windows in which as many objects were found as the detector gives at most, so that some may be missing."""
    joined: int = 0
    """Objects that were put together from parts in several windows."""

    def __len__(self) -> int:
        return len(self.scores)

    def taken(self, index: npt.NDArray[Any] | Sequence[int]) -> Detections:
        """Some of them, by number or as a bool mask, in this order."""
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        return replace(self, boxes=self.boxes[index], classes=self.classes[index], scores=self.scores[index],
                       masks=tuple(self.masks[i] for i in index),
                       keypoints=None if self.keypoints is None else self.keypoints[index],
                       keypoint_scores=None if self.keypoint_scores is None else self.keypoint_scores[index])

    def ordered(self) -> Detections:
        """By falling score; of equal scores the upper left one first."""
        return self.taken(np.lexsort((self.boxes[:, 0], self.boxes[:, 1], -self.scores)))

    def moved(self, top: int, left: int) -> Detections:
        """In an image in which theirs begins at this row and column."""
        shift = np.array([left, top], np.float32)
        keypoints = self.keypoints
        if keypoints is not None:
            keypoints = np.concatenate([keypoints[..., :2] + shift, keypoints[..., 2:]], axis=-1)
        return replace(self, boxes=self.boxes + np.tile(shift, 2), keypoints=keypoints,
                       masks=tuple((pixels, (y + top, x + left)) for pixels, (y, x) in self.masks))

    def resampled(self, factors: Sequence[float], size: Sequence[int]) -> Detections:
        """In an image that is `factors` (y, x) times as large and has `size` (Y, X) pixels: each pixel of a mask is that of the
        nearest one of theirs."""
        scale = np.array([factors[1], factors[0]], np.float32)
        keypoints = self.keypoints
        if keypoints is not None:
            keypoints = np.concatenate([keypoints[..., :2] * scale, keypoints[..., 2:]], axis=-1)
        return replace(self, boxes=self.boxes * np.tile(scale, 2), keypoints=keypoints,
                       masks=tuple(resampled_crop(crop, factors, size) for crop in self.masks))


def together(parts: Sequence[Detections]) -> Detections:
    """Those of several windows in one, in the order given; they must be in pixels of the same image, and of one detector."""
    first = parts[0]
    pointed = first.keypoints is not None
    sure = first.keypoint_scores is not None
    return Detections(
        np.concatenate([p.boxes for p in parts]), np.concatenate([p.classes for p in parts]),
        np.concatenate([p.scores for p in parts]), tuple(crop for p in parts for crop in p.masks),
        np.concatenate([p.keypoints for p in parts if p.keypoints is not None]) if pointed else None,
        np.concatenate([p.keypoint_scores for p in parts if p.keypoint_scores is not None]) if sure else None,
        first.masked, first.tile, sum(p.tiles for p in parts), sum(p.at_limit for p in parts), sum(p.joined for p in parts))


@dataclass(frozen=True)
class Resolved:
    """A map in which each pixel belongs to one object at most."""

    ids: npt.NDArray[np.int32]
    """(Y, X), 0 = background, the others by falling score."""
    of: npt.NDArray[np.int64]
    """(n,), the number of the detection that has id i at i - 1."""
    vanished: int
    """Detections of which too few pixels were left, because others with a higher score lie over them or their mask is empty."""

    def id_of(self, count: int) -> npt.NDArray[np.int64]:
        """(count,): the id of each of so many detections, 0 of those that vanished."""
        ids = np.zeros(count, np.int64)
        ids[self.of] = np.arange(1, len(self.of) + 1)
        return ids


def resolve(found: Detections, size: Sequence[int], *, least: int = LEAST) -> Resolved:
    """Ids of detections in an image of `size` (Y, X). Where some lie over each other, the higher score has the pixel.

    least: detections with fewer visible pixels than this vanish, and leave those pixels to others below them.
    """
    ids, kept = np.zeros(tuple(size), np.int32), list[int]()
    for number in np.argsort(-found.scores, kind="stable").tolist():
        pixels, (top, left) = found.masks[number]
        window = ids[top:top + pixels.shape[0], left:left + pixels.shape[1]]
        visible = pixels & (window == 0)
        if np.count_nonzero(visible) < max(1, least):
            continue
        kept.append(number)
        window[visible] = len(kept)
    return Resolved(ids, np.array(kept, np.int64), len(found) - len(kept))
