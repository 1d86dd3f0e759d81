"""napari's Shapes layers as CSV: index, shape-type, vertex-index, axis-0, axis-1, …"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from biomask.errors import LabelsError, ReadError, WriteError
from biomask.instances.curves import ellipse
from biomask.io.files import write_text
from biomask.io.jsons import read_bytes
from biomask.io.labelme import require_one_plane
from biomask.shapes import FARTHEST, Annotations, Ring, Shape, as_ring

#: The columns that every such table starts with.
COLUMNS = ("index", "shape-type", "vertex-index")
#: Columns that biomask adds where shapes have a class or group; napari leaves them alone.
CLASS, GROUP = "class", "group"

FLAT = {"path": "a path", "line": "a line"}


def read_napari_shapes(path: Path) -> Annotations:
    """Polygons, rectangles and ellipses. Axes are y, x or z, y, x, of which z must be the same along an outline.

    napari counts from pixel centres: half a pixel is added. It writes no classes; a column "class" gives them, "group" the
    number of an object that has several outlines. Raises ReadError.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
        rows = csv.reader(io.StringIO(text, newline=""))
        header = [name.strip() for name in next(rows, [])]
        axes = sum(name.startswith("axis-") for name in header)
        if not looks_like_shapes(header) or axes not in (2, 3):
            raise ReadError(f"has the columns {', '.join(header[:8])}, not those of napari shapes in 2 or 3 axes", where=path,
                            fix="save the Shapes layer from napari as .csv")
        places = {name: i for i, name in enumerate(header)}
        tables = list(_tables(rows, places, axes, path))
    except UnicodeDecodeError:
        raise ReadError("is not text in UTF-8", where=path, fix="save it as UTF-8") from None
    except csv.Error as error:
        raise ReadError(f"is damaged or not a table ({error})", where=path) from error
    shapes: list[Shape] = []
    left_out: list[str] = []
    for index, kind, name, group, points in tables:
        try:
            shapes.append(_shape(kind, name, group, np.array(points)))
        except LabelsError as error:
            left_out.append(f"shape {index} ({error.what})")
    return Annotations(tuple(shapes), None, tuple(left_out))


Table = tuple[str, str, str, str, list[list[float]]]


def _tables(rows: Iterable[list[str]], places: dict[str, int], axes: int, path: Path) -> Iterator[Table]:
    """(index, shape type, class, group, points) of each run of rows with one index."""
    index, kind, name, group = None, "", "", ""
    points: list[list[float]] = []
    for line, row in enumerate(rows, start=2):
        if not row:
            continue
        try:
            point = [float(row[places[f"axis-{a}"]]) for a in range(axes)]
            here = row[places["index"]], row[places["shape-type"]].strip().lower()
        except (IndexError, ValueError):
            raise ReadError(f"line {line} is not a point of a shape: {', '.join(row)[:60]}", where=path) from None
        if here[0] != index:
            if index is not None:
                yield index, kind, name, group, points
            (index, kind), points = here, []
            name, group = (row[places[c]] if c in places and places[c] < len(row) else "" for c in (CLASS, GROUP))
        points.append(point)
    if index is not None:
        yield index, kind, name, group, points


def _shape(kind: str, name: str, group: str, points: Ring) -> Shape:
    """Raises LabelsError with the reason where it has no area."""
    if kind in FLAT:
        raise LabelsError(f"{FLAT[kind]}, without an area")
    if kind not in ("polygon", "rectangle", "ellipse"):
        raise LabelsError(f"its type {kind!r} is not known")
    if not (np.abs(points) <= FARTHEST).all():
        raise LabelsError("it has coordinates that are not finite or beyond any image")
    z = None
    if points.shape[1] == 3:
        planes = np.unique(np.round(points[:, 0]))
        if len(planes) > 1 or planes[0] < 0:
            raise LabelsError(f"it lies across the planes {int(planes[0])} to {int(planes[-1])}")
        z = int(planes[0])
    ring = points[:, :-3:-1] + 0.5  # x, y
    if kind != "polygon" and len(ring) != 4:
        raise LabelsError(f"a {kind} has 4 points")
    if kind == "ellipse":  # given by the corners of the box around it
        first, second = (ring[1] - ring[0]) / 2, (ring[3] - ring[0]) / 2
        ring = ellipse(tuple(ring.mean(axis=0)), tuple(first), tuple(second))
    return Shape((as_ring(ring),), name, None, z, group=int(group) if group.lstrip("-").isdecimal() else None)


def looks_like_shapes(header: Iterable[str]) -> bool:
    """Whether a table's header is one of napari's shapes."""
    return {*COLUMNS, "axis-0", "axis-1"} <= {name.strip() for name in header}


def write_napari_csv(path: Path, annotations: Annotations) -> None:
    """Write a table that napari opens as a Shapes layer; three axes where shapes lie on planes.

    Holes and parts are reached along a line that is walked there and back, which encloses nothing. Classes and groups go
    to further columns, which napari leaves alone; colours are not kept. Raises WriteError for several time points, or for
    shapes with a plane among such without.
    """
    shapes = annotations.shapes
    require_one_plane(Annotations(tuple(Shape(s.rings, time=s.time) for s in shapes)), path, "napari")
    deep = any(s.z is not None for s in shapes)
    if deep and any(s.z is None for s in shapes):
        raise WriteError("some shapes name their plane and some do not", where=path, fix="write GeoJSON or ImageJ ROIs")
    extra = [c for c, there in ((CLASS, any(s.name for s in shapes)), (GROUP, any(s.group is not None for s in shapes))) if there]
    out = io.StringIO(newline="")
    table = csv.writer(out, lineterminator="\n")
    table.writerow([*COLUMNS, *(f"axis-{a}" for a in range(3 if deep else 2)), *extra])
    for index, shape in enumerate(shapes):
        said = {CLASS: shape.name, GROUP: "" if shape.group is None else shape.group}
        plane = [float(shape.z or 0)] if deep else []
        for vertex, (x, y) in enumerate((_one_walk(shape.rings) - 0.5).tolist()):
            table.writerow([index, "polygon", vertex, *plane, y, x, *(said[c] for c in extra)])
    write_text(path, out.getvalue())


def _one_walk(rings: tuple[Ring, ...]) -> Ring:
    """All rings as one outline: from the first point of the first to each other one and back."""
    if len(rings) == 1:
        return rings[0]
    start = rings[0][:1]
    walks = [rings[0], start]
    for ring in rings[1:]:
        walks += [ring, ring[:1], start]
    return np.concatenate(walks)
