"""One loss for networks with several heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from biomask.errors import SizeError


def deep_supervision(loss: Callable[[Tensor], Tensor], heads: Tensor | Sequence[Tensor],
                     weights: Sequence[float] | None = None) -> Tensor:
    """Weighted mean of the loss of each head (Lee et al. 2015, arXiv:1409.5185; UNet++ has it on all four heads): a scalar.

    loss: of logits (B, K, *S). heads: those of each head, the final one last; a tensor is one head.
    weights: of each head, none below 0 and not all 0; None = alike. They are divided by their sum, so that the scale of the loss,
    and with it the learning rate, does not depend on them.

    Raises SizeError where there are not as many weights as heads.
    """
    logits = (heads,) if isinstance(heads, Tensor) else tuple(heads)
    if weights is None:
        return torch.stack([loss(head) for head in logits]).mean()
    if len(weights) != len(logits):
        raise SizeError(f"{len(weights)} weights for {len(logits)} heads of the network", where="loss.heads",
                        fix=f"give {len(logits)}, the final head last, or null for alike")
    total = sum(weights)
    return torch.stack([w / total * loss(head) for w, head in zip(weights, logits, strict=True)]).sum()
