"""Soft Dice losses over softmax classes, and the sums that they share with those of structures."""

from __future__ import annotations

import torch
from torch import Tensor

from biomask.errors import LabelsError
from biomask.losses.precision import at_least_float32


def soft_dice_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None, *, smooth: float = 1.0) -> Tensor:
    """Mean over images and classes of 1 - (2 Σ p y + smooth) / (Σ p + Σ y + smooth), sums over known pixels (Milletari et al.
    2016, arXiv:1606.04797, with plain sums below in place of those of squares).

    logits: float (B, K, *S). target: int64 (B, *S), 0..K-1, or its `one_hot`. ignore: bool (B, *S), True = unknown.
    Background counts as a class. A class that an image lacks costs what is predicted of it, less with a larger
    `smooth`. Range 0..1: 0 where it is right and sure; 1 - smooth / (n + smooth) where each of n pixels of two classes is surely
    taken for the other.
    """
    probabilities = at_least_float32(logits).softmax(dim=1)
    both, either = dice_sums(probabilities, one_hot(target, probabilities), ignore)
    return (1 - (2 * both + smooth) / (either + smooth)).mean()


def one_hot(target: Tensor, like: Tensor) -> Tensor:
    """1 in the channel of the true class: int64 (B, *S) → as `like`, (B, K, *S); what is one already comes back. Much quicker than
    torch's, whose integers are moved about. Raises LabelsError for other shapes, and for classes outside 0..K-1."""
    if target.shape == like.shape:
        return target.to(like.dtype)
    if target.shape != (len(like), *like.shape[2:]):
        raise LabelsError(f"classes of the shape {tuple(target.shape)} for logits of {tuple(like.shape)}", fix="give (B, *S)")
    low, high = (int(v) for v in torch.aminmax(target)) if target.numel() else (0, 0)
    if low < 0 or high >= like.shape[1]:
        raise LabelsError(f"classes from {low} to {high} for {like.shape[1]} channels of logits",
                          fix=f"give classes from 0 to {like.shape[1] - 1}, and what is unknown as ignore")
    classes = torch.arange(like.shape[1], device=like.device, dtype=like.dtype).reshape(-1, *[1] * (like.ndim - 2))
    # All of one type: torch compares four times as fast then.
    return torch.eq(target.unsqueeze(1).to(like.dtype), classes, out=torch.empty_like(like))


def dice_sums(probabilities: Tensor, truth: Tensor, ignore: Tensor | None) -> tuple[Tensor, Tensor]:
    """(Σ p y, Σ p + Σ y) of each image and channel, over known pixels: (B, K, *S) twice → (B, K) twice."""
    if ignore is not None:
        known = (~ignore).unsqueeze(1)
        probabilities, truth = probabilities * known, truth * known
    both, found, there = (t.flatten(2).sum(dim=2) for t in (probabilities * truth, probabilities, truth))
    return both, found + there
