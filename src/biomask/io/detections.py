"""detections.json: what a detector found in many images, in COCO's form with the names of the images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError, ReadError, WriteError
from biomask.instances.rle import pack
from biomask.instances.runs import Runs
from biomask.io.jsons import joined, read_json, write_parts
from biomask.shapes import Category

#: Name of the file in a folder that `predict` writes.
DETECTIONS = "detections.json"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DetectedImage:
    """All that was found in one image, N objects in any order."""

    file_name: str
    """Path of the image below the folder of images, with its suffix, parted by "/"; empty where a file has no names."""
    size: tuple[int, int] | None
    """(Y, X) in pixels; None where a file does not say it."""
    categories: npt.NDArray[np.int64]
    """(N,) ids of categories."""
    scores: Floats
    """(N,) finite; higher is surer."""
    boxes: Floats
    """(N, 4): x, y, width, height in pixels, the corner of the first pixel at (0, 0)."""
    masks: Runs | None = None
    """N masks; None where none were predicted."""
    keypoints: Floats | None = None
    """(N, K, 3): x, y and visibility of each key point; None where none were predicted."""
    id: int | str | None = None
    """Of the image in the file that it was read from."""
    areas: Floats | None = None
    """(N,) pixels, where the file that it was read from says them."""

    @classmethod
    def none(cls, size: tuple[int, int] | None, file_name: str = "") -> DetectedImage:
        """An image in which nothing was found."""
        return cls(file_name, size, np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 4)))

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class DetectionFile:
    """A whole file."""

    path: Path
    images: tuple[DetectedImage, ...]
    categories: tuple[Category, ...]
    """In order of their ids; empty where the file has none: a bare list of results."""
    bare: bool = False
    """Whether it is a bare list of results, whose ids are those of another file."""
    boxed: bool = True
    """Whether boxes are the file's own or those of masks; else they are those around the key points."""


def write_detections(path: Path, images: Iterable[DetectedImage], categories: Sequence[Category],
                     colours: Mapping[str, tuple[int, int, int]] | None = None) -> None:
    """Write what was found, image by image: one at a time is held. Images without objects are listed too.

    categories: with ids, by convention the values of the classes in label files. colours: RGB by name.
    pycocotools reads the file as one of annotations, and its list of annotations as results. Raises WriteError where an image has
    no size, or an object is of no category of these.
    """
    known = {c.id for c in categories}
    listed: list[dict[str, Any]] = []

    def annotations() -> Iterator[dict[str, Any]]:
        count = 0
        for number, image in enumerate(images, start=1):
            if image.size is None or not image.file_name:
                raise WriteError(f"image {number} has no name or no size", where=path)
            listed.append({"id": number, "file_name": image.file_name, "height": image.size[0], "width": image.size[1]})
            for row in _rows(image):
                if row["category_id"] not in known:
                    raise WriteError(f"{image.file_name} has an object of category {row['category_id']}, which is none", where=path)
                count += 1
                yield {"id": count, "image_id": number, **row}

    kinds = [_category_row(c, (colours or {}).get(c.name)) for c in categories]
    # The images come last: they are all known once their objects are written.
    write_parts(path, chain(joined(kinds, start='{"info": {"description": "biomask"}, "categories": ', end=",\n"),
                            joined(annotations(), start='"annotations": ', end=",\n"),
                            joined(listed, start='"images": ', end="}\n")))


def _category_row(category: Category, colour: tuple[int, int, int] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"id": category.id, "name": category.name, "supercategory": category.group}
    if colour is not None:
        row["color"] = list(colour)
    if category.keypoints:
        row |= {"keypoints": list(category.keypoints), "skeleton": [[a + 1, b + 1] for a, b in category.skeleton]}
    return row


def _rows(image: DetectedImage) -> Iterator[dict[str, Any]]:
    """The objects of an image, but for their ids."""
    areas = image.boxes[:, 2:].prod(axis=1) if image.masks is None else image.masks.areas
    for n in range(len(image)):
        row: dict[str, Any] = {"category_id": int(image.categories[n]), "score": float(image.scores[n]),
                               "bbox": image.boxes[n].tolist(), "area": areas[n].item(), "iscrowd": 0}
        if image.masks is not None:
            row["segmentation"] = {"size": list(image.masks.size), "counts": pack(image.masks.counts(n))}
        if image.keypoints is not None:
            points = image.keypoints[n]
            row |= {"keypoints": points.reshape(-1).tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
        yield row


@dataclass
class _Found:
    """Rows of one image while a file is read."""

    file_name: str
    size: tuple[int, int] | None
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """(number of the row in the file, the row)."""


def read_detections(path: Path, *, sizes: Mapping[int | str, tuple[int, int] | None] | None = None) -> DetectionFile:
    """What `write_detections` wrote, or results of another program: a file of annotations with scores, or a bare list of them.

    sizes: for a bare list, (Y, X) of each image by its id; images that it does not name are there all the same, without objects.
    An object needs image_id, category_id, score, and one of bbox, segmentation (run lengths) or keypoints; where one object of a
    file has a mask or key points, all have to. Boxes that are not there are those around the mask or the key points. Raises
    ReadError naming the object.
    """
    content = read_json(path)
    bare = isinstance(content, list)
    if bare:
        found = {key: _Found("", size) for key, size in (sizes or {}).items()}
        rows, categories = content, tuple[Category, ...]()
    elif isinstance(content, dict) and isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        found, rows, categories = _images_of(content["images"], path), content["annotations"], _categories_of(content, path)
    else:
        raise ReadError("is JSON, but no detections: neither a list of results nor images with annotations", where=path)
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or type(row.get("image_id")) not in (int, str):
            raise ReadError(f"object {number} has no image_id", where=path)
        key = row["image_id"]
        if key not in found:
            if not bare:
                raise ReadError(f"object {number} is of image {key}, which the file does not list", where=path)
            found[key] = _Found("", None)
        found[key].rows.append((number, row))
    try:
        whole = _Has.of(rows)
        images = tuple(_image_of(key, image, whole) for key, image in found.items())
    except LabelsError as error:
        raise ReadError(error.what, where=path, fix=error.fix) from error
    return DetectionFile(path, images, categories, bare, whole.boxes or whole.masks or not rows)


def _images_of(entries: list[Any], path: Path) -> dict[int | str, _Found]:
    found: dict[int | str, _Found] = {}
    for number, entry in enumerate(entries):
        key, name = (entry.get("id"), entry.get("file_name")) if isinstance(entry, dict) else (None, None)
        if not isinstance(key, int | str) or not isinstance(name, str) or not name or key in found:
            raise ReadError(f"image {number} has no id of its own, or no file_name", where=path)
        size = (entry.get("height"), entry.get("width"))
        found[key] = _Found(name, size if all(type(n) is int and n > 0 for n in size) else None)
    return found


def _categories_of(content: dict[str, Any], path: Path) -> tuple[Category, ...]:
    """Raises ReadError for those without an id and a name of their own."""
    found: dict[int, Category] = {}
    for number, entry in enumerate(content.get("categories") or ()):
        key, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if type(key) is not int or not isinstance(name, str) or key in found:
            raise ReadError(f"category {number} has no id of its own, or no name", where=path)
        names, group = entry.get("keypoints"), entry.get("supercategory")
        points = tuple(map(str, names)) if isinstance(names, list) else ()
        lines = _skeleton(entry.get("skeleton"), len(points))
        found[key] = Category(name, key, group if isinstance(group, str) else "", points, lines)
    return tuple(found[key] for key in sorted(found))


def _skeleton(said: Any, points: int) -> tuple[tuple[int, int], ...]:
    """Pairs of key points from 0; what is none is left out, as nothing but pictures needs it."""
    pairs = [p for p in said if isinstance(p, list) and len(p) == 2] if isinstance(said, list) else []
    return tuple((a - 1, b - 1) for a, b in pairs if all(type(n) is int and 1 <= n <= points for n in (a, b)))


@dataclass(frozen=True)
class _Has:
    """What all objects of a file have."""

    boxes: bool
    masks: bool
    areas: bool
    points: int
    """Key points; 0 = none."""

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> _Has:
        """Raises LabelsError where some have what others lack."""
        counts = {}
        for key in ("bbox", "segmentation", "keypoints"):
            has = [bool(row.get(key)) for row in rows]
            if any(has) and not all(has):
                raise LabelsError(f"object {has.index(False)} has no {key}, object {has.index(True)} has one",
                                  fix="give each object the same keys")
            counts[key] = any(has)
        if counts["keypoints"] and not isinstance(rows[0]["keypoints"], list):
            raise LabelsError("keypoints of object 0 are no list of numbers")
        if rows and not any(counts.values()):
            raise LabelsError("objects have neither bbox nor segmentation nor keypoints")
        return cls(counts["bbox"], counts["segmentation"], all(type(row.get("area")) in (int, float) for row in rows),
                   len(rows[0]["keypoints"]) // 3 if counts["keypoints"] else 0)


def _image_of(key: int | str, found: _Found, has: _Has) -> DetectedImage:
    rows = found.rows
    for number, row in rows:
        if type(row.get("category_id")) is not int:
            raise LabelsError(f"object {number} has no category_id")
        _numbers([row.get("score")], 1, f"score of object {number}")
    n = len(rows)
    points = None
    if has.points:
        flat = [_numbers(row["keypoints"], 3 * has.points, f"keypoints of object {number}") for number, row in rows]
        points = np.array(flat, np.float64).reshape(n, has.points, 3)
    masks, size = _masks_of(rows, found.size) if has.masks else (None, found.size)
    if has.boxes:
        boxes = np.array([_numbers(row["bbox"], 4, f"bbox of object {number}") for number, row in rows], np.float64).reshape(n, 4)
        if (boxes[:, 2:] < 0).any():
            number = rows[int(np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))[0])][0]
            raise LabelsError(f"bbox of object {number} has a negative width or height")
    elif masks is not None:
        boxes = masks.boxes
    else:
        boxes = np.zeros((n, 4)) if points is None else np.concatenate(
            [points[..., :2].min(axis=1), np.ptp(points[..., :2], axis=1)], axis=1)
    return DetectedImage(found.file_name, size, np.array([row["category_id"] for _, row in rows], np.int64),
                         np.array([row["score"] for _, row in rows], np.float64), boxes, masks, points, key,
                         np.array([row["area"] for _, row in rows], np.float64) if has.areas else None)


def _masks_of(rows: Sequence[tuple[int, dict[str, Any]]],
              size: tuple[int, int] | None) -> tuple[Runs | None, tuple[int, int] | None]:
    """(the masks, the size of the image, which they may be the first to say)."""
    counts = list[Any]()
    for number, row in rows:
        said = row["segmentation"]
        if not isinstance(said, dict) or not isinstance(said.get("counts"), str | list):
            raise LabelsError(f"segmentation of object {number} is no run lengths", fix="give masks as run lengths, packed or not")
        its = said.get("size")
        if not isinstance(its, list) or len(its) != 2 or not all(type(v) is int and v > 0 for v in its):
            raise LabelsError(f"segmentation of object {number} is for an image of size {its!r}")
        size = size or (its[0], its[1])
        if tuple(its) != size:
            raise LabelsError(f"segmentation of object {number} is for {its[0]} x {its[1]} pixels, its image has "
                              f"{size[0]} x {size[1]}")
        counts.append(said["counts"])
    if size is None:
        return None, None
    try:
        return Runs.of_counts(counts, size), size
    except LabelsError as error:
        raise LabelsError(f"segmentation of object {rows[_first_wrong(counts, size)][0]}: {error.what}") from error


def _first_wrong(counts: Sequence[Any], size: tuple[int, int]) -> int:
    """Which of several run lengths, not all of which are right, is the first that is not."""
    for n, own in enumerate(counts):
        try:
            Runs.of_counts([own], size)
        except LabelsError:
            return n
    return len(counts) - 1


def _numbers(said: Any, count: int, what: str) -> list[float]:
    """Raises LabelsError unless it is a list of so many finite numbers."""
    if not isinstance(said, list) or len(said) != count or not all(type(v) in (int, float) and math.isfinite(v) for v in said):
        raise LabelsError(f"{what} is {'no finite number' if count == 1 else f'no list of {count} finite numbers'}")
    return said
