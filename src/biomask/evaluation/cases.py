"""`find_cases`: which prediction belongs to which truth."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from biomask.data.annotations import coco_files, coco_images, list_annotations
from biomask.data.layouts import find_layout
from biomask.data.mistakes import some
from biomask.data.naming import match, normal
from biomask.data.pairing import MASK_FOLDERS, Layout, Pair, Truth, index, label_files, truth_of, unread_error, where_of
from biomask.data.two_folders import paired
from biomask.data.understand import split_planes, structures_of
from biomask.errors import LabelsError, ManyErrors, MissingPathError, PairingError, UsageError
from biomask.evaluation.records import recorded_kind, recorded_legend, recorded_selection
from biomask.io import list_images
from biomask.io.annotations import sniff
from biomask.recipe import DataSettings
from biomask.stored import stem_of


@dataclass(frozen=True)
class Case:
    """One prediction and its truth."""

    name: str
    prediction: Path
    """Class values; of structures, the mask of the first."""
    pair: Pair
    """Its truth, and its image where the folder of truth has it; elsewhere the prediction stands for it."""
    objects: Path | None = None
    """Ids of predicted objects; None where none were written."""
    structures: tuple[Path, ...] = ()
    """A predicted mask a structure, in the order of the truth."""
    probabilities: Path | None = None
    """None where they were not written."""


@dataclass(frozen=True)
class _Predicted:
    """A folder of predictions."""

    masks: Path
    made: Mapping[str, Path]
    """Name: file of class values, or of the first structure."""
    objects: Mapping[str, Path]
    """Name: file of ids."""
    structures: Mapping[str, Mapping[str, Path]]
    """Structure: name: file."""
    probabilities: Mapping[str, Path] = field(default_factory=dict)


def find_cases(predictions: str | Path, truth: str | Path, settings: DataSettings | None = None,
               masks: str | Path | None = None) -> tuple[list[Case], list[str], list[str]]:
    """(cases, names predicted without a truth, what was left out). Raises PairingError where a truth has no prediction.

    predictions: a folder that `predict` wrote, or masks, or ids of objects. truth: labels in any form that training takes, or a
    data folder that holds them; or two files. settings: whether each plane or time point is an image, and what images without
    labels mean. masks: where the labels are, if not in `truth`.
    """
    predictions, truth, settings = Path(predictions), Path(truth), settings or DataSettings()
    for path in (predictions, truth):
        if not path.exists():
            raise MissingPathError("no such file or folder", where=path)
    if predictions.is_file() and truth.is_file():
        return [Case(predictions.stem, predictions, Pair(predictions.stem, predictions, truth_of(truth)), predictions)], [], []
    _require_pixels(predictions)
    kind = settings.kind or recorded_kind(predictions)
    found = _predicted(predictions, _structures_told(predictions) if kind == "multilabel" else ())
    layout, notes = _predicted_parts(truth_layout(_folder_of(found), truth, settings, masks), list(found.made))
    if layout.problems:
        raise layout.problems[0]
    bare = layout.unlabelled if settings.unlabelled == "background" else ()
    pairs = {p.name: p for p in (*layout.labelled, *bare)}
    if not pairs:
        raise PairingError("holds no masks", where=truth, fix="give the folder with the true masks")
    structures = structures_of(list(pairs.values()))
    if structures and not found.structures:
        found = _predicted(predictions, structures)
    if len(found.structures) > 1 and not structures:
        raise _one_for_all(found, truth)
    partners, _ = match(list(pairs), list(found.made))
    missing = [name for name in pairs if name not in partners]
    if missing:
        split = recorded_selection(found.masks) if not settings.selection.splits else ""
        raise PairingError(f"{len(missing)} of {len(pairs)} true masks in {truth} have no prediction: {some(missing)}",
                           where=found.masks, fix=f"say {split}, as when predicting" if split else
                           "predict them too, or give a folder with only the truth that was predicted")
    if any(p.truth is not None and found.made[partners[n]] in p.truth.files for n, p in pairs.items()):
        raise UsageError(f"predictions and truth are the same folder, {truth}", fix="give the folder that predict wrote first")
    taken = set(partners.values())
    cases = [_case(name, pair, found, partners[name], structures, truth) for name, pair in pairs.items()]
    return cases, [name for name in found.made if name not in taken], notes


def _one_for_all(found: _Predicted, truth: Path) -> LabelsError:
    """The error for predictions of several structures, and a truth that is none of them."""
    one, given = (shlex.quote(str(p)) for p in (found.masks / next(iter(found.structures)), truth))
    return LabelsError(f"the predictions are a mask a structure, {', '.join(found.structures)}, which may overlap, and the truth "
                       "is one for all", where=truth,
                       fix=f"evaluate one of them, {one}; where the truth is outlines, make masks of it: biomask convert {given} "
                           "--labels multilabel --to masks -o TRUTH --images IMAGES")


def _require_pixels(predictions: Path) -> None:
    """Raise LabelsError for predictions that are outlines alone: what they cover depends on the size of the image."""
    if predictions.is_dir() and not list_images(predictions) and (list_annotations(predictions) or coco_files(predictions)):
        fix = f"biomask convert {shlex.quote(str(predictions))} --to labels -o LABELS --images IMAGES, and give LABELS"
        raise LabelsError("holds outlines, and predictions are compared by their pixels", where=predictions, fix=fix)


def find_others(predictions: str | Path, cases: Sequence[Case]) -> tuple[list[Case], list[str]]:
    """(the same truth with other predictions, the names of images that these lack). Raises PairingError where they lack all.

    predictions: as in `find_cases`.
    """
    predictions = Path(predictions)
    if not predictions.exists():
        raise MissingPathError("no such file or folder", where=predictions)
    _require_pixels(predictions)
    if predictions.is_file() and len(cases) == 1:
        return [replace(cases[0], prediction=predictions, objects=predictions, probabilities=None)], []
    structures = structures_of([c.pair for c in cases])
    found = _predicted(predictions, structures)
    if any(c.prediction in found.made.values() for c in cases):
        raise UsageError(f"--against {predictions} are the predictions themselves", fix="give another folder of predictions")
    partners, _ = match([c.name for c in cases], list(found.made))
    others = [_case(c.name, c.pair, found, partners[c.name], structures, predictions) for c in cases if c.name in partners]
    return others, _lacking(cases, others, predictions, "predictions")


def find_annotated(folder: str | Path, cases: Sequence[Case], settings: DataSettings) -> tuple[list[Case], list[str]]:
    """(for each image the labels of a second annotator as its truth, the names of images that lack them).

    folder: labels in any form that training takes, or one file for one image. Raises PairingError where there are none.
    """
    folder = Path(folder)
    if not folder.exists():
        raise MissingPathError("no such file or folder", where=folder)
    if folder.is_file() and len(cases) == 1:
        return [replace(cases[0], prediction=folder, pair=replace(cases[0].pair, truth=truth_of(folder)))], []
    layout = truth_layout(_root_of(cases), folder, settings)
    if layout.problems:
        raise layout.problems[0]
    pairs = {p.name: p for p in layout.labelled}
    used = {f for c in cases if c.pair.truth is not None for f in c.pair.truth.files}
    if any(used & set(p.truth.files) for p in pairs.values() if p.truth is not None and p.truth.form != "coco"):
        raise UsageError(f"--annotator {folder} holds the truth itself", fix="give the labels of another annotator")
    partners, _ = match([c.name for c in cases], list(pairs))
    found = [replace(c, prediction=where_of(pairs[partners[c.name]]), pair=pairs[partners[c.name]], objects=None, structures=(),
                     probabilities=None) for c in cases if c.name in partners]
    return found, _lacking(cases, found, folder, "labels")


def _lacking(cases: Sequence[Case], found: Sequence[Case], folder: Path, what: str) -> list[str]:
    """The names of cases that are not found. Raises PairingError where that is all of them."""
    if not found:
        raise PairingError(f"holds no {what} of the images compared: {some([c.name for c in cases])}", where=folder,
                           fix="give each file the name of its image")
    there = {c.name for c in found}
    return [c.name for c in cases if c.name not in there]


def _root_of(cases: Sequence[Case]) -> Path:
    """The folder below which the predictions have the names of their cases, or that of the first one."""
    first = cases[0]
    return first.prediction.parents[min(first.name.count("/"), len(first.prediction.parents) - 1)]


def _case(name: str, pair: Pair, found: _Predicted, partner: str, structures: Sequence[str], truth: Path) -> Case:
    """partner: the name of the prediction, which stands for an image that is not there."""
    pair = pair if pair.image.is_file() else replace(pair, image=found.made[partner])
    return Case(name, found.made[partner], pair, found.objects.get(partner), _of_structures(found, structures, partner, truth),
                found.probabilities.get(partner))


def _predicted(predictions: Path, structures: Sequence[str]) -> _Predicted:
    """What a folder holds: masks/ and labels/ of `predict`, or files of its own, which may be either."""
    found = _files(predictions, structures)
    home = predictions.parent if predictions == found.masks else predictions
    maps = home / "probabilities"
    named = found.masks != predictions or predictions.name in ("masks", "labels")
    return replace(found, probabilities=index(maps)) if named and maps.is_dir() else found


def _files(predictions: Path, structures: Sequence[str]) -> _Predicted:
    """The masks and ids."""
    masks, labels = predictions / "masks", predictions / "labels"
    if not masks.is_dir():
        masks = labels if labels.is_dir() and not structures else predictions
    folders = {name: masks / name for name in structures if (masks / name).is_dir()}
    if structures and len(folders) == len(structures):
        each = {name: index(folder) for name, folder in folders.items()}
        return _Predicted(masks, next(iter(each.values())), {}, each)
    made = index(masks)
    ids = index(labels) if labels.is_dir() else {} if masks != predictions else made
    return _Predicted(masks, made, ids, {})


def _structures_told(predictions: Path) -> tuple[str, ...]:
    """Names of predicted structures: as recorded, or of the folders that are there."""
    recorded = recorded_legend(predictions) if recorded_kind(predictions) == "multilabel" else None
    if recorded is not None:
        return tuple(e.name for e in recorded)[1:]
    masks = predictions / "masks" if (predictions / "masks").is_dir() else predictions
    return tuple(sorted(p.name for p in masks.iterdir() if p.is_dir() and list_images(p))) if masks.is_dir() else ()


def _folder_of(found: _Predicted) -> Path:
    """The folder whose files stand for the images."""
    return found.masks / next(iter(found.structures)) if found.structures else found.masks


def _of_structures(found: _Predicted, structures: Sequence[str], name: str, truth: Path) -> tuple[Path, ...]:
    """A predicted mask for each true structure of an image. Raises LabelsError or PairingError where one is missing."""
    lacking = [s for s in structures if s not in found.structures]
    if lacking:
        held = f"those of {', '.join(found.structures)}" if found.structures else "one mask an image"
        raise LabelsError(f"holds {held}, the truth in {truth} a mask a structure: {', '.join(structures)}", where=found.masks,
                          fix=f"put the predictions in a folder a structure ({found.masks.name}/{lacking[0]}/…), or evaluate one: "
                              f"--masks {lacking[0]}")
    absent = [s for s in structures if name not in found.structures[s]]
    if absent:
        raise PairingError(f"{name} has no prediction of {', '.join(absent)}", where=found.masks, fix="predict it again")
    return tuple(found.structures[s][name] for s in structures)


def truth_layout(predictions: Path, truth: Path, settings: DataSettings, masks: str | Path | None = None) -> Layout:
    """The labels of a folder: of its own images, or else of what was predicted; a pair a plane where each is an image.

    Raises ManyErrors listing files whose planes cannot be told.
    """
    if masks is not None:
        return _in_planes(find_layout(truth, masks), settings)
    if truth.is_file():
        return _in_planes(_of_file(truth), settings)
    coco = [] if list_images(truth) else coco_files(truth)
    if coco:
        return Layout(truth, "COCO files", tuple(p for file in coco for p in _of_file(file).pairs))
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


def _of_file(truth: Path) -> Layout:
    """One file of labels: of all images that a COCO file lists, or of one; where the images are does not matter here."""
    if sniff(truth) != "coco":
        return Layout(truth.parent, "one file", (Pair(stem_of(truth), truth, truth_of(truth)),))
    pairs = [Pair(_name_of(entry), Path(entry), Truth("coco", (truth,), entry=entry)) for entry in coco_images(truth)]
    return Layout(truth.parent, "a COCO file", tuple(pairs))


def _name_of(entry: str) -> str:
    """The name that a prediction of an image in a COCO file has."""
    path = PurePosixPath(entry.replace("\\", "/"))
    folders = [part for part in path.parts[:-1] if part != "/"]
    return normal("/".join([*folders, stem_of(Path(path.name)) if path.name else entry]))


def _in_planes(layout: Layout, settings: DataSettings) -> Layout:
    """A pair a plane or time point, where each is an image."""
    split, errors = split_planes(layout, settings)
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} files of the truth cannot be read:", errors)
    return split


def _predicted_parts(layout: Layout, made: Sequence[str]) -> tuple[Layout, list[str]]:
    """(the parts of which anything was predicted, a line for the others); names are without the folder of the part."""
    parts = {part: [p for p in layout.pairs if p.part == part] for part in dict.fromkeys(p.part for p in layout.labelled)}
    short = {part: [replace(p, name=p.short_name) for p in pairs] for part, pairs in parts.items()}
    done = [part for part, pairs in short.items() if match([p.name for p in pairs], made)[0]] or list(parts)
    pairs = [p for part in done for p in short[part]]
    if len({p.name for p in pairs}) < len(pairs):  # several parts have an image of one name
        pairs = [p for part in done for p in parts[part]]
    left = [part or "without a name" for part in parts if part not in done]
    notes = [f"nothing of the part {' and '.join(left)} was predicted: it is left out"] if left else []
    return replace(layout, pairs=tuple(pairs)), notes
