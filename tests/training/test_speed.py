"""What a step costs against counts by hand and against real tensors."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from math import prod

import pytest
import torch
from torch import nn

from biomask.models import MODELS
from biomask.training.speed import Machine, StepCost, duration, estimate, gigabytes, measure_step_seconds, seconds, step_cost

CPU = Machine("cpu", "CPU", 2, 16 * 10**9, 8 * 10**9, True)


def unet(**options: object) -> nn.Module:
    return MODELS["unet"](2, 3, **{"width": 4, "depth": 2, "norm": "batch", **options})


def forward_multiply_adds(network: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    """(all layers, the first one alone), from the sizes that really occur."""
    found = []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        if isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d)):  # each input pixel is spread over the kernel
            found.append(inputs[0].numel() * layer.out_channels * prod(layer.kernel_size))
        else:
            found.append(out.numel() * layer.in_channels * prod(layer.kernel_size))

    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    network(x)
    for hook in hooks:
        hook.remove()
    return sum(found), found[0]


@pytest.mark.parametrize("options", [{}, {"spatial_dims": 3}, {"padding": "valid", "norm": None}, {"up": "nearest"},
                                     {"spatial_dims": 3, "scales": [[1, 2, 2], [2, 2, 2]],
                                      "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]]}])
def test_multiply_adds_are_those_of_the_layers(options: dict[str, object]) -> None:
    network = unet(**options)
    patch = (8,) * network.spatial_dims if not network.margin[0] else tuple(
        network.legal_size(48, a) - 2 * m for a, m in enumerate(network.margin))
    cost = step_cost(network, patch, 2)
    window = tuple(n + 2 * m for n, m in zip(patch, network.margin, strict=True))
    forward, first = forward_multiply_adds(network, torch.zeros(2, 2, *window))
    assert cost.multiply_adds == 3 * forward - first  # of the input itself no gradient is taken
    assert cost.parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_activations_are_those_that_autograd_keeps(dims: int) -> None:
    network = unet(spatial_dims=dims).train()
    weights = {p.data_ptr() for p in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = network(torch.zeros(2, 2, *(8,) * dims))
    real = sum(t.untyped_storage().nbytes() for t in kept.values())
    assert out.requires_grad
    assert step_cost(network, (8,) * dims, 2).activations == pytest.approx(real, rel=0.02)


def test_cost_grows_with_the_batch() -> None:
    network = unet()
    two, six = step_cost(network, (32, 32), 2), step_cost(network, (32, 32), 6)
    assert two.with_batch(6).flops == six.flops
    assert two.with_batch(6).activations == pytest.approx(six.activations, rel=0.01)
    assert (two.with_batch(6).batch, two.with_batch(6).parameters) == (6, six.parameters)
    assert six.memory(False) > six.memory(True) > 16 * six.parameters


def test_counting_and_measuring_leave_no_trace() -> None:
    network = unet(dropout=0.5).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    step_cost(network, (16, 16), 2)
    measured = measure_step_seconds(network, (16, 16), 2, torch.device("cpu"), bfloat16=False)
    assert math.isfinite(measured)
    assert measured > 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None and p.device.type == "cpu" for p in network.parameters())


def test_measuring_takes_the_margin_of_valid_networks() -> None:
    network = unet(padding="valid", norm=None, depth=1)
    window = network.legal_size(24, 0)
    assert measure_step_seconds(network, (window - 2 * network.margin[0],) * 2, 1, torch.device("cpu"), bfloat16=False) > 0


def test_a_budget_in_steps_takes_its_time() -> None:
    cost = StepCost(4, 6e11, 1e9, 1000)
    told = estimate(cost, CPU, bfloat16=False, steps=900, seconds_a_step=2.0, now=datetime(2026, 3, 1, 14, 5))
    assert (told.steps, told.minutes) == (900, pytest.approx(900 * 2 / 0.9 / 60))
    assert told.ends_at is not None
    assert (told.ends_at - datetime(2026, 3, 1, 14, 5)).total_seconds() == pytest.approx(2000)


@pytest.mark.parametrize(("flat", "clock", "sentence"), [
    (False, datetime(2026, 3, 1, 14, 22), "about 1,800 steps of 4 patches, 0.30 s each, in 10 minutes, until about 14:32; "
                                          "about 1.9 GB of memory"),
    (True, datetime(2026, 3, 1, 23, 55), "at most 1,800 steps of 4 patches, 0.30 s each, in 10 minutes, until at most 00:05 on "
                                         "2026-03-02; about 1.9 GB of memory"),
    (False, None, "about 1,800 steps of 4 patches, 0.30 s each, in 10 minutes; about 1.9 GB of memory")])
def test_the_sentence(flat: bool, clock: datetime | None, sentence: str) -> None:
    cost = StepCost(4, 6e11, 1e9, 1000)
    told = estimate(cost, CPU, bfloat16=False, minutes=10, seconds_a_step=0.3, now=clock, until_flat=flat)
    assert told.sentence == sentence


def test_what_is_not_measured_is_counted() -> None:
    cost = StepCost(4, 6e11, 1e9, 1000)
    assert estimate(cost, CPU, bfloat16=True, minutes=1).seconds_a_step == 6e11 / CPU.speed(True)
    two = replace(CPU, processes=2)
    assert estimate(cost, two, bfloat16=True, minutes=1).seconds_a_step == 6e11 / CPU.speed(True) / 2
    assert estimate(cost, two, bfloat16=True, minutes=1).memory_bytes < estimate(cost, CPU, bfloat16=True, minutes=1).memory_bytes


def test_speeds_are_ordered() -> None:
    small, large = (Machine("cuda", "GPU", 8, m * 10**9, 0, True) for m in (8, 80))
    assert large.speed(True) > small.speed(True) > CPU.speed(True) > CPU.speed(False) > replace(CPU, bfloat16=False).speed(False)
    assert CPU.speed(True) == replace(CPU, free=0).speed(True)


def test_this_machine() -> None:
    here = Machine.here(torch.device("cpu"))
    assert here.device == "cpu"
    assert here.threads == torch.get_num_threads()
    assert 0 < here.free <= here.memory
    assert str(here.threads) in here.name


def test_bfloat16_follows_the_recipe_and_not_in_thin_volumes() -> None:
    assert CPU.computes_in_bfloat16("auto", (64, 64))
    assert not CPU.computes_in_bfloat16("auto", (4, 64, 64))
    assert not CPU.computes_in_bfloat16("float32", (64, 64))
    assert replace(CPU, bfloat16=False).computes_in_bfloat16("bfloat16", (4, 64, 64))


@pytest.mark.parametrize(("function", "value", "text"), [
    (seconds, 12.3, "12 s"), (seconds, 1.26, "1.3 s"), (seconds, 0.3, "0.30 s"), (seconds, 0.0123, "0.012 s"),
    (duration, 0.5, "30 seconds"), (duration, 1 / 60, "1 second"), (duration, 1, "1 minute"), (duration, 2.5, "2.5 minutes"),
    (duration, 90, "90 minutes"), (duration, 150, "2.5 hours"), (gigabytes, 2.4e8, "240 MB"), (gigabytes, 1.14e9, "1.1 GB")])
def test_units(function: object, value: float, text: str) -> None:
    assert function(value) == text  # type: ignore[operator]
