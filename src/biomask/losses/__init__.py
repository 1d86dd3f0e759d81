"""Losses: logits in, scalar out, lower is better, no modes.

Each is a mean over the images of the batch of a value for one image, so the loss of a batch is the mean of the losses
of its parts: splitting a batch over devices changes nothing.
"""

from biomask.losses.combined import CombinedLoss, LossWeights
from biomask.losses.cross_entropy import cross_entropy
from biomask.losses.dice import soft_dice_loss
from biomask.losses.structures import balanced_cross_entropy, binary_cross_entropy, binary_dice_loss

__all__ = ["CombinedLoss", "LossWeights", "balanced_cross_entropy", "binary_cross_entropy", "binary_dice_loss", "cross_entropy",
           "soft_dice_loss"]
