"""The pieces that the networks share, for 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["batch"] | None
Up = Literal["transposed", "nearest", "bilinear", "nearest-conv"]

CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class DoubleConv(nn.Sequential):
    """Two convolutions, each followed by (normalisation and) ReLU: (B, in, *S) → (B, mid, *S″) → (B, out, *S').

    S' = S with padding, else S - 2 (kernel - 1). mid: channels between the two; default out.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: Sequence[int], padded: bool = True, norm: Norm = None,
                 bias: bool = True, mid: int | None = None) -> None:
        middle = out_channels if mid is None else mid
        super().__init__(*_convolved(in_channels, middle, kernel, padded, norm, bias),
                         *_convolved(middle, out_channels, kernel, padded, norm, bias))


def _convolved(in_channels: int, out_channels: int, kernel: Sequence[int], padded: bool, norm: Norm,
               bias: bool) -> list[nn.Module]:
    """Convolution, (normalisation,) ReLU."""
    dims = len(kernel)
    layers: list[nn.Module] = [CONVOLUTION[dims](in_channels, out_channels, tuple(kernel), bias=bias,  # type: ignore[arg-type]
                                                 padding=tuple(k // 2 for k in kernel) if padded else 0)]  # type: ignore[arg-type]
    if norm == "batch":
        layers.append(BATCH_NORM[dims](out_channels))
    return [*layers, nn.ReLU(inplace=True)]


class UpConv(nn.Module):
    """Up-sampling by `factor` that takes in_channels to out_channels: (B, in, *S) → (B, out, *(S factor)).

    transposed: convolution with kernel = stride = factor, the usual reading of the U-Net's "up-convolution".
    nearest, bilinear (trilinear in 3D; align_corners=False): a 1x1 convolution, then resizing. The two commute, and in
    this order the convolution works on fewer pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, factor: Sequence[int], mode: Up) -> None:
        super().__init__()
        dims, self.factor, self.mode = len(factor), tuple(factor), mode
        self.conv: nn.Module
        if mode == "transposed":
            self.conv = TRANSPOSED[dims](in_channels, out_channels, self.factor, stride=self.factor)  # type: ignore[arg-type]
        else:
            self.conv = CONVOLUTION[dims](in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.mode == "transposed":
            return x
        scale = [float(f) for f in self.factor]
        if self.mode == "nearest":
            return F.interpolate(x, scale_factor=scale, mode="nearest")
        return F.interpolate(x, scale_factor=scale, mode="bilinear" if len(scale) == 2 else "trilinear",
                             align_corners=False)


class NearestConv(nn.Sequential):
    """Nearest up-sampling, then a 3x3 convolution, (normalisation and) ReLU: (B, in, *S) → (B, out, *(S factor))."""

    def __init__(self, in_channels: int, out_channels: int, *, factor: Sequence[int], norm: Norm) -> None:
        kernel = (3,) * len(factor)
        super().__init__(nn.Upsample(scale_factor=tuple(float(f) for f in factor)),
                         *_convolved(in_channels, out_channels, kernel, True, norm, True))


def resize(x: Tensor, factor: int, *, align_corners: bool = False) -> Tensor:
    """Bilinear (trilinear in 3D) up-sampling: (B, C, *S) → (B, C, *(S factor))."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear" if x.ndim == 4 else "trilinear",
                         align_corners=align_corners)


def initialise(network: nn.Module) -> None:
    """Gaussian with standard deviation √(2 / fan-in), zero biases (U-Net, section 3; biases are open there).

    The fan-in of a transposed convolution with kernel = stride is its input channels, since each output pixel sees one
    tap; torch would take the output channels.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            fan_in = module.in_channels // module.groups * prod(module.kernel_size)
        elif isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            fan_in = module.in_channels // module.groups
        else:
            continue
        nn.init.normal_(module.weight, 0.0, sqrt(2 / fan_in))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def centre_crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The middle of the spatial axes: (B, C, *S) → (B, C, *size)."""
    for axis, (have, want) in enumerate(zip(x.shape[2:], size, strict=True), start=2):
        x = x.narrow(axis, (have - want) // 2, want)
    return x


def pad_end(x: Tensor, multiples: Sequence[int]) -> Tensor:
    """Repeat the last pixel of each spatial axis until its length is a multiple; (B, C, *S) → (B, C, *S').

    At the end only and by the last pixel only, so that a tile that ends where the image ends is padded alike.
    """
    missing = [-n % m for n, m in zip(x.shape[2:], multiples, strict=True)]
    if not any(missing):
        return x
    return F.pad(x, [p for m in reversed(missing) for p in (0, m)], mode="replicate")


def crop_end(x: Tensor, size: Sequence[int]) -> Tensor:
    """What `pad_end` added, taken away: (B, C, *S') → (B, C, *size)."""
    for axis, n in enumerate(size, start=2):
        x = x.narrow(axis, 0, n)
    return x


def parameter_count(network: nn.Module) -> int:
    """Number of trainable parameters, biases included."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def is_tracing() -> bool:
    """Whether an export traces the network, when shapes are no plain integers."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def check_input(x: Tensor, in_channels: int, spatial_dims: int, name: str) -> None:
    """Raise SizeError unless x is (B, in_channels, *S) with S of spatial_dims axes."""
    if is_tracing():
        return
    if x.ndim != spatial_dims + 2 or x.shape[1] != in_channels:
        from biomask.errors import SizeError

        axes = "B, C, Y, X" if spatial_dims == 2 else "B, C, Z, Y, X"
        raise SizeError(f"{name} takes ({axes}) with C = {in_channels}, got {tuple(x.shape)}")
