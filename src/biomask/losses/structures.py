"""Losses of channels that do not exclude each other: each a sigmoid of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def binary_cross_entropy(logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Mean over images, and over known pixels and channels, of -(y log p + (1 - y) log(1 - p)), p = sigmoid(logits).

    logits: float (B, K, *S). target: float (B, K, *S), 0..1. ignore: bool (B, *S), True = unknown. An image without known
    pixels counts 0. Range 0..∞.
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
    if ignore is None:
        return losses.flatten(1).mean(dim=1).mean()
    known = (~ignore).unsqueeze(1)
    pixels = known.flatten(1).sum(dim=1).clamp(min=1) * logits.shape[1]
    return ((losses * known).flatten(1).sum(dim=1) / pixels).mean()


def binary_dice_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None, *, smooth: float = 1.0) -> Tensor:
    """Mean over images and channels of 1 - (2 Σ p y + smooth) / (Σ p + Σ y + smooth), sums over known pixels.

    Arguments as in `binary_cross_entropy`. Range 0..1.
    """
    probabilities, truth = logits.float().sigmoid(), target.float()
    if ignore is not None:
        known = (~ignore).unsqueeze(1)
        probabilities, truth = probabilities * known, truth * known
    both = (probabilities * truth).flatten(2).sum(dim=2)
    either = (probabilities + truth).flatten(2).sum(dim=2)
    return (1 - (2 * both + smooth) / (either + smooth)).mean()


def balanced_cross_entropy(logits: Tensor, target: Tensor, group: Tensor, ignore: Tensor | None = None, *,
                           share: float = 0.5) -> Tensor:
    """Mean over images of share · mean over the group + (1 - share) · mean over the others of `binary_cross_entropy`.

    logits, target: float (B, *S). group, ignore: bool (B, *S); what is ignored is in neither. A part without pixels counts 0.
    Range 0..∞.
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none").flatten(1)
    known = torch.ones_like(group) if ignore is None else ~ignore
    parts = [(group & known).flatten(1), (~group & known).flatten(1)]
    means = [(losses * p).sum(dim=1) / p.sum(dim=1).clamp(min=1) for p in parts]
    return (share * means[0] + (1 - share) * means[1]).mean()
