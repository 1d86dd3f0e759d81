"""What two images have to do with each other, and the groups that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MatchKind = Literal["duplicate", "near duplicate", "overlap", "neighbour"]


@dataclass(frozen=True)
class Match:
    """Two images that have something to do with each other."""

    a: int
    """Position of the first in the list of signatures."""
    b: int
    kind: MatchKind
    detail: str
    """In words: "same pixels"; "turned by 90°" (what was done to b); "left of" (where a is, seen from b); …"""
    score: float
    """How sure, to be compared within one kind only: 1 for duplicates, a correlation for near duplicates, the share of
    fingerprints that agree for overlaps, for neighbours how many times worse the next candidate is."""


def groups(count: int, matches: Sequence[Match]) -> list[int]:
    """For each of `count` images the number of its group, from 0 in order of first appearance; matches join groups.

    >>> groups(4, [Match(2, 0, "neighbour", "left of", 3.0)])
    [0, 1, 0, 2]
    """
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for match in matches:
        a, b = sorted((root(match.a), root(match.b)))
        parent[b] = a
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(count)]
