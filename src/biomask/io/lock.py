"""A file that one process at a time holds, for work that two must not do at once in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from biomask.io.atomic import not_written

#: Seconds between tries while another process holds it.
PAUSE = 0.2

#: Who held it may take away the folder just when it is to be taken; not so many times in a row.
TRIES = 20


@contextmanager
def held(file: Path, busy: Callable[[], None], *, stays: bool = False) -> Iterator[None]:
    """Hold `file` while the block runs; the system lets go of it when the process ends, however it ends.

    busy:  called where another process holds it: what it raises is raised, and otherwise the other is waited for.
    stays: the file is left where there is something beside it then; else it is taken away, and folders made for it that are empty.
    Raises WriteError, DiskFullError.
    """
    from filelock import FileLock

    folder = file.parent
    new = [f for f in (folder, *folder.parents) if not f.exists()]
    lock = FileLock(file, poll_interval=PAUSE)
    if not _taken(lock.acquire, file, wait=False):
        busy()
        _taken(lock.acquire, file, wait=True)
    try:
        yield
    finally:
        if not stays or [p.name for p in folder.iterdir()] == [file.name]:
            with suppress(OSError):  # Windows deletes no open file: there the lock does it when it is let go of
                file.unlink()  # while it is held, so that nobody else holds what is gone
        lock.release()
        with suppress(OSError):  # those that hold something by now stay
            for made in new:
                made.rmdir()


def _taken(acquire: Callable[..., object], file: Path, *, wait: bool) -> bool:
    """Whether it is held now. Raises WriteError, DiskFullError."""
    from filelock import Timeout

    for left in reversed(range(TRIES)):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            acquire(timeout=-1 if wait else 0)
            break
        except Timeout:
            return False
        except OSError as error:
            if not (isinstance(error, FileNotFoundError) and left):
                raise not_written(error, file.parent) from error
    return True
