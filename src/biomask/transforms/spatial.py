"""Flips, turns, affine and elastic warps, the same for an image and its labels.

Positions are in pixels from the centre of a patch, so an output of `size` and the larger region that it is read from share them:

    region  |<- margin ->|<-------- size -------->|<- margin ->|
                                     0 = the centre of both

`affine` and `elastic_field` say where each output pixel reads, `coordinates` puts them together, `warp` and `warp_labels` read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from biomask.errors import SizeError

#: Positions are float32: an excess of so little beyond the last pixel (px) is rounding, not a reason for a wider margin.
SLACK = 1e-3

#: A single sample is read in up to this many slabs at once on a CPU.
SLABS = 8

#: Types of the same width that torch gathers.
SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def flip_rotate(batch: Tensor, flips: Sequence[Sequence[int]], turns: Sequence[int]) -> Tensor:
    """Mirror and turn each sample of a batch: (B, …, *S) → the same shape.

    flips: for each sample the spatial axes to mirror, counted from the end (-1 = x, -2 = y, -3 = z).
    turns: for each sample the number of quarter turns y → x, after mirroring; the y and x sides must be equal for odd ones.
    Exact: pixels move, none is interpolated.
    """
    return torch.stack([moved(sample, axes, turn) for sample, axes, turn in zip(batch, flips, turns, strict=True)])


def moved(sample: Tensor, flips: Sequence[int], turns: int) -> Tensor:
    """`flip_rotate` of one sample (…, *S); a view where nothing is mirrored."""
    # A quarter turn mirrors an axis and swaps both: each pixel is copied once at most.
    axes = set(flips) ^ {0: set(), 1: {-1}, 2: {-1, -2}, 3: {-2}}[turns % 4]
    sample = sample.flip(list(axes)) if axes else sample
    return sample.transpose(-2, -1) if turns % 2 else sample


def affine(angles: Tensor, *, scales: Tensor | None = None, shears: Tensor | None = None, flips: Tensor | None = None,
           spacing: Sequence[float] | None = None) -> Tensor:
    """Matrices (B, D, D), float32, from output positions to input positions, axis order (y, x) or (z, y, x).

    The picture is mirrored, then enlarged, then sheared, then turned.

    angles: (B, 1) for 2D, radians, the turn y → x, the direction of `flip_rotate`; (B, 3) for 3D, the turns y → x, z → x and
            z → y, in this order.
    scales: (B, D), or (B, 1) for all axes alike; 2 makes everything twice as large. None: 1.
    shears: (B,); a line along y leans by this many px of x per px of y. None: 0.
    flips: bool (B, D), the axes to mirror. None: none.
    spacing: size of a pixel along each axis, any unit. Given, angles are those of the specimen and not of the pixel grid, so that
            a volume with thick slices is turned about x or y without being squashed.
    Raises SizeError where angles are neither (B, 1) nor (B, 3).
    """
    if angles.ndim != 2 or angles.shape[1] not in (1, 3):
        raise SizeError(f"angles of the shape {tuple(angles.shape)}", where="affine", fix="give (B, 1) in 2D, (B, 3) in 3D")
    planes = [(-2, -1), (-3, -1), (-3, -2)][:angles.shape[1]]
    dims = 2 if len(planes) == 1 else 3
    eye = torch.eye(dims, device=angles.device).expand(len(angles), dims, dims)
    size = torch.ones(dims, device=angles.device) if spacing is None else angles.new_tensor(list(spacing), dtype=torch.float32)
    turn = eye
    for (a, b), angle in zip(planes, angles.float().unbind(1), strict=True):
        one = eye.clone()
        one[:, a, a], one[:, a, b], one[:, b, a], one[:, b, b] = angle.cos(), angle.sin(), -angle.sin(), angle.cos()
        turn = one @ turn
    matrix = turn * size / size[:, None]
    if shears is not None:
        shear = eye.clone()
        shear[:, -1, -2] = -shears
        matrix = shear @ matrix
    if scales is not None:
        matrix = matrix / scales[:, :, None]
    return matrix if flips is None else matrix * (1 - 2 * flips[:, :, None].float())


def coordinates(size: Sequence[int], matrices: Tensor, displacement: Tensor | None = None) -> Tensor:
    """Where each output pixel reads: float32 (B, D, *size), px from the centre of the region, axis order (y, x) or (z, y, x).

    matrices: (B, D, D) of `affine`. displacement: (B, D, *size) px of the input, added after them.
    """
    dims = len(size)
    if matrices.shape[-2:] != (dims, dims):
        raise SizeError(f"matrices of the shape {tuple(matrices.shape)} for a patch of {tuple(size)}", where="coordinates",
                        fix=f"give (B, {dims}, {dims})")
    out: Tensor | None = displacement
    for axis, n in enumerate(size):
        along = torch.arange(n, device=matrices.device, dtype=torch.float32) - (n - 1) / 2
        shape = [1] * dims
        shape[axis] = n
        term = (matrices[:, :, axis, None] * along).reshape(*matrices.shape[:2], *shape)
        out = term if out is None else out + term
    if out is None:
        raise SizeError("a patch without axes", where="coordinates", fix="give the size (y, x) or (z, y, x)")
    return out


def warp(images: Tensor, positions: Tensor) -> Tensor:
    """Read images at positions by linear interpolation: float32 (B, C, *S), (B, D, *size) → (B, C, *size).

    Beyond the region the value of its nearest border pixel is read; `needed_margin` tells how large it has to be to avoid that.
    """
    _check(images.shape[2:], positions)
    halves = positions.new_tensor([max(1.0, (n - 1) / 2) for n in images.shape[2:]])
    # grid_sample wants x first, and -1..1 from the first pixel's centre to the last one's.
    grid = (positions / halves.reshape(-1, *[1] * len(halves))).flip(1).movedim(1, -1)
    count, size = len(images), positions.shape[2:]
    # torch's threads share the work by samples: one sample alone is read in slabs, all from the same image.
    slabs = math.gcd(size[0], SLABS) if count == 1 and images.device.type == "cpu" else 1
    if slabs > 1:
        images, grid = images.expand(slabs, *images.shape[1:]), grid.reshape(slabs, -1, *grid.shape[2:])
    out = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return out if slabs == 1 else out.movedim(0, 1).reshape(1, -1, *size)


def warp_labels(labels: Tensor, positions: Tensor) -> Tensor:
    """Read labels at the nearest pixel: (B, *S) or (B, K, *S) of any integer type or bool → (B, *size) or (B, K, *size), same type.

    Values are moved and never computed with, so large ids stay what they are. Beyond the region its nearest border pixel is read.
    """
    dims = positions.shape[1]
    sides = labels.shape[labels.ndim - dims:]
    _check(sides, positions)
    index: Tensor | None = None
    for p, n in zip(positions.unbind(1), sides, strict=True):
        nearest = (p + (n - 1) / 2).round_().clamp_(0, n - 1).long()
        index = nearest if index is None else index.mul_(n).add_(nearest)
    if index is None or labels.ndim not in (dims + 1, dims + 2):
        raise SizeError(f"labels of the shape {tuple(labels.shape)} for positions of {tuple(positions.shape)}", where="warp_labels",
                        fix="give (B, *S) or (B, K, *S)")
    lead, size = labels.shape[:labels.ndim - dims], positions.shape[2:]
    # torch gathers no unsigned integers of more than 8 bits: their bits are moved as signed ones.
    flat = labels.view(SIGNED.get(labels.dtype, labels.dtype)).flatten(labels.ndim - dims)
    index = index.flatten(1)
    if labels.ndim == dims + 2:
        index = index[:, None].expand(-1, labels.shape[1], -1)
    return flat.gather(-1, index).reshape(*lead, *size).view(labels.dtype)


def needed_margin(size: Sequence[int], matrices: Tensor, displacement: float | Sequence[float] = 0.0) -> tuple[int, ...]:
    """Smallest margin along each axis, px, with which no output pixel of any sample reads outside the region.

    displacement: largest displacement in px, for all axes or for each. The bound is reached at the corners of the patch.
    """
    half = torch.tensor([(n - 1) / 2 for n in size], device=matrices.device)
    reach = (matrices.abs() @ half).amax(0).tolist()
    extra = list(displacement) if isinstance(displacement, Sequence) else [displacement] * len(size)
    return tuple(max(0, math.ceil(r + e - (n - 1) / 2 - SLACK)) for r, e, n in zip(reach, extra, size, strict=True))


def covering_margin(positions: Tensor) -> tuple[int, ...]:
    """The margin along each axis, px, that exactly these positions (B, D, *size) need: `needed_margin` without a bound."""
    reach = positions.abs().amax(dim=(0, *range(2, positions.ndim))).tolist()
    return tuple(max(0, math.ceil(r - (n - 1) / 2 - SLACK)) for r, n in zip(reach, positions.shape[2:], strict=True))


def _check(sides: Sequence[int], positions: Tensor) -> None:
    if positions.ndim != len(sides) + 2 or positions.shape[1] != len(sides):
        raise SizeError(f"positions of the shape {tuple(positions.shape)} for a region of {tuple(sides)}", where="warp",
                        fix="give (B, D, *size) with one entry of D for each axis of the region")
