"""`HeadScore`: what a head of a UNet++ is worth, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class HeadScore:
    """One row of the table of L1 to L4 (UNet++, Zhou et al. 2018, section 4)."""

    depth: int
    mode: Literal["fast", "accurate"]
    """The head of this depth alone, or the mean of it and those before it."""
    score: float
    """On the held-out images, as "validation.score"."""
    parameters: int
    seconds: float
    """To predict a million pixels (voxels) on the machine that it was trained on."""
    cut: float | None = None
    """Of two classes, the probability of the second above which a pixel is of it, tuned for this head; None = as the model's."""
    recommended: bool = False
    """Whether it is the cheapest that none is clearly better than."""
