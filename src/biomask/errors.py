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
        ├── NetworkError                a download that did not come through; running again goes on
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
    usual_fix = "biomask COMMAND --help shows what can be given"
    """What the command line says where an error has no fix of its own."""

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

    usual_fix = "look whether the path is spelt right, and the disk is there"


class ReadError(InputError):
    """A file that cannot be read, or not without guessing."""

    usual_fix = "copy it again, or export it again from the program that wrote it"


class WriteError(InputError):
    """A place that cannot be written to."""

    usual_fix = "give another place"


class PairingError(InputError):
    """Images and labels that do not match one to one."""

    usual_fix = "biomask check DATA shows which image has which labels"


class LabelsError(InputError):
    """Label values, kinds or shapes that do not fit the data or the task."""

    usual_fix = "biomask check DATA shows every image with its labels"


class SizeError(InputError, ValueError):
    """An array, patch or tile of a shape that cannot work; names one that does."""


class ModelFileError(InputError):
    """A file that is not a biomask model, is damaged, or was made for other data."""

    usual_fix = "copy it again, or give another model that biomask train wrote"


class ManyErrors(InputError):
    """Several errors, one of each bad input, so that all can be mended at once.

    Exit code 3 where each of them is a `ResourceError`, otherwise 1.
    """

    usual_fix = "mend them, or take them away, and run the same command again"

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
    usual_fix = "close other programs, free some space, and run the same command again"


class OutOfMemoryError(ResourceError):
    """Memory ran out."""


class DiskFullError(ResourceError):
    """The disk is full."""


class NetworkError(ResourceError):
    """A download that the network did not carry to its end; what has arrived is kept."""

    usual_fix = "look whether this machine is online, and run the same command again: it goes on where it stopped"


class StoppedError(ResourceError):
    """Stopped by Ctrl-C or a signal after everything was saved; running again goes on."""
