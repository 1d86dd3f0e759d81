"""What a user can set, made into recipes and data settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from biomask import recipes
from biomask.api.own import Own, own_network
from biomask.errors import UsageError
from biomask.labels import LABEL_KINDS
from biomask.models import DETECTORS
from biomask.models.own import register_own
from biomask.recipe import DataSettings, NetworkSettings, Recipe, explain

#: Degrees of rotation that leave an axis its meaning.
SLIGHT_TURN = 15.0


@dataclass(frozen=True)
class TrainOptions:
    """How to train; the flags of `biomask train`."""

    recipe: str | Recipe = "default"
    """A name, a .yaml file or a Recipe."""
    settings: Sequence[str] = ()
    """`section.key=value` settings on top of the recipe."""
    minutes: float | None = None
    """Budget in wall time."""
    steps: int | None = None
    """Budget in optimisation steps."""
    seed: int | None = None
    device: str = "auto"
    masks: str | Path | None = None
    """Where the labels are, if not in the data folder; as in `biomask.data.layouts.find_layout`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """How the data are read: fields of `biomask.recipe.DataSettings`, over those of the recipe."""
    overwrite: bool = False
    """Start again instead of resuming."""
    until_flat: bool = False
    """Stop before the budget ends when the held-out images score no better any more; so it is too without a budget."""
    begin: str | Path | None = None
    """A model, or a file of weights, to begin with (--from)."""
    folds: int | None = None
    """Cross-validation: so many trainings, each holding out another part; their mean predicts."""
    no_flip: Sequence[str] = ()
    """Axes that carry meaning: x, y, z."""
    network: Own | None = None
    """A network of your own in place of the recipe's: a module, its class, or "my_nets.py:MyNet", whose code is run."""


def data_settings(fields: DataSettings | Mapping[str, Any] | None) -> DataSettings:
    """`DataSettings` from its fields by name, where None is the default. Raises UsageError for what they cannot be.

    >>> data_settings({"kind": "classes", "ignore": 255}).ignore
    255
    """
    if isinstance(fields, DataSettings):
        return fields
    try:
        return DataSettings(**{k: v for k, v in (fields or {}).items() if v is not None})
    except ValidationError as error:
        raise UsageError(explain(error)) from error


def resolve_recipe(options: TrainOptions) -> Recipe:
    """The recipe with all flags and settings applied and a budget. Raises UsageError for contradictions."""
    labels = options.data.get("kind")
    if labels not in (None, *LABEL_KINDS):
        raise UsageError(f"--labels {labels}: no such kind", fix=f"one of {', '.join(LABEL_KINDS)}, or leave it out")
    recipe = options.recipe if isinstance(options.recipe, Recipe) else recipes.get(options.recipe)
    if options.minutes is not None and options.steps is not None:
        raise UsageError("--minutes and --steps exclude each other", fix="give one of them")
    if options.network is not None and recipe.network.name in DETECTORS:
        raise UsageError(f"a network of your own learns classes or objects pixel by pixel, and {recipe.name} is for detectors",
                         fix="leave --recipe out, or --network")
    if options.network is not None:
        recipe = recipe.model_copy(update={"network": NetworkSettings(name=register_own(own_network(options.network)))})
    recipe = recipe.with_settings(options.settings)
    content = recipe.model_dump()
    if options.minutes is not None or options.steps is not None:
        content["training"] |= {"minutes": options.minutes, "steps": options.steps}
    if options.until_flat:
        content["training"]["until_flat"] = True
    if options.no_flip:
        content["augmentation"] |= without_flips(recipe, options.no_flip)
    if options.seed is not None:
        content["training"]["seed"] = options.seed
    content["data"] |= {k: v for k, v in options.data.items() if v is not None}
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UsageError(explain(error)) from error


def without_flips(recipe: Recipe, axes: Sequence[str]) -> dict[str, Any]:
    """Settings of the augmentation where axes carry meaning: never mirrored, and turned by a few degrees only, since half a
    turn is a mirror image of both axes. Raises UsageError for unknown axes."""
    strange = [a for a in axes if a not in ("z", "y", "x")]
    if strange:
        raise UsageError(f"--no-flip {','.join(strange)}: no such axis", fix="--no-flip x, y, z or several: x,y")
    found: dict[str, Any] = {"flip": tuple(a for a in recipe.augmentation.flip if a not in axes)}
    if {"x", "y"} & set(axes):
        found |= {"rotate90": False, "rotate": min(SLIGHT_TURN, recipe.augmentation.rotate)}
    return found
