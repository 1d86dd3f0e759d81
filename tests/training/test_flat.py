"""Parameters in a row: the network computes as before, and what the row is given is theirs."""

import copy

import pytest
import torch
from torch import nn

from biomask.models import UNet
from biomask.training.flat import ALIGNED, in_a_row


def network():
    torch.manual_seed(0)
    return UNet(1, 2, width=3, depth=2, norm="batch").to(memory_format=torch.channels_last)


def test_parameters_keep_values_shapes_and_the_order_of_memory():
    ours, theirs = network(), network()
    row = in_a_row(list(ours.parameters()))
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.stride() == q.stride()
        assert p.untyped_storage().data_ptr() == row.untyped_storage().data_ptr()
        assert p.storage_offset() % ALIGNED == 0
    assert torch.equal(ours(x), theirs(x))
    ours(x).square().mean().backward()
    theirs(x).square().mean().backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    assert row.grad.square().sum().item() == pytest.approx(sum(float(q.grad.square().sum()) for q in theirs.parameters()), rel=1e-5)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_a_step_on_the_row_is_a_step_on_each(kind):
    ours, theirs = (network().double() for _ in range(2))
    optimizers = [kind([in_a_row(list(ours.parameters()))], lr=0.01, weight_decay=0.1),
                  kind(theirs.parameters(), lr=0.01, weight_decay=0.1)]
    for step in range(4):
        x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        for net, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad(set_to_none=False)
            net(x).square().mean().backward()
            optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-9, atol=1e-12)


def test_what_lies_between_stays_zero():
    parameters = [nn.Parameter(torch.ones(n)) for n in (1, 17, 16)]
    row = in_a_row(parameters)
    assert row.numel() == 4 * ALIGNED
    optimizer = torch.optim.AdamW([row], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad(set_to_none=False)
        sum(p.square().sum() for p in parameters).backward()
        optimizer.step()
    assert int((row != 0).sum()) == 1 + 17 + 16


def test_other_values_are_loaded_in_place_and_copies_stand_alone():
    ours = network()
    row = in_a_row(list(ours.parameters()))
    alone = copy.deepcopy(ours)
    ours.load_state_dict({k: torch.full_like(v, 2) for k, v in ours.state_dict().items()})
    assert set(row.tolist()) == {0.0, 2.0}
    assert all(torch.equal(p, q) for p, q in zip(alone.parameters(), network().parameters(), strict=True))
