"""Objects against objects: which predicted ones are which true ones (spec 7.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from biomask.errors import LabelsError, SizeError, UsageError

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Overlaps:
    """How many known pixels each object has, and each pair of a true and a predicted one shares."""

    true_ids: Ids
    """(T,) ascending."""
    predicted_ids: Ids
    """(P,) ascending."""
    true_areas: Ids
    """(T,) known pixels."""
    predicted_areas: Ids
    """(P,) known pixels."""
    pairs: Ids
    """(N, 2) positions in `true_ids` and `predicted_ids` of objects that share pixels, ascending."""
    shared: Ids
    """(N,) pixels that they share, above 0."""

    @property
    def ious(self) -> npt.NDArray[np.float64]:
        """(N,) shared pixels over pixels of either, 0..1."""
        union = self.true_areas[self.pairs[:, 0]] + self.predicted_areas[self.pairs[:, 1]] - self.shared
        return np.asarray(self.shared / union)

    @property
    def merges(self) -> int:
        """Predicted objects with more than half of the pixels of each of two or more true objects inside them."""
        inside = 2 * self.shared > self.true_areas[self.pairs[:, 0]]
        return int((np.bincount(self.pairs[inside, 1]) > 1).sum())

    @property
    def splits(self) -> int:
        """True objects with more than half of the pixels of each of two or more predicted objects inside them."""
        inside = 2 * self.shared > self.predicted_areas[self.pairs[:, 1]]
        return int((np.bincount(self.pairs[inside, 0]) > 1).sum())


@dataclass(frozen=True)
class Matching:
    """Which objects were found, at one threshold of the IoU."""

    threshold: float
    tp: int
    """Pairs: true objects that were found."""
    fp: int
    """Predicted objects without a partner."""
    fn: int
    """True objects without a partner."""
    pairs: Ids
    """(tp, 2) ids of a true and a predicted object, by the true one's."""
    ious: npt.NDArray[np.float64]
    """(tp,) of the pairs."""
    merges: int
    """As in `Overlaps`; the same at any threshold."""
    splits: int
    """As in `Overlaps`."""


def count_overlaps(truth: npt.NDArray[Any], predicted: npt.NDArray[Any],
                   ignore: npt.NDArray[np.bool_] | None = None) -> Overlaps:
    """The areas and overlaps of all objects, without a table of T x P.

    truth, predicted: integer ids (*S), 0 = background. ignore: bool (*S), True = unknown. Unknown pixels count nowhere, and an
    object with more than half of its pixels among them is none, on either side. Raises SizeError for other shapes and
    LabelsError for arrays that hold no ids.
    """
    truth, predicted = _ids(truth, "truth"), _ids(predicted, "predicted")
    for name, shape in (("predicted", predicted.shape), ("ignore", truth.shape if ignore is None else ignore.shape)):
        if shape != truth.shape:
            raise SizeError(f"truth has shape {truth.shape}, {name} {shape}")
    unknown = None if ignore is None else np.asarray(ignore, np.bool_).ravel()
    true, found, hidden, pixels = _runs(truth.ravel(), predicted.ravel(), unknown)
    true_ids, row = np.unique(true, return_inverse=True)
    predicted_ids, column = np.unique(found, return_inverse=True)
    known = np.where(hidden, 0, pixels)
    true_areas, keep_true = _areas(true_ids, row, pixels, known)
    predicted_areas, keep_predicted = _areas(predicted_ids, column, pixels, known)
    both = keep_true[row] & keep_predicted[column] & ~hidden
    row, column = (np.cumsum(keep_true) - 1)[row[both]], (np.cumsum(keep_predicted) - 1)[column[both]]
    width = max(1, int(keep_predicted.sum()))
    keys, position = np.unique(row * width + column, return_inverse=True)
    shared = np.zeros(len(keys), np.int64)
    np.add.at(shared, position, known[both])
    return Overlaps(true_ids[keep_true], predicted_ids[keep_predicted], true_areas[keep_true], predicted_areas[keep_predicted],
                    np.stack([keys // width, keys % width], axis=1), shared)


def match_instances(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], threshold: float = 0.5,
                    ignore: npt.NDArray[np.bool_] | None = None) -> Matching:
    """One-to-one pairs of true and predicted objects with an IoU of `threshold` or more, as many as there can be.

    truth, predicted, ignore: as in `count_overlaps`. threshold: above 0, up to 1. Of matchings with equally many pairs the one
    of the largest sum of IoU. Raises as `count_overlaps`, and UsageError for another threshold.

    >>> found = match_instances(np.array([[1, 1, 0, 2]]), np.array([[7, 7, 0, 0]]))
    >>> found.tp, found.fp, found.fn, found.pairs.tolist(), found.ious.tolist()
    (1, 0, 1, [[1, 7]], [1.0])
    """
    return match_overlaps(count_overlaps(truth, predicted, ignore), threshold)


def match_overlaps(overlaps: Overlaps, threshold: float = 0.5) -> Matching:
    """`match_instances` where the overlaps are known already."""
    if not 0 < threshold <= 1:
        raise UsageError(f"the threshold of the IoU is {threshold:g}", fix="it is above 0 and at most 1")
    ious = overlaps.ious
    candidates = np.flatnonzero(ious >= threshold)
    chosen = candidates[(_greedy if threshold >= 0.5 else _optimal)(overlaps.pairs[candidates], ious[candidates])]
    pairs = overlaps.pairs[chosen]
    return Matching(threshold, len(chosen), len(overlaps.predicted_ids) - len(chosen), len(overlaps.true_ids) - len(chosen),
                    np.stack([overlaps.true_ids[pairs[:, 0]], overlaps.predicted_ids[pairs[:, 1]]], axis=1), ious[chosen],
                    overlaps.merges, overlaps.splits)


def _ids(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    array = np.asarray(array)
    if array.dtype.kind not in "bui":
        raise LabelsError(f"{name} is {array.dtype}, not ids of objects", fix="give integers, 0 = background")
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise LabelsError(f"{name} holds the id {array.min()}", fix="ids of objects are above 0, background is 0")
    return array


def _runs(true: npt.NDArray[Any], found: npt.NDArray[Any],
          unknown: npt.NDArray[np.bool_] | None) -> tuple[Ids, Ids, npt.NDArray[np.bool_], Ids]:
    """(true id, predicted id, unknown, pixels) of each run of equal pixels: sorting these is far less than sorting pixels."""
    if not true.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0, np.int64)
    new = (true[1:] != true[:-1]) | (found[1:] != found[:-1])
    if unknown is not None:
        new |= unknown[1:] != unknown[:-1]
    starts = np.concatenate([[0], np.flatnonzero(new) + 1])
    pixels = np.diff(starts, append=true.size)
    hidden = np.zeros(len(starts), np.bool_) if unknown is None else unknown[starts]
    some = (true[starts] != 0) | (found[starts] != 0)
    starts, pixels, hidden = starts[some], pixels[some], hidden[some]
    return true[starts].astype(np.int64), found[starts].astype(np.int64), hidden, pixels.astype(np.int64)


def _areas(ids: Ids, position: npt.NDArray[np.intp], pixels: Ids, known: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """(known pixels of each id, whether it is an object that counts)."""
    whole, seen = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    np.add.at(whole, position, pixels)
    np.add.at(seen, position, known)
    return seen, (ids != 0) & (2 * seen >= whole)


def _greedy(pairs: Ids, ious: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Positions of a best matching for thresholds of 0.5 or more.

    Above 0.5 no object has two candidates. At exactly 0.5 an object may have two, its halves, which have no other: the first
    is taken, and no choice gives more.
    """
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -ious))
    order = order[np.sort(np.unique(pairs[order, 0], return_index=True)[1])]
    order = order[np.sort(np.unique(pairs[order, 1], return_index=True)[1])]
    return np.sort(order)


def _optimal(pairs: Ids, ious: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Positions of a best matching: the Hungarian method on each group of objects that compete."""
    if not len(pairs):
        return np.zeros(0, np.intp)
    rows, columns = pairs.max(axis=0) + 1
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], rows + pairs[:, 1])), shape=(rows + columns,) * 2)
    group = connected_components(links, directed=False)[1][pairs[:, 0]]
    order = np.argsort(group, kind="stable")
    chosen = list[int]()
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(members) == 1:
            chosen.append(int(members[0]))
            continue
        true, row = np.unique(pairs[members, 0], return_inverse=True)
        found, column = np.unique(pairs[members, 1], return_inverse=True)
        gain, number = np.zeros((len(true), len(found))), np.full((len(true), len(found)), -1)
        # A pair more is worth more than any sum of IoU.
        gain[row, column] = min(gain.shape) + 1 + ious[members]
        number[row, column] = members
        taken = number[linear_sum_assignment(gain, maximize=True)]
        chosen += taken[taken >= 0].tolist()
    return np.sort(np.array(chosen, np.intp))
