"""`biomask check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biomask.cli.console import ConsoleProgress, check_json, check_report, show, stdout, write_json
from biomask.cli.options import (
    Axes,
    Channels,
    Groups,
    Ignore,
    Json,
    Labels,
    LegendText,
    Masks,
    MaskScale,
    Time,
    Unlabelled,
    Values,
    Z,
    label_settings,
    selection_settings,
)

if TYPE_CHECKING:
    from biomask.checking import Checked, Problem

#: Problems of one kind that are printed; --json and the report have all.
MOST_LINES = 12

#: Colours of the levels on a terminal.
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def check(
    data: Annotated[Path, typer.Argument(
        metavar="DATA", help="Folder of images and their labels, in any arrangement; or images alone.")],
    report: Annotated[Path | None, typer.Option(
        "--report", metavar="FILE",
        help="Where the contact sheet of all images goes. Default: check.html in the current folder, or beside DATA if that is "
             "the current folder.")] = None,
    masks: Masks = None,
    labels: Labels = None,
    ignore: Ignore = None,
    legend: LegendText = None,
    values: Values = None,
    mask_scale: MaskScale = None,
    unlabelled: Unlabelled = None,
    groups: Groups = None,
    axes: Axes = None,
    channels: Channels = None,
    z: Z = None,
    time: Time = None,
    json: Json = None,
) -> int:
    """Say what is in a folder, what is wrong with it and how to mend it. Exit code 1 where it cannot be trained on."""
    from biomask import api

    check_json(json, data, report)
    settings = {**label_settings(labels, ignore, legend, values, mask_scale, unlabelled), "groups": groups,
                **selection_settings(axes, channels, z, time)}
    target = report if report is not None else Path("check.html")
    if report is None and data.is_dir() and data.resolve() in target.resolve().parents:
        target = data.resolve().parent / f"{data.resolve().name}-check.html"  # nothing is written among the data
    check_report(target)
    checked = api.check(data, settings, masks=masks, report=target, progress=ConsoleProgress())
    if not write_json(checked.to_json(), json):
        print_verdict(checked)
        why, words = checked.next_step()
        show(f"report: {target}" + (f" · next: {words}" if words and not why else ""))
        if why:
            show(f"{why}: {words}" if words else why)
    return 0 if checked.usable else 1


def print_verdict(checked: Checked) -> None:
    """One screen: what there is, then every problem with its fix."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for what, text in checked.verdict:
        table.add_row(escape(what), escape(text))
    stdout.print(table)
    for note in checked.understood.notes:
        stdout.print(f"  [cyan]note[/] {escape(note)}")
    by_kind: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in checked.problems:
        by_kind.setdefault((problem.level, problem.kind, problem.fix), []).append(problem)
    if by_kind:
        stdout.print()
    for (level, _, fix), problems in by_kind.items():
        for problem in problems[:MOST_LINES]:
            stdout.print(f"[{STYLES[level]}]{level}[/] {escape(problem.what)}")
        if len(problems) > MOST_LINES:
            stdout.print(f"[{STYLES[level]}]{level}[/] … and {len(problems) - MOST_LINES} more like these (--json lists all)")
        if fix:
            stdout.print(f"  → {escape(fix)}")
    counts = {level: sum(p.level == level for p in checked.problems) for level in ("error", "warning")}
    said = " and ".join(f"{n} {level}{'s' * (n > 1)}" for level, n in counts.items() if n)
    usable = "usable" if checked.understood.layout.labelled else "usable for prediction, not for training"
    stdout.print(f"[bold]{usable if checked.usable else 'not usable yet'}[/]: {said or 'nothing wrong was found'}")
