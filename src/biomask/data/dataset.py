"""A labelled data set: pairs checked once, read when needed, kept while memory allows."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.data.appearance import Appearance, appearance_of
from biomask.data.encoding import Encoding
from biomask.data.facts import Inspected
from biomask.data.groups import groups_for
from biomask.data.input_range import InputRange
from biomask.data.mistakes import channels_of, some
from biomask.data.pairing import IMAGE_FOLDERS, MASK_FOLDERS, Pair
from biomask.data.similar import Signature, find_matches, signature
from biomask.data.truth import Raw, read_truth
from biomask.data.understand import Understood, raise_errors, understand
from biomask.errors import LabelsError, UsageError
from biomask.image import Image
from biomask.io import read_image
from biomask.labels import LabelKind, Labels, Legend
from biomask.machine import free_memory
from biomask.progress import Progress, Silent
from biomask.stored import GREY
from biomask.transforms import Normalization
from biomask.transforms.normalize import apply
from biomask.words import count

if TYPE_CHECKING:
    from biomask.recipe import DataSettings

#: Share of the free memory for images that were read and may be needed again.
CACHE_SHARE = 0.25

#: Places of each class that are kept of an image, to lay patches on.
MOST_PLACES = 4096

Item = tuple[npt.NDArray[np.float32], npt.NDArray[Any], npt.NDArray[np.bool_] | None]


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
    groups: tuple[str, ...] = ()
    """The group of each image."""
    groups_reason: str = ""
    """How the groups are known; empty where every image is one."""
    looks: tuple[str, ...] = ()
    """What kind of image each is, as in `ImageFacts.look`."""
    inputs: InputRange | None = None
    """The range of all images, for comparison with those that are predicted; None where they hold no finite values."""

    @property
    def weights(self) -> tuple[float, ...]:
        """How often each image is drawn, relative to others: by the root of its pixels, so that a few large ones do not crowd
        out many small ones, and over the root of how many images look like it, so that rare kinds are learnt too."""
        alike = Counter(self.looks)
        kinds = self.looks or ("",) * len(self.sizes)
        return tuple(float(np.prod(size)) ** 0.5 / max(1, alike[kind]) ** 0.5 for size, kind in zip(self.sizes, kinds, strict=True))


@dataclass
class Dataset:
    """Images with their labels.

    `item(i)` gives a normalised image and its labels; the least recently used are dropped beyond `cache_bytes`.
    """

    pairs: Sequence[Pair]
    facts: Facts
    encoding: Encoding
    settings: DataSettings
    """As given, completed by what the data say."""
    normalization: Normalization
    inspected: Sequence[Inspected] = ()
    """What is kept of each image and its labels."""
    cache_bytes: int = 2**30
    _cache: OrderedDict[int, Item] = field(default_factory=OrderedDict, repr=False)
    _cached: int = 0
    _places: dict[int, dict[int, npt.NDArray[np.int32]]] = field(default_factory=dict, repr=False)
    _scenes: OrderedDict[int, tuple[Any, int]] = field(default_factory=OrderedDict, repr=False)
    _scene_bytes: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def legend(self) -> Legend:
        """Class value ↔ name ↔ colour."""
        return self.encoding.legend

    def image(self, i: int) -> Image:
        """The image with the channels and planes selected, in the dtype of its file."""
        return read_image(self.pairs[i].image, self.settings.selection, self.pairs[i].plane)

    def labels(self, i: int) -> Labels:
        """The labels, with class ids."""
        pair = self.pairs[i]
        raws = read_truth(pair, self.facts.sizes[i], self.settings)
        found = self.encoding.labels(raws, pair.name, pair.truth.where if pair.truth else pair.image)
        if found.kind == "soft":
            found = replace(found, array=self.encoding.class_ids(found), kind="classes")
        return _without_empty_planes(found, raws) if self.settings.unlabelled == "ignore" else found

    def item(self, i: int) -> Item:
        """(normalised image (C, *S), labels (L, *S), ignore (*S) or None).

        Labels of classes: uint8 class ids, L = 1. Of multilabel: uint8 0 or 1, one a structure. Of instances: int32 ids and
        classes of objects as positions in the legend, L = 2.
        """
        if i in self._cache:
            self._cache.move_to_end(i)
            return self._cache[i]
        image, labels = self.image(i), self.labels(i)
        entry = (apply(image.array, *self.normalization.statistics(image.array)), channels_of_labels(labels), labels.ignore)
        self._cache[i] = entry
        self._cached += _bytes(entry)
        while self._cached > self.cache_bytes and len(self._cache) > 1:
            self._cached -= _bytes(self._cache.popitem(last=False)[1])
        return entry

    def kept(self, i: int, make: Callable[[], tuple[Any, int]]) -> Any:
        """What a detector makes of image i, kept like items: make() gives it with its size in bytes."""
        if i not in self._scenes:
            self._scenes[i] = make()
            self._scene_bytes += self._scenes[i][1]
        self._scenes.move_to_end(i)
        while self._scene_bytes > self.cache_bytes and len(self._scenes) > 1:
            self._scene_bytes -= self._scenes.popitem(last=False)[1][1]
        return self._scenes[i][0]

    def places(self, i: int) -> dict[int, npt.NDArray[np.int32]]:
        """Pixels (N, D) of each class or structure but the background, at most `MOST_PLACES` spread evenly over the image."""
        if i not in self._places:
            _, labels, ignore = self.item(i)
            masks = {k + 1: m > 0 for k, m in enumerate(labels)} if self.facts.kind == "multilabel" else {
                int(k): labels[-1] == k for k in np.unique(labels[-1]) if k > 0}
            found = {}
            for k, mask in masks.items():
                places = np.argwhere(mask if ignore is None else mask & ~ignore).astype(np.int32)
                if len(places):
                    found[k] = places[:: -(-len(places) // MOST_PLACES)].copy()
            self._places[i] = found
        return self._places[i]

    def subset(self, indices: Sequence[int]) -> Dataset:
        """The same data set with some of its pairs."""
        facts = replace(self.facts, sizes=tuple(self.facts.sizes[i] for i in indices),
                        groups=tuple(self.facts.groups[i] for i in indices) if self.facts.groups else (),
                        looks=tuple(self.facts.looks[i] for i in indices) if self.facts.looks else ())
        inspected = [self.inspected[i] for i in indices] if self.inspected else ()
        return replace(self, pairs=[self.pairs[i] for i in indices], facts=facts, inspected=inspected, _cache=OrderedDict(),
                       _cached=0, _places={}, _scenes=OrderedDict(),
                       _scene_bytes=0)


def channels_of_labels(labels: Labels) -> npt.NDArray[Any]:
    """Labels as `Dataset.item` gives them, (L, *S)."""
    if labels.kind == "multilabel":
        return labels.array.astype(np.uint8, copy=False)
    if labels.kind != "instances":
        return labels.array.astype(np.uint8, copy=False)[None]
    ids = labels.array
    if labels.classes is None or len(labels.legend) <= 2:
        return np.stack([ids, (ids != 0).astype(np.int32)])
    values, flat = np.unique(ids, return_inverse=True)
    table = np.array([labels.classes.get(int(v), 0) if v else 0 for v in values], np.int32)
    return np.stack([ids, table[flat].reshape(ids.shape)])


def _bytes(entry: Item) -> int:
    return sum(a.nbytes for a in entry if a is not None)


def _without_empty_planes(labels: Labels, raws: Sequence[Raw]) -> Labels:
    """Planes of a volume without any label are unknown."""
    if len(labels.size) < 3:
        return labels
    empty = np.logical_and.reduce([~(np.asarray(r.array) > 0).reshape(*r.array.shape[:-2], -1).any(axis=-1) for r in raws
                                   if r.form != "colours"])
    if not np.any(empty):
        return labels
    ignore = np.zeros(labels.size, bool) if labels.ignore is None else labels.ignore.copy()
    ignore[empty] = True
    return replace(labels, ignore=ignore)


def open_dataset(folder: str | Path, settings: DataSettings, normalization: Normalization, *, masks: str | Path | None = None,
                 progress: Progress | None = None) -> Dataset:
    """Pair, read and check every file of a data folder once; what is for testing is not read.

    masks: as in `find_layout`. Raises ManyErrors listing all that is wrong, LabelsError when the labels are not of a kind
    that can be told, and UsageError for settings that are not followed yet.
    """
    if settings.spacing is not None:
        raise UsageError("data.spacing is not followed yet", fix="leave data.spacing out and prepare the images alike")
    progress = progress or Silent()
    found = understand(folder, settings, progress, masks=masks, parts=(None, "train", "validation"), prober=lambda _: _seen)
    raise_errors(found, folder)
    for note in found.notes:
        progress.say(note)
    encoding, good = found.encoding, _used(found, progress)
    if not found.layout.pairs:
        raise LabelsError("all images are in the part test, which is not trained on", where=folder,
                          fix="give the folder with the images to train on, or rename it if that is this one")
    if encoding is None or not good:
        raise LabelsError("holds no labelled images", where=folder, fix=_advice(Path(folder)))
    return Dataset([i.pair for i in good], _facts(good, encoding, found.settings), encoding, found.settings, normalization,
                   good, _cache_bytes())


def _advice(folder: Path) -> str:
    """What may have been meant by a folder without labels."""
    beside = [p.name for p in folder.absolute().parent.iterdir() if p.is_dir() and p.name.casefold() in MASK_FOLDERS]
    if folder.name.casefold() in IMAGE_FOLDERS and beside:
        return f"give the folder above, {folder.absolute().parent}, or say --masks {folder.absolute().parent / beside[0]}"
    return f"say where the labels are with --masks FOLDER; 'biomask check {folder}' shows what was understood"


@dataclass(frozen=True)
class _Seen:
    """What is kept of an image beside its facts."""

    signature: Signature
    appearance: Appearance | None


def _seen(image: Image, raws: Sequence[Raw]) -> _Seen:
    return _Seen(signature(image.array), appearance_of(image))


def _used(found: Understood, progress: Progress) -> list[Inspected]:
    """The images that are trained on; those without labels are left out by name, or counted as background, as told."""
    settings = found.settings
    labelled = {p.name for p in found.layout.labelled}
    asked = {p.name for p in found.layout.unlabelled}
    good, left = list[Inspected](), list[str]()
    for item in found.survey.good:
        bare = item.pair.name not in labelled
        empty = bare or all(f.empty and f.form != "fractions" for f in item.labels)
        if bare and item.pair.name not in asked:
            continue  # a part without any labels
        if empty and settings.unlabelled == "ignore":
            left.append(item.pair.name)
        else:
            good.append(item)
    if left:
        progress.say(f"{count(len(left), 'image')} without labels left out (--unlabelled ignore): {some(left)}")
    return good


def _facts(good: Sequence[Inspected], encoding: Encoding, settings: DataSettings) -> Facts:
    first = good[0].image
    pixels: Counter[int] = Counter()
    for item in good:
        for facts in item.labels:
            pixels.update(facts.counts)
    spacing = dict(first.spacing) if first.spacing and all(i.image.spacing for i in good) else None
    names = first.channel_names if all(i.image.channel_names == first.channel_names for i in good) else ()
    groups, reason = groups_for([i.pair for i in good], settings.groups, lambda: find_matches([i.extra.signature for i in good]))
    looks = [i.extra.appearance for i in good if i.extra.appearance is not None]
    if settings.channels == (GREY,):  # as it may be decided after three equal channels were read
        looks = [look.of_grey() for look in looks]
    return Facts(tuple(i.image.size for i in good), first.axes, channels_of(good[0], settings), first.dtype, spacing, names,
                 dict(sorted(pixels.items())), {k: v for i in good for k, v in i.hashes.items()}, encoding.kind, encoding.reason,
                 tuple(groups), reason, tuple(i.image.look for i in good),
                 InputRange.of([i.image.size for i in good], [i.image.spacing for i in good], looks) if looks else None)




def _cache_bytes() -> int:
    """A quarter of the free memory, shared by the processes of this machine."""
    return int(free_memory() * CACHE_SHARE) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
