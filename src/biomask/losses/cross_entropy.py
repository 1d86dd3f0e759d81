"""Softmax cross-entropy with ignored pixels, class weights and pixel weights."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, target: Tensor, ignore: Tensor | None = None, *,
                  class_weights: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """Mean over images of the mean over known pixels of -w(x) log softmax(logits)[t] (U-Net, eq. 1).

    logits: float (B, K, *S). target: int64 (B, *S), 0..K-1. ignore: bool (B, *S), True = unknown.
    class_weights: float (K,), default 1. weight: float (B, *S), default 1; w(x) is their product. An image without known
    pixels counts 0. Range 0..∞.
    """
    losses = F.cross_entropy(logits.float(), target, weight=class_weights, reduction="none")
    losses = (losses if weight is None else losses * weight).flatten(1)
    if ignore is None:
        return losses.mean(dim=1).mean()
    known = (~ignore).flatten(1)
    return ((losses * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)).mean()
