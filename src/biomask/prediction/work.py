"""What is the same for all images of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch

from biomask.checkpoint import Model
from biomask.data.task import SCORE
from biomask.device import choose_device
from biomask.models import Network
from biomask.prediction.heads import with_heads
from biomask.prediction.maps import IDENTITY, Symmetry, symmetries
from biomask.prediction.memory import TileCost, tile_cost
from biomask.prediction.options import PredictOptions
from biomask.prediction.overlap_tile import CHANNELS_LAST
from biomask.prediction.refine import Refinement


@dataclass(frozen=True)
class Work:
    """A model on its device, and how it predicts."""

    model: Model
    network: torch.nn.Module
    device: torch.device
    options: PredictOptions
    copies: Sequence[Symmetry]
    """The copies that predictions are the mean of."""

    @classmethod
    def of(cls, model: Model, options: PredictOptions) -> Work:
        """The model with the heads that are asked for, on the device that is asked for. Raises as `with_heads` and `choose_device`
        do."""
        device = choose_device(options.device)
        network = with_heads(model.network, options.depth, options.mode)
        network = network.to(device, memory_format=CHANNELS_LAST[model.header.spatial_dims])  # type: ignore[call-overload]
        return cls(model, network, device, options, copies_of(model, options))

    @property
    def limits(self) -> dict[str, float]:
        """Of a detector: what its limits are changed to."""
        score = self.options.score if self.options.score is not None else self.model.header.thresholds.get(SCORE)
        return {} if score is None else {"score": min(max(float(score), 0.0), 1.0)}

    @cached_property
    def cost(self) -> TileCost:
        """Memory that a tile takes."""
        return tile_cost(self.network)

    @cached_property
    def refinement(self) -> Refinement:
        """What follows the network."""
        header = self.model.header
        return Refinement.of(self.model.task, header.thresholds, header.recipe.prediction.median)

    @property
    def cut(self) -> float:
        """Of two classes, the probability of the second above which a pixel is of it: of the heads that predict."""
        options = self.options
        if options.depth is None and options.mode is None:
            return self.model.cut
        heads = self.model.header.heads
        asked = (options.depth or max((h.depth for h in heads), default=0), options.mode or "fast")
        own = next((h.cut for h in heads if (h.depth, h.mode) == asked), None)
        return self.model.cut if own is None else min(max(own, 1e-6), 1 - 1e-6)

    @property
    def is_exact(self) -> bool:
        """Whether a tiled prediction equals the untiled one."""
        return cast(Network, self.network).exact_tiling

    @property
    def keeps_maps(self) -> bool:
        """Whether the probabilities of a whole image are needed at once."""
        options = self.options
        if self.model.is_detector:
            return False
        return (len(self.copies) > 1 or options.probabilities or options.rescale is not None
                or self.refinement.does_something or self.model.task.kind != "classes")


def copies_of(model: Model, options: PredictOptions) -> list[Symmetry]:
    """The copies that predictions are the mean of."""
    recipe = model.header.recipe
    if model.is_detector:
        return [IDENTITY]
    return symmetries(options.augment or recipe.prediction.augment or "none", model.header.spatial_dims, recipe.augmentation.flip,
                      turn=recipe.augmentation.rotate90, rotations=recipe.prediction.rotations)
