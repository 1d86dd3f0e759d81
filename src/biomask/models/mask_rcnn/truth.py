"""What training knows of an image: checked, crowds apart, matched with boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from biomask.errors import LabelsError, SizeError
from biomask.losses.precision import at_least_float32
from biomask.models.mask_rcnn.boxes import box_ioa
from biomask.models.mask_rcnn.matcher import BELOW, BETWEEN, Matcher
from biomask.models.mask_rcnn.resize import rescale_boxes, rescale_keypoints, rescale_masks
from biomask.models.mask_rcnn.types import Target

#: A box of which at least this share lies in a crowd's box, and where masks are known this share of its pixels in crowds, is no
#: background. A crowd may be a thin frame of unknown pixels, in whose box the whole image lies.
IN_CROWD, CROWDED = 0.5, 0.25
#: (matches (N,) as of `Matcher`, how many, largest share of positives) → positions of positives and of negatives.
Sampler = Callable[[Tensor, int, float], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Truth:
    """The objects of an image, and where its crowds are."""

    boxes: Tensor
    """(N, 4) float32."""
    labels: Tensor
    """(N,) int64."""
    crowd: Tensor
    """(M, 4) float32, boxes of crowds."""
    masks: Tensor | None = None
    """(N, H, W) uint8."""
    keypoints: Tensor | None = None
    """(N, K, 3) float32."""
    crowded: Tensor | None = None
    """(1, H, W) uint8, the pixels of all crowds; None where masks are not known or there are none."""

    @classmethod
    def of(cls, target: Target, size: tuple[int, int], classes: int, masks: bool, keypoints: int) -> Self:
        """From the target of an image of size (H, W). Raises LabelsError where it does not fit the image or the detector."""
        _check(target, size, classes, masks, keypoints)
        boxes, labels = at_least_float32(target["boxes"]), target["labels"]
        crowd = target.get("crowd", torch.zeros_like(labels, dtype=torch.bool))
        areas = target["masks"][crowd] if masks else target.get("crowd_masks")
        return cls(boxes[~crowd], labels[~crowd], boxes[crowd], target["masks"][~crowd] if masks else None,
                   at_least_float32(target["keypoints"][~crowd]) if keypoints else None,
                   _pixels(areas, boxes[crowd]) if areas is not None and crowd.any() else None)

    def resized(self, old: tuple[int, int], new: tuple[int, int]) -> Self:
        """The same of the image after `Resize`."""
        return type(self)(rescale_boxes(self.boxes, old, new), self.labels, rescale_boxes(self.crowd, old, new),
                          None if self.masks is None else rescale_masks(self.masks, new),
                          None if self.keypoints is None else rescale_keypoints(self.keypoints, old, new),
                          None if self.crowded is None else rescale_masks(self.crowded, new))

    def match(self, matcher: Matcher, boxes: Tensor) -> Tensor:
        """Which object each box (N, 4) stands for, int64 (N,) as of `Matcher`; what would be background in a crowd is `BETWEEN`."""
        matches = matcher.match_boxes(self.boxes, boxes)
        if len(self.crowd):
            inside = box_ioa(boxes, self.crowd).amax(dim=1) >= IN_CROWD
            if self.crowded is not None:
                inside &= _shares(self.crowded[0], boxes) >= CROWDED
            matches = matches.masked_fill(inside & (matches == BELOW), BETWEEN)
        return matches


def _pixels(masks: Tensor, boxes: Tensor) -> Tensor:
    """All pixels of regions: masks (N, H, W), boxes (N, 4) → (1, H, W) uint8; of one without a mask those of its box."""
    out = masks.amax(dim=0, keepdim=True)
    for n in torch.nonzero(masks.flatten(1).amax(dim=1) == 0).flatten().tolist():
        left, top, right, bottom = boxes[n].round().int().tolist()
        out[:, max(0, top):max(0, bottom), max(0, left):max(0, right)] = 1
    return out


def _shares(mask: Tensor, boxes: Tensor) -> Tensor:
    """Share of each box (N, 4), its corners rounded, that has pixels of a mask (H, W): (N,), 0..1."""
    sums = F.pad(mask.cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32), (1, 0, 1, 0))
    low, high = boxes[:, :2].round(), torch.maximum(boxes[:, 2:].round(), boxes[:, :2].round() + 1)
    (x0, x1), (y0, y1) = ([corner[:, axis].clamp(0, mask.shape[1 - axis]).long() for corner in (low, high)] for axis in (0, 1))
    return (sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]) / (high - low).prod(dim=1)


def truths(targets: Sequence[Target] | None, images: Sequence[Tensor], classes: int, masks: bool, keypoints: int) -> list[Truth]:
    """Of each image (C, H, W); errors say which image."""
    if targets is None or len(targets) != len(images):
        raise SizeError(f"a detector in training takes one target an image, got {0 if targets is None else len(targets)} for "
                        f"{len(images)}", fix="give targets, or call eval() first to predict")
    found = []
    for n, (target, image) in enumerate(zip(targets, images, strict=True)):
        try:
            found.append(Truth.of(target, (int(image.shape[1]), int(image.shape[2])), classes, masks, keypoints))
        except LabelsError as error:
            raise LabelsError(error.what, where=f"targets[{n}]", fix=error.fix) from None
    return found


def _check(target: Target, size: tuple[int, int], classes: int, masks: bool, keypoints: int) -> None:
    """Keys, shapes, dtypes and values."""
    missing = {"boxes", "labels", *(("masks",) if masks else ()), *(("keypoints",) if keypoints else ())} - set(target)
    if missing:
        raise LabelsError(f"lacks {', '.join(sorted(missing))}", fix="give them, or build the detector without that branch")
    n = len(target["boxes"])
    shapes = {"boxes": (n, 4), "labels": (n,), "crowd": (n,), "masks": (n, *size), "keypoints": (n, keypoints, 3),
              "crowd_masks": (int(target["crowd"].sum()) if "crowd" in target else 0, *size)}
    learnt = {"boxes", "labels", "crowd", "masks" if masks else "crowd_masks", *(("keypoints",) if keypoints else ())}
    for name, value in target.items():
        if name in learnt and tuple(value.shape) != shapes[name]:  # type: ignore[attr-defined]
            raise LabelsError(f"{name} has shape {tuple(value.shape)}, not {shapes[name]}")  # type: ignore[attr-defined]
    boxes, labels = target["boxes"], target["labels"]
    if not boxes.is_floating_point() or labels.dtype != torch.int64:
        raise LabelsError(f"boxes are {boxes.dtype} and labels {labels.dtype}", fix="give float32 boxes and int64 labels")
    flat = ~(torch.isfinite(boxes).all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1))
    if flat.any():
        raise LabelsError(f"box {boxes[flat][0].tolist()} has no area", fix="boxes are x0, y0, x1, y1 with x1 > x0 and y1 > y0")
    outside = (labels < 1) | (labels >= classes)
    if outside.any():
        raise LabelsError(f"label {int(labels[outside][0])} is not 1..{classes - 1}",
                          fix="0 is background; build the detector with as many classes as there are, and one more")
