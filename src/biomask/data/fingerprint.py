"""What a data set is like, in the figures that sizes are chosen from: images, grey values, classes, objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from biomask.data.pieces import Objects, Pieces, components_of, joined, pieces_of, summary_of
from biomask.errors import LabelsError
from biomask.image import Image
from biomask.labels import LabelKind, Labels

if TYPE_CHECKING:
    from biomask.data.dataset import Facts

#: Patch sides that fill two CPU cores and still leave room for variety; voxels of both are alike in number.
USUAL_PATCH = {2: 256, 3: 40}

#: Depth of a U-Net whose recipe leaves it open. In 3D the exact halo of depth 4 (96 voxels a side) would make a tile of
#: 96³ read 27 times as much, of depth 2 (24 voxels) a tile of 64³ 5 times.
USUAL_DEPTH = {2: 4, 3: 2}

#: Images looked at, and pixels of all of them together: enough for every figure below, and seconds of work.
MOST_IMAGES, MOST_PIXELS = 50, 60_000_000

#: Grey values of an image that its statistics are taken from.
GREY_SAMPLE = 200_000

#: An image is dark when its median and the share of its pixels above the middle both lie below this part of its range.
DARK = 0.2

#: A volume whose planes are longer than it is high by this factor has thick planes, ASSUMED times a pixel, if nothing says more.
FLAT_VOLUME, ASSUMED = 4.0, 3.0

#: Fewer objects do not tell how thick planes are.
ENOUGH_OBJECTS = 10


class Labelled(Protocol):
    """Images with labels, such as `biomask.data.dataset.Dataset`."""

    @property
    def facts(self) -> Facts:
        """What one pass over all files found."""

    def __len__(self) -> int:
        """Number of images."""

    def image(self, i: int) -> Image:
        """An image by number."""

    def labels(self, i: int) -> Labels:
        """Its labels."""


@dataclass(frozen=True)
class Fingerprint:
    """A data set in figures. Axes are (y, x) or (z, y, x), lengths in pixels."""

    kind: LabelKind
    images: int
    looked_at: int
    """Images that labels and grey values were read of, spread evenly over all."""
    smallest: tuple[int, ...]
    median: tuple[int, ...]
    largest: tuple[int, ...]
    """Sizes along each axis, over all images."""
    channels: int
    spacing: tuple[float, ...] | None
    """Micrometres a pixel along each axis; None where unknown."""
    anisotropy: tuple[float, ...]
    """Size of a pixel along each axis, as a multiple of the finest one's."""
    anisotropy_source: str
    """What it is known from: spacing, objects, sizes (a guess) or nothing (taken as equal)."""
    dark: float
    """Share of the images whose background is dark with few bright pixels."""
    class_names: tuple[str, ...]
    """Background first."""
    shares: tuple[float, ...]
    """Of the known pixels, for each of `class_names`; structures of multilabel may overlap. Of instances of one class:
    background and objects."""
    presence: tuple[float, ...]
    """Share of the images that hold each of them."""
    objects: Objects

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.median)

    @property
    def rarest(self) -> tuple[str, float] | None:
        """Name and share of the rarest foreground class that there is; None where there is no foreground."""
        found = [(share, name) for name, share in zip(self.class_names[1:], self.shares[1:], strict=True) if share > 0]
        return (min(found)[1], min(found)[0]) if found else None

    @property
    def thing(self) -> str:
        """What objects are called in sentences."""
        return "object" if self.kind == "instances" else "piece of a class"


def take_fingerprint(dataset: Labelled) -> Fingerprint:
    """One pass over at most MOST_IMAGES images; the same data give the same figures.

    Raises LabelsError for a data set without images.
    """
    facts = dataset.facts
    if not len(dataset):
        raise LabelsError("there are no labelled images to look at")
    sizes = np.asarray(facts.sizes)
    chosen = sample_of(facts.sizes)
    found = [_look(dataset, i) for i in chosen]
    names = _class_names(found[0].labels)
    pieces = summary_of([f.pieces for f in found], sizes.shape[1])
    known = sum(f.known for f in found)
    pixels = np.sum([f.pixels for f in found], axis=0)
    middle = tuple(int(n) for n in np.median(sizes, axis=0))
    spacing = tuple(float(facts.spacing[a]) for a in "zyx"[-len(middle):]) if facts.spacing else None
    anisotropy, source = _anisotropy(spacing, middle, pieces, found[0].labels.kind)
    dark = [f.dark for f in found if f.dark is not None]
    return Fingerprint(
        found[0].labels.kind, len(dataset), len(chosen), tuple(int(n) for n in sizes.min(axis=0)), middle,
        tuple(int(n) for n in sizes.max(axis=0)), facts.channels, spacing, anisotropy, source,
        float(np.mean(dark)) if dark else 0.0, names, tuple(float(p) / max(1, known) for p in pixels),
        tuple(float(p) for p in np.mean([f.pixels > 0 for f in found], axis=0)), pieces)


def sample_of(sizes: Sequence[tuple[int, ...]]) -> list[int]:
    """Numbers of the images looked at: spread evenly, fewer the larger they are, at least one."""
    count = min(MOST_IMAGES, len(sizes), max(1, int(MOST_PIXELS / median(prod(s) for s in sizes))))
    return sorted({(2 * i + 1) * len(sizes) // (2 * count) for i in range(count)})


@dataclass(frozen=True)
class _Look:
    labels: Labels
    known: int
    pixels: npt.NDArray[np.int64]
    pieces: Pieces
    dark: bool | None


def _look(dataset: Labelled, i: int) -> _Look:
    """What one image and its labels add; the arrays themselves are let go."""
    labels = dataset.labels(i)
    known = prod(labels.size) if labels.ignore is None else int((~labels.ignore).sum())
    masks = list(_masks(labels))
    pixels = np.array([known - sum(int(m.sum()) for m in masks) if labels.kind != "multilabel" else
                       known - int(np.logical_or.reduce(masks).sum()), *(int(m.sum()) for m in masks)])
    if labels.kind == "instances":
        pieces = pieces_of(_known(labels, labels.array))
    else:
        pieces = joined([components_of(m) for m in masks], len(labels.size))
    return _Look(Labels(labels.array[..., :0], labels.kind, labels.name, labels.legend, classes=labels.classes), known, pixels,
                 pieces, _dark(dataset.image(i).array))


def _known(labels: Labels, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array if labels.ignore is None else np.where(labels.ignore, 0, array)


def _class_names(labels: Labels) -> tuple[str, ...]:
    names = tuple(e.name for e in labels.legend)
    return names if len(names) > 1 else (names[0], "objects")


def _masks(labels: Labels) -> Iterator[npt.NDArray[np.bool_]]:
    """Where each foreground class or structure is, among the known pixels."""
    array = _known(labels, labels.array)
    if labels.kind in ("multilabel", "soft"):
        yield from (np.asarray(a >= 0.5) for a in array)
    elif labels.kind == "instances" and labels.classes is not None:
        given: Mapping[int, int] = labels.classes
        for position in range(1, len(labels.legend)):
            yield np.isin(array, [n for n, c in given.items() if c == position])
    elif labels.kind == "instances":
        # Ids without a class are of the first one, as they are for training.
        yield array != 0
        yield from (np.zeros(array.shape, bool) for _ in range(2, len(labels.legend)))
    else:
        yield from (np.asarray(array == k) for k in range(1, max(2, len(labels.legend))))


def _dark(array: Any) -> bool | None:
    """Whether most channels have a dark background with few bright pixels; None where all are constant."""
    found = []
    for channel in array:
        values = np.asarray(channel)
        step = max(1, int((values.size / GREY_SAMPLE) ** (1 / values.ndim)))
        values = values[(slice(None, None, step),) * values.ndim].astype(np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        low, middle, high = np.percentile(values, [1, 50, 99.8])
        if high > low:
            found.append((middle - low) / (high - low) < DARK and float((values > (low + high) / 2).mean()) < DARK)
    return sum(found) * 2 > len(found) if found else None


def _anisotropy(spacing: tuple[float, ...] | None, size: tuple[int, ...], objects: Objects,
                kind: LabelKind) -> tuple[tuple[float, ...], str]:
    """(size of a pixel along each axis over the finest one's, what it is known from)."""
    if spacing is not None:
        return tuple(s / min(spacing) for s in spacing), "spacing"
    if len(size) == 3:
        whole = objects.count >= ENOUGH_OBJECTS and objects.extent[0] < size[0] / 2  # else the volume's ends cut them flat
        if kind == "instances" and whole:
            return (max(1.0, (objects.extent[1] + objects.extent[2]) / 2 / objects.extent[0]), 1.0, 1.0), "objects"
        if min(size[1:]) >= FLAT_VOLUME * size[0]:
            return (ASSUMED, 1.0, 1.0), "sizes"
    return (1.0,) * len(size), "nothing"
