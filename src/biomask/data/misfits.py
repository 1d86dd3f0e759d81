"""Masks that do not belong to their image, found by comparing the signatures (`fit.py`) of a whole data set.

The figures behind the limits were measured on EM membranes (ISBI 2012), DIC cells (CTC HeLa), nuclei of many kinds (DSB 2018),
embryos (BBBC050), and on optic discs and cups (Drishti) and hippocampi, whose outlines follow edges little or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from biomask.data.fit import TURNS, FitSignature

MisfitKind = Literal["shifted", "swapped", "turned", "inverted", "incomplete"]

#: Fewer pairs have no usual fit.
FEWEST_PAIRS = 4
#: The usual fit is believed where this share of the pairs has it: discs 0.8, hippocampi 0.33, cups 0.04 (their rim is no edge).
USUAL_SHARE = 2 / 3
#: Missing objects are looked for where this share of the pairs is at rest: all sets of cells and nuclei 0.99, photographs 0.75.
FAITHFUL_SHARE = 0.9
#: Working pixels that a best fit may lie off: masks that fit lie within 1.6, nearly all within 1.
AT_REST = 1.5
#: Standard deviations that a better fit must reach: masks on wrong images reach 5 somewhere.
LEAST_FIT = 8.0
#: … and this share of what all but the worst twentieth of the pairs reach.
SHARE_OF_USUAL = 0.8
#: Standard deviations that it must be better by: outlines drawn with a broad brush, of photographs, gain 2.5 by chance.
LEAST_GAIN = 4.0
#: The second-best fit may reach this share of the best: 0.1 to 0.5 for real shifts, 0.65 to 1 by chance.
RIVAL_SHARE = 0.6
#: The fit as it is may reach this share of the better one.
OWN_SHARE = 0.8
#: Gain in correlation (at most 2) of both images of a swap: neighbouring frames of a film give 0.1, chance −0.06.
SWAP_GAIN = 0.08
#: A group of at least so many of which nearly all have a partner needs no usual fit: all masks may be off by one.
PERMUTED_PAIRS = 8
MUTUAL_SHARE = 0.9
#: Of more pairs of one size only those that fit poorly are compared with each other: the cost is quadratic.
MOST_COMPARED = 2000
#: Polarity signs lie in −1..1; within this distance they are alike.
ALIKE = 0.25
#: Log odds, mean of the four signs, of a mask that is inverted.
INVERTED_ODDS = 1.5
#: Missing objects are looked for among at least so many images of one polarity, with so many objects each (median).
FEWEST_IMAGES = 8
FEWEST_OBJECTS = 4
#: Share of the labelled area that unlabelled look-alikes must reach, as with half of the objects missing: untouched 0.9 at most.
LEAST_LOOKALIKE = 1.0
#: … and how often what 19 of 20 others reach: what surrounds objects may look like them.
LOOKALIKE_EXCESS = 3.0


@dataclass(frozen=True)
class Misfit:
    """A mask that does not seem to belong where it is."""

    index: int
    """Position in the sequence of signatures."""
    kind: MisfitKind
    other: int | None
    """Position of the pair whose mask fits this image; None unless swapped."""
    detail: str
    """What would fit, or what is missing, for a person."""
    score: float
    """0..1: share of the fit (or of the objects) that is missing; the probability, of an inverted mask."""


@dataclass(frozen=True)
class _Usual:
    """What most pairs of a data set have in common."""

    as_is: bool
    """Most masks fit as they are; otherwise all are turned or shifted alike."""
    least: float
    """Fit that a better place or turn has to reach."""
    tolerance: float
    """Working pixels that a best fit may lie off."""


def misfits(signatures: Sequence[FitSignature | None]) -> list[Misfit]:
    """Masks that do not belong to their image, in the order of the signatures, at most one each; None = not compared.

    Says nothing about places and turns where outlines do not follow edges in most pairs, so silence is no proof.
    """
    known = {i: s for i, s in enumerate(signatures) if s is not None}
    usual = _usual(list(known.values()))
    swapped = list(_swapped(known, usual))
    partners = {(m.index, m.other) for m in swapped}
    both = [m for m in swapped if (m.other, m.index) in partners]  # which two shifted masks hardly ever are
    found: dict[int, Misfit] = {}
    for misfit in (*both, *_misplaced(known, usual), *swapped, *_inverted(known)):
        found.setdefault(misfit.index, misfit)
    found |= {m.index: m for m in _incomplete({i: s for i, s in known.items() if i not in found})}
    return [found[i] for i in sorted(found)]


def _usual(known: Sequence[FitSignature]) -> _Usual | None:
    """The fit of most pairs, or None. All may be shifted or turned alike."""
    if len(known) < FEWEST_PAIRS:
        return None
    best = np.array([int(np.argmax((s.best, *s.turned[1:]))) for s in known])
    turn, count = Counter(best.tolist()).most_common(1)[0]
    fits, tolerance, as_is = np.array([s.turned[turn] if turn else s.best for s in known])[best == turn], AT_REST, False
    if turn == 0:
        moves = np.array([s.move for s in known])
        middle = np.median(moves, axis=0)
        off = np.hypot(*(moves - middle).T)
        rest = off <= AT_REST
        count, as_is = int(rest.sum()), bool(np.hypot(*middle) <= AT_REST)
        if count:
            fits, tolerance = np.array([s.best for s in known])[rest], max(AT_REST, 2 * float(np.quantile(off[rest], 0.9)))
    if count < USUAL_SHARE * len(known) or np.median(fits) < LEAST_FIT:
        return None
    return _Usual(as_is, max(LEAST_FIT, SHARE_OF_USUAL * float(np.quantile(fits, 0.05))), tolerance)


def _misplaced(known: Mapping[int, FitSignature], usual: _Usual | None) -> Iterator[Misfit]:
    """Masks whose fit is good and unrivalled when turned or moved, and poor as they are."""
    if usual is None:
        return
    for index, s in known.items():
        turn = int(np.argmax(s.turned))
        fit = s.turned[turn]
        rival = max(f for i, f in enumerate(s.turned) if i != turn)
        missing = 1 - max(0.0, s.own) / max(fit, s.best)
        if turn and fit >= OWN_SHARE * s.best and _better(fit, s.own, rival, usual):
            yield Misfit(index, "turned", None, f"it would fit {TURNS[turn]}", missing)
        elif s.off > usual.tolerance and _better(s.best, s.own, s.rival, usual):
            y, x = (round(m * s.scale) for m in s.move)
            yield Misfit(index, "shifted", None, f"it would fit moved by y {y:+d}, x {x:+d} pixels", missing)


def _better(fit: float, own: float, rival: float, usual: _Usual) -> bool:
    """Is a fit good, much better than as it is, and better than the next best?"""
    return fit >= usual.least and own <= min(OWN_SHARE * fit, fit - LEAST_GAIN) and rival <= RIVAL_SHARE * fit


def _swapped(known: Mapping[int, FitSignature], usual: _Usual | None) -> Iterator[Misfit]:
    """Images that another's mask fits best which in turn fits no image better, among pairs of one size."""
    if usual is not None and not usual.as_is:  # whose masks fit their own images, if not as they are
        return
    groups: dict[tuple[int, int], list[int]] = {}
    for index, s in known.items():
        groups.setdefault(s.size, []).append(index)
    for group in groups.values():
        if len(group) > MOST_COMPARED:
            group = [] if usual is None else [i for i in group if known[i].own < usual.least or known[i].off > usual.tolerance]
        if 2 <= len(group) <= MOST_COMPARED:
            yield from _swapped_within(group, _fits([known[i] for i in group]), usual)


def _swapped_within(group: Sequence[int], fits: npt.NDArray[np.float32], usual: _Usual | None) -> Iterator[Misfit]:
    """fits: (images, masks) of the group."""
    own, here = fits.diagonal(), np.arange(len(group))
    mask, image = fits.argmax(axis=1), fits.argmax(axis=0)
    mutual = image[mask] == here
    if usual is None and (len(group) < PERMUTED_PAIRS or mutual.mean() < MUTUAL_SHARE):
        return
    for i in here[mutual & (mask != here)].tolist():
        j = int(mask[i])
        if fits[i, j] - max(own[i], own[j]) >= SWAP_GAIN:
            detail = "the two masks would fit exchanged" if mask[j] == i else "the other's mask would fit this image"
            yield Misfit(group[i], "swapped", group[j], detail, float(1 - max(0.0, own[i]) / fits[i, j]))


def _fits(group: Sequence[FitSignature]) -> npt.NDArray[np.float32]:
    """(images, masks): correlation of signed edges, in either polarity, plus that of directions."""
    fits = np.zeros((len(group), len(group)), np.float32)
    for signed in (0, 1):
        edges, outlines = (np.stack([s.maps[signed, part] for s in group]).astype(np.float32) for part in (0, 1))
        for rows in (edges, outlines):
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
        product = edges @ outlines.T
        fits += np.abs(product) if signed == 0 else product
    return fits


def _inverted(known: Mapping[int, FitSignature]) -> Iterator[Misfit]:
    """Masks of two classes that would look like the others' with foreground and background exchanged."""
    pairs = [(index, s.signs) for index, s in known.items() if s.signs is not None]
    if len(pairs) < FEWEST_PAIRS:
        return
    odds = np.zeros(len(pairs))
    for column in np.array([signs for _, signs in pairs]).T:
        ordered = np.sort(column)
        like, unlike = (np.searchsorted(ordered, c + ALIKE) - np.searchsorted(ordered, c - ALIKE) for c in (column, -column))
        odds += np.log((unlike + 1) / np.maximum(like, 1)) / 4  # `like` counts itself
    for (index, _), odd in zip(pairs, odds.tolist(), strict=True):
        if odd >= INVERTED_ODDS:
            detail = "it would look like the others with foreground and background exchanged"
            yield Misfit(index, "inverted", None, detail, float(1 / (1 + np.exp(-odd))))


def _incomplete(known: Mapping[int, FitSignature]) -> Iterator[Misfit]:
    """Images with much unlabelled that looks like the labelled, where images of this polarity have little."""
    if not known or np.mean([s.off <= AT_REST for s in known.values()]) < FAITHFUL_SHARE:
        return
    for bright in (True, False):
        group = {i: s for i, s in known.items() if (s.polarity > 0) == bright}
        if len(group) < FEWEST_IMAGES or np.median([s.objects for s in group.values()]) < FEWEST_OBJECTS:
            continue
        for index, s in group.items():
            if s.lookalike < LEAST_LOOKALIKE:
                continue
            others = [o.lookalike for i, o in group.items() if i != index]
            if s.lookalike >= LOOKALIKE_EXCESS * np.quantile(others, 0.95):
                y, x = s.lookalike_at
                detail = f"places without label, {s.lookalike:.1f} times the labelled area, look like it, as around y {y}, x {x}"
                yield Misfit(index, "incomplete", None, detail, s.lookalike / (1 + s.lookalike))
