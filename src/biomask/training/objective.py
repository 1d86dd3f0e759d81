"""`Objective`: what a training learns and how well, and all that the loop does not know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from torch import Tensor, nn

from biomask.errors import InputError
from biomask.models.head_score import HeadScore

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Score:
    """On held-out images."""

    value: float
    """What weights are chosen by, 0..1. Classes: the mean Dice of all classes, background too, pooled over pixels,
    so that either class of two may be the one that matters. Multilabel: the mean Dice of the structures, pooled. Instances:
    the average precision, mean over IoU thresholds 0.5, 0.55, … 0.95 and over images, at the best of a few valleys."""
    parts: dict[str, float | None] = field(default_factory=dict)
    """Dice by name of class or structure; of instances also "ap50". None where undefined."""
    barren: bool = False
    """Whether one and the same class was predicted everywhere (no structure at all, no foreground)."""
    images: tuple[float | None, ...] = ()
    """The value of each image alone; None where undefined."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """With which it is so good, to be kept with the weights; empty = those of the objective."""


@dataclass(frozen=True)
class Work:
    """What scoring costs, in pixels and networks; never measured."""

    pixels: Sequence[int]
    """Of each held-out image, in the order in which they are scored."""
    step: int
    """Pixels that an optimisation step learns from."""
    trials: int
    """Validations of one network that the trials in the end take as long as, of the same images."""
    seconds: float
    """That trials take beside it; 0 for a budget in steps."""


@dataclass(frozen=True)
class Tried:
    """What the trials in the end chose."""

    augment: str
    """Copies that predictions are the mean of."""
    thresholds: Mapping[str, float] | None = None
    """Tuned; None = as they were."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of what was tried, by name."""
    heads: Sequence[HeadScore] = ()


class Objective(Protocol[Batch]):
    """Samples, loss and score of one kind of network."""

    validation: Dataset | None
    """The held-out images; None = none are."""
    score_is: str
    """What the value of a `Score` is, for people."""
    patch: tuple[int, ...]
    """Usual pixels of a sample along each axis."""
    thresholds: dict[str, float]
    """By which the weights are chosen, before any are tuned; empty where there are none."""

    def batch(self, numbers: range) -> Batch:
        """The samples with these numbers, on the device: a pure function of them."""
        ...

    def loss(self, network: nn.Module, batch: Batch, *, low: bool) -> Tensor:
        """The loss of a batch, a scalar in float32. low: whether convolutions run in bfloat16."""
        ...

    def pixels(self, batch: Batch) -> Tensor:
        """All grey values of a batch, of any shape."""
        ...

    def work(self, network: nn.Module) -> Work:
        """What validations cost. Called where there are held-out images."""
        ...

    def score(self, network: nn.Module, count: int) -> Score:
        """On so many of the held-out images; leaves the network's mode as it was."""
        ...

    def try_out(self, network: nn.Module, count: int, kept: Mapping[str, float]) -> Tried:
        """With the weights that are kept, what is chosen on so many of the held-out images when training ends.

        kept: the thresholds that were kept with them.
        """
        ...

    def barren(self) -> InputError:
        """The error that says why nothing was learnt."""
        ...


def scoring_order(seed: int, count: int) -> list[int]:
    """The held-out images in the order in which they are scored: where not all are, it is always the same ones."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0x0DDE]))
    return [int(i) for i in rng.permutation(count)]
