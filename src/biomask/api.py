"""The verbs: what the command line does, as functions with typed results."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

import biomask
from biomask import recipes
from biomask.checkpoint import MODEL_FILE, Model, build_network, load_model
from biomask.data.dataset import open_dataset
from biomask.data.task import Task
from biomask.device import choose_device
from biomask.errors import ManyErrors, UsageError
from biomask.evaluation.evaluate import judge
from biomask.io.files import require_writable, write_text
from biomask.labels import LABEL_KINDS
from biomask.prediction.predict import PredictOptions, PredictResult
from biomask.prediction.predict import predict as _predict
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings, NetworkSettings, Recipe, explain
from biomask.training.begin import begin_recipe, read_begin
from biomask.training.distributed import joined, local_device
from biomask.training.folds import train_folds
from biomask.training.lock import locked
from biomask.training.resume import State
from biomask.training.setup import PLAN_FILE, Place, make_trainer
from biomask.training.validation import score_name
from biomask.transforms import normalization_of

if TYPE_CHECKING:
    from biomask.checking import Checked
    from biomask.exports.convert import Converted

#: Fewer steps than this hardly train any network.
FEW_STEPS = 100

#: Of a network of recipe `default` that no data decide on.
USUAL_SIZES: Mapping[int, Mapping[str, Any]] = {2: {"width": 32, "depth": 4}, 3: {"width": 32, "depth": 2}}

#: Degrees of rotation that leave an axis its meaning.
SLIGHT_TURN = 15.0

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
    until_flat: bool = False
    """Stop before the budget ends when the held-out images score no better any more; so it is too without a budget."""
    begin: str | Path | None = None
    """A model, or a file of weights, to begin with (--from)."""
    folds: int | None = None
    """Cross-validation: so many trainings, each holding out another part; their mean predicts."""
    no_flip: Sequence[str] = ()
    """Axes that carry meaning: x, y, z."""


@dataclass(frozen=True)
class TrainResult:
    """What a training gave."""

    model: Path
    """The model folder."""
    step: int
    seconds: float
    """Training time in all runs, validation included."""
    validation_score: float | None
    """On the held-out images, of the weights kept: mean Dice, of objects average precision (`biomask.training.validation.Score`);
    over folds their mean. It chose the weights, so it flatters a little."""
    stopped_by: str | None
    """The signal that stopped it; None when the budget was used up."""
    score_is: str = "score"
    """What the score is, for people."""
    score_before: float | None = None
    """Of the weights that it began with, on the same images."""


def build(name: str, *, in_channels: int, classes: int, spatial_dims: int = 2, **options: Any) -> nn.Module:
    """An untrained network by the name of a recipe or of an entry of `biomask.models.MODELS`.

    options: arguments of the network's constructor, over those of the recipe. Raises UsageError for unknown names.

    >>> build("unet", in_channels=1, classes=2, width=4, depth=1).halo
    (8, 8)
    """
    recipe = recipes.get(name) if name in recipes.names() else Recipe(name=name, network=NetworkSettings(name=name))
    usual = USUAL_SIZES[spatial_dims] if name == "default" else {}
    network = recipe.network.model_copy(update={"options": {**usual, **recipe.network.options, **options}})
    recipe = recipe.model_copy(update={"network": network})
    return build_network(recipe, in_channels=in_channels, channels=classes, spatial_dims=spatial_dims)


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

    Under `torchrun` all processes train as one. Raises InputError for data, settings or an `out` that cannot work, and
    where nothing was learnt.
    """
    options, out = options or TrainOptions(), Path(out)
    device = local_device(choose_device(options.device))
    _check_place(out, Path(data))
    with joined(device) as world, locked(out / "resume") if world.leads else nullcontext():
        progress = progress if progress is not None and world.leads else Silent()
        begin = read_begin(options.begin) if options.begin is not None else None
        recipe = begin_recipe(resolve_recipe(options), begin, tuple(options.settings))
        dataset = open_dataset(data, recipe.data, normalization_of(recipe.normalization), masks=options.masks, progress=progress)
        recipe = recipe.model_copy(update={"data": dataset.settings})
        if options.overwrite and world.leads:
            _forget(out)
        world.total(torch.zeros(1, device=device))  # nobody reads the state before it is forgotten
        place = Place(out, device, world, progress)
        if options.folds is not None:
            results, stopped = train_folds(dataset, recipe, place, options.folds, begin)
            states, validation = [r.state for r in results], None
        else:
            trainer = make_trainer(dataset, recipe, place, begin=begin)
            state, stopped = trainer.run()
            states, validation, recipe = [state], trainer.validation, trainer.recipe
    if world.leads and (out / MODEL_FILE).is_file():
        from biomask.reports.write import read_choices, write_training_report

        _write_record(out, data, recipe, device, states, stopped, read_choices(out))

        write_training_report(out, dataset, validation, device)
    return _result(out, states, recipe, stopped, score_name(Task.of(dataset.facts.kind, dataset.legend)), progress)


def _result(out: Path, states: Sequence[State], recipe: Recipe, stopped: str | None, what: str, progress: Progress) -> TrainResult:
    last = states[-1]
    minutes, step = recipe.training.minutes, max(s.step for s in states)
    if minutes is not None and step < FEW_STEPS and not stopped:
        progress.warn(f"only {step} steps in {minutes:g} minutes: this model is hardly trained; "
                      f"run again with, for example, --minutes {max(10, round(10 * minutes))}")
    scores = [s.best_score for s in states if s.best_step is not None]
    before = last.before.get("value")
    if before is not None and last.best_step == 0 and not stopped:
        progress.warn("training did not improve the score on the images held out: the weights that it began with are kept")
    return TrainResult(out, step, sum(s.seconds for s in states), float(np.mean(scores)) if scores else None, stopped, what, before)


def resolve_recipe(options: TrainOptions) -> Recipe:
    """The recipe with all flags and settings applied and a budget. Raises UsageError for contradictions."""
    labels = options.data.get("kind")
    if labels not in (None, *LABEL_KINDS):
        raise UsageError(f"--labels {labels}: no such kind", fix=f"one of {', '.join(LABEL_KINDS)}, or leave it out")
    recipe = options.recipe if isinstance(options.recipe, Recipe) else recipes.get(options.recipe)
    if options.minutes is not None and options.steps is not None:
        raise UsageError("--minutes and --steps exclude each other", fix="give one of them")
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


def _check_place(out: Path, data: Path) -> None:
    """Refuse a model folder among the data, or where nothing can be written, before any work is done."""
    if data.resolve() in (out.resolve(), *out.resolve().parents) and data.exists():
        raise UsageError(f"-o {out} lies in the data folder", fix="give another folder: nothing is written beside inputs")
    mine = any((out / name).exists() for name in (MODEL_FILE, "resume", "folds"))
    strange = [name for name in ("run.json", "log.csv", "report.html") if (out / name).exists() and not mine]
    if strange:
        raise UsageError(f"-o {out} holds {', '.join(strange)} but no model: they would be overwritten", fix="give another folder")
    require_writable(out)


def _forget(out: Path) -> None:
    """Remove an earlier training's files, and nothing else."""
    folders = [out, *(p for p in (out / "folds").glob("*") if p.name.isdecimal())]
    for folder in folders:
        for name in (MODEL_FILE, "run.json", "log.csv", "report.html", "resume/state.safetensors", f"resume/{PLAN_FILE}"):
            (folder / name).unlink(missing_ok=True)


def _write_record(out: Path, data: str | Path, recipe: Recipe, device: torch.device, states: Sequence[State],
                  stopped: str | None, choices: Sequence[str]) -> None:
    state = states[-1]
    record = {"command": "train", "data": str(data), "biomask_version": biomask.__version__,
              "torch_version": torch.__version__, "device": str(device), "step": state.step,
              "best_step": state.best_step, "seconds": round(sum(s.seconds for s in states), 1),
              "folds": len(states) if len(states) > 1 else None, "finished": bool(state.finished),
              "stopped_by": stopped, "choices": list(choices),
              "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "recipe": recipe.model_dump(mode="json")}
    write_text(out / "run.json", json.dumps(record, indent=2, ensure_ascii=False))
