"""`Task`: what a network's channels mean, for each kind of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from biomask.labels import LabelKind, Legend

#: The threshold of two classes, by its name in a model's header: the probability of the second above which a pixel is of it.
CUT = "cut"

#: Of a detector, the score at or below which an object is left out, by its name in a model's header.
SCORE = "score"

Target = Literal["distance", "borders"]


@dataclass(frozen=True)
class Task:
    """What is learnt from labels of a kind, and what the channels of a network stand for.

    kind        channels of the network
    classes     K, softmax; soft labels (averages of experts) are classes once at least half agree
    multilabel  one a structure, each a sigmoid; structures may overlap
    instances   K, softmax: background and the classes of objects; with target "distance" two more, each a sigmoid: the
                distance to what lies around, 1 at an object's centre, and the border between touching objects
    """

    kind: Literal["classes", "multilabel", "instances"]
    entries: int
    """Number of entries of the legend."""
    target: Target = "distance"
    """Of instances."""

    @classmethod
    def of(cls, kind: LabelKind, legend: Legend, target: Target = "distance") -> Task:
        """The task for labels of a kind with a legend."""
        return cls("classes" if kind == "soft" else kind, len(legend), target)

    @property
    def softmax(self) -> int:
        """Leading channels that exclude each other."""
        return 0 if self.kind == "multilabel" else self.entries

    @property
    def maps(self) -> bool:
        """Whether distance and border follow the classes."""
        return self.kind == "instances" and self.target == "distance"

    @property
    def borders(self) -> bool:
        """Whether touching objects have background between them that weighs more."""
        return self.kind == "instances" and self.target == "borders"

    @property
    def channels(self) -> int:
        """Channels of the network's output."""
        return self.entries - 1 if self.kind == "multilabel" else self.entries + 2 * self.maps

    def names(self, legend: Legend) -> tuple[str, ...]:
        """A name a channel."""
        entries = tuple(e.name for e in legend)
        return entries[1:] if self.kind == "multilabel" else (*entries, *(("distance", "border") if self.maps else ()))

    def activate(self, logits: Tensor) -> Tensor:
        """Logits (channels, *S) → probabilities, float32, of the same shape."""
        logits = logits.float()
        return torch.cat([logits[: self.softmax].softmax(dim=0), logits[self.softmax :].sigmoid()])
