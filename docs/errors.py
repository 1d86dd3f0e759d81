"""Write docs/reference/errors.md: every class of error, with a message that a call really gives.

    python docs/errors.py
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from biomask import api
from biomask.cli.app import app
from biomask.errors import (
    BiomaskError,
    DiskFullError,
    InputError,
    LabelsError,
    ManyErrors,
    MissingPathError,
    ModelFileError,
    NetworkError,
    OutOfMemoryError,
    PairingError,
    ReadError,
    ResourceError,
    SizeError,
    StoppedError,
    UsageError,
    WriteError,
)
from biomask.image import Image
from biomask.io import read_image, write_image
from biomask.io.files import write_picture
from biomask.models import UNet
from biomask.prediction.memory import TooLittleMemory, fit_tile

PAGE = Path(__file__).parent / "reference" / "errors.md"

HEAD = """<!-- written by `python docs/errors.py`; a test compares -->
# Errors and exit codes

Whatever goes wrong, `biomask` says what, where, and after `→` what to do about it. Nothing that was there before is lost by an
error: files are written whole or not at all.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | something that you can fix: a file, a folder, a value, a label |
| 2 | the command line is wrong: an option, a contradiction, an unknown name |
| 3 | the machine gave out, or the work was stopped: the same command works with more memory, disk or time |

`--debug` anywhere in the line prints the traceback too. `--log FILE` appends all that is said to a file, with the time, and always
the tracebacks. A message that begins with *unexpected* is a mistake in biomask: report it with that file and the output of
`biomask doctor`.

In Python all of them are in `biomask.errors`; each has `what`, `where`, `fix` and `exit_code`. `except BiomaskError` catches
every one, `except InputError` those of exit code 1.

## Every class of error

| class | exit code | when | what to do |
|---|---|---|---|
"""

EXAMPLES_HEAD = """
## An example of each

Each message here was given by the line above it (but how much memory is free, which differs).

"""


@dataclass(frozen=True)
class Example:
    """How a class of error comes about."""

    error: type[BiomaskError]
    when: str
    advice: str
    line: str = ""
    """What is typed; none for a class that is only the root of others."""
    call: Callable[[], object] | None = None
    """What is called where it is not a command."""
    around: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    """What must be so while it runs."""


def full_disk() -> contextlib.AbstractContextManager[object]:
    """As if the disk were full."""
    return mock.patch("os.fsync", side_effect=OSError(errno.ENOSPC, "No space left on device"))


def offline() -> contextlib.AbstractContextManager[object]:
    """As if there were no network."""
    return mock.patch("socket.getaddrinfo", side_effect=socket.gaierror(socket.EAI_NONAME, "Name or service not known"))


def stopped() -> contextlib.AbstractContextManager[object]:
    """As if Ctrl-C had been pressed."""
    result = api.TrainResult(Path("model"), 1200, 600.0, 0.8, "SIGINT")
    return mock.patch("biomask.api.train", return_value=result)


EXAMPLES = (
    Example(BiomaskError, "Root of all below; never raised itself.", "See the classes below."),
    Example(InputError, "Something that you gave does not work, and none of the classes below says it better.",
            "Do what stands after the arrow.", "biomask predict model data/images -o mine"),
    Example(MissingPathError, "A path that does not exist.", "Look for a typing mistake, or whether the disk is there.",
            "biomask train nowhere -o new"),
    Example(ReadError, "A file that cannot be read, or not without a guess.",
            "Copy or export it again, or say what biomask would have to guess.", "read_image(\"stack.tif\")",
            lambda: read_image("stack.tif")),
    Example(WriteError, "A place that cannot be written to. It is found before the work, not after it.",
            "Give another place.", "biomask check data --json data"),
    Example(PairingError, "Images and labels that do not belong together one to one.",
            "Give each image a name of its own and its labels the same; `biomask check DATA` shows what belongs to what.",
            "biomask predict model twins -o new"),
    Example(LabelsError, "Values, kinds or shapes of labels that do not fit the data or each other.",
            "`biomask check DATA` shows every image with its labels.", "biomask train mixed -o new"),
    Example(SizeError, "An array or window of a size that cannot work; it names one that does. It is a `ValueError` too.",
            "Use the size that it names.", "UNet(1, 2, width=4, depth=2, padding=\"valid\")(torch.zeros(1, 1, 50, 50))",
            lambda: UNet(1, 2, width=4, depth=2, padding="valid")(torch.zeros(1, 1, 50, 50))),
    Example(ModelFileError, "A model that is not one, is damaged, or was made for other data. Nothing in it is ever run.",
            "Copy it again, or give one that `biomask train` wrote.", "biomask predict downloaded.safetensors data/images -o new"),
    Example(ManyErrors, "Several inputs are bad: all are listed at once. `predict` does the good ones first. Exit code 3 where "
                        "each of them is for lack of memory or disk.",
            "Mend them, or take them away, and run the same command again.", "biomask train damaged -o new"),
    Example(TooLittleMemory, "Not even the smallest tile fits; `predict` turns it into the memory that is needed.",
            "Give more memory, or a network that needs less.", "fit_tile(UNet(1, 2), (512, 512), budget=1e6)",
            lambda: fit_tile(UNet(1, 2), (512, 512), budget=1e6)),
    Example(UsageError, "A wrong option, a contradiction between options, or a name that is not known.",
            "`biomask COMMAND --help` shows what can be given.", "biomask train data -o new --labels cells"),
    Example(ResourceError, "Root of the four below; never raised itself.", "See the classes below."),
    Example(OutOfMemoryError,
            "Memory ran out, or would for certain: a file that claims more than there is is refused before it is read.",
            "Cut the image into parts, give `--tile` or `--memory`, or use a machine with more memory.",
            "read_image(\"monster.npy\")", lambda: read_image("monster.npy")),
    Example(DiskFullError, "The disk is full. What was complete before is kept.", "Free some space and run the same command again.",
            "biomask check data", around=full_disk),
    Example(NetworkError, "A download that did not come through. What has arrived is kept.",
            "Look whether the machine is online, and run the same command again; it goes on.",
            "biomask datasets get resnet18 -o weights", around=offline),
    Example(StoppedError, "Stopped by Ctrl-C or a signal, after everything was saved.", "Run the same command again; it goes on.",
            "biomask train data -o model", around=stopped),
)


def write_world() -> None:
    """What the examples need, in the current folder."""
    truth = np.where(np.arange(48 * 48).reshape(48, 48) % 48 > 24, 255, 0).astype(np.uint8)

    def write(folder: str, name: str, mask: np.ndarray) -> None:
        write_picture(Path(folder) / "images" / f"{name}.png", (40 + mask // 2).astype(np.uint8))
        write_picture(Path(folder) / "masks" / f"{name}.png", mask)

    for n, name in enumerate(("monday", "tuesday", "wednesday", "thursday")):
        rolled = np.roll(truth, 3 * n, axis=1)
        write("data", name, rolled)
        write("damaged", name, rolled)
        write("mixed", name, rolled // 255 if n < 2 else rolled)
    for name in ("monday", "tuesday"):
        Path(f"damaged/images/{name}.png").write_bytes(b"")
    settings = ("network.options.width=2", "network.options.depth=1", "training.batch=1", "training.patch=[16,16]")
    api.train("data", "model", api.TrainOptions(steps=1, settings=settings, device="cpu"))
    Path("mine/masks").mkdir(parents=True)
    for suffix in ("png", "bmp"):
        write_image(Path("twins") / f"cells.{suffix}", Image(truth[None], "cyx", "cells"))
    Path("downloaded.safetensors").write_bytes(b"PK\x03\x04 not one of ours")
    with Path("monster.npy").open("wb") as file:
        file.write(_npy_header((2_000_000, 2_000_000)))
        file.truncate(128 + 2_000_000**2)  # no disk holds it: almost all of it is a hole
    import tifffile

    tifffile.imwrite("stack.tif", np.zeros((6, 20, 30), np.uint8), photometric="minisblack", metadata=None)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """128 bytes."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@contextlib.contextmanager
def in_a_folder_of_its_own() -> Iterator[None]:
    """So that the paths in the messages are short and the same everywhere."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            write_world()
            yield
        finally:
            os.chdir(before)


def raised(example: Example) -> BiomaskError:
    """The error that an example gives."""
    try:
        with example.around(), contextlib.redirect_stderr(None):
            if example.call is not None:
                example.call()
            else:
                app(example.line.split()[1:], standalone_mode=False)
    except BiomaskError as error:
        return error
    raise RuntimeError(f"{example.line} raised nothing")


def row(example: Example) -> str:
    """Of one class, in the table."""
    name = example.error.__name__
    shown = f"[{name}](#{name.lower()})" if example.line else name
    return f"| {shown} | {example.error.exit_code} | {example.when} | {example.advice} |\n"


def section(example: Example) -> str:
    """The message of one class, in Markdown."""
    error = raised(example)
    if type(error) is not example.error:
        raise RuntimeError(f"{example.line} raised {type(error).__name__}, not {example.error.__name__}: {error}")
    message = str(error) if "→" in str(error) else f"{error}\n  → {error.usual_fix}"
    message = re.sub(r"and [\d.,]+ are free", "and 12.0 are free", message)  # what is free differs
    typed, said = (f">>> {example.line}", f"{type(error).__name__}: ") if example.call else (
        f"$ {example.line}", "stopped: " if error.exit_code == 3 else "error: ")
    return f"### {example.error.__name__}\n\n```text\n{typed}\n{said}{message}\n```\n"


def page() -> str:
    """The whole page."""
    with in_a_folder_of_its_own():
        return HEAD + "".join(map(row, EXAMPLES)) + EXAMPLES_HEAD + "\n".join(section(e) for e in EXAMPLES if e.line)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
