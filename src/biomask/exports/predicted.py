"""Objects of a folder of predictions for QuPath, ImageJ and COCO, with their classes, colours and measurements."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.exports.formats import OUTLINES
from biomask.instances.trace import outlines
from biomask.io import read_label_values
from biomask.io.annotations import SHAPE_SUFFIXES, SHAPE_WRITERS
from biomask.io.coco import write_coco
from biomask.io.detections import DETECTIONS, DetectionFile, read_detections
from biomask.labels import Legend
from biomask.prediction.folder import COCO_FILE, OBJECTS_FILE, image_name
from biomask.progress import Progress, Silent
from biomask.shapes import Annotations, Shape
from biomask.stored import Plane
from biomask.words import count

#: The folder of each format that has a file an image.
FOLDERS: Mapping[str, str] = {"geojson": "geojson", "roi": "rois"}

#: Columns of objects.csv that say which object it is.
NAMES = ("image", "id", "class")

Row = Mapping[str, str]

#: Scores that differ less are written alike in objects.csv.
SCORE_DIGITS = 1e-6

#: How far a mask may reach beyond its box on each side, as a share of it: Mask R-CNN lays a ring around its masks.
BEYOND = 0.05


def export_predictions(out: Path, formats: Sequence[str], progress: Progress | None = None) -> tuple[Path, ...]:
    """Write the objects of a folder that `predict` filled: geojson/NAME.geojson, rois/NAME.zip, coco.json.

    formats: of geojson, roi, coco. Objects are those of labels/, traced along the edges of their pixels, holes included; class
    and measurements are those of objects.csv, the title is the object's id there. What is newer than its labels is left as
    it is. Returns the files written.
    """
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    legend = Legend.from_json(record["legend"])
    images = {name: entry for name, entry in record["images"].items() if entry["labels"]}
    targets = {name: _targets(out, name, formats) for name in images}
    pending = {name: [form for form, target in targets[name].items() if not _is_newer(target, _labels(out, entry))]
               for name, entry in images.items()}
    coco = out / COCO_FILE
    together = "coco" in formats and not (coco.is_file() and _is_newer(coco, [p for e in images.values() for p in _labels(out, e)])
                                          and _names_in(coco) == [_image_name(n, e) for n, e in images.items()])
    wanted = {name for name, missing in pending.items() if missing or together}
    written, drawn = list[Path](), dict[str, Annotations]()
    with (progress or Silent()).bar("exporting objects") as bar:
        for n, (name, rows) in enumerate(_rows(out / OBJECTS_FILE, wanted)):
            annotations = _annotations(out, name, images[name], rows, legend)
            for form in pending[name]:
                SHAPE_WRITERS[OUTLINES[form]](targets[name][form], annotations)
                written.append(targets[name][form])
            if together:
                drawn[name] = annotations
            bar.update((n + 1) / len(wanted), name)
    if together:
        write_coco(coco, [drawn[name] for name in images])
        written.append(coco)
    return tuple(written)


def with_keypoints(out: Path, *, anew: bool, progress: Progress) -> tuple[dict[Path, Annotations], tuple[str, ...]]:
    """(objects of each image in which a detector looked for keypoints, by the file of its mask; a note of the others).

    They are what `export_predictions` writes to COCO, as long as the mask is still theirs. anew: masks are to be read in another
    way than they were written, so there are none. Raises ReadError for damaged files.
    """
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    entries = record["images"] if record.get("command") == "predict" else {}
    images = {name: entry for name, entry in entries.items() if entry.get("detections") is not None}
    file = next((f for name, entry in images.items() if (f := _detected(out, name, entry)) is not None), None)
    if file is None or not _has_points(file):  # a folder is of one model
        return {}, ()
    legend, found = Legend.from_json(record["legend"]), dict[Path, Annotations]()
    usable = set[str]() if anew or not (out / OBJECTS_FILE).is_file() else {n for n, e in images.items() if e["labels"]}
    with progress.bar("reading keypoints") as bar:
        for n, (name, rows) in enumerate(_rows(out / OBJECTS_FILE, usable) if usable else ()):
            if _is_as_predicted(out, images[name], rows, legend):
                found[(out / images[name]["mask"]).resolve()] = _annotations(out, name, images[name], rows, legend)
            bar.update((n + 1) / len(usable), name)
    lost = [name for name, entry in images.items() if (out / entry["mask"]).resolve() not in found]
    why = "the masks are read anew" if anew else "labels/ or objects.csv are missing or do not fit the masks"
    note = (f"keypoints of {count(len(lost), 'image')} are left out, for {why}: {', '.join(lost[:5])}{' …' * (len(lost) > 5)}; "
            f"biomask convert {out / DETECTIONS} keeps them")
    return found, (note,) if lost else ()


def _is_as_predicted(out: Path, entry: Mapping[str, Any], rows: Sequence[Row], legend: Legend) -> bool:
    """Whether a mask is that of the objects, and not one that somebody corrected."""
    mask, labels = out / entry["mask"], _labels(out, entry)[0]
    if not (mask.is_file() and labels.is_file()):
        return False
    ids, values = (np.asarray(read_label_values(path).array[0]) for path in (labels, mask))
    value_of = {e.name: e.value for e in legend}
    table = np.full(int(ids.max(initial=0)) + 1, legend.values[0])
    for row in rows:
        if int(row["id"]) < len(table):
            table[int(row["id"])] = value_of.get(row["class"], legend.values[0])
    return ids.shape == values.shape and np.array_equal(table[ids], values)


def _targets(out: Path, name: str, formats: Sequence[str]) -> dict[str, Path]:
    return {f: out / FOLDERS[f] / f"{name}{SHAPE_SUFFIXES[OUTLINES[f]]}" for f in formats if f in FOLDERS}


def _labels(out: Path, entry: Mapping[str, Any]) -> list[Path]:
    return [out / p for p in entry["labels"]]


def _is_newer(target: Path, sources: Sequence[Path]) -> bool:
    return target.is_file() and all(target.stat().st_mtime_ns >= s.stat().st_mtime_ns for s in sources)


def _names_in(coco: Path) -> list[str]:
    """File names of the images in a COCO file of ours; none of one that cannot be read."""
    try:
        return [str(i["file_name"]) for i in json.loads(coco.read_text(encoding="utf-8"))["images"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _image_name(name: str, entry: Mapping[str, Any]) -> str:
    return image_name(name, Path(entry["file"]), Plane(**entry["plane"]))


def _rows(path: Path, wanted: set[str]) -> Iterator[tuple[str, list[Row]]]:
    """(image, its objects), image by image as they lie in the table; those without objects last."""
    left = set(wanted)
    with path.open(newline="", encoding="utf-8", errors="backslashreplace") as file:
        for name, rows in groupby(csv.DictReader(file), key=lambda row: row["image"]):
            if name in left:
                left.discard(name)
                yield name, list(rows)
    for name in sorted(left):
        yield name, []


def _annotations(out: Path, name: str, entry: Mapping[str, Any], rows: Sequence[Row], legend: Legend) -> Annotations:
    several = len(entry["labels"]) > 1
    shapes, size = list[Shape](), (0, 0)
    for path, structure in zip(_labels(out, entry), list(legend)[1:], strict=False):
        ids = np.asarray(read_label_values(path).array[0])
        size = (int(ids.shape[-2]), int(ids.shape[-1]))
        shapes += measured_shapes(ids, [r for r in rows if not several or r["class"] == structure.name], legend)
    file = _detected(out, name, entry)
    if file is None or not _has_points(file):
        return Annotations(tuple(shapes), size, (), _image_name(name, entry))
    return Annotations(tuple(_pointed(shapes, rows, file)), size, (), _image_name(name, entry), categories=file.categories)


def _detected(out: Path, name: str, entry: Mapping[str, Any]) -> DetectionFile | None:
    """What a detector found in an image; None of other models."""
    path = out / "detections" / f"{name}.json"
    return read_detections(path) if entry.get("detections") is not None and path.is_file() else None


def _has_points(file: DetectionFile) -> bool:
    """Whether keypoints were looked for; those of an image without objects are known from its categories."""
    return file.images[0].keypoints is not None or any(c.keypoints for c in file.categories)


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


def measured_shapes(ids: npt.NDArray[Any], rows: Sequence[Row], legend: Legend) -> list[Shape]:
    """Outlines of the objects of labels (Y, X), or of each plane of (Z, Y, X), with what a table says of them.

    rows: of objects.csv, of this image. Colours are those of the legend.
    """
    of = {int(row["id"]): row for row in rows}
    colours = {e.name: e.colour for e in legend}
    names = {i: row["class"] for i, row in of.items()}
    found = outlines(ids, names=names, colours={i: colours[name] for i, name in names.items() if name in colours})
    numbers = [int(s.group or 0) for s in found] if ids.ndim == 3 else [int(i) for i in np.unique(ids) if i]
    measured = {i: {c: float(v) for c, v in row.items() if c not in NAMES and v} for i, row in of.items()}
    return [replace(s, title=str(i), measurements=measured.get(i, {})) for i, s in zip(numbers, found, strict=True)]
