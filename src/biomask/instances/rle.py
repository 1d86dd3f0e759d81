"""Run lengths as COCO stores masks: down the columns, zeros first; as numbers or packed into text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.instances.polygons import CHUNK, expand

#: Characters that a run length may take in text: 5 bits each, for runs below 2^35.
LONGEST = 7
#: A number of k letters lies within ± the k-th of these.
_BOUNDS = tuple(2**(5 * k - 1) for k in range(1, 13))


def encode_counts(mask: npt.NDArray[np.bool_], *, size: tuple[int, int] | None = None,
                  origin: tuple[int, int] = (0, 0)) -> list[int]:
    """Run lengths of a bool mask (y, x); the first is of zeros and may be 0.

    size, origin: the mask lies at this (row, column) of an image of this size (Y, X), which has zeros around it.
    """
    rows, columns = size or mask.shape
    counts: list[int] = np.diff(np.concatenate([[0], run_bounds(mask, rows, origin), [rows * columns]])).tolist()
    return counts if counts[-1] or len(counts) == 1 else counts[:-1]


def run_bounds(mask: npt.NDArray[np.bool_], rows: int, origin: tuple[int, int] = (0, 0)) -> npt.NDArray[np.int64]:
    """First position and the one after the last of each stretch of ones of a bool mask (y, x), int64 (2 N,).

    A position is column · rows + row in an image of so many rows, in which the mask lies at origin (row, column).
    """
    down = np.asarray(mask).T
    edges = np.diff(np.pad(down, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    column, start = np.nonzero(edges == 1)
    stop = np.nonzero(edges == -1)[1]
    starts = (column + origin[1]) * rows + start + origin[0]
    stops = (column + origin[1]) * rows + stop + origin[0]
    joined = starts[1:] == stops[:-1]  # from the foot of one column to the head of the next
    if joined.any():
        starts, stops = starts[np.append(True, ~joined)], stops[np.append(~joined, True)]
    return np.stack([starts, stops], axis=1).reshape(-1).astype(np.int64)


def decode_counts(counts: Sequence[int] | npt.NDArray[np.int64], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The bool mask (Y, X) of run lengths. Raises LabelsError unless they add up to the image."""
    runs = checked_counts(counts, size)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size[1], size[0]).T


def decode_crop(counts: Sequence[int] | npt.NDArray[np.int64],
                size: tuple[int, int]) -> tuple[npt.NDArray[np.bool_], tuple[int, int]]:
    """The same, cut to the columns and rows that it touches: bool (y, x), and its first row and column."""
    runs = checked_counts(counts, size)
    start, length = (np.cumsum(runs) - runs)[1::2], runs[1::2]
    if int(length.sum()) > CHUNK:  # positions take eight bytes a pixel
        whole = decode_counts(runs, size)
        rows, columns = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
        return whole[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1], (int(rows[0]), int(columns[0]))
    column, row = np.divmod(expand(start, length), size[0])
    if not len(row):
        return np.zeros((0, 0), bool), (0, 0)
    top, left = int(row.min()), int(column[0])
    out = np.zeros((int(row.max()) + 1 - top, int(column[-1]) + 1 - left), bool)
    out[row - top, column - left] = True
    return out, (top, left)


def checked_counts(counts: Sequence[int] | npt.NDArray[np.int64], size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Run lengths as int64. Raises LabelsError unless they are whole numbers that add up to the pixels of an image (Y, X)."""
    try:
        runs = np.asarray(counts)
    except (ValueError, OverflowError):
        runs = np.zeros((0, 0))
    if runs.ndim != 1 or runs.dtype.kind not in "iu":
        raise LabelsError("its run lengths are not whole numbers")
    total = size[0] * size[1]
    if (runs < 0).any() or (runs > total).any() or int(runs.sum()) != total:
        raise LabelsError(f"its run lengths do not add up to the {size[0]} x {size[1]} pixels of its image")
    return runs.astype(np.int64)


def pack(counts: Sequence[int]) -> str:
    """Run lengths as text: from the fourth on, the difference to the one two before; 5 bits a character, low ones first."""
    runs = np.asarray(counts, np.int64)
    numbers = runs.copy()
    numbers[3:] -= runs[1:-2]
    # Letters that a number needs: of k letters it has 5 k bits, the highest of them its sign.
    lengths = 1 + sum(((numbers >= bound) | (numbers < -bound)).astype(np.int64) for bound in _BOUNDS)
    places = np.cumsum(lengths) - lengths
    letters = np.empty(int(lengths.sum()), np.uint8)
    for place in range(int(lengths.max(initial=0))):
        longer = lengths > place
        bits = numbers[longer] >> (5 * place) & 31
        letters[places[longer] + place] = 48 + bits + np.where(lengths[longer] > place + 1, 32, 0)
    return letters.tobytes().decode("ascii")


def unpack(text: str) -> npt.NDArray[np.int64]:
    """Back from `pack`. Raises LabelsError for other text."""
    return unpack_all([text])[0]


def unpack_all(texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The run lengths of several texts, one after the other, and how many each has. Raises LabelsError for other text."""
    try:
        codes = np.frombuffer("".join(texts).encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise LabelsError("its run lengths are not packed as COCO packs them") from None
    ends = np.flatnonzero(codes & 32 == 0)
    stops = np.cumsum([len(t) for t in texts])  # of texts, in letters
    last = stops[stops > np.append(0, stops[:-1])] - 1
    if (codes < 0).any() or (codes > 63).any() or not np.isin(last, ends).all():
        raise LabelsError("its run lengths are not packed as COCO packs them")
    starts = np.append(0, ends + 1)[:-1]
    if (ends - starts >= LONGEST).any():
        raise LabelsError("its run lengths are not packed as COCO packs them")
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts) if len(starts) else codes
    numbers -= np.where(codes[ends] & 16, np.int64(1) << (5 * (ends - starts + 1)), 0)
    bounds = np.searchsorted(ends, stops)  # of texts, in numbers
    counts = np.diff(bounds, prepend=0)
    first = np.repeat(bounds - counts, counts)
    order = np.arange(len(numbers)) - first
    for chosen in (order % 2 == 1, (order % 2 == 0) & (order > 0)):  # each is the sum of every other one before it
        total = np.append(0, np.cumsum(np.where(chosen, numbers, 0)))
        numbers = np.where(chosen, total[1:] - total[first], numbers)
    return numbers, counts
