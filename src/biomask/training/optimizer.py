"""The optimiser, and in which precision convolutions run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from biomask.training.flat import in_a_row

if TYPE_CHECKING:
    from biomask.recipe import TrainingSettings

#: Patches of fewer voxels along an axis are thin.
THIN = 8


def make_optimizer(network: nn.Module, settings: TrainingSettings, device: torch.device) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD; weights decay, biases and normalisation do not.

    AdamW takes the decay from the weights, the others add it, times the weights, to the gradient: an L2 penalty of half of it.
    Both kinds of parameters are put in a row each, on the device where they are now: see `in_a_row`.
    """
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": [in_a_row(parameters)], "weight_decay": decay}
              for parameters, decay in ((decayed, settings.weight_decay), (others, 0.0)) if parameters]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr, fused=device.type in ("cpu", "cuda"))


def use_bfloat16(precision: str, device: torch.device, patch: Sequence[int]) -> bool:
    """Whether convolutions run in bfloat16: as told, or where the hardware computes it faster than float32.

    Not in thin volumes on the CPU: there gradients of weights became NaN, though all that went in was finite.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cpu" and len(patch) == 3 and min(patch) < THIN:
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(supported and supported())
    return False
