"""Learning objects one by one: images and their objects, the losses of Mask R-CNN, average precision on held-out images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from biomask.data.detection import DetectionSampling, batch
from biomask.errors import InputError
from biomask.models.mask_rcnn.types import Target
from biomask.prediction.detect import OVERLAP_SHARE
from biomask.prediction.seams import Windows
from biomask.training.detection_plan import seen_size
from biomask.training.detection_score import DetectionJudge
from biomask.training.distributed import World
from biomask.training.objective import Score, Tried, Work, scoring_order

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.recipe import Recipe

#: A batch: images (C, h, w) and the objects of each.
Scenes = tuple[list[Tensor], list[Target]]

#: Before it is tuned: an object counts whose score is above.
USUAL_SCORE = 0.5


class DetectionObjective:
    """Objects with boxes, classes, masks and keypoints: an `Objective`."""

    def __init__(self, recipe: Recipe, training: Dataset, validation: Dataset | None, sampling: DetectionSampling, least: int,
                 device: torch.device, world: World, barren: Callable[[], InputError]) -> None:
        """sampling: its window is None where whole images are learnt from. least: pixels of the smallest object that is predicted.
        barren: makes the error that says why nothing was learnt."""
        self.recipe, self.training, self.validation, self.sampling = recipe, training, validation, sampling
        self.least, self.device, self.world, self.barren = least, device, world, barren
        self.score_is = "average precision"
        self.patch: tuple[int, ...] = self._usual_size(training)
        self.thresholds = {"score": USUAL_SCORE, "min_size": float(least)}

    def batch(self, numbers: range) -> Scenes:
        """Images and their objects, on the device."""
        return batch(self.training, self.sampling, numbers, self.device)

    def loss(self, network: nn.Module, batch: Scenes, *, low: bool) -> Tensor:
        """The sum of the losses of the region proposals and of all heads (Mask R-CNN, section 3)."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            losses: dict[str, Tensor] = network(*batch)
        return torch.stack([value.float() for value in losses.values()]).sum()

    def pixels(self, batch: Scenes) -> Tensor:
        """Grey values of the images."""
        return torch.cat([image.flatten() for image in batch[0]])

    def work(self, network: nn.Module) -> Work:
        """Pixels of the windows of each held-out image, as the network sees them; scores are tuned in the end."""
        held_out = self._held_out()
        pixels = [self._seen_pixels(held_out.facts.sizes[i]) for i in self._order(held_out)]
        return Work(pixels, prod(self.patch) * (self.recipe.training.batch or 4), 1, 0.0)

    def score(self, network: nn.Module, count: int) -> Score:
        """In the windows that prediction uses, at the score threshold that is best."""
        held_out = self._held_out()
        judge = DetectionJudge(held_out, self.device, self._order(held_out)[:count], self.sampling.window, self.least, self.world)
        return judge.score(network)

    def try_out(self, network: nn.Module, count: int, kept: Mapping[str, float]) -> Tried:
        """The score threshold, on more images than a validation looks at."""
        found = self.score(network, count)
        return Tried("none", {**kept, **found.thresholds}, {"thresholds tuned": found.value})

    def _held_out(self) -> Dataset:
        if self.validation is None:
            raise ValueError("no images are held out")
        return self.validation

    def _order(self, held_out: Dataset) -> list[int]:
        return scoring_order(self.recipe.training.seed, len(held_out))

    def _usual_size(self, dataset: Dataset) -> tuple[int, int]:
        """(Y, X) of a crop, or of the middle one of the images by pixels, as the network sees it."""
        window, seen = self.sampling.window, self.recipe.network.options
        sizes = sorted((seen_size(size, seen) for size in ([window] if window else dataset.facts.sizes)), key=prod)
        return sizes[len(sizes) // 2]

    def _seen_pixels(self, size: tuple[int, ...]) -> int:
        window, whole = self.sampling.window, (size[0], size[1])
        if window is None:
            return prod(seen_size(whole, self.recipe.network.options))
        windows = Windows.of(whole, window, min(window) // OVERLAP_SHARE)
        return len(windows) * prod(seen_size(windows.tile, self.recipe.network.options))
