"""What can be said of each object in numbers: size, place, shape, brightness; of all objects at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError, SizeError
from biomask.instances.filter import Boxes, boxes_of, positions, require_ids
from biomask.instances.hull import hull_sizes
from biomask.instances.surface import boundary_sizes

#: One array of n values for each column, by its name, in the order of the table.
Columns = dict[str, npt.NDArray[Any]]

#: Pixels looked at at a time.
STRIP = 2**20


def measure_objects(ids: npt.NDArray[Any], *, image: Any = None, classes: Mapping[int, int] | npt.NDArray[Any] | None = None,
                    probability: npt.NDArray[Any] | None = None, spacing: Mapping[str, float] | None = None,
                    names: Sequence[str] | None = None, channel_names: Sequence[str] = ()) -> Columns:
    """Measurements of each object, in ascending id: arrays (n,) by name. NaN where one is not defined.

    ids: integers (*S), 0 = background, any others. image: (C, *S), any real dtype, numpy or with such slicing. classes:
    class of each id. probability: float (*S), that of the foreground. spacing: micrometres a pixel along each axis; names:
    of the classes, by class id; channel_names: see `channel_columns`.

    id, class             class as its name, or its number without names; only with `classes`
    area_px, _um2         number of pixels; in 3D volume_px, _um3, voxels
    centroid_y_px, _um …  mean of the pixels' positions; 0 = the middle of the first pixel
    bbox_y_start_px …     the box around it, half-open: the last pixel is stop - 1
    perimeter_px, _um     length of the edge; in 3D surface_px, _um2; by Cauchy-Crofton, see `boundary_sizes`
    eccentricity          of the ellipse of equal second moments, 0 = a circle; NaN in 3D
    solidity              pixels / pixels of the convex hull, see `hull_sizes`; below 1 for small discs too, by their steps
    equivalent_diameter_px, _um   of the circle or ball of equal area or volume
    major_axis_px, minor_axis_px, _um   longest and shortest axis of the ellipse or ellipsoid of equal second moments
    mean_intensity_NAME   mean grey value of each channel, as in `image`
    touching_border       whether it touches the edge of the image; axes of one pixel have none
    probability           mean over the object; only with `probability`

    The micrometres are there with `spacing`, and then the eccentricity is that of the object, not of its pixels. Definitions
    are those of `skimage.measure.regionprops`. Raises SizeError for shapes that do not fit, LabelsError for other labels.
    """
    require_ids(ids)
    for what, array, shape in (("image", image, None if image is None else tuple(image.shape[1:])),
                               ("probability", probability, None if probability is None else probability.shape)):
        if array is not None and shape != ids.shape:
            raise SizeError(f"{what} has shape {tuple(array.shape)}, labels {ids.shape}")
    axes = "zyx"[-ids.ndim:]
    if spacing is not None and not all(spacing.get(a, 0) > 0 for a in axes):
        raise SizeError(f"spacing {dict(spacing)} does not give a size > 0 for each of {axes!r}")
    compact, known = _compact(ids)
    boxes = boxes_of(compact)
    sums = _sum_up(compact, boxes, image, probability)
    columns: Columns = {"id": known}
    if classes is not None:
        columns["class"] = _classes(known, classes, names)
    columns |= _geometry(compact, boxes, sums, [spacing[a] for a in axes] if spacing else None)
    if image is not None:
        columns |= zip(channel_columns(int(image.shape[0]), channel_names), sums.intensity.T, strict=True)
    wide = np.array(ids.shape) > 1
    columns["touching_border"] = (((boxes.start == 0) | (boxes.stop == ids.shape)) & wide).any(axis=1)
    if probability is not None:
        columns["probability"] = sums.probability
    return columns


def channel_columns(channels: int, names: Sequence[str] = ()) -> list[str]:
    """Columns of the mean grey values: mean_intensity_NAME, or the channel's number from 1 where it has no name of its own.

    >>> channel_columns(3, ["DAPI", "", "DAPI"])
    ['mean_intensity_DAPI', 'mean_intensity_2', 'mean_intensity_3']
    """
    names = list(names) if len(names) == channels else [""] * channels
    own = [name if name and name not in names[:i] and not name.isdecimal() else str(i + 1) for i, name in enumerate(names)]
    return [f"mean_intensity_{name}" for name in own]


@dataclass(frozen=True)
class _Sums:
    """Of each object: pixels, mean and covariance of positions in pixels, means of grey values and probability."""

    area: npt.NDArray[np.int64]
    centre: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]
    intensity: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]


def _compact(ids: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The ids 1..n in the order of the given ones, and these."""
    out = np.zeros(ids.shape, np.int32)
    inside = np.flatnonzero(ids)
    position, known = positions(np.ascontiguousarray(ids).reshape(-1)[inside].astype(np.int64))
    out.reshape(-1)[inside] = position + 1
    return out, known


def _strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Ranges along the first axis, of about STRIP pixels."""
    step = max(1, STRIP // max(1, int(np.prod(shape[1:]))))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def _sum_up(ids: npt.NDArray[np.int32], boxes: Boxes, image: Any, probability: npt.NDArray[Any] | None) -> _Sums:
    n, dims, channels = len(boxes.start), ids.ndim, 0 if image is None else int(image.shape[0])
    area = np.zeros(n, np.int64)
    first, second = np.zeros((n, dims)), np.zeros((n, dims, dims))
    intensity, certainty = np.zeros((n, channels)), np.zeros(n)
    for rows in _strips(ids.shape):
        part = ids[rows]
        places = np.nonzero(part)
        number = part[places] - 1
        area += np.bincount(number, minlength=n)
        # From the corner of each box: small whole numbers, whose sums are exact.
        shifts = (rows.start, 0, 0)
        near = [(p + shifts[axis] - boxes.start[number, axis]).astype(np.float64) for axis, p in enumerate(places)]
        for i in range(dims):
            first[:, i] += np.bincount(number, near[i], minlength=n)
            for j in range(i + 1):
                second[:, i, j] += np.bincount(number, near[i] * near[j], minlength=n)
        for c in range(channels):
            intensity[:, c] += np.bincount(number, np.asarray(image[c, rows])[places], minlength=n)
        if probability is not None:
            certainty += np.bincount(number, probability[rows][places], minlength=n)
    mean = first / area[:, None]
    second += np.tril(second, -1).transpose(0, 2, 1)
    covariance = second / area[:, None, None] - mean[:, :, None] * mean[:, None, :]
    return _Sums(area, mean + boxes.start, covariance, intensity / area[:, None], certainty / area)


def _classes(known: npt.NDArray[np.int64], classes: Mapping[int, int] | npt.NDArray[Any],
             names: Sequence[str] | None) -> npt.NDArray[Any]:
    try:
        of = [int(classes[i]) for i in known.tolist()]
        return np.array(of if names is None else [names[c] for c in of], dtype=np.int64 if names is None else np.object_)
    except (KeyError, IndexError) as error:
        raise LabelsError(f"there is no class, or no name of it, for some of the objects ({error})") from error


def _geometry(ids: npt.NDArray[np.int32], boxes: Boxes, sums: _Sums, sizes: Sequence[float] | None) -> Columns:
    """Everything that pixels alone say."""
    flat = ids.ndim == 2
    axes = "zyx"[-ids.ndim:]
    n = len(sums.area)
    unit = np.ones(ids.ndim)
    scales = [("px", unit)] + ([("um", np.array(sizes))] if sizes else [])
    area, boundary = ("area", "perimeter") if flat else ("volume", "surface")
    powers = {"px": "px", "um": "um2" if flat else "um3"}
    edges = {"px": "px", "um": "um" if flat else "um2"}
    measures = {u: sums.area * float(np.prod(s)) for u, s in scales}
    lengths = {u: _axis_lengths(sums.covariance, s) for u, s in scales}
    major, minor = lengths[scales[-1][0]].T
    columns: Columns = {f"{area}_{powers[u]}": sums.area if u == "px" else measures[u] for u, _ in scales}
    columns |= {f"centroid_{a}_{u}": sums.centre[:, i] * s[i] for u, s in scales for i, a in enumerate(axes)}
    columns |= {f"bbox_{a}_{end}_px": of[:, i] for end, of in (("start", boxes.start), ("stop", boxes.stop))
                for i, a in enumerate(axes)}
    columns |= {f"{boundary}_{edges[u]}": boundary_sizes(ids, n, s.tolist())[1:] for u, s in scales}
    round_ = np.sqrt(np.clip(1 - np.divide(minor, major, out=np.ones(n), where=major > 0) ** 2, 0, 1))
    columns["eccentricity"] = round_ if flat else np.full(n, np.nan)
    columns["solidity"] = sums.area / hull_sizes(ids, boxes)
    columns |= {f"equivalent_diameter_{u}": np.sqrt(4 * m / np.pi) if flat else np.cbrt(6 * m / np.pi) for u, m in measures.items()}
    for u, both in lengths.items():
        columns |= {f"major_axis_{u}": both[:, 0], f"minor_axis_{u}": both[:, 1]}
    return columns


def _axis_lengths(covariance: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Longest and shortest axis of the ellipse or ellipsoid that has this covariance: (n, 2)."""
    values = np.clip(np.linalg.eigvalsh(covariance * np.outer(sizes, sizes)), 0, None)
    # The variance along an axis of half length a is a² / 4 in an ellipse, a² / 5 in an ellipsoid.
    return np.asarray(np.sqrt((16 if len(sizes) == 2 else 20) * values[:, [-1, 0]]))
