"""A weighted sum of losses over the channels of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from biomask.losses.cross_entropy import cross_entropy, focal_loss
from biomask.losses.dice import one_hot, soft_dice_loss
from biomask.losses.precision import at_least_float32
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

#: Share of the borders in the loss of their channel: more than they have of the pixels of objects, less than half, since all
#: pixels that may be border would be taken for it then.
BORDER_SHARE = 0.2

#: Losses that stand in place of the sum of cross-entropy, Dice, Tversky and focal loss.
Published = Literal["optic-disc", "unet++", "unet++-printed", "attention"]

BINARY: Mapping[Published, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "optic-disc": optic_disc_loss, "unet++": unet_plus_plus_loss, "unet++-printed": unet_plus_plus_printed_loss,
    "attention": binary_attention_dice_loss}


class TargetsLike(Protocol):
    """What is compared with: `biomask.data.targets.Targets`, or anything with these."""

    @property
    def classes(self) -> Tensor | None: ...
    @property
    def structures(self) -> Tensor | None: ...
    @property
    def distance(self) -> Tensor | None: ...
    @property
    def border(self) -> Tensor | None: ...
    @property
    def weight(self) -> Tensor | None: ...
    @property
    def ignore(self) -> Tensor | None: ...


@dataclass(frozen=True)
class LossWeights:
    """The weight of each part, and what shapes it."""

    cross_entropy: float = 1.0
    dice: float = 1.0
    distance: float = 1.0
    border: float = 0.5
    tversky: float = 0.0
    tversky_alpha: float = 0.3
    tversky_beta: float = 0.7
    focal: float = 0.0
    focal_gamma: float = 2.0
    published: Published | None = None
    """A whole loss in place of cross-entropy, Dice, Tversky and focal loss."""


class CombinedLoss(nn.Module):
    """Cross-entropy, soft Dice, Tversky and focal loss of classes and of structures, or a published loss in their place; balanced
    cross-entropy of distance and border.

    The channels are taken in this order: classes (softmax), then structures, or distance and border (sigmoid). Objects count
    as much as background for the distance, borders a fifth for the border, which nobody asks for outside
    objects: few pixels that matter would hardly count in a mean over all. Tversky and the published losses are of what is not
    background, each class against the rest; but for "attention", which counts background as a class.
    """

    class_weights: Tensor | None

    def __init__(self, weights: LossWeights | None = None, *, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.weights = weights or LossWeights()
        given = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", given)

    def forward(self, logits: Tensor, targets: TargetsLike) -> Tensor:
        w, ignore = self.weights, targets.ignore
        if targets.structures is not None:
            return self._of_structures(in_float32(logits), targets.structures, ignore)
        if targets.classes is None:
            return at_least_float32(logits).new_zeros(())
        maps = 2 * (targets.distance is not None)
        # Split and not sliced: the gradients are put together once, in place of a sum of tensors of zeros.
        classes, *others = (in_float32(part) for part in torch.split(logits, [logits.shape[1] - maps, *[1] * maps], dim=1))
        truth = one_hot(targets.classes, classes)
        total = self._of_classes(classes, truth, targets.weight, ignore)
        if targets.distance is not None and targets.border is not None:
            distance, border = (channel[:, 0] for channel in others)
            background = truth[:, 0]  # as good a group as the objects, where both count half
            total = total + w.distance * balanced_cross_entropy(distance, targets.distance, background, ignore)
            unknown = background if ignore is None else background.maximum(ignore.to(background.dtype))
            total = total + w.border * balanced_cross_entropy(border, targets.border, targets.border, unknown, share=BORDER_SHARE)
        return total

    def _of_structures(self, logits: Tensor, target: Tensor, ignore: Tensor | None) -> Tensor:
        """Of channels that are sigmoids of their own."""
        w, total = self.weights, logits.new_zeros(())
        if w.published is not None:
            return BINARY[w.published](logits, target, ignore)
        if w.cross_entropy:
            total = total + w.cross_entropy * binary_cross_entropy(logits, target, ignore)
        if w.dice:
            total = total + w.dice * binary_dice_loss(logits, target, ignore)
        if w.tversky:
            total = total + w.tversky * self._tversky(logits, target, ignore)
        if w.focal:
            total = total + w.focal * binary_focal_loss(logits, target, ignore, gamma=w.focal_gamma)
        return total

    def _of_classes(self, logits: Tensor, target: Tensor, weight: Tensor | None, ignore: Tensor | None) -> Tensor:
        """Of classes that exclude each other; target: `one_hot`; weight: of each pixel in cross-entropy and focal loss."""
        w, total = self.weights, logits.new_zeros(())
        if w.published == "attention":
            return attention_dice_loss(logits, target, ignore)
        if w.published is not None:
            return BINARY[w.published](one_against_rest(logits), target[:, 1:], ignore)
        if w.cross_entropy:
            total = total + w.cross_entropy * cross_entropy(logits, target, ignore, class_weights=self.class_weights, weight=weight)
        if w.dice:
            total = total + w.dice * soft_dice_loss(logits, target, ignore)
        if w.tversky:
            total = total + w.tversky * self._tversky(one_against_rest(logits), target[:, 1:], ignore)
        if w.focal:
            total = total + w.focal * focal_loss(logits, target, ignore, gamma=w.focal_gamma, class_weights=self.class_weights,
                                                 weight=weight)
        return total

    def _tversky(self, logits: Tensor, target: Tensor, ignore: Tensor | None) -> Tensor:
        return binary_tversky_loss(logits, target, ignore, alpha=self.weights.tversky_alpha, beta=self.weights.tversky_beta)


def in_float32(logits: Tensor) -> Tensor:
    """At least float32, and contiguous: what follows is twice as fast on it as on channels-last bfloat16."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32), memory_format=torch.contiguous_format).contiguous()
