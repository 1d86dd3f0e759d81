"""Where a training runs and writes, and which images it holds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from biomask.data.splits import hold_out
from biomask.progress import Progress
from biomask.training.distributed import World

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.recipe import Recipe

#: A training that goes until the score is flat looks at it at least so often.
OFTEN = 30


@dataclass(frozen=True)
class Place:
    """Where a training runs and writes."""

    out: Path
    device: torch.device
    world: World
    progress: Progress


@dataclass(frozen=True)
class Split:
    """Which images are trained on, and which are held out."""

    training: Sequence[int]
    validation: Sequence[int]
    reason: str


def held_out(dataset: Dataset, recipe: Recipe) -> Split:
    """The part that the data call validation, or else a share."""
    validation = [i for i, p in enumerate(dataset.pairs) if p.part == "validation"]
    if validation and len(validation) < len(dataset):
        training = [i for i in range(len(dataset)) if i not in set(validation)]
        return Split(training, validation, f"the {len(validation)} of the validation part")
    return Split(*hold_out([p.name for p in dataset.pairs], recipe.data.validation_share, recipe.training.seed,
                           dataset.facts.groups))


def looked_at_often(recipe: Recipe) -> Recipe:
    """The recipe, with enough validations to see that a score is flat where training ends by that."""
    if not recipe.training.until_flat:
        return recipe
    often = max(OFTEN, recipe.training.validations)
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"validations": often})})
