"""From a data set and a recipe to a trainer, with each choice said aloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biomask.models import DETECTORS
from biomask.training.detection_setup import detection_trainer
from biomask.training.loop import Trainer
from biomask.training.place import Place, Split, held_out
from biomask.training.plan_file import PLAN_FILE
from biomask.training.segmentation_setup import segmentation_trainer

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.recipe import Recipe
    from biomask.training.begin import Begin

__all__ = ["PLAN_FILE", "Place", "Split", "held_out", "make_trainer"]


def make_trainer(dataset: Dataset, recipe: Recipe, place: Place, split: Split | None = None, begin: Begin | None = None) -> Trainer:
    """Everything that the loop needs. Raises UsageError for settings that contradict the data, and of detectors what
    `detection_trainer` does."""
    if recipe.network.name in DETECTORS:
        return detection_trainer(dataset, recipe, place, split, begin)
    return segmentation_trainer(dataset, recipe, place, split, begin)
