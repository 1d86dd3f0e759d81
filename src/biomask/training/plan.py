"""The plan of a training: every size that a recipe leaves open, chosen from data, machine and budget, with its reason.

A plan follows from a fingerprint, a kind of machine and a budget alone, never from measured time or free memory: the same
command on the same machine chooses the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from biomask.data.fingerprint import Fingerprint
from biomask.errors import UsageError
from biomask.prediction.overlap_tile import geometry_of
from biomask.training import choices
from biomask.training.choices import Sides, ideal_patch, percent
from biomask.training.sizes import Budgeted, Builder, Sizes, Wishes, choose_levels
from biomask.training.speed import Estimate, Machine, StepCost, duration, estimate, gigabytes

__all__ = ["Budgeted", "Plan", "Wishes", "make_plan", "warnings_of"]

#: Minutes after which training ends when no budget is given, if it has not become flat before.
CAP = {"cpu": 60.0, "mps": 45.0, "cuda": 30.0}


@dataclass(frozen=True)
class Plan:
    """A training with nothing open."""

    method: str
    """Of normalisation."""
    patch: tuple[int, ...]
    """Label pixels along each axis, as the network takes them."""
    batch: int
    options: dict[str, Any]
    """All of the network's constructor but channels, classes and spatial dimensions. scales and kernels only where they differ
    from 2 and 3 everywhere."""
    oversample: float
    flip: tuple[str, ...]
    rotate90: bool
    class_weights: tuple[float, ...] | None
    steps: int | None
    minutes: float | None
    """Exactly one of the two is set."""
    until_flat: bool
    """Whether training ends before the budget once it gets no better."""
    cost: StepCost
    bfloat16: bool
    estimate: Estimate
    """By constants of the kind of device; `estimate` with a measured step tells more."""
    sentences: tuple[str, ...]
    """What was chosen and why, in reading order, without the estimate."""

    @property
    def width(self) -> int | None:
        """Of a U-Net."""
        return self.options.get("width")

    @property
    def depth(self) -> int | None:
        """Of a U-Net."""
        return self.options.get("depth")


def make_plan(fingerprint: Fingerprint, machine: Machine, budget: Budgeted | None = None, wishes: Wishes | None = None) -> Plan:
    """Choose what the wishes leave open. Nothing is read, measured or drawn.

    Raises UsageError for contradictions: steps and minutes, a patch of another dimension.
    """
    budget, wishes = budget or Budgeted(), wishes or Wishes()
    if budget.steps is not None and budget.minutes is not None:
        raise UsageError("--minutes and --steps exclude each other", fix="give one of them")
    if wishes.patch is not None and len(wishes.patch) != fingerprint.dims:
        raise UsageError(f"training.patch={wishes.patch} has {len(wishes.patch)} sides for {fingerprint.dims}D images")
    said = [describe(fingerprint)]
    method = _method(fingerprint, wishes, said)
    sides = ideal_patch(fingerprint, machine.device)
    options = choose_levels(fingerprint, wishes, wishes.patch or sides.sides, levels_said := list[str]())
    outputs = wishes.outputs or outputs_of(fingerprint)
    build = Builder(wishes.network, fingerprint.channels, outputs, fingerprint.dims)
    network = build(options)
    patch = choices.rounded(wishes.patch or sides.sides, geometry_of(network), given=wishes.patch is not None)
    said += [_patch_said(fingerprint, wishes, sides, patch), *levels_said]
    bfloat16 = machine.computes_in_bfloat16(wishes.precision, patch)
    capped = replace(budget, minutes=CAP[machine.device]) if budget.open else budget
    sizes = Sizes(fingerprint, machine, capped, wishes, patch, bfloat16)
    options, cost = sizes.choose(build, options, said)
    oversample = _oversample(fingerprint, wishes, patch, said)
    weights = _weights(fingerprint, wishes, said)
    flip, turn = _symmetries(fingerprint, wishes, said)
    told = estimate(cost, machine, bfloat16=bfloat16, steps=capped.steps, minutes=capped.minutes, until_flat=budget.open)
    if budget.open:
        said.append(f"training ends when the held-out images score no better any more, at the latest after "
                    f"{duration(CAP[machine.device])}: no budget was given (--minutes, --steps)")
    return Plan(method, patch, cost.batch, options, oversample, flip, turn, weights, capped.steps, capped.minutes, budget.open,
                cost, bfloat16, told, tuple(said))


def warnings_of(plan: Plan, machine: Machine) -> tuple[str, ...]:
    """What may go wrong with a plan on this machine now, for the user."""
    found, needed = list[str](), plan.estimate.memory_bytes
    if needed > machine.free:
        found.append(f"training needs about {gigabytes(needed)} of memory and {gigabytes(machine.free)} are free: "
                     f"close other programs, or give a smaller training.batch ({plan.batch}) or training.patch")
    return tuple(found)


def outputs_of(fingerprint: Fingerprint) -> int:
    """Channels of a network's output: classes; structures; or classes of objects, distance and border."""
    names = len(fingerprint.class_names)
    return {"multilabel": max(1, names - 1), "instances": names + 2}.get(fingerprint.kind, names)


def describe(f: Fingerprint) -> str:
    """The data in a sentence."""
    size = size_text(f.median)
    sizes = f"{f.images} images of {size} px" if f.smallest == f.largest else (
        f"{f.images} images of {size_text(f.smallest)} to {size_text(f.largest)} px (median {size})")
    text = f"{sizes}, {f.channels} channel" + "s" * (f.channels != 1)
    o = f.objects
    if o.count:
        things = {"instances": "objects", "multilabel": "pieces of structures"}.get(f.kind, "pieces of classes")
        low, middle, high = o.diameter
        text += f"; {o.count:,} {things} of {middle:.0f} px (90 % have {low:.0f} to {high:.0f} px)"
        if f.kind == "instances":
            text += f", {percent(o.touching)} of them touch another, {o.per_image[1]} an image"
        if f.looked_at < f.images:
            text += f", in {f.looked_at} of the images"
    if f.dims == 3:
        text += _voxels(f)
    return text


def _voxels(f: Fingerprint) -> str:
    ratio = max(f.anisotropy)
    coarse = "zyx"[f.anisotropy.index(ratio)]
    if f.anisotropy_source == "spacing":
        return f"; voxels {ratio:.2g} times as long along {coarse}" if ratio > 1.05 else "; voxels as long along each axis"
    if f.anisotropy_source == "objects":
        return f"; no voxel size in the files: objects are {ratio:.2g} times flatter along z, so planes are taken for that thick"
    if f.anisotropy_source == "sizes":
        return f"; no voxel size in the files: so few planes are taken for {ratio:.0f} times as thick as a pixel"
    return "; no voxel size in the files: voxels are taken for cubes"


def size_text(size: tuple[int, ...]) -> str:
    """256 × 256."""
    return " × ".join(str(n) for n in size)


def _method(f: Fingerprint, wishes: Wishes, said: list[str]) -> str:
    if wishes.method is not None:
        return wishes.method
    if f.dark >= 0.5:
        said.append(f"grey values between percentiles: {percent(f.dark)} of the images are dark with few bright pixels, whose mean "
                    "depends on how many there are")
        return "percentile"
    said.append("grey values by mean and standard deviation: " + ("most images are not dark with few bright pixels" if f.dark else
                                                                   "no image is dark with few bright pixels"))
    return "zscore"


def _patch_said(f: Fingerprint, wishes: Wishes, sides: Sides, patch: tuple[int, ...]) -> str:
    if wishes.patch is not None:
        return f"patches of {size_text(patch)}: as given" + (", rounded to what the network takes" if patch != wishes.patch else "")
    most = max(f.objects.extent_95)
    times = min((p / e for p, e in zip(patch, f.objects.extent_95, strict=True) if e), default=0.0)
    reason = f"{times:.1f} times nearly every {f.thing} (up to {most:.0f} px)" if times else "there are no objects to measure it by"
    if any(w > u for w, u in zip(sides.sides, sides.usual, strict=True)):
        reason += ", for which it is larger than usual"
    if all(p + 16 > n for p, n in zip(patch, f.median, strict=True)):
        reason += ", about a whole image"
    elif any(p < min(w, n) - 15 for p, w, n in zip(patch, sides.wanted, f.median, strict=True)):
        reason += ", as far as memory allows"
    return f"patches of {size_text(patch)}: {reason}"


def _oversample(f: Fingerprint, wishes: Wishes, patch: tuple[int, ...], said: list[str]) -> float:
    if wishes.oversample is not None:
        return wishes.oversample
    share, reason = choices.choose_oversample(f, patch)
    where = f"{percent(share)} of the patches are laid on objects or rare classes" if share else "patches lie anywhere"
    said.append(f"{where}: {reason}")
    return share


def _weights(f: Fingerprint, wishes: Wishes, said: list[str]) -> tuple[float, ...] | None:
    if wishes.class_weights is not None:
        return wishes.class_weights
    weights = choices.choose_weights(f) if wishes.weighs_classes else None
    if weights is None:
        said.append(f"loss: {wishes.loss}, all classes alike")
    else:
        if min(f.shares) >= choices.COMMON:
            said.append(f"loss: {wishes.loss}; weights in the cross-entropy by the root of the inverse share ("
                        + ", ".join(f"{w:g} {n!r}" for n, w in zip(f.class_names, weights, strict=True))
                        + "), and the cut between the two is tuned in the end")
            return weights
        heavy = ", ".join(f"{w:g} for {n!r} with {percent(p)} of the pixels"
                          for n, p, w in zip(f.class_names, f.shares, weights, strict=True) if w != 1)
        said.append(f"loss: {wishes.loss}; a weight in the cross-entropy of {heavy}, which would hardly count")
    return weights


def _symmetries(f: Fingerprint, wishes: Wishes, said: list[str]) -> tuple[tuple[str, ...], bool]:
    flip, turn, reason = choices.choose_symmetries(f)
    if wishes.flip is None or wishes.rotate90 is None:
        said.append((f"mirrored along {', '.join(flip)}" + (" and turned by quarters" if turn else ", not turned") if flip else
                     "neither mirrored nor turned") + f": {reason}")
    return flip if wishes.flip is None else wishes.flip, turn if wishes.rotate90 is None else wishes.rotate90
