"""`Recent`: what was made of the files that a thread opened last, so that planes of one file are read one after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

#: A file that changed less than this many nanoseconds ago may change again without a sign: clocks of disks are coarse.
YOUNG = 2_000_000_000

#: Bytes of the pixels that a thread keeps, all files together.
LARGEST = 2**29


def state_of(path: Path) -> tuple[int, ...]:
    """Numbers that differ once a file was changed: its times, its length and its place on the disk. Raises OSError."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


class Recent(threading.local):
    """A few results by file, each thread's own, the oldest of which goes first; those of changed files are not given."""

    def __init__(self, count: int, largest: int = LARGEST) -> None:
        """count: results that are kept; largest: bytes of all of them."""
        self._count, self._largest = count, largest
        self._kept: dict[tuple[Path, Hashable], tuple[tuple[int, ...], Any, int]] = {}

    def get(self, path: Path, make: Callable[[], T], *, of: Hashable = None, size: Callable[[T], int] = lambda _: 0) -> T:
        """What `make` gives for a file, or gave while the file was as it is. of: tells several results of a file apart.

        size: bytes of a result; one that is larger than all may be is not kept. Raises what `make` raises, and OSError.
        """
        key, state = (path, of), state_of(path)
        known = self._kept.pop(key, None)
        if known is not None and known[0] == state:
            self._kept[key] = known  # the last in order now
            found: T = known[1]
            return found
        made = make()
        if time.time_ns() - max(state[:2]) < YOUNG:
            return made
        self._kept[key] = state, made, size(made)
        while len(self._kept) > self._count or sum(n for _, _, n in self._kept.values()) > self._largest:
            del self._kept[next(iter(self._kept))]
        return made
