"""`doctor`: what is installed, what the machine can do, and whether biomask works here."""

from __future__ import annotations

from biomask.doctor import Diagnosis, examine
from biomask.progress import Progress


def doctor(*, self_test: bool = True, progress: Progress | None = None) -> Diagnosis:
    """Examine this machine; see `biomask.doctor.examine`.

    self_test: also train, predict and write files for about ten seconds.

    >>> doctor(self_test=False).checks
    ()
    """
    return examine(self_test=self_test, progress=progress)
