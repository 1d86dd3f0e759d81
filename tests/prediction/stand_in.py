"""A stand-in for a detector, and objects that are rectangles."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from biomask.models.mask_rcnn.types import Limits
from biomask.prediction.detections import Detections


class BrightSquares(nn.Module):
    """A stand-in for a detector, without a network: it finds bright rectangles exactly. Their score is their brightness, their
    class 1 or 2 by whether its hundredths are even."""

    in_channels = 1
    short_side: int | None = None

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__()
        self.limits = limits or Limits(detections=1000, score=0.0)
        self.seen = list[tuple[int, ...]]()

    @contextmanager
    def with_limits(self, changes: dict[str, Any]) -> Iterator[None]:
        before, self.limits = self.limits, Limits.of(changes, self.limits)
        yield
        self.limits = before

    def forward(self, images: list[torch.Tensor], *, paste: bool) -> list[dict[str, torch.Tensor]]:
        assert not paste
        self.seen += [tuple(image.shape) for image in images]
        return [self._of(image[0].numpy()) for image in images]

    def _of(self, grey: np.ndarray) -> dict[str, torch.Tensor]:
        places = [p for p in ndimage.find_objects(ndimage.label(grey > 0)[0]) if grey[p].max() > self.limits.score]
        found = sorted(places, key=lambda p: -grey[p].max())[:self.limits.detections]
        scores = torch.tensor([float(grey[p].max()) for p in found])
        boxes = torch.tensor([[p[1].start, p[0].start, p[1].stop, p[0].stop] for p in found], dtype=torch.float32).reshape(-1, 4)
        labels = 1 + (scores * 100).round().long() % 2
        return {"boxes": boxes, "labels": labels, "scores": scores,
                "keypoints": torch.cat([boxes[:, None, :2], torch.ones(len(found), 1, 1)], -1)}


def detections(rects: list[tuple[int, int, int, int]], scores: list[float], keypoints: np.ndarray | None = None) -> Detections:
    """Filled rectangles (top, left, bottom, right) as objects of class 1."""
    boxes = np.array([(left, top, right, bottom) for top, left, bottom, right in rects], np.float32).reshape(-1, 4)
    masks = tuple((np.ones((bottom - top, right - left), bool), (top, left)) for top, left, bottom, right in rects)
    return Detections(boxes, np.ones(len(rects), np.int64), np.array(scores, np.float32), masks, keypoints)
