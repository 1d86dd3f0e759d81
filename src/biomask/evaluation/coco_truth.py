"""The two sides of COCO's scores, from COCO files, from what a detector wrote, and from label images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biomask.errors import LabelsError
from biomask.instances.coco_fill import fill, fine_points
from biomask.instances.runs import Runs
from biomask.io.coco import CocoImage
from biomask.io.coco_objects import CocoObject
from biomask.io.detections import DetectedImage
from biomask.labels import Labels
from biomask.metrics import FoundObjects, TrueObjects

Ints = npt.NDArray[np.int64]

#: Class of true objects where the file has no categories.
UNNAMED = "object"

#: The number of a class that the truth does not have: found objects of it count nowhere.
NO_CLASS = 0


def true_in_coco(image: CocoImage, numbers: Mapping[str, int], size: tuple[int, int], count: int, *,
                 masks: bool = True) -> TrueObjects:
    """The objects of an image of size (Y, X), with the areas and boxes of the file, polygons filled as COCO fills them.

    numbers: of each class by name. count: of key points; 0 = there are none. masks: whether they are wanted; where an object has no
    area or box, its mask says them. An object of a box alone has an empty mask. Raises LabelsError naming the annotation that
    cannot be used.
    """
    outlines, runs_of = list[list[Ints]](), dict[int, Ints]()
    boxes, areas, points = list[list[float] | None](), list[float | None](), list[Any]()
    for n, own in enumerate(image.objects):
        try:
            wanted = own.segmentation if masks or own.area is None or own.box is None else None
            outlines.append(_outlines(wanted) if isinstance(wanted, list) else [])
            if wanted and not isinstance(wanted, list):
                runs_of[n] = _runs(wanted, size)
            boxes.append(_box(own.box))
            areas.append(_area(own.area))
            points.append(_points(own, count))
        except LabelsError as error:
            raise LabelsError(f"annotation {own.id}: {error.what}", fix=error.fix) from error
    runs = Runs.of_bounds([runs_of.get(n, b) for n, b in enumerate(fill(outlines, size))], size)
    around = runs.boxes
    known = np.array([around[i] if b is None else b for i, b in enumerate(boxes)], np.float64).reshape(-1, 4)
    pixels = np.where(np.diff(runs.offsets) > 0, runs.areas, known[:, 2] * known[:, 3])
    return TrueObjects(
        np.array([numbers[o.category or UNNAMED] for o in image.objects], np.int64),
        np.array([pixels[i] if a is None else a for i, a in enumerate(areas)], np.float64), known,
        np.array([o.crowd for o in image.objects], np.bool_), runs if masks else None,
        np.array(points, np.float64).reshape(len(points), count, 3) if count else None)


def _outlines(said: list[Any]) -> list[Ints]:
    if said and not isinstance(said[0], list):
        raise LabelsError("its segmentation is not a list of polygons")
    return [fine_points(polygon) for polygon in said]


def _runs(said: Any, size: tuple[int, int]) -> Ints:
    if not isinstance(said, dict) or not isinstance(said.get("counts"), str | list) or said.get("size") != list(size):
        raise LabelsError(f"its segmentation is neither polygons nor run lengths of an image of {size[0]} x {size[1]} pixels")
    return Runs.of_counts([said["counts"]], size).bounds


def _area(said: Any) -> float | None:
    number = None if said is None else _numbers([said], 1, "its area is no number")
    return number[0] if number else None


def _box(said: Any) -> list[float] | None:
    box = _numbers(said or None, 4, "its bbox is no list of x, y, width, height")
    if box is not None and min(box[2:]) < 0:
        raise LabelsError("its bbox has a negative width or height")
    return box


def _numbers(said: Any, count: int, wrong: str) -> list[float] | None:
    """None where there is nothing. Raises LabelsError."""
    if said is None:
        return None
    if not isinstance(said, list) or len(said) != count or not all(type(v) in (int, float) and math.isfinite(v) for v in said):
        raise LabelsError(wrong)
    return said


def _points(own: CocoObject, count: int) -> npt.NDArray[np.float64]:
    """(count, 3); zeros where the object has none."""
    said = _numbers(own.keypoints, 3 * own.points, f"its keypoints are no list of {own.points} times x, y, visibility")
    out = np.zeros((count, 3))
    if said is not None:
        out[:own.points] = np.reshape(said, (-1, 3))
    return out


def true_in_labels(labels: Labels, classes: npt.NDArray[Any], count: int) -> TrueObjects:
    """The objects of a plane label image. classes: class ids (Y, X), from 1 to `count`.

    Each unknown region is a crowd of every class, and so is an object that is unknown by more than half.
    """
    masks, _ = Runs.of_ids(labels.array)
    kinds = _class_at_first(masks, classes)
    crowd = np.zeros(len(masks), np.bool_)
    if labels.ignore is not None and labels.ignore.any():
        regions, _ = Runs.of_ids(ndimage.label(labels.ignore, np.ones((3, 3)))[0])
        known = Runs.of_ids(np.where(labels.ignore, 0, labels.array))
        left = dict(zip(known[1].tolist(), known[0].areas.tolist(), strict=True))
        ids = Runs.of_ids(labels.array)[1]
        crowd = np.array([2 * left.get(int(i), 0) < area for i, area in zip(ids, masks.areas, strict=True)], np.bool_)
        every = Runs.joined([masks, *[regions] * count], masks.size)
        kinds = np.concatenate([kinds, np.repeat(np.arange(1, count + 1), len(regions))])
        crowd = np.concatenate([crowd, np.ones(count * len(regions), np.bool_)])
        masks = every
    return TrueObjects(kinds, masks.areas.astype(np.float64), masks.boxes, crowd, masks)


def found_in_labels(ids: npt.NDArray[Any], classes: npt.NDArray[Any], of_class: Mapping[int, int],
                    scores: Mapping[int, float] | None) -> FoundObjects:
    """The predicted objects of a plane label image. classes: class ids (Y, X), from 1, and of_class the class of the truth of each.
    scores: by id; None = 1 each.

    Raises LabelsError for an object without a score where others have one.
    """
    masks, numbers = Runs.of_ids(ids)
    if scores is not None and not set(numbers.tolist()) <= set(scores):
        raise LabelsError(f"has no probability of object {min(set(numbers.tolist()) - set(scores))}", fix="predict the image again")
    sure = np.ones(len(numbers)) if scores is None else np.array([scores[int(i)] for i in numbers], np.float64)
    kinds = np.array([of_class.get(k, NO_CLASS) for k in _class_at_first(masks, classes).tolist()], np.int64)
    return FoundObjects(kinds, sure, masks.boxes, masks)


def _class_at_first(masks: Runs, classes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(N,) the class at the first pixel of each mask, none of which is empty."""
    column, row = np.divmod(masks.bounds[masks.offsets[:-1]], masks.size[0])
    return np.asarray(classes[row, column], np.int64)


def found_by_detector(image: DetectedImage, numbers: Mapping[int, int], size: tuple[int, int], points: int) -> FoundObjects:
    """What a detector found in an image of size (Y, X). numbers: from ids of its categories to classes of the truth.

    points: key points of the truth, for an image in which nothing was found. Raises LabelsError for another size.
    """
    if image.size not in (None, size):
        raise LabelsError(f"objects were found in an image of {image.size}, the truth has {size}", where=image.file_name)
    kinds = np.array([numbers.get(c, NO_CLASS) for c in image.categories.tolist()], np.int64)
    nothing = not len(image)
    return FoundObjects(kinds, image.scores, image.boxes, Runs.none(size) if nothing else image.masks,
                        np.zeros((0, points, 3)) if nothing and points else image.keypoints)


def class_numbers(true: Sequence[str], found: Sequence[str]) -> dict[str, int]:
    """For each found class the number of the true one, from 1 in the order given: of the same name, or the only one.

    Raises LabelsError where the truth has several classes and none of the names.
    """
    numbers = {name: n for n, name in enumerate(true, start=1)}
    if not set(true) & set(found) and len(true) == 1:
        return dict.fromkeys(found, 1)
    if found and not set(true) & set(found):
        raise LabelsError(f"the truth has classes {', '.join(true[:8])}, the predictions {', '.join(found[:8])}: no class is in "
                          "both", fix="give both sides the same class names")
    return {name: numbers.get(name, NO_CLASS) for name in found}
