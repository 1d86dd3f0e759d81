"""`objects.csv`: one row an object, of many images one after the other."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from biomask.errors import SizeError
from biomask.instances.measure import channel_columns, measure_objects


def object_columns(dims: int, *, micrometres: bool = False, classes: bool = False, probability: bool = False, channels: int = 0,
                   channel_names: Sequence[str] = ()) -> list[str]:
    """The columns of `measure_objects`, in its order, for images of `dims` 2 or 3.

    micrometres, classes, probability: whether any of the images has a spacing, classes, probabilities.
    """
    none = np.zeros((1,) * dims, np.uint8)
    columns = list(measure_objects(none, classes={} if classes else None, probability=none if probability else None,
                                   spacing=dict.fromkeys("zyx", 1.0) if micrometres else None))
    at = columns.index("touching_border")
    return columns[:at] + channel_columns(channels, channel_names) + columns[at:]


class ObjectsTable:
    """Writes rows of objects into an open text file; the header row comes first, also of a table without objects, unless the file
    has it already (header=False).

    `image` is the first column, the others are as given. An empty cell is a value that is not defined or not known. True
    and False are 1 and 0; other than whole numbers have 8 significant digits. Give it a file that was opened with newline="",
    encoding="utf-8" and errors="backslashreplace", and is moved into place once complete (`biomask.io.atomic.writing`).
    """

    def __init__(self, file: TextIO, columns: Sequence[str], *, header: bool = True) -> None:
        if len({"image", *columns}) != len(columns) + 1:
            raise SizeError(f"columns {list(columns)} are not distinct")
        self.columns = tuple(columns)
        self.rows = 0
        self._writer = csv.writer(file, lineterminator="\n")
        if header:
            self._writer.writerow(["image", *self.columns])

    def write(self, image: str, measured: Mapping[str, npt.NDArray[Any]]) -> None:
        """One row for each object of an image. Columns that it lacks stay empty; raises SizeError for those that the table lacks,
        rather than drop them, and for columns of different lengths."""
        strange = [name for name in measured if name not in self.columns]
        if strange:
            raise SizeError(f"columns {strange} are not in the table", where=image)
        lengths = {len(values) for values in measured.values()}
        if len(lengths) > 1:
            raise SizeError(f"columns have {sorted(lengths)} rows", where=image)
        count = lengths.pop() if lengths else 0
        cells = [_cells(measured[name]) if name in measured else [""] * count for name in self.columns]
        self._writer.writerows([image, *row] for row in zip(*cells, strict=True))
        self.rows += count


def _cells(values: npt.NDArray[Any]) -> list[Any]:
    values = np.asarray(values)
    if values.dtype.kind != "f":
        return list((values.astype(int) if values.dtype == bool else values).tolist())
    return ["" if not np.isfinite(v) else np.format_float_positional(v, precision=8, fractional=False, trim="-")
            for v in values.astype(np.float64)]


def objects_csv(rows: Mapping[str, Mapping[str, npt.NDArray[Any]]]) -> str:
    """The text of a table of images, by name, whose columns are those of the first that has each."""
    from io import StringIO

    text = StringIO(newline="")
    table = ObjectsTable(text, list(dict.fromkeys(name for measured in rows.values() for name in measured)))
    for image, measured in rows.items():
        table.write(image, measured)
    return text.getvalue()
