"""What is written of a training: the model file, its header, the log."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from biomask.checkpoint import MODEL_FILE, ModelHeader, save_model
from biomask.io.files import write_text
from biomask.recipe import Recipe
from biomask.training.begin import Begin
from biomask.training.place import Place
from biomask.training.plan_file import BUDGET, digest_of
from biomask.training.resume import State

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset


def publisher(place: Place, header: ModelHeader) -> Callable[[dict[str, Tensor], State], None]:
    """What writes the model file and the log, from weights and the state that they come from."""

    def publish(tensors: dict[str, Tensor], state: State) -> None:
        save_model(place.out / MODEL_FILE, tensors, header.model_copy(update=outcome(state, header.recipe)))
        write_text(place.out / "log.csv", log_of(state))

    return publish


def header_facts(dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """Fields of a model's header that say what it was trained on."""
    facts = dataset.facts
    return {"recipe": recipe, "in_channels": facts.channels, "spatial_dims": len(facts.axes) - 1, "kind": facts.kind,
            "legend": dataset.legend.to_json(), "spacing": facts.spacing, "channel_names": facts.channel_names,
            "dtype": facts.dtype, "data_hashes": facts.hashes, "inputs": facts.inputs}


def outcome(state: State, recipe: Recipe) -> dict[str, Any]:
    """What the header says of the weights."""
    if state.best_step is None:
        return {"step": state.step, "scores": {}}
    scores: dict[str, float | None] = {"validation.score": state.best_score}
    scores |= {f"validation.{name}": value for name, value in state.best_parts.items()}
    scores |= {f"before.{name}": value for name, value in state.before.items()}
    scores |= {f"trial.{name}": value for name, value in state.trials.items()}
    prediction = recipe.prediction.model_copy(update={"augment": state.augment})
    return {"step": state.best_step, "scores": scores, "thresholds": state.thresholds, "heads": tuple(state.heads),
            "scored": len(state.best_images),
            "recipe": recipe.model_copy(update={"prediction": prediction})}


def identity_of(recipe: Recipe, dataset: Dataset, begin: Begin | None) -> dict[str, Any]:
    """What must be the same for a resumed training: all but the budget."""
    content = recipe.model_dump(mode="json", exclude={"prediction", "title", "source", "choices"})
    for key in BUDGET:
        content["training"].pop(key)
    flat = {f"{section}.{key}": value for section, values in content.items() if isinstance(values, dict)
            for key, value in values.items()}
    return {"recipe": content["name"], **flat, "data": digest_of(dataset), **({"from": begin.name} if begin is not None else {})}


def log_of(state: State) -> str:
    """log.csv: one row a log or validation point; empty where nothing was measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "seconds", "lr", "loss", "validation_score"])
    for row in state.history:
        writer.writerow([row.step, row.seconds, row.lr, "" if row.loss is None else row.loss,
                         "" if row.validation_score is None else row.validation_score])
    return text.getvalue()
