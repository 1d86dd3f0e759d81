"""Which program's annotations a file holds, and its reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from biomask.errors import MissingPathError, ReadError
from biomask.io.coco import read_coco, write_coco
from biomask.io.geojson import looks_like_geojson, read_geojson, write_geojson
from biomask.io.jsons import glance, keys_in
from biomask.io.labelme import read_labelme, write_labelme
from biomask.io.napari_shapes import looks_like_shapes, read_napari_shapes, write_napari_csv
from biomask.io.recent import state_of
from biomask.io.roi_writer import write_roi_zip
from biomask.io.rois import has_rois, read_rois
from biomask.shapes import Annotations


def _one(read: Callable[[Path], Annotations]) -> Callable[[Path], tuple[Annotations, ...]]:
    return lambda path: (read(path),)


def _of_coco(path: Path) -> tuple[Annotations, ...]:
    file = read_coco(path)
    found = [image.annotations() for image in file]
    if found and file.left_out:  # of no image that is there: said once
        found[0] = replace(found[0], left_out=(*found[0].left_out, *file.left_out))
    return tuple(found)


#: Readers by the name of the format: one `Annotations` an image. Overlays in TIFF files have `rois.read_overlay`.
SHAPE_READERS: dict[str, Callable[[Path], tuple[Annotations, ...]]] = {
    "imagej": _one(read_rois),
    "geojson": _one(read_geojson),
    "labelme": _one(read_labelme),
    "coco": _of_coco,
    "napari": _one(read_napari_shapes),
}

#: Writers of one image's annotations by the name of the format; `coco.write_coco` writes many images into one file.
SHAPE_WRITERS: dict[str, Callable[[Path, Annotations], None]] = {
    "imagej": write_roi_zip,
    "geojson": write_geojson,
    "labelme": write_labelme,
    "coco": lambda path, annotations: write_coco(path, [annotations]),
    "napari": write_napari_csv,
}

#: What files of a format are called.
SHAPE_SUFFIXES: dict[str, str] = {"imagej": ".zip", "geojson": ".geojson", "labelme": ".json", "coco": ".json", "napari": ".csv"}


def read_shapes(path: Path) -> tuple[Annotations, ...]:
    """What a file of any of these formats holds. Raises ReadError for other files."""
    kind = sniff(path)
    if kind is None:
        if not path.exists():
            raise MissingPathError("no such file", where=path)
        raise ReadError("holds no annotations that are known", where=path,
                        fix="ImageJ .roi or RoiSet.zip, QuPath .geojson, LabelMe or COCO .json, napari Shapes .csv")
    return SHAPE_READERS[kind](path)


def sniff(path: Path) -> str | None:
    """The format of a file by its name and its first bytes, a key of SHAPE_READERS; None for any other file."""
    try:
        return _sniff_once(path, state_of(path))
    except (OSError, ValueError):  # not there, or a name that no disk can hold
        return None


@lru_cache(maxsize=2**15)
def _sniff_once(path: Path, state: tuple[int, ...]) -> str | None:
    """state: of the file, so that a changed one is looked at again."""
    name = path.name.lower()
    if name.endswith((".roi", ".zip")):
        return "imagej" if has_rois(path) else None
    if name.endswith(".csv"):
        first = glance(path)[0].partition("\n")[0]
        return "napari" if looks_like_shapes(first.replace('"', "").split(",")) else None
    if name.endswith((".json", ".geojson", ".json.gz", ".geojson.gz")):
        return _sniff_json(*glance(path))
    return None


def _sniff_json(head: str, tail: str) -> str | None:
    found = keys_in(head)
    outer = {key for depth, key in found if depth == 1}
    inner = {key for depth, key in found if depth > 1}
    if looks_like_geojson(head, outer):
        return "geojson"
    if head.lstrip()[:1] != "{":
        return None
    if "shapes" in outer and ({"shape_type", "points"} & inner or {"imagePath", "imageData", "imageHeight"} & outer):
        return "labelme"
    if "images" in outer and ("file_name" in inner or "annotations" in outer):
        return "coco"
    # Long lists before the telling keys: those of the end tell, then.
    if '"imageData"' in head and '"shape_type"' in tail:
        return "labelme"
    if not {"images", "annotations", "categories", "info", "licenses"} & outer:
        return None
    return "coco" if {"image_id", "category_id"} & inner or '"supercategory"' in tail or '"image_id"' in tail else None
