"""What the labels of an image hold of each class: pixels, and objects with their sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from biomask.data.colours import unpack
from biomask.data.encoding import UNNAMED, Encoding
from biomask.data.facts import Inspected, LabelFacts


@dataclass(frozen=True)
class Held:
    """What the labels of one image hold, by position in the legend."""

    pixels: dict[int, int]
    """Of each class, but the ignored value."""
    total: int
    """All pixels but the ignored ones."""
    ignored: int = 0
    objects: dict[int, int] = field(default_factory=dict)
    """Of each class, where labels are objects."""
    sizes: dict[int, list[int]] = field(default_factory=dict)
    """Pixels of each object."""

    def share(self, position: int) -> float:
        """Of the pixels."""
        return self.pixels.get(position, 0) / self.total if self.total else 0.0


def held(item: Inspected, encoding: Encoding | None) -> Held | None:
    """None where there are no labels, or none that can be counted."""
    if encoding is None or not item.labels or any(f.form == "fractions" for f in item.labels):
        return None
    if encoding.kind in ("multilabel", "soft"):
        return _structures(item.labels, encoding)
    facts = item.labels[0]
    if encoding.kind == "instances" or encoding.form == "objects":
        return _objects(facts, encoding)
    counts = dict(facts.counts)
    ignored = counts.pop(encoding.ignore, 0) if encoding.ignore is not None else 0
    pixels: Counter[int] = Counter()
    for value, n in counts.items():
        position = position_of(value, encoding)
        if position is not None:
            pixels[position] += n
    return Held(dict(pixels), facts.pixels - ignored, ignored)


def _structures(labels: Sequence[LabelFacts], encoding: Encoding) -> Held:
    """Of averages of experts, pixels where at least half agree."""
    pixels = {k + 1: sum(n for v, n in f.counts.items() if v != encoding.ignore and v >= full / 2 and v > 0)
              for k, (f, full) in enumerate(zip(labels, encoding.full, strict=False))}
    return Held(pixels, labels[0].pixels)


def _objects(facts: LabelFacts, encoding: Encoding) -> Held:
    """Objects by class; those without a class name count as the only one."""
    sizes: dict[int, list[int]] = {}
    background = 0
    for number, n in facts.counts.items():
        if number == 0:
            background = n
        elif number != encoding.ignore:
            name = facts.classes.get(number, UNNAMED)
            sizes.setdefault(encoding.names.index(name) + 1 if name in encoding.names else 1, []).append(n)
    ignored = facts.counts.get(encoding.ignore, 0) if encoding.ignore else 0
    pixels = {0: background, **{k: sum(v) for k, v in sizes.items()}}
    return Held(pixels, facts.pixels - ignored, ignored, {k: len(v) for k, v in sizes.items()}, sizes)


def position_of(value: int, encoding: Encoding) -> int | None:
    """The place in the legend of a stored value or colour; None for one that it lacks."""
    if encoding.form == "colours":
        distances = [sum((a - b) ** 2 for a, b in zip(unpack(value), c, strict=True)) for c in encoding.colours]
        return int(np.argmin(distances)) if distances else None
    values = encoding.legend.values
    stands_for = encoding.stands_for(value)
    return values.index(stands_for) if stands_for in values else None
