"""NIfTI (`.nii`, `.nii.gz`): medical volumes with voxel size and place in the scanner."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import ReadError, WriteError
from biomask.io.recent import LARGEST, Recent
from biomask.machine import free_memory
from biomask.stored import UNKNOWN, Key, Stored

#: What NIfTI's dimensions are, in its order; the fourth is time only where the header says so, and then a set of values.
LETTERS = "XYZTC"

#: µm of NIfTI's codes for units of length (low 3 bits: none, metre, millimetre, micrometre); none is taken as millimetre.
MICROMETRES = {0: 1e3, 1: 1e6, 2: 1e3, 3: 1.0}

#: NIfTI's codes for seconds, milliseconds and microseconds (high bits).
TIMES = (8, 16, 24)

#: Packed volumes of which a plane was read, and those that were decoded for the second.
_ASKED, _VOLUMES = Recent(8), Recent(8)

#: The integers and floats that NIfTI holds.
DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")


def read(path: Path, *, as_labels: bool = False) -> Stored:
    """Axes "ZYX", with channels, "T" or "Q" before them: NIfTI's order reversed, which is its order in memory.

    Slope and intercept are applied where there are any, and the values are floats then. Spacing is in µm, the affine in mm,
    whatever the unit of the file.
    """
    image = _open(path)
    header, dtype = image.header, image.get_data_dtype()
    if "xyzt_units" not in header:
        raise ReadError(f"is not NIfTI but {type(image).__name__}", where=path, fix="save it as NIfTI: .nii or .nii.gz")
    if dtype.names:
        raise ReadError(f"holds colours ({', '.join(dtype.names)}), not one value a voxel", where=path,
                        fix="save each colour as a volume, or the slices as PNG")
    if dtype.kind == "c":
        raise ReadError(f"holds complex numbers ({dtype})", where=path, fix="save their magnitude")
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 2 or any(n > 1 for n in shape[len(LETTERS):]):
        raise ReadError(f"has shape {shape}, which is no image or volume", where=path, fix="save 2 to 5 dimensions")
    units = int(header["xyzt_units"])
    letters = (LETTERS if units & 56 in TIMES else LETTERS.replace("T", UNKNOWN)) + UNKNOWN * len(shape)
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
    micrometres = MICROMETRES.get(units & 7, 0.0)
    spacing = {a.lower(): float(size) * micrometres for a, size in zip("XYZ", header.get_zooms(), strict=False) if size > 0}
    affine = np.array(image.affine, np.float64)
    affine[:3] *= (micrometres or 1e3) / 1e3
    return Stored(path, shape[::-1], np.dtype(np.result_type(dtype, np.float32) if scaled else dtype).newbyteorder("="),
                  letters[: len(shape)][::-1], partial(_load, path), spacing, affine=affine)


def _open(path: Path) -> Any:
    """The file in nibabel, whose remarks on odd headers are no news to a user; damage raises an error."""
    import nibabel
    from nibabel.imageglobals import logger

    logger.setLevel(logging.CRITICAL)
    return nibabel.load(path, mmap=False)


def _load(path: Path, key: tuple[Key, ...]) -> npt.NDArray[Any]:
    """array[key] of the reversed axes.

    A packed volume must be unpacked up to the plane that is wanted, so when a second one is it is kept whole.
    """
    if path.suffix.lower() == ".gz" and not all(k == slice(None) for k in key) and _asked_before(path):
        volume = _VOLUMES.get(path, lambda: _small(path), size=lambda a: 0 if a is None else a.nbytes)
        if volume is not None:
            return np.array(volume[key])
    return _decode(_open(path), key)


def _asked_before(path: Path) -> bool:
    times: list[None] = _ASKED.get(path, list)
    times.append(None)
    return len(times) > 1


def _small(path: Path) -> npt.NDArray[Any] | None:
    """All of a volume; None where it is too large to be kept."""
    image = _open(path)
    size = math.prod(image.shape) * max(8, image.get_data_dtype().itemsize)
    return _decode(image, ()) if size <= min(LARGEST, free_memory() // 4) else None


def _decode(image: Any, key: tuple[Key, ...]) -> npt.NDArray[Any]:
    """array[key] of the reversed axes, from no more of the file than is needed."""
    data, dtype = image.dataobj, np.dtype(image.get_data_dtype()).newbyteorder("=")
    full = (*key, *[slice(None)] * (len(image.shape) - len(key)))
    array: npt.NDArray[Any] = np.asanyarray(data if all(k == slice(None) for k in full) else data[full[::-1]])
    scaled = (data.slope, data.inter) != (1, 0)
    return np.asarray(array.T, np.result_type(dtype, np.float32) if scaled else dtype)


def write(path: Path, array: npt.NDArray[Any], spacing: Mapping[str, float] | None,
          affine: npt.NDArray[np.float64] | None = None) -> None:
    """(C, *S) as NIfTI in millimetres; channels become the fifth dimension, a plane is a volume of one slice.

    affine: from (x, y, z) in pixels to millimetres; its voxel size goes before `spacing`.
    Raises WriteError for what NIfTI cannot hold: types that it lacks, and an unknown voxel size.
    """
    import nibabel

    if array.dtype.name not in DTYPES:
        raise WriteError(f"NIfTI holds no {array.dtype}", where=path, fix="write .tif, which holds every type")
    if affine is None and spacing is None:
        raise WriteError("NIfTI states a voxel size, and here it is unknown", where=path,
                         fix="write .tif or .npy, or give a spacing")
    if affine is None and spacing is not None:
        affine = np.diag([spacing["x"] / 1e3, spacing["y"] / 1e3, spacing.get("z", 1e3) / 1e3, 1.0])
    stored = array.T if array.ndim == 4 else array.T[:, :, None]
    stored = stored[..., 0] if array.shape[0] == 1 else stored[:, :, :, None]
    image = nibabel.Nifti1Image(np.ascontiguousarray(stored), affine, dtype=array.dtype)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    nibabel.save(image, path)
