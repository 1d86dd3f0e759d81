"""ZIP and TAR archives of strangers into a folder: nothing outside it, nothing but plain files, no more than was agreed."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from biomask.errors import DiskFullError, ReadError
from biomask.io.atomic import not_written
from biomask.progress import Progress, Silent

#: Bytes that are written at a time.
CHUNK = 1 << 20

#: An archive of images unpacks to a few times its size; one that claims more than this many times, and the allowance on top,
#: is made to fill disks.
MOST_TIMES, ALLOWANCE = 30, 1 << 30

#: Files of an archive.
MOST_FILES = 1_000_000

#: What macOS adds to archives.
BYSTANDERS = ("__MACOSX", ".DS_Store")

#: What says in a ZIP that the kinds and rights of its files are those of Unix.
UNIX = 3

NOT_OURS = "don't unpack it; download it again from its publisher's page"


@dataclass(frozen=True)
class Unpacked:
    """What an archive held."""

    files: int
    size: int
    """Bytes."""
    left_out: int
    """Files that macOS adds beside others (`__MACOSX`, `._x`, `.DS_Store`)."""


@dataclass(frozen=True)
class _Member:
    """A file in an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, *, most: int | None = None, progress: Progress | None = None) -> Unpacked:
    """Write the files of a .zip or .tar below `folder`, which is made; those that are there are never overwritten.

    most: bytes that it may unpack to; by default `MOST_TIMES` its own size and `ALLOWANCE`.
    Names and sizes are looked at before the first byte is written, and what is read is counted again. Raises ReadError for an
    archive that is damaged, wants to write elsewhere, holds links or devices, or is too large; DiskFullError, WriteError.
    """
    most = MOST_TIMES * archive.stat().st_size + ALLOWANCE if most is None else most
    with _members(archive) as members:
        found = list(_limited(members, archive, most))
        wanted = [(m, _inside(m.name, archive)) for m in found]
        kept = [(m, path) for m, path in wanted if not _is_bystander(path)]
        total = sum(m.size for m, _ in kept)
        _require_room(total, folder)
        with (progress or Silent()).bar(f"unpacking {archive.name}") as bar:
            done = 0
            for member, path in kept:
                done += _write(member, folder / path, archive)
                bar.update(done / max(1, total), f"{path.name}")
    return Unpacked(len(kept), total, len(found) - len(kept))


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """The files of an archive; what its format raises becomes ReadError."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                yield _of_zip(opened, archive)
        else:
            with tarfile.open(archive) as packed:
                yield _of_tar(packed, archive)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError, NotImplementedError,
            RuntimeError) as error:
        raise ReadError(f"is no ZIP or TAR archive that can be unpacked ({error})", where=archive,
                        fix="download it again") from error


def _of_zip(opened: zipfile.ZipFile, archive: Path) -> Iterator[_Member]:
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == UNIX else 0
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _strange(info.filename, archive)
        if info.is_dir():
            _inside(info.filename, archive)
            continue
        yield _Member(info.filename, info.file_size, partial(opened.open, info))


def _of_tar(packed: tarfile.TarFile, archive: Path) -> Iterator[_Member]:
    for info in packed:
        if info.isdir():
            _inside(info.name, archive)
        elif info.isreg():
            yield _Member(info.name, info.size, partial(_opened, packed, info))
        else:
            raise _strange(info.name, archive)
    while packed.fileobj is not None and packed.fileobj.read(CHUNK):
        pass  # to the very end, where gzip has the checksum of all


def _opened(packed: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = packed.extractfile(info)
    if file is None:  # no plain file: these were refused
        raise tarfile.ReadError(f"{info.name} cannot be read")
    return file


def _limited(members: Iterator[_Member], archive: Path, most: int) -> Iterator[_Member]:
    """As many as are allowed. Raises ReadError."""
    files = size = 0
    for member in members:
        files, size = files + 1, size + member.size
        if size > most or files > MOST_FILES:
            raise ReadError(f"is {archive.stat().st_size / 1e6:,.1f} MB, and claims to hold more than "
                            + (f"{most / 1e6:,.0f} MB" if size > most else f"{MOST_FILES:,} files"), where=archive, fix=NOT_OURS)
        yield member


def _inside(name: str, archive: Path) -> PurePosixPath:
    """The path of a file below the folder. Raises ReadError for one that leads out of it, on any system."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or any(c in name for c in "\\:\0"):
        raise ReadError(f"holds {name!r}, which leads out of the folder", where=archive, fix=NOT_OURS)
    return path


def _strange(name: str, archive: Path) -> ReadError:
    return ReadError(f"holds {name!r}, which is a link or a device", where=archive, fix=NOT_OURS)


def _is_bystander(path: PurePosixPath) -> bool:
    return any(part in BYSTANDERS for part in path.parts) or path.name.startswith("._")


def _require_room(size: int, folder: Path) -> None:
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if size > free:
        raise DiskFullError(f"needs {size / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB left", where=folder,
                            fix="free some space, or give a folder on another disk")


def _write(member: _Member, path: Path, archive: Path) -> int:
    """Write one file; returns its bytes. Raises ReadError where it is there, or is longer than it said."""
    size = 0
    with member.open() as source:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                while piece := source.read(CHUNK):
                    size += len(piece)
                    if size > member.size:
                        raise ReadError(f"holds {member.name!r}, which is longer than it says", where=archive, fix=NOT_OURS)
                    file.write(piece)
        except FileExistsError as error:
            raise ReadError(f"holds {member.name!r} twice, or in two spellings", where=archive, fix=NOT_OURS) from error
        except gzip.BadGzipFile:
            raise
        except OSError as error:
            raise not_written(error, path) from error
    return size
