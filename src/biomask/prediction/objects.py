"""Objects of an image and their rows of `objects.csv`."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
import numpy.typing as npt

from biomask.errors import DiskFullError, InputError
from biomask.image import Image
from biomask.instances import class_of_objects, components, label_instances
from biomask.instances.measure import Columns, measure_objects
from biomask.instances.table import ObjectsTable, object_columns
from biomask.io.files import writing
from biomask.prediction.rescale import rescaled_thresholds

if TYPE_CHECKING:
    from biomask.checkpoint import Model


@dataclass(frozen=True)
class Found:
    """Objects of one image, or of one structure in it."""

    ids: npt.NDArray[np.int32]
    """(*S), 0 = background."""
    classes: npt.NDArray[np.int64]
    """(n + 1,), the class of each, as a position in the legend."""
    probability: npt.NDArray[np.float32] | None
    """(*S), that a pixel belongs to any object; None where it was not kept."""
    scores: npt.NDArray[np.float32] | None = None
    """(n + 1,), how sure a detector was of each; None of other models."""


def find_objects(model: Model, decided: npt.NDArray[np.uint8], maps: npt.NDArray[np.float32] | None,
                 factors: Sequence[float] | None = None) -> list[Found]:
    """Objects of an image; one entry a structure for multilabel models.

    decided, maps: as `biomask.prediction.maps` gives them. factors: what the image was resampled by, so that what was tuned in
    the training's pixels holds in those of the image. Of models that were not trained on objects they are the connected
    pieces of each class.
    """
    task = model.task
    if task.kind == "multilabel":
        found = []
        for k, mask in enumerate(decided):
            ids, classes = components(mask > 0)
            found.append(Found(ids, np.where(classes > 0, k + 1, 0), None if maps is None else maps[k]))
        return found
    if task.kind == "instances" and maps is not None:
        thresholds, spacing = model.thresholds, model.header.spacing
        if factors is not None:
            thresholds, spacing = rescaled_thresholds(thresholds, factors, spacing)
        ids = label_instances(maps, thresholds, target=task.target, spacing=spacing)
        return [Found(ids, class_of_objects(ids, maps, task.entries), 1 - maps[0])]
    ids, classes = components(decided)
    return [Found(ids, classes, None if maps is None else 1 - maps[0])]


def measure_found(found: Sequence[Found], image: Image, model: Model) -> list[Columns]:
    """Measurements of objects, a table a structure."""
    names = tuple(e.name for e in model.legend)
    tables = [measure_objects(f.ids, image=image.array, classes=f.classes, probability=f.probability, spacing=image.spacing,
                              names=names, channel_names=_channel_names(model)) for f in found]
    for table, f in zip(tables, found, strict=True):
        if f.scores is not None:
            table["score"] = f.scores[table["id"]]
    return tables


def _channel_names(model: Model) -> tuple[str, ...]:
    """Of the training's channels, as which those of each image are taken: one table has one name for each."""
    header = model.header
    return header.channel_names if len(header.channel_names) == header.in_channels else ()


class ObjectsFile:
    """objects.csv of a folder of predictions: rows are added image by image, and those of earlier runs stay.

    Each image's rows are on the disk before the image counts as done; what a killed run left of others is dropped.
    """

    def __init__(self, path: Path, model: Model, *, micrometres: bool, probability: bool, done: Collection[str]) -> None:
        columns = object_columns(model.header.spatial_dims, micrometres=micrometres, classes=True, probability=probability,
                                 channels=model.header.in_channels, channel_names=_channel_names(model))
        columns += ["score"] if model.is_detector else []
        before = _columns_of(path) if path.is_file() else []
        columns += [c for c in before if c not in columns]
        with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            ObjectsTable(file, columns)
            if before:
                csv.writer(file, lineterminator="\n").writerows(_kept(path, before, columns, set(done)))
        self._file: TextIO = path.open("a", newline="", encoding="utf-8", errors="backslashreplace")
        self.path, self._table = path, ObjectsTable(self._file, columns, header=False)

    def add(self, name: str, tables: Sequence[Columns]) -> None:
        """The rows of one image. Raises DiskFullError."""
        try:
            for columns in tables:
                self._table.write(name, columns)
            self._file.flush()
        except OSError as error:
            raise DiskFullError("the disk is full", where=self.path, fix="free some space and run the command again") from error

    def close(self) -> None:
        """No more rows."""
        self._file.close()


def _columns_of(path: Path) -> list[str]:
    """The columns of an earlier run but `image`. Raises InputError for a file that is no such table."""
    with _opened(path) as file:
        first = next(csv.reader(file), [])
    if first[:1] != ["image"]:
        raise InputError("is not a table of biomask predict", where=path, fix="choose another -o")
    return first[1:]


def _kept(path: Path, before: Sequence[str], columns: Sequence[str], done: set[str]) -> Iterator[list[str]]:
    """The rows of images that are done, one at a time: all of a large run do not fit in memory."""
    place = {c: i + 1 for i, c in enumerate(before)}
    with _opened(path) as file:
        lines = csv.reader(file)
        next(lines)
        for line in lines:
            if len(line) == len(before) + 1 and line[0] in done:
                yield [line[0], *(line[place[c]] if c in place else "" for c in columns)]


def _opened(path: Path) -> TextIO:
    return path.open(newline="", encoding="utf-8", errors="backslashreplace")
