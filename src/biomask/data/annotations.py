"""Annotation files among the labels of a folder: which there are, and what they say about one image."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from biomask.errors import BiomaskError, OutOfMemoryError, ReadError
from biomask.io import list_images
from biomask.io.annotations import SHAPE_READERS, sniff
from biomask.io.coco import CocoFile, CocoImage, read_coco
from biomask.io.geojson import read_geojson
from biomask.io.recent import state_of
from biomask.io.rois import read_overlay
from biomask.shapes import Annotations, Category, placed, without_numbers

#: Endings of files that may hold annotations.
ENDINGS = (".roi", ".zip", ".json", ".geojson", ".json.gz", ".geojson.gz", ".csv")


#: Endings that say what a file is, so that a damaged one is named rather than left out.
SURE = {".roi": "imagej", ".geojson": "geojson", ".geojson.gz": "geojson"}


def is_annotation(path: Path) -> bool:
    """Whether a file holds the annotations of one image, or would if it were whole."""
    return path.name.lower().endswith(ENDINGS) and _kind(path) not in (None, "coco")


def _kind(path: Path) -> str | None:
    """The format of a file, by what is in it, else by its ending where that leaves no doubt."""
    return sniff(path) or next((kind for ending, kind in SURE.items() if path.name.lower().endswith(ending)), None)


def list_annotations(folder: Path) -> list[Path]:
    """Files of one image's annotations below a folder, in name order."""
    return [p for p in _candidates(folder) if is_annotation(p)]


def coco_files(folder: Path) -> list[Path]:
    """COCO files in a folder itself, in name order."""
    found = sorted(p for p in folder.glob("*") if p.is_file() and p.suffix.lower() == ".json" and not p.name.startswith("."))
    return [p for p in found if sniff(p) == "coco"]


def _candidates(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    return sorted(p for p in folder.rglob("*") if p.name.lower().endswith(ENDINGS) and p.is_file()
                  and not any(part.startswith(".") for part in p.relative_to(folder).parts))


def read_annotations(path: Path, axes: str | None = None) -> Annotations:
    """Annotations of one image: a file of any program that is read, or a TIFF with ImageJ's overlay or selection.

    axes: the stored axes of the image, such as "TYX", which say what the number of an image in a plain stack means; None =
    a plane. Of QuPath's objects, annotations that hold detections or cells are regions of interest and left out by name.
    """
    found = _read(path)
    return found if axes is None else replace(found, shapes=tuple(placed(found.shapes, axes)))


def _read(path: Path) -> Annotations:
    kind = _kind(path)
    if kind is None:
        return read_overlay(path)
    if kind == "geojson":
        return read_geojson(path, regions=False)
    found = SHAPE_READERS[kind](path)
    if len(found) != 1:
        raise ReadError(f"is about {len(found)} images, not one", where=path, fix="give it with --masks FILE")
    names = [s.name for s in found[0].shapes if s.name]
    if kind == "imagej" and len(names) > 1 and len(set(names)) == len(names):
        # People number their ROIs: a name of its own for each is no class.
        return replace(found[0], shapes=tuple(without_numbers(found[0].shapes)))
    return found[0]


def read_coco_entry(path: Path, entry: str) -> Annotations:
    """What a COCO file says about the image called `entry`."""
    return coco_image(path, entry).annotations()


def coco_image(path: Path, entry: str) -> CocoImage:
    """The same before anything is drawn."""
    images = _coco(path)
    if entry not in images:
        raise ReadError(f"does not list the image {entry}", where=path)
    content, number = images[entry]
    return content.images[number]


def coco_images(path: Path) -> list[str]:
    """File names of the images that a COCO file lists."""
    return list(_coco(path))


def coco_categories(path: Path) -> tuple[Category, ...]:
    """The classes that a COCO file describes."""
    return next((content.described for content, _ in _coco(path).values()), ())


def coco_left_out(path: Path) -> tuple[str, ...]:
    """Annotations of a COCO file that are of no image that it lists."""
    return next((content.left_out for content, _ in _coco(path).values()), ())


def _coco(path: Path) -> dict[str, tuple[CocoFile, int]]:
    state: tuple[int, ...] = ()
    with suppress(OSError):  # one that is not there is told by its reader
        state = state_of(path)
    try:
        return _read_once(path, state)
    except OutOfMemoryError:  # with those that are kept
        _read_once.cache_clear()
    return _read_once(path, state)


@lru_cache(maxsize=32)
def _read_once(path: Path, state: tuple[int, ...]) -> dict[str, tuple[CocoFile, int]]:
    """state: of the file, so that a changed one is read again. Images of several files come in turn, so some are kept."""
    content = read_coco(path)
    return {image.file_name: (content, i) for i, image in enumerate(content.images)}


def with_overlays(folder: Path) -> list[Path]:
    """TIFF files below a folder in which ImageJ saved an overlay; a selection alone was left behind more often than meant."""
    return [p for p in list_images(folder) if p.suffix.lower() in (".tif", ".tiff") and _has_overlay(p)]


def _has_overlay(path: Path) -> bool:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return file.is_imagej and "Overlays" in (file.imagej_metadata or {})
    except (BiomaskError, OSError, ValueError, tifffile.TiffFileError):
        return False
