"""Where the command line prints: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from biomask.progress import Bar

stdout = Console(soft_wrap=True, emoji=False, highlight=False)
stderr = Console(stderr=True, soft_wrap=True, emoji=False, highlight=False)

#: Seconds and share of the work between the plain lines that replace a bar where there is no terminal.
PLAIN_SECONDS, PLAIN_SHARE = 15.0, 0.1

#: Work that is over sooner shows no bar.
PATIENCE = 1.0


class ConsoleProgress:
    """Messages and bars on stderr: live bars on a terminal, plain lines elsewhere."""

    def say(self, message: str) -> None:
        stderr.print(escape(message))

    def warn(self, message: str) -> None:
        stderr.print(f"[yellow]warning:[/] {escape(message)}")

    @contextmanager
    def bar(self, title: str) -> Iterator[Bar]:
        if not stderr.is_terminal:
            yield _PlainBar(title)
            return
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("left"),
                   TimeRemainingColumn(elapsed_when_finished=False), TextColumn("· passed"), TimeElapsedColumn(),
                   TextColumn("{task.fields[note]}"))
        with Progress(*columns, console=stderr, transient=True) as progress:
            yield _LiveBar(progress, progress.add_task(title, total=1.0, note=""))


class _LiveBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task = progress, task

    def update(self, fraction: float, note: str = "") -> None:
        self.progress.update(self.task, completed=fraction, note=escape(note))


class _PlainBar:
    def __init__(self, title: str) -> None:
        self.title, self.began, self.last, self.first, self.shown = title, time.monotonic(), time.monotonic(), None, 0.0

    first: float | None

    def update(self, fraction: float, note: str = "") -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = fraction
        if now - self.began < PATIENCE or (now - self.last < PLAIN_SECONDS and fraction - self.shown < PLAIN_SHARE):
            return
        gained = fraction - self.first
        left = f", {_duration((1 - fraction) * (now - self.began) / gained)} left" if gained > 0 else ""
        stderr.print(f"{self.title}: {fraction:.0%}{left}" + (f" · {escape(note)}" if note else ""))
        self.last, self.shown = now, fraction


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def show(text: str) -> None:
    """One line of the result on stdout, as it is: no markup, no emoji."""
    stdout.print(text, markup=False)


def check_json(target: str | None) -> None:
    """Raise WriteError before the work where the file of --json could not be written after it."""
    if target not in (None, "-"):
        from biomask.io.files import require_writable

        require_writable(Path(str(target)).parent)


def write_json(content: Any, target: str | None) -> bool:
    """Write `content` to the file of --json, or to stdout for "-"; True when stdout is taken by it."""
    if target is None:
        return False
    if target == "-":
        sys.stdout.write(json.dumps(content, indent=2) + "\n")  # ASCII, whatever stdout is redirected to
        return True
    from biomask.io.files import write_text

    write_text(Path(target), json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return False
