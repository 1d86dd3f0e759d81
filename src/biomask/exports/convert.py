"""`convert`: labels of any form in; labels of another program out.

Outlines go to outlines as they are, without a detour over pixels; pixels become outlines along their edges, which turn
back into the same pixels. Predictions with keypoints go to COCO as `predict --export coco` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from biomask.data.annotations import coco_images, is_annotation, read_annotations, read_coco_entry
from biomask.data.encoding import Encoding
from biomask.data.facts import Inspected
from biomask.data.inference import infer_encoding
from biomask.data.layouts import find_layout
from biomask.data.naming import normal
from biomask.data.pairing import Layout, Pair, Truth, label_files, truth_of, unread_error, where_of
from biomask.data.survey import survey
from biomask.data.truth import read_truth
from biomask.data.two_folders import paired
from biomask.data.understand import split_planes, structures_of
from biomask.errors import BiomaskError, InputError, ManyErrors, MissingPathError, UsageError
from biomask.exports.formats import FORMATS
from biomask.exports.from_predictions import as_predictions, convert_predictions, read_anew
from biomask.exports.pixels import write_pixels
from biomask.exports.written import (
    CLASSES_LOST,
    LEGEND_FILE,
    OF_LABELS,
    Converted,
    Named,
    Writing,
    check_targets,
    draws,
    of_structure,
    targets_of,
)
from biomask.image import Image
from biomask.instances.trace import objects_of, outlines
from biomask.io import read_image, relative_stem
from biomask.io.annotations import sniff
from biomask.labels import LabelKind, Labels, Legend
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings
from biomask.shapes import Annotations, Shape, on_plane
from biomask.stored import WHOLE, Plane
from biomask.words import count

__all__ = ["Converted", "convert"]


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
    names: Mapping[str, str]
    """Of images in COCO, by the names of pairs."""


def convert(source: str | Path, out: str | Path, to: str, settings: DataSettings | None = None, *,
            masks: str | Path | None = None, images: str | Path | None = None, overwrite: bool = False,
            progress: Progress | None = None) -> Converted:
    """Write the labels in `source` for another program.

    source: a data folder, a folder of labels, one of predictions, or one file. to: one of FORMATS. masks: where the labels are in
    a data folder, as in training; in one of predictions "labels" or "masks". images: where the images are, for formats that state
    their size, and for their names. out: a folder, or the file for COCO.
    Raises ManyErrors, after all that can be is converted, listing the rest; where pixels are read, whose meaning is inferred from
    all of them, before anything is written.
    """
    if to not in FORMATS:
        raise UsageError(f"--to {to} is not known", fix=f"one of {', '.join(FORMATS)}")
    settings, progress, out, source = settings or DataSettings(), progress or Silent(), Path(out), Path(source)
    told = as_predictions(source, settings, masks, images)
    if told is not None:
        return convert_predictions(told, out, to, overwrite=overwrite, progress=progress)
    recorded = _recorded(source, settings)
    source = recorded.source
    layout = find_layout(source, masks) if masks is not None else _layout(source, images)
    layout = _in_planes(layout, settings)
    if layout.problems:
        raise layout.problems[0] if len(layout.problems) == 1 else ManyErrors("the labels cannot all be used:", layout.problems)
    pairs = layout.labelled
    if not pairs:
        raise InputError("holds no labels", where=source, fix="masks, or outlines of ImageJ, QuPath, LabelMe, COCO or napari")
    if settings.kind is None and not structures_of(pairs):
        settings = settings.model_copy(update={"kind": recorded.kind})
    items = [Named(p.name, _called(p), where_of(p)) for p in pairs]
    targets = targets_of(items, out, to)
    check_targets(_files_of(targets, pairs, out, to), source, overwrite,
                  inputs=[f for p in pairs if p.truth is not None for f in p.truth.files])
    names = _file_names(pairs, layout.root) if to == "coco" else {}
    encoding = _encoding(pairs, settings, to, progress)
    if encoding is not None and recorded.legend is not None and settings.legend is None:
        encoding = replace(encoding, legend=_as_recorded(encoding.legend, recorded.legend))
    done = _convert_all(items, pairs, Writing(out, to, targets), _Reading(settings, encoding, names), progress)
    return replace(done, notes=(*recorded.notes, *done.notes))


@dataclass(frozen=True)
class _Recorded:
    """What `predict` or `convert` said of pixels, beside them."""

    source: Path
    """Where they are."""
    kind: LabelKind | None = None
    legend: Legend | None = None
    notes: tuple[str, ...] = ()
    """For the user to read."""


def _recorded(source: Path, settings: DataSettings) -> _Recorded:
    """Of a folder that `predict` wrote, whose masks are read anew; of one that `convert` wrote pixels to, or of a file in it."""
    home = source if source.is_dir() else source.parent
    try:
        if (source / "run.json").is_file() and (source / "masks").is_dir():
            record = json.loads((source / "run.json").read_text(encoding="utf-8"))
            legend, flags = Legend.from_json(record["legend"]), ", ".join(read_anew(settings))
            note = (f"masks/ is read anew, for {flags}: objects are its connected pieces, without measurements and keypoints; "
                    f"biomask convert {source} takes the ids of labels/")
            return _Recorded(source / "masks", None if record.get("kind") == "multilabel" else "classes", legend, (note,))
        if (home / LEGEND_FILE).is_file():
            said = json.loads((home / LEGEND_FILE).read_text(encoding="utf-8"))
            return _Recorded(source, "instances") if said == OF_LABELS else _Recorded(source, "classes", Legend.from_json(said))
    except (OSError, ValueError, KeyError, TypeError, BiomaskError):
        pass
    return _Recorded(source)


def _files_of(targets: Mapping[str, Path], pairs: Sequence[Pair], out: Path, to: str) -> list[Path]:
    """All that will be written."""
    several = () if draws(to) else structures_of(pairs)
    files = [of_structure(t, out, s) for t in targets.values() for s in several] or list(targets.values())
    return [*files, *([] if draws(to) else [out / LEGEND_FILE])]


def _file_names(pairs: Sequence[Pair], root: Path) -> dict[str, str]:
    """Of each image the path that COCO calls it by: below the folder of images, with its suffix.

    It is the folder below which pairs have their names; where that is not one folder for all, as in a data set of parts, it is the
    data folder. Planes, and images that are not known, are called like their labels.
    """
    pictures = {p.name: p.image for p in pairs if _has_image(p) and _is_picture(p) and p.plane == WHOLE}
    bases = {_base(name, path) for name, path in pictures.items()}
    base = bases.pop() if len(bases) == 1 else None
    names = dict[str, str]()
    for pair in pairs:
        if pair.name in pictures:
            within = base or (root if pair.image.is_relative_to(root) else pair.image.parent)
            names[pair.name] = pair.image.relative_to(within).as_posix()
        elif pair.truth is not None and pair.truth.form == "coco":
            names[pair.name] = pair.truth.entry.replace("\\", "/")
        else:
            names[pair.name] = f"{pair.name}.tif"
    return names


def _base(name: str, path: Path) -> Path | None:
    """The folder below which an image has the name of its pair."""
    depth = name.count("/")
    base = path.parents[depth] if depth < len(path.parents) else None
    return base if base is not None and normal(relative_stem(path, base).as_posix()) == normal(name) else None


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


def _called(pair: Pair) -> str:
    """What a person calls the labels of an image."""
    return (pair.truth.entry if pair.truth is not None else "") or pair.image.name


def _encoding(pairs: Sequence[Pair], settings: DataSettings, to: str, progress: Progress) -> Encoding | None:
    """What pixels mean; None where outlines go to outlines."""
    if draws(to) and all(p.truth is not None and p.truth.form in ("shapes", "coco") for p in pairs):
        return None
    found = survey(_with_sizes(pairs), settings, progress)
    if found.bad:
        alone = {p.name for p in pairs if not _is_picture(p)}  # read as their own image too, so that what is wrong is there twice
        said = {str(e): e for name, several in found.bad.items() for e in (several[:1] if name in alone else several)}
        errors = list(said.values())
        raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} files cannot be read, so nothing is written:", errors)
    good: Sequence[Inspected] = found.good
    encoding = infer_encoding(good, settings, structures_of(pairs))
    if to == "labels" and settings.kind is None and encoding.form == "objects" and encoding.kind == "classes":
        # Outlines are objects already, whatever classes they have.
        encoding = infer_encoding(good, settings.model_copy(update={"kind": "instances"}), ())
    progress.say(f"labels: {encoding.kind} ({encoding.reason})")
    return encoding


def _with_sizes(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs whose image can be read. Raises InputError for outlines whose image is not there."""
    lost = [p for p in pairs if p.truth is not None and p.truth.form in ("shapes", "coco") and not _has_image(p)]
    if lost:
        raise InputError(f"outlines become pixels at the size of their images, and {len(lost)} have none, such as this one",
                         where=where_of(lost[0]), fix="say where the images are: --images FOLDER")
    return list(pairs)


def _has_image(pair: Pair) -> bool:
    return pair.image.is_file() and not (pair.truth is not None and pair.image in pair.truth.files and is_annotation(pair.image))


def _convert_all(items: Sequence[Named], pairs: Sequence[Pair], writing: Writing, reading: _Reading,
                 progress: Progress) -> Converted:
    encoding, unnamed = reading.encoding, 0
    with progress.bar("converting") as bar:
        for n, (item, pair) in enumerate(zip(items, pairs, strict=True)):
            with writing.image(item):
                found = _read(pair, reading)
                if draws(writing.to):
                    writing.draw(pair.name, _as_outlines(found, reading))
                    unnamed += not _is_picture(pair) and (found.drawn is None or found.drawn.image is None)
                elif found.labels is None or encoding is None:
                    raise InputError("has no labels", where=where_of(pair))
                else:
                    files, objects, note = write_pixels(found.labels, found.image, writing, pair.name, encoding)
                    writing.add(pair.name, files, objects, note)
            bar.update((n + 1) / len(pairs), pair.name)
    if writing.to == "labels" and encoding is not None and encoding.kind != "multilabel" and len(encoding.legend) > 2:
        writing.notes.append(CLASSES_LOST)
    if unnamed and writing.to == "coco":
        writing.notes.append(f"{count(unnamed, 'image')} called like the labels in COCO, with .tif, as the images are not known: "
                             "--images FOLDER gives their names")
    return writing.finish([p.name for p in pairs], None if encoding is None else encoding.legend)


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


def _as_outlines(found: _Source, reading: _Reading) -> Annotations:
    whole = _is_picture(found.pair) and found.pair.plane == WHOLE
    name = reading.names.get(found.pair.name) or (found.pair.image.name if whole else f"{Path(found.pair.name).name}.tif")
    if found.drawn is not None:
        size = found.drawn.size
        if size is None and found.image is not None:
            size = (found.image.size[-2], found.image.size[-1])
        said = None if _is_picture(found.pair) else found.drawn.image
        return replace(found.drawn, size=size, image=name if said is None else str(PurePosixPath(name).parent / said))
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
