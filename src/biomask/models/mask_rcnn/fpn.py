"""Feature pyramid network (Lin et al. 2017, arXiv:1612.03144): one number of channels at every stride."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from biomask.errors import SizeError
from biomask.models.backbones import conv_norm


class FPN(nn.Module):
    """C2..C5 → P2..P6: 1x1 convolutions, coarser maps added to finer ones (nearest, x 2), a 3x3 convolution on each.

    in_channels: of each level, the finest first. version: 1, convolutions with biases, or 2, each followed by batch
    normalisation instead. Names (`inner_blocks.0.0.weight`, …), order and initialisation (kaiming uniform with a = 1) are
    torchvision's.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, version: Literal[1, 2] = 1) -> None:
        super().__init__()
        if version not in (1, 2) or not in_channels or min(*in_channels, channels) < 1:
            raise SizeError(f"FPN: version={version} must be 1 or 2, and in_channels={list(in_channels)} and channels={channels} "
                            "integers >= 1")
        self.channels = channels
        self.inner_blocks = nn.ModuleList(_convolved(c, channels, 1, version) for c in in_channels)
        self.layer_blocks = nn.ModuleList(_convolved(channels, channels, 3, version) for _ in in_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"0": (B, in_channels[0], h, w), …}, finest first → {"0": P2, …, "pool": P6}, all (B, channels, …).

        P6, for the region proposal network alone, is every second pixel of the coarsest map.
        """
        maps = list(features.values())
        if len(maps) != len(self.inner_blocks):
            raise SizeError(f"this FPN takes {len(self.inner_blocks)} maps, got {len(maps)}")
        inner: Tensor | None = None
        out: list[Tensor] = []
        for lateral, smooth, x in zip(reversed(self.inner_blocks), reversed(self.layer_blocks), reversed(maps), strict=True):
            here = _apply(lateral, x)
            if inner is not None:
                here = here.add_(F.interpolate(inner, size=here.shape[-2:], mode="nearest"))
            inner = here
            out.insert(0, _apply(smooth, here))
        return dict(zip(features, out, strict=True)) | {"pool": F.max_pool2d(out[-1], 1, stride=2)}


def _convolved(in_channels: int, out_channels: int, kernel: int, version: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=version == 1)]
    if version == 2:
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers)


def _apply(block: nn.Module, x: Tensor) -> Tensor:
    conv, *norm = block.children()
    return conv_norm(conv, norm[0], x) if norm else conv(x)  # type: ignore[arg-type]
