"""A running average of the weights: it often predicts better than the weights themselves (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

#: The average is over the weights of each so manyth step: those between differ by little, and cost as much.
EVERY = 8


def update_average(average: dict[str, Tensor], network: nn.Module, share: float, step: int) -> None:
    """Move the average towards the weights and batch statistics of step 1, 1 + `EVERY`, …, in place; an empty one becomes a copy.

    Other steps are left out. It looks back on about this share of the steps so far, however many they are: of those counted, the
    weights of number s count as s^(1 / share - 1) (polynomial decay, Shamir and Zhang 2013, arXiv:1212.1824, section 4 with
    1 + eta = 1 / share).
    """
    number, between = divmod(step - 1, EVERY)
    if between:
        return
    now = network.state_dict()
    if not average:
        average.update({k: v.detach().clone() for k, v in now.items()})
        return
    keys = [k for k, v in now.items() if v.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([average[k] for k in keys], [now[k] for k in keys], 1 / (1 + share * number))
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
