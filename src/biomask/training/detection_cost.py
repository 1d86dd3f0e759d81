"""What a training step of a detector takes, measured: its proposals and so its work depend on the images."""

from __future__ import annotations

import copy
import time

import torch
from torch import nn
from torch.random import fork_rng

from biomask.training.detection import DetectionObjective
from biomask.training.speed import StepCost


def measure_detection_step(network: nn.Module, objective: DetectionObjective, *, low: bool) -> tuple[float, StepCost]:
    """(seconds of a step, its bytes and parameters), with a copy of the network and the first batch; for what is told, never for a
    choice. The network, its statistics and the random state are left as they are. The operations are not counted."""
    device, size = objective.device, objective.recipe.training.batch or 4
    kept: dict[int, torch.UntypedStorage] = {}
    with fork_rng([device] if device.type == "cuda" else []):
        trained = copy.deepcopy(network).to(device).train()
        parameters = {p.untyped_storage()._cdata for p in trained.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in parameters:
                kept[storage._cdata] = storage
            return tensor

        torch.manual_seed(0)
        scenes = objective.batch(range(size))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):  # the first step also compiles
            objective.loss(trained, scenes, low=low).backward()  # type: ignore[no-untyped-call]
        activations = float(sum(s.nbytes() for s in kept.values()))
        kept.clear()
        began = time.perf_counter()
        objective.loss(trained, objective.batch(range(size, 2 * size)), low=low).backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        seconds = time.perf_counter() - began
    return seconds, StepCost(size, 0.0, activations * (2 if low else 1), sum(p.numel() for p in trained.parameters()))
