"""From outlines to pixels: exact, even-odd, by pixel centres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.shapes import FARTHEST, Ring, Shape, object_ids

#: The pixels of one object: bool (y, x), and the row and column of the image that they begin at.
Crop = tuple[npt.NDArray[np.bool_], tuple[int, int]]

#: Outline crossings and pixels that are worked on at a time.
CHUNK = 2**21


@dataclass(frozen=True)
class Rasterised:
    """Shapes as pixels. Indices are positions in the list of shapes."""

    array: npt.NDArray[np.int32]
    """(*S), the value of the last shape that covers a pixel; 0 where none does."""
    overlaps: int
    """Pixels claimed with more than one value."""
    empty: tuple[int, ...] = ()
    """Shapes that cover no pixel centre of the image."""
    hidden: tuple[int, ...] = ()
    """Shapes that cover pixels but lost all of them to later ones."""
    outside: tuple[int, ...] = ()
    """Shapes with a point outside the image."""


def rasterise(shapes: Sequence[Shape], size: tuple[int, ...], *, values: Sequence[int] | None = None) -> Rasterised:
    """Draw shapes into an image of size (Y, X) or (Z, Y, X), later ones over earlier ones.

    values: one a shape, 0 erases; None = object ids 1..N in order, the same for shapes of one class and group.
    The centre rule of `Shape` is decided without rounding where coordinates are multiples of 1/256 below 65 536, which
    outlines of pixels and ImageJ's are. A plane image takes shapes of every plane; a volume takes those that name no plane on all.
    Raises LabelsError for coordinates that are not finite.
    """
    given = object_ids(shapes) if values is None else [int(v) for v in values]
    if len(given) != len(shapes):
        raise LabelsError(f"{len(given)} values for {len(shapes)} shapes")
    if any(not -(2**31) <= v < 2**31 for v in given):
        raise LabelsError("values beyond ±2,147,483,647 fit no label image")
    for number, shape in enumerate(shapes):
        if shape.rings and not all((np.abs(r) <= FARTHEST).all() for r in shape.rings):
            raise LabelsError(f"shape {number} {shape.title or shape.name!r} has coordinates that are not finite or beyond images")
    array, contested = np.zeros(size, np.int32), np.zeros(size, bool)
    covered = np.zeros(len(shapes), bool)
    if len(size) == 2:
        _draw(shapes, np.asarray(given, np.int32), array, contested, covered)
    else:
        for z in range(size[0]):
            here = [i for i, s in enumerate(shapes) if s.z in (None, z)]
            hit = np.zeros(len(here), bool)
            _draw([shapes[i] for i in here], np.asarray([given[i] for i in here], np.int32), array[z], contested[z], hit)
            covered[[i for i, h in zip(here, hit, strict=True) if h]] = True
    left = set(np.unique(array).tolist())
    return Rasterised(array, int(np.count_nonzero(contested)), tuple(np.flatnonzero(~covered).tolist()),
                      tuple(i for i, v in enumerate(given) if covered[i] and v and v not in left),
                      tuple(i for i, s in enumerate(shapes) if _reaches_out(s, size)))


def _reaches_out(shape: Shape, size: tuple[int, ...]) -> bool:
    x0, y0, x1, y1 = shape.bounds
    plane = len(size) == 3 and shape.z is not None and not 0 <= shape.z < size[0]
    return plane or x0 < 0 or y0 < 0 or x1 > size[-1] or y1 > size[-2]


def _draw(shapes: Sequence[Shape], values: npt.NDArray[np.int32], array: npt.NDArray[np.int32],
          contested: npt.NDArray[np.bool_], covered: npt.NDArray[np.bool_]) -> None:
    """Into (Y, X) arrays, in place."""
    flat, shared = array.reshape(-1), contested.reshape(-1)
    for owner, start, length in _spans(shapes, (array.shape[0], array.shape[1])):
        covered[owner] = True
        for few in _portions(length):
            pixels = expand(start[few], length[few])
            claims = np.repeat(values[owner[few]], length[few])
            before = flat[pixels]
            flat[pixels] = claims  # of a pixel named twice the last one stays, in order of the shapes
            lost = flat[pixels] != claims
            shared[pixels[((before != 0) & (before != claims)) | lost]] = True


def _portions(length: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Slices of spans with about CHUNK pixels each."""
    total = np.cumsum(length)
    start = 0
    while start < len(length):
        done = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + CHUNK, "right")))
        yield slice(start, stop)
        start = stop


def expand(start: npt.NDArray[np.int64], length: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """start[0], start[0] + 1, … length[0] of them, then start[1], …"""
    ends = np.cumsum(length)
    return np.repeat(start - (ends - length), length) + np.arange(int(ends[-1]) if len(ends) else 0)


#: Spans of pixels in a row: the shape's index, the first pixel's flat position, the number of pixels.
Spans = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _spans(shapes: Sequence[Shape], size: tuple[int, int]) -> Iterator[Spans]:
    """Runs of covered pixels, in order of the shapes, a bounded number at a time."""
    crossings = 0
    first = 0
    for number, shape in enumerate(shapes):
        here = sum(len(r) for r in shape.rings) + 2 * min(size[0], ceil(shape.bounds[3] - shape.bounds[1]) + 1)
        if crossings + here > CHUNK and number > first:
            yield _some_spans(shapes[first:number], first, size)
            first, crossings = number, 0
        crossings += here
    if first < len(shapes):
        yield _some_spans(shapes[first:], first, size)


def _some_spans(shapes: Sequence[Shape], first: int, size: tuple[int, int]) -> Spans:
    rings = [r for s in shapes for r in s.rings]
    if not rings:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing
    owner = np.repeat([i for i, s in enumerate(shapes) for _ in s.rings], [len(r) for r in rings])
    edges, edge_owner = _edges(rings, owner)
    # A row r is crossed when its middle r + 0.5 is in (y0, y1].
    top = np.clip(np.floor(edges[:, 1] + 0.5), 0, size[0]).astype(np.int64)
    bottom = np.clip(np.floor(edges[:, 3] + 0.5), 0, size[0]).astype(np.int64)
    count = bottom - top
    row = expand(top, count)
    edge = np.repeat(np.arange(len(edges)), count)
    column = np.clip(_first_column(edges[edge], row), 0, size[1])
    # Sorted by shape, row and column, crossings come in pairs: in and out.
    key = np.sort((edge_owner[edge] * size[0] + row) * (size[1] + 1) + column)
    entry, leave = key[0::2], key[1::2]
    length = leave - entry
    entry, length = entry[length > 0], length[length > 0]
    line, column = np.divmod(entry, size[1] + 1)
    shape, row = np.divmod(line, size[0])
    return shape + first, row * size[1] + column, length


def _edges(rings: Sequence[Ring], owner: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(x0, y0, x1, y1) with y0 < y1, level ones dropped, and whose they are.

    One direction for an edge of two shapes, so that both compute the same crossings.
    """
    points = np.concatenate(rings)
    after = np.arange(1, len(points) + 1)
    ends = np.cumsum([len(r) for r in rings])
    after[ends - 1] = np.concatenate([[0], ends[:-1]])
    start, stop = points, points[after]
    swap = start[:, 1] > stop[:, 1]
    edges = np.concatenate([np.where(swap[:, None], stop, start), np.where(swap[:, None], start, stop)], axis=1)
    sloped = start[:, 1] != stop[:, 1]
    return edges[sloped], owner[sloped]


def _first_column(edges: npt.NDArray[np.float64], row: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first column whose centre is right of the edge in that row."""
    x0, y0, x1, y1 = edges.T
    below, wide, high = row + 0.5 - y0, x1 - x0, y1 - y0
    column = np.floor(x0 + below * (wide / high) + 0.5)
    # The quotient is rounded; the products decide which side a centre is on.
    rise = below * wide
    column -= (column - 0.5 - x0) * high > rise
    column += (column + 0.5 - x0) * high <= rise
    return np.asarray(np.clip(column, -FARTHEST, FARTHEST).astype(np.int64))


def crop_mask(shapes: Sequence[Shape], size: tuple[int, int] | None = None) -> Crop:
    """The pixels that any of the shapes covers: bool (y, x) of their bounding box, and its first row and column.

    size: (Y, X) of the image, to which the box is cut; None = not cut, and its origin may be negative.
    """
    boxes = [s.bounds for s in shapes if s.rings]
    if not boxes:
        return np.zeros((0, 0), bool), (0, 0)
    left, top = floor(min(b[0] for b in boxes)), floor(min(b[1] for b in boxes))
    right, bottom = ceil(max(b[2] for b in boxes)), ceil(max(b[3] for b in boxes))
    if size is not None:
        left, right = (min(max(v, 0), size[1]) for v in (left, right))
        top, bottom = (min(max(v, 0), size[0]) for v in (top, bottom))
    # Taking a whole number from a coordinate leaves its fraction as it is.
    moved = [replace(s, rings=tuple(np.subtract(r, (left, top)) for r in s.rings)) for s in shapes]
    drawn = rasterise(moved, (bottom - top, right - left), values=[1] * len(moved))
    return drawn.array.astype(bool), (top, left)


def parts_of(shape: Shape) -> list[tuple[Ring, ...]]:
    """The separate parts of a shape, each its outer ring followed by its holes. Rings must not cross each other."""
    if len(shape.rings) == 1:
        return [shape.rings]
    order = sorted(range(len(shape.rings)), key=lambda i: -abs(ring_area(shape.rings[i])))
    rings = [shape.rings[i] for i in order]
    inner = np.array([_inner_point(r) for r in rings])
    depth = np.zeros(len(rings), int)
    parent = np.zeros(len(rings), int)
    for i, ring in enumerate(rings[:-1]):  # from large to small: the last one that holds a ring is the closest around it
        inside = np.zeros(len(rings), bool)
        inside[i + 1:] = _contains(ring, inner[i + 1:])
        depth[inside] += 1
        parent[inside] = i
    parts = {i: [ring] for i, ring in enumerate(rings) if depth[i] % 2 == 0}
    for i, ring in enumerate(rings):
        if depth[i] % 2:
            parts[int(parent[i])].append(ring)
    return [tuple(p) for _, p in sorted(parts.items(), key=lambda item: order[item[0]])]


def ring_area(ring: Ring) -> float:
    """Area in pixels; positive when the outline turns clockwise on the screen (x right, y down)."""
    x, y = (ring - ring[0]).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _inner_point(ring: Ring) -> tuple[float, float]:
    """A point inside an outline, off its edges."""
    levels = np.unique(ring[:, 1])
    if len(levels) < 2:
        return float(ring[0, 0]), float(ring[0, 1])
    widest = int(np.argmax(np.diff(levels)))
    y = float(levels[widest] + levels[widest + 1]) / 2
    x = np.sort(_crossings(ring, y))
    gap = 2 * int(np.argmax(x[1::2] - x[0::2]))
    return float(x[gap] + x[gap + 1]) / 2, y


def _crossings(ring: Ring, y: float) -> npt.NDArray[np.float64]:
    """x where the outline crosses the level y, which no point of it has."""
    after = np.roll(ring, -1, axis=0)
    sloped = (ring[:, 1] > y) != (after[:, 1] > y)
    start, stop = ring[sloped], after[sloped]
    return np.asarray(start[:, 0] + (y - start[:, 1]) * (stop[:, 0] - start[:, 0]) / (stop[:, 1] - start[:, 1]))


def _contains(ring: Ring, points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which of the points (N, 2) are inside an outline."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    inside = np.asarray(((points >= low) & (points <= high)).all(axis=1))
    for i in np.flatnonzero(inside):
        inside[i] = np.count_nonzero(_crossings(ring, points[i, 1]) < points[i, 0]) % 2
    return inside
