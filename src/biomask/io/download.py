"""One file from the internet: whole and checked, or not at all. Nothing is loaded but what the user asked for by name.

    target.part         what has arrived so far
    target.part.json    which version of which file it is a part of

A transfer that breaks off goes on where it stopped (RFC 9110, sections 13.1.5 and 14: Range with If-Range, so that a file that
has changed since is sent from its beginning), also in a later run. Two processes must not have one target at once: who calls this
sees to it, as `biomask.public.get` does.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import biomask
from biomask.errors import DiskFullError, NetworkError, ReadError, WriteError
from biomask.io.atomic import move_into_place, not_written, require_writable, write_text
from biomask.io.web import Interrupted, NoSuchPart, opened, require_web, words
from biomask.progress import Bar, Progress, Silent

#: Bytes that are read at a time.
CHUNK = 1 << 18

#: Seconds without a single byte after which a connection is given up.
TIMEOUT = 30.0

#: Seconds to wait before each further try; the count begins anew whenever more has arrived than ever before.
PAUSES = (1.0, 3.0, 10.0)

AGAIN = "run the same command again: it goes on where it stopped"


@dataclass(frozen=True)
class Checksum:
    """What the digest of a file is, or begins with."""

    digits: str
    """Hexadecimal, small letters."""
    kind: Literal["sha256", "md5"] = "sha256"

    @property
    def name(self) -> str:
        return {"sha256": "SHA-256", "md5": "MD5"}[self.kind]


@dataclass(frozen=True)
class Downloaded:
    """A file that has arrived."""

    path: Path
    size: int
    """Bytes."""
    sha256: str
    verified: bool
    """Whether a checksum was known, and is right."""


def download(url: str, target: Path, *, checksum: Checksum | None = None, progress: Progress | None = None,
             pauses: Sequence[float] = PAUSES, timeout: float = TIMEOUT) -> Downloaded:
    """Bring a file onto this machine; one that is at `target` is replaced once the new one is complete and right.

    url:      http or https; redirections to anything else are refused, also from https to http.
    pauses:   seconds before each further try.
    timeout:  seconds without an answer.
    Raises NetworkError where tries don't help (what has arrived is kept), ReadError where the server says that there is no such
    file and for a wrong checksum (nothing is kept), DiskFullError and WriteError.
    """
    progress = progress or Silent()
    require_web(url)
    if target.is_dir():
        raise WriteError("is a folder, not a file", where=target, fix="give another folder, or take this one away")
    require_writable(target.parent)
    part = _Part(target, url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with progress.bar(f"downloading {target.name}") as bar:
            _transfer(part, progress, bar, pauses, timeout)
        with progress.bar(f"checking {target.name}") as bar:
            sha256, verified = _check(part, checksum, bar)
        size = part.size
        move_into_place(part.path, target)
    except OSError as error:
        raise not_written(error, target) from error
    part.notes.unlink(missing_ok=True)
    return Downloaded(target, size, sha256, verified)


def digest(path: Path, kind: Literal["sha256", "md5"] = "sha256", bar: Bar | None = None) -> str:
    """Of a file, in hexadecimal. Raises OSError."""
    found, total, done = hashlib.new(kind, usedforsecurity=False), max(1, path.stat().st_size), 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            found.update(piece)
            done += len(piece)
            if bar is not None:
                bar.update(min(1.0, done / total))
    return found.hexdigest()


@dataclass
class _Part:
    """What has arrived, and the version that it is of."""

    target: Path
    url: str

    @property
    def path(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def notes(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def known(self) -> dict[str, Any]:
        """{version, total} of what has arrived; empty where nothing has, or it is of another address."""
        try:
            found = json.loads(self.notes.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and found.get("url") == self.url and self.size else {}

    def begin(self, version: str | None, total: int | None) -> None:
        """Start with nothing."""
        self.path.write_bytes(b"")
        write_text(self.notes, json.dumps({"url": self.url, "version": version, "total": total}) + "\n")

    def discard(self) -> None:
        for file in (self.path, self.notes):
            file.unlink(missing_ok=True)


def _transfer(part: _Part, progress: Progress, bar: Bar, pauses: Sequence[float], timeout: float) -> None:
    """Have all of the file in its part, in as many tries as it takes. Raises NetworkError."""
    furthest, failures = part.size, 0
    while True:
        try:
            return _receive(part, bar, timeout)
        except Interrupted as error:
            if part.size > furthest:
                furthest, failures = part.size, 0
            if failures == len(pauses):
                kept = f", after {_megabytes(part.size)}" if part.size else ""
                raise NetworkError(f"cannot be downloaded{kept}: {error}", where=part.url,
                                   fix=AGAIN if part.size else None) from error
            progress.say(f"{part.target.name}: {error}; trying again in {pauses[failures]:.0f} s")
            time.sleep(pauses[failures])
            failures += 1


def _receive(part: _Part, bar: Bar, timeout: float) -> None:
    """Ask for what is missing, and append it. Raises Interrupted."""
    known = part.known()
    if known.get("total") == part.size > 0:  # stopped between the last byte and the check
        return
    headers = {"User-Agent": f"biomask/{biomask.__version__}", "Accept-Encoding": "identity"}
    if known.get("version"):
        headers |= {"Range": f"bytes={part.size}-", "If-Range": known["version"]}
    try:
        response = opened(urllib.request.Request(part.url, headers=headers), timeout)
    except NoSuchPart:
        part.discard()
        raise
    with response:
        total = _start(response.status, response.headers, part, known)
        _require_room(part, total)
        _append(response, part, total, bar)


def _start(status: int, headers: http.client.HTTPMessage, part: _Part, known: dict[str, Any]) -> int | None:
    """How many bytes the whole file has, where the server says so; what had arrived is thrown away unless this goes on from it."""
    version = _version(headers)
    if status == http.HTTPStatus.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        if match is None or int(match[1]) != part.size or (version is not None and version != known.get("version")):
            part.discard()
            raise Interrupted("the server sent another part than asked for")
        return int(match[2]) if match[2] != "*" else None
    length = headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    part.begin(version, total)
    return total


def _version(headers: http.client.HTTPMessage) -> str | None:
    """What says whether a file is still the same: its strong ETag, or when it was changed (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _require_room(part: _Part, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - part.size > free:
        raise DiskFullError(f"needs {_megabytes(total - part.size)}, and the disk has {_megabytes(free)} left", where=part.target,
                            fix="free some space, or give a folder on another disk")


def _append(response: Any, part: _Part, total: int | None, bar: Bar) -> None:
    """Write what comes to the end of the part. Raises Interrupted where it ends too early, OSError of the disk."""
    arrived = part.size
    with part.path.open("ab") as file:
        while arrived != total:
            piece = _piece(response)
            if not piece:
                break
            file.write(piece)
            arrived += len(piece)
            of = f" of {_megabytes(total)}" if total else ""
            bar.update(arrived / total if total else 0.0, f"{_megabytes(arrived)}{of}")
    if total is not None and arrived != total:
        raise Interrupted("the connection was closed too early")


def _piece(response: Any) -> bytes:
    """The next bytes that have come; none at the end."""
    try:
        return bytes(response.read1(CHUNK))
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(words(error)) from error


def _check(part: _Part, checksum: Checksum | None, bar: Bar) -> tuple[str, bool]:
    """(SHA-256, whether it was checked). Raises ReadError for a wrong one, when nothing is kept."""
    sha256 = digest(part.path, bar=bar)
    if checksum is None:
        return sha256, False
    found = sha256 if checksum.kind == "sha256" else digest(part.path, checksum.kind)
    if not found.startswith(checksum.digits):
        part.discard()
        raise ReadError(f"what arrived is not the file that was meant: its {checksum.name} is {found}, and should "
                        f"{'be' if len(checksum.digits) == len(found) else 'begin with'} {checksum.digits}; it was thrown away",
                        where=part.url, fix="run the same command again; if it says the same, the file was changed on its way "
                                            "(by a proxy?) or by whoever offers it")
    return sha256, True


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
