"""JSON of annotation programs: read with bounds, written a part at a time."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from biomask.errors import LabelsError, MissingPathError, OutOfMemoryError, ReadError
from biomask.io.files import writing
from biomask.machine import free_memory
from biomask.shapes import Ring

#: Bytes of the largest text that is read whole, unpacked.
LARGEST = 2**31
#: A packed text is unpacked to at most this many times its size, or to SMALL bytes; outlines pack to a fifth or so.
SWELLING, SMALL = 200, 2**24
#: Texts of fewer bytes are read without asking for memory.
_LEAST = 2**24
#: Memory that the content of a text takes, in sizes of the text: seven were measured of outlines.
MEMORY = 8
#: Bytes looked at to tell what a file is: at its start and at its end.
HEAD, TAIL = 2**16, 2**13


def read_json(path: Path, *, largest: int = LARGEST) -> Any:
    """The content of a JSON file, packed with gzip or not. Raises ReadError, MissingPathError or OutOfMemoryError, nothing else."""
    with contextlib.suppress(OSError):  # one that is not there is told below
        _require_memory(path, path.stat().st_size)
    data = read_bytes(path, largest)
    _require_memory(path, len(data))
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ReadError("is not text in UTF-8", where=path, fix="save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise ReadError(f"is damaged or not JSON ({error.msg} in line {error.lineno})", where=path) from error
    except (RecursionError, ValueError) as error:  # brackets without end; a number of thousands of digits
        raise ReadError("is no JSON that an annotation program wrote (too deep, or a number too long)", where=path) from error


def _require_memory(path: Path, size: int) -> None:
    """Raise OutOfMemoryError for a text of so many bytes whose content would not fit."""
    if size < _LEAST:
        return
    needed, free = MEMORY * size, free_memory()
    if needed > free:
        raise OutOfMemoryError(f"needs {needed / 2**30:,.1f} GiB of memory ({MEMORY} times its {size / 2**20:,.0f} MiB), and "
                               f"{free / 2**30:,.1f} are free", where=path,
                               fix="export fewer images or objects a file, or close other programs")


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """All bytes of a file, unpacked where its name ends in .gz; `largest` of them at most."""
    try:
        if path.suffix.lower() == ".gz":
            largest = min(largest, max(SMALL, SWELLING * path.stat().st_size))
            with gzip.open(path) as packed:
                data = packed.read(largest + 1)
        else:
            with path.open("rb") as file:
                data = file.read(largest + 1)
    except FileNotFoundError:
        raise MissingPathError("no such file", where=path) from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ReadError(f"cannot be read ({getattr(error, 'strerror', None) or error})", where=path) from error
    if len(data) > largest:
        raise ReadError(f"has more than {largest:,} bytes", where=path, fix="export fewer images or objects a file")
    return data


def glance(path: Path) -> tuple[str, str]:
    """The first and the last characters of a text file, unpacked (then without an end); empty where it cannot be read."""
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path) as packed:
                return packed.read(HEAD).decode("utf-8-sig", "replace"), ""
        with path.open("rb") as file:
            head = file.read(HEAD)
            length = file.seek(0, 2)
            file.seek(max(len(head), length - TAIL))
            return head.decode("utf-8-sig", "replace"), file.read(TAIL).decode("utf-8", "replace")
    except (OSError, EOFError, ValueError, zlib.error):
        return "", ""


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:]')


def keys_in(text: str) -> list[tuple[int, str]]:
    """(depth, key) of the keys in the start of a JSON text, which may break off anywhere; the outermost have depth 1."""
    found = []
    depth, last = 0, ""
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in "[{":
            depth += 1
        elif token in "]}":
            depth -= 1
        elif token == ":" and last:
            found.append((depth, last))
        last = token[1:-1] if token[0] == '"' else ""
    return found


def pairs_of(ring: Ring) -> list[list[Any]]:
    """[[x, y], …] for JSON: whole numbers without a point where all are. Raises LabelsError for NaN and infinite ones."""
    if not np.isfinite(ring).all():
        raise LabelsError("an outline has coordinates that are not finite")
    whole = np.abs(ring).max(initial=0) < 2**53 and bool((ring % 1 == 0).all())
    pairs: list[list[Any]] = (ring.astype(np.int64) if whole else ring).tolist()
    return pairs


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Write text piece by piece, whole or not at all; packed where the name ends in .gz."""
    with writing(path) as temporary:
        if path.suffix.lower() == ".gz":
            with temporary.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                packed.writelines(part.encode("utf-8", "backslashreplace") for part in parts)
        else:
            with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.writelines(parts)


def joined(items: Iterable[Any], *, start: str = "", end: str = "") -> Iterable[str]:
    """A JSON list, one item a line, between two pieces of text."""
    yield start + "["
    first = True
    for item in items:
        yield ("\n" if first else ",\n") + json.dumps(item, ensure_ascii=False, allow_nan=False)
        first = False
    yield "\n]" + end
