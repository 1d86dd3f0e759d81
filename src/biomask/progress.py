"""How library code tells its caller what it is doing; only the command line prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One running piece of work."""

    def update(self, fraction: float, note: str = "") -> None:
        """Say how much is done, 0..1, and a few words such as the loss."""


class Progress(Protocol):
    """Where messages and bars go."""

    def say(self, message: str) -> None:
        """One line that the user should read: a choice and its reason, a device, a result."""

    def warn(self, message: str) -> None:
        """One line that the user must not miss."""

    def bar(self, title: str) -> AbstractContextManager[Bar]:
        """A bar for work that may take longer than a second."""


class _SilentBar:
    def update(self, fraction: float, note: str = "") -> None:
        pass


class Silent:
    """Says nothing: the default of the Python interface."""

    def say(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass

    @contextmanager
    def bar(self, title: str) -> Iterator[Bar]:
        yield _SilentBar()
