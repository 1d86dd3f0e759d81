"""One way in and out for every format, with errors that name the file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import BiomaskError, MissingPathError, OutOfMemoryError, ReadError, WriteError
from biomask.image import Image
from biomask.io import nifti, npy, pictures, png, tiff_write, unread
from biomask.io.atomic import require_writable, write_text, writing
from biomask.io.formats import READERS, Reader, alike, reader_of
from biomask.io.listing import BYSTANDERS, exists, list_images, list_unread, relative_stem
from biomask.io.recent import Recent
from biomask.io.unread import UNREAD
from biomask.labels import Legend
from biomask.machine import free_memory
from biomask.stored import WHOLE, Key, Plane, Selection, Stored, select, stem_of, suffix_of

__all__ = ["BYSTANDERS", "IMAGE_WRITERS", "READERS", "UNREAD", "WRITERS", "Reader", "list_images", "list_unread", "open_stored",
           "read_image", "read_label_values", "read_labels_raw", "relative_stem", "require_writable", "stem_of", "suffix_of",
           "way_for", "write_image", "write_mask", "write_picture", "write_probabilities", "write_text", "writing"]

#: From this size on it is asked whether an image fits in memory before it is decoded.
LARGE = 2**28

#: Headers, which are asked for once a plane of a file that is split.
_HEADERS = Recent(8)

#: No float or integer of more bytes is read: nothing that follows could take it.
WIDEST = 8

MaskWriter = Callable[[Path, npt.NDArray[Any], Legend, Mapping[str, float] | None, npt.NDArray[np.float64] | None], None]

#: Writers of a mask by suffix: (path, values, legend, spacing, affine).
WRITERS: dict[str, MaskWriter] = {
    ".png": lambda path, values, legend, spacing, affine: png.write(path, values),
    ".npy": lambda path, values, legend, spacing, affine: npy.write(path, values[None]),
    ".nii": lambda path, values, legend, spacing, affine: nifti.write(path, values[None], spacing, affine),
    ".nii.gz": lambda path, values, legend, spacing, affine: nifti.write(path, values[None], spacing, affine),
    ".tif": lambda path, values, legend, spacing, affine: tiff_write.write_mask(path, values, legend, spacing),
    ".tiff": lambda path, values, legend, spacing, affine: tiff_write.write_mask(path, values, legend, spacing),
}

#: Writers of an image by suffix: (path, image); its array is (C, *S), never bool.
IMAGE_WRITERS: dict[str, Callable[[Path, Image], None]] = {
    ".png": lambda path, image: png.write(path, _plane(path, image)),
    ".bmp": lambda path, image: pictures.write_bmp(path, _plane(path, image)),
    ".npy": lambda path, image: npy.write(path, image.array),
    ".nii": lambda path, image: nifti.write(path, image.array, image.spacing, image.affine),
    ".nii.gz": lambda path, image: nifti.write(path, image.array, image.spacing, image.affine),
    ".tif": lambda path, image: tiff_write.write_image(path, image.array, image.axes, image.spacing, image.channel_names),
    ".tiff": lambda path, image: tiff_write.write_image(path, image.array, image.axes, image.spacing, image.channel_names),
}


def open_stored(path: str | Path, *, as_labels: bool = False) -> Stored:
    """Read the header of an image or label file; `load` reads pixels later, from the file as it is then.

    Raises ReadError, MissingPathError or OutOfMemoryError, never a library's own error; so does `load`.
    """
    path = Path(path)
    if not exists(path):
        raise MissingPathError("no such file", where=path, fix=f"its link leads to {path.readlink()}" if _is_link(path) else None)
    reader = reader_of(path)
    if reader is None:
        named = suffix_of(path) in UNREAD or path.suffix.lower() in UNREAD
        raise ReadError(f"the format {suffix_of(path) or 'without suffix'} is not read", where=path,
                        fix=way_for(path) + (f"; formats read: {', '.join(READERS)}" if named else ""))
    if path.is_dir():
        raise ReadError("is a folder, not a file", where=path, fix="give the files in it, and name folders without a suffix")
    with _reading(path):
        stored = _HEADERS.get(path, lambda: reader(path, as_labels=as_labels), of=as_labels)
    if stored.dtype.kind not in "buif" or stored.dtype.itemsize > WIDEST or min(stored.shape, default=0) < 1:
        raise ReadError(f"has dtype {stored.dtype} and shape {stored.shape}, not pixels", where=path,
                        fix="save it with integers or floats of 8 to 64 bits")
    return replace(stored, load=partial(_load, stored))


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except (OSError, ValueError):  # a name that no disk can hold
        return False


def way_for(path: Path) -> str:
    """What to do with a file of a format that is not read."""
    return unread.way_for(path, READERS)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a decoder raises becomes an error that names the file."""
    try:
        yield
    except BiomaskError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError("does not fit in memory", where=path,
                               fix="close other programs, or cut the image into parts") from error
    except OSError as error:
        if error.errno is not None:
            raise unread.unopened(path, error) from error
        raise unread.damage(path, _reason(error, path), alike(path)) from error
    except Exception as error:  # a decoder can raise anything on a damaged file
        raise unread.damage(path, _reason(error, path), alike(path)) from error


def _reason(error: Exception, path: Path) -> str:
    """What a library says, in one line and without the path, which the error names anyway."""
    said = str(error).strip().partition("\n")[0]
    return re.sub(r"""( (file|of|from|to))* *['"]?""" + re.escape(str(path)) + """['"]?""", "", said) or type(error).__name__


def _load(stored: Stored, key: tuple[Key, ...]) -> npt.NDArray[Any]:
    """The pixels, as the header promises them."""
    shape = np.broadcast_to(np.empty((), np.bool_), stored.shape)[key].shape
    _require_memory(math.prod(shape) * stored.dtype.itemsize, stored)
    with _reading(stored.path):
        array = stored.load(key)
        if array.shape != shape or array.dtype != stored.dtype:
            raise ReadError(f"is damaged: its header says {stored.dtype} of shape {shape}, its pixels are {array.dtype} of shape "
                            f"{array.shape}", where=stored.path, fix="copy or export it again")
    return array


def _require_memory(size: int, stored: Stored) -> None:
    """Raise OutOfMemoryError for more bytes than are free; a damaged or malicious header can claim any number."""
    if size < LARGE:
        return
    free = free_memory()
    if size > free:
        raise OutOfMemoryError(f"needs {size / 2**30:,.1f} GiB of memory ({stored.described}, {stored.dtype}), and "
                               f"{free / 2**30:,.1f} are free", where=stored.path,
                               fix="cut the image into parts, or use a lower resolution")


def read_image(path: str | Path, selection: Selection | None = None, plane: Plane = WHOLE) -> Image:
    """Read what is selected of an image file. Raises as `open_stored` and `select` do, never a library's own error."""
    return select(open_stored(path), selection or Selection(), plane)


def read_label_values(path: str | Path, selection: Selection | None = None, plane: Plane = WHOLE) -> Image:
    """Read a label file: one channel of values as stored; a palette gives its indices."""
    image = select(open_stored(path, as_labels=True), (selection or Selection()).of_labels(), plane)
    if image.channels == 3 and (image.array == image.array[:1]).all():
        return Image(image.array[:1], image.axes, image.name, image.spacing)
    if image.channels != 1:
        raise ReadError(f"has {image.channels} channels; a mask has one", where=path,
                        fix="save the mask as one grey or palette channel with a value per class")
    if image.array.dtype.kind == "f" and not _is_whole(image.array):
        raise ReadError("holds fractions or NaN, not class values", where=path)
    return image


def read_labels_raw(path: str | Path, selection: Selection | None = None,
                    plane: Plane = WHOLE) -> tuple[Image, npt.NDArray[np.uint8] | None]:
    """(label file as stored, RGB of each value or None).

    A palette gives its indices, with the colours beside them; colours are three channels. Whole numbers stored as floats
    become integers; fractions and NaN are left as they are.
    """
    stored = open_stored(path, as_labels=True)
    image = select(stored, (selection or Selection()).of_labels(), plane)
    if image.array.dtype.kind == "f" and _is_whole(image.array):
        fits = np.abs(image.array).max(initial=0) < 2**31
        image = replace(image, array=image.array.astype(np.int32 if fits else np.int64))
    return image, stored.palette if image.channels == 1 and image.array.dtype.kind in "ui" else None


def _is_whole(array: npt.NDArray[Any]) -> bool:
    """Whether floats are integers that int64 holds."""
    return bool(np.isfinite(array).all() and (array % 1 == 0).all() and (np.abs(array) < 2.0**63).all())


def write_image(path: str | Path, image: Image) -> None:
    """Write an image in the format of the suffix; names, spacing and affine as far as it has a place for them.

    True becomes 255. Raises WriteError for an array that the format cannot hold, and for a suffix without a writer.
    """
    path = Path(path)
    array = np.asarray(image.array)
    writer = _writer_of(path, IMAGE_WRITERS)
    with writing(path) as temporary:
        writer(temporary, replace(image, array=array.astype(np.uint8) * 255 if array.dtype == np.bool_ else array))


def _writer_of(path: Path, writers: Mapping[str, Any]) -> Any:
    writer = writers.get(suffix_of(path)) or writers.get(path.suffix.lower())
    if writer is None:
        raise WriteError(f"the format {suffix_of(path) or 'without suffix'} is not written", where=path,
                         fix=f"choose one of {', '.join(writers)}")
    return writer


def _plane(path: Path, image: Image) -> npt.NDArray[Any]:
    """(C, Y, X). Raises WriteError for anything else, and for channels that are no colours."""
    if image.spatial_dims != 2 or image.channels not in (1, 3):
        raise WriteError(f"one picture holds grey or three colours, not {image.channels} channels of {image.size}", where=path,
                         fix="write .tif, which holds channels and depth")
    return np.asarray(image.array[0] if image.channels == 1 and path.suffix == ".png" else image.array)


def write_mask(path: Path, values: npt.NDArray[Any], legend: Legend, spacing: Mapping[str, float] | None = None,
               affine: npt.NDArray[np.float64] | None = None) -> None:
    """Write class values (*S) in the format of the suffix. affine: of the NIfTI file that they belong to."""
    writer: MaskWriter = _writer_of(path, WRITERS)
    with writing(path) as temporary:
        writer(temporary, values, legend, spacing, affine)


def write_ids(path: Path, ids: npt.NDArray[Any], spacing: Mapping[str, float] | None = None,
              affine: npt.NDArray[np.float64] | None = None) -> None:
    """Write object ids (*S), as TIFF or in the format of the suffix. affine: of the NIfTI file that they belong to."""
    if suffix_of(path) in (".tif", ".tiff"):
        with writing(path) as temporary:
            tiff_write.write_ids(temporary, ids, spacing)
    else:
        write_mask(path, ids, Legend.of_values([0]), spacing, affine)


def write_picture(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write uint8 (Y, X) or (3, Y, X) as PNG."""
    with writing(path) as temporary:
        png.write(temporary, rgb)


def write_probabilities(path: Path, array: npt.NDArray[np.float32], axes: str, spacing: Mapping[str, float] | None,
                        names: tuple[str, ...]) -> None:
    """Write float32 (K, *S) as OME-TIFF with class names."""
    with writing(path) as temporary:
        tiff_write.write_channels(temporary, array, axes, spacing, names)
