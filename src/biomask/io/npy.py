"""`.npy`: bare arrays of numpy. Never a pickle."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import ReadError
from biomask.stored import UNKNOWN, Key, Stored

#: Dimensions that an image may have.
DIMENSIONS = (2, 5)


def read(path: Path, *, as_labels: bool = False) -> Stored:
    """Axes "YX"; "YXS" for uint8 with a last axis of 3, as cameras and viewers have it; otherwise open: "QYX", "QQYX".

    Raises ReadError for Python objects, which would be run to be read, and for records, texts and complex numbers.
    """
    shape, dtype = _header(path)
    if dtype.hasobject:
        raise ReadError("holds Python objects, which are not opened: they can hold any program", where=path,
                        fix="save a plain array: np.save(FILE, np.asarray(a, dtype=np.float32)), one file an image")
    if dtype.kind not in "buif":
        raise ReadError(f"holds {dtype}, not pixels", where=path, fix="save integers or floats; of complex numbers the magnitude")
    if not DIMENSIONS[0] <= len(shape) <= DIMENSIONS[1]:
        raise ReadError(f"has shape {shape}: {len(shape)} dimensions are no image", where=path,
                        fix="save one image a file, with 2 to 5 dimensions")
    axes = UNKNOWN * (len(shape) - 2) + "YX"
    if len(shape) == 3 and shape[-1] == 3 and dtype == np.uint8:
        axes = "YXS"
    return Stored(path, shape, dtype.newbyteorder("="), axes, partial(_load, path))


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """(shape, dtype); the file is as long as they need."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        needed, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
    if there < needed and not dtype.hasobject:
        raise ReadError(f"breaks off: {there} of {needed} bytes of shape {shape} are there", where=path,
                        fix="copy or export it again")
    return shape, dtype


def _load(path: Path, key: tuple[Key, ...]) -> npt.NDArray[Any]:
    """array[key], as a copy: what stays mapped would crash where the file is changed later."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.array(mapped[key], mapped.dtype.newbyteorder("="))


def write(path: Path, array: npt.NDArray[Any]) -> None:
    """(C, *S) as .npy: one channel as (*S), 8-bit colours as (Y, X, 3), others as they are; read back with --axes."""
    if array.shape[0] == 1:
        array = array[0]
    elif array.ndim == 3 and array.shape[0] == 3 and array.dtype == np.uint8:
        array = np.moveaxis(array, 0, -1)
    with path.open("wb") as file:  # given a name, numpy would add .npy to a temporary one
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
