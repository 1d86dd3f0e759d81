"""Keypoints of a data set: their names, what joins them, and which of them a mirror image exchanges."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biomask.data.annotations import coco_categories
from biomask.errors import LabelsError

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset

#: Words for the two sides of a body, folded.
SIDES: dict[str, str] = {"left": "right", "right": "left", "l": "r", "r": "l"}


@dataclass(frozen=True)
class KeypointNames:
    """What the keypoints of a data set are called."""

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()
    """Which are joined by a line, as positions from 0."""
    swaps: tuple[tuple[int, int], ...] = ()
    """Pairs that change places in a mirror image, as positions from 0."""

    def __post_init__(self) -> None:
        ends = [k for pair in self.swaps for k in pair]
        if len(set(ends)) < len(ends) or any(not 0 <= k < len(self.names) for k in ends):
            raise LabelsError(f"pairs of keypoints that a mirror exchanges {list(self.swaps)} are not distinct, or none of the "
                              f"{len(self.names)} keypoints", fix="each keypoint is in one pair at most, counted from 0")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def mirrored(self) -> tuple[int, ...]:
        """For each keypoint of a mirror image its position in the original."""
        order = list(range(len(self.names)))
        for a, b in self.swaps:
            order[a], order[b] = b, a
        return tuple(order)

    @property
    def said(self) -> str:
        """What was inferred, as a sentence."""
        alone = [n for k, n in enumerate(self.names) if self.mirrored[k] == k]
        pairs = ", ".join(f"{self.names[a]} and {self.names[b]}" for a, b in self.swaps)
        return (f"{len(self.names)} keypoints; a mirror image exchanges {pairs or 'none of them'}"
                + (f"; {', '.join(alone)} {'stays' if len(alone) == 1 else 'stay'}" if alone and self.swaps else ""))


def swaps_of(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of names that differ in the side alone: left_eye and right_eye, l_ear and r_ear, EyeL and EyeR, lefteye and righteye.

    >>> swaps_of(["nose", "left_eye", "right_eye", "tail_l", "tail_r", "left"])
    ((1, 2), (3, 4))
    """
    words = [tuple(w.casefold() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", name)) for name in names]
    place = {w: k for k, w in reversed(list(enumerate(words)))}
    found: dict[int, int] = {}
    for k, own in enumerate(words):
        partner = next((place[other] for other in _other_side(own) if other in place), None)
        if partner is not None and partner != k and k not in found and partner not in found:
            found[k], found[partner] = partner, k
    return tuple((a, b) for a, b in sorted(found.items()) if a < b)


def _other_side(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The same name on the other side, in each way that it may be meant; words first, then word parts."""
    found = [(*words[:i], SIDES[w], *words[i + 1:]) for i, w in enumerate(words) if w in SIDES]
    for i, word in enumerate(words):
        for side in ("left", "right"):
            rest = word.removeprefix(side), word.removesuffix(side)
            parts = [SIDES[side] + rest[0]] * (rest[0] != word) + [rest[1] + SIDES[side]] * (rest[1] != word)
            found += [(*words[:i], part, *words[i + 1:]) for part in parts if word != side]
    return found


def keypoints_of(dataset: Dataset) -> KeypointNames | None:
    """The keypoints of the classes of a data set, with their pairs; None where no COCO file names any.

    Raises LabelsError where classes have different ones: a detector learns one list.
    """
    files = {p.truth.files[0] for p in dataset.pairs if p.truth is not None and p.truth.form == "coco"}
    classes = {e.name for e in dataset.legend}
    known = [c for file in sorted(files) for c in coco_categories(file) if c.keypoints and (c.name in classes or len(classes) < 3)]
    lists = dict.fromkeys(c.keypoints for c in known)
    if len(lists) > 1:
        names = ", ".join(dict.fromkeys(f"{c.name} ({len(c.keypoints)})" for c in known))
        raise LabelsError(f"classes have different keypoints: {names}", where=sorted(files)[0],
                          fix="keep the keypoints of one class, or train a detector for each")
    if not known:
        return None
    return KeypointNames(known[0].keypoints, next((c.skeleton for c in known if c.skeleton), ()), swaps_of(known[0].keypoints))
