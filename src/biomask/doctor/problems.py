"""From what was found to what is wrong with it and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from biomask.doctor.facts import Accelerators, Check, Disk, Problem, Processor, Software, Speed
from biomask.machine import Memory

#: Less free memory hardly trains or predicts anything, in bytes.
LITTLE_MEMORY = 2 * 2**30

#: Free bytes of a disk below which results may not fit.
LITTLE_DISK = 2 * 2**30

#: Share of the processor taken by others from which on figures and trainings suffer.
BUSY = 0.5

#: A precision is slower than the other by this factor at least, not by the noise of a measurement.
SLOWER = 1.2


def find_problems(software: Software, processor: Processor, memory: Memory | None, disks: Sequence[Disk],
                  accelerators: Accelerators | None, checks: Sequence[Check], speeds: Sequence[Speed]) -> tuple[Problem, ...]:
    """Errors first."""
    found = [*_of_software(software), *_of_checks(checks), *_of_processor(processor), *_of_memory(memory), *_of_disks(disks),
             *_of_accelerators(accelerators), *_of_speeds(speeds)]
    return tuple(sorted(found, key=lambda p: p.level != "error"))


def _of_software(software: Software) -> Iterator[Problem]:
    for package in software.packages:
        if package.version is None:
            yield Problem("error", f"{package.name} is not installed", f"pip install {package.name}")
        elif package.broken is not None:
            yield Problem("error", f"{package.name} {package.version} cannot be imported: {package.broken}",
                          f"pip install --force-reinstall {package.name}")
    for extra in software.extras:
        broken = [p for p in extra.packages if p.broken is not None]
        for package in broken:
            yield Problem("warning", f"{package.name} {package.version} (optional) cannot be imported: {package.broken}",
                          f"pip install --force-reinstall {package.name}")
    if software.file_names.lower().replace("-", "") != "utf8":
        yield Problem("warning", f"file names are taken for {software.file_names}: those with accents or in Chinese are not found",
                      "set PYTHONUTF8=1")


def _of_checks(checks: Sequence[Check]) -> Iterator[Problem]:
    for check in checks:
        if not check.passed:
            fix = check.fix or "report it at biomask's page of issues, with all that is printed here"
            where = "; until then use --device cpu" if not check.name.endswith(("cpu", "files")) else ""
            yield Problem("error", f"self-test of {check.name}: {check.found}", fix + where)


def _of_processor(found: Processor) -> Iterator[Problem]:
    limits, threads = dict(found.limits or {}), found.threads
    names = [k for k in limits if "THREAD" in k]
    if threads is not None and threads < min(found.usable_cores, found.cores // 2 or 1):
        cause = f"; set are {', '.join(f'{k}={limits[k]}' for k in names)}" if names else ""
        yield Problem("warning",
                      f"torch computes with {threads} thread{'s' * (threads > 1)}, {found.usable_cores} cores may be used{cause}",
                      f"unset {' '.join(names)}" if names else f"set OMP_NUM_THREADS={found.usable_cores}")
    if threads is not None and threads > found.usable_cores:
        yield Problem("warning", f"torch computes with {threads} threads, and {found.usable_cores} of {found.cores} cores may be "
                                 "used (container or batch job): they wait for each other",
                      f"set OMP_NUM_THREADS={found.usable_cores}")
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        if name in limits:
            yield Problem("warning", f"{name}={limits[name]} is set: some of the processor may lie idle", f"unset {name}")
    if found.onednn is False and "AVX2" in found.features:
        yield Problem("warning", "this build of torch lacks oneDNN: convolutions are slow", "install torch from PyTorch's page")
    if found.busy > BUSY:
        yield Problem("warning", f"other programs take {found.busy:.0%} of the processor: all takes longer, the speeds here too",
                      "close them, or wait until they are done")


def _of_memory(memory: Memory | None) -> Iterator[Problem]:
    if memory is not None and memory.free < LITTLE_MEMORY:
        job = " (that is what the container or batch job allows)" if memory.limited else ""
        yield Problem("warning", f"{memory.free / 2**30:.1f} of {memory.total / 2**30:.1f} GiB of memory are free{job}",
                      "ask for more memory" if memory.limited else "close other programs")


def _of_disks(disks: Sequence[Disk]) -> Iterator[Problem]:
    for disk in disks:
        temporary = disk.purpose == "temporary files"
        if not disk.writable:
            yield Problem("error" if temporary else "warning", f"{disk.purpose} cannot be written to",
                          "set TMPDIR to a folder that can" if temporary else "go to another folder, or give -o elsewhere")
        elif disk.free is not None and disk.free < LITTLE_DISK:
            yield Problem("warning", f"{disk.free / 2**30:.1f} GiB of disk are free for {disk.purpose}",
                          "set TMPDIR to a folder on another disk" if temporary else "free some space, or give -o elsewhere")


def _of_accelerators(found: Accelerators | None) -> Iterator[Problem]:
    if found is None or found.devices:
        return
    if found.said is not None:
        yield Problem("warning", f"torch finds no GPU that it can use: {found.said}", "update the driver of the GPU")
    elif found.driver is not None and not found.built_for.startswith("CUDA"):
        yield Problem("warning", f"there is a driver for an NVIDIA GPU, and this build of torch is for {found.built_for}",
                      "install torch for CUDA as https://pytorch.org/get-started/locally says")
    elif found.driver is not None:
        yield Problem("warning", f"there is a driver for an NVIDIA GPU ({found.driver}), and torch for {found.built_for} finds no "
                                 "GPU", "see what nvidia-smi says, and whether CUDA_VISIBLE_DEVICES is set")


def _of_speeds(speeds: Sequence[Speed]) -> Iterator[Problem]:
    for speed in speeds:
        if speed.float32 is None or speed.bfloat16 is None:
            continue
        if speed.uses_bfloat16 and speed.bfloat16 * SLOWER < speed.float32:
            times = speed.float32 / speed.bfloat16
            yield Problem("warning", f"training on {speed.device} uses bfloat16, and here float32 is {times:.1f} times as fast",
                          "biomask train … --set training.precision=float32")
