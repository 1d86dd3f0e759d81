"""A labelled data set: pairs checked once, read when needed, kept while memory allows."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.data.pairing import Pair, find_pairs
from biomask.errors import BiomaskError, LabelsError, ManyErrors, ReadError, UsageError
from biomask.image import Image
from biomask.io import read_image, read_label_values
from biomask.labels import LabelKind, Labels, Legend
from biomask.progress import Progress, Silent
from biomask.transforms import Normalization
from biomask.transforms.normalize import apply

if TYPE_CHECKING:
    from biomask.recipe import DataSettings

#: More values than this are taken for something else than classes, unless told.
MOST_CLASSES = 64

#: Class ids are held in 8 bits.
MOST_VALUES = 256

#: Share of the free memory for images that were read and may be needed again.
CACHE_SHARE = 0.25

#: More values in one image are no labels at all.
MOST_IDS = 4096

#: More values than this, each in one piece, are taken for objects even where they recur.
MOST_STRUCTURES = 8

#: Values over pieces from which on values count as one piece each; a few objects may be cut.
ONE_PIECE = 0.9


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
    cache_bytes: int = 2**30
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
        entry = (apply(image.array, *self.normalization.statistics(image.array)), labels.array.astype(np.uint8, copy=False),
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

    Raises ManyErrors listing every bad file, LabelsError when the labels are not of a kind that can be trained, and
    UsageError for settings that are not followed yet.
    """
    for key in ("channels", "spacing"):
        if getattr(settings, key) is not None:
            raise UsageError(f"data.{key} is not followed yet", fix=f"leave data.{key} out and prepare the images alike")
    pairs = find_pairs(folder)
    facts = _survey(pairs, settings, progress or Silent())
    values = [v for v in facts.class_pixels if v != settings.ignore]
    if facts.kind != "classes":
        raise LabelsError(f"the labels look like {facts.kind}: {facts.kind_reason}", where=folder,
                          fix="if the values are classes, say --labels classes; other kinds are not trained yet")
    if len(values) < 2:
        raise LabelsError(f"the only label value is {values}: there is nothing to tell apart", where=folder,
                          fix="a mask has at least two values, e.g. 0 for background and 255 for the object")
    if len(values) > MOST_VALUES:
        raise LabelsError(f"{len(values)} values are too many for classes, of which there can be {MOST_VALUES}", where=folder)
    strangers = sorted(set(values) - set(settings.legend)) if settings.legend else []
    if strangers:
        raise LabelsError(f"values {strangers[:10]} are not in data.legend {sorted(settings.legend or {})}", where=folder,
                          fix="name them in data.legend, or leave one of them out with --ignore VALUE")
    legend = Legend.of_values([*values, *(settings.legend or {})], settings.legend)
    return Dataset(pairs, facts, legend, settings.ignore, normalization, cache_bytes=_cache_bytes())


def _cache_bytes() -> int:
    """A quarter of the free memory, shared by the processes of this machine."""
    import psutil

    return int(psutil.virtual_memory().available * CACHE_SHARE) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@dataclass(frozen=True)
class _Inspected:
    """What is kept of a pair: its facts, not its pixels."""

    pair: Pair
    image: Image
    counts: dict[int, int]
    """Label value: pixels."""
    pieces: int
    """Connected regions of one value other than 0 and the ignored one."""


def _survey(pairs: Sequence[Pair], settings: DataSettings, progress: Progress) -> Facts:
    bad: dict[str, list[BiomaskError]] = {}
    good: list[_Inspected] = []
    hashes: dict[str, str] = {}
    with progress.bar("reading images and masks") as bar:
        for n, pair in enumerate(pairs):
            found = _inspect(pair, settings.ignore)
            if isinstance(found, _Inspected):
                good.append(found)
                hashes |= {f"{pair.name}:image": file_hash(pair.image), f"{pair.name}:labels": file_hash(pair.labels)}
            else:
                bad[pair.name] = found
            bar.update((n + 1) / len(pairs))
    for pair_name, error in _misfits(good):
        bad[pair_name] = [error]
    if bad:
        raise ManyErrors(f"{len(bad)} of {len(pairs)} pairs cannot be used:", [e for p in pairs for e in bad.get(p.name, [])],
                         fix="mend or remove them and run the command again")
    pixels = sum((Counter(i.counts) for i in good), Counter[int]())
    _check_mixture(good, settings)
    kind, reason = (settings.kind, "as told") if settings.kind else _kind_of(good, pixels, settings.ignore)
    first = good[0].image
    spacing = dict(first.spacing) if first.spacing and all(i.image.spacing for i in good) else None
    return Facts(tuple(i.image.size for i in good), first.axes, first.channels, str(first.array.dtype), spacing,
                 first.channel_names, dict(sorted(pixels.items())), hashes, kind, reason)


def _inspect(pair: Pair, ignore: int | None) -> _Inspected | list[BiomaskError]:
    """The facts of a pair, or what is wrong with each of its files."""
    errors: list[BiomaskError] = []
    read: list[Image] = []
    for reader, path in ((read_image, pair.image), (read_label_values, pair.labels)):
        try:
            read.append(reader(path))
        except BiomaskError as error:
            errors.append(error)
    if errors:
        return errors
    image, labels = read
    if image.size != labels.size:
        return [LabelsError(f"the mask has size {labels.size}, the image {image.size}", where=pair.labels,
                            fix="export the mask at the image's full size")]
    values, counts = np.unique(labels.array, return_counts=True)
    if len(values) > MOST_IDS:
        return [LabelsError(f"{len(values)} distinct values: a grey image rather than a mask?", where=pair.labels)]
    hollow = np.broadcast_to(np.zeros((), image.array.dtype), image.array.shape)
    found = {int(v): int(c) for v, c in zip(values, counts, strict=True)}
    pieces = _pieces(labels.array[0], ignore) if len(found.keys() - {0, ignore}) > 1 else 1
    return _Inspected(pair, replace(image, array=hollow), found, pieces)


def _pieces(values: npt.NDArray[Any], ignore: int | None) -> int:
    """Number of connected regions of one value, but 0 and the ignored one."""
    from skimage.measure import label

    known = values if ignore is None else np.where(values == ignore, 0, values)
    return int(label(known, background=0, return_num=True)[1])


def _misfits(good: Sequence[_Inspected]) -> list[tuple[str, BiomaskError]]:
    """Images whose axes or channels differ from those of the majority."""
    if not good:
        return []
    usual, _ = Counter((i.image.axes, i.image.channels) for i in good).most_common(1)[0]
    others = f"the others {usual[0]} and {usual[1]}"
    return [(i.pair.name, ReadError(f"has axes {i.image.axes} and {i.image.channels} channel(s), {others}", where=i.pair.image,
                                    fix="train on images of one kind"))
            for i in good if (i.image.axes, i.image.channels) != usual]


def _check_mixture(good: Sequence[_Inspected], settings: DataSettings) -> None:
    """Refuse masks of two programs: 0/1 in some files and 0/255 in the others would be trained as three classes."""
    one, full = ([i.pair.labels.name for i in good if set(i.counts) - {settings.ignore} == {0, value}] for value in (1, 255))
    others = any(set(i.counts) - {0, 1, 255, settings.ignore} or {1, 255} <= set(i.counts) - {settings.ignore} for i in good)
    if one and full and not others and settings.legend is None:
        raise LabelsError(f"{len(one)} masks hold 0 and 1 (such as {one[0]}), {len(full)} hold 0 and 255 (such as {full[0]})",
                          where=good[0].pair.labels.parent, fix="save all masks with the same two values")


def _kind_of(good: Sequence[_Inspected], pixels: Counter[int], ignore: int | None) -> tuple[LabelKind, str]:
    per_image = [frozenset(i.counts) - {0, ignore} for i in good]
    single = sum(len(v) for v in per_image) / max(1, sum(i.pieces for i, v in zip(good, per_image, strict=True) if v))
    return infer_kind({v: n for v, n in pixels.items() if v != ignore}, per_image, single)


def infer_kind(pixels: Mapping[int, int], per_image: Sequence[frozenset[int]], single: float = 1.0) -> tuple[LabelKind, str]:
    """(kind, reason) from the values found.

    pixels: value → number of pixels. per_image: each image's values but 0. single: values of all images over their
    connected regions, 1 where every value is one piece.

    Ids that differ between images and form one piece each are instances; more than 8 of them are instances
    even where the same ones recur, as tracked cells do.
    Raises LabelsError for many values in many pieces, which are neither.
    """
    values = sorted(v for v in pixels if v != 0)
    if len(values) <= 2:
        return "classes", f"the values are {sorted(pixels)}"
    differ = len(set(per_image)) > 1 and len(per_image) > 1
    if single >= ONE_PIECE and (differ or len(values) > MOST_STRUCTURES):
        where = "other ones in each image, " if differ else ""
        return "instances", f"{len(values)} values up to {values[-1]}, {where}each of them one piece"
    if len(values) > MOST_CLASSES:
        raise LabelsError(f"{len(values)} values, each in about {1 / single:.0f} pieces: a grey image rather than a mask?",
                          fix="save masks without compression losses or smoothing; if they are classes, say --labels classes")
    shown = sorted(pixels) if len(pixels) <= 12 else f"{len(values)} besides 0"
    return "classes", f"the values are {shown}" + (", in several pieces each" if differ else "")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
