"""Weights that torchvision published, for a detector to begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import nn

from biomask.models import MaskRCNN
from biomask.models.backbones import FrozenBatchNorm
from biomask.models.torchvision_weights import load_weights_into
from biomask.training.begin import Begin


def load_foreign(network: nn.Module, begin: Begin, say: Callable[[str], None]) -> tuple[str, ...]:
    """Load what fits of a file of tensors, by torchvision's names, and say what did; returns the names of tensors that begin anew.

    Raises ModelFileError where the backbone does not fit.
    """
    path = Path(begin.name)
    detector = cast(MaskRCNN, network)
    found = load_weights_into(detector, path if path.suffix in (".pth", ".pt") else begin.tensors)
    settle_eps(detector)
    say(f"begins with the weights of {begin.name}")
    for line in str(found).splitlines():
        say(f"· {line}")
    return found.new


def settle_eps(network: nn.Module) -> None:
    """Frozen batch normalisation with another eps becomes one with the usual 1e-5 that computes the same: the difference goes into
    the variance. A model file says no eps."""
    usual = FrozenBatchNorm(1).eps
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm) and module.eps != usual:
            with torch.no_grad():
                module.running_var += module.eps - usual
            module.eps = usual
