"""Which images are held out."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np


def hold_out(names: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int], str]:
    """(training indices, validation indices, reason) for images with `names`.

    Numbered names (slices of a stack, frames of a film) give up a contiguous block, since neighbours look alike and a
    neighbour in training would flatter the score; others a random choice by `seed`. One image alone is not split.

    >>> hold_out(["s00", "s01", "s02", "s03"], 0.25, seed=0)
    ([0, 1, 2], [3], 'the last 1 of 4 numbered images (a contiguous block)')
    """
    count = min(len(names) - 1, max(1, round(share * len(names)))) if share > 0 else 0
    if count <= 0:
        return list(range(len(names))), [], "none held out: " + ("as told" if share == 0 else "there is only one image")
    if is_numbered(names):
        order = sorted(range(len(names)), key=lambda i: _number(names[i]))
        reason = f"the last {count} of {len(names)} numbered images (a contiguous block)"
        return sorted(order[:-count]), sorted(order[-count:]), reason
    chosen = np.random.Generator(np.random.Philox(key=[seed, 0x5B117])).permutation(len(names))[:count]
    held = sorted(int(i) for i in chosen)
    return [i for i in range(len(names)) if i not in set(held)], held, f"{count} of {len(names)} images at random"


def is_numbered(names: Sequence[str]) -> bool:
    """Whether names differ in one number only, and most numbers follow each other."""
    if len(names) < 3 or len({re.sub(r"\d+", "#", n) for n in names}) != 1:
        return False
    fields = list(zip(*(re.findall(r"\d+", n) for n in names), strict=True))
    varying = [f for f in fields if len(set(f)) > 1]
    if len(varying) != 1:
        return False
    numbers = sorted(int(v) for v in varying[0])
    steps = np.diff(numbers)
    return bool((steps == np.median(steps)).mean() >= 0.8)


def _number(name: str) -> list[int]:
    return [int(v) for v in re.findall(r"\d+", name)]
