"""What `biomask doctor` finds, as plain values: nothing here measures or prints, nothing names the user or the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from biomask.machine import Memory


@dataclass(frozen=True)
class Package:
    """A package that biomask needs or can use."""

    name: str
    """As pip knows it."""
    version: str | None
    """None = not installed."""
    broken: str | None = None
    """Why it cannot be imported; None where it can."""

    @property
    def usable(self) -> bool:
        """Whether it is there and can be imported."""
        return self.version is not None and self.broken is None


@dataclass(frozen=True)
class Extra:
    """An optional part: an extra of biomask's own package."""

    name: str
    packages: tuple[Package, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that are not there or broken."""
        return tuple(p.name for p in self.packages if not p.usable)


@dataclass(frozen=True)
class Software:
    """Versions."""

    biomask: str
    python: str
    system: str
    """Operating system, its version and the architecture."""
    packages: tuple[Package, ...]
    """That biomask needs."""
    extras: tuple[Extra, ...]
    """That it can use."""
    file_names: str
    """Encoding of file names."""

    def version_of(self, name: str) -> str | None:
        """Of a package that biomask needs; None where it is not there."""
        return next((p.version for p in self.packages if p.name == name), None)


@dataclass(frozen=True)
class Processor:
    """The CPU, and how much of it torch uses."""

    name: str
    cores: int
    """Logical."""
    usable_cores: int
    """Of them, those that this process may keep busy: less in a container or batch job."""
    features: Mapping[str, bool]
    """Instruction sets that matter to convolutions, by their usual name: AVX2, AVX-512, VNNI, bfloat16, AMX; of ARM NEON, …"""
    threads: int | None = None
    """That torch computes with; None where torch is not there. So it is below."""
    used: str | None = None
    """Instruction set that torch uses: DEFAULT, AVX2, AVX512, …"""
    onednn: bool | None = None
    """Whether torch has oneDNN, which makes convolutions fast; x86 only."""
    busy: float = 0.0
    """Share of all cores that other programs take now, 0..1."""
    limits: Mapping[str, str] | None = None
    """Environment variables that are set and limit it."""


@dataclass(frozen=True)
class Disk:
    """Where files are written."""

    purpose: str
    """"this folder" or "temporary files": no path, which may hold a name."""
    free: int | None
    """Bytes; None where it cannot be told."""
    writable: bool


@dataclass(frozen=True)
class Device:
    """What torch can compute on beside the CPU."""

    name: str
    """As --device takes it: cuda:0, mps."""
    model: str
    memory: int | None
    """Bytes."""
    bfloat16: bool
    """Whether it computes in it by itself."""


@dataclass(frozen=True)
class Accelerators:
    """GPUs, and why there are none."""

    devices: tuple[Device, ...]
    built_for: str
    """What this build of torch can use: CPU, CUDA 13.0, ROCm 7.0, MPS."""
    driver: str | None
    """NVIDIA's driver on this machine: its version, "there", or None."""
    said: str | None = None
    """What torch says when it fails to use a GPU."""


@dataclass(frozen=True)
class Check:
    """One part of the self-test."""

    name: str
    passed: bool
    found: str
    """A few words with the figures, or what went wrong."""
    seconds: float
    fix: str | None = None
    """Where it failed and that can be said."""


@dataclass(frozen=True)
class Speed:
    """Convolutions on one device, forward and backward; floating-point operations a second, two a multiply-add."""

    device: str
    float32: float | None
    bfloat16: float | None
    uses_bfloat16: bool
    """Whether training takes bfloat16 there."""


@dataclass(frozen=True)
class Problem:
    """Something to look at."""

    level: Literal["error", "warning"]
    """error: biomask does not work as it should. warning: it works, but slower or on less than there could be."""
    what: str
    fix: str


@dataclass(frozen=True)
class Diagnosis:
    """All of it."""

    software: Software
    processor: Processor
    memory: Memory | None
    """None where psutil is not there."""
    disks: tuple[Disk, ...]
    accelerators: Accelerators | None
    """None where torch is not there."""
    checks: tuple[Check, ...]
    """Of the self-test; none where it was left out."""
    speeds: tuple[Speed, ...]
    problems: tuple[Problem, ...]

    @property
    def well(self) -> bool:
        """Whether biomask works here; warnings do not count."""
        return all(p.level != "error" for p in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, with `well`."""
        return {"well": self.well, **asdict(self)}
