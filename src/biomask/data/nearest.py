"""Distances to the nearest and the second nearest object, whose sum is small between objects that are near each other.

Two ways to the same: `two_nearest` in torch, whose cost does not depend on the number of objects, and `two_nearest_cropped` by
scipy's distance transform, on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from biomask.data.distances import pixel_sizes, renumber
from biomask.errors import SizeError

#: Squared distances in units other than pixels are counted in steps of 2^-20 px² of the finest axis.
FINE = 20


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


def two_nearest_cropped(labels: Tensor, *, spacing: Sequence[float] | None = None,
                        radius: float | None = None) -> tuple[Tensor, Tensor]:
    """What `two_nearest` gives, by one distance transform for each object within its box grown by `radius`.

    Exact likewise; computed on the CPU. The cost is that of all boxes together: with a radius it grows with the number of objects
    and hardly with the image, without one every object costs a transform of the whole image. Arguments as there.
    """
    sizes = pixel_sizes(labels, spacing)
    ids = renumber(labels).cpu().numpy()
    first, second = np.full((2, *ids.shape), np.inf)
    reach = [n if radius is None else int(radius / s + 1e-6) for n, s in zip(ids.shape[1:], sizes, strict=True)]
    for patch, nearest, other in zip(ids, first, second, strict=True):
        for number, box in enumerate(ndimage.find_objects(patch), start=1):
            grown = tuple(slice(max(0, s.start - r), s.stop + r) for s, r in zip(box, reach, strict=True))
            distance = ndimage.distance_transform_edt(patch[grown] != number, sampling=sizes)
            other[grown] = np.minimum(other[grown], np.maximum(nearest[grown], distance))
            nearest[grown] = np.minimum(nearest[grown], distance)
    if radius is not None:
        first[first > radius * (1 + 1e-6)] = second[second > radius * (1 + 1e-6)] = np.inf
    return torch.from_numpy(first).float().to(labels.device), torch.from_numpy(second).float().to(labels.device)


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
