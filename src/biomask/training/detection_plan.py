"""What a detector's recipe leaves open, chosen from the objects: anchors, windows, limits, batch, rate and length.

A plan follows from the data, the kind of machine and the budget alone, never from measured time or free memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np

from biomask.data.object_facts import ObjectFacts
from biomask.errors import UsageError
from biomask.models.mask_rcnn.assembly import C4_LIMITS
from biomask.models.mask_rcnn.resize import resized
from biomask.models.mask_rcnn.types import Limits
from biomask.recipe import Recipe
from biomask.tiling import round_up
from biomask.training.choices import percent
from biomask.training.detection_anchors import anchor_overlaps
from biomask.training.plan import CAP
from biomask.training.speed import Machine, duration

#: Anchor sizes of the finest level that are considered, in pixels as the network sees them; each further level doubles them.
FINEST = (4, 6, 8, 12, 16, 24, 32, 48, 64)
#: Pixels between anchors at each level, and in the only one of a C4 network.
STRIDES, C4_STRIDE = (4, 8, 16, 32, 64), 16

#: The paper's ratios, height over width, and sizes.
RATIOS = (0.5, 1.0, 2.0)
USUAL_ANCHORS = (32, 64, 128, 256, 512)

#: An object is in reach of an anchor that overlaps it by this IoU, at the distance of their centres that is usual at its level.
REACH = 0.5

#: Most detections of an image, or crop, over the most objects of one in training, and at least so many. A crop may hold so many
#: times its share of an image's objects.
HEADROOM, LEAST_DETECTIONS, CLUSTERED = 1.5, 100, 2.0

#: Crops are this many times as long as nearly all objects, a multiple of the coarsest stride, and at least so long.
TIMES, STRIDE, LEAST_CROP = 3.0, 32, 128

#: Where the middle object is smaller than this, crops are enlarged, at most by the last of these factors.
CLEAR, FACTORS = 32.0, (1.0, 1.5, 2.0)

#: Objects longer than this share of the largest crop do not fit in one; whole images are learnt from then.
FITS = 0.6

#: Crops with fewer objects than this are laid on one, half of the time.
FEW_OBJECTS = 2.0

#: Images of a step on a CPU, and most on a GPU; bytes that one of a million pixels takes there, with ResNet-50: rough.
CPU_BATCH, GPU_BATCH, BYTES_A_MEGAPIXEL = 2, 16, 3.5e9

#: Share of the memory that a training may be planned to take.
MEMORY_SHARE = 0.7

#: Stages of the backbone that are learnt: all, or without the first convolution and the first stage.
ALL, KEPT = 5, 3

#: Steps at least, of a length that comes from the number of images.
LEAST_STEPS = 500


@dataclass(frozen=True)
class DetectionPlan:
    """A detector's training with nothing open."""

    recipe: Recipe
    sentences: tuple[str, ...]
    """What was chosen and why, in reading order."""
    warnings: tuple[str, ...] = ()


def seen_size(size: Sequence[int], options: Mapping[str, Any]) -> tuple[int, int]:
    """(Y, X) of an image as the network sees it. options: of the network."""
    short = options.get("short_side", 800)
    side = max(short) if isinstance(short, (list, tuple)) else short
    return resized((size[0], size[1]), side, options.get("long_side", 1333))


def seen_scale(sizes: Sequence[Sequence[int]], patch: Sequence[int] | None, options: Mapping[str, Any]) -> float:
    """How many times as large as in the images things are for the network, in the middle one of all. patch: (Y, X) of the crops."""
    return float(np.median([seen_size(s, options)[0] / s[0] for s in ([patch] if patch is not None else sizes)]))


def plan_detection(recipe: Recipe, sizes: Sequence[Sequence[int]], facts: ObjectFacts, machine: Machine, *,
                   counts: Sequence[int] = (), begins: bool = False) -> DetectionPlan:
    """Choose what the recipe leaves open.

    sizes: (Y, X) of the images. counts: objects of each; empty = not known. begins: whether it begins with weights from elsewhere.
    """
    said, warnings = [_described(facts, sizes)], list[str]()
    options = dict(recipe.network.options)
    patch = _window(recipe, options, sizes, facts, said)
    _branches(recipe, options, facts, said)
    _frozen(options, begins, said)
    _anchors(options, seen_scale(sizes, patch, options), facts, said, warnings)
    _limits(options, _fullest(sizes, patch, facts, counts), patch, said)
    seen = float(np.median([prod(seen_size(s, options)) for s in ([patch] if patch is not None else sizes)]))
    training: dict[str, Any] = {"patch": patch, "batch": _batch(recipe, seen, machine, said)}
    training["oversample"] = _focus(recipe, patch, sizes, facts, said)
    training["lr"] = _rate(recipe, training["batch"], said)
    training |= _length(recipe, training["batch"], len(sizes), machine, said)
    complete = recipe.model_copy(update={"network": recipe.network.model_copy(update={"options": options}),
                                         "training": recipe.training.model_copy(update=training)})
    if recipe.augmentation.warp and recipe.augmentation.scale and not varies_size(complete):
        said.append("whole images are not made larger or smaller at random (augmentation.scale), since the network resizes each to "
                    "the same size")
    return DetectionPlan(complete, tuple(said), tuple(warnings))


def varies_size(recipe: Recipe) -> bool:
    """Whether samples are made larger or smaller at random. The network would undo it where it resizes whole images."""
    whole, settings = recipe.training.patch is None, recipe.augmentation
    resizes = recipe.network.options.get("short_side", 800) is not None
    return bool(settings.warp and settings.scale) and not (whole and resizes)


def _described(facts: ObjectFacts, sizes: Sequence[Sequence[int]]) -> str:
    """The data in a sentence."""
    low, high = min(sizes, key=prod), max(sizes, key=prod)
    text = f"{facts.images} images of {low[0]} × {low[1]}" + (f" to {high[0]} × {high[1]}" if tuple(low) != tuple(high) else "")
    where = "" if facts.looked_at == facts.images else f" in {facts.looked_at} of them"
    return (f"{text} px; {facts.objects:,} objects{where}, {facts.per_image[0]} an image, at most {facts.per_image[2]}, "
            f"of {facts.sides[2]:.0f} px (90 % have {facts.sides[1]:.0f} to {facts.sides[3]:.0f} px)")


def _window(recipe: Recipe, options: dict[str, Any], sizes: Sequence[Sequence[int]], facts: ObjectFacts,
            said: list[str]) -> tuple[int, int] | None:
    """Largest size of a sample, (Y, X); None = whole images. Where neither it nor the network's size is given, both are chosen."""
    given, largest = recipe.training.patch, recipe.detection.largest_patch
    if given is not None:
        said.append(f"crops of {given[0]} × {given[-1]} px: as given")
        return given[0], given[-1]
    if options.get("short_side", 800) is not None:
        said.append(f"whole images, their shorter side resized to {options.get('short_side', 800)} px")
        return None
    length = facts.sides[3]
    if length > FITS * largest:
        options |= {"short_side": largest, "long_side": 2 * largest}
        said.append(f"whole images, their shorter side resized to {largest} px: objects have up to {length:.0f} px, too much for a "
                    f"crop of {largest}")
        return None
    side = min(largest, max(LEAST_CROP, round_up(ceil(TIMES * length), STRIDE)))
    wanted = CLEAR / max(facts.sides[2], 1.0)
    factor = max(f for f in FACTORS if f == 1 or (f <= wanted * 1.1 and f * length <= FITS * largest))
    text = f"crops of {side} × {side} px: {side / max(length, 1):.1f} times nearly every object"
    if factor > 1:
        side = int(min(side, largest / factor))
        options |= {"short_side": round_up(int(side * factor), STRIDE), "long_side": None}
        side = int(options["short_side"] / factor)
        text = (f"crops of {side} × {side} px, enlarged to {options['short_side']}: {side / max(length, 1):.1f} times nearly every "
                f"object, of which the middle one has {facts.sides[2]:.0f} px, too few for maps of a quarter of the size")
    said.append(text)
    return side, side


def _branches(recipe: Recipe, options: dict[str, Any], facts: ObjectFacts, said: list[str]) -> None:
    """Whether masks and keypoints are learnt, where that is open: what most objects have."""
    points = facts.keypoints
    _require_branches(options, facts)
    if options.get("keypoints", 0) is None:
        options["keypoints"] = len(points) if points is not None and facts.with_keypoints else 0
        if options["keypoints"]:
            share = percent(facts.with_keypoints / max(1, facts.objects))
            said.append(f"{options['keypoints']} keypoints are learnt: {share} of the objects have some")
    if options.get("masks", True) is None:
        options["masks"] = recipe.network.name != "faster-rcnn" and 2 * facts.boxes_alone < max(1, facts.objects)
        if not options["masks"] and recipe.network.name != "faster-rcnn":
            said.append(f"no masks are learnt: {facts.boxes_alone} of {facts.objects} objects have a box alone")


def _require_branches(options: Mapping[str, Any], facts: ObjectFacts) -> None:
    """Raise UsageError where keypoints or masks are asked for that the objects have not."""
    asked, there = options.get("keypoints"), 0 if facts.keypoints is None else len(facts.keypoints)
    if asked is not None and (isinstance(asked, bool) or asked not in (0, there)):
        have = f"the objects have {there} keypoints" if there else "the objects have no keypoints"
        raise UsageError(f"network.options.keypoints is {str(asked).lower()}, which is how many are learnt, and {have}",
                         fix="leave it out: it follows from the labels; 0 learns none")
    if options.get("masks") is True and facts.objects and facts.boxes_alone == facts.objects:
        raise UsageError("masks are asked for, and all objects have a box alone", fix="--set network.options.masks=false")


def _frozen(options: dict[str, Any], begins: bool, said: list[str]) -> None:
    """Batch normalisation and how many stages are learnt, where they are open: with weights from elsewhere as in the paper."""
    if options.get("norm", "frozen") is None:
        options["norm"] = "frozen" if begins else "batch"
        said.append("batch normalisation keeps the statistics that it came with" if begins else
                    "batch normalisation is trained: no weights were given to begin with (--from)")
    if options.get("trainable", 5) is None:
        options["trainable"] = KEPT if begins else ALL
        if begins:
            said.append("the backbone's first convolution and first stage keep their weights")


def _anchors(options: dict[str, Any], scale: float, facts: ObjectFacts, said: list[str], warnings: list[str]) -> None:
    """Anchor sizes where they are open, else whether those given reach the objects. scale: of what the network sees."""
    ratios = options.get("anchor_ratios") or RATIOS
    options |= {"anchor_ratios": list(ratios)} if "anchor_ratios" in options else {}
    given = options.get("anchor_sizes", USUAL_ANCHORS)
    flat = [a for level in given for a in ([level] if isinstance(level, (int, float)) else level)] if given else []
    sides = f"objects are {facts.sides[1] * scale:.0f} to {facts.sides[3] * scale:.0f} px" + (
        " as the network sees them" if abs(scale - 1) > 0.01 else "")
    if not len(facts.boxes):
        options["anchor_sizes"] = list(given or USUAL_ANCHORS)
        return
    strides = [C4_STRIDE] * len(flat) if options.get("neck") == "c4" else list(STRIDES)
    if given is None:
        candidates = [[first * 2**level for level in range(len(STRIDES))] for first in FINEST]
        found = [anchor_overlaps(facts.boxes * scale, sizes, ratios, strides) for sizes in candidates]
        flat = candidates[max(range(len(found)), key=lambda n: float(found[n].mean() + (found[n] >= REACH).mean()))]
        options["anchor_sizes"] = flat
    share = float((anchor_overlaps(facts.boxes * scale, flat, ratios, strides) >= REACH).mean())
    said.append(f"{sides}: anchors {', '.join(f'{a:g}' for a in flat)} px" + (" as given" if given is not None else "")
                + f", {percent(share)} of the objects overlap one by half or more")
    if share < 0.8:
        warnings.append(f"anchors of {', '.join(f'{a:g}' for a in flat)} px reach {percent(share)} of the objects: "
                        "leave network.options.anchor_sizes=null, which fits them to the objects, or add ratios")


def _fullest(sizes: Sequence[Sequence[int]], patch: tuple[int, int] | None, facts: ObjectFacts, counts: Sequence[int]) -> int:
    """Objects of the fullest image, or about those of the fullest crop."""
    if patch is None or not any(counts):
        return facts.per_image[2]
    return ceil(max(n * min(1.0, CLUSTERED * prod(patch) / prod(size)) for n, size in zip(counts, sizes, strict=True)))


def _limits(options: dict[str, Any], fullest: int, patch: tuple[int, int] | None, said: list[str]) -> None:
    """Most detections, and proposals enough for them. fullest: objects of the fullest image or crop."""
    limits = dict(options.get("limits") or {})
    needed = max(LEAST_DETECTIONS, round_up(ceil(HEADROOM * fullest), 10))
    if limits.get("detections") is None:
        limits["detections"] = needed
        what = "image" if patch is None else "crop"
        said.append(f"at most {needed} detections {'an' if patch is None else 'a'} {what}: " + (
            f"{HEADROOM:g} times the {fullest} objects of the fullest one" if needed > LEAST_DETECTIONS else
            f"the usual number, the fullest one has about {fullest} objects"))
    most = limits["detections"]
    usual = C4_LIMITS if options.get("neck") == "c4" else Limits()
    for name in ("proposals", "proposals_before_nms"):
        if limits.get(name, getattr(usual, name)) < 2 * most:
            limits[name] = 2 * most
    options["limits"] = limits


def _batch(recipe: Recipe, pixels: float, machine: Machine, said: list[str]) -> int:
    given = recipe.training.batch
    if given is not None:
        return given
    batch = CPU_BATCH
    if machine.device == "cuda":
        fits = MEMORY_SHARE * machine.memory * machine.processes / (BYTES_A_MEGAPIXEL * pixels / 1e6)
        batch = max(1, min(GPU_BATCH, 2 ** max(0, int(fits).bit_length() - 1)))
    batch = round_up(batch, machine.processes)
    said.append(f"{batch} images a step: " + ("what fits into the memory, at most the paper's 16" if machine.device == "cuda" else
                                              "more would make steps slow on this machine"))
    return batch


def _rate(recipe: Recipe, batch: int, said: list[str]) -> float:
    """The recipe's, in proportion to the batch where it says for which one it is."""
    lr, reference = recipe.training.lr, recipe.detection.reference_batch
    if reference is None or reference == batch:
        return lr
    said.append(f"rate {lr * batch / reference:.3g}: {lr:g} for {reference} images a step, in proportion")
    return lr * batch / reference


def _focus(recipe: Recipe, patch: tuple[int, int] | None, sizes: Sequence[Sequence[int]], facts: ObjectFacts,
           said: list[str]) -> float:
    """Share of the crops that are laid on an object."""
    if recipe.training.oversample is not None:
        return recipe.training.oversample
    area = float(np.median([prod(s) for s in sizes]))
    expected = facts.per_image[0] * min(1.0, prod(patch) / area) if patch is not None else FEW_OBJECTS
    share = 0.5 if expected < FEW_OBJECTS else 0.0
    if share:
        said.append(f"{percent(share)} of the crops are laid on an object: elsewhere they would hold {expected:.1f} of them")
    return share


def _length(recipe: Recipe, batch: int, images: int, machine: Machine, said: list[str]) -> dict[str, Any]:
    """The budget, where none is given: passes over the images, or until the score is flat."""
    settings, passes = recipe.training, recipe.detection.passes
    if settings.steps is not None or settings.minutes is not None:
        return {}
    if passes is not None:
        steps = max(LEAST_STEPS, ceil(passes * images / batch))
        said.append(f"{steps:,} steps: each of {images} images about {steps * batch / images:.3g} times (--steps, --minutes)")
        return {"steps": steps}
    cap = CAP[machine.device]
    said.append(f"training ends when the held-out images score no better any more, at the latest after {duration(cap)}: no budget "
                "was given (--minutes, --steps)")
    return {"minutes": cap, "until_flat": True}
