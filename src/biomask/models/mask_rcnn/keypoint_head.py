"""Keypoint head (He et al. 2017, section 5): of each box and keypoint, a map of where it lies."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biomask.losses.precision import at_least_float32

#: A keypoint that is not learnt: absent, or outside its box.
IGNORED = -1


def keypoint_head(in_channels: int, channels: int) -> nn.Sequential:
    """Eight 3x3 convolutions with ReLU: (R, in_channels, 14, 14) → (R, channels, 14, 14)."""
    layers: list[nn.Module] = []
    for n in range(8):
        layers += [nn.Conv2d(in_channels if n == 0 else channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
    _initialise(*layers)
    return nn.Sequential(*layers)


class KeypointPredictor(nn.Module):
    """A transposed convolution, then bilinear, each to twice the size: (R, channels, 14, 14) → logits (R, keypoints, 56, 56)."""

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.kps_score_lowres = nn.ConvTranspose2d(channels, keypoints, 4, stride=2, padding=1)
        _initialise(self.kps_score_lowres)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(at_least_float32(self.kps_score_lowres(x)), scale_factor=2.0, mode="bilinear", align_corners=False)


def _initialise(*modules: nn.Module) -> None:
    for module in modules:
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.bias is not None:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)


def keypoint_cells(keypoints: Tensor, boxes: Tensor, size: int) -> Tensor:
    """In which of size x size cells of its box each keypoint lies: (R, K, 3), boxes (R, 4) → row size + column, int64 (R, K).

    A keypoint on the right or lower edge belongs to the last cell; one that is absent or outside is `IGNORED`.
    """
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    cell = ((keypoints[..., :2] - low) * (size / (high - low))).floor().long()
    cell = cell.masked_fill(keypoints[..., :2] == high, size - 1)
    learnt = ((cell >= 0) & (cell < size)).all(dim=-1) & (keypoints[..., 2] > 0)
    return torch.where(learnt, cell[..., 1] * size + cell[..., 0], IGNORED)


def decode_keypoints(logits: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Where each keypoint most likely is: logits (R, K, m, m), boxes (R, 4) → (R, K, 3) x, y, 1 and the logit there, (R, K).

    Each map is resized bicubically to its box in whole pixels, rounded up; the middle of its largest pixel is scaled to the box.
    """
    regions, keypoints = logits.shape[:2]
    points, scores = boxes.new_ones((regions, keypoints, 3)), boxes.new_zeros((regions, keypoints))
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    for n, (width, height) in enumerate(sizes.ceil().long().tolist()):
        maps = F.interpolate(at_least_float32(logits[n:n + 1]), size=(height, width), mode="bicubic", align_corners=False)[0]
        scores[n], place = maps.flatten(1).max(dim=1)
        points[n, :, 0] = (place % width + 0.5) * (sizes[n, 0] / width) + boxes[n, 0]
        points[n, :, 1] = (torch.div(place, width, rounding_mode="floor") + 0.5) * (sizes[n, 1] / height) + boxes[n, 1]
    return points, scores
