"""The file of --log: all that is said on stderr, with the time, appended line by line so that a killed process loses none."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biomask.errors import UsageError, WriteError

#: Where everything that stderr says goes too; without --log nobody listens.
log = logging.getLogger("biomask.cli")
log.addHandler(logging.NullHandler())
log.propagate = False
log.setLevel(logging.INFO)

#: How a log begins, so that nothing else is ever appended to.
TITLE = "# log of biomask"

LINE = "%(asctime)s %(process)d %(levelname)-7s %(message)s"
TIME = "%Y-%m-%dT%H:%M:%S%z"


class _LogFile(logging.FileHandler):
    """A log that cannot be written any more says so once; the work goes on."""

    def handleError(self, record: logging.LogRecord) -> None:
        log.removeHandler(self)
        print(f"warning: the log is not written any more ({sys.exc_info()[1]})", file=sys.stderr)


@contextmanager
def logging_to(target: Path | None, arguments: Sequence[str]) -> Iterator[None]:
    """Append what is said meanwhile to a file: the command first, how long it took last. None: nothing is written.

    Raises WriteError for a place that cannot be written, and UsageError for a file that is not a log.
    """
    if target is None:
        yield
        return
    handler = _open(target)
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any, **named: Any) -> None:
        log.warning(warnings.formatwarning(message, category, filename, lineno).strip())
        shown(message, category, filename, lineno, *more, **named)

    from biomask import __version__

    began = time.monotonic()
    log.addHandler(handler)
    warnings.showwarning = show
    log.info("biomask %s: biomask %s", __version__, " ".join(map(_quoted, arguments)))
    try:
        yield
    finally:
        log.info("ended after %.1f s", time.monotonic() - began)
        warnings.showwarning = shown
        log.removeHandler(handler)
        handler.close()


def _open(target: Path) -> logging.Handler:
    try:
        title = target.read_bytes()[: len(TITLE)] if target.is_file() else b""
        if title and title != TITLE.encode():
            raise UsageError("is there and is not a log of biomask: nothing is appended to it", where=f"--log {target}",
                             fix="give the name of a new file")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not title:
            target.write_text(TITLE + "\n", encoding="utf-8")
        handler = _LogFile(target, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise WriteError(f"cannot be written ({error.strerror or error})", where=f"--log {target}",
                         fix="give a file in a folder that you may write to") from error
    handler.setFormatter(logging.Formatter(LINE, TIME))
    return handler


def _quoted(argument: str) -> str:
    """So that the line can be typed again."""
    import shlex

    return shlex.quote(argument)
