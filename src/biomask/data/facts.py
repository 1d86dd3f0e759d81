"""What is kept of images and labels after one reading: facts, not pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from biomask.data.pairing import Pair


@dataclass(frozen=True)
class ImageFacts:
    """What is kept of an image."""

    size: tuple[int, ...]
    axes: str
    channels: int
    dtype: str
    spacing: dict[str, float] | None
    channel_names: tuple[str, ...]
    low: float
    """Lowest finite value; NaN where there is none."""
    high: float
    not_finite: int
    """Number of values that are NaN or infinite."""
    at_top: float
    """Share of pixels at the highest value, in the channel where it is largest."""
    grey: bool
    """Whether three channels are all the same."""
    look: str = ""
    """What kind of image it is, roughly: dark, middle or bright, and whether in colour."""


@dataclass(frozen=True)
class LabelFacts:
    """What is kept of the labels of an image, or of one structure in it."""

    form: str
    counts: dict[int, int]
    """Value (or 0xRRGGBB): pixels; of colours the most common ones."""
    distinct: int
    """Number of values or colours."""
    pixels: int
    low: float
    high: float
    pieces: int
    """Connected regions of one value other than background and the ignored one."""
    areas: tuple[float, float, float]
    """10th, 50th and 90th percentile of the pixels of a piece; 0 without one."""
    objects: int
    """Values other than 0 and the ignored one."""
    nested: float | None
    """Share of neighbouring levels among neighbouring pixels that differ; None where it was not asked."""
    gaps: tuple[int, ...]
    """Planes of a volume without labels between planes with labels."""
    ends: int
    """Planes without labels before the first and after the last with labels."""
    palette: tuple[tuple[int, int, int], ...] | None = None
    classes: dict[int, str] = field(default_factory=dict)
    colours: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    in_colour: bool = False
    """Of values: whether they are saved as three equal colours."""
    flat: dict[int, int] = field(default_factory=dict)
    """Of colours, and of values where there are many: pixels amid others of nearly the same; the rest are edges, or noise."""

    @property
    def single(self) -> float:
        """Values over pieces: 1 where each value is one piece."""
        return self.objects / self.pieces if self.pieces else 1.0

    @property
    def empty(self) -> bool:
        """Whether nothing but 0 (or one colour) is there."""
        return self.objects == 0


@dataclass(frozen=True)
class Inspected:
    """What is kept of a pair: its facts, not its pixels."""

    pair: Pair
    image: ImageFacts
    labels: tuple[LabelFacts, ...]
    """One, or one a structure; empty for an image without labels."""
    hashes: dict[str, str]
    """SHA-256 of its files, by "name:image" and "name:labels"."""
    extra: Any = None
    """What the probe gave."""
