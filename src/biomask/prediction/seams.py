"""Windows over a large image, and the objects found in them as those of one image: each once, whatever windows saw it.

One axis of two neighbouring windows::

    image   |0 . . . . . . . . . . . . . . . . . . . . . . . . . . . size|
    first   |<================ tile ================>|
    second            |<================ tile ================>|
                      |<------ at least overlap ---->|

An object smaller than the overlap lies inside one of them with at least a pixel around it: that one sees it whole. What another one
has of it touches the border, and goes. Of an object that both see whole the higher score stays. A larger object may be cut by both:
its parts are joined where they agree on the pixels that both windows see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from biomask.errors import SizeError
from biomask.prediction.crops import pixels_in, shared_pixels, union
from biomask.prediction.detections import Detections, together

#: Pixels that must lie between an object and the border of its window, or it counts as cut.
MARGIN = 1

#: The IoU from which on two detections are one object.
SAME = 0.5

#: A detector's boxes of cut objects end a little before the border: nearer to it than this share of an object's own length, it may
#: be cut. It goes where this share of it lies in a larger one that another window sees, which found nothing else there.
NEAR, WITHIN = 0.25, 0.75

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Windows:
    """The windows of an image, all of one size, in reading order."""

    size: tuple[int, int]
    """(Y, X) of the image."""
    tile: tuple[int, int]
    """(Y, X) of a window."""
    starts: tuple[tuple[int, ...], tuple[int, ...]]
    """First rows, first columns."""

    @classmethod
    def of(cls, size: tuple[int, int], tile: tuple[int, int], overlap: int) -> Windows:
        """As few as cover the image, neighbours sharing at least `overlap` pixels, evenly spread. Raises SizeError where a window
        is not larger than the overlap."""
        short = (min(size[0], tile[0]), min(size[1], tile[1]))
        if any(t < n and t <= overlap for t, n in zip(tile, size, strict=True)):
            raise SizeError(f"windows of {tile[0]} x {tile[1]} pixels cannot share {overlap}", fix="give --tile a larger number")
        rows, columns = (_starts(n, t, overlap) for n, t in zip(size, short, strict=True))
        return cls(size, short, (rows, columns))

    def __len__(self) -> int:
        return len(self.starts[0]) * len(self.starts[1])

    def place(self, number: int) -> tuple[int, int]:
        """First row and column of a window."""
        row, column = divmod(number, len(self.starts[1]))
        return self.starts[0][row], self.starts[1][column]

    def later(self, number: int) -> Iterator[int]:
        """Numbers of the windows after one that see some of its pixels."""
        columns = len(self.starts[1])
        near = [[i for i, start in enumerate(starts) if abs(start - own) < tile]
                for starts, own, tile in zip(self.starts, self.place(number), self.tile, strict=True)]
        return (n for n in (row * columns + column for row in near[0] for column in near[1]) if n > number)


def _starts(size: int, tile: int, overlap: int) -> tuple[int, ...]:
    """First pixels of the windows along an axis.

    >>> _starts(100, 40, 10)
    (0, 30, 60)
    """
    count = 1 if tile >= size else -(-(size - overlap) // (tile - overlap))
    return tuple(round(n * (size - tile) / max(1, count - 1)) for n in range(count))


def merged(parts: Sequence[Detections], windows: Windows) -> Detections:
    """The objects of an image, by falling score. parts: those of each window, in pixels of the image."""
    found = together(parts)
    if len(windows) == 1:
        return found.ordered()
    window = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    view = _View.of(found, window, windows)
    kept = view.whole | ~view.seen_whole
    pairs = _Pairs()
    for first, second in _touching(found, window, kept, windows):
        _compare(view, pairs, first, second)
    gone = _nested(view, pairs) | pairs.lost
    kept[list(gone)] = False
    groups = _groups([(a, b) for a, b in pairs.parts if kept[a] and kept[b]])
    singles = kept.copy()
    singles[[i for group in groups for i in group]] = False
    singles[_outscored(found.scores, [(a, b) for a, b in pairs.same if singles[a] and singles[b]])] = False
    return _assembled(found, np.flatnonzero(singles), groups).ordered()


@dataclass(frozen=True)
class _View:
    """How the windows see what was found in them."""

    found: Detections
    window: npt.NDArray[np.int64]
    """(N,) number of the window of each."""
    whole: Bools
    """(N,): not cut by its own window."""
    near: Bools
    """(N,): so near to a border of its window that it may be cut."""
    seen_whole: Bools
    """(N,): whether some window would have it whole."""
    windows: Windows

    @classmethod
    def of(cls, found: Detections, window: npt.NDArray[np.int64], windows: Windows) -> _View:
        whole, near, seen = (np.full(len(found), value) for value in (True, False, True))
        columns = len(windows.starts[1])
        for axis, own in ((0, window // columns), (1, window % columns)):
            low, high = found.boxes[:, 1 - axis], found.boxes[:, 3 - axis]
            starts, tile, size = np.array(windows.starts[axis]), windows.tile[axis], windows.size[axis]
            before = np.where(starts > 0, low[:, None] - starts, np.inf)
            after = np.where(starts + tile < size, starts + tile - high[:, None], np.inf)
            inside = np.minimum(before, after) >= MARGIN
            clearance = np.minimum(before, after)[np.arange(len(found)), own]
            whole &= clearance >= MARGIN
            near |= clearance <= np.maximum(2 * MARGIN, NEAR * (high - low))
            seen &= inside.any(axis=1)
        return cls(found, window, whole, near, seen, windows)

    def shared(self, first: int, second: int) -> tuple[slice, slice]:
        """Rows and columns that the windows of two detections both see."""
        (top, left), (low, right) = (self.windows.place(int(self.window[i])) for i in (first, second))
        height, width = self.windows.tile
        return slice(max(top, low), min(top, low) + height), slice(max(left, right), min(left, right) + width)


@dataclass
class _Pairs:
    """What pairs of detections from two windows are to each other."""

    same: list[tuple[int, int]] = field(default_factory=list)
    """One object, seen by both."""
    parts: list[tuple[int, int]] = field(default_factory=list)
    """Parts of one object that is larger than the overlap."""
    inside: list[tuple[int, int]] = field(default_factory=list)
    """(smaller, larger): most of one lies in the other."""
    lost: set[int] = field(default_factory=set)
    """Cut ones that another window sees whole."""


def _touching(found: Detections, window: npt.NDArray[np.int64], kept: Bools, windows: Windows) -> Iterator[tuple[int, int]]:
    """Pairs of one class from two windows whose boxes share some area."""
    members = {int(w): np.flatnonzero((window == w) & kept) for w in np.unique(window[kept])}
    for w, first in members.items():
        for second in (members[v] for v in windows.later(w) if v in members):
            one, other = found.boxes[first][:, None], found.boxes[second][None]
            meet = (np.minimum(one[..., 2:], other[..., 2:]) > np.maximum(one[..., :2], other[..., :2])).all(axis=-1)
            meet &= found.classes[first][:, None] == found.classes[second]
            yield from ((int(first[p]), int(second[q])) for p, q in np.argwhere(meet))


def _compare(view: _View, pairs: _Pairs, first: int, second: int) -> None:
    """Note what two detections are to each other."""
    masks = view.found.masks
    both = shared_pixels(masks[first], masks[second])
    if not both:
        return
    one, other = (int(masks[i][0].sum()) for i in (first, second))
    cut = ~view.whole[[first, second]]
    here = [pixels_in(masks[i], view.shared(first, second)) for i in (first, second)]
    agree = both >= SAME * (sum(here) - both)
    if cut.all():
        if agree:
            pairs.parts.append((first, second))
    elif cut.any():
        which = int(cut[1])
        if both >= SAME * here[which]:
            pairs.lost.add((first, second)[which])
    elif both >= SAME * (one + other - both):
        pairs.same.append((first, second))
    elif view.near[first] and view.near[second] and agree:
        pairs.parts.append((first, second))
    elif both >= WITHIN * min(one, other):
        pairs.inside.append((first, second) if one < other else (second, first))


def _nested(view: _View, pairs: _Pairs) -> set[int]:
    """Pieces of larger objects: near a border, and not found by the window that has the larger one."""
    twins = {(a, int(view.window[b])) for p in pairs.same for a, b in (p, p[::-1])}
    return {small for small, large in pairs.inside
            if view.near[small] and (small, int(view.window[large])) not in twins}


def _outscored(scores: npt.NDArray[np.float32], same: Sequence[tuple[int, int]]) -> list[int]:
    """Of detections that are one object, all but those that none of a higher score stands for; the earlier one wins a tie."""
    partners: dict[int, list[int]] = {}
    for a, b in same:
        partners.setdefault(a, []).append(b)
        partners.setdefault(b, []).append(a)
    gone = set[int]()
    for one in sorted(partners, key=lambda i: (-scores[i], i)):
        if one not in gone:
            gone.update(partners[one])
    return sorted(gone)


def _groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Which belong together, by chains of pairs, each of at least two."""
    root: dict[int, int] = {}

    def find(i: int) -> int:
        while root.setdefault(i, i) != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for a, b in pairs:
        root[find(a)] = find(b)
    groups: dict[int, list[int]] = {}
    for i in sorted(root):
        groups.setdefault(find(i), []).append(i)
    return list(groups.values())


def _assembled(found: Detections, singles: npt.NDArray[np.int64], groups: Sequence[list[int]]) -> Detections:
    """The single ones, and one for each group: all pixels and the box around all, with the rest as the surest part has it."""
    if not groups:
        return found.taken(singles)
    surest = [max(group, key=lambda i: (found.scores[i], -i)) for group in groups]
    whole = found.taken([*singles.tolist(), *surest])
    boxes, masks = whole.boxes.copy(), list(whole.masks)
    for place, group in enumerate(groups, start=len(singles)):
        boxes[place, :2] = found.boxes[group, :2].min(axis=0)
        boxes[place, 2:] = found.boxes[group, 2:].max(axis=0)
        masks[place] = union([found.masks[i] for i in group])
    return replace(whole, boxes=boxes, masks=tuple(masks), joined=found.joined + len(groups))
