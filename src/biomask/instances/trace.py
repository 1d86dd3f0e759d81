"""From pixels to outlines: exact, along the edges of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.labels import Legend
from biomask.shapes import Ring, Shape


def outlines(labels: npt.NDArray[Any], *, names: Mapping[int, str] | None = None,
             colours: Mapping[int, tuple[int, int, int]] | None = None) -> list[Shape]:
    """One shape an id of an integer label image (Y, X), in ascending order; 0 is background.

    `rasterise` turns them back into the same pixels. Points are corners of pixels, those on a straight edge dropped.
    Every ring is simple: it meets itself and others in points at most. Pixels that meet in a corner alone are separate
    rings of one shape (4-connected), as `parts_of` and GeoJSON want it. Outer rings turn clockwise on the screen, holes
    the other way. names, colours: class of an id.

    Of a volume (Z, Y, X) there is one shape an id and plane, with `z`, and the id as `group`.
    Raises LabelsError for negative ids or other than whole numbers.
    """
    _require_ids(labels)
    names, colours = names or {}, colours or {}
    if labels.ndim == 3:
        return [Shape(s.rings, s.name, s.colour, z=z, group=int(i)) for z, plane in enumerate(labels)
                for i, s in _shapes(plane, names, colours)]
    return [s for _, s in _shapes(labels, names, colours)]


def objects_of(mask: npt.NDArray[Any], legend: Legend, *, connectivity: Literal[4, 8] = 8) -> list[Shape]:
    """One shape for each connected component of each class of a mask (Y, X) of class ids; id 0 is background.

    connectivity: whether pixels of one class that meet in a corner alone are one object (8) or two (4).
    Of a volume there is one shape a component and plane, joined by `group`; 4 stands for faces, 8 for corners too.
    """
    from skimage.measure import label

    _require_ids(mask)
    if mask.size and int(mask.max()) >= len(legend):
        raise LabelsError(f"class id {int(mask.max())} is not in the legend of {len(legend)} classes")
    components = np.asarray(label(mask, background=0, connectivity=1 if connectivity == 4 else mask.ndim))
    ids, first = np.unique(components, return_index=True)
    classes = dict(zip(ids.tolist(), mask.reshape(-1)[first].tolist(), strict=True))
    return outlines(components, names={i: legend.entries[c].name for i, c in classes.items() if i},
                    colours={i: legend.entries[c].colour for i, c in classes.items() if i})


def _require_ids(labels: npt.NDArray[Any]) -> None:
    if labels.dtype.kind not in "uib" or labels.ndim not in (2, 3):
        raise LabelsError(f"an array of {labels.dtype} and shape {labels.shape} is not a label image")
    if labels.size and labels.dtype.kind == "i" and int(labels.min()) < 0:
        raise LabelsError(f"label {int(labels.min())} is negative", fix="0 is background, objects are 1 and more")


def _shapes(labels: npt.NDArray[Any], names: Mapping[int, str],
            colours: Mapping[int, tuple[int, int, int]]) -> Iterator[tuple[int, Shape]]:
    rings, owners = _rings(labels)
    if not rings:
        return
    order = np.argsort(owners, kind="stable")
    ids, starts = np.unique(owners[order], return_index=True)
    stops = [*starts[1:].tolist(), len(order)]
    for number, start, stop in zip(ids.tolist(), starts.tolist(), stops, strict=True):
        yield number, Shape(tuple(rings[i] for i in order[start:stop]), names.get(number, ""), colours.get(number))


#: The sides of a pixel, walked with the pixel on the right hand: top (to the east), right, bottom, left.
TOP, RIGHT, BOTTOM, LEFT = range(4)


def _rings(labels: npt.NDArray[Any]) -> tuple[list[Ring], npt.NDArray[Any]]:
    """All outlines of a label image and the id that each belongs to."""
    padded = np.pad(labels, 1)
    width = padded.shape[1]
    flat = padded.reshape(-1)
    order, starts, pixel, side = _walk(flat, width)
    if not len(order):
        return [], np.zeros(0, labels.dtype)
    walked_side, walked_pixel = side[order], pixel[order]
    before = np.concatenate([walked_side[:1], walked_side[:-1]])
    before[starts] = walked_side[np.append(starts[1:], len(order)) - 1]
    ring = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
    corner = walked_side != before
    y, x = np.divmod(walked_pixel[corner], width)
    # Where the side starts; without the padding.
    x = x - 1 + ((walked_side[corner] == RIGHT) | (walked_side[corner] == BOTTOM))
    y = y - 1 + ((walked_side[corner] == BOTTOM) | (walked_side[corner] == LEFT))
    ring = ring[corner]
    points = np.stack([x, y], axis=1).astype(np.float64)
    whole = np.split(points, np.flatnonzero(np.diff(ring)) + 1)
    owners = flat[walked_pixel[starts]]
    touching = _touching(ring, x, y, width)
    if not touching:
        return whole, owners
    rings: list[Ring] = []
    counts = np.ones(len(whole), np.int64)
    for number, outline in enumerate(whole):
        pieces = _simple(outline) if number in touching else [outline]
        counts[number] = len(pieces)
        rings += pieces
    return rings, np.repeat(owners, counts)


def _walk(flat: npt.NDArray[Any], width: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Sides of pixels in the order of a walk along each outline, the places where walks start, and each side's pixel and side."""
    step = np.array([1, width, -1, -width])  # along a side
    out = np.array([-width, 1, width, -1])  # across it
    inner = np.flatnonzero(flat)
    found = [inner[flat[inner] != flat[inner + o]] for o in out]
    pixel = np.concatenate(found)
    side = np.repeat(np.arange(4), [len(f) for f in found])
    own = flat[pixel]
    ahead = pixel + step[side]
    beyond = ahead + out[side]
    turns_right = flat[ahead] != own  # also where the pixel across the corner is the same: 4-connected
    straight = ~turns_right & (flat[beyond] != own)
    next_pixel = np.where(turns_right, pixel, np.where(straight, ahead, beyond))
    next_side = np.where(turns_right, (side + 1) % 4, np.where(straight, side, (side + 3) % 4))
    # Sides are numbered in the order of side and pixel: the next one is found by bisection.
    offsets = np.cumsum([0, *(len(f) for f in found[:-1])])
    after = np.empty(len(pixel), np.int64)
    for s in range(4):
        these = next_side == s
        after[these] = offsets[s] + np.searchsorted(found[s], next_pixel[these])
    order, starts = _cycles(after)
    return order, starts, pixel, side


def _cycles(after: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The cycles of a permutation, one after the other, and where each starts."""
    following = after.tolist()
    seen = bytearray(len(following))
    order: list[int] = []
    starts = []
    start = 0
    while start != -1 and start < len(following):
        starts.append(len(order))
        here = start
        while not seen[here]:
            seen[here] = 1
            order.append(here)
            here = following[here]
        start = seen.find(0, start)
    return np.array(order, np.int64), np.array(starts, np.int64)


def _touching(ring: npt.NDArray[np.int64], x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], width: int) -> set[int]:
    """Numbers of the rings that pass through a point twice."""
    place = y * width + x
    order = np.lexsort((place, ring))
    twice = (np.diff(ring[order]) == 0) & (np.diff(place[order]) == 0)
    return set(ring[order][1:][twice].tolist())


def _simple(ring: Ring) -> list[Ring]:
    """A ring that passes through points twice as rings that do not."""
    rings: list[Ring] = []
    path: list[tuple[float, float]] = []
    place: dict[tuple[float, float], int] = {}
    for x, y in ring.tolist():
        if (x, y) in place:
            cut = place[x, y]
            rings.append(np.array(path[cut:]))
            for point in path[cut:]:
                del place[point]
            del path[cut:]
        place[x, y] = len(path)
        path.append((x, y))
    return [np.array(path), *rings]
