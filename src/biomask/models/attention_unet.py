"""Attention U-Net in the 2D form of the common PyTorch ports (LeeJunHyun/Image_Segmentation, jinglescode/meditorch)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biomask.models import dependency
from biomask.models.blocks import BATCH_NORM, CONVOLUTION, MAX_POOL, DoubleConv, NearestConv, crop_end, initialise, pad_end
from biomask.models.dependency import Interval
from biomask.models.same_size import SameSize, check_choice, check_count

DEPTH = 4


class AttentionUNet(SameSize):
    """U-Net whose four skips pass a gate: (B, in_channels, *S) → logits (B, classes, *S).

    After Oktay et al. 2018 (arXiv:1804.03999), from which the ports differ: the gating signal is up-sampled before the gate
    instead of the attention after it, the topmost skip is gated too, and normalisation stands within the gate. 3 → 2:
    34,878,638 parameters. Nearest up-sampling and a 3x3 convolution in the expanding path, batch normalisation, biases.
    """

    def __init__(self, in_channels: int, classes: int, *, width: int = 64, spatial_dims: int = 2) -> None:
        check_count(type(self).__name__, width=width)
        check_choice(type(self).__name__, spatial_dims=(spatial_dims, (2, 3)))
        super().__init__(in_channels, classes, spatial_dims, 2**DEPTH)
        dims, w = spatial_dims, width
        self.pool = MAX_POOL[dims](2)
        self.conv1 = _block(in_channels, w, dims)
        self.conv2 = _block(w, 2 * w, dims)
        self.conv3 = _block(2 * w, 4 * w, dims)
        self.conv4 = _block(4 * w, 8 * w, dims)
        self.conv5 = _block(8 * w, 16 * w, dims)
        self.up4, self.gate4, self.decode4 = _up(8 * w, dims), AttentionGate(8 * w, dims), _block(16 * w, 8 * w, dims)
        self.up3, self.gate3, self.decode3 = _up(4 * w, dims), AttentionGate(4 * w, dims), _block(8 * w, 4 * w, dims)
        self.up2, self.gate2, self.decode2 = _up(2 * w, dims), AttentionGate(2 * w, dims), _block(4 * w, 2 * w, dims)
        self.up1, self.gate1, self.decode1 = _up(w, dims), AttentionGate(w, dims), _block(2 * w, w, dims)
        self.head = CONVOLUTION[dims](w, classes, 1)
        initialise(self)

    def logits(self, x: Tensor) -> Tensor:
        return self._run(x)[0]

    def _run(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the attention of each skip, finest last."""
        x1 = self.conv1(x)
        x2 = self.conv2(self.pool(x1))
        x3 = self.conv3(self.pool(x2))
        x4 = self.conv4(self.pool(x3))
        d = self.conv5(self.pool(x4))
        seen: list[Tensor] = []
        for skip, up, gate, decode in ((x4, self.up4, self.gate4, self.decode4), (x3, self.up3, self.gate3, self.decode3),
                                       (x2, self.up2, self.gate2, self.decode2), (x1, self.up1, self.gate1, self.decode1)):
            g = up(d)
            alpha = gate(skip, g)
            seen.append(alpha)
            d = decode(torch.cat([alpha * skip, g], dim=1))
        return self.head(d), seen

    def attention(self, x: Tensor) -> tuple[Tensor, ...]:
        """The attention of each skip, finest first: float (B, 1, *S) in 0..1, repeated to the size of the input."""
        size = x.shape[2:]
        maps = self._run(pad_end(x, self.strides))[1]
        return tuple(crop_end(nn.functional.interpolate(m, scale_factor=float(2**level)), size)
                     for level, m in enumerate(reversed(maps)))

    def depends_on(self, outputs: Interval, axis: int) -> Interval:
        return self._decoder(outputs, 0)

    def _decoder(self, i: Interval, level: int) -> Interval:
        if level == DEPTH:
            return _encoder(i, level)
        i = dependency.through_blocks(i)
        below = dependency.through_repeat(dependency.through_blocks(i, count=1), 2)  # nearest up-sampling, then 3x3
        return dependency.union(_encoder(i, level), self._decoder(below, level + 1))


def _encoder(i: Interval, level: int) -> Interval:
    i = dependency.through_blocks(i)
    return _encoder(dependency.through_convolution(i, 2, 0, 2), level - 1) if level else i


def _block(in_channels: int, out_channels: int, dims: int) -> DoubleConv:
    return DoubleConv(in_channels, out_channels, kernel=(3,) * dims, norm="batch")


def _up(out_channels: int, dims: int) -> NearestConv:
    return NearestConv(2 * out_channels, out_channels, factor=(2,) * dims, norm="batch")


class AttentionGate(nn.Module):
    """Additive attention: alpha = sigmoid(norm(psi(relu(norm(Wx x) + norm(Wg g))))), one a pixel.

    x: the skip, g: the gating signal, both (B, channels, *S) → (B, 1, *S) in 0..1. Half the channels within.
    """

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.of_skip = nn.Sequential(CONVOLUTION[dims](channels, inner, 1), BATCH_NORM[dims](inner))
        self.of_gate = nn.Sequential(CONVOLUTION[dims](channels, inner, 1), BATCH_NORM[dims](inner))
        self.psi = nn.Sequential(CONVOLUTION[dims](inner, 1, 1), BATCH_NORM[dims](1))

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return torch.sigmoid(self.psi(torch.relu(self.of_skip(x) + self.of_gate(g))))
