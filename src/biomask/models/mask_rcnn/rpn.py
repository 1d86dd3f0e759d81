"""Region proposal network (Ren et al. 2015, arXiv:1506.01497): which anchors hold an object, and where its edges are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from biomask.losses.detection import proposal_loss
from biomask.losses.precision import at_least_float32
from biomask.models.mask_rcnn.anchors import AnchorGenerator
from biomask.models.mask_rcnn.boxes import BoxCoder, batched_nms, clip_boxes, large_enough
from biomask.models.mask_rcnn.matcher import Matcher
from biomask.models.mask_rcnn.truth import Sampler, Truth
from biomask.models.mask_rcnn.types import Limits

#: Most of the sampled anchors that may be positive.
POSITIVE_SHARE = 0.5
#: Proposals narrower or lower are dropped, in pixels.
LEAST = 1e-3


class RPNHead(nn.Module):
    """The same 3x3 convolutions and two 1x1 on every level: maps (B, channels, h, w) → logits and deltas of each anchor.

    depth: how many 3x3 convolutions, each with ReLU.
    """

    def __init__(self, channels: int, anchors: int, depth: int = 1) -> None:
        super().__init__()
        self.conv = nn.Sequential(*(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True))
                                    for _ in range(depth)))
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """→ of each level logits (B, h w A) and deltas (B, h w A, 4), by row, column, anchor."""
        logits, deltas = [], []
        for x in maps:
            x = self.conv(x)
            logits.append(at_least_float32(self.cls_logits(x)).permute(0, 2, 3, 1).flatten(1))
            deltas.append(at_least_float32(self.bbox_pred(x)).permute(0, 2, 3, 1).reshape(len(x), -1, 4))
        return logits, deltas


class RPN(nn.Module):
    """Maps → proposals, and in training its two losses.

    An anchor is positive at IoU >= 0.7 with an object or where no other overlaps that object more, negative below 0.3 with all.
    The paper trained it apart from the heads; here, as in torchvision, all are trained together.
    """

    def __init__(self, channels: int, anchors: AnchorGenerator, depth: int = 1) -> None:
        super().__init__()
        self.head = RPNHead(channels, anchors.per_cell[0], depth)
        self.anchors = anchors
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.matcher = Matcher(0.7, 0.3, low_quality=True)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int], sizes: Sequence[tuple[int, int]], limits: Limits,
                truths: Sequence[Truth] | None = None, sample: Sampler | None = None) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Maps (B, channels, h, w) of each level, size (H, W) of the batch and of each image in it → proposals (n, 4) of each image
        by falling score, and losses (none without truths)."""
        logits, deltas = self.head(maps)
        shapes = [(x.shape[-2], x.shape[-1]) for x in maps]
        anchors = self.anchors(size, shapes, maps[0].device, logits[0].dtype)
        with torch.no_grad():
            proposals = self._propose(logits, deltas, anchors, sizes, limits, training=truths is not None)
        if truths is None or sample is None:
            return proposals, {}
        together = torch.cat(logits, dim=1), torch.cat(deltas, dim=1), torch.cat(anchors)
        return proposals, self._losses(*together, truths, limits, sample)

    def _propose(self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor],
                 sizes: Sequence[tuple[int, int]], limits: Limits, training: bool) -> list[Tensor]:
        """The most promising anchors of each level, moved; then what non-maximum suppression leaves of all of them."""
        most, left = ((limits.proposals_before_nms_training, limits.proposals_training) if training
                      else (limits.proposals_before_nms, limits.proposals))
        best = [level.topk(min(most, level.shape[1]), dim=1) for level in logits]
        out = []
        for image, size in enumerate(sizes):
            chosen = [b.indices[image] for b in best]
            moved = self.coder.decode(torch.cat([d[image][c] for d, c in zip(deltas, chosen, strict=True)]),
                                      torch.cat([a[c] for a, c in zip(anchors, chosen, strict=True)]))[:, 0]
            boxes, scores = clip_boxes(moved, size), torch.cat([b.values[image] for b in best]).sigmoid()
            levels = torch.cat([torch.full_like(c, n) for n, c in enumerate(chosen)])
            good = large_enough(boxes, LEAST) & (scores >= limits.rpn_score)
            boxes, scores, levels = boxes[good], scores[good], levels[good]
            out.append(boxes[batched_nms(boxes, scores, levels, limits.rpn_nms)[:left]])
        return out

    def _losses(self, logits: Tensor, deltas: Tensor, anchors: Tensor, truths: Sequence[Truth], limits: Limits,
                sample: Sampler) -> dict[str, Tensor]:
        """Of logits (B, A) and deltas (B, A, 4) of anchors (A, 4)."""
        positive, negative, goals = [], [], []
        for image, truth in enumerate(truths):
            matches = truth.match(self.matcher, anchors)
            objects, others = sample(matches, limits.rpn_samples, POSITIVE_SHARE)
            goals.append(self.coder.encode(truth.boxes[matches[objects]], anchors[objects]))
            positive.append(objects + image * len(anchors))
            negative.append(others + image * len(anchors))
        objectness, edges = proposal_loss(logits.flatten(), deltas.flatten(0, 1), torch.cat(positive), torch.cat(negative),
                                          torch.cat(goals))
        return {"loss_objectness": objectness, "loss_rpn_box_reg": edges}
