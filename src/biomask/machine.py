"""What this process may use of the machine: memory and cores, within the limits of a container or a batch job.

Inside one, the system tells of the whole machine; who believes it is killed. Linux keeps the limits in control groups
(https://docs.kernel.org/admin-guide/cgroup-v2.html, and version 1, which clusters still have); elsewhere there are none.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes."""

    total: int
    """That this process may use in the end."""
    free: int
    """That it can take now without pushing anything out."""
    limited: bool
    """Whether a container or batch job allows less than the machine has."""


def memory(root: Path = ROOT) -> Memory:
    """Main memory, within the limits of the control group. root: where / is, for tests."""
    import psutil

    machine = psutil.virtual_memory()
    limit = min((limit for limit, _ in _memory_limits(root)), default=int(machine.total))
    return Memory(min(limit, int(machine.total)), free_memory(root), limit < machine.total)


def free_memory(root: Path = ROOT) -> int:
    """Bytes of main memory that can be taken now."""
    import psutil

    left = (max(0, limit - used) for limit, used in _memory_limits(root))
    return min((int(psutil.virtual_memory().available), *left))


def usable_cores(root: Path = ROOT) -> int:
    """Logical cores that this process may keep busy: those it is pinned to, or fewer where its time is limited."""
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min((pinned, *(math.ceil(share) for share in _core_limits(root)))))


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, bytes used of it) of each control group around this process; files that can be read again do not count as used."""
    for folder in _groups(root, "memory"):
        for most, used, idle in (("memory.max", "memory.current", "inactive_file"),
                                 ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")):
            limit = _read(folder / most)
            if limit.isdecimal():
                lines = (line.partition(" ") for line in _read(folder / "memory.stat").splitlines())
                reclaimed = sum(int(n) for name, _, n in lines if name == idle and n.isdecimal())
                yield int(limit), int(_read(folder / used) or 0) - reclaimed


def _core_limits(root: Path) -> Iterator[float]:
    """Cores' worth of time of each control group around this process."""
    for folder in _groups(root, "cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):  # "max" and -1 are no limit
            yield int(quota) / int(period)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, from its own up to the topmost that can be seen.

    Inside a container the path may be the one outside, of which only the topmost folder is there.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if names and controller not in names.split(","):
            continue
        top = root / "sys/fs/cgroup" / names if names else root / "sys/fs/cgroup"
        own = top / path.strip("/")
        for folder in (own, *own.parents):
            if folder.is_dir():
                yield folder
            if folder == top:
                break


def _read(path: Path) -> str:
    """A file of the kernel; empty where there is none."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
