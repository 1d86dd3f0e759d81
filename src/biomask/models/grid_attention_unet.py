"""Attention U-Net (Oktay et al. 2018, arXiv:1804.03999) as the authors released it, with grid attention, for volumes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from biomask.models import dependency
from biomask.models.blocks import BATCH_NORM, CONVOLUTION, MAX_POOL, DoubleConv, crop_end, initialise, pad_end, resize
from biomask.models.dependency import Interval
from biomask.models.same_size import SameSize, check_choice, check_count

DEPTH = 4


class GridAttentionUNet(SameSize):
    """U-Net with gated skips and deep supervision: (B, in_channels, *S) → logits (B, classes, *S).

    Widths 16 … 256, batch normalisation, linear up-sampling (align_corners=False, so that it tiles exactly). The gates of the
    three lower skips are driven by the next coarser map; the topmost skip is not gated. Deep supervision is a 1x1 convolution
    to the classes at every level of the expanding path, up-sampled, concatenated and joined by another one, so that there is one
    output. 1 → 4: one gate a skip 6,214,151 parameters, two 6,473,322, none 5,888,004 (the paper's 6.40 M is none of these).

    gates: 0, 1 or 2 a skip; the two are concatenated and joined.
    """

    def __init__(self, in_channels: int, classes: int, *, width: int = 16, gates: Literal[0, 1, 2] = 1,
                 spatial_dims: int = 3) -> None:
        check_count(type(self).__name__, width=width)
        check_choice(type(self).__name__, spatial_dims=(spatial_dims, (2, 3)), gates=(gates, (0, 1, 2)))
        super().__init__(in_channels, classes, spatial_dims, 2**DEPTH)
        dims, w = spatial_dims, width
        self.pool = MAX_POOL[dims](2)
        self.conv1 = _block(in_channels, w, dims)
        self.conv2 = _block(w, 2 * w, dims)
        self.conv3 = _block(2 * w, 4 * w, dims)
        self.conv4 = _block(4 * w, 8 * w, dims)
        self.center = _block(8 * w, 16 * w, dims)
        self.gating = _joined(16 * w, 16 * w, dims) if gates else None
        self.gate4 = GridAttention(8 * w, 16 * w, gates, dims) if gates else None
        self.gate3 = GridAttention(4 * w, 8 * w, gates, dims) if gates else None
        self.gate2 = GridAttention(2 * w, 4 * w, gates, dims) if gates else None
        self.up4 = _block(24 * w, 8 * w, dims)
        self.up3 = _block(12 * w, 4 * w, dims)
        self.up2 = _block(6 * w, 2 * w, dims)
        self.up1 = _block(3 * w, w, dims)
        self.supervision = nn.ModuleList(CONVOLUTION[dims](w * 2**level, classes, 1) for level in range(DEPTH))
        self.final = CONVOLUTION[dims](DEPTH * classes, classes, 1)
        initialise(self)

    def logits(self, x: Tensor) -> Tensor:
        return self._run(x)[0]

    def _run(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the attention of all gates, those of the coarsest skip first."""
        x1 = self.conv1(x)
        x2 = self.conv2(self.pool(x1))
        x3 = self.conv3(self.pool(x2))
        x4 = self.conv4(self.pool(x3))
        center = self.center(self.pool(x4))
        seen: list[Tensor] = []
        d4 = self.up4(_merged(x4, center, self.gate4, self.gating(center) if self.gating is not None else center, seen))
        d3 = self.up3(_merged(x3, d4, self.gate3, d4, seen))
        d2 = self.up2(_merged(x2, d3, self.gate2, d3, seen))
        d1 = self.up1(_merged(x1, d2, None, d2, seen))
        levels = [resize(head(d), 2**level) for level, (head, d) in enumerate(zip(self.supervision, (d1, d2, d3, d4), strict=True))]
        return self.final(torch.cat(levels, dim=1)), seen

    def attention(self, x: Tensor) -> tuple[Tensor, ...]:
        """The attention of every gate, those of the finest gated skip first: float (B, 1, *S) in 0..1, resized to the input."""
        size = x.shape[2:]
        x = pad_end(x, self.strides)
        maps = self._run(x)[1]
        return tuple(crop_end(resize(m, x.shape[-1] // m.shape[-1]), size) for m in reversed(maps))

    def depends_on(self, outputs: Interval, axis: int) -> Interval:
        return dependency.union(*(self._decoder(dependency.through_linear(outputs, 2**level), level) for level in range(DEPTH)))

    def _decoder(self, i: Interval, level: int) -> Interval:
        if level == DEPTH:
            return _encoder(i, level)
        i = dependency.through_blocks(i)
        coarse = dependency.through_linear(i, 2)
        parts = [_encoder(i, level), self._decoder(coarse, level + 1)]
        if level and self.gating is not None:  # the attention's grid is the coarser one, of which it reads 2 pixels each way
            parts.append(_encoder(dependency.through_convolution(coarse, 2, 0, 2), level))
        return dependency.union(*parts)


def _encoder(i: Interval, level: int) -> Interval:
    i = dependency.through_blocks(i)
    return _encoder(dependency.through_convolution(i, 2, 0, 2), level - 1) if level else i


def _block(in_channels: int, out_channels: int, dims: int) -> DoubleConv:
    return DoubleConv(in_channels, out_channels, kernel=(3,) * dims, norm="batch")


def _joined(in_channels: int, out_channels: int, dims: int) -> nn.Sequential:
    """1x1 convolution, batch normalisation, ReLU."""
    return nn.Sequential(CONVOLUTION[dims](in_channels, out_channels, 1), BATCH_NORM[dims](out_channels), nn.ReLU(inplace=True))


def _merged(skip: Tensor, below: Tensor, gate: GridAttention | None, signal: Tensor, seen: list[Tensor]) -> Tensor:
    """The (gated) skip and the up-sampled map below it, concatenated; attention is added to `seen`."""
    if gate is not None:
        skip, found = gate(skip, signal)
        seen += found
    return torch.cat([skip, resize(below, 2)], dim=1)


class GridAttention(nn.Module):
    """Gates of one skip: x (B, channels, *S), g (B, gating, *(S / 2)) → what passes (B, channels, *S), attention of each gate."""

    def __init__(self, channels: int, gating: int, gates: int, dims: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(_Gate(channels, gating, dims) for _ in range(gates))
        self.combine = _joined(gates * channels, channels, dims)

    def forward(self, x: Tensor, g: Tensor) -> tuple[Tensor, list[Tensor]]:
        passed, seen = zip(*(gate(x, g) for gate in self.gates), strict=True)
        return self.combine(torch.cat(passed, dim=1)), list(seen)


class _Gate(nn.Module):
    """alpha = sigmoid(psi(relu(theta(x) + phi(g)))) on the grid of g, up-sampled to x; W(alpha x) passes."""

    def __init__(self, channels: int, gating: int, dims: int) -> None:
        super().__init__()
        self.theta = CONVOLUTION[dims](channels, channels, 2, stride=2, bias=False)
        self.phi = CONVOLUTION[dims](gating, channels, 1)
        self.psi = CONVOLUTION[dims](channels, 1, 1)
        self.passes = nn.Sequential(CONVOLUTION[dims](channels, channels, 1), BATCH_NORM[dims](channels))

    def forward(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        alpha = resize(torch.sigmoid(self.psi(torch.relu(self.theta(x) + self.phi(g)))), 2)
        return self.passes(alpha * x), alpha
