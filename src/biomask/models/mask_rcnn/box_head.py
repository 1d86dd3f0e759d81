"""Box head (Girshick 2015, Fast R-CNN): the class of each region, and where the edges of its object are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biomask.losses.precision import at_least_float32
from biomask.models.mask_rcnn.boxes import BoxCoder, batched_nms, clip_boxes, large_enough
from biomask.models.mask_rcnn.types import Detection, Limits

#: Detections narrower or lower are dropped, in pixels.
LEAST = 1e-2


class TwoLayers(nn.Module):
    """Two fully connected layers with ReLU: (R, channels, 7, 7) → (R, width)."""

    def __init__(self, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(channels * size**2, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc7(F.relu(self.fc6(x.flatten(1)))))


def four_convolutions(channels: int, size: int, width: int) -> nn.Sequential:
    """Four 3x3 convolutions with batch normalisation, one fully connected layer: (R, channels, 7, 7) → (R, width)."""
    return nn.Sequential(*(convolution(channels, channels, norm=True) for _ in range(4)), nn.Flatten(),
                         nn.Linear(channels * size**2, width), nn.ReLU(inplace=True))


def average() -> nn.Sequential:
    """Mean over all positions, the head of a C4 network after `res5`: (R, C, h, w) → (R, C)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def convolution(in_channels: int, out_channels: int, *, norm: bool) -> nn.Sequential:
    """3x3, (batch normalisation instead of a bias,) ReLU; kaiming normal by fan-out."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=not norm)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, *((nn.BatchNorm2d(out_channels),) if norm else ()), nn.ReLU(inplace=True))


class BoxPredictor(nn.Module):
    """(R, width) → class logits (R, classes) and deltas (R, 4 classes)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, classes)
        self.bbox_pred = nn.Linear(width, 4 * classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return at_least_float32(self.cls_score(x)), at_least_float32(self.bbox_pred(x))


def detections(logits: Tensor, deltas: Tensor, proposals: Tensor, size: tuple[int, int], coder: BoxCoder,
               limits: Limits) -> Detection:
    """What one image of size (H, W) shows, by falling score.

    logits (R, K) and deltas (R, 4K) of proposals (R, 4). Each proposal is tried as every class but background; within a class,
    non-maximum suppression.
    """
    scores = logits.softmax(dim=1)[:, 1:]
    region, label = torch.nonzero(scores > limits.score, as_tuple=True)
    scores = scores[region, label]
    moved = coder.decode(deltas.view(*logits.shape, 4)[region, label + 1], proposals[region])[:, 0]
    boxes = clip_boxes(moved, size)
    good = large_enough(boxes, LEAST)
    boxes, scores, labels = boxes[good], scores[good], label[good] + 1
    kept = batched_nms(boxes, scores, labels, limits.nms)[:limits.detections]
    return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores[kept]}
