"""The trainer of a network that labels pixels, with each choice said aloud."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from math import log, prod
from typing import Any

import torch
from torch import nn

from biomask.checkpoint import ModelHeader, network_of
from biomask.data.dataset import Dataset
from biomask.data.draws import PatchGeometry
from biomask.data.fingerprint import Fingerprint, take_fingerprint
from biomask.data.patches import Sampling
from biomask.data.task import Task
from biomask.errors import InputError, UsageError
from biomask.instances import Thresholds
from biomask.prediction.overlap_tile import geometry_of
from biomask.recipe import LossSettings, Recipe
from biomask.training.begin import Begin, load_into
from biomask.training.choices import balanced_weights
from biomask.training.guard import why_nothing
from biomask.training.loop import Trainer
from biomask.training.outcome import header_facts, identity_of, publisher
from biomask.training.place import Place, Split, held_out, looked_at_often
from biomask.training.plan import Budgeted, Plan, Wishes, make_plan, warnings_of
from biomask.training.plan_file import read_plan, wished_of, write_plan
from biomask.training.say import say_begin, say_data, say_network, say_plan
from biomask.training.segmentation import SegmentationObjective
from biomask.training.speed import Machine, estimate, measure_step_seconds, step_cost
from biomask.transforms import normalization_of

#: Before thresholds are tuned, middles are smoothed over this share of the usual diameter, but within these pixels.
SMOOTHED, SMOOTHEST = 0.1, (0.5, 3.0)

#: Objects of fewer pixels than this share of the smallest in training are noise.
SMALLEST = 0.5


def planned(recipe: Recipe, dataset: Dataset, place: Place) -> tuple[Recipe, Fingerprint, Plan | None]:
    """The recipe with nothing open. What an earlier run of the same training chose is kept: (…, None) then."""
    fingerprint = take_fingerprint(dataset)
    wished, budget = wished_of(recipe, dataset), recipe.training
    before = read_plan(place, wished, budget)
    if before is not None:
        return before, fingerprint, None
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
    write_plan(place, wished, complete, plan.sentences)
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


def segmentation_trainer(dataset: Dataset, recipe: Recipe, place: Place, split: Split | None = None,
                         begin: Begin | None = None) -> Trainer:
    """Everything that the loop needs. Raises UsageError for settings that contradict the data."""
    recipe, fingerprint, plan = planned(recipe, dataset, place)
    recipe = looked_at_often(recipe)
    dataset.normalization = normalization_of(recipe.normalization)
    facts, settings = dataset.facts, recipe.training
    task = Task.of(facts.kind, dataset.legend, recipe.instances.target)
    weights = recipe.loss.class_weights
    if weights is not None and len(weights) != len(dataset.legend):
        raise UsageError(f"loss.class_weights={list(weights)} gives {len(weights)} weights for {len(dataset.legend)} classes",
                         fix=f"one for each of the values {list(dataset.legend.values)}")
    torch.manual_seed(settings.seed)
    dims = len(facts.axes) - 1
    network = network_of(recipe, task, in_channels=facts.channels, spatial_dims=dims)
    left = load_into(network, begin) if begin is not None else ()
    _say_refinement(recipe, task, place.progress.say)
    geometry = PatchGeometry(tuple(settings.patch or ()), tuple(g.margin for g in geometry_of(network)))
    _require_statistics(network, geometry.target, settings.batch or 0)
    split = split or held_out(dataset, recipe)
    anisotropy = fingerprint.anisotropy if max(fingerprint.anisotropy) > 1 else None
    fit, held = dataset.subset(split.training), dataset.subset(split.validation) if split.validation else None
    sampling = Sampling(settings.seed, geometry, recipe.augmentation, settings.oversample or 0.0, fit.facts.weights, anisotropy)
    sigma = round(min(max(SMOOTHED * fingerprint.objects.diameter[1], SMOOTHEST[0]), SMOOTHEST[1]), 1)
    thresholds = Thresholds(sigma=sigma, min_size=max(1, int(fingerprint.objects.area_1 * SMALLEST)))
    shares = dict(zip(fingerprint.class_names, fingerprint.shares, strict=True))

    def barren() -> InputError:
        extent = fingerprint.objects.extent_95 if fingerprint.objects.count else None
        return why_nothing(shares, geometry.target, max(extent) if extent else None, settings.lr, settings.oversample or 0.0)

    objective = SegmentationObjective(recipe, task, fit, held, sampling, thresholds, place.device, place.world, place.progress,
                                      barren)
    header = ModelHeader(**header_facts(dataset, recipe), shares=shares)
    trainer = Trainer(network, recipe, objective, place.device, place.world, place.out / "resume",
                      identity_of(recipe, dataset, begin), publisher(place, header), place.progress,
                      started_from=begin is not None and not left)
    say_data(place, fit, split)
    if begin is not None:
        say_begin(place, begin, left)
    say_plan(place, None if plan is None else plan.sentences)
    if plan is not None:
        _say_estimate(network, plan, recipe, place)
    say_network(place, recipe, network)
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
