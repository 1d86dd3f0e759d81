"""`Objects`: what a detector learns of one image: boxes, classes, masks, crowds and keypoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from biomask.data.encoding import UNNAMED
from biomask.data.truth import read_outlines
from biomask.errors import LabelsError, SizeError
from biomask.instances.polygons import Crop, crop_mask
from biomask.labels import Labels
from biomask.shapes import Annotations, Keypoints, Shape, object_ids

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset


@dataclass(frozen=True)
class Objects:
    """The N objects of one image, in pixels of it; pixel (row y, column x) covers [x, x + 1) × [y, y + 1)."""

    size: tuple[int, int]
    """(Y, X) of the image."""
    boxes: npt.NDArray[np.float64]
    """(N, 4) of x0, y0, x1, y1: the outer edges of the outermost pixels of each mask; of a box alone as it is drawn, within the
    image."""
    classes: npt.NDArray[np.int64]
    """(N,) positions in the legend, from 1."""
    masks: tuple[Crop | None, ...]
    """None of an object of which a box alone is known."""
    crowd: npt.NDArray[np.bool_]
    """(N,) regions that say nothing: many objects that nobody told apart, pixels marked as unknown, objects without a class."""
    ids: npt.NDArray[np.int64]
    """(N,) ids in the label image; of outlines numbers from 1 in their order, those that are dropped counted."""
    keypoints: Keypoints | None = None
    """(N, K, 3) of x, y, visibility as in `Shape`; all 0 of objects without. None where the data set has none."""
    dropped: tuple[str, ...] = ()
    """What is in the file and not here, or not as it is there: by name and with the reason."""

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def nbytes(self) -> int:
        """Memory that the masks take; all else is small."""
        return sum(m[0].nbytes for m in self.masks if m is not None)


@dataclass
class _Gathered:
    """Objects found so far."""

    size: tuple[int, int]
    points: int | None
    """Keypoints of each object; None where there are none."""
    masks: list[Crop | None] = field(default_factory=list)
    rows: list[tuple[float, float, float, float]] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    keypoints: list[Keypoints] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def add(self, number: int, where: Crop | tuple[float, float, float, float], position: int, crowd: bool = False,
            keypoints: Keypoints | None = None) -> None:
        """An object by its mask or its box."""
        crop = where if len(where) == 2 else None
        self.masks.append(crop)
        self.rows.append(box_of(crop) if crop is not None else where)  # type: ignore[arg-type]
        self.classes.append(position)
        self.crowd.append(crowd)
        self.ids.append(number)
        if self.points is not None:
            self.keypoints.append(np.zeros((self.points, 3)) if keypoints is None else keypoints)

    def objects(self) -> Objects:
        """All of them."""
        points = None if self.points is None else np.array(self.keypoints, np.float64).reshape(-1, self.points, 3)
        return Objects(self.size, np.array(self.rows, np.float64).reshape(-1, 4), np.array(self.classes, np.int64),
                       tuple(self.masks), np.array(self.crowd, bool), np.array(self.ids, np.int64), points, tuple(self.dropped))


def objects_of(dataset: Dataset, i: int) -> Objects:
    """The objects of image i: of outlines (COCO, ROIs, GeoJSON, …) each as it is drawn, overlaps kept, else of ids of labels.

    Masks follow the rule of `Shape`. An object without a class, where others have one, and pixels marked as unknown are crowds:
    neither learnt nor counted as background. Objects without a pixel in the image are dropped by name.
    Raises LabelsError for label images that are not of instances, SizeError for volumes.
    """
    size, pair = dataset.facts.sizes[i], dataset.pairs[i]
    where = pair.truth.where if pair.truth is not None else pair.image
    if len(size) != 2:
        raise SizeError(f"a detector takes plane images, this one has size {size}", where=where, fix="say --z N, max or each")
    if pair.truth is not None and pair.truth.form in ("shapes", "coco"):
        return drawn_objects(read_outlines(pair, pair.truth, size, dataset.settings), (size[0], size[1]), _positions(dataset))
    if dataset.facts.kind != "instances":
        raise LabelsError(f"labels of kind {dataset.facts.kind} do not tell objects apart", where=where,
                          fix="give outlines or a label image with an id an object; if they are, say --labels instances")
    return labelled_objects(dataset.labels(i))


def _positions(dataset: Dataset) -> dict[str, int]:
    """Position in the legend of each class name; of a legend of one class, of every name ("")."""
    names = dataset.encoding.names
    if len(names) < 2 and len(dataset.legend) <= 2:
        return {"": 1}
    return {name: k for k, name in enumerate(names, start=1)} | ({"": 1 + names.index(UNNAMED)} if UNNAMED in names else {})


def drawn_objects(found: Annotations, size: tuple[int, int], positions: dict[str, int]) -> Objects:
    """Objects of the outlines of an image of size (Y, X).

    positions: of each class name in the legend; {"": 1} where names do not count.
    """
    lists = dict.fromkeys(c.keypoints for c in found.categories if c.keypoints)
    gathered = _Gathered(size, len(next(iter(lists))) if len(lists) == 1 else None)
    gathered.dropped += found.lost
    groups: dict[int, list[Shape]] = {}
    for number, shape in zip(object_ids(found.shapes), found.shapes, strict=True):
        groups.setdefault(number, []).append(shape)
    for number, parts in groups.items():
        crop = trimmed(crop_mask(parts, size))
        if crop is None:
            gathered.dropped.append(f"{_called(parts[0], number)} (it covers no pixel of the image)")
        else:
            _add(gathered, number, crop, parts, positions)
    for number, shape in enumerate(found.boxed, start=len(groups) + 1):
        x0, y0, x1, y1 = shape.bounds
        box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(size[1])), min(y1, float(size[0])))
        if box[0] >= box[2] or box[1] >= box[3]:
            gathered.dropped.append(f"{_called(shape, number)} (its box lies outside the image)")
        else:
            _add(gathered, number, box, [shape], positions)
    return gathered.objects()


def _add(gathered: _Gathered, number: int, where: Crop | tuple[float, float, float, float], parts: Sequence[Shape],
         positions: dict[str, int]) -> None:
    """One object of outlines, with its class and keypoints."""
    first = parts[0]
    position = positions.get(first.name) or positions.get("")
    crowd = any(s.crowd for s in parts)
    if position is None and not crowd:
        gathered.dropped.append(f"{_called(first, number)} (it has no class; it is ignored, neither learnt nor background)")
    points = next((s.keypoints for s in parts if s.keypoints is not None), None)
    if gathered.points is None:
        points = None
    elif points is not None:
        out = _outside(points, gathered.size) & (points[:, 2] > 0)
        if out.any():
            gathered.dropped.append(f"{_called(first, number)} ({int(out.sum())} of its keypoints lie outside the image)")
            points = np.where(out[:, None], 0.0, points)
    gathered.add(number, where, position or 1, crowd or position is None, points)


def _outside(points: Keypoints, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which of the keypoints (K, 3) lie beyond the edges of an image (Y, X)."""
    x, y = points[:, 0], points[:, 1]
    return np.asarray((x < 0) | (y < 0) | (x > size[1]) | (y > size[0]))


def _called(shape: Shape, number: int) -> str:
    """What a person calls an object."""
    return f"annotation {shape.title}" if shape.title else f"object {number}"


def labelled_objects(labels: Labels) -> Objects:
    """Objects of the ids of a label image (Y, X); connected regions of unknown pixels are crowds without an id (0)."""
    from scipy import ndimage

    gathered = _Gathered((int(labels.size[0]), int(labels.size[1])), None)
    ids = labels.array if labels.ignore is None else np.where(labels.ignore, 0, labels.array)
    values, flat = np.unique(ids, return_inverse=True)
    numbers = np.where(values == 0, 0, np.cumsum(values != 0)).astype(np.int32)[flat].reshape(ids.shape)
    several = labels.classes is not None and len(labels.legend) > 2
    for number, (value, place) in enumerate(zip(values[values != 0].tolist(), ndimage.find_objects(numbers), strict=True), start=1):
        position = (labels.classes or {}).get(value, 0) if several else 1
        if not position:
            gathered.dropped.append(f"object {value} (it has no class; it is ignored, neither learnt nor background)")
        gathered.add(value, (numbers[place] == number, (place[0].start, place[1].start)), position or 1, not position)
    if labels.ignore is not None:
        regions, _ = ndimage.label(labels.ignore)
        for number, place in enumerate(ndimage.find_objects(regions), start=1):
            gathered.add(0, (regions[place] == number, (place[0].start, place[1].start)), 1, True)
    return gathered.objects()


def box_of(crop: Crop) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a mask that is cut to its pixels."""
    pixels, (top, left) = crop
    return float(left), float(top), float(left + pixels.shape[1]), float(top + pixels.shape[0])


def trimmed(crop: Crop) -> Crop | None:
    """A mask cut to its pixels; None of an empty one."""
    pixels, (top, left) = crop
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return None
    inner = pixels[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    return inner, (top + int(rows[0]), left + int(columns[0]))


def reasons_of(dropped: Sequence[str]) -> dict[str, int]:
    """How often each reason was given; the most frequent first."""
    return dict(Counter(said[said.find("(") + 1:].removesuffix(")") for said in dropped).most_common())
