"""Images that must not end up on both sides of a split: duplicates, near duplicates and crops of one field of view."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.crops import neighbours, overlaps
from biomask.data.matches import Match, groups
from biomask.data.signature import SMALL, Signature, signature

__all__ = ["Match", "Signature", "duplicates", "find_matches", "groups", "near_duplicates", "neighbours", "overlaps",
           "signature"]

#: Correlation of two small pictures, freed of slow changes and of contrast, from which on they show the same. Re-encoded,
#: scaled or brightened copies reach 0.85 and more; frames of a film, sections of a stack and photos 0.5 at most, two eyes 0.75.
ALIKE = 0.75

#: The same for the first search, at half the resolution and without looking for small displacements.
PERHAPS_ALIKE = 0.55

#: Images of one kind (an eye's fundus, a slow film) all resemble each other, some more, some less; copies stand out from them. So
#: of the correlations with the best partners, this many, what follows the largest drop is usual, and a copy must exceed it by
#: the same part of what is left. More copies of one image than this are not told from a kind.
BEST_PARTNERS = 20

#: The usual correlation where there are too few images to tell.
USUAL_UNKNOWN = 0.4

#: Widths, in samples of the small picture, of the neighbourhoods whose mean and whose contrast are taken out.
SMOOTH, CONTRAST = 2.0, 3.0

#: Part of the mean contrast that is added to the local one, so that noise in empty places does not become loud. At 0.5 one
#: strong edge (the rim of a fundus) outweighed everything else, at 0.1 copies with some noise were missed.
CONTRAST_FLOOR = 0.2

#: Samples of the small picture by which a copy may be displaced.
MOST_SHIFT = 4

#: Relative difference of the ratio of height to width up to which two pictures can be the same one.
ASPECT = 0.05

#: Partners of an image that are looked at closer and reported.
MOST_PARTNERS = 4

#: Rows of a table of all pairs that are held at a time.
CHUNK = 512

#: How b came about from a, by what turns it back: quarter turns anticlockwise, then mirrored left to right or not.
TURNS = {(0, False): "", (3, False): "turned by 90°", (2, False): "turned by 180°", (1, False): "turned by 270°",
         (0, True): "mirrored left to right", (2, True): "mirrored top to bottom", (3, True): "mirrored along the diagonal",
         (1, True): "mirrored along the other diagonal"}


def find_matches(signatures: Sequence[Signature]) -> list[Match]:
    """Duplicates, near duplicates, overlaps and neighbours, each pair of images once, in this order."""
    same = duplicates(signatures)
    alike = near_duplicates(signatures)
    matches: dict[tuple[int, int], Match] = {}
    for match in [*same, *alike, *overlaps(signatures), *neighbours(signatures, [*same, *alike])]:
        matches.setdefault((min(match.a, match.b), max(match.a, match.b)), match)
    return list(matches.values())


def duplicates(signatures: Sequence[Signature]) -> list[Match]:
    """The first image with some pixels and each other one with the same, whatever files they came from."""
    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(s.digest, i), i) for i, s in enumerate(signatures)]
    return [Match(a, b, "duplicate", "same pixels", 1.0) for a, b in pairs if a != b]


def near_duplicates(signatures: Sequence[Signature]) -> list[Match]:
    """Pairs that show the same picture, though scaled, re-encoded, brightened, turned, mirrored or moved by a few pixels.

    Of exact duplicates the first one stands for all. Each image is reported with its four best partners at most.
    """
    standing = {s.digest: i for i, s in reversed(list(enumerate(signatures)))}
    chosen = np.array([i for i in sorted(standing.values()) if signatures[i].small.any()], np.int64)
    if len(chosen) < 2:
        return []
    found: defaultdict[int, list[Match]] = defaultdict(list)
    for i, j, turn, usual in _perhaps_alike(signatures, chosen):
        a, b = int(chosen[i]), int(chosen[j])
        if not _same_aspect(signatures[a].shape, signatures[b].shape, turn):
            continue
        score = _correlation(_texture(signatures[a].small[None])[0], _turned(_texture(signatures[b].small[None]), turn)[0])
        if score >= ALIKE + (1 - ALIKE) * usual:
            found[a].append(Match(a, b, "near duplicate", _describe(signatures[a].shape, signatures[b].shape, turn), score))
    return [match for a in sorted(found) for match in _best_each(found[a])]


def _best_each(matches: Sequence[Match]) -> list[Match]:
    """The best way in which each pair is alike, in order of b."""
    best: dict[int, Match] = {}
    for match in sorted(matches, key=lambda m: -m.score):
        best.setdefault(match.b, match)
    return [best[b] for b in sorted(best)]


def _perhaps_alike(signatures: Sequence[Signature],
                   chosen: npt.NDArray[np.int64]) -> list[tuple[int, int, tuple[int, bool], float]]:
    """(i, j, turn, usual correlation) for positions i < j in `chosen` worth a closer look."""
    coarse = np.concatenate([_halved(_texture(np.stack([signatures[k].small for k in chosen[low:low + CHUNK]])))
                             for low in range(0, len(chosen), CHUNK)])
    flat = coarse.reshape(len(coarse), -1)
    best: list[list[tuple[float, int, tuple[int, bool], float]]] = [[] for _ in chosen]
    for turn in TURNS:
        turned = np.ascontiguousarray(_turned(coarse, turn).reshape(flat.shape))
        for low in range(0, len(flat), CHUNK):
            table = flat[low:low + CHUNK] @ turned.T
            own = np.arange(len(table))
            table[own, low + own] = -1
            usual = _usual(table)
            for i, j in np.argwhere(table >= (PERHAPS_ALIKE + (1 - PERHAPS_ALIKE) * usual)[:, None]):
                if j > low + i:
                    best[low + i].append((float(table[i, j]), int(j), turn, float(usual[i])))
    return [(i, j, turn, usual) for i, partners in enumerate(best)
            for _, j, turn, usual in sorted(partners, key=lambda p: -p[0])[:MOST_PARTNERS]]


def _usual(table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(rows,) correlation of each image with the best of those partners that are not copies of it."""
    count = min(BEST_PARTNERS, table.shape[1])
    best = -np.sort(-np.partition(table, -count, axis=1)[:, -count:], axis=1)
    if count < BEST_PARTNERS:
        best = np.concatenate([best[:, :-1], np.full((len(best), 1), USUAL_UNKNOWN, np.float32)], axis=1)  # the last one is itself
    drops = best[:, :-1] - best[:, 1:]
    return np.asarray(np.maximum(best[np.arange(len(best)), drops.argmax(1) + 1], 0), np.float32)


def _texture(small: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, 64, 64) → the same, each with local mean and contrast taken out, mean 0 and norm 1."""
    from scipy.ndimage import gaussian_filter

    pictures = small.astype(np.float32)
    fine = pictures - gaussian_filter(pictures, (0, SMOOTH, SMOOTH), mode="nearest")
    power = fine**2
    floor = CONTRAST_FLOOR * np.sqrt(power.mean((1, 2), keepdims=True)) + 1e-6
    fine /= np.sqrt(np.maximum(gaussian_filter(power, (0, CONTRAST, CONTRAST), mode="nearest"), 0)) + floor
    return _unit(fine)


def _halved(textures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, 64, 64) → (N, 32, 32) means, mean 0 and norm 1."""
    return _unit(textures.reshape(-1, SMALL // 2, 2, SMALL // 2, 2).mean((2, 4)))


def _unit(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    centred = pictures - pictures.mean((1, 2), keepdims=True)
    return np.asarray(centred / np.maximum(np.sqrt((centred**2).sum((1, 2), keepdims=True)), 1e-9), np.float32)


def _turned(pictures: npt.NDArray[Any], turn: tuple[int, bool]) -> npt.NDArray[Any]:
    """(N, S, S) turned anticlockwise, then mirrored left to right."""
    turned = np.rot90(pictures, turn[0], (1, 2))
    return turned[:, :, ::-1] if turn[1] else turned


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Correlation of two (64, 64) textures where b may be displaced by up to four samples and fractions of one.

    The best displacement in whole samples, then a mixture of b and its four neighbours, fitted by least squares.
    """
    product = np.fft.irfft2(np.fft.rfft2(a) * np.conj(np.fft.rfft2(b)), a.shape)
    near = np.roll(product, (MOST_SHIFT, MOST_SHIFT), (0, 1))[:2 * MOST_SHIFT + 1, :2 * MOST_SHIFT + 1]
    dy, dx = (int(v) - MOST_SHIFT for v in np.unravel_index(near.argmax(), near.shape))
    inner = (slice(abs(dy) + 1, SMALL - abs(dy) - 1), slice(abs(dx) + 1, SMALL - abs(dx) - 1))
    moved = np.stack([np.roll(b, (dy + y, dx + x), (0, 1))[inner].ravel()
                      for y, x in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]).astype(np.float64)
    moved -= moved.mean(1, keepdims=True)
    target = a[inner].ravel().astype(np.float64)
    target -= target.mean()
    weights = np.linalg.lstsq(moved @ moved.T, moved @ target, rcond=1e-6)[0]
    fitted = weights @ moved
    norm = np.sqrt((fitted @ fitted) * (target @ target))
    return float(fitted @ target / norm) if norm > 0 else 0.0


def _same_aspect(a: tuple[int, ...], b: tuple[int, ...], turn: tuple[int, bool]) -> bool:
    height, width = b[-2:] if turn[0] % 2 == 0 else (b[-1], b[-2])
    return abs(math.log((a[-2] * width) / (a[-1] * height))) <= ASPECT


def _describe(a: tuple[int, ...], b: tuple[int, ...], turn: tuple[int, bool]) -> str:
    sizes = sorted(a[-2:]) != sorted(b[-2:])
    parts = [TURNS[turn] or "same picture", f"{b[-2]} x {b[-1]} instead of {a[-2]} x {a[-1]} pixels" if sizes else ""]
    return ", ".join(p for p in parts if p)
