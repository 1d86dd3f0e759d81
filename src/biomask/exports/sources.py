"""Where labels are, with which images, and what they are called: what `convert` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from biomask.data.annotations import coco_images, is_annotation
from biomask.data.layouts import find_layout
from biomask.data.naming import normal
from biomask.data.pairing import Layout, Pair, Truth, label_files, truth_of, unread_error, where_of
from biomask.data.two_folders import paired
from biomask.data.understand import split_planes
from biomask.errors import BiomaskError, InputError, ManyErrors, MissingPathError
from biomask.exports.from_predictions import read_anew
from biomask.exports.written import LEGEND_FILE, OF_LABELS
from biomask.io import relative_stem
from biomask.io.annotations import sniff
from biomask.labels import LabelKind, Legend
from biomask.recipe import DataSettings
from biomask.stored import WHOLE


@dataclass(frozen=True)
class Recorded:
    """What `predict` or `convert` said of pixels, beside them."""

    source: Path
    """Where they are."""
    kind: LabelKind | None = None
    legend: Legend | None = None
    notes: tuple[str, ...] = ()
    """For the user to read."""


def recorded_of(source: Path, settings: DataSettings) -> Recorded:
    """Of a folder that `predict` wrote, whose masks are read anew; of one that `convert` wrote pixels to, or of a file in it."""
    home = source if source.is_dir() else source.parent
    try:
        if (source / "run.json").is_file() and (source / "masks").is_dir():
            record = json.loads((source / "run.json").read_text(encoding="utf-8"))
            legend, flags = Legend.from_json(record["legend"]), ", ".join(read_anew(settings))
            note = (f"masks/ is read anew, for {flags}: objects are its connected pieces, without measurements and keypoints; "
                    f"biomask convert {source} takes the ids of labels/")
            return Recorded(source / "masks", None if record.get("kind") == "multilabel" else "classes", legend, (note,))
        if (home / LEGEND_FILE).is_file():
            said = json.loads((home / LEGEND_FILE).read_text(encoding="utf-8"))
            return Recorded(source, "instances") if said == OF_LABELS else Recorded(source, "classes", Legend.from_json(said))
    except (OSError, ValueError, KeyError, TypeError, BiomaskError):
        pass
    return Recorded(source)


def layout_of(source: Path, images: str | Path | None) -> Layout:
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


def in_planes(layout: Layout, settings: DataSettings) -> Layout:
    """A pair a plane or time point, where each is converted on its own. Raises InputError where their number is not known."""
    if not settings.selection.splits:
        return layout
    lost = [p for p in layout.labelled if not has_image(p)]
    if lost:
        raise InputError(f"how many planes the image has is not known, here and of {len(lost) - 1} others", where=where_of(lost[0]),
                         fix="say where the images are: --images FOLDER")
    split, errors = split_planes(replace(layout, pairs=layout.labelled), settings)
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} images cannot be read:", errors)
    return split


def file_names(pairs: Sequence[Pair], root: Path) -> dict[str, str]:
    """Of each image the path that COCO calls it by: below the folder of images, with its suffix.

    It is the folder below which pairs have their names; where that is not one folder for all, as in a data set of parts, it is the
    data folder. Planes, and images that are not known, are called like their labels.
    """
    pictures = {p.name: p.image for p in pairs if has_image(p) and is_picture(p) and p.plane == WHOLE}
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


def has_image(pair: Pair) -> bool:
    return pair.image.is_file() and not (pair.truth is not None and pair.image in pair.truth.files and is_annotation(pair.image))


def all_drawn(pairs: Sequence[Pair]) -> bool:
    """Whether all labels are outlines."""
    return all(p.truth is not None and p.truth.form in ("shapes", "coco") for p in pairs)


def is_picture(pair: Pair) -> bool:
    """Whether the pair's image is one, and not labels that stand for it."""
    return pair.truth is None or pair.image not in pair.truth.files
