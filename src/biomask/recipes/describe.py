"""Parameters and work of every recipe's network, counted on the network itself, without memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from biomask import recipes
from biomask.checkpoint import construct
from biomask.models import Network
from biomask.models.blocks import parameter_count
from biomask.recipes.catalogue import ALIASES, CATALOGUE, USUAL_SIZES

#: Pixels of which the work is counted: 512² in 2D, 64³ in 3D, which are as many.
SIDES = {2: 512, 3: 64}


@dataclass(frozen=True)
class Description:
    """A recipe in one line."""

    name: str
    parameters: int
    """Trainable, biases included, of the network built for these channels and classes."""
    flops: float
    """Floating-point operations, two a multiply-add, of one prediction of at least 512² pixels or 64³ voxels."""
    in_channels: int
    classes: int
    """Channels that come out."""
    spatial_dims: int
    source: str
    good_for: str
    aliases: tuple[str, ...]


def describe(name: str) -> Description:
    """One recipe by name; UsageError for unknown ones."""
    recipe = recipes.get(name)
    entry = CATALOGUE[recipe.name]
    usual = USUAL_SIZES[entry.spatial_dims] if recipe.name == "default" else {}
    with torch.random.fork_rng([]), torch.device("meta"):
        network = construct(recipe.network.name, {**usual, **recipe.network.options}, entry.in_channels, entry.classes,
                            entry.spatial_dims)
    return Description(recipe.name, parameter_count(network), flops(network, SIDES[entry.spatial_dims]), entry.in_channels,
                       entry.classes, entry.spatial_dims, recipe.source, entry.good_for,
                       tuple(a for a, of in ALIASES.items() if of == recipe.name))


def describe_all() -> list[Description]:
    """All recipes, in the order of the catalogue."""
    return [describe(name) for name in CATALOGUE]


def flops(network: nn.Module, side: int) -> float:
    """Operations of one prediction whose output has at least `side` pixels along each axis, two a multiply-add.

    network: on the meta device; nothing is computed. Counted are convolutions and matrix products.
    """
    known = cast(Network, network.eval())
    size = [known.legal_size(side + 2 * margin, axis) for axis, margin in enumerate(known.margin)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty((1, known.in_channels, *size), device="meta"))
    return float(counter.get_total_flops())
