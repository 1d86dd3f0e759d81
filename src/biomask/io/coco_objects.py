"""`CocoObject`: one annotation of a COCO file, decoded when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.instances.polygons import crop_mask
from biomask.instances.rle import decode_counts, decode_crop, unpack
from biomask.instances.trace import outlines
from biomask.shapes import FARTHEST, Keypoints, Ring, Shape, as_rings

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
    box: Any = field(default=None, repr=False)
    """As in the file: x, y, width, height."""
    keypoints: Any = field(default=None, repr=False)
    """As in the file: x, y, visibility of each in turn; None where it has none."""
    points: int = 0
    """How many keypoints its category has."""
    area: Any = field(default=None, repr=False)
    """As in the file, in pixels."""

    def shape(self) -> Shape:
        """As polygons. Raises LabelsError with the reason where it has no area."""
        said = self.segmentation
        rings = _union(said) if isinstance(said, list) else _traced(*decode_crop(*self._runs()))
        if not rings:
            raise LabelsError("its mask is empty")
        return self._as_shape(rings)

    def box_shape(self) -> Shape:
        """Its box alone, for objects without an outline. Raises LabelsError with the reason where that has no area."""
        x, y, width, height = _numbers(self.box, 4, "its box is no list of x, y, width, height")
        if width <= 0 or height <= 0:
            raise LabelsError("its box has no area")
        return self._as_shape((np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)]),))

    def _as_shape(self, rings: tuple[Ring, ...]) -> Shape:
        points = None if self.keypoints is None else _keypoints(self.keypoints, self.points)
        return Shape(rings, self.category, self.colour, title=str(self.id), crowd=self.crowd, keypoints=points)

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


def _numbers(said: Any, count: int, wrong: str) -> npt.NDArray[np.float64]:
    """So many numbers of a list. Raises LabelsError: `wrong`."""
    try:
        found = np.asarray(said, np.float64)
    except (ValueError, TypeError, OverflowError):
        found = np.zeros(0)
    if not isinstance(said, list) or found.shape != (count,) or not (np.abs(found) <= FARTHEST).all():
        raise LabelsError(wrong)
    return found


def _keypoints(said: Any, count: int) -> Keypoints:
    """(K, 3) of x, y, visibility; what is not labelled is at 0, 0. Raises LabelsError."""
    length = len(said) if isinstance(said, list) else 0
    if length % 3 == 0 and length != 3 * count:
        raise LabelsError(f"it has {length // 3} keypoints, its category {count}")
    points = _numbers(said, 3 * count, "its keypoints are no list of x, y, visibility, …").reshape(-1, 3)
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        raise LabelsError("the visibility of a keypoint is none of 0, 1, 2")
    points[points[:, 2] == 0] = 0
    return points


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
