"""The batch of a step and its targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING

import torch

from biomask.data.patches import Batch, Sampling, make_batch
from biomask.data.targets import Targets, make_targets
from biomask.data.task import Task

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.recipe import InstanceSettings

#: Batches of fewer pixels are made by one thread: their many small operations cost more to share out than they take. With two
#: cores and 8 patches of 144² of objects 12 ms in place of 20, with 16 of 256² it would be 77 in place of 66.
SMALL = 2**18


def prepare(dataset: Dataset, sampling: Sampling, samples: Sequence[int], device: torch.device, task: Task,
            settings: InstanceSettings, class_weights: Sequence[float] | None = None) -> tuple[Batch, Targets]:
    """`make_batch` of the samples with the given numbers, and `make_targets` of it."""
    small = device.type == "cpu" and len(samples) * prod(sampling.geometry.read) < SMALL
    with _threads(1 if small else torch.get_num_threads()):
        batch = make_batch(dataset, sampling, samples, device)
        return batch, make_targets(batch.labels, batch.ignore, task, settings, sampling.spacing, class_weights)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads share out an operation of torch while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
