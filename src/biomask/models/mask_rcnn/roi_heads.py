"""The heads on regions of interest: box, and where built mask and keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biomask.losses.detection import box_head_loss, keypoint_loss, mask_loss
from biomask.models.mask_rcnn.box_head import detections
from biomask.models.mask_rcnn.boxes import BoxCoder
from biomask.models.mask_rcnn.keypoint_head import decode_keypoints, keypoint_cells
from biomask.models.mask_rcnn.mask_head import mask_targets, of_class
from biomask.models.mask_rcnn.matcher import Matcher
from biomask.models.mask_rcnn.roi_align import MultiScale
from biomask.models.mask_rcnn.truth import Sampler, Truth
from biomask.models.mask_rcnn.types import Detection, Limits

#: Most of the sampled proposals that may be positive.
POSITIVE_SHARE = 0.25
#: What the modules of a branch are called after it.
PARTS = ("roi_pool", "head", "predictor")


@dataclass(frozen=True)
class Chosen:
    """Proposals of one image that a step learns from."""

    boxes: Tensor
    """(R, 4); those on objects come first."""
    matched: Tensor
    """(P,) int64: which object each of the first P stands for."""
    labels: Tensor
    """(R,) int64, 0 for background."""
    goals: Tensor
    """(P, 4): deltas from the proposals to their objects."""

    @property
    def positive(self) -> Tensor:
        """(P, 4): the boxes on objects."""
        return self.boxes[:len(self.matched)]


@dataclass(frozen=True)
class Branch:
    """One head: RoIAlign, layers, predictor."""

    pool: MultiScale
    head: nn.Module
    predictor: nn.Module

    @property
    def parts(self) -> dict[str, nn.Module | None]:
        """By the last part of their names."""
        return dict(zip(PARTS, (self.pool, self.head, self.predictor), strict=True))


class RoIHeads(nn.Module):
    """Maps and proposals → losses of proposals that are sampled, or detections.

    A proposal is positive at IoU >= 0.5 with an object; the objects' own boxes are among the proposals. res5: the backbone's fourth
    stage, which a C4 network applies to every region before the box and mask heads.
    """

    box_head: nn.Module
    box_predictor: nn.Module
    mask_head: nn.Module | None
    mask_predictor: nn.Module
    keypoint_head: nn.Module | None
    keypoint_predictor: nn.Module
    res5: nn.Module | None

    def __init__(self, box: Branch, mask: Branch | None = None, keypoint: Branch | None = None,
                 res5: nn.Module | None = None) -> None:
        super().__init__()
        for name, branch in (("box", box), ("mask", mask), ("keypoint", keypoint)):
            for part, module in (branch.parts if branch else dict.fromkeys(PARTS)).items():
                self.add_module(f"{name}_{part}", module)
        self.add_module("res5", res5)
        self.coder, self.matcher = BoxCoder((10.0, 10.0, 5.0, 5.0)), Matcher(0.5, 0.5)

    def losses(self, features: Mapping[str, Tensor], proposals: Sequence[Tensor], truths: Sequence[Truth], limits: Limits,
               sample: Sampler) -> dict[str, Tensor]:
        """Maps (B, C, h, w), proposals (n, 4) of each image → the losses by torchvision's names."""
        chosen = [self._choose(p, t, limits, sample) for p, t in zip(proposals, truths, strict=True)]
        regions = self._regions("box", features, [c.boxes for c in chosen])
        logits, deltas = self.box_predictor(self.box_head(regions))
        labels = torch.cat([c.labels for c in chosen])
        classifier, edges = box_head_loss(logits, deltas, labels, torch.cat([c.goals for c in chosen]))
        losses = {"loss_classifier": classifier, "loss_box_reg": edges}
        if self.mask_head is not None:
            inside = regions[labels > 0] if self.res5 is not None else self._regions("mask", features, [c.positive for c in chosen])
            losses["loss_mask"] = self._mask_loss(inside, chosen, truths, labels)
        if self.keypoint_head is not None:
            inside = self._regions("keypoint", features, [c.positive for c in chosen])
            losses["loss_keypoint"] = self._keypoint_loss(inside, chosen, truths)
        return losses

    def detect(self, features: Mapping[str, Tensor], proposals: Sequence[Tensor], sizes: Sequence[tuple[int, int]],
               limits: Limits) -> list[Detection]:
        """Maps and proposals (n, 4) of images of sizes (H, W) → what each shows; masks (N, 1, M, M) in the boxes."""
        counts = [len(p) for p in proposals]
        logits, deltas = self.box_predictor(self.box_head(self._regions("box", features, proposals)))
        found = [detections(scores, moves, boxes, size, self.coder, limits) for scores, moves, boxes, size
                 in zip(torch.split(logits, counts), torch.split(deltas, counts), proposals, sizes, strict=True)]
        boxes, counts = [f["boxes"] for f in found], [len(f["boxes"]) for f in found]
        if self.mask_head is not None:
            masks = self._mapped("mask", self._regions("mask", features, boxes))
            masks = of_class(masks, torch.cat([f["labels"] for f in found])).sigmoid()[:, None]
            for one, mask in zip(found, torch.split(masks, counts), strict=True):
                one["masks"] = mask
        if self.keypoint_head is not None:
            maps = self._mapped("keypoint", self._regions("keypoint", features, boxes))
            for one, part in zip(found, torch.split(maps, counts), strict=True):
                one["keypoints"], one["keypoints_scores"] = decode_keypoints(part, one["boxes"])
        return found

    def _regions(self, branch: str, features: Mapping[str, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """The maps in the boxes (n, 4) of each image: (all n, C, size, size)."""
        pooled: Tensor = self.get_submodule(f"{branch}_roi_pool")(features, boxes)
        return pooled if self.res5 is None or branch == "keypoint" else self.res5(pooled)

    def _mapped(self, branch: str, regions: Tensor) -> Tensor:
        """Logits of the mask or keypoint branch from the maps of its regions."""
        logits: Tensor = self.get_submodule(f"{branch}_predictor")(self.get_submodule(f"{branch}_head")(regions))
        return logits

    def _choose(self, proposals: Tensor, truth: Truth, limits: Limits, sample: Sampler) -> Chosen:
        boxes = torch.cat((proposals, truth.boxes))
        matches = truth.match(self.matcher, boxes)
        positive, negative = sample(matches, limits.samples, POSITIVE_SHARE)
        matched = matches[positive]
        labels = torch.cat((truth.labels[matched], torch.zeros_like(negative)))
        goals = self.coder.encode(truth.boxes[matched], boxes[positive])
        return Chosen(boxes[torch.cat((positive, negative))], matched, labels, goals)

    def _mask_loss(self, regions: Tensor, chosen: Sequence[Chosen], truths: Sequence[Truth], labels: Tensor) -> Tensor:
        logits = of_class(self._mapped("mask", regions), labels[labels > 0])
        targets = [mask_targets(t.masks, c.matched, c.positive, logits.shape[-1]) for c, t in zip(chosen, truths, strict=True)
                   if t.masks is not None]
        return mask_loss(logits, torch.cat(targets))

    def _keypoint_loss(self, regions: Tensor, chosen: Sequence[Chosen], truths: Sequence[Truth]) -> Tensor:
        logits = self._mapped("keypoint", regions)
        cells = [keypoint_cells(t.keypoints[c.matched], c.positive, logits.shape[-1]) for c, t in zip(chosen, truths, strict=True)
                 if t.keypoints is not None]
        return keypoint_loss(logits, torch.cat(cells))
