"""`biomask doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from biomask.cli.console import ConsoleProgress, check_json, show, stdout, write_json
from biomask.cli.options import Json

if TYPE_CHECKING:
    from biomask.doctor import Accelerators, Diagnosis, Processor, Software

#: Packages that are named first; the others follow in a line of their own.
FIRST = ("torch", "numpy")

STYLES = {"error": "bold red", "warning": "yellow"}


def doctor(
    self_test: Annotated[bool, typer.Option("--self-test/--no-self-test", help="Also train, predict, write files and measure the "
                                                                               "speed of convolutions: ten seconds.")] = True,
    json: Json = None,
) -> int:
    """Say what is installed, what this machine can do, and whether biomask works here. Exit code 1 where it does not.

    What it prints names no person and no folder, so that it can be pasted into a report of a mistake.
    """
    from biomask.doctor import examine  # not by way of biomask.api, which cannot be imported where torch is broken

    check_json(json)
    found = examine(self_test=self_test, progress=ConsoleProgress())
    if not write_json(found.to_json(), json):
        print_diagnosis(found)
    return 0 if found.well else 1


def print_diagnosis(found: Diagnosis) -> None:
    """One screen: problems with their fixes first, then the facts."""
    from rich.markup import escape
    from rich.table import Table

    for problem in found.problems:
        stdout.print(f"[{STYLES[problem.level]}]{problem.level}[/] {escape(problem.what)}")
        stdout.print(f"  → {escape(problem.fix)}")
    if found.problems:
        stdout.print()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for what, text in lines(found):
        table.add_row(escape(what), escape(text))
    stdout.print(table)
    errors = sum(p.level == "error" for p in found.problems)
    warnings = len(found.problems) - errors
    counts = " and ".join(f"{n} {word}{'s' * (n > 1)}" for n, word in ((errors, "error"), (warnings, "warning")) if n)
    tried = "" if found.checks else " (nothing was tried: --self-test does)"
    show(f"\n{'biomask works here' if found.well else 'biomask does not work as it should here'}{tried}: "
         f"{counts or 'nothing wrong was found'}")


def lines(found: Diagnosis) -> Iterator[tuple[str, str]]:
    """(what, text) of each fact."""
    yield from _software(found.software)
    yield "processor", _processor(found.processor)
    if found.memory is not None:
        limited = ", the limit of the container or batch job" if found.memory.limited else ""
        yield "memory", f"{found.memory.free / 2**30:.1f} of {found.memory.total / 2**30:.1f} GiB are free{limited}"
    free = ("cannot be looked at" if d.free is None else f"{d.free / 2**30:.1f} GiB are free" for d in found.disks)
    yield "disk", " · ".join(f"{disk.purpose}: {text}" for disk, text in zip(found.disks, free, strict=True))
    if found.accelerators is not None:
        yield "devices", _devices(found.accelerators)
    for extra in found.software.extras:
        there = ", ".join(f"{p.name} {p.version}" for p in extra.packages if p.usable)
        missing = f"not there: pip install {' '.join(extra.missing)}" if extra.missing else ""
        yield f"for {extra.name}", "; ".join(part for part in (there, missing) if part)
    for check in found.checks:
        yield check.name, ("" if check.passed else "failed: ") + f"{check.found} ({check.seconds:.1f} s)"


def _software(software: Software) -> Iterator[tuple[str, str]]:
    versions = {p.name: p.version or "is not there" for p in software.packages}
    yield "biomask", ", ".join([software.biomask, f"Python {software.python}",
                                *(f"{name} {versions.pop(name)}" for name in FIRST if name in versions)])
    yield "system", software.system
    yield "packages", ", ".join(f"{name} {version}" for name, version in versions.items())


def _processor(found: Processor) -> str:
    has, lacks = ([name for name, there in found.features.items() if there is wanted] for wanted in (True, False))
    cores = f"{found.usable_cores} of {found.cores} cores" if found.usable_cores != found.cores else f"{found.cores} cores"
    parts = [found.name, cores, " ".join(has) or "no vector units known"]
    if lacks:
        parts.append(f"no {' '.join(lacks)}")
    if found.threads is not None:
        parts.append(f"torch uses {found.threads} thread{'s' * (found.threads > 1)}, {found.used}")
    return " · ".join(parts)


def _devices(found: Accelerators) -> str:
    named = [f"{d.name}: {d.model}" + (f", {d.memory / 2**30:.0f} GiB" if d.memory else "") + (", bfloat16" if d.bfloat16 else "")
             for d in found.devices]
    return f"{' · '.join(['cpu', *named])}; torch is built for {found.built_for}" + (
        f", NVIDIA driver {found.driver}" if found.driver else "")
