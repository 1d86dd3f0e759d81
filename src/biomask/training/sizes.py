"""How deep and wide a network is and how many patches a step has, by what data need and a step costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import nn

from biomask.data.fingerprint import Fingerprint
from biomask.errors import UsageError
from biomask.prediction.overlap_tile import geometry_of
from biomask.tiling import round_up
from biomask.training import choices
from biomask.training.choices import CONTEXT, DEPTHS, HALO_COST, ghost, halo_cost
from biomask.training.speed import Machine, StepCost, estimate, seconds, step_cost

#: Widths of the first level that are considered, and steps that should fit into the budget.
WIDTHS = {"cpu": (32, 24, 16), "mps": (32, 24), "cuda": (64, 48, 32)}
ENOUGH_STEPS = {"cpu": 4000, "mps": 2500, "cuda": 3000}

#: Share of the memory that a training may be planned to take.
MEMORY_SHARE = 0.7

#: Batch normalisation needs at least two patches; more than this hardly help.
LEAST_BATCH, MOST_BATCH = 2, 16

#: Patches of the usual size in a step. Of planes on a CPU, where steps are few, half as many: on ISBI 2012, in ten minutes, twice
#: the steps of half the patches raised the Rand F-score from 0.97 to 0.99. Patches that are small so that a step sees many images
#: stay as many.
USUAL_BATCH, FEW_BATCH = 4, 2


@dataclass(frozen=True)
class Wishes:
    """What the recipe or the user settled; None = chosen."""

    method: str | None = None
    """Of normalisation."""
    patch: tuple[int, ...] | None = None
    batch: int | None = None
    width: int | None = None
    depth: int | None = None
    scales: choices.Triples | None = None
    kernels: choices.Triples | None = None
    oversample: float | None = None
    class_weights: tuple[float, ...] | None = None
    loss: str = "cross-entropy and Dice"
    """Its name, for people."""
    weighs_classes: bool = True
    """Whether the loss takes class weights."""
    flip: tuple[str, ...] | None = None
    rotate90: bool | None = None
    precision: str = "auto"
    network: str = "unet"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the network's constructor; width, depth, scales and kernels may be among them, and null there means open."""
    outputs: int | None = None
    """Channels of the network's output; None = by the labels."""

    @property
    def settled(self) -> dict[str, Any]:
        """Options of the network that are not open."""
        sizes = {"width": self.width, "depth": self.depth, "scales": self.scales, "kernels": self.kernels}
        given = {**self.options, **{k: v for k, v in sizes.items() if v is not None}}
        return {k: v for k, v in given.items() if v is not None or k not in sizes}


@dataclass(frozen=True)
class Budgeted:
    """Steps or minutes; with neither, the cap of the device."""

    steps: int | None = None
    minutes: float | None = None

    @property
    def open(self) -> bool:
        """Whether no budget was given."""
        return self.steps is None and self.minutes is None


def choose_levels(f: Fingerprint, wishes: Wishes, sides: tuple[int, ...], said: list[str]) -> dict[str, Any]:
    """Options of the network with depth, scales and kernels settled, for a patch of about `sides`; the reasons go to `said`."""
    settled = wishes.settled
    if wishes.network != "unet":
        return settled
    if not isinstance(settled.get("depth", 0), int):
        raise UsageError(f"network.options.depth={settled['depth']} is not a whole number", fix="--set network.options.depth=4")
    candidates = (settled["depth"],) if "depth" in settled else DEPTHS[f.dims]
    need = [CONTEXT * e for e in f.objects.extent_95]
    best: tuple[dict[str, Any], nn.Module] | None = None
    for depth in candidates:
        options = _with_levels(f, settled, sides, depth)
        network = ghost("unet", 1, 2, f.dims, {"width": 1, **_geometric(options)})
        if best is not None and (options["depth"] <= best[0]["depth"] or (
                f.dims == 3 and halo_cost(f.median, geometry_of(network)) > HALO_COST)):
            break
        best = options, network
        if all(r >= n for r, n in zip(choices.receptive_field(network), need, strict=True)):
            break
    if best is None:
        raise UsageError("no depth of the network is considered")
    options, network = best
    if "depth" not in settled:
        field_of_view = max(choices.receptive_field(network))
        said.append(f"depth {options['depth']}: a pixel sees {field_of_view} px around it"
                    + (f", {field_of_view / max(f.objects.extent_95):.1f} times nearly every {f.thing}" if f.objects.count else ""))
    flat = [a for i, a in enumerate("zyx"[-f.dims:]) if any(s[i] == 1 for s in options.get("scales", ()))]
    if flat and "scales" not in settled:
        said.append(f"pooled less along {' and '.join(flat)}: its pixels are longer, or too few are left below")
    return options


def _with_levels(f: Fingerprint, settled: dict[str, Any], sides: tuple[int, ...], depth: int) -> dict[str, Any]:
    """What is settled, and scales and kernels where data ask for others than 2 and 3 everywhere."""
    options = dict(settled)
    for name, more in (("scales", 0), ("kernels", 1)):
        if name in settled:  # their number of levels is the depth
            if not isinstance(settled[name], (list, tuple)):
                raise UsageError(f"network.options.{name}={settled[name]} is not a list with an entry for each level")
            return {"depth": len(settled[name]) - more, **options}
    scales, kernels = choices.levels_for(sides, f.anisotropy, depth)
    if settled.get("padding") == "valid" or ("depth" in settled and len(scales) < settled["depth"]):
        return {**options, "depth": depth}  # as the user says, though little is left at the bottom
    options["depth"] = max(1, len(scales))
    if not scales:
        return options
    if any(v != 2 for s in scales for v in s):
        options["scales"] = [list(s) for s in scales]
    if any(v != 3 for k in kernels for v in k):
        options["kernels"] = [list(k) for k in kernels]
    return options


def _geometric(options: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k in ("depth", "scales", "kernels", "padding", "up")}


@dataclass(frozen=True)
class Builder:
    """Makes the network without weights, from its options."""

    name: str
    channels: int
    outputs: int
    dims: int

    def __call__(self, options: dict[str, Any]) -> nn.Module:
        return ghost(self.name, self.channels, self.outputs, self.dims, options)


@dataclass(frozen=True)
class Sizes:
    """Width and batch, by what a step costs."""

    f: Fingerprint
    machine: Machine
    budget: Budgeted
    wishes: Wishes
    patch: tuple[int, ...]
    bfloat16: bool

    def choose(self, build: Builder, options: dict[str, Any], said: list[str]) -> tuple[dict[str, Any], StepCost]:
        """Options with a width, and the cost of a step of the chosen batch."""
        batch = self._first_batch()
        open_width = self.wishes.network == "unet" and "width" not in options
        widths = WIDTHS[self.machine.device] if open_width else (None,)
        cost, chosen = None, options
        for width in widths:
            chosen = options if width is None else {**options, "width": width}
            cost = step_cost(build(chosen), self.patch, LEAST_BATCH).with_batch(batch)
            if self._fits(cost) and self._enough(cost):
                break
        if cost is None:
            raise UsageError("no width of the network is considered")
        if open_width:
            said.append(self._width_said(chosen["width"], cost))
        cost = self._settle(cost)
        said.append(self._batch_said(cost))
        return chosen, cost

    def _first_batch(self) -> int:
        if self.wishes.batch is not None:
            return self.wishes.batch
        device, usual = self.machine.device, choices.USUAL_SIDE[self.machine.device][self.f.dims]
        few = device == "cpu" and self.f.dims == 2 and choices.usual_of(self.f, device) == usual
        pixels = (FEW_BATCH if few else USUAL_BATCH) * usual**self.f.dims
        batch = LEAST_BATCH
        while batch < MOST_BATCH and 2 * batch * prod(self.patch) <= 1.1 * pixels:
            batch *= 2
        return round_up(batch, self.machine.processes)

    def _settle(self, cost: StepCost) -> StepCost:
        """A smaller batch where steps or memory are short, a larger one where a GPU has plenty of both."""
        if self.wishes.batch is not None:
            return cost
        least = round_up(LEAST_BATCH, self.machine.processes)
        while cost.batch // 2 >= least and cost.batch // 2 % self.machine.processes == 0 and not (
                self._fits(cost) and self._enough(cost, 0.5)):
            cost = cost.with_batch(cost.batch // 2)
        while self.machine.device == "cuda" and 2 * cost.batch <= round_up(MOST_BATCH, self.machine.processes):
            larger = cost.with_batch(2 * cost.batch)
            if not (self._fits(larger) and self._enough(larger)):
                break
            cost = larger
        return cost

    def _fits(self, cost: StepCost) -> bool:
        share = cost.with_batch(max(1, cost.batch // self.machine.processes))
        return share.memory(self.bfloat16) <= MEMORY_SHARE * self.machine.memory

    def _enough(self, cost: StepCost, share: float = 1.0) -> bool:
        """Whether so much of the steps that should fit do."""
        return self.budget.steps is not None or self._steps(cost) >= share * ENOUGH_STEPS[self.machine.device]

    def _steps(self, cost: StepCost) -> int:
        return estimate(cost, self.machine, bfloat16=self.bfloat16, steps=self.budget.steps, minutes=self.budget.minutes).steps

    def _width_said(self, width: int, cost: StepCost) -> str:
        device, reason = self.machine.device, f"{seconds(cost.flops / self.machine.speed(self.bfloat16))} a step by a rough count"
        if self.budget.minutes is not None:
            considered = ", ".join(str(w) for w in sorted(WIDTHS[device]))
            reason += (f"; the widest of {considered} with which {ENOUGH_STEPS[device]:,} steps fit" if self._enough(cost) else
                       f"; the narrowest of {considered}, as the time is short for {ENOUGH_STEPS[device]:,} steps")
        else:
            reason += "; a budget in steps leaves it to the memory alone"
        return f"width {width} on {self.machine.name}: {reason}"

    def _batch_said(self, cost: StepCost) -> str:
        if self.wishes.batch is not None:
            return f"{cost.batch} patches a step: as given"
        if cost.batch <= round_up(LEAST_BATCH, self.machine.processes):
            return f"{cost.batch} patches a step: the fewest that batch normalisation wants"
        return f"{cost.batch} patches a step: {cost.batch * prod(self.patch) / 1e6:.2g} million pixels, the usual on such a device"
