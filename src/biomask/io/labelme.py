"""LabelMe's JSON: one file an image."""

from __future__ import annotations

import base64
import binascii
import io
import json
import warnings
from collections.abc import Iterator
from math import hypot
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError, ReadError, WriteError
from biomask.instances.curves import ellipse
from biomask.instances.polygons import crop_mask, parts_of
from biomask.instances.trace import outlines
from biomask.io.files import write_text
from biomask.io.jsons import pairs_of, read_json
from biomask.shapes import Annotations, Ring, Shape, as_ring

#: The version whose form is written.
VERSION = "5.7.0"

#: Pixels of the largest mask that is unpacked.
LARGEST_MASK = 2**28

#: Points that a type of shape has; polygons have 3 and more.
POINTS = {"rectangle": 2, "circle": 2, "mask": 2, "oriented_rectangle": 4}
FLAT = {"point": "a point", "points": "points", "line": "a line", "linestrip": "a line"}


def read_labelme(path: Path) -> Annotations:
    """Polygons, rectangles, circles, oriented rectangles and masks; the label is the class, the group id the group.

    Shapes of one label and group are one object, as in LabelMe's own converters. LabelMe itself counts the pixels under an
    outline as inside, biomask by their centres: an object differs by at most its outline. Raises ReadError.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise ReadError("is JSON, but not LabelMe's: it has no list of shapes", where=path)
    shapes: list[Shape] = []
    left_out: list[str] = []
    for number, entry in enumerate(content["shapes"]):
        label = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(label, str):
            raise ReadError(f"shape {number} has no label", where=path, fix="open and save it in LabelMe")
        try:
            group = entry.get("group_id")
            shapes.append(Shape(_rings(entry), label, None, group=group if type(group) is int else None))
        except LabelsError as error:
            left_out.append(f"shape {number} {label!r} ({error.what})")
    height, width, image = (content.get(k) for k in ("imageHeight", "imageWidth", "imagePath"))
    size = (height, width) if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 else None
    return Annotations(tuple(shapes), size, tuple(left_out),
                       PureWindowsPath(image).name if isinstance(image, str) and image else None)


def _rings(entry: dict[str, Any]) -> tuple[Ring, ...]:
    """Raises LabelsError with the reason where a shape has no area."""
    kind = entry.get("shape_type") or "polygon"
    if kind in FLAT:
        raise LabelsError(f"{FLAT[kind]}, without an area")
    points = entry.get("points")
    if kind in POINTS and (not isinstance(points, list) or len(points) != POINTS[kind]):
        raise LabelsError(f"a {kind} has {POINTS[kind]} points")
    if kind in ("polygon", "oriented_rectangle"):
        return (as_ring(points),)
    if kind not in POINTS:
        raise LabelsError(f"its type {kind!r} is not known")
    try:
        (x0, y0), (x1, y1) = np.asarray(points, np.float64).tolist()
    except (ValueError, TypeError):
        raise LabelsError("its coordinates are not pairs of numbers") from None
    if kind == "rectangle":
        return (as_ring([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]),)
    if not all(abs(v) <= 1e9 for v in (x0, y0, x1, y1)):
        raise LabelsError("it has coordinates that are not finite or beyond any image")
    if kind == "circle":
        radius = hypot(x1 - x0, y1 - y0)
        return (as_ring(ellipse((x0, y0), (radius, 0.0), (0.0, radius))),)
    found = outlines(_mask(entry.get("mask")))
    if not found:
        raise LabelsError("an empty mask")
    # The first pixel of the mask lies on the first point, as LabelMe rounds it.
    return tuple(np.add(ring, (round(x0), round(y0))) for ring in found[0].rings)


def _mask(text: Any) -> npt.NDArray[np.bool_]:
    """The pixels of a PNG in base64. Raises LabelsError."""
    from PIL import Image, UnidentifiedImageError

    try:
        data = base64.b64decode(text, validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
                if picture.width * picture.height > LARGEST_MASK:
                    raise LabelsError(f"its mask claims {picture.width} x {picture.height} pixels")
                pixels = np.asarray(picture)
    except (TypeError, binascii.Error, UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise LabelsError("its mask is damaged or no PNG") from None
    if pixels.ndim != 2:
        raise LabelsError(f"its mask has {pixels.ndim} axes")
    return np.asarray(pixels != 0)


def write_labelme(path: Path, annotations: Annotations) -> None:
    """Write one image's JSON: outlines as polygons, those with holes as masks.

    Parts of one object get a common group id. A mask is exact for outlines along pixel edges, otherwise by pixel centres.
    Colours are not kept: LabelMe picks its own. Raises WriteError without the image's name and size, or for several planes.
    """
    size, image = annotations.size, annotations.image
    if size is None or image is None:
        raise WriteError("LabelMe needs the image's name and size", where=path, fix="give the folder of images too")
    require_one_plane(annotations, path, "LabelMe")
    taken = max((s.group for s in annotations.shapes if s.group is not None), default=0)
    shapes: list[dict[str, Any]] = []
    for shape in annotations.shapes:
        group = shape.group
        if group is None and len(shape.rings) > 1:
            taken += 1
            group = taken
        shapes += _entries(shape, group)
    content: dict[str, Any] = {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None,
               "imageHeight": size[0], "imageWidth": size[1]}
    write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def require_one_plane(annotations: Annotations, path: Path, program: str) -> None:
    """Raise WriteError where shapes lie on several planes or time points, which would fall onto each other."""
    for values, word in (({s.z for s in annotations.shapes}, "planes"), ({s.time for s in annotations.shapes}, "time points")):
        if len(values) > 1:
            shown = ", ".join(sorted(str(v) for v in values if v is not None)[:5])
            raise WriteError(f"shapes lie on several {word} ({shown} …); a file of {program} has one", where=path,
                             fix="choose one of them, or write GeoJSON or ImageJ ROIs")


def _entries(shape: Shape, group: int | None) -> Iterator[dict[str, Any]]:
    rest: dict[str, Any] = {"group_id": group, "description": shape.title or "", "flags": {}}
    parts = parts_of(shape)
    pixels, (top, left) = crop_mask([shape]) if any(len(part) > 1 for part in parts) else (np.zeros((0, 0), bool), (0, 0))
    if pixels.any():
        corners = [[left, top], [left + pixels.shape[1] - 1, top + pixels.shape[0] - 1]]
        yield {"label": shape.name, "points": corners, **rest, "shape_type": "mask", "mask": _png(pixels)}
        return
    for part in parts:
        yield {"label": shape.name, "points": pairs_of(part[0]), **rest, "shape_type": "polygon", "mask": None}


def _png(pixels: npt.NDArray[np.bool_]) -> str:
    import imagecodecs

    return base64.b64encode(imagecodecs.png_encode(pixels.astype(np.uint8))).decode("ascii")
