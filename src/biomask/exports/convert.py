"""`convert`: labels of any form in; labels of another program out.

Outlines go to outlines as they are, without a detour over pixels; pixels become outlines along their edges, which turn
back into the same pixels. Predictions with keypoints go to COCO as `predict --export coco` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import numpy.typing as npt

from biomask.data.annotations import coco_images, is_annotation, read_annotations, read_coco_entry
from biomask.data.encoding import Encoding
from biomask.data.facts import Inspected
from biomask.data.inference import infer_encoding
from biomask.data.layouts import find_layout
from biomask.data.pairing import Layout, Pair, Truth, label_files, truth_of, unread_error, where_of
from biomask.data.survey import survey
from biomask.data.truth import read_truth
from biomask.data.two_folders import paired
from biomask.data.understand import split_planes, structures_of
from biomask.errors import BiomaskError, InputError, ManyErrors, MissingPathError, PairingError, UsageError, WriteError
from biomask.exports.formats import FORMATS, OUTLINES
from biomask.exports.pixels import write_pixels
from biomask.exports.predicted import with_keypoints
from biomask.image import Image
from biomask.instances.trace import objects_of, outlines
from biomask.io import read_image
from biomask.io.annotations import SHAPE_SUFFIXES, SHAPE_WRITERS, sniff
from biomask.io.coco import write_coco
from biomask.io.files import require_writable, write_text
from biomask.labels import Labels, Legend
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings
from biomask.shapes import Annotations, Shape, on_plane
from biomask.stored import WHOLE, Plane


@dataclass(frozen=True)
class Converted:
    """What was written."""

    out: Path
    files: tuple[Path, ...]
    objects: int
    """Outlines or ids written, all images together; of class masks the number of masks."""
    notes: tuple[str, ...]
    """What could not be kept or is written in another way, by image."""


@dataclass(frozen=True)
class _Source:
    """The labels of one image, as outlines where they come as such, else as pixels."""

    pair: Pair
    drawn: Annotations | None
    labels: Labels | None
    image: Image | None
    """Header and size of the image, where there is one."""


@dataclass(frozen=True)
class _Reading:
    """How the labels of each image are read."""

    settings: DataSettings
    encoding: Encoding | None
    """What pixels mean; None where outlines go to outlines."""
    pointed: Mapping[Path, Annotations]
    """Predictions with keypoints, by the file of the mask."""

    def predicted(self, pair: Pair) -> Annotations | None:
        """What was predicted for a pair, where it has keypoints."""
        return self.pointed.get(pair.truth.files[0].resolve()) if self.pointed and pair.truth is not None else None


def convert(source: str | Path, out: str | Path, to: str, settings: DataSettings | None = None, *,
            masks: str | Path | None = None, images: str | Path | None = None, overwrite: bool = False,
            progress: Progress | None = None) -> Converted:
    """Write the labels in `source` for another program.

    source: a data folder, a folder of labels, one of predictions, or one file. to: one of FORMATS. masks: where the labels are in
    a data folder, as in training. images: where the images are, for formats that state their size. out: a folder, or the file for
    COCO.
    Raises ManyErrors, after all that can be is converted, listing the rest; where pixels are read, whose meaning is inferred from
    all of them, before anything is written.
    """
    if to not in FORMATS:
        raise UsageError(f"--to {to} is not known", fix=f"one of {', '.join(FORMATS)}")
    settings, progress, out = settings or DataSettings(), progress or Silent(), Path(out)
    recorded = _recorded(Path(source))
    pointed, lost = (with_keypoints(Path(source), anew=masks is not None or settings != DataSettings(), progress=progress)
                     if to == "coco" and recorded is not None else ({}, ()))
    if recorded is not None:
        source = Path(source) / "masks" if (Path(source) / "run.json").is_file() else source
        settings = settings.model_copy(update={"kind": settings.kind or "classes"})
    layout = find_layout(source, masks) if masks is not None else _layout(Path(source), images)
    layout = _in_planes(layout, settings)
    if layout.problems:
        raise layout.problems[0] if len(layout.problems) == 1 else ManyErrors("the labels cannot all be used:", layout.problems)
    pairs = layout.labelled
    if not pairs:
        raise InputError("holds no labels", where=source, fix="masks, or outlines of ImageJ, QuPath, LabelMe, COCO or napari")
    targets = _targets(pairs, out, to)
    _check_targets(targets, Path(source), overwrite)
    reading = _Reading(settings, None, pointed)
    encoding = _encoding([p for p in pairs if reading.predicted(p) is None], settings, to, progress)
    if encoding is not None and recorded is not None and settings.legend is None:
        encoding = replace(encoding, legend=_as_recorded(encoding.legend, recorded))
    done = _convert_all(layout, targets, out, to, replace(reading, encoding=encoding), progress)
    return replace(done, notes=(*lost, *done.notes))


def _recorded(source: Path) -> Legend | None:
    """The legend of a folder that `predict` wrote, or `convert --to masks`; None elsewhere."""
    try:
        if (source / "run.json").is_file() and (source / "masks").is_dir():
            return Legend.from_json(json.loads((source / "run.json").read_text(encoding="utf-8"))["legend"])
        if (source / "legend.json").is_file():
            return Legend.from_json(json.loads((source / "legend.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, BiomaskError):
        pass
    return None


def _as_recorded(legend: Legend, recorded: Legend) -> Legend:
    """Names and colours by value, as they were recorded."""
    known = {e.value: e for e in recorded}
    return Legend(tuple(known.get(e.value, e) for e in legend))


def _layout(source: Path, images: str | Path | None) -> Layout:
    """Labels with their images, or alone: each then stands for its image."""
    if not source.exists():
        raise MissingPathError("no such file or folder", where=source)
    if images is not None:
        return find_layout(images, source) if source.is_file() else paired(Path(images), source, source)
    if source.is_file():
        if is_annotation(source):
            return Layout(source.parent, "", (Pair(_stem(source), source, Truth("shapes", (source,))),))
        if sniff(source) == "coco":
            return Layout(source.parent, "", tuple(Pair(_without_suffix(e), Path(e), Truth("coco", (source,), entry=e))
                                                   for e in coco_images(source)))
        return Layout(source.parent, "", (Pair(source.stem, source, truth_of(source)),))
    try:
        layout = find_layout(source)
    except InputError:
        layout = None
    if layout is not None and layout.labelled:
        return layout
    files = label_files(source)
    return Layout(source, "", tuple(Pair(s, p, truth_of(p)) for s, p in files.items()), (), tuple(unread_error(source)))


def _stem(path: Path) -> str:
    return path.name.split(".", 1)[0]


def _without_suffix(entry: str) -> str:
    """A COCO file's name of an image without its ending; what names no file stays as it is, and is refused later."""
    path = PurePosixPath(entry)
    return str(path.with_suffix("")) if path.name not in ("", "..") else entry


def _in_planes(layout: Layout, settings: DataSettings) -> Layout:
    """A pair a plane or time point, where each is converted on its own. Raises InputError where their number is not known."""
    if not settings.selection.splits:
        return layout
    lost = [p for p in layout.labelled if not _has_image(p)]
    if lost:
        raise InputError(f"how many planes the image has is not known, here and of {len(lost) - 1} others", where=where_of(lost[0]),
                         fix="say where the images are: --images FOLDER")
    split, errors = split_planes(replace(layout, pairs=layout.labelled), settings)
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} images cannot be read:", errors)
    return split


def _targets(pairs: Sequence[Pair], out: Path, to: str) -> dict[str, Path]:
    """Where each pair's labels go. Raises PairingError for names that lead out of the folder, or to one file."""
    if to == "coco":
        file = out if out.suffix.lower() == ".json" else out / "labels.json"
        return {p.name: file for p in pairs}
    strange = [p for p in pairs if _leads_out(p.name)]
    if strange:
        raise PairingError(f"{len(strange)} names of images are no paths below a folder: "
                           + ", ".join(repr(p.truth.entry if p.truth and p.truth.entry else p.name) for p in strange[:10])
                           + (" …" if len(strange) > 10 else ""), where=where_of(strange[0]),
                           fix="give names without '..' and without a folder at the root")
    ending = SHAPE_SUFFIXES[OUTLINES[to]] if to in OUTLINES else ".tif"
    taken: dict[str, Pair] = {}
    for pair in pairs:
        other = taken.setdefault(pair.name.casefold(), pair)
        if other is not pair:
            raise PairingError(f"{_called(other)} and {_called(pair)} would both be written as {pair.name}{ending}",
                               where=where_of(pair), fix="rename one of them")
    return {p.name: out / f"{p.name}{ending}" for p in pairs}


def _leads_out(name: str) -> bool:
    """Whether a name may lie elsewhere than below a folder, on any system."""
    parts = name.replace("\\", "/").split("/")
    rooted = PureWindowsPath(name)
    return bool(rooted.drive or rooted.root) or ".." in parts or parts[-1] in ("", ".") or "\0" in name


def _called(pair: Pair) -> str:
    """What a person calls the labels of an image."""
    return (pair.truth.entry if pair.truth is not None else "") or pair.image.name


def _check_targets(targets: dict[str, Path], source: Path, overwrite: bool) -> None:
    """Refuse to write among the labels or over files, before any work is done."""
    for target in set(targets.values()):
        if source.is_dir() and source.resolve() in target.resolve().parents:
            raise UsageError(f"-o {target.parent} lies in {source}", fix="give another folder: nothing is written beside inputs")
    there = [t for t in set(targets.values()) if t.exists()]
    if there and not overwrite:
        raise WriteError(f"{len(there)} file(s) would be written over, such as this one", where=there[0],
                         fix="choose another -o, or --overwrite")
    require_writable(next(iter(targets.values())).parent)


def _encoding(pairs: Sequence[Pair], settings: DataSettings, to: str, progress: Progress) -> Encoding | None:
    """What pixels mean; None where outlines go to outlines."""
    if _draws(to) and all(p.truth is not None and p.truth.form in ("shapes", "coco") for p in pairs):
        return None
    found = survey(_with_sizes(pairs), settings, progress)
    if found.bad:
        alone = {p.name for p in pairs if not _is_picture(p)}  # read as their own image too, so that what is wrong is there twice
        said = {str(e): e for name, several in found.bad.items() for e in (several[:1] if name in alone else several)}
        errors = list(said.values())
        raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} files cannot be read, so nothing is written:", errors)
    good: Sequence[Inspected] = found.good
    encoding = infer_encoding(good, settings, structures_of(pairs))
    progress.say(f"labels: {encoding.kind} ({encoding.reason})")
    return encoding


def _draws(to: str) -> bool:
    """Whether a format holds outlines."""
    return to in (*OUTLINES, "coco")


def _with_sizes(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs whose image can be read. Raises InputError for outlines whose image is not there."""
    lost = [p for p in pairs if p.truth is not None and p.truth.form in ("shapes", "coco") and not _has_image(p)]
    if lost:
        raise InputError(f"outlines become pixels at the size of their images, and {len(lost)} have none, such as this one",
                         where=where_of(lost[0]), fix="say where the images are: --images FOLDER")
    return list(pairs)


def _has_image(pair: Pair) -> bool:
    return pair.image.is_file() and not (pair.truth is not None and pair.image in pair.truth.files and is_annotation(pair.image))


def _convert_all(layout: Layout, targets: dict[str, Path], out: Path, to: str, reading: _Reading, progress: Progress) -> Converted:
    files, notes, errors, count = list[Path](), list[str](), list[BiomaskError](), 0
    together = list[Annotations]()
    pairs, encoding = layout.labelled, reading.encoding
    with progress.bar("converting") as bar:
        for n, pair in enumerate(pairs):
            try:
                if _draws(to):
                    drawn = _outlined(pair, reading) if to == "coco" else _for_others(_outlined(pair, reading))
                    notes += [f"{pair.name}: {lost}" for lost in (drawn.lost if to == "coco" else drawn.left_out)]
                    count += len(drawn.shapes) + (len(drawn.boxed) if to == "coco" else 0)
                    if to == "coco":
                        together.append(drawn)
                    else:
                        SHAPE_WRITERS[OUTLINES[to]](targets[pair.name], drawn)
                        files.append(targets[pair.name])
                else:
                    found = _read(pair, reading)
                    if found.labels is None or encoding is None:
                        raise InputError("has no labels", where=where_of(pair))
                    written, objects, lost = write_pixels(found.labels, found.image, targets[pair.name], to, encoding)
                    files += written
                    count += objects
                    notes += [f"{pair.name}: {lost}"] if lost else []
            except BiomaskError as error:
                errors.append(error if error.where is not None else type(error)(error.what, where=where_of(pair), fix=error.fix))
            bar.update((n + 1) / len(pairs), pair.name)
    if together:
        target = next(iter(targets.values()))
        write_coco(target, together)
        files.append(target)
    if to == "masks" and encoding is not None and files:
        files.append(out / "legend.json")
        write_text(out / "legend.json", json.dumps(encoding.legend.to_json(), indent=2, ensure_ascii=False))
    if errors:
        if len(pairs) == 1:
            raise errors[0]
        others = f", the others are in {out}" if files else ""
        raise ManyErrors(f"{len(errors)} of {len(pairs)} could not be converted{others}:", errors)
    return Converted(out, tuple(files), count, tuple(notes))


def _outlined(pair: Pair, reading: _Reading) -> Annotations:
    predicted = reading.predicted(pair)
    return _as_outlines(_read(pair, reading)) if predicted is None else predicted


def _read(pair: Pair, reading: _Reading) -> _Source:
    """The labels of a pair: outlines as they are, unless pixels are wanted."""
    settings, encoding = reading.settings, reading.encoding
    image = read_image(pair.image, settings.selection, pair.plane) if _has_image(pair) else None
    truth = pair.truth
    if encoding is None and truth is not None and truth.form in ("shapes", "coco"):
        drawn = read_coco_entry(truth.files[0], truth.entry) if truth.form == "coco" else read_annotations(truth.files[0])
        return _Source(pair, _of_plane(drawn, _plane(pair, settings)), None, image)
    if image is None or encoding is None:
        raise InputError("has no image that states its size", where=where_of(pair), fix="say where the images are: --images FOLDER")
    raws = read_truth(pair, image.size, settings)
    return _Source(pair, None, encoding.labels(raws, pair.name, where_of(pair)), image)


def _plane(pair: Pair, settings: DataSettings) -> Plane:
    """The plane and time point that are converted, where they are one of several."""
    z, time = (n if isinstance(n, int) else None for n in (settings.z, settings.time))
    return Plane(z if pair.plane.z is None else pair.plane.z, time if pair.plane.time is None else pair.plane.time)


def _of_plane(drawn: Annotations, plane: Plane) -> Annotations:
    """The outlines of one plane, as of a flat image."""
    if plane == WHOLE:
        return drawn
    here = on_plane(drawn.shapes, plane.z, plane.time)
    return replace(drawn, shapes=tuple(replace(s, z=None if plane.z is not None else s.z,
                                               time=None if plane.time is not None else s.time) for s in here))


def _for_others(drawn: Annotations) -> Annotations:
    """Without what only COCO can say: crowds, which are no objects, and keypoints; left out by name."""
    crowds = [s for s in drawn.shapes if s.crowd]
    said = [f"{s.name or 'object'} {s.title}".strip() + " (a crowd of objects that nobody told apart)" for s in crowds]
    pointed = sum(s.keypoints is not None and bool((s.keypoints[:, 2] > 0).any()) for s in drawn.shapes)
    if pointed:
        said.append(f"keypoints of {pointed} object{'s' * (pointed != 1)} (only COCO holds them)")
    return replace(drawn, shapes=tuple(s for s in drawn.shapes if not s.crowd), left_out=(*drawn.left_out, *said))


def _as_outlines(found: _Source) -> Annotations:
    whole = _is_picture(found.pair) and found.pair.plane == WHOLE
    name = found.pair.image.name if whole else f"{Path(found.pair.name).name}.tif"
    if found.drawn is not None:
        size = found.drawn.size
        if size is None and found.image is not None:
            size = (found.image.size[-2], found.image.size[-1])
        return replace(found.drawn, size=size, image=name if _is_picture(found.pair) else found.drawn.image or name)
    labels = found.labels
    if labels is None:
        raise InputError("has no labels", where=where_of(found.pair))
    unknown = 0 if labels.ignore is None else int(labels.ignore.sum())
    lost = (f"{unknown} pixels where nothing is known (outlines cannot say so)",) if unknown else ()
    return Annotations(tuple(_shapes(labels)), (int(labels.size[-2]), int(labels.size[-1])), lost, name)


def _is_picture(pair: Pair) -> bool:
    """Whether the pair's image is one, and not labels that stand for it."""
    return pair.truth is None or pair.image not in pair.truth.files


def _shapes(labels: Labels) -> list[Shape]:
    """Outlines of objects, with the names and colours of their classes."""
    entries = labels.legend.entries
    if labels.kind == "instances":
        classes = labels.classes or {}
        named = len(entries) > 2 or bool(classes)
        names = {i: entries[c].name for i, c in classes.items()} if named else {}
        colours = {i: entries[c].colour for i, c in classes.items()} if named else {}
        return outlines(labels.array, names=names, colours=colours)
    if labels.kind == "multilabel":
        return [s for k, plane in enumerate(labels.array, start=1) for s in _of_structure(plane, k, labels.legend)]
    ids = (labels.array[0] >= 0.5).astype(np.uint8) if labels.kind == "soft" else labels.array
    return objects_of(ids, labels.legend)


def _of_structure(plane: npt.NDArray[np.bool_], position: int, legend: Legend) -> list[Shape]:
    return objects_of(plane.astype(np.uint8), Legend((legend.entries[0], legend.entries[position])))
