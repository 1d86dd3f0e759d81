"""Which images each training learns from, and which ones it is judged by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biomask.comparison.options import CompareOptions
from biomask.data.dataset import Dataset
from biomask.data.layouts import find_layout
from biomask.data.pairing import Pair
from biomask.data.understand import split_planes
from biomask.errors import InputError, UsageError
from biomask.training.folds import fold_splits
from biomask.words import count

#: Up to so many images, or groups, each is left out once; of more, there are so many folds.
TINY, USUAL_FOLDS = 6, 3


@dataclass(frozen=True)
class TestSplit:
    """Names of the images of one split, as in `Pair.name`."""

    __test__ = False  # no test of pytest's
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """All splits of a comparison; every image is judged at most once."""

    splits: tuple[TestSplit, ...]
    says: str


def test_pairs(data: str | Path, dataset: Dataset, masks: str | Path | None) -> list[Pair]:
    """Labelled images of the part "test", a pair a plane where planes are images."""
    layout, errors = split_planes(find_layout(Path(data), masks), dataset.settings)
    if errors:
        raise errors[0]
    return [p for p in layout.labelled if p.part == "test"]


def choose_splits(data: str | Path, dataset: Dataset, options: CompareOptions) -> Splits:
    """As the options say; else the data's own test part; else each image once for few, or three folds.

    Images of the part "validation" are trained with. Raises UsageError for more folds than images or groups.
    """
    names = [p.name for p in dataset.pairs]
    if options.splits is not None:
        return read_splits(Path(options.splits), names)
    tested = test_pairs(data, dataset, options.masks) if options.folds is None else []
    if tested:
        return Splits((TestSplit(tuple(names), tuple(p.name for p in tested)),),
                      f"trained on {count(len(names), 'image')}, judged by the {len(tested)} of the data's test part")
    groups = dataset.facts.groups or tuple(names)
    units = len(set(groups))
    if units < 2:
        raise UsageError("there is one image, or one group of them: nothing is left to judge by",
                         fix="label more images, or say that they are independent: --groups none")
    folds = units if options.folds == "loo" or (options.folds is None and units <= TINY) else options.folds or USUAL_FOLDS
    found = fold_splits(names, dataset.facts.groups or None, int(folds), 0)
    splits = tuple(TestSplit(tuple(names[i] for i in s.training), tuple(names[i] for i in s.validation)) for s in found)
    what = "groups of images" if units < len(names) else "images"
    says = f"each of {units} {what} left out once" if folds == units else (
        f"{folds} folds over {len(names)} images" + (f" in {units} groups that are never split" if units < len(names) else ""))
    return Splits(splits, says)


def read_splits(path: Path, names: Sequence[str]) -> Splits:
    """nnU-Net's splits_final.json: a list of {"train": [...], "val": [...]}; its names may lack folders.

    Raises InputError for another content, names that are not there, and images that are judged twice.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        folds = [(list(map(str, f["train"])), list(map(str, f["val"]))) for f in content]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"is not nnU-Net's splits_final.json ({error})", where=path,
                         fix='expected [{"train": [names], "val": [names]}, …]') from error
    known = {n: n for n in names} | {n.rsplit("/", 1)[-1]: n for n in names}
    strange = sorted({n for fold in folds for part in fold for n in part if n not in known})
    if strange or not folds:
        raise InputError(f"names {count(len(strange), 'image')} not in the data: {', '.join(strange[:5])}" if strange else
                         "holds no fold", where=path, fix="names are those of the image files without suffix")
    splits = tuple(TestSplit(tuple(known[n] for n in train), tuple(known[n] for n in test)) for train, test in folds)
    judged = [n for s in splits for n in s.test]
    if len(set(judged)) < len(judged) or any(not s.train or not s.test or set(s.train) & set(s.test) for s in splits):
        raise InputError("has an image that is judged twice, or trained and judged with, or an empty part", where=path,
                         fix="every image may be in one val list, and not in the train list beside it")
    return Splits(splits, f"{len(splits)} folds of {path.name}")


def some_of(split: TestSplit, count: int, seed: int) -> TestSplit:
    """The split with so many of its training images, drawn by the seed; those of fewer are among those of more."""
    order = np.random.Generator(np.random.Philox(key=[seed, 0x5E7])).permutation(len(split.train))
    return TestSplit(tuple(split.train[int(i)] for i in sorted(order[:count])), split.test)
