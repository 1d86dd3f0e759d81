"""Networks: plain `torch.nn.Module`s with typed constructors; `MODELS` names them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

from torch import nn

from biomask.models.attention_unet import AttentionUNet
from biomask.models.calibration import Calibration, fit_calibration, median_filter
from biomask.models.fcn import FCN
from biomask.models.grid_attention_unet import GridAttentionUNet
from biomask.models.mask_rcnn import MaskRCNN
from biomask.models.one_layer import OneLayer
from biomask.models.sliding_window import SlidingWindow
from biomask.models.torchvision_weights import load_torchvision
from biomask.models.unet import UNet
from biomask.models.unet_padded import PaddedUNet
from biomask.models.unet_plus_plus import UNetPlusPlus
from biomask.models.weights import load_weights


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
    "attention-unet": AttentionUNet,
    "fcn": FCN,
    "grid-attention-unet": GridAttentionUNet,
    "one-layer": OneLayer,
    "sliding-window": SlidingWindow,
    "unet": UNet,
    "unet++": UNetPlusPlus,
    "unet-padded": PaddedUNet,
}

#: Every detector by name: the constructor takes (in_channels, classes with background, *, …); see `MaskRCNN`.
DETECTORS: dict[str, Callable[..., MaskRCNN]] = {
    "faster-rcnn": partial(MaskRCNN, masks=False),
    "mask-rcnn": MaskRCNN,
}

__all__ = ["DETECTORS", "FCN", "MODELS", "AttentionUNet", "Calibration", "GridAttentionUNet", "MaskRCNN", "Network", "OneLayer",
           "PaddedUNet", "SlidingWindow", "UNet", "UNetPlusPlus", "fit_calibration", "load_torchvision", "load_weights",
           "median_filter"]
