"""Weights to begin with: of a biomask model, or of a file of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from biomask.checkpoint import MODEL_FILE, load_model
from biomask.errors import MissingPathError, ModelFileError, UsageError
from biomask.models import DETECTORS
from biomask.models.ensemble import Ensemble
from biomask.models.weights import fitting, read_weights
from biomask.recipe import NetworkSettings, Recipe

#: Options that tell the stages of a network apart, each of which begins with the weights of the one before.
STAGES = {"fcn": ("stride",)}

#: Factor of the rate when training goes on from trained weights, unless a rate is given.
GENTLER = 0.3


@dataclass(frozen=True)
class Begin:
    """Weights to begin with."""

    tensors: dict[str, Tensor]
    name: str
    recipe: Recipe | None = None
    """Of a biomask model: how it was trained."""


def read_begin(path: str | Path) -> Begin:
    """A model folder, a model file, or tensors in a .safetensors, .pth or .pt file; nothing is unpickled but tensors.

    Raises MissingPathError, or ModelFileError for what holds no tensors.
    """
    path = Path(path)
    if not path.exists():
        raise MissingPathError("no such model or file of weights", where=path)
    if not path.is_dir() and not path.is_file():
        raise ModelFileError("is a device or pipe, not a file", where=path)
    file = path / MODEL_FILE if path.is_dir() else path
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file

        try:
            with safe_open(file, framework="pt") as opened:
                ours = "biomask" in (opened.metadata() or {})
            if not ours:
                return Begin(load_file(file), str(path))
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"cannot be read ({error})", where=file) from error
    if path.is_dir() or file.suffix == ".safetensors":
        model = load_model(path)
        network = model.network.members[0] if isinstance(model.network, Ensemble) else model.network
        return Begin(dict(network.state_dict()), str(path), model.header.recipe)
    return Begin(read_weights(file), str(path))


def begin_recipe(recipe: Recipe, begin: Begin | None, settings: tuple[str, ...]) -> Recipe:
    """The recipe for going on from a model: its network and normalisation, and a gentler rate, unless they were set.

    Of a network that is trained in stages, the stage is the recipe's: `fcn-16s` goes on from a model of `fcn-32s`.
    """
    if begin is None:
        return recipe
    given = {s.partition("=")[0].strip() for s in settings}
    update: dict[str, Any] = {}
    detects = recipe.network.name in DETECTORS
    if begin.recipe is not None:
        if detects and begin.recipe.network.name not in DETECTORS:
            raise UsageError(f"{begin.name} is no detector but a {begin.recipe.network.name}, whose weights {recipe.name} does not "
                             "take", fix="give a detector's model, or torchvision's weights; or leave --recipe out")
        update["network"] = _next_stage(begin.recipe.network, recipe.network)
        update["normalization"] = begin.recipe.normalization
        if any(g.startswith(("network.", "normalization.")) for g in given):
            raise UsageError("--set network.… and normalization.… are those of the model that --from names", fix="leave them out")
    # A detector's recipe for weights from elsewhere has their rate.
    if "training.lr" not in given and not (detects and begin.recipe is None):
        update["training"] = recipe.training.model_copy(update={"lr": recipe.training.lr * GENTLER})
    return recipe.model_copy(update=update)


def _next_stage(trained: NetworkSettings, wanted: NetworkSettings) -> NetworkSettings:
    """The trained network, at the stage that is wanted where both are of one kind; most detections are chosen anew."""
    if trained.name in DETECTORS:
        limits: Any = trained.options.get("limits") or {}
        return trained.model_copy(update={"options": {**trained.options, "limits": {**limits, "detections": None}}})
    stage = {k: wanted.options[k] for k in STAGES.get(trained.name, ()) if trained.name == wanted.name and k in wanted.options}
    return trained.model_copy(update={"options": {**trained.options, **stage}})


def load_into(network: nn.Module, begin: Begin) -> tuple[str, ...]:
    """Load what fits; returns the names of tensors that do not and begin anew. Raises ModelFileError where nothing fits."""
    own = network.state_dict()
    fits = fitting(network, begin.tensors)
    weights = [k for k, v in own.items() if v.is_floating_point()]
    if not any(k in fits for k in weights):
        theirs = ", ".join(list(begin.tensors)[:3])
        raise ModelFileError(f"none of its {len(begin.tensors)} tensors fits the network ({theirs}, …; the network has "
                             f"{', '.join(list(own)[:3])}, …)", where=begin.name,
                             fix="choose the recipe whose network it was trained with (--recipe)")
    network.load_state_dict({**own, **fits})
    return tuple(sorted(k for k in weights if k not in fits))
