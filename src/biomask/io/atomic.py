"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from biomask.errors import BiomaskError, DiskFullError, WriteError
from biomask.io.listing import exists
from biomask.stored import suffix_of


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Make the folder, give a temporary name beside `path`, and move it into place once it is complete.

    A killed process leaves the old file or none, never half of one. Raises WriteError, also for what is no file: a device
    such as /dev/null would be replaced by one. Raises DiskFullError.
    """
    if exists(path) and not path.is_file():
        raise WriteError(f"cannot be written (it is a {'folder' if path.is_dir() else 'device or pipe'}, not a file)", where=path,
                         fix="give the name of a file")
    # A name of its own length, since the file's may be the longest that the disk takes, and always the same one, so that
    # what a killed process left is overwritten.
    temporary = path.with_name(f".{hashlib.sha1(os.fsencode(path.name)).hexdigest()[:16]}.part{suffix_of(path)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with suppress(OSError):
            temporary.chmod(0o666 & ~_umask())  # some writers create private files; some disks know no rights
        move_into_place(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise not_written(error, path) from error
    except BaseException:
        _remove(temporary)
        raise


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a complete file its name, once the disk has all of it. Raises OSError."""
    _settle(temporary)
    _replace(temporary, path)


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

    there = next(p for p in (folder, *folder.absolute().parents) if exists(p))
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


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names need not be UTF-8


def not_written(error: OSError, path: Path) -> BiomaskError:
    """What to raise where a file could not be written: DiskFullError, or WriteError for any other reason."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError("the disk is full", where=path, fix="free some space and run the command again")
    return WriteError(f"cannot be written ({error.strerror or error})", where=path, fix="choose another output folder")
