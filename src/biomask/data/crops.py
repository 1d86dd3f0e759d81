"""Crops of one field of view: those that overlap, and those that abut, where one image goes on in the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.matches import Match, groups
from biomask.data.signature import WINDOW, Signature

#: A border may differ from the next image by this many times what two profiles differ by inside the images (mean squares;
#: 1 is expected of neighbours, since their gap is as wide as any other).
MOST_STEP = 2.0

#: Steps smaller than this count alike: below the usual difference it is chance which one is the smallest.
LEAST_STEP = 0.5

#: The second best partner, from either side, must differ this many times as much.
UNIQUE = 3.0

#: So must the same two borders, slid along each other. More is asked here, since it is one picture's texture against
#: another's and flat borders, which say nothing, fit wherever they are put.
UNIQUE_ALONG = 4.0

#: Profiles are kept in 11 bits, relative to their scale.
ROUNDING = 2.0**-12

#: Part of a border's length by which it is slid at least, so that it has left its own structures.
SLIDE = 1 / 8

#: Impossible pairs (one border turned round) that may pass for each pair that does: where more pass, the images look alike
#: all over, and the second best partner has to be further behind.
FALSE_SHARE = 0.01

#: A fingerprint in more images than this is a mark printed on all of them, or nothing special.
MOST_SHARERS = 16

#: Fingerprints that must agree on one displacement.
FEWEST_AGREEING = 4

#: Part of the fingerprints within the common area that both images must have: crops of one picture share nearly all.
AGREEING_SHARE = 0.5

#: Rows of a table of all pairs that are held at a time.
CHUNK = 512

#: Where a is, seen from b, by the axis that the two lie along.
_NAMES = ("above", "left of", "before along z")


def overlaps(signatures: Sequence[Signature]) -> list[Match]:
    """Pairs of images that show one area pixel by pixel: overlapping crops, or one image within the other.

    The contrast may have been stretched, but lossy coding, scaling and turning leave too little. Crops along z are not found.
    Of exact duplicates the first one stands for all.
    """
    first, second, shift = _shared(signatures)
    if not len(first):
        return []
    keys, agreeing = np.unique(np.column_stack([first, second, shift]), axis=0, return_counts=True)
    several = agreeing >= FEWEST_AGREEING
    best: dict[tuple[int, int], tuple[int, Match]] = {}
    for (a, b, dy, dx), count in zip(keys[several].tolist(), agreeing[several].tolist(), strict=True):
        one, other = signatures[a], signatures[b]
        share = count / max(count, _expected(one, other, (dy, dx)), _expected(other, one, (-dy, -dx)))
        if share >= AGREEING_SHARE and count > best.get((a, b), (0,))[0]:
            best[a, b] = count, Match(a, b, "overlap", _overlap(one.shape, other.shape, (dy, dx)), share)
    return [match for _, match in best.values()]


def _shared(signatures: Sequence[Signature]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(n,) images a < b and (n, 2) by how much b's pixels lie further down and right in a, one for each common fingerprint."""
    if not signatures:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 2), np.int64)
    chosen = sorted({s.digest: i for i, s in reversed(list(enumerate(signatures)))}.values())  # one of each set of duplicates
    owners = np.repeat(chosen, [len(signatures[i].fingerprints) for i in chosen])
    hashes = np.concatenate([signatures[i].fingerprints for i in chosen])
    places = np.concatenate([signatures[i].places for i in chosen]).astype(np.int64)
    order = np.argsort(hashes, kind="stable")  # owners stay ascending within one hash
    owners, hashes, places = owners[order], hashes[order], places[order]
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    rare = counts[inverse] <= MOST_SHARERS
    owners, hashes, places = owners[rare], hashes[rare], places[rare]
    a, b, shift = [], [], []
    for lag in range(1, min(MOST_SHARERS, len(hashes))):
        same = np.flatnonzero(hashes[lag:] == hashes[:-lag])
        a.append(owners[same])
        b.append(owners[same + lag])
        shift.append(places[same] - places[same + lag])
    if not a:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 2), np.int64)
    return np.concatenate(a), np.concatenate(b), np.concatenate(shift)


def _expected(one: Signature, other: Signature, shift: tuple[int, int]) -> int:
    """Fingerprints of `one` that `other`, whose corner lies at `shift` in `one`, must have if they show one picture."""
    inside = np.ones(len(one.places), bool)
    for axis in (0, 1):
        low = one.places[:, axis] - shift[axis]
        inside &= (low >= 0) & (low <= other.shape[axis - 2] - WINDOW[axis] - axis)
    # only the smallest hashes are kept
    return int((inside & (one.fingerprints <= other.fingerprints[-1])).sum())


def _overlap(a: tuple[int, ...], b: tuple[int, ...], shift: tuple[int, int]) -> str:
    """What to say about b at `shift` in a, both of (…, Y, X)."""
    sides = [(max(0, d), min(n, d + m)) for d, n, m in zip(shift, a[-2:], b[-2:], strict=True)]
    area = (sides[0][1] - sides[0][0]) * (sides[1][1] - sides[1][0])
    if area == b[-2] * b[-1]:
        return f"holds it whole, from row {shift[0]} and column {shift[1]}"
    if area == a[-2] * a[-1]:
        return f"lies whole within it, from row {-shift[0]} and column {-shift[1]}"
    share = area / min(a[-2] * a[-1], b[-2] * b[-1])
    return f"shares {share:.0%} with it, which lies {shift[0]:+d} rows and {shift[1]:+d} columns away"


#: One image, or two that abut, as seen from the side along which both lie.
_Strip = tuple[int, ...]


@dataclass(frozen=True)
class _Candidate:
    """a's end and b's start fit each other better than anything else fits either of them."""

    a: _Strip
    b: _Strip
    axis: int
    """0 rows, 1 columns, 2 slices."""
    margin: float
    """Times by which the second best differs more."""
    along: float
    """Times by which the two borders differ more when they are slid along each other."""


def neighbours(signatures: Sequence[Signature], alike: Iterable[Match] = ()) -> list[Match]:
    """Pairs of crops that abut: the last line of a goes on in the first line of b, as it does inside them.

    alike: duplicates and near duplicates; one of each group stands for all, since two pictures that look the same cannot both
    be the best partner. Only images with as many channels and with a common side of equal length are compared.

    A second round looks at pairs found in the first, whose two borders together are sure where each alone is too empty:

        ┌───┬───┐
        │ a │ b │   a | b and c | d are sure; the border below a is dark, that below b is not
        ├───┼───┤   → a b over c d is sure, hence a over c
        │ c │ d │
        └───┴───┘
    """
    standing = groups(len(signatures), list(alike))
    chosen = sorted({g: i for i, g in reversed(list(enumerate(standing)))}.values())
    first = _sure(signatures, [(i,) for i in chosen], range(len(_NAMES)))
    second = [c for axis in range(len(_NAMES)) for c in
              _sure(signatures, [(*c.a, *c.b) for c in first if c.axis == axis], [a for a in range(len(_NAMES)) if a != axis])]
    margins: dict[tuple[int, int, int], float] = {}
    for c in [*first, *second]:
        for a, b in zip(c.a, c.b, strict=True):
            margins.setdefault((a, b, c.axis), c.margin)
    return [Match(a, b, "neighbour", _NAMES[axis], margin) for (a, b, axis), margin in sorted(margins.items())]


def _sure(signatures: Sequence[Signature], strips: Sequence[_Strip], axes: Iterable[int]) -> list[_Candidate]:
    """Strips that abut along one of the axes beyond doubt."""
    buckets = _buckets(signatures, strips, axes)
    found, decoys = ([c for bucket in buckets for c in _candidates(signatures, *bucket, turned=turned)
                      if c.along >= UNIQUE_ALONG and c.margin >= UNIQUE] for turned in (False, True))
    needed = _needed([c.margin for c in found], [c.margin for c in decoys])
    return [c for c in found if c.margin >= needed]


def _buckets(signatures: Sequence[Signature], strips: Sequence[_Strip], axes: Iterable[int]) -> list[tuple[int, list[_Strip]]]:
    """(axis, strips) that could abut along this axis: all other sides are equal, and the borders long enough."""
    buckets: defaultdict[tuple[int, ...], list[_Strip]] = defaultdict(list)
    for axis in axes:
        for strip in strips:
            if all(len(signatures[i].borders) > 2 * axis and signatures[i].borders[2 * axis].size for i in strip):
                shapes = [list(signatures[i].shape) for i in strip]
                for shape in shapes:
                    shape[(-2, -1, 1)[axis]] = 0
                buckets[axis, *(side for shape in shapes for side in shape)].append(strip)
    return [(axis, fitting) for (axis, *_), fitting in buckets.items() if len(fitting) > 1]


def _candidates(signatures: Sequence[Signature], axis: int, strips: Sequence[_Strip], *, turned: bool = False) -> list[_Candidate]:
    """The pairs in a bucket that are each other's best. turned: against borders read backwards, which never truly fit."""
    ends, starts = (np.stack([_profile(signatures, strip, 2 * axis + k) for strip in strips]) for k in (0, 1))
    weights = [np.array([0.5 / np.mean([_gap(signatures[i], 2 * axis + k) for i in strip]) for strip in strips]) for k in (0, 1)]
    if turned:
        starts = starts[:, ::-1]
    usual = ends.mean(0)  # float32 products of numbers near 0 lose fewer digits
    partners, margins = _best(ends - usual, starts - usual, *weights)
    found = []
    for i, (j, margin) in enumerate(zip(partners.tolist(), margins.tolist(), strict=True)):
        if j < 0:
            continue
        step, along = _slide(ends[i], starts[j], float(weights[0][i] + weights[1][j]))
        if step < MOST_STEP:
            found.append(_Candidate(strips[i], strips[j], axis, margin, along))
    return found


def _profile(signatures: Sequence[Signature], strip: _Strip, side: int) -> npt.NDArray[np.float32]:
    """The border of one side of a strip, in square roots."""
    return np.concatenate([signatures[i].borders[side].astype(np.float32) * np.float32(signatures[i].scale) for i in strip])


def _gap(one: Signature, side: int) -> float:
    """What a border of a neighbour may differ by; no less than the rounding of the profiles to 11 bits can bring about."""
    return float(one.gaps[side]) + (one.scale * ROUNDING)**2


def _best(ends: npt.NDArray[np.float32], starts: npt.NDArray[np.float32], end_weights: npt.NDArray[Any],
          start_weights: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(n,) the start that fits each end best, -1 unless it also fits no other end better, and by how much the next is worse.

    The squared difference counts in units of the usual one of each of the two, on average: were the mean of the two the unit,
    rough borders would fit smooth ones.
    """
    count, length = ends.shape
    column = np.full((2, count), np.inf)  # of each start: its smallest step, and the second
    column_best = np.full(count, -1)
    row, row_best = np.full((2, count), np.inf), np.full(count, -1)
    squares = (starts**2).mean(1)
    for low in range(0, count, CHUNK):
        part = slice(low, min(low + CHUNK, count))
        steps = (ends[part]**2).mean(1)[:, None] + squares - (2 / length) * (ends[part] @ starts.T)
        steps = np.maximum(steps, 0) * (end_weights[part, None] + start_weights)
        steps[np.arange(len(steps)), np.arange(low, low + len(steps))] = np.inf  # no image is beside itself
        row_best[part] = steps.argmin(1)
        row[:, part] = np.partition(steps, 1, axis=1)[:, :2].T
        better = steps.min(0) < column[0]
        column_best[better] = low + steps.argmin(0)[better]
        column = np.partition(np.concatenate([column, np.partition(steps, min(1, len(steps) - 1), axis=0)[:2]]), 1, axis=0)[:2]
    mutual = (row[0] < MOST_STEP) & (column_best[row_best] == np.arange(count))
    second = np.minimum(row[1], column[1, row_best])
    return np.where(mutual, row_best, -1), second / np.maximum(row[0], LEAST_STEP)


def _slide(end: npt.NDArray[np.float32], start: npt.NDArray[np.float32], weight: float) -> tuple[float, float]:
    """(the step between two borders, times by which it grows at least when one is slid along the other)."""
    length = len(end)
    step = float(((end - start)**2).mean()) * weight
    centre = (end.mean() + start.mean()) / 2
    end, start = end - centre, start - centre
    products = np.fft.irfft(np.fft.rfft(end) * np.conj(np.fft.rfft(start)), length)
    steps = np.maximum((end @ end + start @ start - 2 * products) / length, 0) * weight
    away = max(1, int(SLIDE * length))
    return step, float(steps[away:length - away + 1].min()) / max(step, LEAST_STEP)


def _needed(margins: Sequence[float], decoys: Sequence[float]) -> float:
    """The smallest margin, UNIQUE or more, at which impossible pairs are at most FALSE_SHARE of those that pass."""
    needed = UNIQUE
    for margin in sorted(decoys):
        passing = sum(m >= needed for m in margins)
        if sum(d >= needed for d in decoys) > FALSE_SHARE * passing:
            needed = max(needed, float(np.nextafter(margin, np.inf)))
    return needed
