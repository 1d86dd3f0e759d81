"""From the cells of a comparison to its table: scores with intervals, paired differences, costs."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biomask.comparison.cell import RESULT_FILE
from biomask.comparison.curve import forecast
from biomask.comparison.options import CompareOptions
from biomask.errors import BiomaskError, InputError
from biomask.evaluation.bootstrap import Units, differences, intervals
from biomask.evaluation.evaluate import Judged, judge
from biomask.evaluation.options import EvaluateOptions
from biomask.evaluation.paired import main_score
from biomask.io.detections import DETECTIONS, read_detections, write_detections
from biomask.io.files import write_text
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings

if TYPE_CHECKING:
    from biomask.comparison.cells import Cell

#: Folders of predictions that are joined over folds.
JOINED = ("masks", "labels", "outlines", "detections")

#: Costs of a row: operations of a prediction of 512² pixels (64³ voxels), mean seconds of a training, most bytes of memory.
COSTS = ("parameters", "flops", "training_seconds", "seconds_a_megapixel", "peak_bytes")


def assemble(out: Path, data: str | Path, cells: Sequence[Cell], options: CompareOptions, settings: DataSettings,
             progress: Progress) -> tuple[dict[str, Any], dict[str, Judged]]:
    """(what comparison.json says of the results: {kind, metric, rows, curve, images, footnotes}, the evaluation of each side, of
    its first seed); also writes comparison.csv.

    cells: those whose folds are all there.
    """
    judged: dict[str, Judged] = {}
    sides: dict[str, list[dict[str, Any]]] = {}
    curves: dict[str, dict[int, list[dict[str, Any]]]] = {}
    costs: dict[str, list[dict[str, Any]]] = {}
    for name, seed, size in dict.fromkeys((c.recipe.name, c.seed, c.size) for c in cells):
        own = [c for c in cells if (c.recipe.name, c.seed, c.size) == (name, seed, size)]
        label = f"{name}-seed-{seed}" + ("" if size is None else f"-{size}-images")
        folder = joined(out, label, [out / "cells" / c.place / "out" for c in own])
        found = _evaluated(out, label, folder, data, options, settings, progress)
        if size is None:
            judged.setdefault(name, found)
            sides.setdefault(name, []).append(found.scores)
            costs.setdefault(name, []).extend(_result(out / "cells" / c.place) for c in own)
        else:
            curves.setdefault(name, {}).setdefault(size, []).append(found.scores)
    for name, place in options.external.items():
        judged[name] = _evaluated(out, f"external {name}", Path(place), data, options, settings, progress, own=False)
        sides[name] = [judged[name].scores]
    if not sides:
        return {"kind": None, "metric": None, "rows": [], "curve": None, "images": [], "footnotes": []}, {}
    kind = next(iter(sides.values()))[0]["kind"]
    metric = main_score(kind)
    images = {name: image_scores(found, metric) for name, found in sides.items()}
    first = next(iter(images))
    groups = _groups(next(iter(sides.values()))[0])
    rows = rows_of(images, first, groups)
    for row in rows:
        evaluations = sides[row["name"]]
        row["external"] = row["name"] in options.external
        row["mean"] = {key: _mean([e["mean"].get(key) for e in evaluations]) for key in evaluations[0]["mean"]}
        row["by_seed"] = [_mean(list(image_scores([e], metric).values())) for e in evaluations]
        row["costs"] = None if row["external"] else _costs(costs[row["name"]])
    trained = {name: _trained_on(costs[name]) for name in curves}
    curve = {name: _curve(name, sizes, images[name], trained[name], metric, groups) for name, sizes in curves.items()} or None
    result = {"kind": kind, "metric": metric, "rows": rows, "curve": curve, "footnotes": _footnotes(metric, first, options, groups),
              "images": [{"name": n, **{side: scores.get(n) for side, scores in images.items()}}
                         for n in dict.fromkeys(n for scores in images.values() for n in scores)]}
    write_text(out / "comparison.csv", _csv(result))
    return result, judged


def joined(out: Path, label: str, folders: Sequence[Path]) -> Path:
    """One folder with the predictions of all folds, as if one `predict` had written them; files are linked, not copied."""
    target = out / "predictions" / label
    shutil.rmtree(target, ignore_errors=True)
    record: dict[str, Any] | None = None
    for folder in folders:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if record is None:
            record = content
        else:
            record["images"] |= content["images"]
        for kind in JOINED:
            for file in sorted(p for p in (folder / kind).rglob("*") if p.is_file()) if (folder / kind).is_dir() else ():
                place = target / file.relative_to(folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(file, place)
                except OSError:  # another file system, or one without links
                    shutil.copyfile(file, place)
    write_text(target / "run.json", json.dumps(record, indent=2, ensure_ascii=False))
    files = [read_detections(folder / DETECTIONS) for folder in folders if (folder / DETECTIONS).is_file()]
    if files:
        write_detections(target / DETECTIONS, [image for file in files for image in file.images], files[0].categories)
    return target


def _evaluated(out: Path, label: str, folder: Path, data: str | Path, options: CompareOptions, settings: DataSettings,
               progress: Progress, *, own: bool = True) -> Judged:
    """The evaluation of a folder of predictions, also written to evaluations/. own: whether they are ours."""
    try:
        found = judge(folder, data, settings=settings, options=EvaluateOptions(tolerance=options.tolerance),
                      masks=options.masks, progress=Silent() if own else progress)
    except BiomaskError as error:
        if own:
            raise
        raise InputError(f"the predictions of {label} cannot be judged: {error.what}", where=error.where or folder,
                         fix=error.fix) from error
    write_text(out / "evaluations" / f"{label}.json", json.dumps(found.scores, indent=2, ensure_ascii=False))
    return found


def _result(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / RESULT_FILE).read_text(encoding="utf-8")))


def image_scores(evaluations: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float | None]:
    """{image: its main score, the mean over seeds}; None where no seed gives it one."""
    found: dict[str, list[float | None]] = {}
    for evaluation in evaluations:
        for row in evaluation["per_image"]:
            found.setdefault(row["name"], []).append(row[metric])
    return {name: _mean(values) for name, values in found.items()}


def rows_of(images: Mapping[str, Mapping[str, float | None]], first: str, groups: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """A row a side: score, interval, difference from the first over the images of both, with p after Holm's correction."""
    found = list[dict[str, Any]]()
    for name, scores in images.items():
        names = list(scores)
        interval = intervals({"": [scores[n] for n in names]}, _units(names, groups))[""]
        row: dict[str, Any] = {"name": name, "score": _mean(list(scores.values())), "interval": interval, "difference": None}
        if name != first:
            both = [n for n in names if n in images[first]]
            columns = ([scores[n] for n in both], [images[first][n] for n in both])
            row["difference"] = differences({"": columns}, _units(both, groups))[""]
        found.append(row)
    compared = [r["difference"] for r in found if r["difference"] is not None and r["difference"]["p"] is not None]
    for difference, p in zip(compared, holm([d["p"] for d in compared]), strict=True):
        difference["p_holm"] = p
    return found


def holm(ps: Sequence[float]) -> list[float]:
    """p after Holm's step-down correction for several comparisons (Scand. J. Statist. 1979), in the same order.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    found, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        found[i] = highest
    return found


def _units(names: Sequence[str], groups: Mapping[str, str] | None) -> Units:
    return Units(None if groups is None else tuple(groups[n] for n in names))


def _groups(evaluation: Mapping[str, Any]) -> dict[str, str] | None:
    rows = evaluation["per_image"]
    return {r["name"]: r["group"] for r in rows} if rows and all("group" in r for r in rows) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _costs(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    peaks = [r["peak_bytes"] for r in results if r["peak_bytes"] is not None]
    pixels = sum(r["predicted_pixels"] for r in results)
    return {"parameters": results[0]["parameters"], "flops": results[0]["flops"], "trainings": len(results),
            "steps": round(float(np.mean([r["steps"] for r in results]))),
            "training_seconds": round(float(np.mean([r["training_seconds"] for r in results])), 2),
            "seconds_a_megapixel": round(1e6 * sum(r["prediction_seconds"] for r in results) / pixels, 3) if pixels else None,
            "peak_bytes": max(peaks) if peaks else None, "device": results[0]["device"]}


def _trained_on(results: Sequence[Mapping[str, Any]]) -> int:
    """Training images of a training with all of them; the mean over folds, rounded."""
    return round(float(np.mean([r["train_images"] for r in results])))


def _curve(name: str, sizes: Mapping[int, Sequence[Mapping[str, Any]]], whole: Mapping[str, float | None], count: int, metric: str,
           groups: Mapping[str, str] | None) -> dict[str, Any]:
    """The points of a learning curve, and what more images would give by it."""
    points = {n: image_scores(found, metric) for n, found in sorted(sizes.items())} | {count: dict(whole)}
    said = []
    for n, scores in points.items():
        names = list(scores)
        interval = intervals({"": [scores[k] for k in names]}, _units(names, groups))[""]
        said.append({"images": n, "score": _mean(list(scores.values())), "interval": interval})
    return {"recipe": name, "points": said, "forecast": forecast(points, groups)}


def _footnotes(metric: str, first: str, options: CompareOptions, groups: Mapping[str, str] | None) -> list[str]:
    units = "groups of images" if groups is not None else "images"
    named = {"ap50": "AP at an IoU of 0.5, TP / (TP + FP + FN)", "dice": "Dice, mean over classes but the background"}[metric]
    notes = [f"Score: {named}; mean over images" + (f" and {len(options.seeds)} seeds" if len(options.seeds) > 1 else "") + ".",
             f"Interval: 95 % bootstrap over {units}; it does not hold what another training would give" + (
                 ", which the scores by seed show." if len(options.seeds) > 1 else ": give --seeds for that."),
             f"Difference: less {first}, over the same images, both from the same resamples. p: two-sided sign-flip test, after "
             "Holm's correction for several comparisons.",
             "All recipes had the same splits, seeds and budget; weights were chosen on images held out from the training part.",
             "Cost: operations and parameters are counted from the network; times and memory are those of this machine, a process "
             "for each training."]
    return notes + (["Predictions of others are judged as they are: nothing is known of their training, which may have seen these "
                     "images."] if options.external else [])


def _csv(result: Mapping[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "score", "low", "high", "difference", "difference_low", "difference_high", "p_holm", *COSTS])
    for row in result["rows"]:
        d, ends, costs = row["difference"] or {}, row["interval"], row["costs"] or {}
        cells = [row["name"], row["score"], ends["low"], ends["high"], d.get("mean"), d.get("low"), d.get("high"), d.get("p_holm"),
                 *(costs.get(key) for key in COSTS)]
        writer.writerow(["" if c is None else c for c in cells])
    return text.getvalue()
