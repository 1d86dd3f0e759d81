"""Fetching an offer into a folder that the user names. Nothing is kept elsewhere."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import biomask
from biomask.errors import ReadError, WriteError
from biomask.io.archives import unpack
from biomask.io.atomic import not_written, require_writable, write_text
from biomask.io.download import PAUSES, Downloaded, digest, download
from biomask.io.lock import held
from biomask.progress import Progress, Silent
from biomask.public.catalogue import Offer, RemoteFile, offer


@dataclass(frozen=True)
class Got:
    """An offer that has arrived."""

    offer: Offer
    path: Path
    """Of the file of weights, or of the folder of the data set."""
    record: Path
    """The file beside it that says where it is from, with its SHA-256."""
    was_there: bool
    """It had been fetched before; nothing was done."""
    notes: tuple[str, ...] = ()

    @property
    def next(self) -> str:
        """What to type next."""
        return self.offer.use.format(path=shlex.quote(str(self.path)))

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {"name": self.offer.name, "kind": self.offer.kind, "path": str(self.path), "record": str(self.record),
                "was_there": self.was_there, "notes": list(self.notes), "next": self.next}


def get(name: str, out: str | Path, *, progress: Progress | None = None, pauses: Sequence[float] = PAUSES) -> Got:
    """Fetch weights to `out`/FILE.pth, or a data set to the folder `out`/NAME; what is there already is left as it is.

    name:   see `OFFERS`.
    pauses: seconds before each further try.
    Beside it NAME.source.json says where it is from. Archives are taken away once unpacked. A download that broke off goes on.
    Where another process is fetching it into the same folder, that is waited for: NAME.lock says so while it lasts.
    Raises UsageError for a name that is not known, WriteError where something else has that place, and what
    `biomask.io.download.download` and `biomask.io.archives.unpack` raise.
    """
    wanted, folder, progress = offer(name), Path(out), progress or Silent()
    path = folder / (wanted.files[0].name if wanted.kind == "weights" else wanted.name)
    record = path.with_name(f"{path.name}.source.json")
    if path.exists() and record.is_file():  # whole: the record comes last
        return _there(wanted, path, record)

    def wait() -> None:
        progress.say(f"{wanted.name}: another process is fetching it into {folder}; waiting until that has ended")

    require_writable(folder)
    with held(path.with_name(f"{path.name}.lock"), wait):
        return _there(wanted, path, record) if path.exists() else _fetched(wanted, path, record, progress, pauses)


def _there(wanted: Offer, path: Path, record: Path) -> Got:
    """What had been fetched before."""
    _require_the_same(path, record, wanted)
    if not record.is_file():  # brought here by other means
        write_text(record, _record(wanted, [Downloaded(path, path.stat().st_size, digest(path), verified=True)]))
    return Got(wanted, path, record, was_there=True)


def _fetched(wanted: Offer, path: Path, record: Path, progress: Progress, pauses: Sequence[float]) -> Got:
    progress.say(f"{wanted.name}: {wanted.what}; {wanted.licence} ({wanted.source})")
    notes: tuple[str, ...] = ()
    if wanted.kind == "weights":
        came = [download(wanted.files[0].url, path, checksum=wanted.files[0].checksum, progress=progress, pauses=pauses)]
    else:
        came, notes = _fetch_data(wanted, path, progress, pauses)
    write_text(record, _record(wanted, came))
    return Got(wanted, path, record, was_there=False, notes=(*_unverified(wanted, came), *notes))


def _require_the_same(path: Path, record: Path, wanted: Offer) -> None:
    """Raise unless what is there is what was asked for: ReadError for a file of other content, WriteError for another's folder."""
    if wanted.kind == "data":
        if not record.is_file():
            raise WriteError("is there, and was not made by this command", where=path, fix="give another folder: -o FOLDER")
        return
    checksum = wanted.files[0].checksum
    if checksum is not None and not digest(path, checksum.kind).startswith(checksum.digits):
        raise ReadError(f"is there, and is another file: its {checksum.name} does not begin with {checksum.digits}", where=path,
                        fix="take it away and run the same command again, or give another folder: -o FOLDER")


def _fetch_data(wanted: Offer, path: Path, progress: Progress, pauses: Sequence[float]) -> tuple[list[Downloaded], tuple[str, ...]]:
    """Have the archives, then their content under its name, all or nothing."""
    came = [_archive(file, path, progress, pauses) for file in wanted.files]
    half = path.with_name(f"{path.name}.unpacking")
    left_out = 0
    try:
        if half.exists():
            shutil.rmtree(half)  # of a run that was stopped
        for archive in came:
            left_out += unpack(archive.path, half, progress=progress).left_out
        half.replace(path)
        _take_away(came)
    except ReadError:
        _take_away(came)  # they are no good: the next run fetches them again
        raise
    except OSError as error:
        raise not_written(error, path) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return came, (f"files that macOS adds to archives were left out: {left_out}",) if left_out else ()


def _take_away(archives: Sequence[Downloaded]) -> None:
    for archive in archives:
        archive.path.unlink(missing_ok=True)


def _archive(file: RemoteFile, path: Path, progress: Progress, pauses: Sequence[float]) -> Downloaded:
    """One that is whole and was not unpacked yet, as on a full disk, is not fetched again."""
    place = path.with_name(f"{path.name}-{file.name}")
    if place.is_file() and (file.checksum is None or digest(place, file.checksum.kind).startswith(file.checksum.digits)):
        return Downloaded(place, place.stat().st_size, digest(place), verified=file.checksum is not None)
    return download(file.url, place, checksum=file.checksum, progress=progress, pauses=pauses)


def _record(wanted: Offer, came: Sequence[Downloaded]) -> str:
    """The text of the file beside it."""
    files = [{"url": f.url, "bytes": c.size, "sha256": c.sha256, "verified": c.verified}
             for f, c in zip(wanted.files, came, strict=True)]
    content = {"name": wanted.name, "what": wanted.what, "licence": wanted.licence, "source": wanted.source, "files": files,
               "biomask_version": biomask.__version__}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _unverified(wanted: Offer, came: Sequence[Downloaded]) -> tuple[str, ...]:
    """A note for each file whose checksum nobody has published."""
    return tuple(f"{file.name} is not verified: nobody has published its checksum; its SHA-256 is {c.sha256}"
                 for file, c in zip(wanted.files, came, strict=True) if not c.verified)
