"""Which object each anchor or proposal stands for, and which of them a step learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from biomask.errors import SizeError
from biomask.models.mask_rcnn.boxes import box_iou

#: A match: no object overlaps enough, so that the box is background.
BELOW: Final = -1
#: A match: neither background nor an object; not learnt from.
BETWEEN: Final = -2
#: Pairs of a true and another box whose overlaps are held at once by `Matcher.match_boxes`.
PAIRS = 4_000_000


@dataclass(frozen=True)
class Matcher:
    """The object of largest IoU where that is at least `high`, background below `low` (Ren et al. 2015, section 3.1.2).

    low_quality: the boxes that overlap an object most, however little, stand for the object that they overlap most themselves
    ("or best for a box" in spec 6.2). An object that no box overlaps gets none.
    """

    high: float
    low: float
    low_quality: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise SizeError(f"0 <= low <= high <= 1 is needed, got low={self.low}, high={self.high}")

    def __call__(self, iou: Tensor) -> Tensor:
        """IoU (objects, N) → int64 (N,): the object's position, or `BELOW` or `BETWEEN`. Without objects all are below."""
        objects, boxes = iou.shape
        if not objects:
            return torch.full((boxes,), BELOW, dtype=torch.int64, device=iou.device)
        best, index = iou.max(dim=0)
        own = iou.max(dim=1, keepdim=True).values if boxes else iou.new_zeros((objects, 1))
        return self._decide(best, index, ((iou == own) & (own > 0)).any(dim=0) if self.low_quality else None)

    def match_boxes(self, truth: Tensor, boxes: Tensor) -> Tensor:
        """The same from boxes, (objects, 4) and (N, 4) → int64 (N,), with no more than `PAIRS` overlaps in memory."""
        chunk = max(1, PAIRS // max(1, len(truth)))
        if not len(truth) or len(boxes) <= chunk:
            return self(box_iou(truth, boxes))
        best, index, highest = [], [], []
        for part in torch.split(boxes, chunk):
            iou = box_iou(truth, part)
            best_here, index_here = iou.max(dim=0)
            best.append(best_here)
            index.append(index_here)
            highest.append(iou.max(dim=1).values)
        own = torch.stack(highest).max(dim=0).values[:, None]
        saved = None
        if self.low_quality:
            saved = torch.cat([((box_iou(truth, part) == own) & (own > 0)).any(dim=0) for part in torch.split(boxes, chunk)])
        return self._decide(torch.cat(best), torch.cat(index), saved)

    def _decide(self, best: Tensor, index: Tensor, saved: Tensor | None) -> Tensor:
        """Largest IoU (N,), whose it is (N,), and which low-quality ones are saved, bool (N,) → matches (N,)."""
        matches = torch.where(best >= self.high, index, torch.full_like(index, BETWEEN))
        matches = torch.where(best < self.low, torch.full_like(index, BELOW), matches)
        return matches if saved is None else torch.where(saved, index, matches)


def sample_balanced(matches: Tensor, count: int, positive_share: float,
                    generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Which boxes a step learns from: matches (N,) as of `Matcher` → positions of positives and of negatives, ascending.

    At most `count` together and `count` x `positive_share` positives, drawn evenly without replacement; where positives are
    fewer, negatives take their places. generator: on the CPU; default torch's own.
    """
    positive, negative = torch.nonzero(matches >= 0).flatten(), torch.nonzero(matches == BELOW).flatten()
    positives = min(len(positive), int(count * positive_share))
    negatives = min(len(negative), count - positives)
    return _draw(positive, positives, generator), _draw(negative, negatives, generator)


def _draw(positions: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    chosen = torch.randperm(len(positions), generator=generator)[:count].to(positions.device)
    return positions[chosen].sort().values
