"""Optimisers do what their names say: against torch's own and by hand."""

import pytest
import torch
from torch import nn

from biomask.recipe import Recipe
from biomask.training.optimizer import make_optimizer

CPU = torch.device("cpu")


def settings(*given):
    return Recipe(name="r").with_settings([f"training.{s}" for s in given]).training


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)).double()


def trained(optimizer, net, steps=5):
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=False)
        net(x).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()]


def same(a, b):
    return all(torch.allclose(x, y, rtol=1e-10, atol=1e-12) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("name", "kind", "more"), [("adamw", torch.optim.AdamW, {}), ("adam", torch.optim.Adam, {}),
                                                    ("sgd", torch.optim.SGD, {"momentum": 0.8})])
def test_it_is_torchs_with_decay_of_weights_alone(name, kind, more):
    ours, theirs = network(), network()
    decayed = [p for p in theirs.parameters() if p.ndim > 1]
    others = [p for p in theirs.parameters() if p.ndim == 1]
    torchs = kind([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=0.01, **more)
    made = make_optimizer(ours, settings(f"optimizer={name}", "lr=0.01", "weight_decay=0.1", "momentum=0.8"), CPU)
    assert type(made) is kind
    assert same(trained(made, ours), trained(torchs, theirs))


def test_adam_adds_the_decay_to_the_gradient_and_adamw_takes_it_from_the_weights():
    found = {}
    for name in ("adam", "adamw"):
        net = nn.Conv2d(1, 1, 1, bias=False).double()
        nn.init.constant_(net.weight, 2.0)
        optimizer = make_optimizer(net, settings(f"optimizer={name}", "lr=0.01", "weight_decay=0.5"), CPU)
        optimizer.step()
        found[name] = float(net.weight.detach())
    assert found["adamw"] == pytest.approx(2 - 0.01 * 0.5 * 2)
    assert found["adam"] == pytest.approx(2 - 0.01, rel=1e-6)  # the first step of Adam is the rate, whatever the gradient


def test_they_are_alike_without_decay():
    nets = [network(), network()]
    done = [trained(make_optimizer(net, settings(f"optimizer={name}", "lr=0.01", "weight_decay=0"), CPU), net)
            for net, name in zip(nets, ("adam", "adamw"), strict=True)]
    assert same(*done)
