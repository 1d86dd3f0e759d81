"""What was chosen when a training began: kept, so that a resumed one is the same whatever would be chosen now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from biomask.io.files import write_text
from biomask.recipe import Recipe, TrainingSettings
from biomask.training.place import Place
from biomask.training.resume import STATE_FILE

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset

PLAN_FILE = "plan.json"

#: Settings that may differ when a training goes on.
BUDGET = ("steps", "minutes", "validations", "until_flat", "patience")


def wished_of(recipe: Recipe, dataset: Dataset) -> str:
    """What the plan follows from, but for the budget and the machine."""
    content = recipe.model_dump(mode="json")
    for key in BUDGET:
        content["training"].pop(key)
    return hashlib.sha256(json.dumps([content, digest_of(dataset)], sort_keys=True).encode()).hexdigest()


def read_plan(place: Place, wished: str, budget: TrainingSettings) -> Recipe | None:
    """What an earlier run of the same training chose, with this budget; None where there was none."""
    try:
        content = json.loads((place.out / "resume" / PLAN_FILE).read_text(encoding="utf-8"))
        before = Recipe.model_validate(content["recipe"]) if content["wished"] == wished else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if before is None:
        return None
    return before.model_copy(update={"training": before.training.model_copy(update={k: getattr(budget, k) for k in BUDGET})})


def write_plan(place: Place, wished: str, complete: Recipe, sentences: Sequence[str]) -> None:
    """Keep what was chosen. The plan of a training that is there stays: with other wishes this one is refused, and that goes on."""
    kept = all((place.out / "resume" / name).is_file() for name in (STATE_FILE, PLAN_FILE))
    if place.world.leads and not kept:
        write_text(place.out / "resume" / PLAN_FILE, json.dumps(
            {"wished": wished, "recipe": complete.model_dump(mode="json"), "sentences": list(sentences)}, ensure_ascii=False))


def digest_of(dataset: Dataset) -> str:
    """Of all files of a data set."""
    return hashlib.sha256(json.dumps(dataset.facts.hashes, sort_keys=True).encode()).hexdigest()
