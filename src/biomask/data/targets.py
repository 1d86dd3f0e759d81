"""Targets: from warped labels to what the loss compares with, in torch, on the device of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from biomask.data.distances import normalized_distance, renumber, separate, touching_border
from biomask.data.task import Task
from biomask.data.weight_map import plug_in_weight_map, weight_map

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
                 spacing: Sequence[float] | None = None, class_weights: Sequence[float] | None = None) -> Targets:
    """Targets of a batch.

    labels: integer (B, L, *S): class ids (L = 1), structures (L = K), or ids and classes of objects (L = 2). ignore: bool
    (B, *S). spacing: size of a voxel along each axis, for distances; None = 1. class_weights: of target borders with the paper's
    weight map, w_c of each class; None = 1.
    """
    if task.kind == "multilabel":
        return Targets(None, labels.float(), ignore=ignore)
    if task.kind == "classes":
        return Targets(labels[:, 0].long(), ignore=ignore)
    ids, classes = labels[:, 0], labels[:, 1].long()
    if task.borders:
        ids = renumber(ids)
        apart = separate(ids)
        learnt = torch.where(apart > 0, classes, 0)
        if settings.weights == "plug-in":
            weight = plug_in_weight_map(ids, classes=classes, background=apart == 0, ignore=ignore, spacing=spacing)
        else:
            balance = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
            # Of what is learnt: the line between two objects that touch is background, and matters most.
            weight = weight_map(apart, w0=settings.w0, sigma=settings.sigma, class_weights=balance, classes=learnt, spacing=spacing)
        return Targets(learnt, weight=weight, ignore=ignore)
    return Targets(classes, distance=normalized_distance(ids, spacing=spacing),
                   border=touching_border(ids, width=settings.border_width).float(), ignore=ignore)
