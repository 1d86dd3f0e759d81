"""Single choices of a plan: each a pure function from figures to a value."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import torch
from torch import nn

from biomask.checkpoint import construct
from biomask.data.fingerprint import Fingerprint
from biomask.models.own import is_own
from biomask.prediction.memory import LARGEST_READ
from biomask.prediction.overlap_tile import geometry_of
from biomask.tiling import AxisGeometry, choose_tile, plan_tiles, smallest_tile

#: Usual sides of a patch of equal axes.
USUAL_SIDE = {"cpu": {2: 256, 3: 40}, "mps": {2: 256, 3: 48}, "cuda": {2: 512, 3: 64}}

#: A patch should be this many times as long as nearly all objects, and becomes at most so many times the usual one for it.
AROUND, GROWTH = 1.75, 4.0

#: A patch whose sides differ less becomes square, since only such can be turned by quarters.
SQUARE = 0.75

#: Receptive field over the length of nearly all objects: what counts in it is far smaller than what can count (Luo et al. 2016,
#: arXiv:1701.04128).
CONTEXT = 2.5

#: Depths of the U-Net that are considered.
DEPTHS = {2: (3, 4, 5), 3: (2, 3)}

#: Least pixels of a map along each axis at the bottom.
BOTTOM = 4

#: A deeper 3D network may read at most this many times the pixels that tiles keep.
HALO_COST = 4.0

#: Least side of patches for small objects, and how many times nearly every object it is.
LEAST_SIDE, TIMES = 128, 3.0

Triples = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Sides:
    """A patch before it is rounded to what a network takes."""

    sides: tuple[int, ...]
    usual: tuple[int, ...]
    """What it would be without objects."""
    wanted: tuple[int, ...]
    """What objects ask for."""


def ideal_patch(fingerprint: Fingerprint, device: str) -> Sides:
    """Sides in pixels: as many voxels as usual on the device, a cube or square in space, large enough for objects, at most
    the median image."""
    usual_side = usual_of(fingerprint, device)
    volume = float(usual_side**fingerprint.dims)
    usual = _fill(volume, fingerprint.anisotropy, fingerprint.median)
    extent = list(fingerprint.objects.extent_95)
    if turns(fingerprint):
        extent[-2:] = [max(extent[-2:])] * 2
    asked = tuple(ceil(AROUND * e) for e in extent)
    wanted = tuple(min(max(u, a), n) for u, a, n in zip(usual, asked, fingerprint.median, strict=True))
    too_much = prod(wanted) / (GROWTH * volume)
    if too_much > 1:
        shrink = too_much ** (1 / fingerprint.dims)
        wanted = tuple(max(min(u, w), int(w / shrink)) for u, w in zip(usual, wanted, strict=True))
    if turns(fingerprint) and min(wanted[-2:]) >= SQUARE * max(wanted[-2:]):
        wanted = (*wanted[:-2], min(wanted[-2:]), min(wanted[-2:]))
    return Sides(wanted, usual, asked)


def usual_of(fingerprint: Fingerprint, device: str) -> int:
    """Side of a square or cube, in pixels: of planes with small objects smaller ones, so that a step sees more images; that
    steadies batch normalisation where images differ as much as fluorescence and stained tissue."""
    usual = USUAL_SIDE[device][fingerprint.dims]
    if fingerprint.kind != "instances" or fingerprint.dims != 2 or not fingerprint.objects.count:
        return usual
    return min(usual, max(LEAST_SIDE, ceil(TIMES * max(fingerprint.objects.extent_95))))


def turns(fingerprint: Fingerprint) -> bool:
    """Whether a quarter turn in y-x keeps the scale."""
    return max(fingerprint.anisotropy[-2:]) <= 1.1 * min(fingerprint.anisotropy[-2:])


def _fill(volume: float, anisotropy: Sequence[float], size: Sequence[int]) -> tuple[int, ...]:
    """Sides in the ratio of 1 / anisotropy whose product is the volume; what an image lacks along one axis goes to the others."""
    sides, free = list(size), set(range(len(size)))
    while free:
        left = volume / prod(sides[i] for i in range(len(size)) if i not in free)
        unit = (left * prod(anisotropy[i] for i in free)) ** (1 / len(free))
        short = {i for i in free if unit / anisotropy[i] >= size[i]}
        if not short:
            for i in free:
                sides[i] = max(1, int(unit / anisotropy[i] + 1e-6))
            break
        free -= short
    return tuple(sides)


def levels_for(patch: Sequence[int], anisotropy: Sequence[float], depth: int) -> tuple[Triples, Triples]:
    """(scales, kernels) of a network of at most `depth` levels: fewer where no axis has BOTTOM pixels left.

    As nnU-Net does (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): an axis is pooled while its pixels are within a
    factor of two of the finest, and convolutions stay flat along it until they are.
    """
    sides, pixel = list(patch), list(anisotropy)
    scales, kernels = list[tuple[int, ...]](), [_kernel(patch, pixel)]
    for _ in range(depth):
        able = [n // 2 >= BOTTOM for n in sides]
        if not any(able):
            break
        finest = min(p for p, a in zip(pixel, able, strict=True) if a)
        scale = tuple(2 if a and p <= 2 * finest else 1 for p, a in zip(pixel, able, strict=True))
        sides = [n // s for n, s in zip(sides, scale, strict=True)]
        pixel = [p * s for p, s in zip(pixel, scale, strict=True)]
        scales.append(scale)
        kernels.append(_kernel(patch, pixel))
    return tuple(scales), tuple(kernels)


def _kernel(patch: Sequence[int], pixel: Sequence[float]) -> tuple[int, ...]:
    return tuple(1 if p > 2 * min(pixel) or n < 3 else 3 for p, n in zip(pixel, patch, strict=True))


def receptive_field(network: nn.Module) -> tuple[int, ...]:
    """Pixels along each axis that an output pixel in the middle of the bottom's grid depends on."""
    depends: Any = network.depends_on
    spans = [depends((s // 2, s // 2), axis) for axis, s in enumerate(geometry_strides(network))]
    return tuple(last - first + 1 for first, last in spans)


def geometry_strides(network: nn.Module) -> tuple[int, ...]:
    """Strides along each axis."""
    return tuple(g.stride for g in geometry_of(network))


def halo_cost(size: Sequence[int], geometry: Sequence[AxisGeometry]) -> float:
    """Pixels read over pixels kept, when an image of `size` is predicted in tiles as large as they get."""
    tile = choose_tile(size, LARGEST_READ, geometry) or smallest_tile(geometry)
    return sum(prod(t.read_size) for t in plan_tiles(size, tile, geometry)) / prod(size)


def ghost(name: str, channels: int, outputs: int, dims: int, options: dict[str, Any]) -> nn.Module:
    """A network for its geometry and its cost, without weights but of modules of the user's own, which may need some. Leaves the
    random state as it is. Errors as in `construct`."""
    with torch.random.fork_rng([]), nullcontext() if is_own(name) else torch.device("meta"):
        return construct(name, options, channels, outputs, dims)


def rounded(sides: Sequence[int], geometry: Sequence[AxisGeometry], *, given: bool) -> tuple[int, ...]:
    """Label pixels that a network takes as they are: up for a given patch and for "valid" networks, otherwise down."""
    target = []
    for n, g in zip(sides, geometry, strict=True):
        if g.margin:
            target.append(g.legal_size(n + 2 * g.margin) - 2 * g.margin)
        else:
            target.append(g.legal_size(n) if given else max(g.stride, n // g.stride * g.stride))
    return tuple(target)


def choose_oversample(fingerprint: Fingerprint, patch: Sequence[int]) -> tuple[float, str]:
    """(share of patches laid on an object or a rare class, why)."""
    rarest = fingerprint.rarest
    if rarest is None:
        return 0.0, "no foreground to look for"
    name, share = rarest
    presence = fingerprint.presence[1 + fingerprint.class_names[1:].index(name)]
    whole = all(p >= 0.8 * n for p, n in zip(patch, fingerprint.median, strict=True))
    if share >= 0.05 or (whole and presence >= 0.5):
        return 0.0, (f"a patch is about a whole image, and {percent(presence)} hold {name!r}" if share < 0.05 else
                     f"{name!r}, the rarest, has {percent(share)} of the pixels")
    return (0.5 if share < 0.01 else 0.33), f"{name!r} has {percent(share)} of the pixels, so that random places often miss it"


#: Share of the pixels from which on both of two classes are weighed.
COMMON = 0.05


def choose_weights(fingerprint: Fingerprint) -> tuple[float, ...] | None:
    """Class weights of the cross-entropy; None where the Dice loss and laying patches on rare classes do.

    Of two classes that both are common, the root of the inverse share: thin structures such as membranes are missed less, and
    where the probability is cut is tuned in the end, so that nothing is seen everywhere. Of several, more for those with less
    than a thousandth of the pixels; the root keeps weights small, as large ones make a network see the class everywhere.
    """
    shares = fingerprint.shares
    if fingerprint.kind in ("classes", "soft") and len(shares) == 2 and min(shares) >= COMMON:
        total = sum(s**0.5 for s in shares)
        return tuple(round(1 / (total * s**0.5), 2) for s in shares)
    if fingerprint.kind not in ("classes", "soft") or not any(0 < s < 0.001 for s in fingerprint.shares):
        return None
    return tuple(round(min(5.0, (0.01 / s) ** 0.5), 2) if 0 < s < 0.001 else 1.0 for s in fingerprint.shares)


def balanced_weights(shares: Sequence[float]) -> tuple[float, ...]:
    """N / (K N_c): a weight for each of K classes with which all count alike, 1 in the mean over pixels. 1 for a class without any.

    >>> balanced_weights((0.8, 0.2))
    (0.625, 2.5)
    """
    return tuple(round(1 / (len(shares) * s), 4) if s else 1.0 for s in shares)


def choose_symmetries(fingerprint: Fingerprint) -> tuple[tuple[str, ...], bool, str]:
    """(axes that may be mirrored, quarter turns or not, why)."""
    axes = ("y", "x", "z")[: fingerprint.dims]
    named = " ".join(fingerprint.class_names).casefold()
    if "left" in named and "right" in named:
        return (), False, "mirroring would make left what is named right"
    if not turns(fingerprint):
        return axes, False, "pixels are longer along one side, so a turned image would be of another scale"
    return axes, True, "nothing in the labels tells directions apart"


def percent(share: float) -> str:
    """12 %, 1.2 %, 0.012 %."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"
