"""Targets of objects, computed from their labels after augmentation: distances, borders, ids.

Labels are integers (B, *S), S = (y, x) or (z, y, x); 0 is background, every other value an object. All functions work on the
device of their input, without random numbers, for a batch at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from biomask.errors import LabelsError, SizeError


class Better(Protocol):
    """torch.maximum or torch.minimum."""

    def __call__(self, input: Tensor, other: Tensor, *, out: Tensor) -> Tensor: ...


def renumber(labels: Tensor, *, split: bool = False) -> Tensor:
    """Ids of each patch become 1..n in their old order: (B, *S) of any integer type → int32 (B, *S).

    An object that a crop or a warp cut into pieces keeps one id. With split=True each piece gets an id of its own (pixels that
    touch at a corner belong together); that is done on the CPU and takes a few ms a patch.
    Raises LabelsError for ids below 0.
    """
    labels = plain_ids(labels)
    if split:
        from skimage.measure import label

        pieces = np.stack([label(patch, background=0, connectivity=patch.ndim) for patch in labels.cpu().numpy()])
        labels = torch.from_numpy(pieces).to(labels.device)
    flat, high = _small_ids(labels)
    table = flat.new_zeros(len(flat), high + 1, dtype=torch.int32).scatter_(1, flat, 1)
    table[:, 0] = 0
    table = table.cumsum(1, dtype=torch.int32) * table
    return table.gather(1, flat).reshape(labels.shape)


def object_distance(labels: Tensor, *, spacing: Sequence[float] | None = None, limit: float | None = None) -> Tensor:
    """Exact Euclidean distance from each object pixel to the nearest pixel of another label: float32 (B, *S), 0 on background.

    Another label is background or another object; distances are between pixel centres, so 1 at an object's edge. The border of
    the patch is no edge: what lies beyond it is unknown. A patch that is all one object gives inf.

    spacing: size of a pixel along each axis (*S), the distance's unit; None: 1 px.
    limit: larger distances become `limit`, which saves time.

    Along the last axis the nearest other label is the end of the pixel's run. Each further axis adds
    min over k of (k s)^2 + f(p + k), f the squared distance so far, bounded by the end of the run along this axis: a pixel beyond
    that end costs at least as much as the end itself, so labels need not be compared (Felzenszwalb and Huttenlocher 2012 give the
    transform axis by axis for one label).
    """
    labels = plain_ids(labels)
    sizes = pixel_sizes(labels, spacing)
    if not labels.numel():
        return torch.zeros(labels.shape, device=labels.device)
    square = _run_end(labels, labels.ndim - 1, sizes[-1]).square_().masked_fill_(labels == 0, 0.0)
    for axis in range(labels.ndim - 2, 0, -1):
        square = _pass(square, _run_end(labels, axis, sizes[axis - 1]).square_(), axis, sizes[axis - 1], limit)
    return square.sqrt_() if limit is None else square.sqrt_().clamp_(max=limit)


def normalized_distance(labels: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """`object_distance` divided by the object's largest in the patch: float32 (B, *S), 0 on background, 1 at each centre.

    Where one object fills the whole patch, all of it is 1.
    """
    distance = object_distance(labels, spacing=spacing).nan_to_num_(posinf=1.0).flatten(1)
    index, high = _small_ids(labels)
    largest = distance.new_zeros(len(distance), high + 1).scatter_reduce_(1, index, distance, "amax")
    largest[:, 0] = 1
    return (distance / largest.gather(1, index)).reshape(labels.shape)


def touching_border(labels: Tensor, width: int = 1) -> Tensor:
    """Object pixels that have another object within `width` px: bool (B, *S).

    Within: in the square (cube) of 2 width + 1 px around the pixel, corners included (Chebyshev distance).
    """
    labels = plain_ids(labels)
    last = torch.iinfo(labels.dtype).max
    lowered = (labels - 1).bitwise_and_(last)  # background is the largest number of all
    largest, smallest = labels, lowered
    for axis in range(1, labels.ndim):
        largest = _neighbourhood(largest, axis, width, torch.maximum)
        smallest = _neighbourhood(smallest, axis, width, torch.minimum)
    return ((largest != labels) | (smallest != lowered)) & (labels != 0)


def separate(labels: Tensor, classes: Tensor | None = None) -> Tensor:
    """Touching objects with a line of background between them: (B, *S) → the same shape and type.

    A pixel becomes background where one of the 4 (2D) or 13 (3D) neighbours that come before it in reading order, corners included,
    belongs to another object; all pixels are judged by the labels given. This is the rule of the U-Net authors' plug-in. The line
    is 1 px wide between one object and another below it, 2 px between two side by side: the upper right neighbour counts too.

    classes: (B, *S), the class of each pixel; given, only objects of the same class are separated.
    """
    plain = plain_ids(labels)
    cut = torch.zeros_like(plain, dtype=torch.bool)
    for offset in itertools.product((-1, 0, 1), repeat=plain.ndim - 1):
        if offset >= (0,) * len(offset):
            continue
        here: tuple[slice, ...] = (slice(None), *(slice(max(0, -o), -o if o > 0 else None) for o in offset))
        there: tuple[slice, ...] = (slice(None), *(slice(max(0, o), o if o < 0 else None) for o in offset))
        other = (plain[here] != plain[there]) & (plain[there] != 0)
        cut[here] |= other if classes is None else other & (classes[here] == classes[there])
    return torch.where(cut, torch.zeros((), dtype=labels.dtype, device=labels.device), labels)


def plain_ids(labels: Tensor) -> Tensor:
    """The labels in a type that torch computes with everywhere: int64 stays, uint32 and uint64 become it, the rest int32.

    Raises LabelsError for numbers that are not integers, SizeError without spatial axes.
    """
    if labels.dtype.is_floating_point or labels.dtype.is_complex:
        raise LabelsError(f"labels of the type {labels.dtype}", fix="give integers, one id for each object")
    if labels.ndim < 2:
        raise SizeError(f"labels of the shape {tuple(labels.shape)}", fix="give (B, y, x) or (B, z, y, x)")
    if labels.dtype in (torch.int64, torch.int32):
        return labels
    return labels.to(torch.int64 if labels.dtype in (torch.uint32, torch.uint64) else torch.int32)


def pixel_sizes(labels: Tensor, spacing: Sequence[float] | None) -> list[float]:
    """Size of a pixel along each spatial axis of labels (B, *S); 1 without spacing. Raises SizeError where they don't fit."""
    sizes = [1.0] * (labels.ndim - 1) if spacing is None else [float(s) for s in spacing]
    if len(sizes) != labels.ndim - 1 or not all(s > 0 and math.isfinite(s) for s in sizes):
        raise SizeError(f"spacing {spacing} for labels of the shape {tuple(labels.shape)}", fix="give a size > 0 for each of *S")
    return sizes


def _small_ids(labels: Tensor) -> tuple[Tensor, int]:
    """Ids from `plain_ids` as int64 (B, N), N pixels, that a table holds in little memory, and the highest: those given, or in
    their place and order others. Raises LabelsError for ids below 0."""
    flat = labels.flatten(1).long()
    low, high = (int(v) for v in torch.aminmax(flat)) if flat.numel() else (0, 0)
    if low < 0:
        raise LabelsError(f"an object has the id {low}", fix="ids start at 1; 0 is background")
    if high > 2 * flat.shape[1]:  # a table of all ids would be larger than the patch
        values, flat = torch.unique(flat, return_inverse=True)
        flat = flat + int(values[0] > 0)
        high = len(values)
    return flat, high


def _run_end(labels: Tensor, axis: int, size: float) -> Tensor:
    """Distance to the nearest other label along an axis: float32, inf where there is none.

    The nearest pixel with another label at its side, and one more. Where it is right within k - 1 px, it is within 2 k - 1 with
    the values k px before and behind.
    """
    if 1 < axis == labels.ndim - 1:  # along the last axis every row would be worked on by itself
        return _run_end(labels.movedim(axis, 1).contiguous(), 1, size).movedim(1, axis).contiguous()
    n = labels.shape[axis]
    front, back = labels.narrow(axis, 0, n - 1), labels.narrow(axis, 1, n - 1)
    change = torch.ne(front, back, out=torch.empty_like(front)).float()  # of one type: torch compares four times as fast then
    beside = torch.zeros(labels.shape, device=labels.device)
    beside.narrow(axis, 0, n - 1).copy_(change)
    _take(torch.maximum, beside.narrow(axis, 1, n - 1), change)
    nearest, k = beside.reciprocal_(), 1
    while k < n:
        _take_beside(torch.minimum, nearest, nearest + k, axis, k)
        k *= 2
    return nearest.mul_(size)


def _pass(square: Tensor, bound: Tensor, axis: int, size: float, limit: float | None) -> Tensor:
    """min(bound, min over k of (k size)² + square shifted by k) along an axis; stops where no larger k can win."""
    out = torch.minimum(bound, square, out=bound)
    n = square.shape[axis]
    reach = n - 1 if limit is None else min(n - 1, int(limit / size))
    moved = torch.empty_like(square)
    for k in range(1, reach + 1):
        # Looking costs as much as a step, so not at each; what is known of the largest value stays true, values only fall.
        if k % 4 == 1 and (k * size) ** 2 >= float(out.max()):
            break
        torch.add(square, (k * size) ** 2, out=moved)
        _take_beside(torch.minimum, out, moved, axis, k)
    return out


def _neighbourhood(values: Tensor, axis: int, width: int, best: Better) -> Tensor:
    """Largest or smallest value within `width` px along one axis."""
    out = values.clone()
    for k in range(1, min(width, values.shape[axis] - 1) + 1):
        _take_beside(best, out, values, axis, k)
    return out


def _take_beside(best: Better, out: Tensor, values: Tensor, axis: int, k: int) -> None:
    """Each pixel of `out` becomes the best of itself and of the `values` k px before and behind it."""
    rest = out.shape[axis] - k
    _take(best, out.narrow(axis, 0, rest), values.narrow(axis, k, rest))
    _take(best, out.narrow(axis, k, rest), values.narrow(axis, 0, rest))


def _take(best: Better, out: Tensor, values: Tensor) -> None:
    best(out, values, out=out)
