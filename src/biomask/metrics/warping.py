"""The warping error of ISBI 2012: what a truth whose borders may move still has wrong (spec 7.2; Jain et al., CVPR 2010)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biomask.errors import SizeError
from biomask.metrics.rand import planes

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]

#: The eight neighbours (dy, dx), anticlockwise from the right one: bit k of a code says whether neighbour k is foreground.
RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def _connectivity() -> npt.NDArray[np.int64]:
    """(256,) Yokoi's connectivity number of each code: how many pieces of foreground, 4-connected within the ring, touch the
    centre by an edge; but 0 for a ring that is all foreground, as flipping its centre makes or fills a hole."""
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    joined = bits * np.roll(bits, -1, axis=1) * np.roll(bits, -2, axis=1)  # an edge neighbour, the corner after it, the next one
    return np.asarray((bits - joined)[:, ::2].sum(axis=1))


#: By code.
PIECES = _connectivity()

#: By code: whether the centre is simple, foreground 4-connected and background 8-connected. Flipping a simple pixel, whichever it
#: is, neither joins, parts, makes nor removes a piece of either.
SIMPLE = PIECES == 1

#: By kind of mistake, for pixels that are background in the warped truth and for those that are cell: how connected a cluster is.
_CLUSTERS = {"splits": (4, 4), "mergers": (8, 8), "holes_added": (4, 8), "holes_filled": (4, 4), "objects_added": (4, 4),
             "objects_lost": (4, 4)}


@dataclass(frozen=True)
class Mistakes:
    """Numbers of pixels that the warped truth cannot agree on, or of clusters of them, by what their flip would do to it."""

    splits: int = 0
    """It would part an object."""
    mergers: int = 0
    """It would join objects."""
    holes_added: int = 0
    """It would make a hole."""
    holes_filled: int = 0
    """It would remove one."""
    objects_added: int = 0
    """It would make an object."""
    objects_lost: int = 0
    """It would remove one."""

    def __add__(self, other: Mistakes) -> Mistakes:
        return Mistakes(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def total(self) -> int:
        """All of them."""
        return sum(int(getattr(self, f.name)) for f in fields(self))


@dataclass(frozen=True)
class Warping:
    """What is left after warping, of one slice or, added with +, of several."""

    pixels: int
    """All pixels of the slices."""
    mistakes: Mistakes
    """In pixels."""
    clusters: Mistakes
    """The same where neighbours of one kind count once."""

    def __add__(self, other: Warping) -> Warping:
        return Warping(self.pixels + other.pixels, self.mistakes + other.mistakes, self.clusters + other.clusters)

    @property
    def error(self) -> float | None:
        """First reading: the share of pixels on which the warped truth and the segmentation disagree; None without pixels."""
        return self.mistakes.total / self.pixels if self.pixels else None

    @property
    def splits_and_mergers(self) -> float | None:
        """Second reading: pixels of splits and mergers alone over all pixels; its minimum over thresholds is what the challenge
        listed, as far as is known."""
        return (self.mistakes.splits + self.mistakes.mergers) / self.pixels if self.pixels else None


def warping_error(truth: npt.NDArray[Any], probabilities: npt.NDArray[Any], threshold: float = 0.5,
                  ignore: Mask | None = None) -> Warping:
    """Warp each slice of the truth towards a segmentation; what it cannot agree on are mistakes of topology.

    truth, probabilities, threshold, ignore and errors: as in `warp`, or (Z, Y, X) of slices. A pixel that is left is sorted by the
    4-connected objects of the warped truth among its eight neighbours, as in Fiji, where one that meets it at a corner only
    counts too: with none it is an object added or lost, with several a merger or a split. With one it is a hole added where the
    pixel and all neighbours are in the object, or where it is background between them; a split where the object falls apart
    without it; else a hole filled.

    >>> truth = np.zeros((5, 7), bool)
    >>> truth[1:4, 1:6] = True
    >>> cut = truth.astype(float)
    >>> cut[:, 3] = 0
    >>> found = warping_error(truth, cut)
    >>> found.mistakes.splits, found.mistakes.total, round(found.error, 4)
    (1, 1, 0.0286)
    """
    found = Warping(0, Mistakes(), Mistakes())
    for true, cells, unknown in zip(*map(planes, _checked(truth, probabilities, ignore)), strict=True):
        warped = warp(true, cells, threshold, unknown)
        found += Warping(warped.size, *_sorted_out(warped, (warped != (cells > threshold)) & ~unknown))
    return found


def warp(truth: npt.NDArray[Any], probabilities: npt.NDArray[Any], threshold: float = 0.5, ignore: Mask | None = None) -> Mask:
    """The truth after all flips towards a segmentation that leave its topology as it is: bool (Y, X).

    truth: (Y, X), not 0 = cell. probabilities: of cell, (Y, X); above the threshold is cell. ignore: bool (Y, X), True = unknown:
    such pixels are never flipped. Beyond the image is background. Raises SizeError for other shapes.

    Pixels that disagree are visited one by one, those farthest from the threshold first, equal ones column by column from the
    left, each from above; a simple one is flipped at once, so that the next sees it. Passes are repeated until one flips nothing.
    The order makes the result an upper bound of what no order can agree on.
    """
    truth, probabilities, unknown = _checked(truth, probabilities, ignore)
    if truth.ndim != 2:
        raise SizeError(f"an array of shape {truth.shape} is no slice (y, x)")
    inside = np.pad(truth != 0, 1)
    x, y = np.nonzero((((truth != 0) != (probabilities > threshold)) & ~unknown).T)
    distance = np.abs(probabilities[y, x].astype(np.float64) - threshold).astype(np.float32)
    order = np.argsort(-distance, kind="stable")
    _flip(inside.reshape(-1), (y[order] + 1) * inside.shape[1] + x[order] + 1, _steps(inside))
    return inside[1:-1, 1:-1]


def _checked(truth: npt.NDArray[Any], probabilities: npt.NDArray[Any],
             ignore: Mask | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Mask]:
    """Arrays of one shape; the last says what is unknown."""
    truth, probabilities = np.asarray(truth), np.asarray(probabilities)
    unknown = np.zeros(truth.shape, np.bool_) if ignore is None else np.asarray(ignore, np.bool_)
    for name, array in (("probabilities", probabilities), ("ignore", unknown)):
        if array.shape != truth.shape:
            raise SizeError(f"truth has shape {truth.shape}, {name} {array.shape}")
    return truth, probabilities, unknown


def _steps(padded: npt.NDArray[Any]) -> Positions:
    """(8,) from a position in the flattened array to those of its ring."""
    return np.array([dy * padded.shape[1] + dx for dy, dx in RING])


def _flip(inside: Mask, pixels: Positions, steps: Positions) -> None:
    """Visit pixels (positions in the flattened, padded array) in their order, pass after pass, and flip simple ones in place.

    The same as one by one, but a round at a time: pixels of one round do not touch, and all their neighbours that come earlier in
    the order are of earlier rounds, so each sees what it would see in its turn. A pixel is visited again only after a
    neighbour was flipped since; else nothing can have changed for it.
    """
    place = np.full(inside.size, -1, np.int32)
    place[pixels] = np.arange(len(pixels), dtype=np.int32)
    rounds = _rounds(place, pixels, steps)
    number = np.zeros(len(pixels), np.int32)
    for n, members in enumerate(rounds):
        number[members] = n
    undone, awake = np.ones(len(pixels), np.bool_), np.ones(len(pixels), np.bool_)
    while awake.any():
        again = np.zeros(len(pixels), np.bool_)
        for n, members in enumerate(rounds):
            visited = members[awake[members]]
            if not len(visited):
                continue
            codes = np.packbits(inside[pixels[visited][:, None] + steps], axis=1, bitorder="little")[:, 0]
            flipped = visited[SIMPLE[codes]]
            inside[pixels[flipped]] ^= True
            undone[flipped] = False
            touched = place[pixels[flipped][:, None] + steps]
            touched = touched[touched >= 0]
            touched = touched[undone[touched]]
            later = number[touched] > n
            awake[touched[later]] = True
            again[touched[~later]] = True
        awake = again


def _rounds(place: npt.NDArray[np.int32], pixels: Positions, steps: Positions) -> list[npt.NDArray[np.intp]]:
    """Numbers of pixels by round: one more than the latest round of any neighbour that comes earlier in the order."""
    around = place[pixels[:, None] + steps]
    waits = ((around >= 0) & (around < np.arange(len(pixels))[:, None])).sum(axis=1)
    found, ready = list[npt.NDArray[np.intp]](), np.flatnonzero(waits == 0)
    while len(ready):
        found.append(ready)
        after = around[ready]
        after = after[after > ready[:, None]]
        np.subtract.at(waits, after, 1)
        ready = np.unique(after[waits[after] == 0]).astype(np.intp)
    return found


def _sorted_out(warped: Mask, left: Mask) -> tuple[Mistakes, Mistakes]:
    """(what is left in pixels, in clusters). warped, left: bool (Y, X); left: where the segmentation differs."""
    inside = np.pad(warped, 1)
    pixels, steps = np.flatnonzero(np.pad(left, 1)), _steps(inside)
    around = pixels[:, None] + steps
    cell = inside.reshape(-1)[pixels]
    objects = ndimage.label(inside)[0].reshape(-1)[around]
    grounds = ndimage.label(~inside, np.ones((3, 3)))[0].reshape(-1)[around]
    several, none = _distinct(objects) > 1, _distinct(objects) == 0
    full = (objects != 0).all(axis=1)
    # Pieces of the object that touch a pixel have gaps between them. Where two gaps lead into one piece of the background, nothing
    # joins the sides but the pixel; where each leads into one of its own, the object goes around all but one of them.
    pieces = PIECES[np.packbits(objects != 0, axis=1, bitorder="little")[:, 0]]
    falls_apart = pieces > _distinct(grounds)
    one = ~several & ~none
    kinds = {"splits": cell & (several | (one & ~full & falls_apart)), "mergers": ~cell & several,
             "holes_added": one & (cell == full), "holes_filled": one & ((~cell & full) | (cell & ~full & ~falls_apart)),
             "objects_added": ~cell & none, "objects_lost": cell & none}
    return (Mistakes(**{kind: int(which.sum()) for kind, which in kinds.items()}),
            Mistakes(**{kind: sum(_clusters(inside.shape, pixels[which & (cell == side)], connected)
                                  for side, connected in zip((False, True), _CLUSTERS[kind], strict=True))
                        for kind, which in kinds.items()}))


def _distinct(ids: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(n,) numbers of different ids but 0 in each row."""
    ordered = np.sort(ids, axis=1)
    new = np.diff(ordered, axis=1, prepend=0) != 0
    return np.asarray(new.sum(axis=1))


def _clusters(shape: tuple[int, ...], pixels: Positions, connected: int) -> int:
    there = np.zeros(shape, np.bool_)
    there.reshape(-1)[pixels] = True
    return int(ndimage.label(there, ndimage.generate_binary_structure(2, 2 if connected == 8 else 1))[1])
