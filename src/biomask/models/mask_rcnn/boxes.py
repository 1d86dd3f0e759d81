"""Boxes (N, 4): x0, y0, x1, y1 in pixel edges, so that a pixel column 3 spans 3..4 and an area is (x1 - x0)(y1 - y0)."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from biomask.errors import SizeError

#: Boxes that `nms` compares with all others at once: more of them share numpy's cost of a call, and compare more in vain.
BLOCK = 128


def areas(boxes: Tensor) -> Tensor:
    """(N, 4) → (N,) square pixels."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each pair: (N, 4), (M, 4) → (N, M), 0..1; 0 where both boxes are empty."""
    shared = _shared(a, b)
    union = areas(a)[:, None] + areas(b)[None] - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(shared))


def box_ioa(a: Tensor, b: Tensor) -> Tensor:
    """Share of each box of `a` that lies in each box of `b`: (N, 4), (M, 4) → (N, M), 0..1; 0 for an empty `a`."""
    shared, area = _shared(a, b), areas(a)[:, None]
    return torch.where(area > 0, shared / area, torch.zeros_like(shared))


def _shared(a: Tensor, b: Tensor) -> Tensor:
    """Area of each intersection: (N, 4), (M, 4) → (N, M)."""
    width = (torch.minimum(a[:, None, 2], b[None, :, 2]) - torch.maximum(a[:, None, 0], b[None, :, 0])).clamp_(min=0)
    height = (torch.minimum(a[:, None, 3], b[None, :, 3]) - torch.maximum(a[:, None, 1], b[None, :, 1])).clamp_(min=0)
    return width * height


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) cut at the edges of an image of size (height, width)."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)


def large_enough(boxes: Tensor, least: float) -> Tensor:
    """Which boxes (N, 4) are at least `least` pixels wide and high: bool (N,)."""
    return (boxes[:, 2] - boxes[:, 0] >= least) & (boxes[:, 3] - boxes[:, 1] >= least)


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Greedy non-maximum suppression: boxes (N, 4), scores (N,) → positions kept, int64 (K,), by falling score.

    The best box stays, and every other whose IoU with it is above `threshold` goes; then the best of the rest, and so on. Among
    equal scores the first comes first. Computed on the CPU, in the boxes' own precision (float32 for half ones).
    """
    return batched_nms(boxes, scores, torch.zeros_like(scores, dtype=torch.int64), threshold)


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """`nms` within each group (a class, a level) by itself: groups int64 (N,) → positions kept, int64 (K,), by falling score."""
    if not (boxes.ndim == 2 and boxes.shape[1] == 4 and scores.shape == groups.shape == boxes.shape[:1]):
        raise SizeError(f"boxes (N, 4), scores (N,) and groups (N,) are needed, got {tuple(boxes.shape)}, {tuple(scores.shape)} "
                        f"and {tuple(groups.shape)}")
    precise = torch.promote_types(boxes.dtype, torch.float32)
    corners, points = boxes.detach().to("cpu", precise).numpy(), scores.detach().to("cpu", precise).numpy()
    order = np.argsort(-points, kind="stable")
    by_group = np.argsort(groups.detach().cpu().numpy()[order], kind="stable")
    members = groups.detach().cpu().numpy()[order][by_group]
    starts = np.flatnonzero(np.diff(members, prepend=members[:1] - 1))
    kept = np.zeros(len(points), dtype=bool)
    for ranks in np.split(by_group, starts[1:]):
        kept[ranks[_survivors(corners[order[ranks]], threshold)]] = True
    return torch.from_numpy(order[kept]).to(boxes.device)


def _survivors(boxes: npt.NDArray[np.floating], threshold: float) -> npt.NDArray[np.int64]:
    """Greedy suppression of boxes (N, 4) that are sorted already: positions kept, ascending.

    Block by block: within a block one after the other, then its survivors against everything that is left.
    """
    limit = boxes.dtype.type(threshold)
    if float(limit) > threshold:  # so that IoUs of this precision compare as if the threshold had not been rounded
        limit = np.nextafter(limit, limit.dtype.type(-np.inf))
    left, kept = np.arange(len(boxes)), []
    while len(left):
        block, left = left[:BLOCK], left[BLOCK:]
        above = _iou(boxes[block], boxes[block]) > limit
        alive = np.ones(len(block), dtype=bool)
        for position in np.flatnonzero(np.triu(above, 1).any(axis=1)):  # the others suppress nothing here
            if alive[position]:
                alive[position + 1:] &= ~above[position, position + 1:]
        kept.append(block[alive])
        if len(left):
            left = left[~(_iou(boxes[block[alive]], boxes[left]) > limit).any(axis=0)]
    return np.concatenate(kept) if kept else left


def _iou(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """(N, 4), (M, 4) → (N, M); nan, which is above nothing, where both are empty."""
    width = np.minimum(a[:, None, 2], b[None, :, 2])
    width -= np.maximum(a[:, None, 0], b[None, :, 0])
    np.maximum(width, 0, out=width)
    shared = np.minimum(a[:, None, 3], b[None, :, 3])
    shared -= np.maximum(a[:, None, 1], b[None, :, 1])
    np.maximum(shared, 0, out=shared)
    shared *= width
    area_a, area_b = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (a, b))
    union = area_a[:, None] + area_b[None]
    union -= shared
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(shared / union)


@dataclass(frozen=True)
class BoxCoder:
    """Boxes as shifts and log sizes relative to proposals (Girshick et al. 2014, R-CNN, appendix C).

    d = (wx (cx - px) / pw, wy (cy - py) / ph, ww log(w / pw), wh log(h / ph)), where (cx, cy, w, h) is the box and
    (px, py, pw, ph) the proposal, both by centre and size.
    """

    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    """(wx, wy, ww, wh); the heads' own, (1, 1, 1, 1) in the region proposal network."""
    clamp: float = log(1000 / 16)
    """Largest log size ratio that `decode` takes, so that exp cannot overflow."""

    def encode(self, boxes: Tensor, proposals: Tensor) -> Tensor:
        """Boxes (N, 4) and proposals (N, 4) of positive size → (N, 4)."""
        wx, wy, ww, wh = self.weights
        (x, y, w, h), (px, py, pw, ph) = _centres(boxes), _centres(proposals)
        return torch.stack((wx * (x - px) / pw, wy * (y - py) / ph, ww * torch.log(w / pw), wh * torch.log(h / ph)), dim=1)

    def decode(self, deltas: Tensor, proposals: Tensor) -> Tensor:
        """Deltas (N, 4k), of k classes or of one, and proposals (N, 4) → boxes (N, k, 4)."""
        if deltas.ndim != 2 or deltas.shape[1] % 4 or deltas.shape[0] != proposals.shape[0]:
            raise SizeError(f"deltas (N, 4k) of {len(proposals)} proposals are needed, got {tuple(deltas.shape)}")
        wx, wy, ww, wh = self.weights
        px, py, pw, ph = (part[:, None] for part in _centres(proposals))
        x, y = deltas[:, 0::4] / wx * pw + px, deltas[:, 1::4] / wy * ph + py
        w = torch.exp((deltas[:, 2::4] / ww).clamp(max=self.clamp)) * pw
        h = torch.exp((deltas[:, 3::4] / wh).clamp(max=self.clamp)) * ph
        return torch.stack((x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h), dim=2)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(N, 4) → centre x, centre y, width, height, each (N,)."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return boxes[:, 0] + 0.5 * width, boxes[:, 1] + 0.5 * height, width, height
