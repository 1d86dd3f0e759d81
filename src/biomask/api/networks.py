"""Networks by name, and the trained one of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from biomask import recipes
from biomask.checkpoint import build_network, load_model
from biomask.recipe import NetworkSettings, Recipe
from biomask.recipes.catalogue import ALIASES, USUAL_SIZES


def build(name: str, *, in_channels: int, classes: int, spatial_dims: int = 2, **options: Any) -> nn.Module:
    """An untrained network by the name of a recipe or of an entry of `biomask.models.MODELS`.

    options: arguments of the network's constructor, over those of the recipe. Raises UsageError for unknown names.

    >>> build("unet", in_channels=1, classes=2, width=4, depth=1).halo
    (8, 8)
    """
    recipe = recipes.get(name) if name in (*recipes.names(), *ALIASES) else Recipe(name=name, network=NetworkSettings(name=name))
    usual = USUAL_SIZES[spatial_dims] if name == "default" else {}
    network = recipe.network.model_copy(update={"options": {**usual, **recipe.network.options, **options}})
    recipe = recipe.model_copy(update={"network": network})
    return build_network(recipe, in_channels=in_channels, channels=classes, spatial_dims=spatial_dims)


def load(path: str | Path, *, model: nn.Module | Callable[..., nn.Module] | None = None) -> nn.Module:
    """The trained network in a model folder or file, in eval mode on the CPU: normalised images in, logits out.

    model: of one that was trained with a module of your own, that module, untrained, or its class: its code is in no file.

    `load_model` gives what lies around it too: normalisation, legend, thresholds, as `predict` and `predict_array` take it.
    """
    return load_model(path, model=model).network
