"""One training at a time writes into a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from biomask.errors import InputError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder while the block runs; the system lets go of it when the process ends, however it ends.

    Where the block wrote nothing, nothing is left: neither the lock nor folders made for it.
    Raises InputError where another process holds it.
    """
    from filelock import FileLock, Timeout

    new = [f for f in (folder, *folder.parents) if not f.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError("another training is writing into this folder now", where=folder.parent,
                         fix="wait until it ends, stop it, or choose another -o") from error
    try:
        yield
    finally:
        if [p.name for p in folder.iterdir()] == ["lock"]:
            Path(lock.lock_file).unlink(missing_ok=True)  # while it is held, so that nobody else holds what is gone
        lock.release()
        with suppress(OSError):  # those that hold something by now stay
            for made in new:
                made.rmdir()
