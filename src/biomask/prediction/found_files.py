"""detections/NAME.json and detections.json of a detector's predictions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biomask.errors import ReadError
from biomask.instances.runs import Runs
from biomask.io.detections import DETECTIONS, DetectedImage, read_detections, write_detections
from biomask.prediction.detections import Detections
from biomask.shapes import Category

if TYPE_CHECKING:
    from biomask.checkpoint import Model


def categories_of(model: Model) -> tuple[Category, ...]:
    """The classes of a detector, with its key points where it has some."""
    names, skeleton = points_of(model)
    return tuple(Category(e.name, e.value, keypoints=names, skeleton=skeleton) for e in list(model.legend)[1:])


def points_of(model: Model) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """(names of a detector's key points, pairs of them that a line joins, as positions from 0); empty where it has none."""
    points = model.header.keypoints
    return ((), ()) if points is None else (points.names, points.skeleton)


def as_detected(found: Detections, model: Model, name: str, size: tuple[int, int]) -> DetectedImage:
    """What was found in an image of a name and a size (Y, X), as it is written."""
    values = np.array(model.legend.values, np.int64)
    corners = found.boxes.astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    masks = Runs.of_crops(found.masks, size) if found.masked else None
    return DetectedImage(name, size, values[found.classes], found.scores.astype(np.float64), boxes, masks,
                         None if found.keypoints is None else found.keypoints.astype(np.float64))


def write_found(path: Path, found: Detections, model: Model, name: str, size: tuple[int, int]) -> None:
    """One image's detections/NAME.json."""
    write_detections(path, [as_detected(found, model, name, size)], categories_of(model), _colours(model))


def write_all_found(out: Path, model: Model, names: Iterable[str]) -> None:
    """detections.json, of the images of these names, from the files of each. Raises ReadError where one of these is damaged."""
    files = (out / "detections" / f"{name}.json" for name in names)
    write_detections(out / DETECTIONS, (_found_in(file) for file in files), categories_of(model), _colours(model))


def _found_in(file: Path) -> DetectedImage:
    """What one image's file holds."""
    fix = "delete it and run the same command again: its image is predicted anew"
    try:
        images = read_detections(file).images
    except ReadError as error:
        raise ReadError(error.what, where=file, fix=fix) from error
    if len(images) != 1:
        raise ReadError(f"holds {len(images)} images, not one", where=file, fix=fix)
    return images[0]


def _colours(model: Model) -> dict[str, tuple[int, int, int]]:
    return {e.name: e.colour for e in model.legend}
