"""Losses: logits in, scalar out, lower is better, no modes.

Each but `unet_plus_plus_loss` is a mean over the images of the batch of a value for one image, so the loss of a batch is the mean
of the losses of its parts: splitting a batch over devices changes nothing. Ignored pixels count nowhere.
"""

from biomask.losses.combined import CombinedLoss, LossWeights
from biomask.losses.cross_entropy import cross_entropy, focal_loss
from biomask.losses.deep_supervision import deep_supervision
from biomask.losses.dice import soft_dice_loss
from biomask.losses.published import (
    attention_dice_loss,
    binary_attention_dice_loss,
    optic_disc_loss,
    unet_plus_plus_loss,
    unet_plus_plus_printed_loss,
)
from biomask.losses.structures import (
    balanced_cross_entropy,
    binary_cross_entropy,
    binary_dice_loss,
    binary_focal_loss,
    binary_tversky_loss,
    one_against_rest,
)

__all__ = ["CombinedLoss", "LossWeights", "attention_dice_loss", "balanced_cross_entropy", "binary_attention_dice_loss",
           "binary_cross_entropy", "binary_dice_loss", "binary_focal_loss", "binary_tversky_loss", "cross_entropy",
           "deep_supervision", "focal_loss", "one_against_rest", "optic_disc_loss", "soft_dice_loss", "unet_plus_plus_loss",
           "unet_plus_plus_printed_loss"]
