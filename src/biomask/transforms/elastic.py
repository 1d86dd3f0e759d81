"""Elastic deformation of the U-Net paper: random displacements on a coarse grid, bicubic in between."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def elastic_field(size: Sequence[int], *, amplitude: float | Sequence[float] = 10.0, grid: int | Sequence[int] = 3, count: int = 1,
                  generator: torch.Generator) -> Tensor:
    """Random smooth displacements: float32 (count, D, *size), px, axis order (y, x) or (z, y, x), on the generator's device.

    Ronneberger, Fischer and Brox 2015, section 3.1: displacement vectors on a coarse 3 x 3 grid, Gaussian with a standard
    deviation of 10 px, bicubic interpolation between them. The paper leaves open where the grid lies and what happens at its
    edge; here the outer knots lie on the outermost pixels, and beyond them the outer knot is repeated (see `spread`).

    amplitude: standard deviation in px, for all axes or for each.
    grid: knots along each axis, for all axes or for each; 3 is the paper's.
    """
    dims = len(size)
    knots = torch.randn(count, dims, *_each(grid, dims), generator=generator, device=generator.device)
    sd = amplitude if isinstance(amplitude, Sequence) else [amplitude] * dims
    return spread(knots * knots.new_tensor(sd).reshape(1, dims, *[1] * dims), size)


def spread(knots: Tensor, size: Sequence[int]) -> Tensor:
    """Bicubic (tricubic) interpolation of knots (B, C, *grid) at every pixel: float32 (B, C, *size).

    Knots are evenly spaced, the outer ones on the centres of the outermost pixels. Cubic convolution with a = -1/2 (Keys 1981;
    equal to the Catmull-Rom spline): through every knot, smooth in its first derivative, exact for planes away from the edge. At
    the edge the outer knot is repeated. Values stay within 1.25^D of the largest knot.
    """
    out = knots
    for axis, n in enumerate(size):
        weights = _weights(knots.shape[2 + axis], n, knots.device)
        out = torch.tensordot(out, weights, dims=([2], [1]))  # the new axis goes last: after D rounds all are in place again
    return out.contiguous()


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # whoever asks first
def _weights(knots: int, n: int, device: torch.device) -> Tensor:
    """Share of each knot in each pixel: float32 (n, knots); rows sum to 1. Kept: each patch has the same."""
    place = torch.linspace(0, knots - 1, n, dtype=torch.float64)
    below = place.floor().clamp(0, max(0, knots - 2)).long()
    t = place - below
    shares = torch.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -t**2 + t**3], dim=1) / 2
    index = (below[:, None] + torch.arange(-1, 3)).clamp(0, knots - 1)
    return torch.zeros(n, knots, dtype=torch.float64).scatter_add_(1, index, shares).float().to(device)


def _each(value: int | Sequence[int], dims: int) -> list[int]:
    return list(value) if isinstance(value, Sequence) else [value] * dims
