"""Networks: plain `torch.nn.Module`s with typed constructors; `MODELS` names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import nn

from biomask.models.one_layer import OneLayer
from biomask.models.unet import UNet


@runtime_checkable
class Network(Protocol):
    """What tiling, training and export ask of a network.

    `forward(x)`: float32 (B, C, *S) → logits (B, K, *S'), or a tuple of them with the final one last;
    S' = S - 2 margin.
    """

    in_channels: int
    classes: int
    spatial_dims: int
    strides: tuple[int, ...]
    """Along each spatial axis: shifts by this many pixels commute with the network."""
    halo: tuple[int, ...]
    """Context that an aligned tile needs on each side, in pixels; 0 where `margin` takes its place."""
    margin: tuple[int, ...]
    """Pixels that the output lacks on each side."""
    exact_tiling: bool
    """Whether a tiled prediction equals the untiled one."""

    def legal_size(self, size: int, axis: int) -> int:
        """Smallest input length >= size that the network takes without padding of its own."""


#: Every network by name: the constructor takes (in_channels, classes, *, spatial_dims, …).
MODELS: dict[str, Callable[..., nn.Module]] = {
    "one-layer": OneLayer,
    "unet": UNet,
}

__all__ = ["MODELS", "Network", "OneLayer", "UNet"]
