"""Ctrl-C and SIGTERM: finish the step, save, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopFlag:
    """Set by a signal; a second Ctrl-C interrupts at once, a repeated SIGTERM (as schedulers send it) does not."""

    def __init__(self, announce: Callable[[], None]) -> None:
        self.signal: str | None = None
        self.announce = announce

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        first, self.signal = self.signal is None, signal.Signals(number).name
        if first:
            self.announce()


@contextmanager
def stop_on_signals(announce: Callable[[], None]) -> Iterator[StopFlag]:
    """A flag that SIGINT and SIGTERM set while the block runs; nothing outside the main thread, where none arrive.

    announce is called at the first signal, so that a user hears at once.
    """
    flag = StopFlag(announce)
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.signal(number, flag.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
