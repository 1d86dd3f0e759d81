"""`Runs`: the masks of one image as stretches of ones down its columns; areas, boxes and overlaps without a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.instances.rle import checked_counts, run_bounds, unpack, unpack_all

Ints = npt.NDArray[np.int64]
Crop = tuple[npt.NDArray[Any], tuple[int, int]]


@dataclass(frozen=True)
class Runs:
    """N masks, which may overlap. 16 bytes a stretch, whatever the size of the image.

    The pixel of a row and column has the position column · Y + row, as in COCO.
    """

    size: tuple[int, int]
    """(Y, X) of the image."""
    bounds: Ints
    """First position and the one after the last of each stretch, mask after mask; rising within a mask, none empty or touching."""
    offsets: Ints
    """(N + 1,): those of mask i are bounds[offsets[i]:offsets[i + 1]]."""

    @classmethod
    def none(cls, size: tuple[int, int]) -> Runs:
        """No mask."""
        return cls(size, np.zeros(0, np.int64), np.zeros(1, np.int64))

    @classmethod
    def of_counts(cls, counts: Sequence[str | Sequence[int] | Ints], size: tuple[int, int]) -> Runs:
        """Of COCO's run lengths, packed or not. Raises LabelsError unless they add up to the image."""
        packed = [c for c in counts if isinstance(c, str)]
        if packed and len(packed) == len(counts):
            found = cls._of_packed(packed, size)
            if found is not None:
                return found
        return cls.of_bounds([_bounds_of(unpack(c) if isinstance(c, str) else c, size) for c in counts], size)

    @classmethod
    def of_crops(cls, crops: Sequence[Crop], size: tuple[int, int]) -> Runs:
        """Of masks (y, x), true or not 0, each with the (row, column) at which it lies in the image.

        Raises LabelsError for one that reaches beyond the image.
        """
        for mask, (top, left) in crops:
            rows, columns = mask.shape
            if mask.size and (top < 0 or left < 0 or top + rows > size[0] or left + columns > size[1]):
                raise LabelsError(f"a mask of {rows} x {columns} pixels at ({top}, {left}) reaches beyond its image of "
                                  f"{size[0]} x {size[1]}")
        return cls.of_bounds([run_bounds(np.asarray(mask, np.bool_), size[0], origin) for mask, origin in crops], size)

    @classmethod
    def of_ids(cls, labels: npt.NDArray[Any]) -> tuple[Runs, Ints]:
        """(the masks of the objects of an image (Y, X), their ids in ascending order); 0 = background."""
        rows, columns = labels.shape
        line = np.asarray(labels).T.reshape(-1)
        starts = np.flatnonzero(np.diff(line, prepend=line[:1] ^ 1 if len(line) else line))
        stops = np.append(starts[1:], len(line))[:len(starts)]
        found = line[starts]
        kept = np.flatnonzero(found != 0)
        kept = kept[np.argsort(found[kept], kind="stable")]
        ids, first = np.unique(found[kept], return_index=True)
        bounds = np.stack([starts[kept], stops[kept]], axis=1).reshape(-1)
        return cls((rows, columns), bounds.astype(np.int64), 2 * np.append(first, len(kept))), ids.astype(np.int64)

    @classmethod
    def of_bounds(cls, each: Sequence[Ints], size: tuple[int, int]) -> Runs:
        """Of the bounds of each mask, as in `bounds`."""
        offsets = np.cumsum([0, *(len(b) for b in each)])
        return cls(size, np.concatenate([np.zeros(0, np.int64), *each]), offsets.astype(np.int64))

    @classmethod
    def joined(cls, parts: Sequence[Runs], size: tuple[int, int]) -> Runs:
        """The masks of several, which are all of one image of this size."""
        return cls.of_bounds([p.bounds_of(i) for p in parts for i in range(len(p))], size)

    @classmethod
    def _of_packed(cls, texts: Sequence[str], size: tuple[int, int]) -> Runs | None:
        """Of packed run lengths, all at once; None where they add up to something else, or have empty runs to join."""
        runs, counts = unpack_all(texts)
        total = size[0] * size[1]
        order = np.arange(len(runs)) - np.repeat(np.cumsum(counts) - counts, counts)
        if (counts == 0).any() or (runs < (order > 0)).any() or (runs > total).any():
            return None
        ends = np.cumsum(runs)
        last = ends[np.cumsum(counts) - 1]
        if (np.diff(last, prepend=0) != total).any():
            return None
        inside = ends - np.repeat(total * np.arange(len(counts)), counts)
        kept = (order + 1 < np.repeat(counts, counts)) | (order % 2 == 1)  # the end of zeros at the end bounds nothing
        return cls(size, inside[kept], np.append(0, np.cumsum(counts - counts % 2)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def areas(self) -> Ints:
        """(N,) pixels of each mask."""
        ones = np.append(0, np.cumsum(self.bounds[1::2] - self.bounds[::2]))
        half = self.offsets // 2
        return np.asarray(ones[half[1:]] - ones[half[:-1]])

    @cached_property
    def boxes(self) -> npt.NDArray[np.float64]:
        """(N, 4): x, y, width, height of the pixels of each mask; zeros where it is empty."""
        rows = self.size[0]
        out = np.zeros((len(self), 4))
        full = np.flatnonzero(np.diff(self.offsets))
        if not len(full):
            return out
        start, last = self.bounds[::2], self.bounds[1::2] - 1
        left, right = start // rows, last // rows
        around = right > left  # a stretch goes on in the next column: it has the foot of one and the head of the other
        first = self.offsets[full] // 2
        low = np.minimum.reduceat(np.where(around, 0, start % rows), first)
        high = np.maximum.reduceat(np.where(around, rows - 1, last % rows), first)
        x0, x1 = left[first], right[self.offsets[full + 1] // 2 - 1]
        out[full] = np.stack([x0, low, x1 - x0 + 1, high - low + 1], axis=1)
        return out

    def bounds_of(self, index: int) -> Ints:
        """The bounds of one mask."""
        return self.bounds[self.offsets[index]:self.offsets[index + 1]]

    def counts(self, index: int) -> list[int]:
        """COCO's run lengths of one mask: of zeros first, which may be 0."""
        total = self.size[0] * self.size[1]
        bounds = np.concatenate([[0], self.bounds_of(index), [total]])
        counts: list[int] = np.diff(bounds).tolist()
        return counts if counts[-1] or len(counts) == 1 else counts[:-1]

    def crop(self, index: int) -> Crop:
        """One mask as bool (y, x), cut to its box, and its (row, column) in the image; (0, 0) where it is empty."""
        x, y, width, height = (int(v) for v in self.take(np.array([index])).boxes[0])
        start = x * self.size[0]
        bounds = np.concatenate([[0], self.bounds_of(index) - start, [width * self.size[0]]])
        line = np.repeat(np.arange(len(bounds) - 1) % 2 == 1, np.diff(bounds))
        return line.reshape(width, self.size[0]).T[y:y + height], (y, x)

    def take(self, index: Ints) -> Runs:
        """The masks of these numbers, in this order."""
        lengths = np.diff(self.offsets)[index]
        offsets = np.append(0, np.cumsum(lengths))
        picked = np.repeat(self.offsets[index] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Runs(self.size, self.bounds[picked], offsets)


def _bounds_of(counts: Sequence[int] | Ints, size: tuple[int, int]) -> Ints:
    """From run lengths: those of 0 are dropped, and what touches is joined."""
    runs = checked_counts(counts, size)
    ends = np.cumsum(runs)
    starts, stops = (ends - runs)[1::2], ends[1::2]
    kept = stops > starts
    starts, stops = starts[kept], stops[kept]
    joined = starts[1:] == stops[:-1]
    if joined.any():
        starts, stops = starts[np.append(True, ~joined)], stops[np.append(~joined, True)]
    return np.stack([starts, stops], axis=1).reshape(-1)


def shared_pixels(first: Runs, second: Runs, pairs: Ints) -> Ints:
    """(P,) pixels in both masks of each pair. pairs: (P, 2) numbers of a mask of `first` and one of `second`.

    For each mask of `second`, the number of its pixels before a position is a line of slopes 0 and 1, read at the bounds of all its
    partners at once: the cost grows with the stretches, not with the pixels. Raises LabelsError for images of two sizes.
    """
    if first.size != second.size:
        raise LabelsError(f"masks of images of {first.size} and {second.size} pixels have nothing to share")
    out = np.zeros(len(pairs), np.int64)
    for members in grouped(pairs[:, 1]):
        bounds = second.bounds_of(int(pairs[members[0], 1]))
        partners = first.take(pairs[members, 0])
        if len(bounds) and len(partners.bounds):
            before = np.zeros(len(bounds))
            before[1::2] = np.cumsum(bounds[1::2] - bounds[::2])
            before[2::2] = before[1:-1:2]
            # Slopes are exactly 0 or 1 and positions below 2^53, so that floating point is exact.
            inside = np.interp(partners.bounds, bounds, before)
            ones = np.append(0, np.cumsum(inside[1::2] - inside[::2]))
            half = partners.offsets // 2
            out[members] = ones[half[1:]] - ones[half[:-1]]
    return out


def grouped(numbers: Ints) -> list[Ints]:
    """Positions of equal numbers: an array for each number, ascending."""
    if not len(numbers):
        return []
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
