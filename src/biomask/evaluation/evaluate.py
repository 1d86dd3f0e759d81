"""`evaluate`: a folder of predicted masks against a folder of true ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.dataset import MOST_CLASSES
from biomask.data.pairing import IMAGE_FOLDERS, MASK_FOLDERS, index
from biomask.errors import BiomaskError, InputError, LabelsError, ManyErrors, MissingPathError, PairingError, UsageError
from biomask.evaluation.bootstrap import interval
from biomask.io import list_unread, read_label_values
from biomask.labels import Legend
from biomask.metrics import confusion_matrix, mean, overlap
from biomask.progress import Progress, Silent

SCHEMA_VERSION = 1

FOOTNOTES = (
    "Per class: the mean over the images in which the class is in the truth or in the prediction. A class that is in "
    "neither is undefined there (–) and does not count; one that is in only one of them scores 0.",
    "Mean: over images, then over the classes but the background (the lowest value). Pooled: from the pixels of all "
    "images together.",
    "Pixel error: the share of known pixels whose class differs.",
)


@dataclass(frozen=True)
class Case:
    """One prediction and its truth."""

    name: str
    prediction: Path
    truth: Path


def find_cases(predictions: str | Path, truth: str | Path) -> tuple[list[Case], list[str]]:
    """(cases, names predicted without a truth). Raises PairingError where a truth has no prediction.

    predictions: a folder that `predict` wrote, or masks. truth: masks, or a data folder that holds them; or two files.
    """
    predictions, truth = Path(predictions), Path(truth)
    for path in (predictions, truth):
        if not path.exists():
            raise MissingPathError("no such file or folder", where=path)
    if predictions.is_file() and truth.is_file():
        return [Case(predictions.stem, predictions, truth)], []
    predictions = predictions / "masks" if (predictions / "masks").is_dir() else predictions
    truth = next((truth / name for name in MASK_FOLDERS if (truth / name).is_dir()), truth)
    if predictions.resolve() == truth.resolve():
        raise UsageError(f"predictions and truth are the same folder, {truth}", fix="give the folder that predict wrote first")
    unread = list_unread(truth)
    if unread:
        raise PairingError(f"{len(unread)} file(s) of a format that is not read: {', '.join(p.name for p in unread[:10])}",
                           where=truth, fix="convert them to PNG or TIFF, or move them elsewhere")
    left, right = index(predictions), index(truth)
    if not right:
        hint = next((f" (it has {truth / n})" for n in IMAGE_FOLDERS if (truth / n).is_dir()), "")
        raise PairingError(f"holds no masks{hint}", where=truth, fix="give the folder with the true masks")
    missing = [name for name in right if name not in left]
    if missing:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise PairingError(f"{len(missing)} of {len(right)} true masks in {truth} have no prediction: {shown}",
                           where=predictions, fix="predict them too, or give a folder with only the truth that was predicted")
    return [Case(name, left[name], right[name]) for name in right], [name for name in left if name not in right]


def evaluate(predictions: str | Path, truth: str | Path, *, ignore: int | None = None,
             names: Mapping[int, str] | None = None, seed: int = 0, progress: Progress | None = None) -> dict[str, Any]:
    """Scores as JSON-ready dict: design's evaluation schema.

    ignore: value of unknown pixels in the truth. names: value → class name; by default those that `predict` recorded.
    seed: of the bootstrap. Undefined scores are None. Raises ManyErrors listing every bad pair.
    """
    progress = progress or Silent()
    cases, extra = find_cases(predictions, truth)
    if extra:
        progress.warn(f"{len(extra)} predictions have no truth and are left out: {', '.join(extra[:5])}"
                      + (" …" if len(extra) > 5 else ""))
    legend = _legend(cases, ignore, names if names is not None else recorded_names(predictions), progress)
    matrices, errors = [], list[BiomaskError]()
    with progress.bar("evaluating") as bar:
        for n, case in enumerate(cases):
            try:
                matrices.append(_confusion(case, legend, ignore))
            except BiomaskError as error:
                errors.append(error)
            bar.update((n + 1) / len(cases), case.name)
    if errors:
        raise ManyErrors(f"{len(errors)} of {len(cases)} pairs cannot be compared:", errors)
    return {"schema_version": SCHEMA_VERSION, "n_images": len(cases), "predictions": str(predictions), "truth": str(truth),
            "legend": legend.to_json(), "ignore": ignore, "without_truth": extra,
            **summarise([c.name for c in cases], matrices, legend, seed=seed), "footnotes": list(FOOTNOTES)}


def summarise(names: Sequence[str], matrices: Sequence[npt.NDArray[np.int64]], legend: Legend, *,
              seed: int = 0) -> dict[str, Any]:
    """per_image, per_class, mean, pooled and intervals from one confusion matrix an image."""
    values = [str(v) for v in legend.values]
    images = [overlap(m) for m in matrices]
    pooled = overlap(np.sum(matrices, axis=0))
    per_image: list[dict[str, Any]] = [
        {"name": name, "pixels": int(m.sum()), "dice": mean(o.dice[1:]), "iou": mean(o.iou[1:]), "pixel_error": o.pixel_error,
         "classes": {v: {"dice": o.dice[i], "iou": o.iou[i]} for i, v in enumerate(values)}}
        for name, m, o in zip(names, matrices, images, strict=True)
    ]
    per_class: dict[str, dict[str, Any]] = {
        v: {"name": entry.name, "dice": mean(o.dice[i] for o in images), "iou": mean(o.iou[i] for o in images),
            "images": sum(o.dice[i] is not None for o in images)}
        for i, (v, entry) in enumerate(zip(values, legend, strict=True))
    }
    foreground = list(per_class.values())[1:]
    return {
        "per_image": per_image,
        "per_class": per_class,
        "mean": {"dice": mean(c["dice"] for c in foreground), "iou": mean(c["iou"] for c in foreground),
                 "pixel_error": mean(o.pixel_error for o in images)},
        "pooled": {"dice": mean(pooled.dice[1:]), "iou": mean(pooled.iou[1:]), "pixel_error": pooled.pixel_error,
                   "per_class": {v: {"dice": pooled.dice[i], "iou": pooled.iou[i]} for i, v in enumerate(values)}},
        "intervals": {"dice": interval([o.dice[1:] for o in images], seed),
                      "iou": interval([o.iou[1:] for o in images], seed),
                      "pixel_error": interval([o.pixel_error for o in images], seed)},
    }


def recorded_names(predictions: str | Path) -> dict[int, str]:
    """Class names from the run.json of predicted masks or of the folder above; empty without one."""
    for folder in (Path(predictions), Path(predictions).parent):
        try:
            content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            return {int(e["value"]): str(e["name"]) for e in content["legend"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}


def _legend(cases: Sequence[Case], ignore: int | None, names: Mapping[int, str], progress: Progress) -> Legend:
    """All values of both sides, after checking that they speak of the same classes."""
    true, predicted, errors = set[int](), set[int](names), list[BiomaskError]()
    with progress.bar("reading masks") as bar:
        for n, case in enumerate(cases):
            for found, path in ((true, case.truth), (predicted, case.prediction)):
                try:
                    found |= {int(v) for v in np.unique(read_label_values(path).array)}
                except BiomaskError as error:
                    errors.append(error)
            bar.update((n + 1) / len(cases))
    if errors:
        raise ManyErrors(f"{len(errors)} masks cannot be read:", errors)
    if ignore is not None:
        true.discard(ignore)
    for found, side in ((true - set(names), "truth"), (predicted - set(names), "predictions")):
        if len(found) > MOST_CLASSES:
            raise LabelsError(f"{len(found)} values in the {side} are too many for classes: images rather than masks?",
                              fix="evaluate class masks")
    if (true - {0}) and (predicted - {0}) and not (true - {0}) & (predicted - {0}):
        raise LabelsError(f"the truth has values {sorted(true)[:10]}, the predictions {sorted(predicted)[:10]}: "
                          "no class is in both", fix="relabel one side so that a class has the same value in both")
    return Legend.of_values(sorted(true | predicted), names)


def _confusion(case: Case, legend: Legend, ignore: int | None) -> npt.NDArray[np.int64]:
    truth, prediction = read_label_values(case.truth), read_label_values(case.prediction)
    if truth.size != prediction.size:
        raise InputError(f"has size {prediction.size}, its truth {truth.size}", where=case.prediction)
    unknown = truth.array[0] == ignore if ignore is not None else None
    known = truth.array[0] if unknown is None else np.where(unknown, legend.values[0], truth.array[0])
    return confusion_matrix(legend.ids(known), legend.ids(prediction.array[0]), len(legend), unknown)
