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
    """Compare predictions with the truth: Dice, IoU, pixel error; of objects also AP, F1, panoptic quality, merges, splits."""
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
    if evaluation.get("kind") == "instances":
        _print_objects(evaluation)
    else:
        _print_pixels(evaluation)
    for note in evaluation["footnotes"]:
        show(f"  {note}")


def _print_pixels(evaluation: Mapping[str, Any]) -> None:
    """Dice, IoU and pixel error of classes or structures."""
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


def _print_objects(evaluation: Mapping[str, Any]) -> None:
    """AP, F1 and the rest in a line, and in a table with their intervals."""
    from rich.markup import escape
    from rich.table import Table

    from biomask.evaluation.instances import COUNTS, SCORES

    mean, pooled, intervals, n = (evaluation[k] for k in ("mean", "pooled", "intervals", "n_images"))
    show(objects_line(evaluation))
    table = Table(title=f"{n} image" + "s" * (n != 1), title_justify="left")
    for column in ("", "mean", intervals["ap50"]["kind"], "pooled"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {**SCORES, "dice": "Dice of the pixels", "iou": "IoU of the pixels", "count_error": "count error",
            "count_bias": "count bias"}
    for key, title in rows.items():
        low, high = (_shown(intervals[key][end]) for end in ("low", "high"))
        table.add_row(title, _shown(mean[key]), f"{low} … {high}", _shown(pooled.get(key)) if key in pooled else "")
    for key, title in COUNTS.items():
        table.add_row(title, "", "", f"{pooled[key]:,}")
    classes = {v: c for v, c in evaluation["per_class"].items() if "ap50" in c}
    for value, scores in classes.items() if len(classes) > 1 else ():
        table.add_row(escape(f"AP at 0.5 of {value} {scores['name']}"), _shown(scores["ap50"]), "",
                      _shown(pooled["per_class"][value]["ap50"]))
    stdout.print(table)


def objects_line(evaluation: Mapping[str, Any]) -> str:
    """The scores of objects in one line: "AP@0.5 0.83 (0.80 to 0.86), mean AP 0.61, …, over 59 images"."""
    mean, pooled, n = evaluation["mean"], evaluation["pooled"], evaluation["n_images"]
    interval = evaluation["intervals"]["ap50"]
    ends = f"{'range ' if interval['kind'] == 'range' else ''}{_short(interval['low'])} to {_short(interval['high'])}"
    parts = [f"AP@0.5 {_short(mean['ap50'])}" + ("" if interval["low"] is None else f" ({ends})")]
    parts += [f"{name} {_short(mean[key])}" for name, key in (("mean AP", "ap"), ("F1", "f1"), ("PQ", "pq"))]
    parts += [f"{pooled[key]:,} {key if pooled[key] != 1 else key.removesuffix('s')}" for key in ("merges", "splits")]
    return ", ".join([*parts, f"over {n:,} image" + "s" * (n != 1)])


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
