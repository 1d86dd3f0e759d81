"""`convert`: labels of any form in; labels of another program out.

Outlines go to outlines as they are, without a detour over pixels; pixels become outlines along their edges, which turn
back into the same pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.annotations import coco_images, is_annotation, read_annotations, read_coco_entry
from biomask.data.encoding import Encoding, infer_encoding
from biomask.data.facts import Inspected
from biomask.data.layouts import find_layout, paired
from biomask.data.pairing import Layout, Pair, Truth, label_files, truth_of, unread_error, where_of
from biomask.data.survey import survey
from biomask.data.truth import read_truth
from biomask.data.understand import structures_of
from biomask.errors import BiomaskError, InputError, ManyErrors, MissingPathError, UsageError, WriteError
from biomask.image import Image
from biomask.instances.trace import objects_of, outlines
from biomask.io import read_image, write_mask
from biomask.io.annotations import sniff
from biomask.io.coco import write_coco
from biomask.io.files import require_writable, write_text
from biomask.io.geojson import write_geojson
from biomask.io.labelme import write_labelme
from biomask.io.napari_shapes import write_napari_csv
from biomask.io.roi_writer import write_roi_zip
from biomask.labels import Labels, Legend
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings
from biomask.shapes import Annotations

#: Formats of outlines, one file an image: (ending, writer).
OUTLINES: dict[str, tuple[str, Callable[[Path, Annotations], None]]] = {
    "geojson": (".geojson", write_geojson),
    "roi": (".zip", write_roi_zip),
    "labelme": (".json", write_labelme),
    "napari": (".csv", write_napari_csv),
}

#: What `--to` takes: the formats of outlines, one COCO file for all images, ids of objects and class masks as TIFF.
FORMATS = (*OUTLINES, "coco", "labels", "masks")


@dataclass(frozen=True)
class Converted:
    """What was written."""

    out: Path
    files: tuple[Path, ...]
    objects: int
    """Outlines or ids written, all images together; of class masks the number of masks."""
    notes: tuple[str, ...]
    """What could not be kept, by image."""


@dataclass(frozen=True)
class _Source:
    """The labels of one image, as outlines where they come as such, else as pixels."""

    pair: Pair
    drawn: Annotations | None
    labels: Labels | None
    image: Image | None
    """Header and size of the image, where there is one."""


def convert(source: str | Path, out: str | Path, to: str, settings: DataSettings | None = None, *,
            images: str | Path | None = None, overwrite: bool = False, progress: Progress | None = None) -> Converted:
    """Write the labels in `source` for another program.

    source: a data folder, a folder of labels, or one file. to: one of FORMATS. images: where the images are, for formats
    that state their size. out: a folder, or the file for COCO. Raises ManyErrors, after all that can be is converted,
    listing the rest.
    """
    if to not in FORMATS:
        raise UsageError(f"--to {to} is not known", fix=f"one of {', '.join(FORMATS)}")
    settings, progress, out = settings or DataSettings(), progress or Silent(), Path(out)
    layout = _layout(Path(source), images)
    if layout.problems:
        raise layout.problems[0] if len(layout.problems) == 1 else ManyErrors("the labels cannot all be used:", layout.problems)
    pairs = layout.labelled
    if not pairs:
        raise InputError("holds no labels", where=source, fix="masks, or outlines of ImageJ, QuPath, LabelMe, COCO or napari")
    targets = _targets(pairs, out, to)
    _check_targets(targets, Path(source), overwrite)
    encoding = _encoding(pairs, settings, to, progress)
    return _convert_all(layout, targets, out, to, settings, encoding, progress)


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
            return Layout(source.parent, "", tuple(Pair(str(Path(e).with_suffix("")), Path(e), Truth("coco", (source,), entry=e))
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


def _targets(pairs: Sequence[Pair], out: Path, to: str) -> dict[str, Path]:
    """Where each pair's labels go."""
    if to == "coco":
        file = out if out.suffix.lower() == ".json" else out / "labels.json"
        return {p.name: file for p in pairs}
    ending = OUTLINES[to][0] if to in OUTLINES else ".tif"
    return {p.name: out / f"{p.name}{ending}" for p in pairs}


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
    if to in (*OUTLINES, "coco") and all(p.truth is not None and p.truth.form in ("shapes", "coco") for p in pairs):
        return None
    found = survey(_with_sizes(pairs), settings, progress)
    if found.bad:
        errors = [e for several in found.bad.values() for e in several]
        raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} labels cannot be read:", errors)
    good: Sequence[Inspected] = found.good
    encoding = infer_encoding(good, settings, structures_of(pairs))
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


def _convert_all(layout: Layout, targets: dict[str, Path], out: Path, to: str, settings: DataSettings, encoding: Encoding | None,
                 progress: Progress) -> Converted:
    files, notes, errors, count = list[Path](), list[str](), list[BiomaskError](), 0
    together = list[Annotations]()
    pairs = layout.labelled
    with progress.bar("converting") as bar:
        for n, pair in enumerate(pairs):
            try:
                found = _read(pair, settings, encoding)
                if to in (*OUTLINES, "coco"):
                    drawn = _as_outlines(found)
                    notes += [f"{pair.name}: {lost}" for lost in drawn.left_out]
                    count += len(drawn.shapes)
                    if to == "coco":
                        together.append(drawn)
                    else:
                        OUTLINES[to][1](targets[pair.name], drawn)
                        files.append(targets[pair.name])
                else:
                    written, objects = _write_pixels(found, targets[pair.name], to, encoding)
                    files += written
                    count += objects
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
        raise ManyErrors(f"{len(errors)} of {len(pairs)} could not be converted, the others are in {out}:", errors)
    return Converted(out, tuple(files), count, tuple(notes))


def _read(pair: Pair, settings: DataSettings, encoding: Encoding | None) -> _Source:
    """The labels of a pair: outlines as they are, unless pixels are wanted."""
    image = read_image(pair.image, settings.selection, pair.plane) if _has_image(pair) else None
    truth = pair.truth
    if encoding is None and truth is not None and truth.form in ("shapes", "coco"):
        drawn = read_coco_entry(truth.files[0], truth.entry) if truth.form == "coco" else read_annotations(truth.files[0])
        return _Source(pair, drawn, None, image)
    if image is None or encoding is None:
        raise InputError("has no image that states its size", where=where_of(pair), fix="say where the images are: --images FOLDER")
    raws = read_truth(pair, image.size, settings)
    return _Source(pair, None, encoding.labels(raws, pair.name, where_of(pair)), image)


def _as_outlines(found: _Source) -> Annotations:
    name = found.pair.image.name if _is_picture(found.pair) else f"{Path(found.pair.name).name}.tif"
    if found.drawn is not None:
        size = found.drawn.size
        if size is None and found.image is not None:
            size = (found.image.size[-2], found.image.size[-1])
        return replace(found.drawn, size=size, image=name if _is_picture(found.pair) else found.drawn.image or name)
    labels = found.labels
    if labels is None:
        raise InputError("has no labels", where=where_of(found.pair))
    return Annotations(tuple(_shapes(labels)), (int(labels.size[-2]), int(labels.size[-1])), (), name)


def _is_picture(pair: Pair) -> bool:
    """Whether the pair's image is one, and not labels that stand for it."""
    return pair.truth is None or pair.image not in pair.truth.files


def _shapes(labels: Labels) -> list[Any]:
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


def _of_structure(plane: npt.NDArray[np.bool_], position: int, legend: Legend) -> list[Any]:
    return objects_of(plane.astype(np.uint8), Legend((legend.entries[0], legend.entries[position])))


def _write_pixels(found: _Source, target: Path, to: str, encoding: Encoding | None) -> tuple[list[Path], int]:
    """(files, objects or masks written)."""
    labels = found.labels
    if labels is None or encoding is None:
        raise InputError("has no labels", where=where_of(found.pair))
    spacing = labels.spacing or (found.image.spacing if found.image is not None else None)
    affine = found.image.affine if found.image is not None else None
    if to == "labels":
        ids = _object_ids(labels)
        top = int(ids.max(initial=0))
        write_mask(target, ids.astype(np.uint16 if top < 2**16 else np.uint32), Legend.of_values([0]), spacing, affine)
        return [target], len(np.unique(ids)) - (0 if ids.all() else 1)
    if labels.kind == "multilabel":
        written = []
        for k, plane in enumerate(labels.array, start=1):
            entry = labels.legend.entries[k]
            file = target.parent / entry.name / target.name
            legend = Legend.of_values([0, 255], {255: entry.name})
            write_mask(file, np.where(plane, 255, 0).astype(np.uint8), legend, spacing, affine)
            written.append(file)
        return written, len(written)
    write_mask(target, labels.legend.values_of(_class_ids(labels)), labels.legend, spacing, affine)
    return [target], 1


def _object_ids(labels: Labels) -> npt.NDArray[Any]:
    """Ids from 1: those of objects, or of the connected components of each class."""
    from skimage.measure import label

    if labels.kind == "instances":
        return labels.array
    if labels.kind == "multilabel":
        raise InputError("structures may overlap, so that one image of ids cannot hold them",
                         fix="--to masks writes one a structure")
    return np.asarray(label(_class_ids(labels), background=0))


def _class_ids(labels: Labels) -> npt.NDArray[Any]:
    """Positions in the legend."""
    if labels.kind == "soft":
        return np.asarray(labels.array[0] >= 0.5, np.uint8)
    if labels.kind == "instances":
        table = np.zeros(int(labels.array.max(initial=0)) + 1, np.uint8)
        table[1:] = 1
        for number, position in (labels.classes or {}).items():
            table[number] = position
        return np.asarray(table[labels.array])
    return labels.array
