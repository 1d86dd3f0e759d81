"""A weighted sum of losses over the channels of a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from biomask.losses.cross_entropy import cross_entropy
from biomask.losses.dice import soft_dice_loss
from biomask.losses.structures import balanced_cross_entropy, binary_cross_entropy, binary_dice_loss

#: Share of the borders in the loss of their channel: more than they have of the pixels of objects, less than half, since all
#: pixels that may be border would be taken for it then.
BORDER_SHARE = 0.2


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
    """The weight of each part."""

    cross_entropy: float = 1.0
    dice: float = 1.0
    distance: float = 1.0
    border: float = 0.5


class CombinedLoss(nn.Module):
    """Cross-entropy and soft Dice of classes and of structures, balanced cross-entropy of distance and border.

    The channels are taken in this order: classes (softmax), then structures, or distance and border (sigmoid). Objects count
    as much as background for the distance, borders a fifth for the border, which nobody asks for outside
    objects: few pixels that matter would hardly count in a mean over all.
    """

    class_weights: Tensor | None

    def __init__(self, weights: LossWeights | None = None, *, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.weights = weights or LossWeights()
        given = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", given)

    def forward(self, logits: Tensor, targets: TargetsLike) -> Tensor:
        logits = logits.float().contiguous()  # once: each part is twice as fast on it as on channels-last bfloat16
        total, w = logits.new_zeros(()), self.weights
        ignore = targets.ignore
        if targets.structures is not None:
            if w.cross_entropy:
                total = total + w.cross_entropy * binary_cross_entropy(logits, targets.structures, ignore)
            return total + w.dice * binary_dice_loss(logits, targets.structures, ignore) if w.dice else total
        if targets.classes is None:
            return total
        maps = 2 * (targets.distance is not None)
        classes = logits[:, : logits.shape[1] - maps]
        if w.cross_entropy:
            total = total + w.cross_entropy * cross_entropy(classes, targets.classes, ignore, class_weights=self.class_weights,
                                                            weight=targets.weight)
        if w.dice:
            total = total + w.dice * soft_dice_loss(classes, targets.classes, ignore)
        if targets.distance is not None and targets.border is not None:
            objects = targets.classes > 0
            total = total + w.distance * balanced_cross_entropy(logits[:, -2], targets.distance, objects, ignore)
            total = total + w.border * balanced_cross_entropy(logits[:, -1], targets.border, targets.border > 0,
                                                              unknown_or(ignore, ~objects), share=BORDER_SHARE)
        return total


def unknown_or(ignore: Tensor | None, left_out: Tensor) -> Tensor:
    """Pixels that do not count: bool (B, *S)."""
    return left_out if ignore is None else ignore | left_out
