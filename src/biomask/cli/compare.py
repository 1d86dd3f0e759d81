"""`biomask compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from biomask.cli.console import ConsoleProgress, check_json, show, stdout, write_json
from biomask.cli.options import (
    Axes,
    Channels,
    Device,
    Groups,
    Ignore,
    Json,
    Labels,
    LegendText,
    Masks,
    MaskScale,
    Overwrite,
    Time,
    Unlabelled,
    Values,
    Z,
    label_settings,
    selection_settings,
)


def compare(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of images and their labels, as for training.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where models, predictions and the table go; run again, it goes on.")],
    recipes: Annotated[str, typer.Option(
        metavar="A,B,…", help="Names of recipes or .yaml files; the others are compared with the first. none: --external alone.")
    ] = "default",
    minutes: Annotated[float | None, typer.Option(help="Budget of each training in wall time. Default: 10.", min=0.0)] = None,
    steps: Annotated[int | None, typer.Option(help="Budget of each training in optimisation steps.", min=1)] = None,
    folds: Annotated[str | None, typer.Option(
        metavar="N|loo", help="Cross-validation; loo leaves out one image, or group, at a time. Default: the data's test part; "
                              "without one, loo up to 6 images, else 3 folds.")] = None,
    seeds: Annotated[str, typer.Option(metavar="A,B,…", help="Each training is repeated with each; scores are means.")] = "0",
    images: Annotated[str | None, typer.Option(
        metavar="A,B,…", help="Also train on so many images only: a learning curve, and a forecast for more.")] = None,
    external: Annotated[list[str] | None, typer.Option(
        metavar="NAME=FOLDER", help="Predictions by others (nnU-Net, Cellpose, …) for the same table; repeatable.")] = None,
    splits: Annotated[Path | None, typer.Option(
        metavar="FILE", help="nnU-Net's splits_final.json, whose folds are taken.")] = None,
    settings: Annotated[list[str] | None, typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Change a setting of every recipe; repeatable.")] = None,
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
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = None,
) -> int:
    """Train recipes on the same splits: which is best, and what each costs. Other people's predictions may join."""
    from biomask import api

    check_json(json, data, out)
    reading = {**label_settings(labels, ignore, legend, values, mask_scale, unlabelled), "groups": groups,
               **selection_settings(axes, channels, z, time)}
    options = api.CompareOptions(
        minutes=minutes, steps=steps, folds=_folds(folds), seeds=_numbers("--seeds", seeds), external=_external(external or []),
        sizes=_numbers("--images", images) if images is not None else (), splits=splits, data=api.data_settings(reading),
        masks=masks, device=device, overwrite=overwrite)
    names = [] if recipes == "none" else [name.strip() for name in recipes.split(",") if name.strip()]
    record = api.compare(data, names, out, options, settings=tuple(settings or ()), progress=ConsoleProgress())
    if not write_json(record, json):
        print_comparison(record)
        show(f"report: {out / 'report.html'}")
    return 0


def print_comparison(record: Mapping[str, Any]) -> None:
    """The table of a comparison, its forecasts and its rules."""
    from rich.markup import escape
    from rich.table import Table

    from biomask.reports.comparison import SCORE
    from biomask.reports.parts import duration

    rows = record["rows"]
    if not rows:
        return
    table = Table(title=f"{SCORE[record['metric']]}, {len(record['images']):,} images", title_justify="left")
    for column in ("", "score", rows[0]["interval"]["kind"], f"less {escape(rows[0]['name'])}", "p"):
        table.add_column(column, justify="left" if not column else "right")
    costs = Table(title="what it costs", title_justify="left")
    for column in ("", "parameters", "steps", "training", "s a megapixel", "memory"):
        costs.add_column(column, justify="left" if not column else "right")
    for row in rows:
        d, c, ends = row["difference"] or {}, row["costs"], row["interval"]
        table.add_row(escape(row["name"]), _shown(row["score"]), f"{_shown(ends['low'])} … {_shown(ends['high'])}",
                      f"{d['mean']:+.4f}" if d.get("mean") is not None else "",
                      _shown(d["p_holm"]) if d.get("p_holm") is not None else "")
        if c is not None:
            seconds, peak = c["seconds_a_megapixel"], c["peak_bytes"]
            costs.add_row(escape(row["name"]), f"{c['parameters']:,}", f"{c['steps']:,}", duration(c["training_seconds"]),
                          f"{seconds:.2f}" if seconds is not None else "", f"{peak / 1e9:.2f} GB" if peak else "")
    stdout.print(table)
    if costs.row_count:
        stdout.print(costs)
    for curve in (record["curve"] or {}).values():
        if curve["forecast"]:
            show(f"{curve['recipe']}: {curve['forecast']['says']}")
    for note in record["footnotes"]:
        show(f"  {note}")


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _folds(text: str | None) -> Any:
    from biomask.errors import UsageError

    if text is None or text == "loo":
        return text
    if not text.isdecimal() or len(text) > 9:
        raise UsageError(f"--folds {text[:20]!r} is neither a number nor loo", fix="--folds 3")
    return int(text)


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    from biomask.errors import UsageError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) <= 9 for part in parts):
        usual = "0,1,2" if flag == "--seeds" else "5,10,20"
        raise UsageError(f"{flag} {text[:40]!r} are not whole numbers", fix=f"e.g. {flag} {usual}")
    return tuple(int(part) for part in parts)


def _external(given: list[str]) -> dict[str, Path]:
    from biomask.errors import UsageError

    found: dict[str, Path] = {}
    for text in given:
        name, sign, folder = text.partition("=")
        if not sign or not name.strip() or not folder.strip():
            raise UsageError(f"--external {text[:60]!r} is not NAME=FOLDER", fix="--external nnunet=predictions/nnunet")
        if name.strip() in found:
            raise UsageError(f"--external {name.strip()} is given twice", fix="give each another name")
        found[name.strip()] = Path(folder.strip())
    return found
