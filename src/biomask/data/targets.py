"""Targets: from warped labels to what the loss compares with, in torch, on the device of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from biomask.data.distances import normalized_distance, renumber, separate, touching_border
from biomask.data.task import Task
from biomask.data.weight_map import weight_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from biomask.recipe import InstanceSettings


@dataclass(frozen=True)
class Targets:
    """What a batch should give; None where the task has no such thing."""

    classes: Tensor | None
    """int64 (B, *S), 0..K-1."""
    structures: Tensor | None = None
    """float32 (B, K, *S), 0 or 1."""
    distance: Tensor | None = None
    """float32 (B, *S), 0..1."""
    border: Tensor | None = None
    """float32 (B, *S), 0 or 1."""
    weight: Tensor | None = None
    """float32 (B, *S), of each pixel in the cross-entropy of the classes."""
    ignore: Tensor | None = None
    """bool (B, *S), True = unknown."""


def make_targets(labels: Tensor, ignore: Tensor | None, task: Task, settings: InstanceSettings,
                 spacing: Sequence[float] | None = None) -> Targets:
    """Targets of a batch.

    labels: integer (B, L, *S): class ids (L = 1), structures (L = K), or ids and classes of objects (L = 2). ignore: bool
    (B, *S). spacing: size of a voxel along each axis, for distances; None = 1.
    """
    if task.kind == "multilabel":
        return Targets(None, labels.float(), ignore=ignore)
    if task.kind == "classes":
        return Targets(labels[:, 0].long(), ignore=ignore)
    ids, classes = labels[:, 0], labels[:, 1].long()
    if task.target == "borders":
        ids = renumber(ids)
        weight = weight_map(ids, w0=settings.w0, sigma=settings.sigma, spacing=spacing)
        return Targets(torch.where(separate(ids) > 0, classes, 0), weight=weight, ignore=ignore)
    return Targets(classes, distance=normalized_distance(ids, spacing=spacing),
                   border=touching_border(ids, width=settings.border_width).float(), ignore=ignore)
