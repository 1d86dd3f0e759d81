"""COCO's JSON: many images, their objects and categories in one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError, ReadError, WriteError
from biomask.instances.polygons import crop_mask, parts_of
from biomask.instances.rle import decode_counts, decode_crop, encode_counts, pack, unpack
from biomask.instances.trace import outlines
from biomask.io.geojson import class_colours
from biomask.io.jsons import joined, pairs_of, read_json, write_parts
from biomask.io.labelme import require_one_plane
from biomask.shapes import Annotations, Ring, Shape, as_colour, as_rings, object_ids

#: Pixels of the largest image whose masks are made.
LARGEST = 2**29


@dataclass(frozen=True)
class CocoObject:
    """One annotation, not decoded yet."""

    id: int
    category: str
    """Name of its category; empty where the file has none."""
    segmentation: Any = field(repr=False)
    """As in the file: polygons, or run lengths."""
    size: tuple[int, int] | None
    """(Y, X) of its image."""
    crowd: bool = False
    """Whether it is a region of many objects that nobody told apart."""
    colour: tuple[int, int, int] | None = None

    def shape(self) -> Shape:
        """As polygons. Raises LabelsError with the reason where it has no area."""
        said = self.segmentation
        rings = _union(said) if isinstance(said, list) else _traced(*decode_crop(*self._runs()))
        if not rings:
            raise LabelsError("its mask is empty")
        return Shape(rings, self.category, self.colour, title=str(self.id), crowd=self.crowd)

    def mask(self) -> npt.NDArray[np.bool_]:
        """bool (Y, X). Polygons are filled by the rule of `Shape`: see `read_coco`. Raises LabelsError."""
        if not isinstance(self.segmentation, list):
            return decode_counts(*self._runs())
        if self.size is None:
            raise LabelsError("the file does not say how large its image is")
        pixels, (top, left) = crop_mask([self.shape()], self.size)
        out = np.zeros(self.size, bool)
        out[top:top + pixels.shape[0], left:left + pixels.shape[1]] = pixels
        return out

    def _runs(self) -> tuple[Any, tuple[int, int]]:
        """Run lengths and the size (Y, X) that they are for."""
        said = self.segmentation
        if not isinstance(said, dict) or not {"counts", "size"} <= set(said):
            raise LabelsError("its segmentation is neither polygons nor runs" if said else "it has no outline, a box at most")
        size = said["size"]
        if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and n > 0 for n in size):
            raise LabelsError(f"its run lengths are for an image of size {size!r}")
        if size[0] * size[1] > LARGEST or (self.size is not None and tuple(size) != self.size):
            raise LabelsError(f"its run lengths are for {size[0]} x {size[1]} pixels, its image has another size")
        counts = said["counts"]
        return unpack(counts) if isinstance(counts, str) else counts, (size[0], size[1])


def _union(polygons: list[Any]) -> tuple[Ring, ...]:
    """Polygons of one object, which COCO adds up; where some lie over each other, the outline of their pixels."""
    if polygons and not isinstance(polygons[0], list):
        raise LabelsError("its segmentation is not a list of polygons")
    for numbers in polygons:
        if not isinstance(numbers, list) or len(numbers) % 2:
            raise LabelsError("a polygon of it is no list of x, y, x, y, …")
    if not polygons:
        raise LabelsError("it has no outline, a box at most")
    rings = as_rings([list(zip(p[0::2], p[1::2], strict=True)) for p in polygons])
    boxes = [(*r.min(axis=0), *r.max(axis=0)) for r in rings]
    if not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for i, a in enumerate(boxes) for b in boxes[:i]):
        return rings
    both, origin = crop_mask([Shape((r,)) for r in rings])
    if (both == crop_mask([Shape(rings)])[0]).all():
        return rings
    return _traced(both, origin)


def _traced(pixels: npt.NDArray[np.bool_], origin: tuple[int, int]) -> tuple[Ring, ...]:
    """Outlines of pixels that start at this row and column."""
    return tuple(np.add(r, origin[::-1]) for s in outlines(pixels) for r in s.rings)


@dataclass(frozen=True)
class CocoImage:
    """One image of the file."""

    file_name: str
    """As the file says it, with folders."""
    size: tuple[int, int] | None
    """(Y, X) in pixels, where the file says it."""
    objects: tuple[CocoObject, ...]

    def annotations(self) -> Annotations:
        """All objects as shapes; those without an area are left out by name."""
        shapes, left_out = [], []
        for found in self.objects:
            try:
                shapes.append(found.shape())
            except LabelsError as error:
                left_out.append(f"annotation {found.id} ({error.what})")
        return Annotations(tuple(shapes), self.size, tuple(left_out), PurePosixPath(self.file_name.replace("\\", "/")).name)


@dataclass(frozen=True)
class CocoFile:
    """A whole file."""

    path: Path
    images: tuple[CocoImage, ...]
    categories: tuple[str, ...]
    """Names, in order of their ids."""
    left_out: tuple[str, ...] = ()
    """Annotations of images that the file does not list."""

    def __iter__(self) -> Iterator[CocoImage]:
        return iter(self.images)


def read_coco(path: Path) -> CocoFile:
    """Images with their objects, which are decoded when asked for. Key points are not read.

    Polygons are filled by pixel centres; pycocotools fills them on a grid five times as fine and rounds, which differs by
    at most a pixel along the outline. Several polygons of one object add up. Raises ReadError naming the annotation.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ReadError("is JSON, but not COCO's: it has no list of images", where=path)
    names, colours = _categories(content, path)
    objects: dict[Any, list[CocoObject]] = {}
    sizes: dict[Any, tuple[str, tuple[int, int] | None]] = {}
    for number, entry in enumerate(content["images"]):
        key, name = (entry.get("id"), entry.get("file_name")) if isinstance(entry, dict) else (None, None)
        if type(key) not in (int, str) or not isinstance(name, str) or key in sizes:
            raise ReadError(f"image {number} has no id of its own, or no file_name", where=path)
        size = (entry.get("height"), entry.get("width"))
        sizes[key] = name, (size if all(type(n) is int and n > 0 for n in size) else None)
        objects[key] = []
    left_out = []
    annotations = content.get("annotations", [])
    for number, entry in enumerate(annotations if isinstance(annotations, list) else ()):
        found, key = _object(entry, number, names, colours, path)
        if key in sizes:
            objects[key].append(replace(found, size=sizes[key][1]))
        else:
            left_out.append(f"annotation {found.id} (image {key} is not in the file)")
    return CocoFile(path, tuple(CocoImage(name, size, tuple(objects[k])) for k, (name, size) in sizes.items()),
                    tuple(names.values()), tuple(left_out))


def _categories(content: dict[str, Any], path: Path) -> tuple[dict[int, str], dict[int, tuple[int, int, int] | None]]:
    """Name and colour of each category, in order of the ids."""
    names: dict[int, str] = {}
    colours = {}
    for number, entry in enumerate(content.get("categories") or ()):
        key, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if type(key) is not int or not isinstance(name, str) or key in names:
            raise ReadError(f"category {number} has no id of its own, or no name", where=path)
        names[key], colours[key] = name, as_colour(entry.get("color"))
    return {k: names[k] for k in sorted(names)}, colours


def _object(entry: Any, number: int, names: dict[int, str], colours: dict[int, tuple[int, int, int] | None],
            path: Path) -> tuple[CocoObject, Any]:
    """One annotation, and the id of its image."""
    if not isinstance(entry, dict):
        raise ReadError(f"annotation {number} is no set of keys", where=path)
    own = entry.get("id")
    own = own if type(own) is int else number
    if "segments_info" in entry:
        raise ReadError("is a panoptic file, whose masks are PNG files", where=path, fix="use the file of instances")
    if type(entry.get("image_id")) not in (int, str):
        raise ReadError(f"annotation {own} has no image_id", where=path)
    category = entry.get("category_id")
    if names and not (isinstance(category, int) and category in names):
        raise ReadError(f"annotation {own} has category_id {category!r}, which is none of {_some(names)}", where=path)
    name, colour = (names[category], colours[category]) if isinstance(category, int) and names else ("", None)
    return CocoObject(own, name, entry.get("segmentation"), None, bool(entry.get("iscrowd")), colour), entry["image_id"]


def _some(values: Any) -> str:
    shown = list(map(str, values))
    return ", ".join(shown[:10]) + (" …" if len(shown) > 10 else "")


def write_coco(path: Path, images: Sequence[Annotations], *, rle: Literal["holes", "all"] = "holes") -> None:
    """Write several images into one file: an annotation an object, ids from 1, categories by name.

    rle: which objects become packed run lengths instead of polygons: those with holes or of many not told apart, or all;
    run lengths are exact in pixels for every program, polygons are filled by each program's own rule. The area is the number
    of pixels. Shapes without a class get the category "object". Colours are kept beside the categories.
    Raises WriteError where an image's name or size is missing, or shapes lie on several planes.
    """
    for image in images:
        if image.size is None or image.image is None:
            raise WriteError("COCO needs each image's name and size", where=path, fix="give the folder of images too")
        require_one_plane(image, path, "COCO")
    named = [[replace(s, name=s.name or UNNAMED) for s in a.shapes] for a in images]
    every = [s for shapes in named for s in shapes]
    categories = {name: i for i, name in enumerate(sorted({s.name for s in every}), start=1)}
    colours = class_colours(every)

    def annotations_of() -> Iterator[dict[str, Any]]:
        count = 0
        for image_id, (image, shapes) in enumerate(zip(images, named, strict=True), start=1):
            objects: dict[int, list[Shape]] = {}
            for number, shape in zip(object_ids(shapes), shapes, strict=True):
                objects.setdefault(number, []).append(shape)
            for parts in objects.values():
                count += 1
                yield {"id": count, "image_id": image_id, "category_id": categories[parts[0].name],
                       **_segmentation(parts, image.size or (0, 0), rle == "all"),
                       **({"measurements": dict(parts[0].measurements)} if parts[0].measurements else {})}

    listed = [{"id": i, "file_name": a.image, "height": a.size[0], "width": a.size[1]}
              for i, a in enumerate(images, start=1) if a.size]
    kinds = [{"id": i, "name": name, "supercategory": "", "color": list(colours[name])} for name, i in categories.items()]
    write_parts(path, chain(joined(listed, start='{"info": {"description": "biomask"}, "licenses": [], "images": ', end=",\n"),
                            joined(kinds, start='"categories": ', end=",\n"),
                            joined(annotations_of(), start='"annotations": ', end="}\n")))


#: Category of shapes without a class.
UNNAMED = "object"


def _segmentation(parts: Sequence[Shape], size: tuple[int, int], runs: bool) -> dict[str, Any]:
    """What one object's annotation says of its pixels; parts: its shapes."""
    crowd = any(s.crowd for s in parts)
    pixels, (top, left) = crop_mask(parts, size)
    area = int(np.count_nonzero(pixels))
    if runs or crowd or any(len(p) > 1 for s in parts for p in parts_of(s)):
        rows, columns = (np.flatnonzero(pixels.any(axis=a)) for a in (1, 0))
        box = [left + columns[0], top + rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1] if area else [0, 0, 0, 0]
        box = [int(v) for v in box]
        counts = encode_counts(pixels, size=size, origin=(top, left))
        said: Any = {"size": list(size), "counts": pack(counts)}
    else:
        rings = [r for s in parts for r in s.rings]
        low, high = np.concatenate(rings).min(axis=0), np.concatenate(rings).max(axis=0)
        (x, y), (width, height) = pairs_of(np.array([low, high - low]))
        box = [x, y, width, height]
        said = [[v for pair in pairs_of(r) for v in pair] for r in rings]
    return {"iscrowd": int(crowd), "area": area, "bbox": box, "segmentation": said}
