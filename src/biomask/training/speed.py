"""What a training step costs, counted on tensors without data; what this machine is; how long a training takes."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from biomask.machine import memory as main_memory
from biomask.models import Network
from biomask.models.own import OwnNetwork
from biomask.prediction.memory import OVERHEAD
from biomask.prediction.overlap_tile import CHANNELS_LAST
from biomask.training.budget import VALIDATION_SHARE
from biomask.training.optimizer import THIN, use_bfloat16
from biomask.words import count

#: Floating-point operations a second that training reaches. Of CPUs for each thread, measured with this U-Net on two threads:
#: bfloat16; float32 on a CPU that has bfloat16; float32 on an older one.
CPU_BFLOAT16, CPU_FLOAT32, CPU_OLD = 150e9, 72e9, 30e9

#: Of GPUs, in bfloat16, by bytes of memory from which on: rough, for a plan that must not depend on a measurement.
CUDA = ((30e9, 80e12), (12e9, 25e12), (0.0, 10e12))
MPS = 2e12

#: More threads than this hardly speed a step up.
MOST_THREADS = 16

#: Bytes that Python and torch take before anything is done.
PROGRAM = 600_000_000

#: Steps are measured until there are three, or this many seconds have gone.
MEASURED_SECONDS = 2.0


@dataclass(frozen=True)
class Machine:
    """Where training runs."""

    device: str
    """cpu, cuda or mps."""
    name: str
    """For the user."""
    threads: int
    """Of the CPU, in this process."""
    memory: int
    """Bytes of the GPU's memory, else of the main memory."""
    free: int
    """Bytes of it that are free now. Warnings depend on it, choices never."""
    bfloat16: bool
    """Whether convolutions are faster in it."""
    processes: int = 1
    """That train as one."""

    @classmethod
    def here(cls, device: torch.device, processes: int = 1) -> Machine:
        """This machine, with one of its devices."""
        main = main_memory()
        memory, free, name = main.total, main.free, str(device)
        if device.type == "cuda":
            free, memory = torch.cuda.mem_get_info(device)
            name = torch.cuda.get_device_name(device)
        elif device.type == "cpu":
            name = f"CPU with {torch.get_num_threads()} threads"
        return cls(device.type, name, torch.get_num_threads(), memory, free, use_bfloat16("auto", device, (256, 256)), processes)

    def computes_in_bfloat16(self, precision: str, patch: Sequence[int]) -> bool:
        """As `biomask.training.optimizer.use_bfloat16`, for this machine."""
        if precision != "auto":
            return precision == "bfloat16"
        return self.bfloat16 and not (self.device == "cpu" and len(patch) == 3 and min(patch) < THIN)

    def speed(self, bfloat16: bool) -> float:
        """Floating-point operations a second, all processes together; roughly, and the same at every call."""
        if self.device == "cpu":
            rate = CPU_BFLOAT16 if bfloat16 and self.bfloat16 else CPU_FLOAT32 if self.bfloat16 else CPU_OLD
            one = rate * min(self.threads, MOST_THREADS)
        elif self.device == "cuda":
            one = next(rate for least, rate in CUDA if self.memory >= least) / (1 if bfloat16 else 2)
        else:
            one = MPS
        return one * self.processes


@dataclass(frozen=True)
class StepCost:
    """One optimisation step: forward, backward, update."""

    batch: int
    flops: float
    """Floating-point operations of convolutions and matrix products, two a multiply-add."""
    activations: float
    """Bytes kept for the backward pass, in float32."""
    parameters: int

    @property
    def multiply_adds(self) -> float:
        """Forward and backward."""
        return self.flops / 2

    def with_batch(self, batch: int) -> StepCost:
        """The same for another number of patches."""
        return StepCost(batch, self.flops * batch / self.batch, self.activations * batch / self.batch, self.parameters)

    def memory(self, bfloat16: bool) -> float:
        """Bytes: weights, gradients and the two moments of Adam; activations, and the copies that libraries keep."""
        return 16.0 * self.parameters + OVERHEAD * self.activations * (0.5 if bfloat16 else 1.0)


def step_cost(network: nn.Module, patch: Sequence[int], batch: int) -> StepCost:
    """Count a training step on patches with `patch` label pixels along each axis, without computing anything.

    The network is left as it is; it may live on the meta device. A module of the user's own is run, since it may not work there.
    batch: at least 2 where batch normalisation meets a map of one pixel.
    """
    device = "cpu" if isinstance(network, OwnNetwork) else "meta"
    ghost = copy.deepcopy(network).to(device).train()
    facts = cast(Network, network)
    x = torch.zeros((batch, facts.in_channels, *(n + 2 * m for n, m in zip(patch, facts.margin, strict=True))), device=device)
    parameters = {p.untyped_storage()._cdata for p in ghost.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            kept[storage._cdata] = storage  # held, so that its address is not given to another
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = ghost(x)
        heads = out if isinstance(out, tuple) else (out,)
        torch.stack([h.sum() for h in heads]).sum().backward()  # type: ignore[no-untyped-call]
    return StepCost(batch, float(counter.get_total_flops()), float(sum(s.nbytes() for s in kept.values())),
                    sum(p.numel() for p in ghost.parameters()))


def measure_step_seconds(network: nn.Module, patch: Sequence[int], batch: int, device: torch.device, *, bfloat16: bool) -> float:
    """Seconds of one step on random data, with a copy of the network; for what is told, never for a choice.

    patch: label pixels along each axis. The fastest of one to three steps, after a warm-up. The network, its statistics and the
    random state are left as they are.
    """
    from torch.random import fork_rng

    facts, layout = cast(Network, network), CHANNELS_LAST[len(patch)]
    with fork_rng([device] if device.type == "cuda" else []):
        trained = copy.deepcopy(network).to(device, memory_format=layout).train()  # type: ignore[call-overload]
        shape = (batch, facts.in_channels, *(n + 2 * m for n, m in zip(patch, facts.margin, strict=True)))
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device).contiguous(memory_format=layout)
        optimizer = torch.optim.AdamW(trained.parameters(), fused=device.type in ("cpu", "cuda"))

        def step() -> float:
            start = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                out = trained(x)
            heads = out if isinstance(out, tuple) else (out,)
            optimizer.zero_grad(set_to_none=True)
            torch.stack([nn.functional.softplus(h.float()).mean() for h in heads]).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            elif device.type == "mps":
                torch.mps.synchronize()
            return time.perf_counter() - start

        step()  # compiles convolutions; that may take longer than ten steps
        found = [step()]
        while len(found) < 3 and sum(found) < MEASURED_SECONDS:
            found.append(step())
        return min(found)  # others only make a step longer


@dataclass(frozen=True)
class Estimate:
    """How long a training takes; about."""

    batch: int
    steps: int
    seconds_a_step: float
    minutes: float
    """Validation included."""
    memory_bytes: float
    """Of the GPU, or of the whole process."""
    ends_at: datetime | None
    until_flat: bool = False
    """Whether it may end before."""
    images: bool = False
    """Whether a step takes images or crops of them, as detectors do, rather than patches."""

    @property
    def sentence(self) -> str:
        """For the user, before training starts."""
        most = "at most " if self.until_flat else "about "
        time_of_day = "" if self.ends_at is None else f", until {most if self.until_flat else 'about '}{self._clock()}"
        what = count(self.batch, "image") if self.images else f"{self.batch} patches"
        return (f"{most}{_rounded(self.steps):,} steps of {what}, {seconds(self.seconds_a_step)} each, in "
                f"{duration(self.minutes)}{time_of_day}; about {gigabytes(self.memory_bytes)} of memory")

    def _clock(self) -> str:
        """Rounded up to five minutes, where that says enough."""
        end = cast(datetime, self.ends_at)
        if self.minutes > 10:
            end += timedelta(minutes=-end.minute % 5)
        began = cast(datetime, self.ends_at) - timedelta(minutes=self.minutes)
        return f"{end:%H:%M}" if end.date() == began.date() else f"{end:%H:%M on %Y-%m-%d}"


def estimate(cost: StepCost, machine: Machine, *, bfloat16: bool, steps: int | None = None, minutes: float | None = None,
             seconds_a_step: float | None = None, now: datetime | None = None, until_flat: bool = False,
             images: bool = False) -> Estimate:
    """From the cost of a step, or its measured seconds, and a budget in steps or minutes (exactly one).

    now: when it starts; None leaves out when it ends. A step of many processes costs each its share.
    """
    each = seconds_a_step if seconds_a_step is not None else cost.flops / machine.speed(bfloat16)
    if steps is None:
        found = max(1, int((minutes or 0.0) * 60 * (1 - VALIDATION_SHARE) / each))
        length = minutes or 0.0
    else:
        found, length = steps, steps * each / (1 - VALIDATION_SHARE) / 60
    share = cost.with_batch(max(1, -(-cost.batch // machine.processes)))
    memory = share.memory(bfloat16) + (0 if machine.device == "cuda" else PROGRAM)
    ends = now + timedelta(minutes=length) if now is not None else None
    return Estimate(cost.batch, found, each, length, memory, ends, until_flat, images)


def _rounded(n: int) -> int:
    """Two figures say enough."""
    digits = max(0, len(str(n)) - 2)
    return round(n, -digits)


def seconds(value: float) -> str:
    """0.30 s, 0.012 s, 12 s."""
    if value >= 1:
        return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"
    return f"{value:.2f} s" if value >= 0.1 else f"{value:.2g} s"


def duration(minutes: float) -> str:
    """40 seconds, 10 minutes, 2.5 hours."""
    if minutes < 1:
        count = max(1, round(minutes * 60))
        return f"{count} second" + "s" * (count != 1)
    if minutes >= 120:
        return f"{minutes / 60:.1f}".removesuffix(".0") + " hours"
    shown = f"{minutes:.1f}".removesuffix(".0") if minutes < 10 else f"{minutes:.0f}"
    return f"{shown} minute" + "s" * (shown != "1")


def gigabytes(count: float) -> str:
    """In MB below one GB, in GB above."""
    return f"{count / 1e9:.1f} GB" if count >= 0.95e9 else f"{max(1, round(count / 1e6))} MB"
