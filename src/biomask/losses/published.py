"""Losses as papers print them or as their authors' code has them, where that is not a sum of the others.

All but `attention_dice_loss` take channels that are sigmoids of their own, as in `structures`; of softmax classes these are
`one_against_rest`.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from biomask.losses.dice import dice_sums, one_hot
from biomask.losses.precision import at_least_float32
from biomask.losses.structures import binary_cross_entropy, binary_dice_loss

#: Least sum of p and y that is divided by; sigmoids that are surely empty may be 0 in float32.
LEAST = 1e-12


def optic_disc_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
    """1/2 `binary_cross_entropy` + 1/2 `binary_dice_loss`, of jinglescode/meditorch (optic disc and cup).

    Arguments as in `binary_cross_entropy`. Range 0..∞: 0 where it is right and sure, also without foreground.
    """
    return 0.5 * binary_cross_entropy(logits, target, ignore) + 0.5 * binary_dice_loss(logits, target, ignore)


def unet_plus_plus_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
    """1/2 `binary_cross_entropy` - (2 Σ p y + 1) / (Σ p + Σ y + 1), of the code of UNet++ (MrGiovanni/UNetPlusPlus, keras).

    The sums are over all known pixels and channels of the batch at once, so this is no mean over images. Arguments as in
    `binary_cross_entropy`. Range -1..∞: -1 where it is right and sure, also without foreground; a / 2 - 1 / (Σ p + Σ y + 1) where
    it is wrong by logits of a.
    """
    probabilities = at_least_float32(logits).sigmoid()
    both, either = dice_sums(probabilities, target.to(probabilities.dtype), ignore)
    return 0.5 * binary_cross_entropy(logits, target, ignore) - (2 * both.sum() + 1) / (either.sum() + 1)


def unet_plus_plus_printed_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Mean over images of -(1/2 mean y log p + 2 Σ p y / (Σ p + Σ y)), as the UNet++ paper prints it (Zhou et al. 2018,
    arXiv:1807.10165, eq. 2), which has only the first half of the cross-entropy.

    The paper does not say whether y log p is summed or averaged; here it is averaged over known pixels and channels, as in its
    code. Arguments as in `binary_cross_entropy`. Range -1..∞: -1 where it is right and sure; an image without foreground gives 0,
    whatever is predicted.
    """
    logits = at_least_float32(logits)
    truth = target.to(logits.dtype)
    both, either = (sums.sum(dim=1) for sums in dice_sums(logits.sigmoid(), truth, ignore))
    certain = truth * F.logsigmoid(logits)
    if ignore is None:
        mean = certain.flatten(1).mean(dim=1)
    else:
        known = (~ignore).unsqueeze(1)
        mean = (certain * known).flatten(1).sum(dim=1) / (known.flatten(1).sum(dim=1).clamp(min=1) * logits.shape[1])
    return -(0.5 * mean + 2 * both / either.clamp(min=LEAST)).mean()


def attention_dice_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Mean over images and classes of 1 - 2 (Σ p y + 0.01) / (Σ p + Σ y + 0.01), p = softmax(logits), of the code of the Attention
    U-Net (ozan-oktay/Attention-Gated-Networks).

    Arguments as in `soft_dice_loss`. Range -1..1: a little below 0 where it is right and sure, and -1 for a class that an image
    lacks and that is not predicted, since the 0.01 is doubled above.
    """
    probabilities = at_least_float32(logits).softmax(dim=1)
    return _doubled(probabilities, one_hot(target, probabilities), ignore)


def binary_attention_dice_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
    """`attention_dice_loss` of channels that are sigmoids of their own. Arguments as in `binary_cross_entropy`."""
    probabilities = at_least_float32(logits).sigmoid()
    return _doubled(probabilities, target.to(probabilities.dtype), ignore)


def _doubled(probabilities: Tensor, truth: Tensor, ignore: Tensor | None) -> Tensor:
    both, either = dice_sums(probabilities, truth, ignore)
    return (1 - 2 * (both + 0.01) / (either + 0.01)).mean()
