"""Flips and quarter turns, the same for an image and its labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def flip_rotate(batch: Tensor, flips: Sequence[Sequence[int]], turns: Sequence[int]) -> Tensor:
    """Mirror and turn each sample of a batch: (B, …, *S) → the same shape.

    flips: for each sample the spatial axes to mirror, counted from the end (-1 = x, -2 = y, -3 = z).
    turns: for each sample the number of quarter turns y → x, after mirroring; the y and x sides must be equal for odd ones.
    Exact: pixels move, none is interpolated.
    """
    out = []
    for sample, axes, turn in zip(batch, flips, turns, strict=True):
        sample = sample.flip(list(axes)) if axes else sample
        out.append(sample.rot90(turn, (-2, -1)) if turn else sample)
    return torch.stack(out)
