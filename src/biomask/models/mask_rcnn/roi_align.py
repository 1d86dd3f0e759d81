"""Features of regions of interest: RoIAlign (He et al. 2017, section 3), and RoIPool and RoIWarp, which it was compared with.

All take features (B, C, H, W) and rois (R, 5), each image, x0, y0, x1, y1 in pixels of the network's input, and give (R, C, size,
size) of the features' type, differentiable in the features. `scale`: pixels of the map in one of the input, 1 / stride.
They are fastest where the features lie in memory with their channels last, as does what they give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import log2
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biomask.errors import SizeError

RoiKind = Literal["align", "pool", "warp"]
#: Pixels that RoIAlign looks up, and values that RoIPool compares, in one go: at most about 40 MB beside features and result.
CHUNK = 2**21


def roi_align(features: Tensor, rois: Tensor, size: int, scale: float, sampling: int = 2) -> Tensor:
    """RoIAlign: each of size x size bins is the mean of sampling² points, interpolated bilinearly; nothing is rounded.

    The rule is that of torchvision's detection networks (`aligned=False`, spec 6.3): a region is at least one pixel of the map
    wide and high; point i of a bin lies at (i + 1/2) / sampling of its length; coordinates in -1..0 and beyond the last pixel
    take the first and the last pixel, points before -1 or beyond the map's length count as 0.
    """
    height, width = features.shape[-2:]

    def sample(pixels: Tensor, some: Tensor) -> Tensor:
        # Rows and columns are weighted apart, so that a bin is a weighted sum of (2 sampling)² pixels.
        y, share_y = _taps(some[:, 2], some[:, 4], size, scale, sampling, height)
        x, share_x = _taps(some[:, 1], some[:, 3], size, scale, sampling, width)
        index = _positions(some, y[:, :, None, :, None], x[:, None, :, None, :], (height, width)).flatten(3).flatten(0, 2)
        share = (share_y[:, :, None, :, None] * share_x[:, None, :, None, :]).reshape(index.shape).to(pixels.dtype)
        return weighted_rows(pixels, index, share)

    return _by_chunks(sample, features, rois, size, (2 * sampling * size) ** 2)


def _taps(start: Tensor, stop: Tensor, size: int, scale: float, sampling: int, length: int) -> tuple[Tensor, Tensor]:
    """Edges (R,) along one axis → pixels int32 (R, size, 2 sampling) that the bins take, and their weights, 0 outside the map."""
    start, stop = start * scale, stop * scale
    step = ((stop - start).clamp(min=1) / size)[:, None, None]
    bins = torch.arange(size, device=start.device, dtype=start.dtype)[:, None]
    points = torch.arange(sampling, device=start.device, dtype=start.dtype) + 0.5
    at = start[:, None, None] + bins * step + points * step / sampling  # in torchvision's order: its roundings too
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    low = at.floor()
    share = at - low
    weights = torch.stack((1 - share, share), dim=-1) * inside[..., None] / sampling
    low = low.to(torch.int32)
    return torch.stack((low, (low + 1).clamp(max=length - 1)), dim=-1).flatten(2), weights.flatten(2)


def weighted_rows(rows: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Sums of `weights` (N, K) times the rows of (P, C) that `index` (N, K) names → (N, C), differentiable in the rows.

    torch's embedding bag does it in one pass; on devices that may lack it, one index at a time.
    """
    if rows.device.type in ("cpu", "cuda"):
        return F.embedding_bag(index, rows, mode="sum", per_sample_weights=weights)
    return _weighted_rows_by_column(rows, index, weights)


def _weighted_rows_by_column(rows: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    out = rows.new_zeros((len(index), rows.shape[1]))
    for k in range(index.shape[1]):
        out = out + rows.index_select(0, index[:, k]) * weights[:, k, None]
    return out


def roi_pool(features: Tensor, rois: Tensor, size: int, scale: float) -> Tensor:
    """RoIPool (Girshick 2015, Fast R-CNN): the largest value in each of size x size bins; a bin outside the map gives 0.

    The region is rounded to pixels of the map, its last ones included; bins begin rounded down and end rounded up, so that they
    may share pixels.
    """
    height, width = features.shape[-2:]

    def pool(pixels: Tensor, some: Tensor) -> Tensor:
        top, bottom = _bins(some[:, 2], some[:, 4], size, scale, height)
        left, right = _bins(some[:, 1], some[:, 3], size, scale, width)
        tallest, widest = int((bottom - top).max().clamp(min=1)), int((right - left).max().clamp(min=1))
        best = at = None
        with torch.no_grad():  # first where the largest value is, then the value: gradients go to that pixel alone
            for dy in range(tallest):
                y = torch.minimum(top + dy, bottom - 1).clamp(0, height - 1)
                for dx in range(widest):
                    x = torch.minimum(left + dx, right - 1).clamp(0, width - 1)
                    index = _positions(some, y[:, :, None], x[:, None, :], (height, width)).flatten()
                    value, index = pixels.index_select(0, index), index[:, None].long().expand(-1, pixels.shape[1])
                    if best is None or at is None:
                        best, at = value, index
                    else:
                        larger = value > best
                        best, at = torch.where(larger, value, best), torch.where(larger, index, at)
        empty = (bottom <= top)[:, :, None] | (right <= left)[:, None, :]
        return pixels.gather(0, at).masked_fill(empty.flatten()[:, None], 0)  # type: ignore[arg-type]

    return _by_chunks(pool, features, rois, size, size**2 * features.shape[1])


def _bins(start: Tensor, stop: Tensor, size: int, scale: float, length: int) -> tuple[Tensor, Tensor]:
    """Edges (R,) along one axis → first pixel of each bin and the one after its last, int32 (R, size), within the map."""
    start, stop = _round(start * scale), _round(stop * scale)
    step = ((stop - start + 1).clamp(min=1) / size)[:, None]
    bins = torch.arange(size, device=start.device, dtype=start.dtype)
    first, end = torch.floor(bins * step) + start[:, None], torch.ceil((bins + 1) * step) + start[:, None]
    return first.clamp(0, length).to(torch.int32), end.clamp(0, length).to(torch.int32)


def _round(x: Tensor) -> Tensor:
    """To the nearest integer, halves away from 0, as C rounds."""
    return torch.where(x.frac().abs() == 0.5, x.trunc() + x.sign(), x.round())


def roi_warp(features: Tensor, rois: Tensor, size: int, scale: float, sampling: int = 2) -> Tensor:
    """RoIWarp (Dai, He, Sun 2016, arXiv:1512.04412): the region is rounded as by RoIPool, then resampled bilinearly.

    After the Mask R-CNN paper's account of it (section 4.2, "RoIWarp still quantizes the RoI"); how the points lie is open
    there and taken from `roi_align`, so that the two differ by the rounding alone.
    """
    rounded = torch.cat((rois[:, :1], _round(rois[:, 1:] * scale)), dim=1)
    return roi_align(features, rounded, size, 1.0, sampling)


def _positions(rois: Tensor, y: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Positions of pixels among those of all images, int32, from y and x whose first axis is the rois'."""
    image = rois[:, 0].to(torch.int32).view(-1, *[1] * (y.ndim - 1))
    return (image * size[0] + y) * size[1] + x


def _by_chunks(read: Callable[[Tensor, Tensor], Tensor], features: Tensor, rois: Tensor, size: int, cost: int) -> Tensor:
    """`read` of the pixels (B H W, C) and of as many rois at a time as `CHUNK` allows, each of `cost`: (R, C, size, size)."""
    if features.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 5:
        raise SizeError(f"features (B, C, H, W) and rois (R, 5) are needed, got {tuple(features.shape)} and {tuple(rois.shape)}")
    channels = features.shape[1]
    if not len(rois):
        return features.new_zeros((0, channels, size, size))
    pixels = features.permute(0, 2, 3, 1).reshape(-1, channels)
    pixels = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
    rois = rois.detach().to(torch.promote_types(rois.dtype, torch.float32))
    parts = [read(pixels, some) for some in torch.split(rois, max(1, CHUNK // cost))]
    out = parts[0] if len(parts) == 1 else torch.cat(parts)
    return out.view(len(rois), size, size, channels).permute(0, 3, 1, 2).to(features.dtype)


class MultiScale(nn.Module):
    """Each region from the level of a pyramid that fits its size (Lin et al. 2017, equation 1).

    scales: pixels of each level in one of the input, finest first, halved from level to level: (1/4, 1/8, 1/16, 1/32) for P2..P5,
    or the one of a C4 network.
    """

    def __init__(self, scales: Sequence[float], size: int, sampling: int = 2, kind: RoiKind = "align") -> None:
        super().__init__()
        if kind not in ("align", "pool", "warp"):
            raise SizeError(f"MultiScale: kind={kind!r} is not one of ('align', 'pool', 'warp')")
        if not scales or any(coarse * 2 != fine for fine, coarse in pairwise(scales)):
            raise SizeError(f"MultiScale: each scale must be half of the one before, got {list(scales)}")
        if size < 1 or sampling < 1:
            raise SizeError(f"MultiScale: size={size} and sampling={sampling} must be integers >= 1")
        self.scales, self.size, self.sampling, self.kind = tuple(scales), size, sampling, kind

    def forward(self, features: Mapping[str, Tensor] | Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, h, w), finest first, coarser ones than the scales' unread, and boxes (n, 4) of each image.

        → (all n, C, size, size) in the boxes' order.
        """
        maps = list(features.values() if isinstance(features, Mapping) else features)
        if len(maps) < len(self.scales) or len(boxes) != len(maps[0]):
            raise SizeError(f"{len(self.scales)} maps and the boxes of each image are needed, got {len(maps)} maps, the first of "
                            f"{len(maps[0])} images, and the boxes of {len(boxes)}")
        rois = torch.cat([F.pad(b, (1, 0), value=float(i)) for i, b in enumerate(boxes)])
        if len(self.scales) == 1:
            return self._read(maps[0], rois, self.scales[0])
        levels = self.levels(rois[:, 1:])
        order = torch.argsort(levels, stable=True)
        shares = torch.bincount(levels, minlength=len(self.scales)).tolist()
        by_level = zip(maps, torch.split(rois[order], shares), self.scales)
        read = [self._read(x, some, scale).permute(0, 2, 3, 1) for x, some, scale in by_level]
        return torch.cat(read).index_select(0, torch.argsort(order)).permute(0, 3, 1, 2)

    def levels(self, boxes: Tensor) -> Tensor:
        """Which level each box (N, 4) is read from: int64 (N,), 0 for the finest.

        A box of 224² pixels is read at stride 16, one of half the side at stride 8, and so on, within the levels that there are.
        """
        finest, coarsest = -log2(self.scales[0]), -log2(self.scales[-1])
        root = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        return (torch.floor(4 + torch.log2(root / 224) + 1e-6).clamp(finest, coarsest) - finest).long()

    def _read(self, x: Tensor, rois: Tensor, scale: float) -> Tensor:
        if self.kind == "pool":
            return roi_pool(x, rois, self.size, scale)
        return (roi_align if self.kind == "align" else roi_warp)(x, rois, self.size, scale, self.sampling)
