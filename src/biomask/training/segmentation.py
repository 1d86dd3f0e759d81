"""Learning labels of pixels: patches, their targets, the combined loss, and Dice or average precision on held-out images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from biomask.data.patches import Sampling, make_batch
from biomask.data.targets import Targets, make_targets
from biomask.data.task import Task
from biomask.errors import InputError
from biomask.instances import Thresholds
from biomask.losses import CombinedLoss, LossWeights, deep_supervision
from biomask.prediction.maps import Augment, Symmetry, symmetries
from biomask.prediction.overlap_tile import CHANNELS_LAST
from biomask.progress import Progress
from biomask.training.distributed import World
from biomask.training.heads import HEADS_WORK, has_heads, score_heads
from biomask.training.objective import Score, Tried, Work, scoring_order
from biomask.training.trials import choose_augment, choose_together, tune_cut
from biomask.training.validation import Judge, score_name, scored_thresholds

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.recipe import Recipe

#: Share of a budget in minutes for tuning thresholds of objects.
TUNING_SHARE = 0.03


@dataclass(frozen=True)
class Patches:
    """A batch: images as the network takes them and what it is to say of them."""

    images: Tensor
    targets: Targets


class SegmentationObjective:
    """Labels of any kind, learnt pixel by pixel: an `Objective`."""

    def __init__(self, recipe: Recipe, task: Task, training: Dataset, validation: Dataset | None, sampling: Sampling,
                 thresholds: Thresholds, device: torch.device, world: World, progress: Progress,
                 barren: Callable[[], InputError]) -> None:
        """thresholds: of objects, before they are tuned. barren: makes the error that says why nothing was learnt."""
        self.recipe, self.task, self.training, self.validation = recipe, task, training, validation
        self.sampling, self.own_thresholds, self.device, self.world, self.progress = sampling, thresholds, device, world, progress
        self.barren = barren
        self.score_is, self.patch = score_name(task), sampling.geometry.target
        # Of a training that is stopped: its weights are chosen by them.
        self.thresholds = thresholds.to_dict() if task.kind == "instances" else {}
        loss = recipe.loss
        # Of target borders class weights are part of the weight map.
        self.combined = CombinedLoss(LossWeights(**{f.name: getattr(loss, f.name) for f in fields(LossWeights)}),
                                     class_weights=None if task.borders else loss.class_weights).to(device)

    def batch(self, numbers: range) -> Patches:
        """Patches with their targets, on the device."""
        batch = make_batch(self.training, self.sampling, numbers, self.device)
        return Patches(batch.images, make_targets(batch.labels, batch.ignore, self.task, self.recipe.instances,
                                                  self.sampling.spacing, self.recipe.loss.class_weights))

    def loss(self, network: nn.Module, batch: Patches, *, low: bool) -> Tensor:
        """The combined loss of all heads."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            logits = network(batch.images.contiguous(memory_format=CHANNELS_LAST[len(self.patch)]))
        return deep_supervision(lambda head: self.combined(head, batch.targets), logits, self.recipe.loss.heads)

    def pixels(self, batch: Patches) -> Tensor:
        """Grey values of the patches."""
        return batch.images

    def work(self, network: nn.Module) -> Work:
        """Pixels of the held-out images; copies, thresholds and heads are tried in the end."""
        held_out, wanted = self._held_out(), self.recipe.prediction.augment
        tried = len(self._copies("symmetries")) + 1 if wanted is None else len(self._copies(wanted))
        tried += HEADS_WORK if has_heads(network) else 0
        tuning = (self._tuning_seconds() or 0.0) if self.task.kind == "instances" else 0.0
        pixels = [math.prod(held_out.facts.sizes[i]) for i in self._order(held_out)]
        return Work(pixels, math.prod(self.patch) * (self.recipe.training.batch or 4), tried, tuning)

    def score(self, network: nn.Module, count: int) -> Score:
        """By the tiles that prediction uses; objects at the best of a few valleys."""
        return self._judge(count).score(network, scored_thresholds(self.own_thresholds))

    def try_out(self, network: nn.Module, count: int, kept: Mapping[str, float]) -> Tried:
        """The thresholds of objects, whether the mean over copies predicts better, the cut of two classes, the heads of UNet++."""
        judge, wanted, alone = self._judge(count), self.recipe.prediction, self.world.size == 1
        thresholds = Thresholds.from_dict(kept) if self.task.kind == "instances" else self.own_thresholds
        tuned = dict[str, float]()
        if self.task.kind == "instances" and alone:
            augment, thresholds, scores = choose_together(network, judge, wanted.augment, self._copies, thresholds,
                                                          seconds=self._tuning_seconds())
        else:
            augment, scores = choose_augment(network, judge, wanted.augment, self._copies, thresholds)
        scores = {k: v for k, v in scores.items() if math.isfinite(v)}
        if self.task.kind == "classes" and self.task.entries == 2 and alone:
            tuned, found = tune_cut(network, judge, self._copies(augment), calibrate=wanted.calibrate, radius=wanted.median)
            scores |= found
        heads = score_heads(network, judge, thresholds, self.progress) if alone else []
        return Tried(augment, thresholds.to_dict() if self.task.kind == "instances" else tuned or None, scores, heads)

    def _held_out(self) -> Dataset:
        if self.validation is None:
            raise ValueError("no images are held out")
        return self.validation

    def _order(self, held_out: Dataset) -> list[int]:
        return scoring_order(self.recipe.training.seed, len(held_out))

    def _judge(self, count: int) -> Judge:
        held_out = self._held_out()
        return Judge(held_out, self.task, self.device, self._order(held_out)[:count], self.world)

    def _tuning_seconds(self) -> float | None:
        """For trying thresholds; None for a budget in steps, which must not depend on time."""
        minutes = self.recipe.training.minutes
        return None if minutes is None else TUNING_SHARE * 60 * minutes

    def _copies(self, mode: Augment) -> list[Symmetry]:
        augmentation = self.recipe.augmentation
        return symmetries(mode, len(self.patch), augmentation.flip, turn=augmentation.rotate90,
                          rotations=self.recipe.prediction.rotations)
