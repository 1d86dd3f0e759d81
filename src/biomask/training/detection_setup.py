"""The trainer of a detector, with each choice said aloud."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import torch
from torch import nn

from biomask.checkpoint import Keypoints, ModelHeader, network_of
from biomask.data.detection import DetectionSampling
from biomask.data.keypoints import KeypointNames
from biomask.data.object_facts import ObjectFacts, object_facts
from biomask.data.task import Task
from biomask.errors import InputError, LabelsError, SizeError, UsageError
from biomask.training.begin import Begin, load_into
from biomask.training.detection import DetectionObjective
from biomask.training.detection_begin import load_foreign
from biomask.training.detection_cost import measure_detection_step
from biomask.training.detection_plan import STRIDE, plan_detection, seen_size, varies_size
from biomask.training.loop import Trainer
from biomask.training.optimizer import use_bfloat16
from biomask.training.outcome import header_facts, identity_of, publisher
from biomask.training.place import Place, Split, held_out, looked_at_often
from biomask.training.plan_file import read_plan, wished_of, write_plan
from biomask.training.say import say_begin, say_data, say_network, say_plan
from biomask.training.speed import Machine, estimate
from biomask.transforms import normalization_of

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.recipe import Recipe

#: Objects of fewer pixels than this share of those of the smallest in training are noise.
SMALLEST = 0.25

#: Labels that tell objects apart whatever their kind is called.
OUTLINES = ("shapes", "coco")


def require_objects(dataset: Dataset) -> None:
    """Raise SizeError for volumes and LabelsError for labels that do not tell objects apart, saying what to do."""
    if len(dataset.facts.axes) != 3:
        raise SizeError(f"detectors find objects in planes, and these images are volumes ({dataset.facts.axes})",
                        fix="--z each makes every plane an image, --z max takes the brightest; or leave --recipe out: the U-Net "
                            "takes volumes and tells objects apart too")
    drawn = all(p.truth is not None and p.truth.form in OUTLINES for p in dataset.pairs)
    if dataset.facts.kind != "instances" and not drawn:
        raise LabelsError(f"a detector learns objects one by one, and these labels are of kind {dataset.facts.kind} "
                          f"({dataset.facts.kind_reason}), which does not tell touching objects apart",
                          where=dataset.pairs[0].truth.where if dataset.pairs[0].truth else None,
                          fix="say --labels instances if the values are ids of objects; else give an id for each object, or "
                              "outlines (COCO, ROIs, GeoJSON); where every connected region is one object, biomask convert DATA "
                              "--to coco -o OBJECTS writes them, for biomask train IMAGES --masks OBJECTS; for classes leave "
                              "--recipe out")


def detection_trainer(dataset: Dataset, recipe: Recipe, place: Place, split: Split | None = None,
                      begin: Begin | None = None) -> Trainer:
    """Everything that the loop needs. Raises LabelsError or SizeError for data without objects."""
    require_objects(dataset)
    facts = object_facts(dataset)
    if not facts.objects:
        raise LabelsError("there is no object to learn", where=dataset.pairs[0].image.parent,
                          fix="'biomask check' shows how the labels are understood")
    recipe, sentences = planned_detection(recipe, dataset, facts, place, begins=begin is not None)
    recipe = looked_at_often(recipe)
    dataset.normalization = normalization_of(recipe.normalization)
    settings, options, say = recipe.training, recipe.network.options, place.progress.say
    _require_statistics(recipe)
    torch.manual_seed(settings.seed)
    network = network_of(recipe, Task.of("instances", dataset.legend), in_channels=dataset.facts.channels, spatial_dims=2)
    split = split or held_out(dataset, recipe)
    fit, held = dataset.subset(split.training), dataset.subset(split.validation) if split.validation else None
    points = facts.keypoints if options.get("keypoints") else None
    least = max(1, int(SMALLEST * facts.smallest))
    objective = DetectionObjective(recipe, fit, held, _sampling(recipe, points), least, place.device, place.world,
                                   lambda: why_no_objects(facts, recipe))
    header = ModelHeader(**{**header_facts(dataset, recipe), "kind": "instances"},
                         keypoints=None if points is None else Keypoints(names=points.names, skeleton=points.skeleton,
                                                                         swaps=points.swaps))
    say_data(place, fit, split)
    for note in facts.notes:
        say(note)
    left: tuple[str, ...] = ()
    if begin is not None and begin.recipe is None:
        left = load_foreign(network, begin, say)
    elif begin is not None:
        left = load_into(network, begin)
        say_begin(place, begin, left)
    say_plan(place, sentences)
    if sentences is not None:
        _say_estimate(network, objective, place)
    say_network(place, recipe, network)
    return Trainer(network, recipe, objective, place.device, place.world, place.out / "resume", identity_of(recipe, dataset, begin),
                   publisher(place, header), place.progress, started_from=begin is not None and not left)


def planned_detection(recipe: Recipe, dataset: Dataset, facts: ObjectFacts, place: Place, *,
                      begins: bool) -> tuple[Recipe, tuple[str, ...] | None]:
    """The recipe with nothing open, and why; what an earlier run of the same training chose is kept: (…, None) then."""
    wished = wished_of(recipe, dataset)
    before = read_plan(place, wished, recipe.training)
    if before is not None:
        return before, None
    plan = plan_detection(recipe, dataset.facts.sizes, facts, Machine.here(place.device, place.world.size),
                          counts=[sum(f.objects for f in item.labels) for item in dataset.inspected], begins=begins)
    write_plan(place, wished, plan.recipe, plan.sentences)
    for warning in plan.warnings:
        place.progress.warn(warning)
    return plan.recipe, plan.sentences


def _require_statistics(recipe: Recipe) -> None:
    """Raise UsageError where batch normalisation would get a single value a channel."""
    patch, options = recipe.training.patch, recipe.network.options
    if patch is None or recipe.training.batch != 1 or options.get("norm") != "batch":
        return
    if max(seen_size(patch, options)) <= STRIDE:
        raise UsageError(f"one crop of {' × '.join(map(str, patch))} a step leaves one value a channel in the coarsest map, of "
                         "which batch normalisation has no variance", fix="--set training.batch=2, or larger crops")


def why_no_objects(facts: ObjectFacts, recipe: Recipe) -> InputError:
    """The error that says why nothing may have been learnt."""
    reasons = []
    if recipe.training.patch is not None and facts.sides[2] > min(recipe.training.patch):
        reasons.append(f"objects measure {facts.sides[2]:.0f} px, crops {min(recipe.training.patch)} (--set training.patch=…)")
    if recipe.training.lr > (0.02 if recipe.training.optimizer == "sgd" else 1e-3):
        reasons.append(f"the rate {recipe.training.lr:g} is high (--set training.lr={recipe.training.lr / 10:g})")
    reasons.append("the time was too short for a detector, which learns to find before it learns to outline (--minutes)")
    reasons.append("labels may not belong to their images ('biomask check' looks for that)")
    return InputError("nothing was learnt: no object is found on the images held out, and the loss hardly fell. Possible reasons: "
                      + "; ".join(reasons), where="training",
                      fix="mend the cause, or give more time, and run again with --overwrite")


def _sampling(recipe: Recipe, points: KeypointNames | None) -> DetectionSampling:
    """Crops or whole images, varied as the recipe says."""
    settings, options, augmentation = recipe.training, recipe.network.options, recipe.augmentation
    patch = settings.patch
    zoom = 1 + augmentation.scale if varies_size(recipe) else 1.0
    return DetectionSampling(settings.seed, augmentation, None if patch is None else (patch[0], patch[-1]),
                             pad=True, zoom=(1 / zoom, zoom), zoom_chance=augmentation.warp or 0.0,
                             focus=settings.oversample or 0.0,
                             masks=recipe.network.name != "faster-rcnn" and options.get("masks", True) is True, keypoints=points)


def _say_estimate(network: nn.Module, objective: DetectionObjective, place: Place) -> None:
    """How long it takes, by a step that is measured here."""
    if place.world.size > 1:
        return
    settings = objective.recipe.training
    bfloat16 = use_bfloat16(settings.precision, place.device, objective.patch)
    seconds, cost = measure_detection_step(network, objective, low=bfloat16)
    told = estimate(cost, Machine.here(place.device), bfloat16=bfloat16, steps=settings.steps, minutes=settings.minutes,
                    seconds_a_step=seconds, now=datetime.now(), until_flat=settings.until_flat, images=True)
    place.progress.say(f"estimate: {told.sentence}" + (", convolutions in bfloat16" if bfloat16 else ""))
