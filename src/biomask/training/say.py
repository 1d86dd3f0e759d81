"""What a training says before it begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from biomask.device import describe_device
from biomask.models.blocks import parameter_count
from biomask.training.begin import Begin
from biomask.training.place import Place, Split

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.recipe import Recipe


def say_data(place: Place, fit: Dataset, split: Split) -> None:
    """How the data are understood and split. fit: those that are trained on."""
    say, facts = place.progress.say, fit.facts
    if facts.groups_reason:
        say(f"groups that are never split: {facts.groups_reason}")
    say(f"device: {describe_device(place.device)}" + (f" x {place.world.size} processes" if place.world.size > 1 else ""))
    say(f"labels: {facts.kind} ({facts.kind_reason})")
    say(f"held out to choose the best weights: {split.reason}")
    kinds = Counter(look for look in facts.looks if look)
    if len(kinds) > 1:
        say("rare kinds of images are drawn more often: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))


def say_begin(place: Place, begin: Begin, left: Sequence[str]) -> None:
    """Which weights it begins with. left: names of tensors that begin anew."""
    anew = f"; begin anew: {', '.join(left[:5])}" if left else ""
    place.progress.say(f"begins with the weights of {begin.name}{anew}")


def say_plan(place: Place, sentences: Sequence[str] | None) -> None:
    """What was chosen and why; None = it was chosen when this training began."""
    if sentences is None:
        place.progress.say("sizes are those that were chosen when this training began (resume/plan.json)")
    for sentence in sentences or ():
        place.progress.say(f"· {sentence}")


def say_network(place: Place, recipe: Recipe, network: nn.Module) -> None:
    """Which network, and how large it is."""
    place.progress.say(f"network: {recipe.network.name}, {parameter_count(network):,} parameters")
