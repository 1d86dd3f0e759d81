"""The verbs: what the command line does, as functions with typed results."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

import biomask
from biomask import recipes
from biomask.checkpoint import MODEL_FILE, Model, ModelHeader, build_network, load_model, save_model
from biomask.data.dataset import TRAINED, Dataset, open_dataset
from biomask.data.fingerprint import choose_patch, complete_network
from biomask.data.splits import hold_out
from biomask.device import choose_device, describe_device
from biomask.errors import LabelsError, ManyErrors, UsageError
from biomask.evaluation.evaluate import judge
from biomask.io.files import require_writable, write_text
from biomask.labels import LABEL_KINDS
from biomask.models.blocks import parameter_count
from biomask.prediction.overlap_tile import geometry_of
from biomask.prediction.predict import PredictOptions, PredictResult
from biomask.prediction.predict import predict as _predict
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings, NetworkSettings, Recipe, explain
from biomask.training.distributed import World, joined, local_device
from biomask.training.loop import Trainer, use_bfloat16
from biomask.training.resume import State
from biomask.training.validation import Score
from biomask.transforms import normalization_of

if TYPE_CHECKING:
    from biomask.checking import Checked
    from biomask.exports.convert import Converted

#: Fewer steps than this hardly train any network.
FEW_STEPS = 100

#: Minutes of training when no budget is given.
DEFAULT_MINUTES = 10.0

__all__ = ["PredictOptions", "PredictResult", "TrainOptions", "TrainResult", "build", "check", "convert", "evaluate", "load",
           "predict", "train"]


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


@dataclass(frozen=True)
class TrainResult:
    """What a training gave."""

    model: Path
    """The model folder."""
    step: int
    seconds: float
    """Training time in all runs, validation included."""
    validation_dice: float | None
    """Mean over all classes on the held-out images, of the weights kept; it chose them, so it flatters a little."""
    stopped_by: str | None
    """The signal that stopped it; None when the budget was used up."""


def build(name: str, *, in_channels: int, classes: int, spatial_dims: int = 2, **options: Any) -> nn.Module:
    """An untrained network by the name of a recipe or of an entry of `biomask.models.MODELS`.

    options: arguments of the network's constructor, over those of the recipe. Raises UsageError for unknown names.

    >>> build("unet", in_channels=1, classes=2, width=4, depth=1).halo
    (8, 8)
    """
    recipe = recipes.get(name) if name in recipes.names() else Recipe(name=name, network=NetworkSettings(name=name))
    network = recipe.network.model_copy(update={"options": {**recipe.network.options, **options}})
    recipe = _completed(recipe.model_copy(update={"network": network}), spatial_dims)
    return build_network(recipe, in_channels=in_channels, classes=classes, spatial_dims=spatial_dims)


def load(path: str | Path) -> nn.Module:
    """The trained network in a model folder or file, in eval mode on the CPU. `biomask.checkpoint.load_model` gives its
    normalisation and legend too."""
    return load_model(path).network


def predict(model: str | Path | Model, images: str | Path, out: str | Path, options: PredictOptions | None = None, *,
            progress: Progress | None = None) -> PredictResult:
    """Predict a file or folder of images into `out`: masks/, outlines/, probabilities/ on request, run.json, report.html.

    Raises ManyErrors, after all good images are done, listing the others.
    """
    if not isinstance(model, Model) and (Path(images) / MODEL_FILE).is_file() and not (Path(model) / MODEL_FILE).is_file():
        raise UsageError(f"{images} is the model, {model} is not", fix="biomask predict MODEL IMAGES -o OUT")
    opened = model if isinstance(model, Model) else load_model(model)
    from biomask.reports.write import write_prediction_report

    try:
        result = _predict(opened, images, out, options, progress=progress)
    except ManyErrors:
        write_prediction_report(opened, Path(out))
        raise
    write_prediction_report(opened, Path(out))
    return result


def convert(labels: str | Path, out: str | Path, to: str, settings: Mapping[str, Any] | None = None, *,
            masks: str | Path | None = None, images: str | Path | None = None, overwrite: bool = False,
            progress: Progress | None = None) -> Converted:
    """Labels of any form for another program; see `biomask.exports.convert.convert`.

    settings: fields of `biomask.recipe.DataSettings`.
    """
    from biomask.exports.convert import convert as _convert

    return _convert(labels, out, to, data_settings(settings), masks=masks, images=images, overwrite=overwrite, progress=progress)


def data_settings(fields: Mapping[str, Any] | None) -> DataSettings:
    """`DataSettings` from fields, None for the default. Raises UsageError for what they cannot be."""
    try:
        return DataSettings(**{k: v for k, v in (fields or {}).items() if v is not None})
    except ValidationError as error:
        raise UsageError(explain(error)) from error


def check(data: str | Path, settings: Mapping[str, Any] | None = None, *, masks: str | Path | None = None,
          report: str | Path | None = None, progress: Progress | None = None) -> Checked:
    """What is in a data folder and what is wrong with it; see `biomask.checking.check.check`.

    settings: fields of `biomask.recipe.DataSettings`. report: also write the contact sheet, an HTML page, to this file.
    """
    from biomask.checking import check as _check

    wanted = data_settings(settings)
    if report is not None:
        _check_report(Path(report), Path(data))
    checked = _check(data, wanted, masks=masks, progress=progress)
    if report is not None:
        from biomask.reports.write import write_check_report

        write_check_report(Path(report), checked)
    return checked


def _check_report(report: Path, data: Path) -> None:
    """Refuse a report among the data, before any work is done."""
    if data.is_dir() and data.resolve() in report.resolve().parents:
        raise UsageError(f"--report {report} lies in the data folder",
                         fix="--report FILE elsewhere: nothing is written beside inputs")
    require_writable(report.parent)


def evaluate(predictions: str | Path, truth: str | Path, *, settings: DataSettings | None = None, masks: str | Path | None = None,
             report: str | Path | None = None, seed: int = 0, progress: Progress | None = None) -> dict[str, Any]:
    """Scores of predicted masks against true ones as a JSON-ready dict; see `biomask.evaluation.evaluate.judge`.

    settings: how the truth is read, as in training. masks: where the labels are in it, as in training. report: also write
    an HTML report to this file.
    """
    judged = judge(predictions, truth, settings=settings, seed=seed, progress=progress, masks=masks)
    if report is not None:
        from biomask.reports.write import write_evaluation_report

        write_evaluation_report(Path(report), judged)
    return judged.scores


def train(data: str | Path, out: str | Path, options: TrainOptions | None = None, *,
          progress: Progress | None = None) -> TrainResult:
    """Train on a data folder into the model folder `out`; run again, it resumes.

    Under `torchrun` all processes train as one. Raises InputError for data, settings or an `out` that cannot work.
    """
    options, out = options or TrainOptions(), Path(out)
    device = local_device(choose_device(options.device))
    _check_place(out, Path(data))
    with joined(device) as world:
        progress = progress if progress is not None and world.leads else Silent()
        recipe = resolve_recipe(options)
        dataset = open_dataset(data, recipe.data, normalization_of(recipe.normalization), masks=options.masks, progress=progress)
        recipe = recipe.model_copy(update={"data": dataset.settings})
        if options.overwrite and world.leads:
            _forget(out)
        world.total(torch.zeros(1, device=device))  # nobody reads the state before it is forgotten
        recipe = _completed(recipe, len(dataset.facts.axes) - 1)
        trainer = _trainer(dataset, out, recipe, device, world, progress)
        state, stopped = trainer.run()
    if world.leads:
        _write_record(out, data, recipe, device, state, stopped)
        from biomask.reports.write import write_training_report

        write_training_report(out, dataset, trainer.validation, device)
    if recipe.training.minutes is not None and state.step < FEW_STEPS and not stopped:
        progress.warn(f"only {state.step} steps in {recipe.training.minutes:g} minutes: this model is hardly trained; "
                      f"run again with, for example, --minutes {max(10, round(10 * recipe.training.minutes))}")
    dice = Score(tuple(state.best_dice)).selection if state.best_step is not None else None
    return TrainResult(out, state.step, state.seconds, dice, stopped)


def _completed(recipe: Recipe, spatial_dims: int) -> Recipe:
    """The recipe with the network options that the data decide."""
    options = complete_network(recipe.network.name, recipe.network.options, spatial_dims)
    return recipe.model_copy(update={"network": recipe.network.model_copy(update={"options": options})})


def resolve_recipe(options: TrainOptions) -> Recipe:
    """The recipe with all flags and settings applied and a budget. Raises UsageError for contradictions."""
    labels = options.data.get("kind")
    if labels not in (None, *TRAINED):
        known = labels in LABEL_KINDS
        raise (LabelsError if known else UsageError)(
            f"--labels {labels}: " + ("only classes are trained yet" if known else "no such kind"),
            fix="--labels classes, or leave it out")
    recipe = options.recipe if isinstance(options.recipe, Recipe) else recipes.get(options.recipe)
    if options.minutes is not None and options.steps is not None:
        raise UsageError("--minutes and --steps exclude each other", fix="give one of them")
    recipe = recipe.with_settings(options.settings)
    content = recipe.model_dump()
    if options.minutes is not None or options.steps is not None:
        content["training"] |= {"minutes": options.minutes, "steps": options.steps}
    elif recipe.training.minutes is None and recipe.training.steps is None:
        content["training"]["minutes"] = DEFAULT_MINUTES
    if options.seed is not None:
        content["training"]["seed"] = options.seed
    content["data"] |= {k: v for k, v in options.data.items() if v is not None}
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UsageError(explain(error)) from error


def _check_place(out: Path, data: Path) -> None:
    """Refuse a model folder among the data, or where nothing can be written, before any work is done."""
    if data.resolve() in (out.resolve(), *out.resolve().parents) and data.exists():
        raise UsageError(f"-o {out} lies in the data folder", fix="give another folder: nothing is written beside inputs")
    mine = (out / MODEL_FILE).exists() or (out / "resume").exists()
    strange = [name for name in ("run.json", "log.csv", "report.html") if (out / name).exists() and not mine]
    if strange:
        raise UsageError(f"-o {out} holds {', '.join(strange)} but no model: they would be overwritten", fix="give another folder")
    require_writable(out)


def _forget(out: Path) -> None:
    """Remove an earlier training's files, and nothing else."""
    for path in [out / MODEL_FILE, *(out / name for name in ("run.json", "log.csv", "report.html", "resume/state.safetensors"))]:
        path.unlink(missing_ok=True)


def _trainer(dataset: Dataset, out: Path, recipe: Recipe, device: torch.device, world: World, progress: Progress) -> Trainer:
    """Everything that the loop needs, with each choice said aloud."""
    facts, settings = dataset.facts, recipe.training
    spatial_dims = len(facts.axes) - 1
    weights = recipe.loss.class_weights
    if weights is not None and len(weights) != len(dataset.legend):
        raise UsageError(f"loss.class_weights={list(weights)} gives {len(weights)} weights for {len(dataset.legend)} classes",
                         fix=f"one for each of the values {list(dataset.legend.values)}")
    torch.manual_seed(settings.seed)
    network = build_network(recipe, in_channels=facts.channels, classes=len(dataset.legend), spatial_dims=spatial_dims)
    geometry = choose_patch(facts.sizes, geometry_of(network), settings.patch)
    fit, held, why = _held_out(dataset, recipe)
    if facts.groups_reason:
        progress.say(f"groups that are never split: {facts.groups_reason}")
    progress.say(f"device: {describe_device(device)}" + (f" x {world.size} processes" if world.size > 1 else "")
                 + (", convolutions in bfloat16" if use_bfloat16(settings.precision, device, geometry.target) else ""))
    progress.say(f"data: {len(dataset)} images, {facts.channels} channel(s), {spatial_dims}D, {facts.dtype}; labels: "
                 f"{facts.kind} ({facts.kind_reason})")
    progress.say(f"held out to choose the best weights: {why}")
    progress.say(f"network: {recipe.network.name}, {parameter_count(network):,} parameters; patches of "
                 f"{' x '.join(str(t) for t in geometry.target)}, {settings.batch} a step; budget: "
                 + (f"{settings.steps} steps" if settings.steps else f"{settings.minutes:g} minutes"))
    header = ModelHeader(recipe=recipe, in_channels=facts.channels, spatial_dims=spatial_dims, kind=facts.kind,
                         legend=dataset.legend.to_json(), spacing=facts.spacing, channel_names=facts.channel_names,
                         dtype=facts.dtype, data_hashes=facts.hashes)

    def publish(weights: dict[str, Tensor], state: State) -> None:
        save_model(out / MODEL_FILE, weights, header.model_copy(update=_outcome(state, dataset)))
        write_text(out / "log.csv", _log(state))

    return Trainer(network, recipe, dataset.subset(fit), dataset.subset(held) if held else None, geometry, device, world,
                   out / "resume", _identity(recipe, dataset), publish, progress)


def _held_out(dataset: Dataset, recipe: Recipe) -> tuple[list[int], list[int], str]:
    """(training indices, validation indices, why): the part that the data call validation, or else a share."""
    validation = [i for i, p in enumerate(dataset.pairs) if p.part == "validation"]
    if validation and len(validation) < len(dataset):
        training = [i for i in range(len(dataset)) if i not in set(validation)]
        return training, validation, f"the {len(validation)} of the validation part"
    return hold_out([p.name for p in dataset.pairs], recipe.data.validation_share, recipe.training.seed, dataset.facts.groups)


def _outcome(state: State, dataset: Dataset) -> dict[str, Any]:
    """What the header says of the weights."""
    if state.best_step is None:
        return {"step": state.step, "scores": {}}
    scores: dict[str, float | None] = {"validation.dice": Score(tuple(state.best_dice)).selection}
    scores |= {f"validation.dice.{e.name}": d for e, d in zip(dataset.legend, state.best_dice, strict=True)}
    return {"step": state.best_step, "scores": scores}


def _identity(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """What must be the same for a resumed training: all but the budget."""
    content = recipe.model_dump(mode="json", exclude={"prediction", "title", "source", "choices"})
    for key in ("steps", "minutes", "validations"):
        content["training"].pop(key)
    digest = hashlib.sha256(json.dumps(dataset.facts.hashes, sort_keys=True).encode()).hexdigest()
    flat = {f"{section}.{key}": value for section, values in content.items() if isinstance(values, dict)
            for key, value in values.items()}
    return {"recipe": content["name"], **flat, "data": digest}


def _log(state: State) -> str:
    """log.csv: one row a log or validation point; empty where nothing was measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "seconds", "lr", "loss", "validation_dice"])
    for row in state.history:
        writer.writerow([row.step, row.seconds, row.lr, "" if row.loss is None else row.loss,
                         "" if row.validation_dice is None else row.validation_dice])
    return text.getvalue()


def _write_record(out: Path, data: str | Path, recipe: Recipe, device: torch.device, state: State,
                  stopped: str | None) -> None:
    record = {"command": "train", "data": str(data), "biomask_version": biomask.__version__,
              "torch_version": torch.__version__, "device": str(device), "step": state.step,
              "best_step": state.best_step, "seconds": round(state.seconds, 1), "finished": bool(state.finished),
              "stopped_by": stopped, "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "recipe": recipe.model_dump(mode="json")}
    write_text(out / "run.json", json.dumps(record, indent=2, ensure_ascii=False))
