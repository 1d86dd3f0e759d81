"""The U-Net of the most-starred PyTorch repositories (milesial/Pytorch-UNet, Rwzzz/Unet): pads before concatenation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biomask.models import dependency
from biomask.models.blocks import CONVOLUTION, MAX_POOL, TRANSPOSED, DoubleConv, check_input, crop_end, initialise, pad_end, resize
from biomask.models.dependency import Interval
from biomask.models.same_size import check_choice, check_count

DEPTH, STRIDE = 4, 16


class PaddedUNet(nn.Module):
    """U-Net with same padding and batch normalisation: (B, in_channels, *S) → logits (B, classes, *S).

    Pooling drops a last odd pixel; before concatenation the up-sampled map is padded with zeros to the size of the skip, half
    of what is missing at each end. Smaller sizes than 16 are padded inside to 16.

    Its tensors have the names of milesial/Pytorch-UNet, so that a checkpoint of that repository fits as it is
    (`biomask.models.load_weights`). 3 → 2: 31,037,698 parameters, bilinear 17,263,042; with biases 31,042,369 at 1 → 1 (Rwzzz).

    bilinear: up-sampling without parameters and align_corners=True, half the channels at the bottom. Its grid depends on the
        size of what it gets, so it cannot tile exactly.
    bias: of the 3x3 convolutions; redundant before batch normalisation.
    """

    def __init__(self, in_channels: int, classes: int, *, width: int = 64, bilinear: bool = False, bias: bool = False,
                 spatial_dims: int = 2) -> None:
        super().__init__()
        name = type(self).__name__
        check_count(name, width=width)
        check_choice(name, spatial_dims=(spatial_dims, (2, 3)), bilinear=(bilinear, (False, True)), bias=(bias, (False, True)))
        self.in_channels, self.classes, self.spatial_dims, self.bilinear = in_channels, classes, spatial_dims, bilinear
        dims, w, half = spatial_dims, width, 2 if bilinear else 1
        self.inc = _Double(in_channels, w, dims, bias)
        self.down1 = _Down(w, 2 * w, dims, bias)
        self.down2 = _Down(2 * w, 4 * w, dims, bias)
        self.down3 = _Down(4 * w, 8 * w, dims, bias)
        self.down4 = _Down(8 * w, 16 * w // half, dims, bias)
        self.up1 = _Up(16 * w, 8 * w // half, dims, bias, bilinear)
        self.up2 = _Up(8 * w, 4 * w // half, dims, bias, bilinear)
        self.up3 = _Up(4 * w, 2 * w // half, dims, bias, bilinear)
        self.up4 = _Up(2 * w, w, dims, bias, bilinear)
        self.outc = _Out(w, classes, dims)
        initialise(self)
        self.strides = (STRIDE,) * dims
        self.margin = (0,) * dims
        self.exact_tiling = not bilinear
        self.halo = (dependency.halo(lambda i: self.depends_on(i, 0), STRIDE),) * dims

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.in_channels, self.spatial_dims, type(self).__name__)
        size = x.shape[2:]
        if min(size) < STRIDE:
            x = pad_end(x, [STRIDE if n < STRIDE else 1 for n in size])
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x5 = self.down4(x4)
        x = self.up1(x5, x4)
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        x = self.up4(x, x1)
        return crop_end(self.outc(x), size)

    def legal_size(self, size: int, axis: int) -> int:
        """Smallest input length >= size of which pooling drops nothing."""
        return max(1, -(-size // self.strides[axis])) * self.strides[axis]

    def depends_on(self, outputs: Interval, axis: int) -> Interval:
        """Input pixels that an interval of output pixels depends on (spec 9); aligned corners are taken for linear."""
        return self._decoder(outputs, 0)

    def _decoder(self, i: Interval, level: int) -> Interval:
        if level == DEPTH:
            return _encoder(i, level)
        i = dependency.through_blocks(i)
        through = dependency.through_linear if self.bilinear else dependency.through_repeat
        return dependency.union(_encoder(i, level), self._decoder(through(i, 2), level + 1))


def _encoder(i: Interval, level: int) -> Interval:
    i = dependency.through_blocks(i)
    return _encoder(dependency.through_convolution(i, 2, 0, 2), level - 1) if level else i


class _Double(nn.Module):
    """(3x3 convolution, batch normalisation, ReLU) twice."""

    def __init__(self, in_channels: int, out_channels: int, dims: int, bias: bool, mid: int | None = None) -> None:
        super().__init__()
        self.double_conv = DoubleConv(in_channels, out_channels, kernel=(3,) * dims, norm="batch", bias=bias, mid=mid)

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)  # type: ignore[no-any-return]


class _Down(nn.Module):
    """Pooling, then `_Double`."""

    def __init__(self, in_channels: int, out_channels: int, dims: int, bias: bool) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(MAX_POOL[dims](2), _Double(in_channels, out_channels, dims, bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)  # type: ignore[no-any-return]


class _Up(nn.Module):
    """Up-sampling, padding to the size of the skip, concatenation (skip first), `_Double`."""

    def __init__(self, in_channels: int, out_channels: int, dims: int, bias: bool, bilinear: bool) -> None:
        super().__init__()
        self.up = None if bilinear else TRANSPOSED[dims](in_channels, in_channels // 2, 2, stride=2)
        self.conv = _Double(in_channels, out_channels, dims, bias, in_channels // 2 if bilinear else None)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = resize(x, 2, align_corners=True) if self.up is None else self.up(x)
        missing = [s - n for s, n in zip(skip.shape[2:], x.shape[2:], strict=True)]
        x = F.pad(x, [p for m in reversed(missing) for p in (m // 2, m - m // 2)])
        return self.conv(torch.cat([skip, x], dim=1))  # type: ignore[no-any-return]


class _Out(nn.Module):
    """1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, dims: int) -> None:
        super().__init__()
        self.conv = CONVOLUTION[dims](in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]
