"""Limits of containers and batch jobs, from folders that look like the kernel's."""

import os
from pathlib import Path

import psutil
import pytest

from biomask.machine import free_memory, memory, usable_cores

MIB = 2**20
UNLIMITED_V1 = str(2**63 - 4096)


def fake(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.fixture
def whole(monkeypatch):
    """A machine of 64 GiB, of which 50 are free, and 16 cores."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"total": 65536 * MIB, "available": 51200 * MIB}))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


def test_no_control_groups(whole, tmp_path):
    found = memory(tmp_path)
    assert (found.total, found.free, found.limited) == (65536 * MIB, 51200 * MIB, False)
    assert usable_cores(tmp_path) == 16


@pytest.mark.parametrize(("cgroup", "folder"), [("0::/", ""), ("0::/job/step", "job/step/"), ("0::/job/step", "job/"),
                                                ("0::/what/is/outside", "")])
def test_version_2(whole, tmp_path, cgroup, folder):
    """The limit of the group itself, of one around it, and of a container that sees the path outside."""
    root = fake(tmp_path, cgroup, {f"{folder}memory.max": str(8192 * MIB), f"{folder}memory.current": str(3072 * MIB),
                                   f"{folder}memory.stat": f"anon 5\ninactive_file {1024 * MIB}\nactive_file 7",
                                   f"{folder}cpu.max": "250000 100000"})
    found = memory(root)
    assert (found.total, found.free, found.limited) == (8192 * MIB, 6144 * MIB, True)
    assert usable_cores(root) == 3


def test_version_1(whole, tmp_path):
    root = fake(tmp_path, "4:memory:/slurm/job_1\n1:cpu,cpuacct:/slurm/job_1\n0::/", {
        "memory/slurm/job_1/memory.limit_in_bytes": str(4096 * MIB), "memory/slurm/job_1/memory.usage_in_bytes": str(1024 * MIB),
        "memory/slurm/job_1/memory.stat": f"inactive_file 1\ntotal_inactive_file {512 * MIB}",
        "memory/memory.limit_in_bytes": UNLIMITED_V1, "memory/memory.usage_in_bytes": "1",
        "cpu,cpuacct/slurm/job_1/cpu.cfs_quota_us": "200000", "cpu,cpuacct/slurm/job_1/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"})
    found = memory(root)
    assert (found.total, found.free, found.limited) == (4096 * MIB, 3584 * MIB, True)
    assert usable_cores(root) == 2


def test_the_tightest_of_several_groups_counts(whole, tmp_path):
    root = fake(tmp_path, "0::/job/step", {
        "job/memory.max": str(2048 * MIB), "job/memory.current": str(2000 * MIB),
        "job/step/memory.max": str(1024 * MIB), "job/step/memory.current": str(100 * MIB), "memory.max": "max"})
    assert memory(root).total == 1024 * MIB
    assert free_memory(root) == 48 * MIB
    (root / "sys/fs/cgroup/job/memory.current").write_text(str(3000 * MIB))  # beyond its limit: nothing, not less
    assert free_memory(root) == 0


def test_groups_without_a_limit(whole, tmp_path):
    root = fake(tmp_path, "0::/", {"memory.max": "max", "memory.current": "5", "cpu.max": "max 100000"})
    assert not memory(root).limited
    assert free_memory(root) == 51200 * MIB
    assert usable_cores(root) == 16


def test_half_a_core_is_one(whole, tmp_path):
    assert usable_cores(fake(tmp_path, "0::/", {"cpu.max": "50000 100000"})) == 1


def test_here():
    """Whatever runs the tests: what is free is part of what there is."""
    assert 0 < free_memory() <= memory().total <= psutil.virtual_memory().total
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
