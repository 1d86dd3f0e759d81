"""Every error that biomask raises on purpose.

    BiomaskError                    exit code
    ├── InputError                  1   the user can fix it: files, values, memory asked for
    │   ├── MissingPathError            a path that does not exist
    │   ├── ReadError                   a file that cannot be read, or not without a guess
    │   ├── WriteError                  a place that cannot be written to
    │   ├── PairingError                images and labels that do not match
    │   ├── LabelsError                 label values or kinds that do not fit
    │   ├── SizeError                   an array or window of a shape that cannot work
    │   ├── ModelFileError              a model that is not one, or was made for other data
    │   └── ManyErrors                  several of these, all listed
    ├── UsageError                  2   a wrong option or an unknown name
    └── ResourceError               3   more memory, disk or time would do
        ├── OutOfMemoryError
        ├── DiskFullError
        └── StoppedError                stopped by a signal; running again goes on

Each says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class BiomaskError(Exception):
    """Root of the tree.

    what:  one sentence, what is wrong, with the values that were met.
    where: the file, folder or option, if there is one.
    fix:   what to type or change next.
    names: the images concerned, where there are several.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str | None = None, names: Sequence[str] = ()) -> None:
        self.what, self.where, self.fix, self.names = what, where, fix, tuple(names)
        super().__init__(self.__str__())

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where is not None else self.what
        return f"{head}\n  → {self.fix}" if self.fix else head


class InputError(BiomaskError):
    """Something that the user gave does not work, and the user can change it."""


class MissingPathError(InputError):
    """A path that does not exist."""


class ReadError(InputError):
    """A file that cannot be read, or not without guessing."""


class WriteError(InputError):
    """A place that cannot be written to."""


class PairingError(InputError):
    """Images and labels that do not match one to one."""


class LabelsError(InputError):
    """Label values, kinds or shapes that do not fit the data or the task."""


class SizeError(InputError, ValueError):
    """An array, patch or tile of a shape that cannot work; names one that does."""


class ModelFileError(InputError):
    """A file that is not a biomask model, is damaged, or was made for other data."""


class ManyErrors(InputError):
    """Several errors, one of each bad input, so that all can be mended at once.

    Exit code 3 where each of them is a `ResourceError`, otherwise 1.
    """

    def __init__(self, summary: str, errors: Sequence[BiomaskError], *, fix: str | None = None) -> None:
        self.summary, self.errors = summary, tuple(errors)
        if errors and all(isinstance(e, ResourceError) for e in errors):
            self.exit_code = ResourceError.exit_code
        super().__init__(summary, fix=fix)

    def __str__(self) -> str:
        lines = [self.summary, *("  - " + str(e).replace("\n", "\n    ") for e in self.errors)]
        return "\n".join(lines + ([f"  → {self.fix}"] if self.fix else []))


class UsageError(BiomaskError):
    """A wrong option, a contradiction between options, or a name that is not known."""

    exit_code = 2


class ResourceError(BiomaskError):
    """The machine gave out; the same command works with more memory, disk or time."""

    exit_code = 3


class OutOfMemoryError(ResourceError):
    """Memory ran out."""


class DiskFullError(ResourceError):
    """The disk is full."""


class StoppedError(ResourceError):
    """Stopped by Ctrl-C or a signal after everything was saved; running again goes on."""
