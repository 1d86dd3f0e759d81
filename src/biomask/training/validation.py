"""Scoring a network on held-out images, with the tiles that prediction uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from biomask.data.task import Task
from biomask.instances import Thresholds
from biomask.instances.tune import EQUAL
from biomask.instances.watershed import label_by_each
from biomask.metrics import confusion_matrix, mean, overlap
from biomask.metrics.average_precision import instance_scores
from biomask.models import Network
from biomask.prediction.maps import Symmetry, decide, predict_maps
from biomask.prediction.overlap_tile import geometry_of
from biomask.tiling import choose_tile, smallest_tile
from biomask.training.distributed import World
from biomask.training.objective import Score

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset

#: Pixels of a window, whatever memory is free: the tiles must not depend on the machine's state.
LARGEST_READ = 1024 * 1024

AS_IT_IS = (Symmetry((), False),)

#: Valleys between objects at which weights are scored. At one alone they would be judged by how well it happens to fit them: on
#: DSB 2018 that score fell from validation to validation while the one at tuned thresholds rose.
VALLEYS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)


def score_name(task: Task) -> str:
    """What the value of a `Score` is, for people."""
    return {"classes": "Dice", "multilabel": "Dice", "instances": "average precision"}[task.kind]


def scored_thresholds(start: Thresholds) -> list[Thresholds]:
    """Those at which weights are scored: `start` with the valleys of `VALLEYS` and its own, in their order."""
    return [replace(start, valley=valley) for valley in sorted({start.valley, *VALLEYS})]


def validation_tile(size: Sequence[int], network: nn.Module) -> tuple[int, ...]:
    """Pixels kept a tile when held-out images are scored: the same on every machine; all where a network cannot be tiled."""
    geometry = geometry_of(network)
    if not cast(Network, network).exact_tiling:
        return tuple(size)
    return choose_tile(size, LARGEST_READ, geometry) or smallest_tile(geometry)


@dataclass(frozen=True)
class Judge:
    """Scores networks on a fixed choice of held-out images, which are shared out among the processes."""

    dataset: Dataset
    task: Task
    device: torch.device
    indices: Sequence[int]
    world: World = field(default_factory=World)

    def maps(self, network: nn.Module, i: int, copies: Sequence[Symmetry] = AS_IT_IS) -> npt.NDArray[np.float32]:
        """Probabilities of held-out image `i`."""
        image, labels, _ = self.dataset.item(i)
        return predict_maps(network, image, self.task, validation_tile(labels.shape[1:], network), copies=copies,
                            device=self.device)

    def score(self, network: nn.Module, thresholds: Sequence[Thresholds] = (Thresholds(),),
              copies: Sequence[Symmetry] = AS_IT_IS, *, cut: float = 0.5) -> Score:
        """At the best of the thresholds, which `Score.thresholds` names. Of several alike it is the middle one, as other images may
        fall off where these begin to. They are of objects: without any there is nothing to choose. Leaves the network's mode as
        it was."""
        was_training = network.training
        network.eval()
        counts = np.zeros((len(self.indices), len(thresholds) if self.task.kind == "instances" else 1, self._length()))
        try:
            for n in range(self.world.rank, len(self.indices), self.world.size):
                counts[n] = self.count(self.maps(network, self.indices[n], copies), self.indices[n], thresholds, cut=cut)
        finally:
            network.train(was_training)
        if self.world.size > 1:
            counts = self.world.total(torch.as_tensor(counts, device=self.device, dtype=torch.float64)).cpu().numpy()
        scores = [self.summary(at.sum(axis=0)) for at in counts.swapaxes(0, 1)]
        highest = max(score.value for score in scores)
        alike = [n for n, score in enumerate(scores) if score.value >= highest - EQUAL]
        best = alike[(len(alike) - 1) // 2]
        return replace(scores[best], images=tuple(self._value(c) for c in counts[:, best]),
                       thresholds=thresholds[best].to_dict() if self.task.kind == "instances" else {})

    def _value(self, counts: npt.NDArray[np.float64]) -> float | None:
        """The value of one image alone."""
        defined = counts[self.task.entries**2] > 0 if self.task.kind == "instances" else counts.any()
        return self.summary(counts).value if defined else None

    def count(self, maps: npt.NDArray[np.float32], i: int, thresholds: Sequence[Thresholds] = (Thresholds(),), *,
              cut: float = 0.5) -> npt.NDArray[np.float64]:
        """Sums of one image that `summary` takes, so that those of several can be added: a row for each of the thresholds of
        objects, else one."""
        _, labels, ignore = self.dataset.item(i)
        maps = np.where(np.isfinite(maps), maps, 0)  # of weights that a far too high rate ruined: they find nothing
        found = decide(maps, self.task, cut)
        if self.task.kind == "multilabel":
            tables = [confusion_matrix(t, p, 2, ignore).ravel() for t, p in zip(labels, found, strict=True)]
            return np.concatenate(tables).astype(np.float64)[None]
        table = confusion_matrix(labels[-1], found, self.task.entries, ignore).ravel().astype(np.float64)
        if self.task.kind == "classes":
            return table[None]
        each = label_by_each(maps, thresholds, target=self.task.target, spacing=self.dataset.facts.spacing)
        return np.stack([np.concatenate([table, _precisions(labels[0], objects, ignore)]) for objects in each])

    def _length(self) -> int:
        entries = self.task.entries
        return 4 * (entries - 1) if self.task.kind == "multilabel" else entries**2 + 3 * (self.task.kind == "instances")

    def summary(self, total: npt.NDArray[np.float64]) -> Score:
        """The score of summed counts."""
        entries, names = self.task.entries, [e.name for e in self.dataset.legend]
        if self.task.kind == "multilabel":
            tables = total.reshape(entries - 1, 2, 2)
            dice = [overlap(t).dice[1] for t in tables]
            return Score(mean(dice) or 0.0, dict(zip(names[1:], dice, strict=True)), not tables[:, :, 1].any())
        table = total[: entries**2].reshape(entries, entries)
        dice = list(overlap(table).dice)
        parts: dict[str, float | None] = dict(zip(names, dice, strict=True))
        barren = int((table.sum(axis=0) > 0).sum()) <= 1
        if self.task.kind == "classes":
            return Score(mean(dice) or 0.0, parts, barren)
        images, ap, ap50 = total[entries**2 :]
        return Score(float(ap / images) if images else 0.0, {"ap50": float(ap50 / images) if images else None, **parts}, barren)


def _precisions(truth: npt.NDArray[Any], found: npt.NDArray[Any], ignore: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.float64]:
    """(1, AP over all thresholds, AP at 0.5), or zeros where neither has an object."""
    scores = instance_scores(truth, found, ignore)
    if scores.average_precision is None:
        return np.zeros(3)
    return np.array([1.0, scores.average_precision, scores.precision_at(0.5) or 0.0])
