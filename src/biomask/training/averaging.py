"""A running average of the weights: it often predicts better than the weights themselves (Polyak & Juditsky, 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def update_average(average: dict[str, Tensor], network: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the weights and batch statistics, in place; an empty one becomes a copy of them.

    Early on it follows faster, decay = min(decay, (1 + step) / (10 + step)), so that it forgets where training began.
    """
    now = network.state_dict()
    if not average:
        average.update({k: v.detach().clone() for k, v in now.items()})
        return
    keys = [k for k, v in now.items() if v.is_floating_point()]
    share = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_([average[k] for k in keys], [now[k] for k in keys], share)
        for key in now.keys() - set(keys):
            average[key].copy_(now[key])


@contextmanager
def weights_of(network: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """The network has other weights while the block runs, and its own again after it."""
    own = {k: v.detach().clone() for k, v in network.state_dict().items()}
    network.load_state_dict(weights)
    try:
        yield
    finally:
        network.load_state_dict(own)
