"""Objects of a folder of predictions for QuPath, ImageJ and COCO, with their classes, colours and measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from biomask.data.mistakes import some
from biomask.errors import LabelsError
from biomask.exports.folder import PredictedFolder, PredictedImage, Row, read_folder, rows_of
from biomask.exports.formats import OUTLINES
from biomask.exports.objects import Found, find_objects
from biomask.exports.traced import annotations_of
from biomask.io.annotations import SHAPE_SUFFIXES, SHAPE_WRITERS
from biomask.io.coco import write_coco
from biomask.prediction.folder import COCO_FILE
from biomask.progress import Progress, Silent
from biomask.shapes import Annotations

#: The folder of each format that has a file an image.
FOLDERS: Mapping[str, str] = {"geojson": "geojson", "roi": "rois"}


def export_predictions(out: Path, formats: Sequence[str], progress: Progress | None = None) -> tuple[Path, ...]:
    """Write the objects of a folder that `predict` filled: geojson/NAME.geojson, rois/NAME.zip, coco.json.

    formats: of geojson, roi, coco. Objects are those of labels/, traced along the edges of their pixels, holes included; class
    and measurements are those of objects.csv, the title is the object's id there. Where somebody changed masks/ by hand since, it
    is the mask that counts, as in `convert`, and that is said. What is newer than its labels and mask is left as it is. Returns
    the files written.
    """
    progress, folder = progress or Silent(), read_folder(out)
    images = {i.name: i for i in folder.images if i.labels}
    targets = {name: _targets(out, name, formats) for name in images}
    pending = {name: [form for form, target in targets[name].items() if not _is_newer(target, (*image.labels, *image.masks))]
               for name, image in images.items()}
    coco = out / COCO_FILE
    together = "coco" in formats and not (
        coco.is_file() and _is_newer(coco, [p for i in images.values() for p in (*i.labels, *i.masks)])
        and _names_in(coco) == [i.file_name for i in images.values()])
    wanted = {name for name, missing in pending.items() if missing or together}
    written, drawn, changed = list[Path](), dict[str, Annotations](), list[str]()
    with progress.bar("exporting objects") as bar:
        for n, (name, rows) in enumerate(rows_of(folder, wanted)):
            found = _found(folder, images[name], rows, progress)
            changed += [name] if found.source == "masks" else []
            annotations = annotations_of(folder, images[name], found)
            for form in pending[name]:
                SHAPE_WRITERS[OUTLINES[form]](targets[name][form], annotations)
                written.append(targets[name][form])
            if together:
                drawn[name] = annotations
            bar.update((n + 1) / len(wanted), name)
    if together:
        write_coco(coco, [drawn[name] for name in images])
        written.append(coco)
    if changed:
        progress.warn(f"masks/ was changed since it was predicted, and its connected pieces count: {some(changed)}; "
                      f"biomask convert {out} --masks labels takes the ids of labels/ there too")
    return tuple(written)


def _found(folder: PredictedFolder, image: PredictedImage, rows: Sequence[Row] | None, progress: Progress) -> Found:
    """As `find_objects`; where it stays open what counts, that is said and labels/ are taken: predictions are not stopped by it."""
    try:
        return find_objects(folder, image, rows)
    except LabelsError as error:
        progress.warn(f"{error.what}: labels/ are exported")
        return find_objects(folder, image, rows, "labels")


def _targets(out: Path, name: str, formats: Sequence[str]) -> dict[str, Path]:
    return {f: out / FOLDERS[f] / f"{name}{SHAPE_SUFFIXES[OUTLINES[f]]}" for f in formats if f in FOLDERS}


def _is_newer(target: Path, sources: Sequence[Path]) -> bool:
    return target.is_file() and all(target.stat().st_mtime_ns >= s.stat().st_mtime_ns for s in sources)


def _names_in(coco: Path) -> list[str]:
    """File names of the images in a COCO file of ours; none of one that cannot be read."""
    try:
        return [str(i["file_name"]) for i in json.loads(coco.read_text(encoding="utf-8"))["images"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
