"""`biomask evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from biomask.cli.console import ConsoleProgress, check_json, check_report, show, stdout, write_json
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

#: Images that are listed by name.
SHOWN = 10

#: Scores of the pixels and surfaces in the order of the table; those of a unit of length say which.
TITLES = {"dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall", "specificity": "specificity",
          "pixel_error": "pixel error", "hd95": "HD95", "assd": "ASSD", "nsd": "NSD"}
LENGTHS = ("hd95", "assd")

#: Those of a class in the table of several.
OF_CLASS = ("dice", "iou", "precision", "recall", "hd95", "nsd")

#: Those of COCO in the table of classes.
OF_COCO = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_100", "ar")


def evaluate(
    predictions: Annotated[Path, typer.Argument(
        metavar="PREDICTIONS", help="Folder that `predict` wrote, or a folder of masks; or a COCO file of results.")],
    truth: Annotated[Path, typer.Argument(
        metavar="TRUTH", help="True labels in any form that training takes, or a data folder that holds them.")],
    against: Annotated[Path | None, typer.Option(
        metavar="OTHER", help="Other predictions of the same images: differences, and the images that became wrong.")] = None,
    annotator: Annotated[Path | None, typer.Option(
        metavar="FOLDER", help="A second annotator's labels of the same images: how well people agree.")] = None,
    metrics: Annotated[str | None, typer.Option(
        metavar="NAME,…", help="Also the scores of challenges and papers: isbi (Rand, V_info, warping error), fcn (accuracies and "
        "IoU), ctc (SEG, DET), coco (AP and AR; of a detector unasked), article (as the optic disc article has them); several with "
        "commas, or all that fit.")] = None,
    tolerance: Annotated[float | None, typer.Option(
        metavar="LENGTH", help="Distance at which NSD counts surfaces as one, in µm where the files know the size of a pixel, "
                               "else in pixels. Default: two of the finest pixels.")] = None,
    groups: Annotated[str | None, typer.Option(
        "--groups", metavar="RULE", help="Which images belong together and are resampled together: folder, column:NAME of "
        "split.csv, a pattern such as '(.*)_\\d+', none, or a table FILE. Default: split.csv's.")] = None,
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
    seed: Annotated[int, typer.Option(help="Of the bootstrap behind the intervals.", min=0, max=2**63 - 1)] = 0,
    json: Json = None,
) -> int:
    """Compare predictions with the truth, with intervals. Dice, IoU, precision, recall, pixel error, distances of surfaces,
    calibration; of objects also AP, F1, panoptic quality, merges, splits, counts. Beside other predictions or a second annotator.
    """
    from biomask import api

    inputs = (predictions, truth, against, annotator)
    check_json(json, *inputs, report)
    check_report(report, *inputs)
    settings = api.data_settings({**label_settings(labels, ignore, legend, values, mask_scale, unlabelled),
                                  **selection_settings(axes, None, z, time), "groups": groups})
    options = api.EvaluateOptions(seed=seed, tolerance=tolerance, against=against, annotator=annotator,
                                  metrics=tuple(name.strip() for name in metrics.split(",")) if metrics is not None else ())
    evaluation = api.evaluate(predictions, truth, settings=settings, masks=masks, report=report, options=options,
                              progress=ConsoleProgress()).scores
    if not write_json(evaluation, json):
        print_scores(evaluation)
        if report is not None:
            show(f"report: {report}")
    return 0


def print_scores(evaluation: Mapping[str, Any]) -> None:
    """The tables of an evaluation, what it was compared with, and the rules."""
    if evaluation["kind"] == "instances":
        _print_objects(evaluation)
    elif evaluation["kind"] != "detections":
        _print_pixels(evaluation)
    if evaluation["calibration"] is not None:
        show("calibration: " + ", ".join(f"{name} {_shown(evaluation['calibration'][key])}" for key, name in (
            ("ece", "ECE"), ("bce", "BCE"), ("brier", "Brier"))))
    for measure in evaluation["metrics"].values():
        _print_measure(measure)
    for key, title in (("paired", "against"), ("annotator", "second annotator")):
        if evaluation[key] is not None:
            _print_difference(evaluation, evaluation[key], title)
    if evaluation["paired"] is not None:
        _print_changed(evaluation["paired"])
    for note in evaluation["footnotes"]:
        show(f"  {note}")


def _print_pixels(evaluation: Mapping[str, Any]) -> None:
    """All scores, and those of each class or structure."""
    from rich.markup import escape
    from rich.table import Table

    _print_summary(evaluation, _titles(evaluation))
    titles = {key: title for key, title in _titles(evaluation).items() if key in OF_CLASS}
    table = Table(title="each structure" if evaluation["kind"] == "multilabel" else "each class", title_justify="left")
    for column in ("", *titles.values()):
        table.add_column(column, justify="left" if not column else "right")
    for value, scores in evaluation["per_class"].items():
        table.add_row(escape(f"{value} {scores['name']}"), *(_shown(scores[key]) for key in titles))
    stdout.print(table)


def _print_objects(evaluation: Mapping[str, Any]) -> None:
    """AP, F1 and the rest in a line, and in a table with their intervals."""
    from rich.markup import escape
    from rich.table import Table

    from biomask.evaluation.instances import COUNTS, SCORES

    pooled = evaluation["pooled"]
    show(objects_line(evaluation))
    pixels = {key: f"{title} of the pixels" for key, title in _titles(evaluation).items() if key in ("dice", "iou", "hd95", "nsd")}
    _print_summary(evaluation, {**SCORES, **pixels, "count_error": "count error", "count_bias": "count bias"})
    show(f"counts: {evaluation['agreement']['says']}")
    table = Table(title="objects", title_justify="left")
    classes = {v: c for v, c in evaluation["per_class"].items() if "ap50" in c}
    for column in ("", *COUNTS.values(), *(("AP at 0.5",) if len(classes) > 1 else ())):
        table.add_column(column, justify="left" if not column else "right")
    for value, scores in classes.items() if len(classes) > 1 else ():
        table.add_row(escape(f"{value} {scores['name']}"), *(f"{scores[k]:,}" for k in COUNTS), _shown(scores["ap50"]))
    table.add_row("all", *(f"{pooled[key]:,}" for key in COUNTS), *((_shown(pooled["ap50"]),) if len(classes) > 1 else ()))
    stdout.print(table)


def _titles(evaluation: Mapping[str, Any]) -> dict[str, str]:
    unit = evaluation["boundary"]["unit"]
    return {key: f"{title} ({unit})" if key in LENGTHS else title for key, title in TITLES.items()}


def _print_summary(evaluation: Mapping[str, Any], titles: Mapping[str, str]) -> None:
    """A row a score: its mean, its interval, and pooled where it is."""
    from rich.table import Table

    mean, pooled, intervals, n = (evaluation[k] for k in ("mean", "pooled", "intervals", "n_images"))
    table = Table(title=f"{n:,} image" + "s" * (n != 1), title_justify="left")
    for column in ("", "mean", intervals[next(iter(titles))]["kind"], "pooled"):
        table.add_column(column, justify="left" if not column else "right")
    for key, title in titles.items():
        low, high = (_shown(intervals[key][end]) for end in ("low", "high"))
        table.add_row(title, _shown(mean[key]), f"{low} … {high}", _shown(pooled[key]) if key in pooled else "")
    stdout.print(table)


def _print_measure(measure: Mapping[str, Any]) -> None:
    """A row a score of a challenge or paper, and its rules."""
    from rich.table import Table

    n, intervals = len(measure["per_image"]), measure["intervals"]
    table = Table(title=f"{measure['title']}, {n:,} image" + "s" * (n != 1), title_justify="left")
    for column in ("", "all together", "mean", next(iter(intervals.values()))["kind"]):
        table.add_column(column, justify="left" if not column else "right")
    for key, title in measure["scores"].items():
        low, high = (_fine(intervals[key][end]) for end in ("low", "high"))
        table.add_row(title, _fine(measure["pooled"][key]), _fine(measure["mean"][key]), f"{low} … {high}")
    stdout.print(table)
    if len(measure.get("per_class", ())) > 1:
        _print_classes(measure)
    for note in measure["says"]:
        show(f"  {note}")


def _print_classes(measure: Mapping[str, Any]) -> None:
    """COCO's scores of each class that the truth has."""
    from rich.markup import escape
    from rich.table import Table

    titles = {key: title for key, title in measure["scores"].items() if key in OF_COCO}
    table = Table(title=f"{measure['title']}, each class", title_justify="left")
    for column in ("", "true objects", *titles.values()):
        table.add_column(column, justify="left" if not column else "right")
    for scores in measure["per_class"].values():
        if scores["true"]:
            table.add_row(escape(scores["name"]), f"{scores['true']:,}", *(_shown(scores[key]) for key in titles))
    stdout.print(table)


def _print_difference(evaluation: Mapping[str, Any], other: Mapping[str, Any], title: str) -> None:
    """This and the other side, and their difference, over the images of both."""
    from rich.markup import escape
    from rich.table import Table

    from biomask.evaluation.instances import SCORES

    n = other["n" if "n" in other else "n_images"]
    of_objects = {**SCORES, "count_error": "count error"} if evaluation["kind"] == "instances" else {}
    titles = {**of_objects, **_titles(evaluation)}
    folder = other["other" if "other" in other else "folder"]
    table = Table(title=escape(f"{title}: {folder}, {n:,} image" + "s" * (n != 1)), title_justify="left")
    kind = other["difference"][next(iter(titles))]["kind"]
    for column in ("", "other" if title == "against" else "annotator", "difference", kind, "p"):
        table.add_column(column, justify="left" if not column else "right")
    for key, name in titles.items():
        found = other["difference"].get(key)
        if found is not None:
            table.add_row(name, _shown(other["mean"][key]), _signed(found["mean"]),
                          f"{_signed(found['low'])} … {_signed(found['high'])}", _shown(found["p"]))
    stdout.print(table)
    if other["only_here"]:
        show(f"not compared, for they are not there: {_listed(other['only_here'])}")


def _print_changed(paired: Mapping[str, Any]) -> None:
    for key, words in (("newly_wrong", "newly wrong"), ("newly_right", "newly right")):
        images = paired[key]
        listed = [f"{i['name']} ({_short(i['other'])} → {_short(i['this'])})" for i in images]
        show(f"{words}: " + (f"{len(images):,} image{'s' * (len(images) != 1)}: {_listed(listed)}" if images else "no image"))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def objects_line(evaluation: Mapping[str, Any]) -> str:
    """The scores of objects in one line: "AP@0.5 0.83 (0.80 to 0.86), mean AP 0.61, …, over 59 images"."""
    mean, pooled, n = evaluation["mean"], evaluation["pooled"], evaluation["n_images"]
    interval = evaluation["intervals"]["ap50"]
    ends = f"{'range ' if interval['kind'].startswith('range') else ''}{_short(interval['low'])} to {_short(interval['high'])}"
    parts = [f"AP@0.5 {_short(mean['ap50'])}" + ("" if interval["low"] is None else f" ({ends})")]
    parts += [f"{name} {_short(mean[key])}" for name, key in (("mean AP", "ap"), ("F1", "f1"), ("PQ", "pq"))]
    parts += [f"{pooled[key]:,} {key if pooled[key] != 1 else key.removesuffix('s')}" for key in ("merges", "splits")]
    return ", ".join([*parts, f"over {n:,} image" + "s" * (n != 1)])


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _fine(value: float | None) -> str:
    """With more digits where there is little: warping errors are a few in ten thousand."""
    return "–" if value is None else f"{value:.6f}" if 0 < abs(value) < 0.01 else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"
