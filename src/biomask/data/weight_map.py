"""The U-Net's weight map: pixels between near objects count more, so that the network learns to keep them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from biomask.data.distances import pixel_sizes, renumber
from biomask.errors import SizeError

#: The border term may be off by this much at most: objects beyond the radius at which it falls below are not looked for.
TOLERANCE = 1e-3

#: Squared distances in units other than pixels are counted in steps of 2^-20 px² of the finest axis.
FINE = 20


def weight_map(labels: Tensor, *, w0: float = 10.0, sigma: float = 5.0, class_weights: Literal["balanced"] | Tensor | None = None,
               classes: Tensor | None = None, everywhere: bool = False, spacing: Sequence[float] | None = None) -> Tensor:
    """w = wc + w0 exp(-(d1 + d2)² / (2 sigma²)): float32 (B, *S), from ids (B, *S), 0 = background.

    Ronneberger, Fischer and Brox 2015, equation 2; d1 and d2 are the distances to the nearest and second nearest object. What the
    paper leaves open: distances are taken between pixel centres, to each object as a set (0 inside it); the second term is added on
    background alone unless `everywhere`; it is 0 with fewer than two objects, and where it is below 1e-3.

    w0, sigma: the paper's 10 and 5; sigma has the unit of `spacing`.
    class_weights: wc. None: 1. "balanced": N / (K N_c) by the pixels of this batch, K classes being there. A tensor (K,): a weight
                   for each class, such as one made from the whole training set.
    classes: (B, *S), class of each pixel, 0..K-1; None: background 0, every object 1.
    spacing: size of a pixel along each axis (*S); None: 1 px.
    """
    out = _class_term((labels != 0).long() if classes is None else classes.long(), class_weights)
    radius = sigma * math.sqrt(2 * math.log(w0 / TOLERANCE)) if w0 > TOLERANCE else 0.0
    if not radius:
        return out
    nearest, second = two_nearest(labels, radius=radius, spacing=spacing)
    border = border_term(nearest, second, w0, sigma)
    return out + (border if everywhere else border.mul_(labels == 0))


def border_term(nearest: Tensor, second: Tensor, w0: float, sigma: float) -> Tensor:
    """w0 exp(-(d1 + d2)² / (2 sigma²)): float32, 0 where a distance is inf."""
    return (nearest + second).square_().mul_(-1 / (2 * sigma**2)).exp_().mul_(w0)


def two_nearest(labels: Tensor, *, spacing: Sequence[float] | None = None, radius: float | None = None) -> tuple[Tensor, Tensor]:
    """Distances to the nearest and the second nearest object: float32 (B, *S) twice, inf where none is within `radius`.

    Exact between pixel centres; an object's own pixels have 0 as the first. The cost does not depend on the number of objects.

    labels: ids (B, *S) of any integer type, 0 = background. spacing: size of a pixel along each axis; None: 1 px.
    radius: in the unit of spacing; None: no limit, which takes as many steps as the patch is long.

    Axis by axis each pixel keeps its two nearest objects. Two are enough: were the second nearest object's closest pixel left out
    in some column, that column would hold two others at least as near, one of which is another second nearest.

    A distance and its object are one integer, (far - distance²) 2^bits + id, so that max and min compare and carry both.
    """
    sizes = pixel_sizes(labels, spacing)
    ids = renumber(labels)
    unit = 1 if all(s == 1 for s in sizes) else 2**FINE / min(sizes) ** 2
    reach = [n - 1 if radius is None else min(n - 1, int(radius / s + 1e-6)) for n, s in zip(ids.shape[1:], sizes, strict=True)]
    full = sum((r * s) ** 2 for r, s in zip(reach, sizes, strict=True))
    rounding = 0 if unit == 1 else len(sizes)  # each axis may add half a step too much
    far = 1 + rounding + math.floor(unit * (full if radius is None else min(full, radius**2)) + 1e-6)
    bits = max(1, int(ids.max()).bit_length() if ids.numel() else 1)
    # A key may fall by one step's whole cost below 0 before max drops it.
    lowest = max(far + unit * (r * s) ** 2 for r, s in zip(reach, sizes, strict=True))
    dtype = torch.int32 if lowest * 2**bits < 2**31 and ids.shape[-1] * 2**bits < 2**31 else torch.int64
    if lowest * 2**bits >= 2**63:
        raise SizeError(f"patch of {tuple(ids.shape[1:])} with pixels of {tuple(sizes)} is too large", where="two_nearest",
                        fix="give a radius")
    keys = _Keys(bits, far, unit, dtype)
    first, other = keys.along_last(ids, sizes[-1])
    for axis in range(ids.ndim - 2, 0, -1):
        first, other = keys.across(first, other, axis, sizes[axis - 1], reach[axis - 1])
    return keys.distance(first), keys.distance(other)


class _Keys:
    """Distance and object as one integer; what is farther than `far` is negative."""

    def __init__(self, bits: int, far: int, unit: float, dtype: torch.dtype) -> None:
        self.bits, self.far, self.unit, self.dtype = bits, far, unit, dtype
        self.mask = (1 << bits) - 1

    def along_last(self, ids: Tensor, size: float) -> tuple[Tensor, Tensor]:
        """The two nearest objects within each line of the last axis."""
        before = self._behind(ids, size)
        after = [key.flip(-1) for key in self._behind(ids.flip(-1), size)]
        first, other = before
        spare = torch.empty_like(first)
        for key in after:
            self._merge(first, other, key, spare)
        return first, other

    def _behind(self, ids: Tensor, size: float) -> tuple[Tensor, Tensor]:
        """The last object at or before each pixel, and the last other one before that."""
        n = ids.shape[-1]
        place = torch.arange(n, device=ids.device, dtype=self.dtype) << self.bits
        seen = (place + ids).masked_fill_(ids == 0, -1).cummax(-1).values
        earlier = torch.full_like(seen, -1)
        earlier[..., 1:] = seen[..., :-1]
        change = (earlier >= 0) & (ids != 0) & ((earlier & self.mask) != ids)
        return self._key(seen, size), self._key(earlier.masked_fill_(~change, -1).cummax(-1).values, size)

    def _key(self, seen: Tensor, size: float) -> Tensor:
        """Places and ids of pixels seen along a line → keys."""
        n = seen.shape[-1]
        steps = torch.arange(n, device=seen.device, dtype=self.dtype) - (seen >> self.bits)
        costs = torch.tensor([min(self.far + 1, self.cost(k, size)) for k in range(n)], device=seen.device, dtype=self.dtype)
        left = self.far - costs[steps.clamp_(max=n - 1).long()]
        return ((left << self.bits) | (seen & self.mask)).masked_fill_((seen < 0) | (left <= 0), -1)

    def across(self, first: Tensor, other: Tensor, axis: int, size: float, reach: int) -> tuple[Tensor, Tensor]:
        """The two nearest objects, looking along one more axis."""
        best, second = first.clone(), other.clone()
        n = first.shape[axis]
        moved, spare = torch.empty_like(first), torch.empty_like(first)
        for k in range(1, reach + 1):
            for source in (first, other):
                torch.sub(source, self.cost(k, size) << self.bits, out=moved)
                for to, start in ((0, k), (k, 0)):
                    self._merge(best.narrow(axis, to, n - k), second.narrow(axis, to, n - k), moved.narrow(axis, start, n - k),
                                spare.narrow(axis, to, n - k))
        return best, second

    def cost(self, k: int, size: float) -> int:
        """Squared length of k steps, in units."""
        return round(self.unit * (k * size) ** 2)

    def _merge(self, best: Tensor, second: Tensor, key: Tensor, spare: Tensor) -> None:
        """Take one more object in; in place. The same object as the best is never its own second."""
        # same = -1 (all bits) where both ids are equal, else 0, without a mask: bools are slow on a CPU.
        same = ((best ^ key) & self.mask).sub_(1) >> 31
        torch.minimum(best, key, out=spare)
        spare |= same
        torch.maximum(best, key, out=best)
        torch.maximum(second, spare, out=second)

    def distance(self, key: Tensor) -> Tensor:
        square = (self.far - (key >> self.bits)).to(torch.float32 if self.unit == 1 else torch.float64) / self.unit
        return square.sqrt_().float().masked_fill_(key <= self.mask, torch.inf)


def _class_term(classes: Tensor, weights: Literal["balanced"] | Tensor | None) -> Tensor:
    if weights is None:
        return torch.ones(classes.shape, device=classes.device)
    if isinstance(weights, str):
        counts = torch.bincount(classes.flatten())
        present = counts > 0
        weights = torch.where(present, classes.numel() / (present.sum() * counts.clamp(min=1)), 0.0)
    return weights.to(classes.device, torch.float32)[classes]
