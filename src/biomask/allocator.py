"""What the C library does with memory that is freed: speed against size.

glibc gives every block above 32 MiB, and what lies free at the end of its heap, back to the kernel, which clears each page
anew when the next tensor asks for it. Networks on a CPU free and ask for the same blocks all the time: kept, a prediction is up
to 1.7 times as fast and a training step no longer slow by chance (benchmarks/allocator.py). The price is gaps between blocks: the
process is larger. Other allocators (macOS, Windows, musl) are left as they are.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

#: glibc's names, see mallopt(3): how much may lie free at the end of the heap (-1: all), from what size on a block is mapped
#: alone, how many may be, and how many heaps there are (0: as many as threads ask for).
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8

#: What glibc arrives at by itself in a process that frees large blocks.
USUAL = {MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 64 * 2**20, MMAP_MAX: 65536, ARENA_MAX: 0}

KEPT = {MMAP_MAX: 0, TRIM_THRESHOLD: -1, ARENA_MAX: 1}

RETURNED = USUAL | {MMAP_THRESHOLD: 2**20}


def keep_freed_memory() -> None:
    """What is freed stays with the process, for what is asked for next."""
    _set(KEPT)


def return_freed_memory() -> None:
    """What is free is given back now, and blocks of a MiB or more as soon as they are freed: the process is as small as can be.

    Where memory was kept before, a block may lie in a hole of the heap: freed, it goes at the next call.
    As glibc is by default, the gaps between blocks took a prediction to 1.4 times the bound that was asked for.
    """
    _set(RETURNED)
    _trim()


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """`keep_freed_memory` while the block runs; then all that is free is given back, and glibc does as it usually does."""
    keep_freed_memory()
    try:
        yield
    finally:
        _set(USUAL)
        _trim()


def _set(options: dict[int, int]) -> None:
    if _is_glibc():
        library = ctypes.CDLL(None)
        for name, value in options.items():
            library.mallopt(name, value)


def _trim() -> None:
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
