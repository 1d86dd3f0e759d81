"""GeoJSON as QuPath exports and imports it: objects in pixels of the full-resolution image."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from biomask.errors import LabelsError, ReadError
from biomask.instances.curves import ellipse
from biomask.instances.polygons import parts_of
from biomask.io.jsons import joined, pairs_of, read_json, write_parts
from biomask.labels import PALETTE
from biomask.shapes import Annotations, Ring, Shape, as_colour, as_ring, as_rings

#: What QuPath calls objects that frame others and are none themselves.
FRAMES = {"root", "tmaCore", "tma_core", "PathRootObject", "TMACoreObject"}

#: Geometries without an area.
FLAT = {"Point": "a point", "MultiPoint": "points", "LineString": "a line", "MultiLineString": "lines"}


#: What QuPath calls objects that it found inside an annotation.
FOUND = {"detection", "cell", "tile"}

#: QuPath 0.2 says what an object is as its id.
CLASSES = {"PathAnnotationObject": "annotation", "PathDetectionObject": "detection", "PathCellObject": "cell",
           "PathTileObject": "tile", "PathRootObject": "root", "TMACoreObject": "tmaCore"}


def read_geojson(path: Path, *, kinds: Collection[str] | None = None, nuclei: bool = False, regions: bool = True) -> Annotations:
    """Objects of a FeatureCollection, a bare list of features or a single feature; `.gz` is unpacked.

    kinds: QuPath's object types that are wanted, e.g. {"annotation"}; None = all. "annotation" is what a file from
    another program has. nuclei: of cells take the nucleus instead of the whole cell. regions: False leaves out annotations
    in which the centre of a detection or cell lies: those are regions of interest, and what was found in them the objects.
    The class is `properties.classification`, a derived class is "Tumor: Positive"; the object's own name is the title.
    Raises ReadError for a file that is not GeoJSON.
    """
    content = read_json(path)
    shapes: list[Shape] = []
    said: list[tuple[str, str]] = []
    left_out: list[str] = []
    cells = 0
    for number, feature in enumerate(_features(content, path)):
        kind, title = "annotation", f"feature {number}"
        try:
            properties = _dict(feature.get("properties"))
            kind = str(properties.get("objectType") or properties.get("object_type")
                       or CLASSES.get(_text(feature.get("id")), "annotation"))
            title = " ".join(dict.fromkeys(n for n in (f"{kind} {number}", _text(properties.get("name"))) if n))
            if kinds is not None and kind not in kinds:
                raise LabelsError(f"not one of the wanted {', '.join(sorted(kinds))}")
            if kind in FRAMES:
                raise LabelsError("a frame around objects")
            shapes.append(_shape(feature, properties, nuclei and kind == "cell", title, left_out))
            said.append((kind, title))
            cells += not nuclei and bool(feature.get("nucleusGeometry"))
        except LabelsError as error:
            left_out.append(f"{title} ({error.what})")
    if cells:
        left_out.append(f"nuclei of {cells} cells (the whole cells are taken)")
    held = {} if regions else _held(shapes, [kind for kind, _ in said])
    left_out += [f"{said[i][1]} (it holds {n} detection{'s' if n > 1 else ''})" for i, n in held.items()]
    return Annotations(tuple(s for i, s in enumerate(shapes) if i not in held), None, tuple(left_out))


def _held(shapes: Sequence[Shape], kinds: Sequence[str]) -> dict[int, int]:
    """Annotations, by number, and how many detections have their centre in each; those with none are left away."""
    from skimage.measure import points_in_poly

    found = [s for s, kind in zip(shapes, kinds, strict=True) if kind in FOUND]
    if not found:
        return {}
    boxes = np.array([s.bounds for s in found])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    places = np.array([(-1 if s.z is None else s.z, -1 if s.time is None else s.time) for s in found])
    counts = {}
    for i, shape in enumerate(shapes):
        if kinds[i] != "annotation":
            continue
        x0, y0, x1, y1 = shape.bounds
        near = ((centres >= (x0, y0)) & (centres <= (x1, y1))).all(axis=1)
        for column, place in enumerate((shape.z, shape.time)):
            near &= (places[:, column] == place) | (places[:, column] < 0) if place is not None else True
        inside = np.zeros(int(near.sum()), np.bool_)
        for ring in shape.rings:
            inside ^= np.asarray(points_in_poly(centres[near], ring), np.bool_)
        if inside.any():
            counts[i] = int(inside.sum())
    return counts


def _features(content: Any, path: Path) -> Iterator[dict[str, Any]]:
    """Features in order of the file, children after their parents. Raises ReadError where there is no list of them."""
    if isinstance(content, dict) and content.get("type") == "FeatureCollection" and isinstance(content.get("features"), list):
        found = content["features"]
    elif isinstance(content, dict) and content.get("type") == "Feature":
        found = [content]
    elif isinstance(content, dict) and content.get("type") in ("Polygon", "MultiPolygon"):
        found = [{"type": "Feature", "geometry": content}]
    elif isinstance(content, list):
        found = content
    else:
        raise ReadError("is JSON, but not GeoJSON", where=path, fix="export objects as GeoJSON from QuPath (File › Export objects)")
    waiting = list(reversed(found))
    while waiting:
        feature = waiting.pop()
        if not isinstance(feature, dict) or not ("geometry" in feature or feature.get("type") == "Feature"):
            raise ReadError("is a list of something else than GeoJSON features", where=path)
        yield feature
        properties = _dict(feature.get("properties"))
        children = properties.get("childObjects", properties.get("children"))
        if isinstance(children, list):
            waiting += reversed(children)


def _shape(feature: dict[str, Any], properties: dict[str, Any], nucleus: bool, title: str, left_out: list[str]) -> Shape:
    """One feature. Raises LabelsError with the reason where it has no area."""
    geometry = feature.get("nucleusGeometry" if nucleus else "geometry")
    if not isinstance(geometry, dict) or not geometry:
        raise LabelsError("it has no nucleus" if nucleus else "it has no geometry")
    rings = _rings(geometry, title, left_out)
    name, colour = _class_of(properties)
    plane = _dict(geometry.get("plane"))
    group = _text(_dict(properties.get("metadata")).get(GROUP))
    return Shape(rings, name, colour, _index(plane.get("z")), _index(plane.get("t")),
                 int(group) if group.lstrip("-").isdecimal() else None, _text(properties.get("name")),
                 measurements=_measurements(properties.get("measurements")))


#: Where the number of an object that has several outlines is kept; QuPath keeps metadata of objects, as text.
GROUP = "biomask group"


def _rings(geometry: dict[str, Any], title: str, left_out: list[str]) -> tuple[Ring, ...]:
    kind = geometry.get("type")
    coordinates: Any = geometry.get("coordinates")
    if kind == "GeometryCollection":
        rings: tuple[Ring, ...] = ()
        for part in geometry.get("geometries") or ():
            if isinstance(part, dict) and part.get("type") in FLAT:
                left_out.append(f"{title} ({FLAT[part['type']]} in it)")
            elif isinstance(part, dict) and part.get("type") != kind:
                rings += _rings(part, title, left_out)
        if not rings:
            raise LabelsError("it has no area")
        return rings
    if kind in FLAT:
        raise LabelsError(f"{FLAT[kind]}, without an area")
    if kind not in ("Polygon", "MultiPolygon"):
        raise LabelsError(f"its geometry {kind!r} is not known")
    try:
        rings = as_rings(list(coordinates) if kind == "Polygon" else [r for polygon in coordinates for r in polygon])
    except TypeError:
        raise LabelsError("its coordinates are not pairs of numbers") from None
    if geometry.get("isEllipse") is True:  # QuPath writes a coarse polygon and means the ellipse in its box
        low, high = rings[0].min(axis=0), rings[0].max(axis=0)
        half = (high - low) / 2
        return (as_ring(ellipse(tuple((low + high) / 2), (float(half[0]), 0.0), (0.0, float(half[1])))),)
    return rings


def _class_of(properties: dict[str, Any]) -> tuple[str, tuple[int, int, int] | None]:
    said = properties.get("classification")
    if isinstance(said, str):
        return said, as_colour(properties.get("color"))
    found = _dict(said)
    names = found.get("names")
    name = ": ".join(map(str, names)) if isinstance(names, list) else _text(found.get("name"))
    colour = next((c for c in map(as_colour, (found.get("color"), found.get("colorRGB"), properties.get("color"))) if c), None)
    return name, colour


def _measurements(said: Any) -> dict[str, float]:
    """By name, from an object or a list of names and values. What is no finite number is left away."""
    listed = said if isinstance(said, list) else []
    pairs: list[tuple[Any, Any]] = list(said.items()) if isinstance(said, dict) else [
        (m.get("name"), m.get("value")) for m in listed if isinstance(m, dict)]
    return {name: value for name, value in pairs if isinstance(name, str) and type(value) in (int, float) and isfinite(value)}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _index(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def write_geojson(path: Path, annotations: Annotations) -> None:
    """Write a FeatureCollection that QuPath opens (drag it onto the image); packed where the name ends in `.gz`.

    Classes without a colour get one of the palette, since QuPath wants one with each class. A shape without a class is an
    annotation without one. Coordinates are written in full; QuPath itself rounds to 1/100 pixel when it exports.
    """
    colours = class_colours(annotations.shapes)
    write_parts(path, joined((_feature(s, colours) for s in annotations.shapes),
                             start='{"type": "FeatureCollection", "features": ', end="}\n"))


def class_colours(shapes: Sequence[Shape]) -> dict[str, tuple[int, int, int]]:
    """The first colour that each class has, or one of the palette."""
    colours: dict[str, tuple[int, int, int]] = {}
    for shape in shapes:
        if shape.colour is not None:
            colours.setdefault(shape.name, shape.colour)
    for number, name in enumerate(dict.fromkeys(s.name for s in shapes if s.name)):
        colours.setdefault(name, PALETTE[number % len(PALETTE)])
    return colours


def _feature(shape: Shape, colours: dict[str, tuple[int, int, int]]) -> dict[str, Any]:
    parts = [[_closed(ring) for ring in part] for part in parts_of(shape)]
    geometry: dict[str, Any] = {"type": "Polygon", "coordinates": parts[0]} if len(parts) == 1 else {
        "type": "MultiPolygon", "coordinates": parts}
    if shape.z is not None or shape.time is not None:
        geometry["plane"] = {"c": -1, "z": shape.z or 0, "t": shape.time or 0}
    properties: dict[str, Any] = {"objectType": "annotation"}
    if shape.title:
        properties["name"] = shape.title
    if shape.name:
        names = shape.name.split(": ")
        properties["classification"] = {**({"name": names[0]} if len(names) == 1 else {"names": names}),
                                        "color": list(shape.colour or colours[shape.name])}
    if shape.measurements:
        # QuPath up to 0.3 reads a list alone; later ones write an object and read both.
        properties["measurements"] = [{"name": name, "value": value} for name, value in shape.measurements.items()]
    if shape.group is not None:
        properties["metadata"] = {GROUP: str(shape.group)}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed(ring: Ring) -> list[list[Any]]:
    pairs = pairs_of(ring)
    return [*pairs, pairs[0]]


def looks_like_geojson(head: str, keys: set[str]) -> bool:
    """Whether the start of a JSON text, with its outermost keys, is of GeoJSON."""
    if head.lstrip()[:1] == "[":
        return '"geometry"' in head and '"Feature"' in head
    return '"FeatureCollection"' in head or ("geometry" in keys and '"Feature"' in head) or (
        {"type", "coordinates"} <= keys and json.dumps("Point") not in head and "olygon" in head)
