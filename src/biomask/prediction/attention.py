"""Attention maps: what the gates of an Attention U-Net let pass of its skips."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from biomask.errors import UsageError
from biomask.image import Image
from biomask.models.ensemble import Ensemble
from biomask.prediction.outlines import stretched
from biomask.prediction.overlap_tile import predict_tiles
from biomask.prediction.work import Work

#: Colours of attention 0, ¼, ½, ¾ and 1: dark to bright, told apart also without colour vision.
COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float32)

#: Share of the colour in pictures; the rest is the image.
OPACITY = 0.6


class Gates(nn.Module):
    """The attention of a network as if it were its output: (B, C, *S) → (B, gates, *S), 0..1, those of the finest skip first.

    It depends on no more of the image than the network's output does, so it is tiled alike. Of several networks it is the mean.
    Raises UsageError for networks without gates.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        members = list(network.members) if isinstance(network, Ensemble) else [network]
        if not all(hasattr(member, "attention") for member in members):
            raise UsageError(f"--attention shows the gates of an Attention U-Net, and this model is a {type(members[0]).__name__}",
                             fix="leave it out, or train with --recipe attention-unet")
        self.members = nn.ModuleList(members)
        for name in ("in_channels", "classes", "spatial_dims", "strides", "halo", "margin", "exact_tiling", "legal_size"):
            setattr(self, name, getattr(network, name))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.cat(member.attention(x), dim=1) for member in self.members]).mean(dim=0)  # type: ignore[operator]


def predict_attention(work: Work, seen: Image, tile: tuple[int, ...],
                      statistics: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None) -> npt.NDArray[np.float32]:
    """Attention float32 (gates, *S) of an image as the network sees it, in 0..1; arguments as in `predict_tiles`."""
    gates, out = Gates(work.network), None
    for part, found in predict_tiles(gates, seen.array, tile, statistics=statistics, device=work.device):
        if out is None:
            out = np.empty((len(found), *seen.size), np.float32)
        out[(slice(None), *part.write)] = found.float().cpu().numpy()
    if out is None:
        raise UsageError(f"an image of {seen.size} pixels has no attention")
    return out.clip(0, 1)  # a linear resize may pass the ends by a rounding error


def gate_names(count: int) -> tuple[str, ...]:
    """Names of the maps.

    >>> gate_names(2)
    ('gate 1, finest', 'gate 2')
    """
    return tuple(f"gate {n + 1}" + (", finest" if n == 0 and count > 1 else "") for n in range(count))


def draw_attention(image: Image, attention: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """RGB picture, uint8 (3, Y, X (1 + gates)): the image stretched to 0..255, then each gate's attention in colour over it,
    from purple, where little passes, to yellow. Of a volume the middle plane."""
    picture = stretched(image)
    maps: npt.NDArray[Any] = attention if attention.ndim == 3 else attention[:, attention.shape[1] // 2]
    grey = picture.mean(axis=0, dtype=np.float32)
    panels = [picture]
    for plane in maps:
        colour = np.stack([np.interp(plane, np.linspace(0, 1, len(COLOURS)), c) for c in COLOURS.T])
        panels.append((OPACITY * colour + (1 - OPACITY) * grey).round().astype(np.uint8))
    return np.concatenate(panels, axis=2)
