"""Middles of objects by their dynamics: which maxima of a map are objects of their own, and which are ripples of one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Basins:
    """The region of each local maximum, and where the regions meet; `objects` merges them for any depth of valley."""

    ids: npt.NDArray[np.int32]
    """(*S), 1..n, 0 outside."""
    peaks: npt.NDArray[np.float32]
    """(n + 1,) the highest value of each; that of 0 means nothing."""
    first: npt.NDArray[np.int64]
    """(m,) of each pair of regions that meet, the highest pass first."""
    second: npt.NDArray[np.int64]
    passes: npt.NDArray[np.float32]
    """(m,) the highest value at which one gets from one to the other."""

    def objects(self, valley: float) -> npt.NDArray[np.int32]:
        """(*S), ids of regions that are separate objects, not numbered in order: two of them are one where the way between
        their maxima falls by less than `valley` below the lower maximum (its dynamics; Grimaud 1992, doi:10.1117/12.60650).

        This is the watershed from the maxima that the h-maxima transform with h = valley leaves, for any h at the cost of one.
        """
        owner, peak = list(range(len(self.peaks))), self.peaks.tolist()
        for a, b, height in zip(self.first.tolist(), self.second.tolist(), self.passes.tolist(), strict=True):
            one, other = _root(owner, a), _root(owner, b)
            if one == other:
                continue
            if (peak[one], other) < (peak[other], one):
                one, other = other, one
            if peak[other] - height < valley:
                owner[other] = one
        roots = np.array([_root(owner, i) for i in range(len(owner))], np.int32)
        return np.asarray(roots[self.ids])


def _root(owner: list[int], i: int) -> int:
    while owner[i] != i:
        owner[i] = owner[owner[i]]
        i = owner[i]
    return i


def find_basins(interior: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_]) -> Basins:
    """Every pixel of `inside` goes to the local maximum of the interior that its way up leads to (watershed; neighbours share
    a side, in 3D a face). interior: float32 (*S), finite; inside: bool (*S)."""
    from scipy import ndimage
    from skimage.morphology import local_maxima
    from skimage.segmentation import watershed

    if not inside.any():
        nothing = np.zeros(0, np.int64)
        return Basins(np.zeros(inside.shape, np.int32), np.zeros(1, np.float32), nothing, nothing, np.zeros(0, np.float32))
    low = interior.min() - 1  # what lies outside has no maxima, and a plateau that fills the image is one
    framed = np.pad(np.where(inside, interior, low), 1, constant_values=low)
    tops = local_maxima(framed, connectivity=1)[(slice(1, -1),) * inside.ndim] & inside
    ids = np.asarray(watershed(-interior, ndimage.label(tops)[0], mask=inside), np.int32)
    peaks = np.full(int(ids.max()) + 1, -np.inf, np.float32)
    np.maximum.at(peaks, ids.reshape(-1), np.where(inside, interior, low).reshape(-1))
    return Basins(ids, peaks, *_passes(ids, interior))


def _passes(ids: npt.NDArray[np.int32], heights: npt.NDArray[np.float32],
            ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """(one, other, highest pass) of all pairs of regions with pixels side by side, the highest first."""
    keys, found, regions = list[npt.NDArray[np.int64]](), list[npt.NDArray[np.float32]](), int(ids.max()) + 1
    for axis in range(ids.ndim):
        here, there = (np.moveaxis(ids, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        at = np.nonzero((here != there) & (here > 0) & (there > 0))
        a, b = here[at].astype(np.int64), there[at].astype(np.int64)
        keys.append(np.minimum(a, b) * regions + np.maximum(a, b))
        lower, upper = (np.moveaxis(heights, axis, 0)[part][at] for part in (slice(None, -1), slice(1, None)))
        found.append(np.minimum(lower, upper))
    key, height = np.concatenate(keys), np.concatenate(found)
    order = np.lexsort((key, -height))
    key, height = key[order], height[order]
    _, first = np.unique(key, return_index=True)  # of each pair the highest
    first.sort()
    return key[first] // regions, key[first] % regions, height[first]
