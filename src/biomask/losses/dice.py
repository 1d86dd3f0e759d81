"""Soft Dice loss over softmax classes."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_dice_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None, *, smooth: float = 1.0) -> Tensor:
    """Mean over images and classes of 1 - (2 Σ p y + smooth) / (Σ p + Σ y + smooth), sums over known pixels.

    logits: float (B, K, *S). target: int64 (B, *S), 0..K-1. ignore: bool (B, *S), True = unknown.
    Background counts as a class. A class that an image lacks costs what is predicted of it, less with a larger
    `smooth`. Range 0..1.
    """
    probabilities = logits.float().softmax(dim=1)
    classes = torch.arange(logits.shape[1], device=logits.device).reshape(-1, *[1] * (logits.ndim - 2))
    truth = (target.unsqueeze(1) == classes).to(probabilities.dtype)  # much quicker than one_hot, whose integers are moved about
    if ignore is not None:
        known = (~ignore).unsqueeze(1)
        probabilities, truth = probabilities * known, truth * known
    both = (probabilities * truth).flatten(2).sum(dim=2)
    either = (probabilities + truth).flatten(2).sum(dim=2)
    return (1 - (2 * both + smooth) / (either + smooth)).mean()
