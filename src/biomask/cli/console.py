"""Where the command line prints: results to stdout, everything else to stderr, and to the file of --log."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from biomask.cli.log import log
from biomask.errors import UsageError, WriteError
from biomask.progress import Bar


class _Console(Console):
    """A console whose reader may leave, as `| head` does: the work goes on and keeps its exit code."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        abandon(sys.stderr if self.stderr else sys.stdout)


def abandon(stream: TextIO) -> None:
    """Let everything that is written to it from now on go nowhere."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


stdout = _Console(soft_wrap=True, emoji=False, highlight=False)
stderr = _Console(stderr=True, soft_wrap=True, emoji=False, highlight=False)

#: Seconds and share of the work between the plain lines that replace a bar where there is no terminal.
PLAIN_SECONDS, PLAIN_SHARE = 15.0, 0.1

#: Work that is over sooner shows no bar.
PATIENCE = 1.0


class ConsoleProgress:
    """Messages and bars on stderr: live bars on a terminal, plain lines elsewhere and in the log."""

    def say(self, message: str) -> None:
        _tell(escape(message))
        log.info(message)

    def warn(self, message: str) -> None:
        _tell(f"[yellow]warning:[/] {escape(message)}")
        log.warning(message)

    @contextmanager
    def bar(self, title: str) -> Iterator[Bar]:
        if not stderr.is_terminal:
            yield _PlainBar(title)
            return
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("left"),
                   TimeRemainingColumn(elapsed_when_finished=False), TextColumn("· passed"), TimeElapsedColumn(),
                   TextColumn("{task.fields[note]}"))
        with Progress(*columns, console=stderr, transient=True) as progress:
            yield _LiveBar(progress, progress.add_task(title, total=1.0, note=""), _PlainBar(title, shown=False))


class _LiveBar:
    def __init__(self, progress: Progress, task: TaskID, logged: _PlainBar) -> None:
        self.progress, self.task, self.logged = progress, task, logged

    def update(self, fraction: float, note: str = "") -> None:
        self.progress.update(self.task, completed=fraction, note=escape(note))
        self.logged.update(fraction, note)


class _PlainBar:
    """Lines now and then; not shown: in the log alone."""

    first: float | None

    def __init__(self, title: str, *, shown: bool = True) -> None:
        self.title, self.shown = title, shown
        self.began, self.last, self.first, self.told = time.monotonic(), time.monotonic(), None, 0.0

    def update(self, fraction: float, note: str = "") -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = fraction
        if now - self.began < PATIENCE or (now - self.last < PLAIN_SECONDS and fraction - self.told < PLAIN_SHARE):
            return
        gained = fraction - self.first
        left = f", {_duration((1 - fraction) * (now - self.began) / gained)} left" if gained > 0 else ""
        line = f"{self.title}: {fraction:.0%}{left}" + (f" · {note}" if note else "")
        if self.shown:
            _tell(escape(line))
        log.info(line)
        self.last, self.told = now, fraction


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def _tell(text: str) -> None:
    """Print to stderr. Where that cannot be written, as on a full disk, hours of work must not end over it."""
    try:
        stderr.print(text)
    except OSError:
        stderr.quiet = True


def complain(message: str, *, stopped: bool = False) -> None:
    """An error, or why the work stopped, on stderr; in the log with the traceback of what is being handled."""
    word, style = ("stopped", "bold yellow") if stopped else ("error", "bold red")
    _tell(f"[{style}]{word}:[/] {escape(message)}")
    log.error(message, exc_info=sys.exc_info()[0] is not None)


def show(text: str) -> None:
    """One line of the result on stdout, as it is: no markup, no emoji."""
    stdout.print(text, markup=False)


def check_json(target: str | None, *places: Path | None) -> None:
    """Raise before the work where the result could not be written after it: WriteError, or UsageError for a file that is there
    and is not JSON, which is nobody's wish to lose, and for one among the files of the command itself.

    places: files and folders that the command reads and writes, as far as they are given.
    """
    if target == "-" and sys.stdout is None:
        raise WriteError("stdout is closed", where="--json -", fix="give a file: --json FILE")
    if target not in (None, "-"):
        check_file("--json", Path(str(target)), (b"{", b"["), "JSON")
        require_apart("--json", Path(str(target)), places)


def check_report(target: Path | None, *places: Path | None) -> None:
    """The same for the HTML page of --report."""
    if target is not None:
        check_file("--report", target, (b"<!doctype html", b"<html"), "a page of HTML")
        require_apart("--report", target, places)


def require_apart(flag: str, target: Path, places: Sequence[Path | None]) -> None:
    """Raise UsageError for a file that is one of these places or lies in one, where it could replace what is read or written."""
    file = target.resolve()
    for place in places:
        if place is not None and place.resolve() in (file, *file.parents):
            raise UsageError(f"lies in {place}, where it could replace a file that this command reads or writes"
                             if place.resolve() != file else "is a file that this command reads or writes",
                             where=f"{flag} {target}", fix=f"give a file elsewhere: {flag} FILE")


def check_file(flag: str, target: Path, beginnings: tuple[bytes, ...], what: str) -> None:
    """Raise before the work where a single file could not be written after it; see `check_json`.

    beginnings: of a file of this kind, without white space and in small letters.
    """
    from biomask.io.files import require_writable

    if not target.name or target.is_dir():
        raise WriteError("is a folder, not a file", where=f"{flag} {target}", fix="give the name of a file")
    if target.exists() and not target.is_file():
        raise WriteError("is a device or pipe, not a file", where=f"{flag} {target}", fix="give the name of a file")
    require_writable(target.parent)
    if target.is_file():
        with target.open("rb") as file:
            begins = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if begins and not begins.startswith(beginnings):
            raise UsageError(f"is there and is not {what}: it would be lost", where=f"{flag} {target}",
                             fix="give the name of a new file")


def write_json(content: Any, target: str | None) -> bool:
    """Write `content` to the file of --json, or to stdout for "-"; True when stdout is taken by it."""
    if target is None:
        return False
    if target == "-":
        try:
            sys.stdout.write(json.dumps(content, indent=2) + "\n")  # ASCII, whatever stdout is redirected to
            sys.stdout.flush()
        except BrokenPipeError:
            stdout.on_broken_pipe()
        return True
    from biomask.io.files import write_text

    write_text(Path(target), json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return False
