"""`biomask evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from biomask.cli.console import ConsoleProgress, check_json, show, stdout, write_json
from biomask.cli.options import (
    Axes,
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


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder that `predict` wrote, or a folder of masks.")],
    truth: Annotated[Path, typer.Argument(help="True labels in any form that training takes, or a data folder that holds them.")],
    masks: Masks = None,
    labels: Labels = None,
    ignore: Ignore = None,
    legend: LegendText = None,
    values: Values = None,
    mask_scale: MaskScale = None,
    unlabelled: Unlabelled = None,
    axes: Axes = None,
    z: Z = None,
    time: Time = None,
    report: Annotated[Path | None, typer.Option(help="Also write an HTML report to this file.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap behind the intervals.", min=0)] = 0,
    json: Json = None,
) -> int:
    """Compare predicted masks with true ones: Dice, IoU, pixel error."""
    from biomask import api

    check_json(json)
    settings = api.data_settings({**label_settings(labels, ignore, legend, values, mask_scale, unlabelled),
                                  **selection_settings(axes, None, z, time)})
    evaluation = api.evaluate(predictions, truth, settings=settings, masks=masks, report=report, seed=seed,
                              progress=ConsoleProgress())
    if not write_json(evaluation, json):
        print_scores(evaluation)
    return 0


def print_scores(evaluation: Mapping[str, Any]) -> None:
    """The table of an evaluation, with what it was computed over."""
    from rich.markup import escape
    from rich.table import Table

    n = evaluation["n_images"]
    table = Table(title=f"{n} image" + "s" * (n != 1), title_justify="left")
    for column in ("", "Dice", "IoU", "pixel error"):
        table.add_column(column, justify="left" if not column else "right")
    for value, scores in evaluation["per_class"].items():
        table.add_row(escape(f"{value} {scores['name']}"), _shown(scores["dice"]), _shown(scores["iou"]), "")
    for name in ("mean", "pooled"):
        scores = evaluation[name]
        table.add_row(name, *(_shown(scores[k]) for k in ("dice", "iou", "pixel_error")))
    intervals = evaluation["intervals"]
    table.add_row(intervals["dice"]["kind"], *(f"{_shown(intervals[k]['low'])} … {_shown(intervals[k]['high'])}"
                                               for k in ("dice", "iou", "pixel_error")))
    stdout.print(table)
    for note in evaluation["footnotes"]:
        show(f"  {note}")


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
