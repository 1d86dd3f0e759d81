"""`Shape`: an outline that a person drew, as annotation programs store it; `Annotations`: those of one image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.stored import UNKNOWN

#: Closed outline, (N, 2) of (x, y) in pixels, without a repeated first point.
Ring = npt.NDArray[np.float64]

#: Points that mean something, (K, 3) of x, y and visibility: 0 not labelled (x and y are 0), 1 labelled but hidden, 2 visible.
Keypoints = npt.NDArray[np.float64]

#: No coordinate is farther out, in pixels: beyond it a file is damaged, and sums would lose whole pixels.
FARTHEST = 1e9


@dataclass(frozen=True)
class Shape:
    """One object as polygons.

    Coordinates are in pixels of the full image with the corner of the first pixel at (0, 0): the pixel in row y and
    column x covers [x, x + 1) × [y, y + 1), and belongs to a shape when its centre (x + 0.5, y + 0.5) is inside. A centre
    exactly on an outline is inside where the shape lies to its left, or above it on a level edge: of two shapes that
    share an edge exactly one gets it.
    """

    rings: tuple[Ring, ...]
    """Closed outlines, each (N, 2) of (x, y) without a repeated first point. A point inside an odd number of them is
    inside the shape: holes and separate parts are further rings."""
    name: str = ""
    """The class that a person gave it; empty when none."""
    colour: tuple[int, int, int] | None = None
    """RGB of the class, 0..255."""
    z: int | None = None
    """Plane, from 0; None = a plane image, or all planes."""
    time: int | None = None
    """Time point, from 0."""
    group: int | None = None
    """Shapes of one number and one class are one object (parts on several planes, or a split outline)."""
    title: str = ""
    """What the program calls this one object, e.g. "0012-0345"; not a class."""
    crowd: bool = False
    """Whether it holds many objects that nobody told apart."""
    position: int | None = None
    """Number in a plain stack, from 0, where the file does not say whether planes or time points follow each other there; `z`
    takes it for a plane, and `placed` for what the image's axes say."""
    measurements: Mapping[str, float] = field(default_factory=dict)
    """What was measured of the object, by name."""
    keypoints: Keypoints | None = field(default=None, repr=False)
    """In the order of its `Category.keypoints`; x and y as the rings have them. None where its class has none."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least x, least y, greatest x, greatest y; all 0 without a ring."""
        if not self.rings:
            return 0.0, 0.0, 0.0, 0.0
        points = np.concatenate(self.rings)
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)


@dataclass(frozen=True)
class Category:
    """A class as COCO describes it."""

    name: str
    id: int | None = None
    """Its number in the file, from which results are told apart; None where it has none yet."""
    group: str = ""
    """The class above it."""
    keypoints: tuple[str, ...] = ()
    """Names of its keypoints."""
    skeleton: tuple[tuple[int, int], ...] = ()
    """Which keypoints are joined by a line, as positions in `keypoints` from 0."""


@dataclass(frozen=True)
class Annotations:
    """What one file says about one image."""

    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None
    """(Y, X) of the image in pixels, where the file says it."""
    left_out: tuple[str, ...] = ()
    """What is in the file but no area, by name and with the reason: "spine 3 (a line has no area)"."""
    image: str | None = None
    """File name of the image without folders, where the file says it."""
    boxed: tuple[Shape, ...] = ()
    """Objects of which a box is known and no outline: one ring, the box. They are among `left_out` too."""
    categories: tuple[Category, ...] = ()
    """All classes that the file knows, in ascending id, where it describes them."""

    @property
    def lost(self) -> tuple[str, ...]:
        """Those of `left_out` of which not even a box is known."""
        known = tuple(f"annotation {s.title} (" for s in self.boxed)
        return tuple(said for said in self.left_out if not said.startswith(known))


def as_ring(points: Any) -> Ring:
    """An outline from (x, y) pairs: float64 (N, 2), closing and repeated points dropped.

    Raises LabelsError for less than 3 points, for other than pairs of numbers, and for NaN, infinite or absurd coordinates.
    """
    ring = _points(points)
    if len(ring) < 3:
        raise LabelsError(f"it has {len(ring)} different points, an outline needs 3")
    return ring


def as_rings(outlines: Iterable[Any]) -> tuple[Ring, ...]:
    """The same for the outlines of one shape; those of less than 3 points enclose nothing and go, but one must be left."""
    rings = [_points(points) for points in outlines]
    left = tuple(r for r in rings if len(r) >= 3)
    if not left:
        raise LabelsError(f"it has {max((len(r) for r in rings), default=0)} different points, an outline needs 3")
    return left


def _points(points: Any) -> Ring:
    try:
        ring = np.asarray(points, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise LabelsError("its coordinates are not pairs of numbers") from None
    if not ring.size:
        return np.zeros((0, 2))
    if ring.ndim != 2 or ring.shape[1] < 2:
        raise LabelsError("its coordinates are not pairs of numbers")
    ring = ring[:, :2]
    if not (np.abs(ring) <= FARTHEST).all():  # NaN fails too
        raise LabelsError("it has coordinates that are not finite or beyond any image")
    return np.ascontiguousarray(ring[(ring != np.roll(ring, -1, axis=0)).any(axis=1)])


def as_colour(value: Any) -> tuple[int, int, int] | None:
    """RGB from a list of 3 or 4 numbers, from the bits of a whole number, or from "#rrggbb"; None for anything else."""
    if isinstance(value, str) and len(value) == 7 and value[0] == "#":
        try:
            value = int(value[1:], 16)
        except ValueError:
            return None
    if isinstance(value, int) and not isinstance(value, bool):
        return (value >> 16) & 255, (value >> 8) & 255, value & 255
    if isinstance(value, list) and len(value) in (3, 4) and all(isinstance(v, int) and 0 <= v <= 255 for v in value):
        return value[0], value[1], value[2]
    return None


def scaled(shape: Shape, factor: float) -> Shape:
    """With all coordinates times a factor."""
    points = shape.keypoints
    return replace(shape, rings=tuple(ring * factor for ring in shape.rings),
                   keypoints=None if points is None else points * (factor, factor, 1.0))


def object_ids(shapes: Sequence[Shape]) -> list[int]:
    """Numbers from 1 in order of appearance: one a shape, the same for shapes of one class and group."""
    known: dict[tuple[str, int], int] = {}
    ids = []
    count = 0
    for shape in shapes:
        key = None if shape.group is None else (shape.name, shape.group)
        if key is not None and key in known:
            ids.append(known[key])
            continue
        count += 1
        ids.append(count)
        if key is not None:
            known[key] = count
    return ids


def on_plane(shapes: Iterable[Shape], z: int | None = None, time: int | None = None) -> list[Shape]:
    """The shapes of one plane and time point; those that name no plane or time are on every one. None = any."""
    return [s for s in shapes if (z is None or s.z in (None, z)) and (time is None or s.time in (None, time))]


def placed(shapes: Iterable[Shape], axes: str) -> list[Shape]:
    """With plain positions as what they are in an image of these stored axes, such as "TYX": a time point where it has time
    and no depth, a plane where it has depth; neither where it has channels alone, which share their outlines.

    Axes that say nothing of it ("YX", "QYX") leave positions as they are.
    """
    if "T" in axes and "Z" not in axes:
        return [s if s.position is None else replace(s, z=None, time=s.position, position=None) for s in shapes]
    if "Z" in axes:
        return [replace(s, position=None) for s in shapes]
    if "C" in axes and UNKNOWN not in axes:
        return [s if s.position is None else replace(s, z=None, position=None) for s in shapes]
    return list(shapes)


#: After these a number says which class.
CLASS_WORDS = "(?:class|category|type|grade|stage)[ _.#-]"


def without_numbers(shapes: Iterable[Shape]) -> list[Shape]:
    """With numbers at the end of class names dropped, for people who name each outline: "cell 1", "cell_02" → "cell".

    A number without a space or sign before it stays: "Ki67"; so does one after a word for classes: "class 1", as biomask
    itself calls those of masks without a legend.
    """
    return [replace(s, name=re.sub(rf"^(?!{CLASS_WORDS})(.+?)[ _.#-]+\d+$", r"\1", s.name, flags=re.IGNORECASE),
                    title=s.title or s.name) for s in shapes]
