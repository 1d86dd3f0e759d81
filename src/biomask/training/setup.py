"""From a data set and a recipe to a trainer, with each choice said aloud."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import log, prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biomask.checkpoint import MODEL_FILE, ModelHeader, network_of, save_model
from biomask.data.dataset import Dataset
from biomask.data.draws import PatchGeometry
from biomask.data.fingerprint import Fingerprint, take_fingerprint
from biomask.data.patches import Sampling
from biomask.data.splits import hold_out
from biomask.data.task import Task
from biomask.device import describe_device
from biomask.errors import UsageError
from biomask.instances import Thresholds
from biomask.io.files import write_text
from biomask.models.blocks import parameter_count
from biomask.prediction.overlap_tile import geometry_of
from biomask.progress import Progress
from biomask.recipe import LossSettings, Recipe
from biomask.training.begin import Begin, load_into
from biomask.training.choices import balanced_weights
from biomask.training.distributed import World
from biomask.training.guard import why_nothing
from biomask.training.loop import Trainer
from biomask.training.plan import Budgeted, Plan, Wishes, make_plan, warnings_of
from biomask.training.resume import STATE_FILE, State
from biomask.training.speed import Machine, estimate, measure_step_seconds, step_cost
from biomask.transforms import normalization_of

PLAN_FILE = "plan.json"

#: Before thresholds are tuned, middles are smoothed over this share of the usual diameter, but within these pixels.
SMOOTHED, SMOOTHEST = 0.1, (0.5, 3.0)

#: Objects of fewer pixels than this share of the smallest in training are noise.
SMALLEST = 0.5

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


def planned(recipe: Recipe, dataset: Dataset, place: Place) -> tuple[Recipe, Fingerprint, Plan | None]:
    """The recipe with nothing open. What an earlier run of the same training chose is kept: (…, None) then."""
    fingerprint = take_fingerprint(dataset)
    wished = _wished(recipe, dataset)
    before = _read_plan(place.out / "resume" / PLAN_FILE, wished)
    budget = recipe.training
    if before is not None:
        update = {k: getattr(budget, k) for k in ("steps", "minutes", "validations", "until_flat", "patience")}
        return before.model_copy(update={"training": before.training.model_copy(update=update)}), fingerprint, None
    machine = Machine.here(place.device, place.world.size)
    task = Task.of(dataset.facts.kind, dataset.legend, recipe.instances.target)
    balanced = task.borders and recipe.instances.balance and recipe.loss.class_weights is None
    balance = balanced_weights(fingerprint.shares) if balanced else None
    plan = make_plan(fingerprint, machine, Budgeted(budget.steps, budget.minutes), _wishes(recipe, task, balance))
    complete, said = _filled(recipe, plan, dataset)
    if balance is not None:
        said.append("loss: pixels weigh by the inverse share of their class (" + ", ".join(
            f"{w:.3g} {name!r}" for name, w in zip(fingerprint.class_names, balance, strict=True)) + "), borders more")
    plan = replace(plan, sentences=(*plan.sentences, *said))
    # The plan of a training that is there stays: with other wishes this one is refused, and that one goes on.
    kept = all((place.out / "resume" / name).is_file() for name in (STATE_FILE, PLAN_FILE))
    if place.world.leads and not kept:
        write_text(place.out / "resume" / PLAN_FILE, json.dumps(
            {"wished": wished, "recipe": complete.model_dump(mode="json"), "sentences": list(plan.sentences)}, ensure_ascii=False))
    for warning in warnings_of(plan, machine):
        place.progress.warn(warning)
    return complete, fingerprint, plan


def _wishes(recipe: Recipe, task: Task, balance: tuple[float, ...] | None) -> Wishes:
    """What the recipe settles; balance: class weights where it gives none."""
    t, loss = recipe.training, recipe.loss
    return Wishes(recipe.normalization.method, t.patch, t.batch, oversample=t.oversample,
                  class_weights=balance if loss.class_weights is None else loss.class_weights, loss=_name_of(loss),
                  weighs_classes=loss.published is None and bool(loss.cross_entropy or loss.focal), flip=recipe.augmentation.flip,
                  rotate90=recipe.augmentation.rotate90, precision=t.precision,
                  network=recipe.network.name, options=recipe.network.options, outputs=task.channels)


def _name_of(loss: LossSettings) -> str:
    """Its parts, for people."""
    if loss.published is not None:
        return f"as published ({loss.published})"
    parts = (("cross-entropy", loss.cross_entropy), ("Dice", loss.dice), ("Tversky", loss.tversky), ("focal", loss.focal))
    return " and ".join(name for name, weight in parts if weight)


def choose_warp(passes: float) -> float:
    """Chance of a warp: 0.1 where each pixel is seen 30 times or fewer, 0.5 from 100 times on.

    A short training does not learn the images by heart, and has no time for what they do not hold.

    >>> choose_warp(10), round(choose_warp(55), 2), choose_warp(1000)
    (0.1, 0.3, 0.5)
    """
    return 0.1 + 0.4 * min(1.0, max(0.0, log(passes / 30) / log(100 / 30)))


def _filled(recipe: Recipe, plan: Plan, dataset: Dataset) -> tuple[Recipe, list[str]]:
    sections: dict[str, dict[str, Any]] = {
        "network": {"options": {k: list(v) if isinstance(v, tuple) else v for k, v in plan.options.items()}},
        "normalization": {"method": plan.method},
        "loss": {"class_weights": plan.class_weights},
        "augmentation": {"flip": plan.flip, "rotate90": plan.rotate90},
        "training": {"patch": plan.patch, "batch": plan.batch, "oversample": plan.oversample, "steps": plan.steps,
                     "minutes": plan.minutes, "until_flat": recipe.training.until_flat or plan.until_flat},
    }
    said = []
    if recipe.augmentation.warp is None:
        passes = plan.estimate.steps * plan.batch * prod(plan.patch) / sum(prod(s) for s in dataset.facts.sizes)
        warp = round(choose_warp(passes), 2)
        sections["augmentation"]["warp"] = warp
        said.append(f"{warp:.0%} of the patches are turned, scaled and deformed: each pixel will be seen about {passes:.2g} times")
    return recipe.model_copy(update={k: getattr(recipe, k).model_copy(update=v) for k, v in sections.items()}), said


def _wished(recipe: Recipe, dataset: Dataset) -> str:
    """What the plan follows from, but for the budget and the machine."""
    content = recipe.model_dump(mode="json")
    for key in ("steps", "minutes", "validations", "until_flat", "patience"):
        content["training"].pop(key)
    return hashlib.sha256(json.dumps([content, _digest(dataset)], sort_keys=True).encode()).hexdigest()


def _read_plan(path: Path, wished: str) -> Recipe | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Recipe.model_validate(content["recipe"]) if content["wished"] == wished else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(dataset: Dataset) -> str:
    return hashlib.sha256(json.dumps(dataset.facts.hashes, sort_keys=True).encode()).hexdigest()


def make_trainer(dataset: Dataset, recipe: Recipe, place: Place, split: Split | None = None, begin: Begin | None = None) -> Trainer:
    """Everything that the loop needs. Raises UsageError for settings that contradict the data."""
    recipe, fingerprint, plan = planned(recipe, dataset, place)
    if recipe.training.until_flat:
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(
            update={"validations": max(OFTEN, recipe.training.validations)})})
    dataset.normalization = normalization_of(recipe.normalization)
    facts, settings, say = dataset.facts, recipe.training, place.progress.say
    task = Task.of(facts.kind, dataset.legend, recipe.instances.target)
    weights = recipe.loss.class_weights
    if weights is not None and len(weights) != len(dataset.legend):
        raise UsageError(f"loss.class_weights={list(weights)} gives {len(weights)} weights for {len(dataset.legend)} classes",
                         fix=f"one for each of the values {list(dataset.legend.values)}")
    torch.manual_seed(settings.seed)
    dims = len(facts.axes) - 1
    network = network_of(recipe, task, in_channels=facts.channels, spatial_dims=dims)
    left = load_into(network, begin) if begin is not None else ()
    _say_refinement(recipe, task, say)
    geometry = PatchGeometry(tuple(settings.patch or ()), tuple(g.margin for g in geometry_of(network)))
    _require_statistics(network, geometry.target, settings.batch or 0)
    split = split or held_out(dataset, recipe)
    anisotropy = fingerprint.anisotropy if max(fingerprint.anisotropy) > 1 else None
    fit, held = dataset.subset(split.training), dataset.subset(split.validation) if split.validation else None
    sampling = Sampling(settings.seed, geometry, recipe.augmentation, settings.oversample or 0.0, fit.facts.weights, anisotropy)
    sigma = round(min(max(SMOOTHED * fingerprint.objects.diameter[1], SMOOTHEST[0]), SMOOTHEST[1]), 1)
    thresholds = Thresholds(sigma=sigma, min_size=max(1, int(fingerprint.objects.area_1 * SMALLEST)))
    header = ModelHeader(recipe=recipe, in_channels=facts.channels, spatial_dims=dims, kind=facts.kind,
                         legend=dataset.legend.to_json(), spacing=facts.spacing, channel_names=facts.channel_names,
                         dtype=facts.dtype, data_hashes=facts.hashes, inputs=facts.inputs,
                         shares=dict(zip(fingerprint.class_names, fingerprint.shares, strict=True)))

    def publish(tensors: dict[str, Tensor], state: State) -> None:
        save_model(place.out / MODEL_FILE, tensors, header.model_copy(update=outcome(state, recipe)))
        write_text(place.out / "log.csv", log_of(state))

    def barren() -> Exception:
        extent = fingerprint.objects.extent_95 if fingerprint.objects.count else None
        return why_nothing(dict(zip(fingerprint.class_names, fingerprint.shares, strict=True)), geometry.target,
                           max(extent) if extent else None, settings.lr, settings.oversample or 0.0)

    trainer = Trainer(network, recipe, task, fit, held, sampling, thresholds, place.device, place.world, place.out / "resume",
                      identity_of(recipe, dataset, begin), publish, barren, place.progress,  # type: ignore[arg-type]
                      started_from=begin is not None and not left)
    if facts.groups_reason:
        say(f"groups that are never split: {facts.groups_reason}")
    say(f"device: {describe_device(place.device)}" + (f" x {place.world.size} processes" if place.world.size > 1 else ""))
    say(f"labels: {facts.kind} ({facts.kind_reason})")
    say(f"held out to choose the best weights: {split.reason}")
    kinds = Counter(look for look in fit.facts.looks if look)
    if len(kinds) > 1:
        say("rare kinds of images are drawn more often: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
    if begin is not None:
        say(f"begins with the weights of {begin.name}" + (f"; begin anew: {', '.join(left[:5])}" if left else ""))
    if plan is not None:
        for sentence in plan.sentences:
            say(f"· {sentence}")
        _say_estimate(network, plan, recipe, place)
    else:
        say("sizes are those that were chosen when this training began (resume/plan.json)")
    say(f"network: {recipe.network.name}, {parameter_count(network):,} parameters")
    return trainer


def _require_statistics(network: nn.Module, patch: Sequence[int], batch: int) -> None:
    """Raise UsageError where batch normalisation would get a single value a channel."""
    try:
        if batch == 1:
            step_cost(network, patch, 1)
    except ValueError as error:
        raise UsageError(f"one patch of {' × '.join(map(str, patch))} a step leaves one value a channel at the bottom of the "
                         "network, of which batch normalisation has no variance",
                         fix="--set training.batch=2, or larger patches: --set training.patch=[64,64]") from error


def _say_refinement(recipe: Recipe, task: Task, say: Callable[[str], None]) -> None:
    """That calibration or median filter are not for these labels."""
    wanted = recipe.prediction
    if (wanted.calibrate or wanted.median) and task.kind != "classes":
        say("calibration and median filter are for classes: objects and structures are predicted without")
    elif wanted.calibrate and task.entries != 2:
        say(f"calibration is for two classes: with {task.entries} it is left out")


def _say_estimate(network: nn.Module, plan: Plan, recipe: Recipe, place: Place) -> None:
    machine = Machine.here(place.device, place.world.size)
    measured = None
    if place.world.size == 1:
        measured = measure_step_seconds(network, plan.patch, plan.batch, place.device, bfloat16=plan.bfloat16)
    told = estimate(plan.cost, machine, bfloat16=plan.bfloat16, steps=recipe.training.steps, minutes=recipe.training.minutes,
                    seconds_a_step=measured, now=datetime.now(), until_flat=recipe.training.until_flat)
    place.progress.say(f"estimate: {told.sentence}" + (", convolutions in bfloat16" if plan.bfloat16 else ""))


def held_out(dataset: Dataset, recipe: Recipe) -> Split:
    """The part that the data call validation, or else a share."""
    validation = [i for i, p in enumerate(dataset.pairs) if p.part == "validation"]
    if validation and len(validation) < len(dataset):
        training = [i for i in range(len(dataset)) if i not in set(validation)]
        return Split(training, validation, f"the {len(validation)} of the validation part")
    return Split(*hold_out([p.name for p in dataset.pairs], recipe.data.validation_share, recipe.training.seed,
                           dataset.facts.groups))


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
    for key in ("steps", "minutes", "validations", "until_flat", "patience"):
        content["training"].pop(key)
    flat = {f"{section}.{key}": value for section, values in content.items() if isinstance(values, dict)
            for key, value in values.items()}
    return {"recipe": content["name"], **flat, "data": _digest(dataset), **({"from": begin.name} if begin is not None else {})}


def log_of(state: State) -> str:
    """log.csv: one row a log or validation point; empty where nothing was measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "seconds", "lr", "loss", "validation_score"])
    for row in state.history:
        writer.writerow([row.step, row.seconds, row.lr, "" if row.loss is None else row.loss,
                         "" if row.validation_score is None else row.validation_score])
    return text.getvalue()
