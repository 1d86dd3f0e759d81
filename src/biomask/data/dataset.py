"""A labelled data set: pairs checked once, read when needed, kept while memory allows."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.data.pairing import Pair, find_pairs
from biomask.errors import BiomaskError, LabelsError, ManyErrors, ReadError
from biomask.image import Image
from biomask.io import read_image, read_label_values
from biomask.labels import LabelKind, Labels, Legend
from biomask.progress import Progress, Silent
from biomask.transforms import Normalization
from biomask.transforms.normalize import apply

if TYPE_CHECKING:
    from biomask.recipe import DataSettings

#: More distinct values than this are taken for something else than classes.
MOST_CLASSES = 64


@dataclass(frozen=True)
class Facts:
    """What one pass over all files found."""

    sizes: tuple[tuple[int, ...], ...]
    """Spatial shape of each image."""
    axes: str
    channels: int
    dtype: str
    spacing: dict[str, float] | None
    """Of the first image; None when any lacks it."""
    channel_names: tuple[str, ...]
    class_pixels: dict[int, int]
    """Label value: pixels."""
    hashes: dict[str, str]
    """SHA-256 of every image and label file, by pair name and side."""
    kind: LabelKind
    kind_reason: str


@dataclass
class Dataset:
    """Images with labels of kind "classes".

    `item(i)` gives a normalised image and class ids; the least recently used are dropped beyond `cache_bytes`.
    """

    pairs: Sequence[Pair]
    facts: Facts
    legend: Legend
    ignore: int | None
    normalization: Normalization
    cache_bytes: int = 4 * 2**30
    _cache: OrderedDict[int, tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], npt.NDArray[np.bool_] | None]] = field(
        default_factory=OrderedDict, repr=False)
    _cached: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    def image(self, i: int) -> Image:
        """The image as it is on disk."""
        return read_image(self.pairs[i].image)

    def labels(self, i: int) -> Labels:
        """The labels with class ids."""
        raw = read_label_values(self.pairs[i].labels)
        ids, ignore = to_class_ids(raw.array[0], self.legend, self.ignore, self.pairs[i].labels)
        return Labels(ids, "classes", self.pairs[i].name, self.legend, ignore, raw.spacing)

    def item(self, i: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], npt.NDArray[np.bool_] | None]:
        """(normalised image (C, *S), class ids (*S), ignore (*S) or None)."""
        if i in self._cache:
            self._cache.move_to_end(i)
            return self._cache[i]
        image, labels = self.image(i), self.labels(i)
        entry = (apply(image.array, *self.normalization.statistics(image.array)), labels.array.astype(np.uint8),
                 labels.ignore)
        self._cache[i] = entry
        self._cached += _bytes(entry)
        while self._cached > self.cache_bytes and len(self._cache) > 1:
            self._cached -= _bytes(self._cache.popitem(last=False)[1])
        return entry

    def subset(self, indices: Sequence[int]) -> Dataset:
        """The same data set with some of its pairs."""
        return replace(self, pairs=[self.pairs[i] for i in indices], _cache=OrderedDict(), _cached=0,
                       facts=replace(self.facts, sizes=tuple(self.facts.sizes[i] for i in indices)))


def _bytes(entry: tuple[Any, ...]) -> int:
    return sum(a.nbytes for a in entry if a is not None)


def to_class_ids(values: npt.NDArray[Any], legend: Legend, ignore: int | None,
                 where: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
    """(class ids, ignore mask or None) from values on disk; ignored pixels get class 0."""
    unknown = None
    if ignore is not None:
        unknown = values == ignore
        values = np.where(unknown, legend.values[0], values)
    try:
        return legend.ids(values), unknown if unknown is not None and unknown.any() else None
    except LabelsError as error:
        raise LabelsError(error.what, where=where, fix="relabel them, or leave them out with --ignore VALUE") from error


def open_dataset(folder: str | Path, settings: DataSettings, normalization: Normalization, *,
                 progress: Progress | None = None) -> Dataset:
    """Pair, read and check every file of a data folder once.

    Raises ManyErrors listing every bad file, or LabelsError when the labels are not of a kind that can be trained.
    """
    pairs = find_pairs(folder)
    facts = _survey(pairs, settings, progress or Silent())
    values = [v for v in facts.class_pixels if v != settings.ignore]
    if facts.kind != "classes":
        raise LabelsError(f"the labels look like {facts.kind}: {facts.kind_reason}", where=folder,
                          fix="if the values are classes, say --labels classes; other kinds are not trained yet")
    if len(values) < 2:
        raise LabelsError(f"the only label value is {values}: there is nothing to tell apart", where=folder,
                          fix="a mask has at least two values, e.g. 0 for background and 255 for the object")
    return Dataset(pairs, facts, Legend.of_values(values, settings.legend), settings.ignore, normalization)


def _survey(pairs: Sequence[Pair], settings: DataSettings, progress: Progress) -> Facts:
    errors: list[BiomaskError] = []
    images: list[Image] = []
    pixels: Counter[int] = Counter()
    hashes: dict[str, str] = {}
    per_image: list[frozenset[int]] = []
    with progress.bar("reading images and masks") as bar:
        for n, pair in enumerate(pairs):
            try:
                image, values, counts = _inspect(pair)
                hashes |= {f"{pair.name}:image": file_hash(pair.image), f"{pair.name}:labels": file_hash(pair.labels)}
                images.append(image)
                pixels.update(dict(zip(values, counts, strict=True)))
                per_image.append(frozenset(values) - {0})
            except BiomaskError as error:
                errors.append(error)
            bar.update((n + 1) / len(pairs))
    errors += _misfits(images, pairs) if not errors else []
    if errors:
        raise ManyErrors(f"{len(errors)} of {len(pairs)} pairs cannot be used:", errors,
                         fix="mend or remove them and run the command again")
    kind, reason = (settings.kind, "as told") if settings.kind else infer_kind(pixels, per_image)
    first = images[0]
    spacing = dict(first.spacing) if first.spacing and all(i.spacing for i in images) else None
    return Facts(tuple(i.size for i in images), first.axes, first.channels, str(first.array.dtype), spacing,
                 first.channel_names, dict(sorted(pixels.items())), hashes, kind, reason)


def _inspect(pair: Pair) -> tuple[Image, list[int], list[int]]:
    """The image without its pixels (a view of none of them), and its label values with their counts."""
    image, labels = read_image(pair.image), read_label_values(pair.labels)
    if image.size != labels.size:
        raise LabelsError(f"the mask has size {labels.size}, the image {image.size}", where=pair.labels,
                          fix="export the mask at the image's full size")
    values, counts = np.unique(labels.array, return_counts=True)
    if len(values) > 4096:
        raise LabelsError(f"{len(values)} distinct values: a grey image rather than a mask?", where=pair.labels)
    hollow = np.broadcast_to(np.zeros((), image.array.dtype), image.array.shape)
    return replace(image, array=hollow), [int(v) for v in values], [int(c) for c in counts]


def _misfits(images: Sequence[Image], pairs: Sequence[Pair]) -> list[BiomaskError]:
    """Images whose axes or channels differ from those of the majority."""
    usual, _ = Counter((i.axes, i.channels) for i in images).most_common(1)[0]
    return [ReadError(f"has axes {i.axes} and {i.channels} channel(s), the others {usual[0]} and {usual[1]}", where=p.image,
                      fix="train on images of one kind")
            for i, p in zip(images, pairs, strict=True) if (i.axes, i.channels) != usual]


def infer_kind(pixels: Counter[int] | dict[int, int], per_image: Sequence[frozenset[int]]) -> tuple[LabelKind, str]:
    """(kind, reason) from the values found; `per_image` holds each image's non-zero values.

    Classes recur from image to image; object ids count up in each image and differ in how far they get.
    """
    values = sorted(v for v in pixels if v != 0)
    if len(values) <= 2:
        return "classes", f"the values are {sorted(pixels)}"
    runs = [s for s in per_image if s]
    counting = sum(s == frozenset(range(1, len(s) + 1)) for s in runs) >= 0.8 * len(runs)
    if len(values) > MOST_CLASSES or (counting and len({len(s) for s in runs}) > 2):
        return "instances", f"{len(values)} values, and each image has its own count of them (up to {max(values)})"
    return "classes", f"{len(values)} values recur from image to image"


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
