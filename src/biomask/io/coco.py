"""COCO's JSON: many images, their objects and categories in one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from itertools import count as count_from
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from biomask.errors import LabelsError, ReadError, WriteError
from biomask.instances.polygons import crop_mask, parts_of
from biomask.instances.rle import encode_counts, pack
from biomask.io.coco_objects import CocoObject
from biomask.io.geojson import class_colours
from biomask.io.jsons import joined, pairs_of, read_json, write_parts
from biomask.io.labelme import require_one_plane
from biomask.shapes import Annotations, Category, Shape, as_colour, object_ids


@dataclass(frozen=True)
class CocoImage:
    """One image of the file."""

    file_name: str
    """As the file says it, with folders."""
    size: tuple[int, int] | None
    """(Y, X) in pixels, where the file says it."""
    objects: tuple[CocoObject, ...]
    described: tuple[Category, ...] = ()
    """The file's categories."""
    id: int | str | None = None
    """Its number in the file."""

    def annotations(self) -> Annotations:
        """All objects as shapes; those without an area are left out by name."""
        shapes, boxed, left_out = [], [], []
        for found in self.objects:
            try:
                shapes.append(found.shape())
            except LabelsError as error:
                reason = error.what
                if not found.segmentation and found.box is not None:
                    try:
                        boxed.append(found.box_shape())
                    except LabelsError as wrong:
                        reason = f"it has no outline, and {wrong.what}"
                left_out.append(f"annotation {found.id} ({reason})")
        return Annotations(tuple(shapes), self.size, tuple(left_out), PurePosixPath(self.file_name.replace("\\", "/")).name,
                           tuple(boxed), self.described)


@dataclass(frozen=True)
class CocoFile:
    """A whole file."""

    path: Path
    images: tuple[CocoImage, ...]
    described: tuple[Category, ...]
    """Categories, in order of their ids."""
    left_out: tuple[str, ...] = ()
    """Annotations of images that the file does not list."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Their names, in order of their ids."""
        return tuple(c.name for c in self.described)

    def __iter__(self) -> Iterator[CocoImage]:
        return iter(self.images)


def read_coco(path: Path) -> CocoFile:
    """Images with their objects, which are decoded when asked for.

    Polygons are filled by pixel centres; pycocotools fills them on a grid five times as fine and rounds, which differs by
    at most a pixel along the outline. Several polygons of one object add up. Keypoints stay where the file has them, as
    torchvision takes them; others read whole numbers as pixels, half a pixel further on. A category that names no keypoints but
    has some gets numbers for names. Raises ReadError naming the annotation.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ReadError("is JSON, but not COCO's: it has no list of images", where=path)
    for part in ("annotations", "categories"):
        if not isinstance(content.get(part) or [], list):
            raise ReadError(f"its {part} are no list", where=path)
    described, colours = _categories(content, path)
    objects: dict[Any, list[CocoObject]] = {}
    sizes: dict[Any, tuple[str, tuple[int, int] | None]] = {}
    called: dict[str, Any] = {}
    for number, entry in enumerate(content["images"]):
        key, name = (entry.get("id"), entry.get("file_name")) if isinstance(entry, dict) else (None, None)
        if type(key) not in (int, str) or not isinstance(name, str) or key in sizes:
            raise ReadError(f"image {number} has no id of its own, or no file_name", where=path)
        if name in called:
            raise ReadError(f"images {called[name]} and {key} are both called {name}, so it is not known whose labels are whose",
                            where=path, fix="give each its own file_name, or put what belongs to one file under one id")
        called[name] = key
        size = (entry.get("height"), entry.get("width"))
        sizes[key] = name, (size if all(type(n) is int and n > 0 for n in size) else None)
        objects[key] = []
    left_out = []
    for number, entry in enumerate(content.get("annotations") or ()):
        found, key = _object(entry, number, described, colours, path)
        if key in sizes:
            objects[key].append(replace(found, size=sizes[key][1]))
        else:
            left_out.append(f"annotation {found.id} (image {key} is not in the file)")
    every = tuple(described.values())
    return CocoFile(path, tuple(CocoImage(name, size, tuple(objects[k]), every, k) for k, (name, size) in sizes.items()),
                    every, tuple(left_out))


def _categories(content: dict[str, Any], path: Path) -> tuple[dict[int, Category], dict[int, tuple[int, int, int] | None]]:
    """Each category and its colour, in order of the ids."""
    found: dict[int, Category] = {}
    colours = {}
    for number, entry in enumerate(content.get("categories") or ()):
        key, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if type(key) is not int or not isinstance(name, str) or key in found:
            raise ReadError(f"category {number} has no id of its own, or no name", where=path)
        group = entry.get("supercategory")
        points, lines = _points_of(entry, f"category {number}", path)
        found[key], colours[key] = Category(name, key, group if isinstance(group, str) else "", points, lines), as_colour(
            entry.get("color"))
    unnamed = {k for k, c in found.items() if not c.keypoints}
    for entry in content.get("annotations") or ():
        key = entry.get("category_id") if isinstance(entry, dict) else None
        if isinstance(key, int) and key in unnamed and isinstance(entry.get("keypoints"), list) and entry["keypoints"]:
            found[key] = replace(found[key], keypoints=tuple(map(str, range(1, len(entry["keypoints"]) // 3 + 1))))
            unnamed.discard(key)
    return {k: found[k] for k in sorted(found)}, colours


def _points_of(entry: dict[str, Any], what: str, path: Path) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Names of a category's keypoints, and its skeleton, from 0."""
    names, lines = entry.get("keypoints") or [], entry.get("skeleton") or []
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or len(set(names)) < len(names):
        raise ReadError(f"{what} has keypoints that are no list of different names", where=path)
    if not isinstance(lines, list) or not all(isinstance(line, list) and len(line) == 2 and all(
            type(n) is int and 1 <= n <= len(names) for n in line) for line in lines):
        raise ReadError(f"the skeleton of {what} is no list of pairs of its {len(names)} keypoints, which count from 1", where=path)
    return tuple(names), tuple((a - 1, b - 1) for a, b in lines)


def _object(entry: Any, number: int, described: dict[int, Category], colours: dict[int, tuple[int, int, int] | None],
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
    if described and not (isinstance(category, int) and category in described):
        raise ReadError(f"annotation {own} has category_id {category!r}, which is none of {_some(described)}", where=path)
    known, colour = (described[category], colours[category]) if isinstance(category, int) and described else (Category(""), None)
    return CocoObject(own, known.name, entry.get("segmentation"), None, bool(entry.get("iscrowd")), colour, entry.get("bbox"),
                      entry.get("keypoints") if known.keypoints else None, len(known.keypoints),
                      entry.get("area")), entry["image_id"]


def _some(values: Any) -> str:
    shown = list(map(str, values))
    return ", ".join(shown[:10]) + (" …" if len(shown) > 10 else "")


def write_coco(path: Path, images: Sequence[Annotations], *, rle: Literal["holes", "all"] = "holes") -> None:
    """Write several images into one file: an annotation an object, ids from 1. Empty images and classes without objects stay.

    rle: which objects become packed run lengths instead of polygons: those with holes or of many not told apart, or all;
    run lengths are exact in pixels for every program, polygons are filled by each program's own rule. The area is the number
    of pixels. Shapes without a class get the category "object". Categories keep the ids that they had, unless these contradict
    each other; others are numbered by name. Colours are kept beside the categories. Objects of a box alone are written as such.
    Raises WriteError where an image's name or size is missing, or shapes lie on several planes.
    """
    for image in images:
        if image.size is None or image.image is None:
            raise WriteError("COCO needs each image's name and size", where=path, fix="give the folder of images too")
        require_one_plane(image, path, "COCO")
    named = [[replace(s, name=s.name or UNNAMED) for s in (*a.shapes, *a.boxed)] for a in images]
    every = [s for shapes in named for s in shapes]
    categories = _numbered(images, sorted({s.name for s in every}))
    colours = class_colours([*every, *(Shape((), name) for name in categories)])

    def annotations_of() -> Iterator[dict[str, Any]]:
        count = 0
        for image_id, (image, shapes) in enumerate(zip(images, named, strict=True), start=1):
            objects: dict[int, list[Shape]] = {}
            for number, shape in zip(object_ids(shapes), shapes, strict=True):
                objects.setdefault(number, []).append(shape)
            outlined = max(object_ids(shapes[:len(image.shapes)]), default=0)
            for number, parts in objects.items():
                count += 1
                yield {"id": count, "image_id": image_id, "category_id": categories[parts[0].name].id,
                       **(_segmentation(parts, image.size or (0, 0), rle == "all") if number <= outlined else _box(parts[0])),
                       **_written_keypoints(parts),
                       **({"measurements": dict(parts[0].measurements)} if parts[0].measurements else {})}

    listed = [{"id": i, "file_name": a.image, "height": a.size[0], "width": a.size[1]}
              for i, a in enumerate(images, start=1) if a.size]
    kinds = [{"id": c.id, "name": c.name, "supercategory": c.group, "color": list(colours[c.name]),
              **({"keypoints": list(c.keypoints), "skeleton": [[a + 1, b + 1] for a, b in c.skeleton]} if c.keypoints else {})}
             for c in categories.values()]
    write_parts(path, chain(joined(listed, start='{"info": {"description": "biomask"}, "licenses": [], "images": ', end=",\n"),
                            joined(kinds, start='"categories": ', end=",\n"),
                            joined(annotations_of(), start='"annotations": ', end="}\n")))


#: Category of shapes without a class.
UNNAMED = "object"


def _numbered(images: Sequence[Annotations], names: Sequence[str]) -> dict[str, Category]:
    """Categories by name, in order of their ids: those that files described, and those of shapes alone."""
    known: dict[str, Category] = {}
    lists = {id(a.categories): a.categories for a in images}.values()  # images of a file share one
    for category in (c for described in lists for c in described):
        same = known.setdefault(category.name, category)
        if same.keypoints != category.keypoints:
            raise WriteError(f"the class {category.name!r} has {len(same.keypoints)} keypoints in one file and "
                             f"{len(category.keypoints)} in another, or others", fix="write them into files of their own")
    every = [known.get(n) or Category(n) for n in sorted({*known, *names})]
    said = {(c.name, c.id) for described in lists for c in described}
    taken = {number for _, number in said}
    if len(said) > len(known) or len(said) > len(taken) or None in taken:  # two ids of a name, two names of an id, or no id
        return {c.name: replace(c, id=i) for i, c in enumerate(every, start=1)}
    free = (i for i in count_from(1) if i not in taken)
    found = [c if c.id is not None else replace(c, id=next(free)) for c in every]
    return {c.name: c for c in sorted(found, key=lambda c: c.id or 0)}


def _box(shape: Shape) -> dict[str, Any]:
    """What the annotation of an object says whose outline is not known."""
    x0, y0, x1, y1 = shape.bounds
    (x, y), (width, height) = pairs_of(np.array([(x0, y0), (x1 - x0, y1 - y0)]))
    return {"iscrowd": int(shape.crowd), "area": width * height, "bbox": [x, y, width, height], "segmentation": []}


def _written_keypoints(parts: Sequence[Shape]) -> dict[str, Any]:
    """Keypoints of one object; of several parts those of the first that has some."""
    points = next((s.keypoints for s in parts if s.keypoints is not None), None)
    if points is None:
        return {}
    places = [[*pair, int(seen)] for pair, seen in zip(pairs_of(points[:, :2]), points[:, 2], strict=True)]
    return {"keypoints": [v for place in places for v in place], "num_keypoints": int((points[:, 2] > 0).sum())}


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
