"""Memory that is freed: kept where that is asked for, given back otherwise. In processes of their own, whose memory is measured."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")

#: Frees 128 MiB that were written to, and tells how many MiB were taken and how many are still there, one line a mode.
PROGRAM = """
import sys
import numpy as np, psutil
from biomask import allocator

def resident():
    return psutil.Process().memory_info().rss / 2**20

def freed():
    before = resident()
    blocks = [np.ones(2**22) for _ in range(4)]
    last = np.ones(10)
    most = resident() - before
    del blocks
    return most, resident() - before

def kept():
    with allocator.freed_memory_kept():
        return freed()

def returned():
    allocator.return_freed_memory()
    return freed()

def trimmed():
    allocator.return_freed_memory()
    before = resident()
    freed()
    allocator.return_freed_memory()
    return 0, resident() - before

for name in sys.argv[1:]:
    print(*{"kept": kept, "returned": returned, "trimmed": trimmed, "after": lambda: (0, resident())}[name]())
"""


def measured(*modes):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *modes], capture_output=True, text=True, check=True)
    return [[float(v) for v in line.split()] for line in done.stdout.splitlines()]


def test_kept_memory_stays_until_the_block_ends():
    (most, left), (_, after) = measured("kept", "after")
    assert most == pytest.approx(128, abs=8)
    assert left == pytest.approx(128, abs=8)
    (_, bare), = measured("after")
    assert after - bare < 20


def test_returned_memory_is_gone_at_once():
    (most, left), = measured("returned")
    assert most == pytest.approx(128, abs=8)
    assert left < 8


def test_one_can_follow_the_other():
    """After memory was kept the heap has holes, and what is freed in them goes at the next call."""
    kept, returned, again = measured("kept", "trimmed", "kept")
    assert kept[1] > 100
    assert returned[1] < 8
    assert again[1] > 100
