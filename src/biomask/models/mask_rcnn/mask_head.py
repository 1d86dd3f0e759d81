"""Mask head (He et al. 2017, arXiv:1703.06870): a small fully convolutional network in each box, one mask for each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biomask.losses.precision import at_least_float32
from biomask.models.mask_rcnn.box_head import convolution

Bool = npt.NDArray[np.bool_]


def mask_head(channels: int, version: int) -> nn.Sequential:
    """Four 3x3 convolutions: (R, channels, 14, 14) → the same. version 2: with batch normalisation."""
    return nn.Sequential(*(convolution(channels, channels, norm=version == 2) for _ in range(4)))


class MaskPredictor(nn.Sequential):
    """A transposed convolution to twice the size and a 1x1: (R, in, 14, 14) → logits (R, masks, 28, 28).

    masks: as many as classes with background, whose mask is never used; 1 = one for all classes.
    """

    def __init__(self, in_channels: int, channels: int, masks: int) -> None:
        super().__init__()
        self.conv5_mask = nn.ConvTranspose2d(in_channels, channels, 2, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.mask_fcn_logits = nn.Conv2d(channels, masks, 1)
        for module in (self.conv5_mask, self.mask_fcn_logits):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Each region's mask of its class: (R, masks, M, M), labels (R,) → (R, M, M)."""
    picked = logits[:, 0] if logits.shape[1] == 1 else logits[torch.arange(len(labels), device=labels.device), labels]
    return at_least_float32(picked)


def mask_targets(masks: Tensor, matched: Tensor, boxes: Tensor, size: int) -> Tensor:
    """What the head should say: masks (N, H, W) of objects, one of them `matched` (R,) to each box (R, 4) → (R, size, size).

    RoIAlign with as many samples in a bin as it has pixels, rounded up. As its weights are products of one along y and one along
    x, each is two small matrix products on the object's pixels in the box.
    """
    rows, height = _weights(boxes[:, 1], boxes[:, 3], size, masks.shape[1])
    columns, width = _weights(boxes[:, 0], boxes[:, 2], size, masks.shape[2])
    out = boxes.new_zeros((len(boxes), size, size))
    with torch.autocast(boxes.device.type, enabled=False):
        for n, (object_, (top, bottom), (left, right)) in enumerate(zip(matched.tolist(), height, width, strict=True)):
            crop = masks[object_, top:bottom, left:right].to(boxes.dtype)
            out[n] = rows[n, :, :bottom - top] @ crop @ columns[n, :, :right - left].T
    return out


def _weights(start: Tensor, stop: Tensor, bins: int, length: int) -> tuple[Tensor, list[tuple[int, int]]]:
    """Along one axis, of boxes start..stop (R,): each pixel's share of each bin, (R, bins, most), from which pixel to which."""
    extent = (stop - start).clamp(min=1)
    samples = torch.ceil(extent / bins)
    step = torch.arange(int(samples.max()) if len(start) else 1, device=start.device, dtype=start.dtype) + 0.5
    bin_ = torch.arange(bins, device=start.device, dtype=start.dtype)[:, None]
    size, count = (extent / bins)[:, None, None], samples[:, None, None]
    at = start[:, None, None] + bin_ * size + step * size / count
    taken = (step < count) & (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    low = at.floor()
    share = (at - low) * taken / count
    first = start.floor().clamp(0, length - 1)
    last = torch.maximum(stop, start + extent).ceil().clamp(0, length - 1) + 1
    spans = [(int(a), int(b)) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    position = (low - first[:, None, None]).long().flatten(2)
    weights = start.new_zeros((len(start), bins, max((b - a for a, b in spans), default=0) + 1))
    position = position.clamp(0, weights.shape[2] - 2)
    weights.scatter_add_(2, position, (taken / count - share).flatten(2))
    return weights.scatter_add_(2, position + 1, share.flatten(2)), spans


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks in their boxes laid over an image: probabilities (N, 1, M, M), boxes (N, 4) → (N, *size), 0 outside.

    The rule of the paper's code and of torchvision: a ring of zeros around the mask, the box enlarged accordingly and its corners
    cut to integers, the mask resized bilinearly to the pixels from the first corner to the last.
    """
    ringed = F.pad(at_least_float32(masks), (1, 1, 1, 1))
    out = ringed.new_zeros((len(masks), *size))
    for place, mask, corners in zip(out, ringed, _corners(boxes, masks.shape[-1]), strict=True):
        crop, (top, left) = _laid(mask[0], corners, size)
        place[top:top + crop.shape[0], left:left + crop.shape[1]] = crop
    return out


def mask_in_window(mask: Tensor, box: Tensor, size: tuple[int, int], threshold: float = 0.5) -> tuple[Bool, tuple[int, int]]:
    """One object of a large image of size (H, W): probabilities (1, M, M) and box (4,) → pixels (h, w), and where the first lies.

    The same rule as `paste_masks`, at least `threshold`; the window is the enlarged box within the image.
    """
    (corners,) = _corners(box[None], mask.shape[-1])
    crop, origin = _laid(F.pad(at_least_float32(mask), (1, 1, 1, 1))[0], corners, size)
    return (crop >= threshold).cpu().numpy(), origin


def _corners(boxes: Tensor, size: int) -> list[list[int]]:
    """Boxes (N, 4) around masks of `size` with a ring: x0, y0, x1, y1, the last pixels included."""
    centre, half = (boxes[:, 2:] + boxes[:, :2]) * 0.5, (boxes[:, 2:] - boxes[:, :2]) * 0.5 * ((size + 2) / size)
    low, high = (centre - half).long(), (centre + half).long()
    return torch.cat((low, torch.maximum(low, high)), dim=1).tolist()


def _laid(mask: Tensor, corners: Sequence[int], size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """A mask with its ring (M + 2, M + 2), resized and cut at the image's edges, and where its first pixel lies: y, x."""
    x0, y0, x1, y1 = corners
    whole = F.interpolate(mask[None, None], size=(y1 - y0 + 1, x1 - x0 + 1), mode="bilinear", align_corners=False)[0, 0]
    top, left, bottom, right = max(y0, 0), max(x0, 0), min(y1 + 1, size[0]), min(x1 + 1, size[1])
    return whole[top - y0:bottom - y0, left - x0:right - x0], (top, left)
