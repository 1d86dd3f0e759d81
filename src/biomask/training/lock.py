"""One training at a time writes into a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biomask.errors import InputError
from biomask.io.lock import held


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder while the block runs; the system lets go of it when the process ends, however it ends.

    Where the block wrote nothing, nothing is left: neither the lock nor folders made for it.
    Raises InputError where another process holds it.
    """
    def refuse() -> None:
        raise InputError("another training is writing into this folder now", where=folder.parent,
                         fix="wait until it ends, stop it, or choose another -o")

    with held(folder / "lock", refuse, stays=True):
        yield
