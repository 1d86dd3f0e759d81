"""`evaluate`: a folder of predicted masks against a folder of true ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.annotations import list_annotations
from biomask.data.encoding import Encoding
from biomask.data.facts import LabelFacts
from biomask.data.inference import infer_encoding_of, usual_form
from biomask.data.layouts import find_layout
from biomask.data.limits import MOST_CLASSES
from biomask.data.mistakes import blurred_error, some
from biomask.data.naming import match
from biomask.data.pairing import MASK_FOLDERS, Layout, Pair, index, label_files, part_of, truth_of, unread_error, where_of
from biomask.data.survey import label_facts
from biomask.data.truth import read_truth
from biomask.data.two_folders import paired
from biomask.data.understand import split_planes, structures_of
from biomask.errors import BiomaskError, LabelsError, ManyErrors, MissingPathError, PairingError, UsageError
from biomask.evaluation.bootstrap import interval
from biomask.io import list_images, read_label_values
from biomask.labels import Legend
from biomask.metrics import confusion_matrix, mean, overlap
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings

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
    pair: Pair
    """Its truth, and its image where the folder of truth has it; elsewhere the prediction stands for it."""


def find_cases(predictions: str | Path, truth: str | Path, settings: DataSettings | None = None,
               masks: str | Path | None = None) -> tuple[list[Case], list[str], list[str]]:
    """(cases, names predicted without a truth, what was left out). Raises PairingError where a truth has no prediction.

    predictions: a folder that `predict` wrote, or masks. truth: labels in any form that training takes, or a data folder
    that holds them; or two files. settings: whether each plane or time point is an image, and what images without labels
    mean. masks: where the labels are, if not in `truth`.
    """
    predictions, truth, settings = Path(predictions), Path(truth), settings or DataSettings()
    for path in (predictions, truth):
        if not path.exists():
            raise MissingPathError("no such file or folder", where=path)
    if predictions.is_file() and truth.is_file():
        return [Case(predictions.stem, predictions, Pair(predictions.stem, predictions, truth_of(truth)))], [], []
    predictions = predictions / "masks" if (predictions / "masks").is_dir() else predictions
    made = index(predictions)
    layout, notes = _predicted_parts(truth_layout(predictions, truth, settings, masks), list(made))
    if layout.problems:
        raise layout.problems[0]
    bare = layout.unlabelled if settings.unlabelled == "background" else ()
    pairs = {p.name: p for p in (*layout.labelled, *bare)}
    if not pairs:
        raise PairingError("holds no masks", where=truth, fix="give the folder with the true masks")
    structures = structures_of(list(pairs.values()))
    if structures:
        raise LabelsError(f"holds a mask a structure: {', '.join(structures)}; several together are not evaluated yet", where=truth,
                          fix=f"evaluate one of them: --masks {structures[0]}")
    partners, _ = match(list(pairs), list(made))
    missing = [name for name in pairs if name not in partners]
    if missing:
        split = recorded_selection(predictions) if not settings.selection.splits else ""
        raise PairingError(f"{len(missing)} of {len(pairs)} true masks in {truth} have no prediction: {some(missing)}",
                           where=predictions, fix=f"say {split}, as when predicting" if split else
                           "predict them too, or give a folder with only the truth that was predicted")
    if any(p.truth is not None and made[partners[n]] in p.truth.files for n, p in pairs.items()):
        raise UsageError(f"predictions and truth are the same folder, {truth}", fix="give the folder that predict wrote first")
    taken = set(partners.values())
    cases = [Case(name, made[partners[name]], pair) for name, pair in pairs.items()]
    return cases, [name for name in made if name not in taken], notes


def truth_layout(predictions: Path, truth: Path, settings: DataSettings, masks: str | Path | None = None) -> Layout:
    """The labels of a folder: of its own images, or else of what was predicted; a pair a plane where each is an image.

    Raises ManyErrors listing files whose planes cannot be told.
    """
    if masks is not None:
        return _in_planes(find_layout(truth, masks), settings)
    unread = tuple(unread_error(truth))
    if not list_images(truth) and not list_annotations(truth) and not unread:
        raise PairingError("holds no masks", where=truth, fix="give the folder with the true masks")
    if list_images(truth):
        layout = find_layout(truth)
        if layout.labelled:
            return _in_planes(layout, settings)
    folder = next((p for p in sorted(truth.iterdir()) if p.is_dir() and p.name.casefold() in MASK_FOLDERS), truth)
    files = label_files(folder)
    # Each mask stands for its image, so that one without a prediction is missed; else folders of objects, or structures.
    plain = Layout(folder, "masks", tuple(Pair(s, p, truth_of(p)) for s, p in files.items()), problems=unread)
    if not list_annotations(folder):  # outlines cannot say how many planes their image has
        plain = _in_planes(plain, settings)
    if match([p.name for p in plain.pairs], list(index(predictions)))[0]:
        return plain
    layout = paired(predictions, folder, truth)
    return replace(layout, problems=unread) if layout.labelled else plain


def _in_planes(layout: Layout, settings: DataSettings) -> Layout:
    """A pair a plane or time point, where each is an image."""
    split, errors = split_planes(layout, settings)
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} files of the truth cannot be read:", errors)
    return split


def _predicted_parts(layout: Layout, made: Sequence[str]) -> tuple[Layout, list[str]]:
    """(the parts of which anything was predicted, a line for the others); names are without the folder of the part."""
    parts = {part: [p for p in layout.pairs if p.part == part] for part in dict.fromkeys(p.part for p in layout.labelled)}
    short = {part: [replace(p, name=_below_part(p)) for p in pairs] for part, pairs in parts.items()}
    done = [part for part, pairs in short.items() if match([p.name for p in pairs], made)[0]] or list(parts)
    pairs = [p for part in done for p in short[part]]
    if len({p.name for p in pairs}) < len(pairs):  # several parts have an image of one name
        pairs = [p for part in done for p in parts[part]]
    left = [part or "without a name" for part in parts if part not in done]
    notes = [f"nothing of the part {' and '.join(left)} was predicted: it is left out"] if left else []
    return replace(layout, pairs=tuple(pairs)), notes


def _below_part(pair: Pair) -> str:
    first, *rest = PurePosixPath(pair.name).parts
    return "/".join(rest) if rest and pair.part is not None and part_of(first) == pair.part else pair.name


@dataclass(frozen=True)
class Judged:
    """An evaluation, with what it takes to look at its images."""

    scores: dict[str, Any]
    """JSON-ready: design's evaluation schema."""
    cases: tuple[Case, ...]
    encoding: Encoding
    legend: Legend
    settings: DataSettings


def evaluate(predictions: str | Path, truth: str | Path, *, settings: DataSettings | None = None,
             names: Mapping[int, str] | None = None, seed: int = 0, progress: Progress | None = None,
             masks: str | Path | None = None) -> dict[str, Any]:
    """The scores of `judge`."""
    return judge(predictions, truth, settings=settings, names=names, seed=seed, progress=progress, masks=masks).scores


def judge(predictions: str | Path, truth: str | Path, *, settings: DataSettings | None = None,
          names: Mapping[int, str] | None = None, seed: int = 0, progress: Progress | None = None,
          masks: str | Path | None = None) -> Judged:
    """Scores of predicted masks against true ones.

    settings: how the truth is to be read, as in training: `ignore` (by default what `predict` recorded), `values`,
    `mask_scale`, `kind`, `axes`, `z`, `time`, `unlabelled`. names: value → class name; by default those that `predict`
    recorded. seed: of the bootstrap. masks: where the labels are, if not in `truth`. Undefined scores are None. Raises
    ManyErrors listing every bad pair.
    """
    progress, settings = progress or Silent(), settings or DataSettings()
    cases, extra, notes = find_cases(predictions, truth, settings, masks)
    for note in notes:
        progress.warn(note)
    if extra:
        progress.warn(f"{len(extra)} predictions have no truth and are left out: {', '.join(extra[:5])}"
                      + (" …" if len(extra) > 5 else ""))
    recorded = recorded_legend(predictions)
    known = dict(names) if names is not None else {e.value: e.name for e in recorded or ()}
    assumed = recorded_ignore(predictions) if settings.ignore is None else None
    encoding, legend, settings = _encoding(cases, settings, recorded, known, progress, assumed)
    matrices, errors, left = [], list[BiomaskError](), set[str]()
    with progress.bar("evaluating") as bar:
        for n, case in enumerate(cases):
            try:
                found = _confusion(case, encoding, legend, settings)
                if settings.unlabelled == "ignore" and not found.any():
                    left.add(case.name)
                else:
                    matrices.append(found)
            except BiomaskError as error:
                errors.append(error)
            bar.update((n + 1) / len(cases), case.name)
    if errors:
        raise ManyErrors(f"{len(errors)} of {len(cases)} pairs cannot be compared:", errors)
    if left:
        progress.say(f"{len(left)} images without labels are left out (--unlabelled ignore): {some(sorted(left))}")
        cases = [c for c in cases if c.name not in left]
    if not cases:
        raise LabelsError("the truth holds no labels: with --unlabelled ignore nothing is left", where=truth,
                          fix="leave out --unlabelled")
    scores = {"schema_version": SCHEMA_VERSION, "n_images": len(cases), "predictions": str(predictions), "truth": str(truth),
              "legend": legend.to_json(), "ignore": settings.ignore, "truth_is": encoding.reason, "without_truth": extra,
              **summarise([c.name for c in cases], matrices, legend, seed=seed), "footnotes": list(FOOTNOTES)}
    return Judged(scores, tuple(cases), encoding, legend, settings)


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


def recorded_legend(predictions: str | Path) -> Legend | None:
    """The legend from the run.json of predicted masks or of the folder above; None without one."""
    for content in _records(predictions):
        try:
            return Legend.from_json(content["legend"])
        except (ValueError, KeyError, TypeError, BiomaskError):
            continue
    return None


def recorded_ignore(predictions: str | Path) -> int | None:
    """The value of pixels where nothing is known in the labels of the training; None where it is not recorded."""
    return next((c["ignore"] for c in _records(predictions) if type(c.get("ignore")) is int), None)


def recorded_selection(predictions: str | Path) -> str:
    """The flags by which every plane or time point was predicted on its own, as they are typed; empty where none was."""
    chosen: dict[str, Any] = next((c["selection"] for c in _records(predictions) if isinstance(c.get("selection"), dict)), {})
    return " ".join(f"--{key} each" for key in ("z", "time") if chosen.get(key) == "each")


def _records(predictions: str | Path) -> Iterator[dict[str, Any]]:
    """The run.json of predicted masks, and that of the folder above, where they can be read."""
    for folder in (Path(predictions), Path(predictions).parent):
        try:
            content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            yield content


def _encoding(cases: Sequence[Case], settings: DataSettings, recorded: Legend | None, names: Mapping[int, str],
              progress: Progress, assumed: int | None) -> tuple[Encoding, Legend, DataSettings]:
    """(what the truth means, all values of both sides, how the truth is read), after checking that they speak of the same classes.

    assumed: the value that is ignored where the truth is stored as values; None = that of the settings.
    """
    ignore = settings.ignore if assumed is None else assumed
    found, predicted, errors = list[LabelFacts](), set[int](names), list[BiomaskError]()
    with progress.bar("reading masks") as bar:
        for n, case in enumerate(cases):
            size: tuple[int, ...] | None = None
            try:
                prediction = read_label_values(case.prediction)
                predicted |= {int(v) for v in np.unique(prediction.array)}
                size = prediction.size
            except BiomaskError as error:
                errors.append(error)
            try:
                raws = read_truth(case.pair, size or (1, 1), settings)
                found += [label_facts(raws[0], ignore, where_of(case.pair))] if case.pair.truth is not None else []
                blurred = blurred_error(found[-1], settings, where_of(case.pair)) if case.pair.truth is not None else None
                errors += [blurred] if blurred is not None else []
            except BiomaskError as error:
                # Without its prediction, a size that differs is no news.
                errors += [error] if size is not None or not isinstance(error, LabelsError) else []
            bar.update((n + 1) / len(cases))
    if errors:
        raise ManyErrors(f"{len(errors)} masks cannot be read:", errors)
    if assumed is not None and usual_form(found) in ("values", "fractions"):
        settings = settings.model_copy(update={"ignore": assumed})
        progress.say(f"pixels of value {assumed} are not judged, as they were not trained on; --ignore VALUE names another value")
    encoding = encoding_of(found, settings, recorded)
    true = set(encoding.legend.values)
    if len(predicted - set(names)) > MOST_CLASSES:
        raise LabelsError(f"{len(predicted - set(names))} values in the predictions are too many for classes: images rather than "
                          "masks?", fix="evaluate class masks")
    if (true - {0}) and (predicted - {0}) and not (true - {0}) & (predicted - {0}):
        raise LabelsError(f"the truth has values {sorted(true)[:10]}, the predictions {sorted(predicted)[:10]}: "
                          "no class is in both", fix="relabel one side so that a class has the same value in both")
    shown = {e.value: e.name for e in encoding.legend if e.value not in names} | dict(names)
    return encoding, Legend.of_values(sorted(true | predicted), shown), settings


def encoding_of(found: Sequence[LabelFacts], settings: DataSettings, recorded: Legend | None) -> Encoding:
    """What the truth means. What `predict` recorded comes first: its values, colours and names are classes."""
    form = usual_form(found)
    values = {v for f in found for v in f.counts} - {settings.ignore}
    strange = values - set(recorded.values if recorded is not None else ())
    if form == "values" and settings.values is None and len(strange) > MOST_CLASSES:
        raise LabelsError(f"{len(strange)} values in the truth are too many for classes: images rather than masks, or ids of "
                          "objects?", fix="evaluate class masks")
    if recorded is not None and form == "colours" and settings.legend is None:
        colours = {e.colour: e for e in recorded}
        legend = {f"#{bytes(c).hex()}": e.name for c, e in colours.items()}
        encoding = infer_encoding_of(found, settings.model_copy(update={"kind": "classes", "legend": legend}))
        entries = sorted((colours[c] for c in encoding.colours), key=lambda e: e.value)
        return replace(encoding, colours=tuple(e.colour for e in entries), legend=Legend(tuple(entries)))
    if recorded is not None and form == "objects":
        shown = tuple(e.name for e in list(recorded)[1:])
        strangers = sorted({c for f in found for c in f.classes.values()} - set(shown))
        if len(shown) > 1 and (strangers or any(len(f.classes) < f.objects for f in found)):
            what = f"are of {', '.join(strangers[:8])}" if strangers else "have no class"
            raise LabelsError(f"outlines {what}, the predictions of {', '.join(shown)}", fix="give both sides the same class names")
        return Encoding("classes", "objects, by the names of their classes", recorded, "objects", names=shown)
    if form == "values" and settings.kind is None and recorded is not None and values <= set(recorded.values):
        settings = settings.model_copy(update={"kind": "classes"})
    encoding = infer_encoding_of(found, settings)
    if encoding.kind not in ("classes", "soft"):
        raise LabelsError(f"the truth looks like {encoding.kind}: {encoding.reason}",
                          fix="if its values are classes, say --labels classes; other kinds are not evaluated yet")
    return encoding


def true_ids(case: Case, encoding: Encoding, size: tuple[int, ...],
             settings: DataSettings) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """(values of the true classes (*S), ignore (*S) or None) at the size of the prediction.

    Planes and images without labels are ignored where the settings say so.
    """
    labels = encoding.labels(read_truth(case.pair, size, settings), case.name, where_of(case.pair))
    ids, unknown = encoding.class_ids(labels), labels.ignore
    if settings.unlabelled == "ignore" and not (there := ids.any(axis=(-2, -1), keepdims=True)).all():
        empty = np.broadcast_to(~there, ids.shape)
        unknown = empty.copy() if unknown is None else unknown | empty
    return encoding.legend.values_of(ids), unknown


def _confusion(case: Case, encoding: Encoding, legend: Legend, settings: DataSettings) -> npt.NDArray[np.int64]:
    prediction = read_label_values(case.prediction)
    truth, unknown = true_ids(case, encoding, prediction.size, settings)
    return confusion_matrix(legend.ids(truth), legend.ids(prediction.array[0]), len(legend), unknown)
