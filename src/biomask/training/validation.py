"""Scoring a network on held-out images, with the tiles that prediction uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from biomask.metrics import confusion_matrix, mean, overlap
from biomask.prediction.overlap_tile import geometry_of, predict_tiles
from biomask.tiling import choose_tile, smallest_tile
from biomask.training.distributed import World

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset

#: Pixels of a window, whatever memory is free: the tiles must not depend on the machine's state.
LARGEST_READ = 1024 * 1024


@dataclass(frozen=True)
class Score:
    """On the held-out images, pooled over their pixels."""

    dice: tuple[float | None, ...]
    """One a class, background included; None where a class is neither there nor predicted."""

    @property
    def selection(self) -> float:
        """What the best weights are chosen by: the mean Dice of all classes, background too, so that either class of
        two may be the one that matters."""
        return mean(self.dice) or 0.0


def validate(network: nn.Module, dataset: Dataset, device: torch.device, world: World | None = None) -> Score:
    """Score the network on a data set, its images shared out among the processes. Leaves the network's mode as it was."""
    world = world or World()
    classes = len(dataset.legend)
    was_training = network.training
    network.eval()
    geometry = geometry_of(network)
    total = torch.zeros(classes, classes, dtype=torch.float64)
    for i in range(world.rank, len(dataset), world.size):
        image, truth, ignore = dataset.item(i)
        tile = choose_tile(truth.shape, LARGEST_READ, geometry) or smallest_tile(geometry)
        ids = np.empty(truth.shape, np.uint8)
        for window, logits in predict_tiles(network, image, tile, device=device):
            ids[window.write] = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
        total += torch.from_numpy(confusion_matrix(truth, ids, classes, ignore)).double()
    network.train(was_training)
    return Score(overlap(world.total(total.to(device) if world.size > 1 else total).cpu().numpy()).dice)
