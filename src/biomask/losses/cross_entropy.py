"""Softmax cross-entropy, and the focal loss, with ignored pixels, class weights and pixel weights."""

from __future__ import annotations

from torch import Tensor

from biomask.losses.dice import one_hot
from biomask.losses.precision import at_least_float32

#: Where 1 - p is smaller it counts as this: the slope of its powers below 1 would be infinite at 0.
SUREST = 1e-12


def cross_entropy(logits: Tensor, target: Tensor, ignore: Tensor | None = None, *,
                  class_weights: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """Mean over images of the mean over known pixels of -w(x) log softmax(logits)[t] (U-Net, eq. 1, whose print lacks the minus).

    logits: float (B, K, *S). target: int64 (B, *S), 0..K-1, or its `one_hot`. ignore: bool (B, *S), True = unknown.
    class_weights: float (K,), default 1. weight: float (B, *S), default 1; w(x) is their product. An image without known
    pixels counts 0. Range 0..∞: 0 where it is right and sure, log K where it knows nothing, a where it is wrong by logits of a.
    """
    losses = _each_pixel(logits, target, class_weights)
    return mean_of_known(losses if weight is None else losses * weight, ignore)


def focal_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None, *, gamma: float = 2.0,
               class_weights: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """Mean over images of the mean over known pixels of -w(x) (1 - p)^gamma log p, p = softmax(logits)[t]: pixels that are right
    and sure count less (Lin et al. 2017, arXiv:1708.02002, eq. 5, with the mean over pixels in place of a sum over anchors).

    gamma: 0 gives `cross_entropy`; the paper's is 2. class_weights are its alpha. Other arguments and range as in `cross_entropy`.
    """
    truth = one_hot(target, at_least_float32(logits))
    plain = _each_pixel(logits, truth, None)
    losses = plain * (-(-plain).expm1()).clamp(min=SUREST) ** gamma
    if class_weights is not None:
        losses = losses * _weighted(truth, class_weights).sum(dim=1)
    return mean_of_known(losses if weight is None else losses * weight, ignore)


def mean_of_known(losses: Tensor, ignore: Tensor | None) -> Tensor:
    """Mean over images of the mean over known pixels: losses float (B, *S) → scalar. An image without known pixels counts 0."""
    losses = losses.flatten(1)
    if ignore is None:
        return losses.mean(dim=1).mean()
    known = (~ignore).flatten(1)
    return ((losses * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)).mean()


def _each_pixel(logits: Tensor, target: Tensor, class_weights: Tensor | None) -> Tensor:
    """-w log p of the true class, float (B, *S)."""
    logits = at_least_float32(logits)
    truth = one_hot(target, logits)
    # A product, as torch's own picks each pixel's class one by one on a CPU, which takes longer than all classes at once.
    return -(logits.log_softmax(dim=1) * (truth if class_weights is None else _weighted(truth, class_weights))).sum(dim=1)


def _weighted(truth: Tensor, class_weights: Tensor) -> Tensor:
    """The weight in the channel of the true class."""
    return truth * class_weights.to(truth.dtype).reshape(-1, *[1] * (truth.ndim - 2))
