"""From the probabilities of a network to objects: middles with a valley between them, grown to the edge of the foreground."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError, SizeError
from biomask.instances.basins import Basins, find_basins
from biomask.instances.filter import fill_holes, in_scan_order

InstanceTarget = Literal["distance", "borders"]

#: Ranges that thresholds must lie in.
RANGES: Mapping[str, tuple[float, float]] = {
    "foreground": (0, 1), "valley": (0, 2), "min_size": (1, 2**53), "sigma": (0, 10), "hole": (0, 1),
}


@dataclass(frozen=True)
class Thresholds:
    """Where objects begin and end; kept in the model file as numbers."""

    foreground: float = 0.5
    """Pixels are of some object where 1 - p(background) is above this."""
    valley: float = 0.2
    """Two middles are of different objects where the interior between them falls by at least this much. The interior is
    distance - border, -1..1; with the target "borders" it is 1 - p(background)."""
    min_size: int = 1
    """Objects of fewer pixels are none."""
    sigma: float = 0.0
    """Standard deviation, in pixels of the finest axis, of the Gaussian that smooths the interior first; 0 = none."""
    hole: float = 0.1
    """Holes of at most this share of their object are filled."""

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise LabelsError(f"threshold {name} = {getattr(self, name)} is not in {low}..{high}")

    def to_dict(self) -> dict[str, float]:
        """All of them as floats, by name."""
        return {name: float(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Thresholds:
        """Back from `to_dict`; what is missing takes the default. Raises LabelsError for unknown names and values out of range."""
        known = {f.name for f in fields(cls)}
        if set(values) - known:
            raise LabelsError(f"thresholds {sorted(set(values) - known)} are not known",
                              fix=f"known are {sorted(known)}; a model of another version of biomask has to be trained again")
        return cls(**{n: round(v) if n.endswith("_size") and np.isfinite(v) else float(v)  # type: ignore[arg-type]
                      for n, v in values.items()})


@dataclass(frozen=True)
class ObjectMaps:
    """What objects are made of, from the probabilities of an image."""

    foreground: npt.NDArray[np.float32]
    """(*S), 1 - p(background), 0..1."""
    interior: npt.NDArray[np.float32]
    """(*S), high in the middles of objects: distance - border, -1..1, or the foreground."""


def label_instances(probabilities: npt.NDArray[Any], thresholds: Thresholds, *, target: InstanceTarget = "distance",
                    spacing: Mapping[str, float] | None = None) -> npt.NDArray[np.int32]:
    """Objects of an image or volume: int32 ids (*S), 0 = background, 1..n in the order of their first pixels.

    probabilities: float (K + 2, *S), softmax of background and K - 1 classes, then distance and border; with
    target="borders" the K alone. spacing: micrometres a pixel along z, y, x, so that smoothing is round there too.

    Each maximum of the interior with a valley of at least `valley` towards higher ones is an object, however low it is; a
    watershed gives it the pixels of the foreground around it (`biomask.instances.basins`). An object of fewer than `min_size`
    pixels gives them to those that touch it; where none does, it is dropped, but small ones side by side that together are
    large enough become one. Objects are in one piece.
    Raises SizeError for other shapes, LabelsError for values that are not finite.
    """
    return next(label_by_each(probabilities, [thresholds], target=target, spacing=spacing))


def label_by_each(probabilities: npt.NDArray[Any], thresholds: Sequence[Thresholds], *, target: InstanceTarget = "distance",
                  spacing: Mapping[str, float] | None = None) -> Iterator[npt.NDArray[np.int32]]:
    """`label_instances` by each of several thresholds, in their order: much sooner than one by one where neighbours in the list
    have the same foreground and sigma, since they share basins."""
    maps = object_maps(probabilities, target)
    for (foreground, sigma), alike in groupby(thresholds, key=lambda t: (t.foreground, t.sigma)):
        interior = smoothed(maps.interior, sigma, spacing)
        basins = find_basins(interior, maps.foreground > foreground)
        for each in alike:
            yield merge_basins(basins, interior, each)


def object_maps(probabilities: npt.NDArray[Any], target: InstanceTarget = "distance") -> ObjectMaps:
    """Foreground and interior; see `label_instances`."""
    least = 4 if target == "distance" else 2
    if probabilities.ndim not in (3, 4) or len(probabilities) < least:
        raise SizeError(f"probabilities have shape {probabilities.shape}, not ({least} or more channels, *S)")
    foreground = np.subtract(1, probabilities[0], dtype=np.float32)
    interior = foreground
    if target == "distance":
        interior = np.subtract(probabilities[-2], probabilities[-1], dtype=np.float32)
    if not (np.isfinite(foreground).all() and np.isfinite(interior).all()):
        raise LabelsError("probabilities are not finite")
    return ObjectMaps(foreground, interior)


def smoothed(interior: npt.NDArray[np.float32], sigma: float,
             spacing: Mapping[str, float] | None = None) -> npt.NDArray[np.float32]:
    """The interior after a Gaussian of `sigma` pixels of the finest axis, fewer along coarser ones."""
    from scipy import ndimage

    if sigma <= 0 or not interior.size:
        return interior
    sizes = [spacing[axis] if spacing else 1.0 for axis in "zyx"[-interior.ndim:]]
    return np.asarray(ndimage.gaussian_filter(interior, [sigma * min(sizes) / s for s in sizes], mode="nearest", truncate=3))


def merge_basins(basins: Basins, interior: npt.NDArray[np.float32], thresholds: Thresholds) -> npt.NDArray[np.int32]:
    """Objects of what `find_basins` gave for the interior and the threshold of the foreground."""
    if not basins.ids.any():
        return np.zeros(basins.ids.shape, np.int32)
    ids = _settle(basins.objects(thresholds.valley), interior, thresholds.min_size)
    return in_scan_order(fill_holes(ids, thresholds.hole))


def _settle(ids: npt.NDArray[np.int32], interior: npt.NDArray[np.float32], min_size: int) -> npt.NDArray[np.int32]:
    """Small objects give their pixels to the neighbours; a part of the foreground of small ones alone becomes one, or none."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    area = np.bincount(ids.reshape(-1))
    small = area < min_size
    small[0] = False
    if not (small & (area > 0)).any():
        return ids
    inside, left = ids > 0, small[ids]
    parts, count = ndimage.label(inside)
    ids = np.where(left, 0, ids)
    around = ndimage.binary_dilation(left) & inside  # what is next to them is all that the flood starts from
    ids = np.where(left, watershed(-interior, markers=np.where(around, ids, 0), mask=around), ids).astype(np.int32)
    occupied = np.zeros(count + 1, bool)
    occupied[parts.reshape(-1)[np.flatnonzero(ids)]] = True
    new = ~occupied & (np.bincount(parts.reshape(-1), minlength=count + 1) >= min_size)
    new[0] = False
    numbers = np.where(new, np.cumsum(new) + len(area), 0).astype(np.int32)
    return np.asarray(ids + numbers[parts])
