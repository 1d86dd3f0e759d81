"""The running average of weights: against the weighted mean written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from biomask.training.averaging import EVERY, update_average, weights_of


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_is_the_mean_of_each_so_manyth_step_with_weights_of_polynomial_decay(share):
    network, counted, power = nn.BatchNorm1d(3), 40, 1 / share
    rng = torch.Generator().manual_seed(0)
    seen, average = [], {}
    for step in range(1, EVERY * counted + 1):
        with torch.no_grad():
            network.weight.copy_(torch.rand(3, generator=rng))
            network.running_mean.copy_(torch.rand(3, generator=rng))
            network.num_batches_tracked.fill_(step)
        if step % EVERY == 1:
            seen.append({k: v.clone() for k, v in network.state_dict().items()})
        update_average(average, network, share, step)
    # Γ(s + p - 1) / Γ(s), which grows as s^(p - 1)
    counts = torch.exp(torch.lgamma(torch.arange(1, counted + 1) + power - 1.0) - torch.lgamma(torch.arange(1.0, counted + 1)))
    for key in ("weight", "running_mean"):
        expected = (torch.stack([s[key] for s in seen]) * counts[:, None]).sum(0) / counts.sum()
        torch.testing.assert_close(average[key], expected)
    assert int(average["num_batches_tracked"]) == EVERY * (counted - 1) + 1


def test_the_network_has_its_own_weights_again():
    network = nn.Linear(2, 2)
    own = {k: v.clone() for k, v in network.state_dict().items()}
    with weights_of(network, {k: torch.zeros_like(v) for k, v in own.items()}):
        assert not network.weight.any()
    assert all(torch.equal(own[k], v) for k, v in network.state_dict().items())
