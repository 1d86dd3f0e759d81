"""Distances between the surfaces of a structure in truth and prediction: HD95, ASSD, NSD (spec 7.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from biomask.errors import SizeError, UsageError

#: Relative slack of a tolerance, so that three pixels of 0.1 µm lie within 0.3 µm.
SLACK = 1e-9

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceDistances:
    """How far each surface lies from the other, in the unit of the spacing.

    Equal to MONAI 1.6 (`compute_hausdorff_distance(percentile=95)`, `compute_average_surface_distance(symmetric=True)`,
    `compute_surface_dice`). DeepMind's `surface-distance` weighs pieces of a surface between the pixels by their area, so its
    figures differ by a fraction of a pixel.
    """

    from_truth: npt.NDArray[np.float64]
    """(T,) from each pixel of the true surface to the nearest of the predicted one; inf where there is no such surface."""
    from_prediction: npt.NDArray[np.float64]
    """(P,) the other way round."""

    @property
    def defined(self) -> bool:
        """Whether there is a surface on both sides."""
        return bool(len(self.from_truth) and len(self.from_prediction))

    def hausdorff(self, percentile: float = 95.0) -> float | None:
        """The larger of the percentiles of both directions (HD95; 100: the Hausdorff distance), with linear interpolation; None
        where a side has no surface. Raises UsageError for a percentile that is not in 0..100."""
        if not 0 <= percentile <= 100:
            raise UsageError(f"the percentile is {percentile:g}", fix="it lies between 0 and 100")
        return float(max(np.percentile(self.from_truth, percentile),
                         np.percentile(self.from_prediction, percentile))) if self.defined else None

    @property
    def average(self) -> float | None:
        """ASSD: the mean over the pixels of both surfaces together; None where a side has no surface."""
        both = len(self.from_truth) + len(self.from_prediction)
        return float((self.from_truth.sum() + self.from_prediction.sum()) / both) if self.defined else None

    def within(self, tolerance: float) -> float | None:
        """NSD, the surface Dice: the share of the pixels of both surfaces that lie within the tolerance of the other; None where
        neither side has a surface, 0 where one has. Raises UsageError for a negative tolerance."""
        if tolerance < 0:
            raise UsageError(f"the tolerance is {tolerance:g}", fix="it is 0 or more")
        every = np.concatenate([self.from_truth, self.from_prediction])
        return float(np.mean(every <= tolerance * (1 + SLACK))) if every.size else None


def surface(mask: Mask, ignore: Mask | None = None) -> Mask:
    """bool (*S), True for pixels of the mask with a neighbour outside it; neighbours share an edge (in 3D a face).

    What lies beyond the image is outside. Unknown pixels (ignore, True) are neither in a surface nor outside: where what is
    known ends, there is no surface.

    >>> surface(np.ones((3, 4), bool)).astype(int).tolist()
    [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    solid = np.asarray(mask, np.bool_) if ignore is None else mask | ignore
    inner = solid.copy()
    for axis in range(solid.ndim):
        here, there = np.moveaxis(inner, axis, 0), np.moveaxis(solid, axis, 0)
        here[1:] &= there[:-1]
        here[:-1] &= there[1:]
        here[0] = here[-1] = False
    found = solid & ~inner
    return found if ignore is None else found & mask & ~ignore


def surface_distances(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], spacing: Sequence[float] | None = None,
                      ignore: npt.NDArray[np.bool_] | None = None) -> SurfaceDistances:
    """Euclidean distances between the surfaces of two masks, exact, from pixel centre to pixel centre.

    truth, predicted, ignore: bool (*S). spacing: size of a pixel along each axis; None = 1. Needs memory for the two surfaces
    and the box around them. Raises SizeError for other shapes.

    >>> truth, predicted = np.zeros((2, 9, 9), bool)
    >>> truth[2:6, 2:6] = predicted[2:6, 4:8] = True
    >>> found = surface_distances(truth, predicted, (1, 0.5))
    >>> found.hausdorff(), found.within(0.5)
    (1.0, 0.6666666666666666)
    """
    truth, predicted = np.asarray(truth, np.bool_), np.asarray(predicted, np.bool_)
    sizes = (1.0,) * truth.ndim if spacing is None else tuple(spacing)
    for name, shape in (("predicted", predicted.shape), ("ignore", truth.shape if ignore is None else np.shape(ignore))):
        if shape != truth.shape:
            raise SizeError(f"truth has shape {truth.shape}, {name} {shape}")
    if len(sizes) != truth.ndim or not all(s > 0 for s in sizes):
        raise SizeError(f"the spacing {sizes} does not give a size above 0 for each of {truth.ndim} axes")
    box = _box(truth, predicted)
    if box is None:
        return SurfaceDistances(np.zeros(0), np.zeros(0))
    unknown = None if ignore is None else np.asarray(ignore, np.bool_)[box]
    true, found = surface(truth[box], unknown), surface(predicted[box], unknown)
    return SurfaceDistances(_distances(true, found, sizes), _distances(found, true, sizes))


def _box(truth: Mask, predicted: Mask) -> tuple[slice, ...] | None:
    """The box around both masks, and a pixel more where there is one; None where both are empty."""
    found = list[slice]()
    either = truth | predicted
    for axis in range(either.ndim):
        there = np.flatnonzero(either.any(axis=tuple(a for a in range(either.ndim) if a != axis)))
        if not len(there):
            return None
        found.append(slice(max(0, int(there[0]) - 1), int(there[-1]) + 2))
    return tuple(found)


def _distances(origin: Mask, target: Mask, sizes: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """From each pixel of a surface to the nearest of another; inf where the other is empty.

    A tree of the surface's pixels gives what a distance transform of the whole box would, and a volume of it is never made.
    """
    shared = target[origin]  # such pixels are 0 away, and most of them are such
    out = np.zeros(len(shared))
    if not shared.all():
        points = np.argwhere(origin)[~shared] * np.asarray(sizes)
        goals = np.argwhere(target) * np.asarray(sizes)
        out[~shared] = KDTree(goals, balanced_tree=False).query(points)[0] if len(goals) else np.inf
    return out
