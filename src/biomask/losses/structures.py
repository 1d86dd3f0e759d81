"""Losses of channels that do not exclude each other: each a sigmoid of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from biomask.losses.cross_entropy import SUREST
from biomask.losses.dice import dice_sums
from biomask.losses.precision import at_least_float32


def binary_cross_entropy(logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Mean over images, and over known pixels and channels, of -(y log p + (1 - y) log(1 - p)), p = sigmoid(logits).

    logits: float (B, K, *S). target: float (B, K, *S), 0..1. ignore: bool (B, *S), True = unknown. An image without known
    pixels counts 0. Range 0..∞: 0 where it is right and sure, log 2 where it knows nothing, a where it is wrong by logits of a.
    """
    return _mean_of_known(_each_pixel(logits, target), ignore)


def binary_focal_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None, *, gamma: float = 2.0) -> Tensor:
    """As `binary_cross_entropy`, each pixel's loss times (1 - p of what is true)^gamma (Lin et al. 2017, arXiv:1708.02002, eq. 4).

    target: 0 or 1. gamma: 0 gives `binary_cross_entropy`; the paper's is 2. Other arguments and range as there.
    """
    losses = _each_pixel(logits, target)
    return _mean_of_known(losses * (-(-losses).expm1()).clamp(min=SUREST) ** gamma, ignore)


def binary_dice_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None, *, smooth: float = 1.0) -> Tensor:
    """Mean over images and channels of 1 - (2 Σ p y + smooth) / (Σ p + Σ y + smooth), sums over known pixels.

    Arguments as in `binary_cross_entropy`. Range 0..1: 0 where it is right and sure, also of a structure that an image lacks.
    """
    probabilities = at_least_float32(logits).sigmoid()
    both, either = dice_sums(probabilities, target.to(probabilities.dtype), ignore)
    return (1 - (2 * both + smooth) / (either + smooth)).mean()


def binary_tversky_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None, *, alpha: float = 0.3, beta: float = 0.7,
                        smooth: float = 1.0) -> Tensor:
    """Mean over images and channels of 1 - (TP + smooth / 2) / (TP + alpha FP + beta FN + smooth / 2), with TP = Σ p y,
    FP = Σ p (1 - y), FN = Σ (1 - p) y over known pixels (Salehi et al. 2017, arXiv:1706.05721, eq. 3, which has no `smooth`).

    alpha, beta: what a pixel costs that is predicted wrongly or missed; the paper's best are 0.3 and 0.7. With 1/2 and 1/2 it is
    `binary_dice_loss`. Arguments as in `binary_cross_entropy`. Range 0..1: 0 where it is right and sure.
    """
    probabilities = at_least_float32(logits).sigmoid()
    truth = target.to(probabilities.dtype)
    both, either = dice_sums(probabilities, truth, ignore)
    there = (truth if ignore is None else truth * (~ignore).unsqueeze(1)).flatten(2).sum(dim=2)
    wrong = alpha * (either - there - both) + beta * (there - both)
    return (1 - (both + smooth / 2) / (both + wrong + smooth / 2)).mean()


def balanced_cross_entropy(logits: Tensor, target: Tensor, group: Tensor, ignore: Tensor | None = None, *,
                           share: float = 0.5) -> Tensor:
    """Mean over images of share · mean over the group + (1 - share) · mean over the others of `binary_cross_entropy`.

    logits, target: float (B, *S). group, ignore: (B, *S), bool or 0 and 1; what is ignored is in neither. A part without pixels
    counts 0. Range 0..∞.
    """
    losses = _each_pixel(logits, target).flatten(1)
    group = group.to(losses.dtype).flatten(1)
    if ignore is None:
        parts = [group, 1 - group]
    else:
        known = 1 - ignore.to(losses.dtype).flatten(1)
        group = group * known
        parts = [group, known - group]
    means = [(losses * p).sum(dim=1) / p.sum(dim=1).clamp(min=1) for p in parts]
    return (share * means[0] + (1 - share) * means[1]).mean()


def one_against_rest(logits: Tensor) -> Tensor:
    """Softmax classes as channels of their own, without background: (B, K, *S) → (B, K - 1, *S), whose sigmoids are
    softmax(logits)[1:].

    So losses of structures apply to classes. Of two classes it is the difference of the logits.
    """
    logits = at_least_float32(logits)
    rest = [torch.cat([logits[:, :k], logits[:, k + 1:]], dim=1).logsumexp(dim=1) for k in range(1, logits.shape[1])]
    return logits[:, 1:] - torch.stack(rest, dim=1)


def _each_pixel(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each pixel and channel."""
    logits = at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")


def _mean_of_known(losses: Tensor, ignore: Tensor | None) -> Tensor:
    """Mean over images of the mean over known pixels and channels: (B, K, *S) → scalar."""
    if ignore is None:
        return losses.flatten(1).mean(dim=1).mean()
    known = (~ignore).unsqueeze(1)
    pixels = known.flatten(1).sum(dim=1).clamp(min=1) * losses.shape[1]
    return ((losses * known).flatten(1).sum(dim=1) / pixels).mean()
