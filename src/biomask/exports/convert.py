"""`convert`: labels of any form in; labels of another program out.

Outlines go to outlines as they are, without a detour over pixels; pixels become outlines along their edges, which turn
back into the same pixels. Predictions with keypoints go to COCO as `predict --export coco` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from biomask.data.annotations import read_annotations, read_coco_entry
from biomask.data.encoding import Encoding
from biomask.data.facts import Inspected
from biomask.data.inference import infer_encoding
from biomask.data.layouts import find_layout
from biomask.data.pairing import Pair, where_of
from biomask.data.survey import survey
from biomask.data.truth import read_truth
from biomask.data.understand import structures_of
from biomask.errors import InputError, ManyErrors, UsageError
from biomask.exports.formats import FORMATS
from biomask.exports.from_predictions import as_predictions, convert_predictions
from biomask.exports.pixels import write_pixels
from biomask.exports.sources import all_drawn, file_names, has_image, in_planes, is_picture, layout_of, recorded_of
from biomask.exports.structures import structures_in, write_structures
from biomask.exports.values import with_values
from biomask.exports.written import (
    CLASSES_LOST,
    LEGEND_FILE,
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
from biomask.io import read_image
from biomask.labels import Labels, Legend
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
    apart: tuple[str, ...] = ()
    """Classes of outlines that are written each on its own, as they may overlap."""


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
    recorded = recorded_of(source, settings)
    source = recorded.source
    layout = find_layout(source, masks) if masks is not None else layout_of(source, images)
    layout = in_planes(layout, settings)
    if layout.problems:
        raise layout.problems[0] if len(layout.problems) == 1 else ManyErrors("the labels cannot all be used:", layout.problems)
    pairs = layout.labelled
    if not pairs:
        raise InputError("holds no labels", where=source, fix="masks, or outlines of ImageJ, QuPath, LabelMe, COCO or napari")
    if settings.kind is None and not (structures_of(pairs) and recorded.kind == "classes"):
        settings = settings.model_copy(update={"kind": recorded.kind})
    apart = structures_in(pairs) if settings.kind == "multilabel" and not draws(to) and all_drawn(pairs) else ()
    items = [Named(p.name, _called(p), where_of(p)) for p in pairs]
    targets = targets_of(items, out, to)
    check_targets(_files_of(targets, apart or structures_of(pairs), out, to), source, overwrite,
                  inputs=[f for p in pairs if p.truth is not None for f in p.truth.files])
    names = file_names(pairs, layout.root) if to == "coco" else {}
    encoding, notes = (None if apart else _encoding(pairs, settings, to, progress)), list(recorded.notes)
    if encoding is not None and recorded.legend is not None and settings.legend is None:
        encoding = _as_recorded(encoding, recorded.legend)
    if encoding is not None and encoding.form == "objects" and to == "masks":
        encoding, said = with_values(encoding, pairs, settings.legend)
        notes += [said] if said else []
    elif settings.legend is not None and (encoding is None or encoding.form == "objects"):
        notes.append("--legend has no effect: outlines have names of classes and no values")
    done = _convert_all(items, pairs, Writing(out, to, targets), _Reading(settings, encoding, names, apart), progress)
    return replace(done, notes=(*notes, *done.notes))


def _files_of(targets: Mapping[str, Path], structures: Sequence[str], out: Path, to: str) -> list[Path]:
    """All that will be written."""
    several = () if draws(to) else structures
    files = [of_structure(t, out, s) for t in targets.values() for s in several] or list(targets.values())
    return [*files, *([] if draws(to) else [out / LEGEND_FILE])]


def _as_recorded(encoding: Encoding, recorded: Legend) -> Encoding:
    """Names and colours as they were recorded: by value, of structures, whose order is that of their folders, by name."""
    if encoding.kind == "multilabel":
        named = {e.name: e.colour for e in recorded}
        entries = tuple(replace(e, colour=named.get(e.name, e.colour)) for e in encoding.legend)
    else:
        known = {e.value: e for e in recorded}
        entries = tuple(known.get(e.value, e) for e in encoding.legend)
    return replace(encoding, legend=Legend(entries))


def _called(pair: Pair) -> str:
    """What a person calls the labels of an image."""
    return (pair.truth.entry if pair.truth is not None else "") or pair.image.name


def _encoding(pairs: Sequence[Pair], settings: DataSettings, to: str, progress: Progress) -> Encoding | None:
    """What pixels mean; None where outlines go to outlines."""
    if draws(to) and all_drawn(pairs):
        return None
    found = survey(_with_sizes(pairs), settings, progress)
    if found.bad:
        alone = {p.name for p in pairs if not is_picture(p)}  # read as their own image too, so that what is wrong is there twice
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
    lost = [p for p in pairs if p.truth is not None and p.truth.form in ("shapes", "coco") and not has_image(p)]
    if lost:
        raise InputError(f"outlines become pixels at the size of their images, and {len(lost)} have none, such as this one",
                         where=where_of(lost[0]), fix="say where the images are: --images FOLDER")
    return list(pairs)


def _convert_all(items: Sequence[Named], pairs: Sequence[Pair], writing: Writing, reading: _Reading,
                 progress: Progress) -> Converted:
    encoding, unnamed = reading.encoding, 0
    with progress.bar("converting") as bar:
        for n, (item, pair) in enumerate(zip(items, pairs, strict=True)):
            with writing.image(item):
                if reading.apart:
                    write_structures(pair, _image_of(pair, reading.settings), writing, reading.apart, reading.settings)
                    continue
                found = _read(pair, reading)
                if draws(writing.to):
                    writing.draw(pair.name, _as_outlines(found, reading))
                    unnamed += not is_picture(pair) and (found.drawn is None or found.drawn.image is None)
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
    legend = Legend.of_values(range(len(reading.apart) + 1), dict(enumerate(reading.apart, start=1))) if reading.apart else None
    return writing.finish([p.name for p in pairs], legend if encoding is None else encoding.legend)


def _read(pair: Pair, reading: _Reading) -> _Source:
    """The labels of a pair: outlines as they are, unless pixels are wanted."""
    settings, encoding = reading.settings, reading.encoding
    image, truth = _image_of(pair, settings), pair.truth
    if encoding is None and truth is not None and truth.form in ("shapes", "coco"):
        drawn = read_coco_entry(truth.files[0], truth.entry) if truth.form == "coco" else read_annotations(truth.files[0])
        return _Source(pair, _of_plane(drawn, _plane(pair, settings)), None, image)
    if image is None or encoding is None:
        raise InputError("has no image that states its size", where=where_of(pair), fix="say where the images are: --images FOLDER")
    raws = read_truth(pair, image.size, settings)
    return _Source(pair, None, encoding.labels(raws, pair.name, where_of(pair)), image)


def _image_of(pair: Pair, settings: DataSettings) -> Image | None:
    return read_image(pair.image, settings.selection, pair.plane) if has_image(pair) else None


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
    whole = is_picture(found.pair) and found.pair.plane == WHOLE
    name = reading.names.get(found.pair.name) or (found.pair.image.name if whole else f"{Path(found.pair.name).name}.tif")
    if found.drawn is not None:
        size = found.drawn.size
        if size is None and found.image is not None:
            size = (found.image.size[-2], found.image.size[-1])
        said = None if is_picture(found.pair) else found.drawn.image
        return replace(found.drawn, size=size, image=name if said is None else str(PurePosixPath(name).parent / said))
    labels = found.labels
    if labels is None:
        raise InputError("has no labels", where=where_of(found.pair))
    unknown = 0 if labels.ignore is None else int(labels.ignore.sum())
    lost = (f"{unknown} pixels where nothing is known (outlines cannot say so)",) if unknown else ()
    return Annotations(tuple(_shapes(labels)), (int(labels.size[-2]), int(labels.size[-1])), lost, name)


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
