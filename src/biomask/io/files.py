"""One way in and out for every format, with errors that name the file."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from biomask.errors import BiomaskError, DiskFullError, MissingPathError, ReadError, WriteError
from biomask.image import Image
from biomask.io import png, tiff
from biomask.labels import Legend


class Reader(Protocol):
    """Reads one file. as_labels: keep palette indices instead of their colours."""

    def __call__(self, path: Path, *, as_labels: bool = False) -> Image: ...


#: Readers by suffix, lower case.
READERS: dict[str, Reader] = {".png": png.read, ".tif": tiff.read, ".tiff": tiff.read}

#: Suffixes and names of files that lie beside images and are none.
BYSTANDERS = {"thumbs.db", "desktop.ini", ".txt", ".md", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html", ".pdf", ".doc",
              ".docx", ".xls", ".xlsx", ".log", ".py", ".ijm", ".ini", ".db"}

#: Writers of a mask by suffix: (path, values, legend, spacing).
WRITERS: dict[str, Callable[..., None]] = {
    ".png": lambda path, values, legend, spacing=None: png.write(path, values),
    ".tif": tiff.write_mask,
}


def read_image(path: str | Path) -> Image:
    """Read an image file. Raises ReadError or MissingPathError, never a library's own error."""
    return _read(Path(path), as_labels=False)


def read_label_values(path: str | Path) -> Image:
    """Read a label file: one channel of values as stored; a palette gives its indices."""
    image = _read(Path(path), as_labels=True)
    if image.channels == 3 and (image.array == image.array[:1]).all():
        return Image(image.array[:1], image.axes, image.name, image.spacing)
    if image.channels != 1:
        raise ReadError(f"has {image.channels} channels; a mask has one", where=path,
                        fix="save the mask as one grey or palette channel with a value per class")
    if image.array.dtype.kind == "f" and not (np.isfinite(image.array).all() and (image.array % 1 == 0).all()):
        raise ReadError("holds fractions or NaN, not class values", where=path)
    return image


def _read(path: Path, *, as_labels: bool) -> Image:
    if not _exists(path):
        raise MissingPathError("no such file", where=path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ReadError(f"the format {path.suffix or 'without suffix'} is not read", where=path,
                        fix=f"convert it to one of {', '.join(READERS)}")
    try:
        image = reader(path, as_labels=as_labels)
    except BiomaskError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # a decoder can raise anything on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReadError(f"is damaged or not a {path.suffix} file ({reason})", where=path) from error
    if image.array.dtype.kind not in "uif" or 0 in image.array.shape:
        raise ReadError(f"has dtype {image.array.dtype} and shape {image.array.shape}, not pixels", where=path)
    return image


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no disk can hold
        return False


def list_images(source: str | Path) -> list[Path]:
    """Files that a reader exists for: the file itself, or all below a folder, in name order; hidden ones left out."""
    source = Path(source)
    if not _exists(source):
        raise MissingPathError("no such file or folder", where=source)
    if source.is_file():
        return [source]
    return sorted(p for p in _visible_files(source) if p.suffix.lower() in READERS)


def list_unread(folder: Path) -> list[Path]:
    """Files below a folder that look like images or labels but have no reader, in name order.

    What computers and people leave beside images (hidden files, Thumbs.db, notes, tables) is not meant.
    """
    if not folder.is_dir():
        return []
    return sorted(p for p in _visible_files(folder)
                  if p.suffix.lower() not in READERS and p.suffix.lower() not in BYSTANDERS and p.name.lower() not in BYSTANDERS)


def _visible_files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*")
            if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)]


def relative_stem(path: Path, root: Path) -> Path:
    """The path below `root` without its suffix: what pairs an image with its mask, and names its results."""
    relative = path.relative_to(root) if root.is_dir() else Path(path.name)
    name = relative.name
    for ending in (".ome.tiff", ".ome.tif", relative.suffix):
        if ending and name.lower().endswith(ending.lower()):
            return relative.with_name(name[: -len(ending)])
    return relative


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Make the folder, give a temporary name beside `path`, and move it into place once it is complete.

    A killed process leaves the old file or none, never half of one. Raises WriteError or DiskFullError.
    """
    # A name of its own length, since the file's may be the longest that the disk takes, and always the same one, so that
    # what a killed process left is overwritten.
    temporary = path.with_name(f".{hashlib.sha1(os.fsencode(path.name)).hexdigest()[:16]}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with suppress(OSError):
            temporary.chmod(0o666 & ~_umask())  # some writers create private files; some disks know no rights
        _settle(temporary)
        _replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError("the disk is full", where=path, fix="free some space and run the command again") from error
        raise WriteError(f"cannot be written ({error.strerror or error})", where=path,
                         fix="choose another output folder") from error
    except BaseException:
        _remove(temporary)
        raise


def _settle(path: Path) -> None:
    """Have the disk take what the system holds back: a name must never point to less than the whole file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _replace(source: Path, target: Path) -> None:
    """Move onto `target`; on Windows a virus scanner or viewer may hold it for a moment."""
    for pause in (0.05, 0.2, 1.0):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(pause)
    os.replace(source, target)


def require_writable(folder: Path) -> None:
    """Raise WriteError unless files can be written into `folder`, or it can be made; leaves nothing behind."""
    import tempfile

    there = next(p for p in (folder, *folder.absolute().parents) if _exists(p))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise WriteError(f"cannot be written to ({error.strerror or error})", where=folder, fix="choose another place") from error


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask for new files; it can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_mask(path: Path, values: npt.NDArray[Any], legend: Legend, spacing: Mapping[str, float] | None = None) -> None:
    """Write class values (*S) in the format of the suffix."""
    with writing(path) as temporary:
        WRITERS[path.suffix.lower()](temporary, values, legend, spacing)


def write_picture(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write uint8 (Y, X) or (3, Y, X) as PNG."""
    with writing(path) as temporary:
        png.write(temporary, rgb)


def write_probabilities(path: Path, array: npt.NDArray[np.float32], axes: str, spacing: Mapping[str, float] | None,
                        names: tuple[str, ...]) -> None:
    """Write float32 (K, *S) as OME-TIFF with class names."""
    with writing(path) as temporary:
        tiff.write_channels(temporary, array, axes, spacing, names)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names need not be UTF-8
