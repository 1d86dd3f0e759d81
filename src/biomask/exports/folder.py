"""A folder that `predict` wrote, read again: which files are whose, and what was recorded of them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path, PureWindowsPath
from typing import Any

from biomask.data.naming import normal
from biomask.data.pairing import index
from biomask.errors import BiomaskError, ReadError
from biomask.labels import Legend
from biomask.prediction.folder import OBJECTS_FILE, image_name
from biomask.prediction.record import JOURNAL
from biomask.stored import Plane

#: A line of objects.csv, by its columns.
Row = Mapping[str, str]

#: Columns of objects.csv that say which object it is; the others are numbers.
NAMES = ("image", "id", "class")


@dataclass(frozen=True)
class PredictedImage:
    """One image, and those of its files that are there."""

    name: str
    """As in run.json: path below the folder of images without suffix."""
    entry: Mapping[str, Any]
    """Of run.json."""
    masks: tuple[Path, ...]
    """One, or one a structure; none where one is missing."""
    labels: tuple[Path, ...]
    """The same of ids."""
    detections: Path | None = None
    """Of detectors, all objects that were found."""

    @property
    def file_name(self) -> str:
        """Path of the image below the folder of images, as `predict` names it."""
        return image_name(self.name, self.source, Plane(**self.entry["plane"]))

    @property
    def source(self) -> Path:
        """The image, where it was when it was predicted."""
        file = str(self.entry["file"])
        return Path(PureWindowsPath(file).name if PureWindowsPath(file).drive else file)  # predicted on Windows, read elsewhere


@dataclass(frozen=True)
class PredictedFolder:
    """All of them."""

    out: Path
    legend: Legend
    kind: str
    structures: tuple[str, ...]
    """Names of those that may overlap; empty for others."""
    images: tuple[PredictedImage, ...]
    strange: tuple[str, ...] = ()
    """Names of masks that run.json does not know."""

    @property
    def table(self) -> Path:
        """The measurements."""
        return self.out / OBJECTS_FILE

    @property
    def entries(self) -> int:
        """How many values a mask has; each structure has a mask of its own."""
        return 2 if self.structures else len(self.legend)

    def of_structure(self, name: str) -> PredictedFolder:
        """One structure alone."""
        k = self.structures.index(name)
        images = tuple(replace(i, masks=i.masks[k:k + 1], labels=i.labels[k:k + 1]) for i in self.images)
        legend = Legend((self.legend.entries[0], self.legend.entries[k + 1]))
        return replace(self, structures=(name,), images=images, legend=legend)


def is_predicted(folder: Path) -> bool:
    """Whether `predict` wrote a folder. Raises ReadError where it has masks and a run.json that cannot be read."""
    return _record(folder) is not None


def read_folder(out: Path) -> PredictedFolder:
    """What is there. Raises ReadError for a folder that `predict` did not write, or not to its end."""
    record = _record(out)
    if record is None:
        raise ReadError("is no folder that biomask predict wrote", where=out)
    try:
        legend, kind, entries = Legend.from_json(record["legend"]), str(record["kind"]), dict(record["images"])
    except (KeyError, TypeError, ValueError, BiomaskError) as error:
        raise _damaged(out) from error
    structures = tuple(e.name for e in legend)[1:] if kind == "multilabel" else ()
    masks, labels = (_files(out / part, structures) for part in ("masks", "labels"))
    images = tuple(PredictedImage(name, entry, _of(masks, name), _of(labels, name), _detections(out, name, entry))
                   for name, entry in entries.items())
    known = {normal(name) for name in entries}
    strange = tuple(name for name in (masks[0] if masks else ()) if name not in known)
    if strange and (out / JOURNAL).is_file():
        raise ReadError("biomask predict was stopped before it had written what is done", where=out / JOURNAL,
                        fix="run the same predict command again: it does what is missing")
    return PredictedFolder(out, legend, kind, structures, images, strange)


def _record(folder: Path) -> dict[str, Any] | None:
    """run.json of a folder of predictions; None of others."""
    file = folder / "run.json"
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if (folder / "masks").is_dir():
            raise _damaged(folder) from error
        return None
    if not isinstance(content, dict) or content.get("command") != "predict" or not isinstance(content.get("images"), dict):
        return None
    return content


def _damaged(folder: Path) -> ReadError:
    return ReadError("is damaged, so what is in this folder is not known", where=folder / "run.json",
                     fix="predict again into another folder; or move masks/ or labels/ elsewhere and convert that")


def _files(folder: Path, structures: tuple[str, ...]) -> list[dict[str, Path]]:
    """{name: file}, a dict a structure, whatever format a file was saved in again; empty where a folder is missing."""
    places = [folder / s for s in structures or ("",)]
    return [index(place) for place in places] if all(p.is_dir() for p in places) else []


def _of(files: list[dict[str, Path]], name: str) -> tuple[Path, ...]:
    found = [each[normal(name)] for each in files if normal(name) in each]
    return tuple(found) if len(found) == len(files) else ()


def _detections(out: Path, name: str, entry: Mapping[str, Any]) -> Path | None:
    path = out / "detections" / f"{name}.json"
    return path if entry.get("detections") is not None and path.is_file() else None


def rows_of(folder: PredictedFolder, wanted: set[str]) -> Iterator[tuple[str, list[Row] | None]]:
    """(image, its objects), image by image as they lie in objects.csv; those without objects last. None: there is no table.

    Raises ReadError for a damaged table.
    """
    left = set(wanted)
    if not folder.table.is_file():
        yield from ((i.name, None) for i in folder.images if i.name in left)
        return
    try:
        with folder.table.open(newline="", encoding="utf-8", errors="backslashreplace") as file:
            lines = csv.DictReader(file)
            if not set(NAMES) <= set(lines.fieldnames or ()):
                raise _no_table(folder.table, 1)
            for name, rows in groupby(lines, key=lambda row: str(row["image"])):
                if name in left:
                    left.discard(name)
                    yield name, [_checked(row, folder.table, lines) for row in rows]
    except csv.Error as error:
        raise _no_table(folder.table, 0) from error
    yield from ((i.name, []) for i in folder.images if i.name in left)


def _checked(row: dict[str, str], path: Path, lines: csv.DictReader[str]) -> Row:
    """A line whose numbers are some. Raises ReadError."""
    try:
        if int(row["id"]) > 0 and row["class"] is not None and all(
                not v or math.isfinite(float(v)) for column, v in row.items() if column not in NAMES):
            return row
    except (TypeError, ValueError):
        pass
    raise _no_table(path, lines.line_num)


def _no_table(path: Path, line: int) -> ReadError:
    where = f"line {line} is" if line else "is"
    return ReadError(f"{where} not as biomask predict wrote it", where=path,
                     fix="put the old table back, or move it elsewhere: objects have no measurements then")
