"""Several processes, started by `torchrun`, that train as one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from biomask.errors import InputError, UsageError


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def largest(self, values: list[float], device: torch.device) -> list[float]:
        """Elementwise maximum over all processes, so that all decide alike."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [float(v) for v in tensor.tolist()]

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def prepare(self, network: nn.Module) -> nn.Module:
        """The network whose backward pass averages gradients and whose batch statistics are those of the whole batch."""
        if self.size == 1:
            return network
        share_batch_statistics(network)
        # All processes keep the same buffers by themselves; torch 2.13 renamed the option that says so.
        names = inspect.signature(nn.parallel.DistributedDataParallel).parameters
        option: Any = {("forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"): False}
        return nn.parallel.DistributedDataParallel(network, **option)


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The world that `torchrun` started, or one process alone. Uses nccl on CUDA, gloo elsewhere."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
        dist.barrier()  # leaving while another still talks would abort it
    finally:
        dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The device of one of several processes: cuda:N for the N-th on this machine, otherwise the CPU.

    Raises UsageError where all would take the same GPU, InputError where there are fewer GPUs than processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    if device.type != "cuda":
        return torch.device("cpu")  # gloo knows no mps
    if str(device) != "cuda":
        raise UsageError(f"--device {device} would put all processes on one GPU", fix="--device cuda")
    rank, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if rank >= count:
        raise InputError(f"process {rank + 1} of this machine finds {count} GPU(s)", fix=f"torchrun --nproc-per-node {count}")
    return torch.device("cuda", rank)


class _Sum(torch.autograd.Function):
    """Sum over processes, whose gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def total_over_processes(x: Tensor) -> Tensor:
    """Sum of a tensor over all processes, differentiable."""
    return cast(Tensor, _Sum.apply(x))  # type: ignore[no-untyped-call]


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the pixels of all processes; torch's own works on GPUs only.

    Parameters, buffers and their names are those of `nn.BatchNorm2d` and `nn.BatchNorm3d`. Batches may differ in size.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.float()
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
        dist.all_reduce(count)
        count = count.clamp(min=1)
        mean = total_over_processes(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = total_over_processes(centred.square().sum(axes)) / count
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            buffers: dict[str, Tensor] = dict(self.named_buffers())
            buffers["num_batches_tracked"] += 1
            buffers["running_mean"].lerp_(mean, momentum)
            buffers["running_var"].lerp_(variance * count / (count - 1).clamp(min=1), momentum)
        scale = (self.weight * torch.rsqrt(variance + self.eps)).view(shape)
        return (centred * scale + self.bias.view(shape)).to(input.dtype)


def share_batch_statistics(network: nn.Module) -> None:
    """Replace every batch normalisation inside a network by `SharedBatchNorm`, keeping its tensors."""
    for name, child in network.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, SharedBatchNorm):
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared._parameters, shared._buffers, shared.training = child._parameters, child._buffers, child.training
            setattr(network, name, shared)
        else:
            share_batch_statistics(child)
