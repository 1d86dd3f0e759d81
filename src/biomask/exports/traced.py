"""Objects of a predicted image as outlines, with what objects.csv and a detector say of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from biomask.exports.folder import NAMES, PredictedFolder, PredictedImage, Row
from biomask.exports.objects import Found, Part
from biomask.instances.trace import outlines
from biomask.io.detections import DetectionFile, read_detections
from biomask.labels import Legend
from biomask.shapes import Annotations, Category, Shape

#: Scores that differ less are written alike in objects.csv.
SCORE_DIGITS = 1e-6

#: How far a mask may reach beyond its box on each side, as a share of it: Mask R-CNN lays a ring around its masks.
BEYOND = 0.05


def annotations_of(folder: PredictedFolder, image: PredictedImage, found: Found) -> Annotations:
    """Outlines along the edges of pixels, holes included, with class, colour and measurements; the title is the id."""
    if found.drawn is not None:
        return replace(found.drawn, image=image.file_name)
    shapes = [s for part in found.parts for s in _traced(part, folder.legend)]
    size, file = tuple(found.parts[0].ids.shape[-2:]), found.pointed
    if file is not None:
        rows = [r for part in found.parts for _, r in sorted(part.rows.items())]
        shapes = list(_pointed(shapes, rows, file))
    return Annotations(tuple(shapes), (size[0], size[1]), (), image.file_name, categories=_categories(folder, image))


def _categories(folder: PredictedFolder, image: PredictedImage) -> tuple[Category, ...]:
    """All classes, with their values as ids; of a detector as it describes them, alike in all images of the folder."""
    if image.entry.get("detections") is None:
        return tuple(Category(e.name, e.value) for e in folder.legend.entries[1:])
    return read_detections(image.detections).categories if image.detections is not None else ()


def _traced(part: Part, legend: Legend) -> list[Shape]:
    """One shape an object (Y, X), or one an object and plane of (Z, Y, X)."""
    ids, entries = part.ids, legend.entries
    found = outlines(ids, names={i: entries[k].name for i, k in part.classes.items()},
                     colours={i: entries[k].colour for i, k in part.classes.items()})
    numbers = [int(s.group or 0) for s in found] if ids.ndim == 3 else [int(i) for i in np.unique(ids) if i]
    measured = {i: {c: float(v) for c, v in row.items() if c not in NAMES and v} for i, row in part.rows.items()}
    return [replace(s, title=str(i), measurements=measured.get(i, {})) for i, s in zip(numbers, found, strict=True)]


def _pointed(shapes: Sequence[Shape], rows: Sequence[Row], file: DetectionFile) -> Iterator[Shape]:
    """With the key points of the detections that the objects of one image are. rows: of objects.csv, by rising id."""
    (found,) = file.images
    points = {str(row["id"]): found.keypoints[n] for row, n in zip(rows, _numbers_of(rows, file), strict=True)
              if found.keypoints is not None and n is not None}
    return (replace(shape, keypoints=points.get(shape.title)) for shape in shapes)


def _numbers_of(rows: Sequence[Row], file: DetectionFile) -> Iterator[int | None]:
    """Of each object the number of its detection.

    Both are by falling score, and objects are some of the detections: each is the next with its class and score whose box has it.
    """
    (found,), at = file.images, 0
    names = [{c.id: c.name for c in file.categories}[int(k)] for k in found.categories]
    corner, sides = found.boxes[:, 1::-1], found.boxes[:, :1:-1]
    low, high = corner - BEYOND * sides - 1, corner + (1 + BEYOND) * sides + 1
    for row in rows:
        start, stop = (np.array([float(row[f"bbox_{axis}_{end}_px"]) for axis in "yx"]) for end in ("start", "stop"))
        number = next((n for n in range(at, len(found)) if names[n] == row["class"] and (low[n] <= start).all()
                       and (stop <= high[n]).all() and abs(found.scores[n] - float(row["score"])) < SCORE_DIGITS), None)
        at = at if number is None else number + 1
        yield number
