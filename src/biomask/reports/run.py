"""`Run`: what is known of a training beside the header of its model, and how it could be repeated."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import biomask
from biomask.data.survey import file_hash
from biomask.device import describe_device
from biomask.machine import memory
from biomask.models.blocks import parameter_count
from biomask.reports.origin import origin_said
from biomask.training.folds import fold_splits
from biomask.training.optimizer import use_bfloat16
from biomask.training.setup import held_out as split_of

if TYPE_CHECKING:
    import torch

    from biomask.checkpoint import Model
    from biomask.data.dataset import Dataset

#: Packages that results depend on, and what they are called.
PACKAGES = {"torch": "PyTorch", "numpy": "NumPy", "scipy": "SciPy", "scikit-image": "scikit-image"}


@dataclass(frozen=True)
class Run:
    """A training. What is not known is left as it is here."""

    images: int = 0
    sizes: tuple[tuple[int, ...], ...] = ()
    """Of the images, in pixels along each axis."""
    held_out: tuple[str, ...] = ()
    """Names of the images that took no part in training; of a cross-validation none."""
    held_out_by: str = ""
    """How they were chosen."""
    groups: int | None = None
    """How many groups of images there are; None = every image is one."""
    groups_by: str = ""
    parameters: int | None = None
    """Trainable, of one network."""
    steps: int | None = None
    """Optimisation steps done; of a cross-validation those of its last fold."""
    seconds: float | None = None
    device: str = ""
    """For people."""
    machine: str = ""
    bfloat16: bool = False
    """Whether convolutions were computed in it."""
    state: str = ""
    """"finished", or "stopped by" what."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of software, by name."""
    data: str = ""
    """The folder."""
    origin: str = ""
    """Where its licence and origin are stated, in a sentence."""
    written: str = ""
    """When, ISO 8601."""
    command: str = ""
    """As it was typed; empty where it was called from Python."""
    sha256: str = ""
    """Of the model file."""
    choices: tuple[str, ...] = ()
    """What was chosen and why, a sentence each."""

    @property
    def size_text(self) -> str:
        """512 × 512 px, or 256 × 256 to 1024 × 1360 px, by the number of pixels."""
        if not self.sizes:
            return ""
        low, high = min(self.sizes, key=prod), max(self.sizes, key=prod)
        texts = [" × ".join(map(str, s)) for s in (low, high)]
        return f"{texts[0]} px" if low == high else f"{texts[0]} to {texts[1]} px"


def read_run(folder: Path, model: Model, dataset: Dataset, held_out: Dataset | None, device: torch.device,
             choices: Sequence[str] = ()) -> Run:
    """From a model folder's run.json, its data and this machine, on which it was trained just now."""
    record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    groups = len(set(dataset.facts.groups)) if dataset.facts.groups_reason else None
    data = str(record.get("data") or "")
    return Run(len(dataset), dataset.facts.sizes, tuple(p.name for p in held_out.pairs) if held_out is not None else (),
               _held_out_by(model, dataset, held_out), groups, dataset.facts.groups_reason,
               parameter_count(model.network) // model.header.members, record["step"], record["seconds"],
               describe_device(device), machine_text(),
               use_bfloat16(model.header.recipe.training.precision, device, model.header.recipe.training.patch or ()),
               "finished" if record["finished"] else f"stopped by {record['stopped_by']}",
               {**versions(), "torch": str(record["torch_version"])}, data, origin_said(Path(data)) if data else "",
               str(record.get("written") or ""), command_line(), file_hash(model.path), tuple(choices))


def _held_out_by(model: Model, dataset: Dataset, held_out: Dataset | None) -> str:
    header = model.header
    if header.members > 1:
        splits = fold_splits([p.name for p in dataset.pairs], dataset.facts.groups, header.members, header.recipe.training.seed)
        return f"{header.members} folds, {splits[0].reason.rpartition(', ')[2]}"
    return split_of(dataset, header.recipe).reason if held_out is not None else ""


def versions() -> dict[str, str]:
    """Of Python, biomask and the packages that results depend on."""
    found = {"biomask": biomask.__version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # installed in a way that leaves no metadata
            continue
    return found


def machine_text() -> str:
    """Processor, cores, memory and system, in a line."""
    import torch

    told = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    name = str(told.get("cpu_name") or platform.processor() or platform.machine())
    return f"{name}, {os.cpu_count() or 1} logical cores, {memory().total / 1e9:.0f} GB of memory, {platform.platform(terse=True)}"


def command_line() -> str:
    """What was typed, with biomask for the path to it; empty where another program imported it."""
    program = Path(sys.argv[0])
    own = program.stem == "biomask" or (program.name == "__main__.py" and program.parent.name == "biomask")
    return shlex.join(["biomask", *sys.argv[1:]]) if own else ""


def digest(hashes: Mapping[str, str]) -> str:
    """One SHA-256 for all files: of their lines "hash  name", sorted by name, as `sha256sum` would print them.

    >>> digest({"b": "2", "a": "1"}) == hashlib.sha256(b"1  a\\n2  b\\n").hexdigest()
    True
    """
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
