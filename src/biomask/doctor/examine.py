"""The whole examination."""

from __future__ import annotations

from biomask.doctor import gather
from biomask.doctor.facts import Check, Diagnosis, Speed
from biomask.doctor.problems import find_problems
from biomask.machine import memory
from biomask.progress import Progress, Silent

#: Without these nothing can be tried.
ESSENTIAL = ("torch", "numpy")


def examine(*, self_test: bool = True, progress: Progress | None = None) -> Diagnosis:
    """Versions, processor, memory, disks, GPUs, optional parts, what is wrong; all of it without names of people or folders.

    self_test: also train, predict, write files and convolve for about ten seconds. Whatever is broken is in the result, never
    raised; nothing is left on the disk.
    """
    software, processor = gather.software(), gather.processor()
    accelerators = gather.accelerators()
    main = memory() if gather.package("psutil").usable else None
    disks = gather.disks()
    checks: tuple[Check, ...] = ()
    speeds: tuple[Speed, ...] = ()
    if self_test and all(gather.package(name).usable for name in ESSENTIAL):
        from biomask.doctor.self_test import self_test as run

        kinds = {d.name.partition(":")[0]: d.name for d in reversed(accelerators.devices if accelerators else ())}
        checks, speeds = run(tuple(kinds.values()), progress or Silent())  # one of each kind: many GPUs would take too long
    problems = find_problems(software, processor, main, disks, accelerators, checks, speeds)
    return Diagnosis(software, processor, main, disks, accelerators, checks, speeds, problems)
