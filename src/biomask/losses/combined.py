"""A weighted sum of cross-entropy and soft Dice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from biomask.losses.cross_entropy import cross_entropy
from biomask.losses.dice import soft_dice_loss


class CombinedLoss(nn.Module):
    """`cross_entropy_weight` · cross-entropy + `dice_weight` · soft Dice loss; arguments as theirs."""

    class_weights: Tensor | None

    def __init__(self, *, cross_entropy_weight: float = 1.0, dice_weight: float = 1.0,
                 class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.cross_entropy_weight, self.dice_weight = cross_entropy_weight, dice_weight
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights)

    def forward(self, logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
        total = logits.new_zeros((), dtype=torch.float32)
        if self.cross_entropy_weight:
            total = total + self.cross_entropy_weight * cross_entropy(logits, target, ignore,
                                                                      class_weights=self.class_weights)
        if self.dice_weight:
            total = total + self.dice_weight * soft_dice_loss(logits, target, ignore)
        return total
