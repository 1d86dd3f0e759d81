"""Which images are held out."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np


def hold_out(names: Sequence[str], share: float, seed: int,
             groups: Sequence[str] | None = None) -> tuple[list[int], list[int], str]:
    """(training indices, validation indices, reason) for images with `names`.

    groups: the group of each image; no group is ever cut. Numbered names (slices of a stack, frames of a film) give up a
    contiguous block, since neighbours look alike and a neighbour in training would flatter the score; others a random
    choice by `seed`. One image alone, or one group, is not split.

    >>> hold_out(["s00", "s01", "s02", "s03"], 0.25, seed=0)
    ([0, 1, 2], [3], 'the last 1 of 4 numbered images (a contiguous block)')
    >>> hold_out(["a1", "a2", "b1", "b2"], 0.5, seed=0, groups=["a", "a", "b", "b"])[2]
    '2 of 4 images at random, whole groups (1 of 2)'
    """
    count = min(len(names) - 1, max(1, round(share * len(names)))) if share > 0 else 0
    if count <= 0:
        return list(range(len(names))), [], "none held out: " + ("as told" if share == 0 else "there is only one image")
    if groups is not None and len(set(groups)) < len(names):
        return _whole_groups(groups, count, seed)
    if is_numbered(names):
        order = sorted(range(len(names)), key=lambda i: number_of(names[i]))
        reason = f"the last {count} of {len(names)} numbered images (a contiguous block)"
        return sorted(order[:-count]), sorted(order[-count:]), reason
    chosen = np.random.Generator(np.random.Philox(key=[seed, 0x5B117])).permutation(len(names))[:count]
    held = sorted(int(i) for i in chosen)
    return [i for i in range(len(names)) if i not in set(held)], held, f"{count} of {len(names)} images at random"


def _whole_groups(groups: Sequence[str], count: int, seed: int) -> tuple[list[int], list[int], str]:
    """Groups in random order, each taken if that brings the number of images nearer to `count`."""
    distinct = list(dict.fromkeys(groups))
    if len(distinct) < 2:
        return list(range(len(groups))), [], "none held out: all images belong to one group"
    order = np.random.Generator(np.random.Philox(key=[seed, 0x5B117])).permutation(len(distinct))
    sizes = {g: list(groups).count(g) for g in distinct}
    held, total = set[str](), 0
    for name in (distinct[int(i)] for i in order):
        if len(held) < len(distinct) - 1 and abs(total + sizes[name] - count) < abs(total - count):
            held.add(name)
            total += sizes[name]
    if not held:  # every group is more than twice what is wanted
        name = min(distinct, key=lambda g: sizes[g])
        held, total = {name}, sizes[name]
    indices = [i for i, g in enumerate(groups) if g in held]
    return ([i for i, g in enumerate(groups) if g not in held], indices,
            f"{total} of {len(groups)} images at random, whole groups ({len(held)} of {len(distinct)})")


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


def number_of(name: str) -> list[int]:
    """The numbers in a name, to sort by."""
    return [int(v) for v in re.findall(r"\d+", name)]
