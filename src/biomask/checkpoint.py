"""The model file: the one hand-over from training to everything after it.

A safetensors file: tensors, and one JSON header that says how they were made and how to use them. No pickle is ever
read, and the header is checked and the network built without memory before a single tensor is loaded, so opening a
stranger's model is safe.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from torch import Tensor, nn

import biomask
from biomask.data.input_range import InputRange
from biomask.data.task import CUT, SCORE, Task
from biomask.errors import BiomaskError, MissingPathError, ModelFileError, SizeError, UsageError
from biomask.instances import Thresholds
from biomask.io.tensors import save_tensors
from biomask.labels import LabelKind, Legend
from biomask.models import DETECTORS, MODELS
from biomask.models.ensemble import Ensemble
from biomask.models.head_score import HeadScore
from biomask.models.own import is_own, register_own
from biomask.models.unet_plus_plus import UNetPlusPlus
from biomask.recipe import Recipe, explain
from biomask.transforms import Normalization, normalization_of

SCHEMA_VERSION = 1
MODEL_FILE = "model.safetensors"

#: Of weights and counters, in safetensors' names.
DTYPES = {"F64", "F32", "F16", "BF16", "I64"}

#: Options of a detector of which null is a value: images keep their size, no limit, those of ImageNet.
NULLS = ("short_side", "long_side", "mean", "std")

#: More parameters than this in a header are taken for an attack or an accident.
MOST_PARAMETERS = 2_000_000_000


class Keypoints(BaseModel):
    """What the keypoints of a detector are called, as `biomask.data.keypoints.KeypointNames` has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()
    swaps: tuple[tuple[int, int], ...] = ()


class ModelHeader(BaseModel):
    """Everything but the tensors."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = SCHEMA_VERSION
    biomask_version: str = biomask.__version__
    recipe: Recipe
    in_channels: int = Field(ge=1, le=MOST_PARAMETERS)
    spatial_dims: Literal[2, 3]
    kind: LabelKind
    legend: list[dict[str, Any]]
    """As `Legend.to_json` gives it."""
    spacing: dict[str, float] | None = None
    """µm per pixel of the training images."""
    channel_names: tuple[str, ...] = ()
    dtype: str = ""
    """Of the training images."""
    thresholds: dict[str, float] = {}
    """Tuned on validation, by name; empty = largest probability wins."""
    scores: dict[str, float | None] = {}
    """On the held-out images; `validation.score` chose the weights and flatters them a little."""
    scored: int = 0
    """How many held-out images "validation.score" and its parts are over; 0 = not known."""
    step: int = 0
    """Optimisation steps behind these weights."""
    members: int = Field(1, ge=1, le=100)
    """Networks of which the model is the mean (cross-validation)."""
    data_hashes: dict[str, str] = {}
    """SHA-256 of every training file."""
    inputs: InputRange | None = None
    """What the training images were like, the held-out ones included; None in models of before."""
    shares: dict[str, float] = {}
    """Of the training's known pixels, by class name; structures may overlap. Empty in models of before."""
    heads: tuple[HeadScore, ...] = ()
    """Of UNet++ with deep supervision: what each depth is worth and costs."""
    keypoints: Keypoints | None = None
    """Of detectors that find keypoints."""

    @property
    def task(self) -> Task:
        """What the network's channels mean."""
        return Task.of(self.kind, Legend.from_json(self.legend), self.recipe.instances.target)

    @property
    def is_detector(self) -> bool:
        """Whether the network finds objects one by one, with a box and a score each."""
        return self.recipe.network.name in DETECTORS

    @model_validator(mode="after")
    def _fits_a_detector(self) -> ModelHeader:
        score = self.thresholds.get(SCORE, 0.0)
        if self.is_detector and not (self.kind == "instances" and self.members == 1 and 0 <= score <= 1):
            raise ValueError("a detector finds instances by one network and a score from 0 to 1, "
                             f"not {self.kind} by {self.members} and {score}")
        return self

    @field_validator("legend")
    @classmethod
    def _is_a_legend(cls, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            return Legend.from_json(entries).to_json()
        except (BiomaskError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"is no legend ({error})") from error


@dataclass(frozen=True)
class Model:
    """A trained network with all that prediction needs."""

    network: nn.Module
    """In eval mode, float32; on the CPU until it is moved."""
    header: ModelHeader
    path: Path

    @property
    def legend(self) -> Legend:
        """Class value ↔ name ↔ colour."""
        return Legend.from_json(self.header.legend)

    @property
    def task(self) -> Task:
        """What the network's channels mean."""
        return self.header.task

    @property
    def is_detector(self) -> bool:
        """Whether the network finds objects one by one, with a box and a score each."""
        return self.header.is_detector

    @property
    def thresholds(self) -> Thresholds:
        """Of objects: as tuned, or the defaults."""
        return Thresholds.from_dict({k: v for k, v in self.header.thresholds.items() if k not in (CUT, SCORE) and "." not in k})

    @property
    def cut(self) -> float:
        """Of two classes, the probability of the second above which a pixel is of it."""
        return min(max(self.header.thresholds.get(CUT, 0.5), 1e-6), 1 - 1e-6)

    @property
    def normalization(self) -> Normalization:
        """The very object that training used."""
        return normalization_of(self.header.recipe.normalization)


def build_network(recipe: Recipe, *, in_channels: int, channels: int, spatial_dims: int) -> nn.Module:
    """The network that a recipe names, with so many channels out. Raises UsageError for unknown names or options."""
    return construct(recipe.network.name, recipe.network.options, in_channels, channels, spatial_dims)


def network_of(recipe: Recipe, task: Task, *, in_channels: int, spatial_dims: int) -> nn.Module:
    """The network that a recipe names, for what is to be learnt. Raises as `build_network`."""
    if recipe.network.name in DETECTORS:
        return build_network(recipe, in_channels=in_channels, channels=task.entries, spatial_dims=spatial_dims)
    network = build_network(recipe, in_channels=in_channels, channels=task.channels, spatial_dims=spatial_dims)
    if isinstance(network, UNetPlusPlus) and "average" not in recipe.network.options:
        network.average = task.softmax  # the mean of probabilities, as in the paper, whatever kind these are
    return network


def construct(name: str, given: Mapping[str, Any], in_channels: int, channels: int, spatial_dims: int) -> nn.Module:
    """A network by its name in `MODELS` or `DETECTORS` and its options. channels: that come out; of a detector its classes with
    background. Raises UsageError for unknown names or options."""
    options = dict(given)
    if name not in MODELS and name not in DETECTORS and is_own(name):
        raise UsageError(f"the network is of somebody's own code, {name}, and no code is run unasked",
                         fix="--network FILE.py:NAME; in Python, load_model(path, model=…)")
    options = _settled(options) if name in DETECTORS else options
    known: dict[str, Callable[..., nn.Module]] = {**MODELS, **DETECTORS}
    if name not in known:
        raise UsageError(f"no network is called {name!r}", fix=f"there are {', '.join(known)}")
    try:
        return known[name](in_channels, channels, spatial_dims=spatial_dims, **options)
    except UsageError:
        raise
    except SizeError as error:
        raise UsageError(f"network {name!r}: {error.what}", fix=error.fix) from error
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        raise UsageError(f"network {name!r} with {options}: {error}", fix="see the arguments of its constructor") from error


def _settled(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a detector without those that a recipe leaves open, by null, for the constructor to take its defaults."""
    limits = options.get("limits")
    settled = {k: v for k, v in options.items() if v is not None or k in NULLS}
    if isinstance(limits, Mapping):
        settled["limits"] = {k: v for k, v in limits.items() if v is not None}
    return settled


def save_model(path: Path, tensors: Mapping[str, Tensor], header: ModelHeader) -> None:
    """Write a model file, whole or not at all."""
    save_tensors(path, tensors, {"biomask": header.model_dump_json()})


def load_model(path: str | Path, *, model: nn.Module | Callable[..., nn.Module] | None = None) -> Model:
    """Open a model folder or a bare model file.

    model: for one that was trained with a module of your own: that module, untrained, or its class. Its code is run, so only code
    that you give is.

    Raises MissingPathError, or ModelFileError for what is no biomask model, is damaged, or comes from a newer version.
    """
    from safetensors import SafetensorError, safe_open

    if model is not None:
        register_own(model)
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise MissingPathError("no trained model here", where=path,
                               fix=f"give the folder that 'biomask train' wrote, or its {MODEL_FILE}")
    try:
        with safe_open(file, framework="pt") as opened:
            header = _header((opened.metadata() or {}).get("biomask"), file)
            slices = {k: opened.get_slice(k) for k in opened.keys()}  # noqa: SIM118  not a dict
            strange = sorted({s.get_dtype() for s in slices.values()} - DTYPES)
            if strange:
                raise ModelFileError(f"holds tensors of dtype {', '.join(strange)}, which are no weights", where=file)
            network = _empty_network(header, {k: tuple(s.get_shape()) for k, s in slices.items()}, file)
            network.load_state_dict({k: opened.get_tensor(k).clone() for k in slices}, assign=True)
    except BiomaskError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise ModelFileError(f"cannot be opened as a model ({error})", where=file) from error
    return Model(network.float().eval(), header, file)


def _header(text: str | None, file: Path) -> ModelHeader:
    if text is None:
        raise ModelFileError("is a safetensors file but holds no biomask header", where=file,
                             fix="give a model that 'biomask train' wrote")
    try:
        content = json.loads(text)
        version = content.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise ModelFileError(f"was written by biomask {content.get('biomask_version')}, this is {biomask.__version__}",
                                 where=file, fix="update biomask")
        return ModelHeader.model_validate(content)
    except ValidationError as error:
        raise ModelFileError(f"has a header that does not fit ({explain(error)})", where=file) from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"has a header that is not JSON ({error})", where=file) from error


def _empty_network(header: ModelHeader, shapes: Mapping[str, tuple[int, ...]], file: Path) -> nn.Module:
    """The network without memory, after its tensors' names and shapes were found to be the file's."""
    if sum(torch.Size(s).numel() for s in shapes.values()) > MOST_PARAMETERS:
        raise ModelFileError(f"holds more than {MOST_PARAMETERS:,} parameters", where=file)
    try:
        # Of the user's own modules, which may hold tensors that are in no file, memory is taken.
        with nullcontext() if is_own(header.recipe.network.name) else torch.device("meta"):
            members = [network_of(header.recipe, header.task, in_channels=header.in_channels, spatial_dims=header.spatial_dims)
                       for _ in range(header.members)]
            network = Ensemble(members) if header.members > 1 else members[0]
    except BiomaskError as error:
        raise ModelFileError(f"needs something that is not here: {error.what}", where=file, fix=error.fix) from error
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    if expected != dict(shapes):
        strange = sorted(set(expected.items()) ^ set(shapes.items()))[:3]
        raise ModelFileError(f"its tensors do not fit network {header.recipe.network.name!r}, e.g. {strange}", where=file)
    return network
