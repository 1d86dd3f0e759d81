"""`convert` of a folder that `predict` wrote: the same objects that `predict --export` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from biomask.data.mistakes import some
from biomask.data.naming import match, normal
from biomask.data.pairing import index
from biomask.errors import InputError, LabelsError, PairingError, ReadError, UsageError
from biomask.exports.folder import PredictedFolder, PredictedImage, is_predicted, read_folder, rows_of
from biomask.exports.objects import Found, Source, find_objects, resolved
from biomask.exports.remarks import Remarks
from biomask.exports.traced import annotations_of
from biomask.exports.written import LEGEND_FILE, Converted, Named, Writing, check_targets, draws, of_structure, targets_of
from biomask.io import relative_stem, write_mask
from biomask.io.files import write_ids
from biomask.labels import Legend
from biomask.prediction.folder import image_name
from biomask.progress import Progress
from biomask.recipe import DataSettings
from biomask.shapes import Annotations
from biomask.stored import WHOLE, Plane

#: What `--masks` chooses between in a folder of predictions.
CHOICES = ("labels", "masks")

#: Settings by which masks/ are read as any masks: in a way that `predict` knows nothing of.
ANEW = ("values", "mask_scale", "ignore", "axes", "time")

@dataclass(frozen=True)
class Predictions:
    """A folder of predictions as it was given."""

    folder: PredictedFolder
    given: Path
    """The folder or file that was named."""
    choice: Source | None
    """What counts; None = what says most."""
    z: int | str | None = None
    """One plane of volumes, or "each"."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Of classes, by value, in place of the recorded ones."""
    files: Mapping[str, tuple[str, Path]] = field(default_factory=dict)
    """Of each image the name and the file below the folder of --images, where one was given."""

    @property
    def legend(self) -> Legend:
        """With the names that were told."""
        return Legend(tuple(replace(e, name=self.names.get(e.value, e.name)) for e in self.folder.legend))


def as_predictions(source: Path, settings: DataSettings, masks: str | Path | None, images: str | Path | None) -> Predictions | None:
    """The folder of predictions that `source` is, or lies in as its masks/ or labels/; None for anything else.

    None too where masks are to be read in another way than `predict` wrote them. Raises UsageError for a choice that is none.
    """
    home = _home(source)
    if home is None or read_anew(settings):
        return None
    below = () if home == source else source.absolute().relative_to(home.absolute()).parts
    folder = read_folder(home)
    choice = below[0] if below else _choice_of_kind(settings.kind, folder)
    if masks is not None:
        folder, choice = _chosen(folder, masks, choice)
    if len(below) > 1:
        folder = _narrowed(folder, source, below)
    if not folder.images:
        raise InputError("holds no labels that biomask predict wrote", where=source, fix="run the same predict command again")
    strange = [v for v in settings.legend or () if v not in folder.legend.values]
    if strange:
        raise UsageError(f"--legend names {strange[0]!r}, and the values predicted are {', '.join(map(str, folder.legend.values))}",
                         fix="name these")
    files = {} if images is None else _files_in(Path(images), folder)
    return Predictions(folder, source, cast("Source | None", choice), None if settings.z == "max" else settings.z,
                       {v: n for v, n in (settings.legend or {}).items() if isinstance(v, int)}, files)


def _home(source: Path) -> Path | None:
    """The folder of predictions: this one, or the one whose masks/ or labels/ it lies in."""
    if source.is_dir() and is_predicted(source):
        return source
    around = [p.parent for p in (source.absolute(), *source.absolute().parents) if p.name in CHOICES]
    with suppress(ReadError):  # where that is damaged, its masks are any masks
        return next((p for p in around if is_predicted(p)), None)
    return None


def _choice_of_kind(kind: str | None, folder: PredictedFolder) -> str | None:
    """What --labels KIND chooses."""
    if kind in (None, folder.kind):
        return None
    choices = {"instances": "labels", "classes": "masks"}
    if kind not in choices or folder.structures:
        raise UsageError(f"--labels {kind}: {folder.out} holds predictions of {folder.kind}", fix="leave it out")
    return choices[kind]


def read_anew(settings: DataSettings) -> list[str]:
    """The flags by which masks of predictions are read as any masks."""
    said = [f"--{name.replace('_', '-')}" for name in ANEW if getattr(settings, name) is not None]
    return said + ["--labels soft"] * (settings.kind == "soft")


def _chosen(folder: PredictedFolder, masks: str | Path, choice: str | None) -> tuple[PredictedFolder, str | None]:
    """--masks masks, --masks labels, or one of the structures."""
    if str(masks) in folder.structures:
        return folder.of_structure(str(masks)), choice
    for name in CHOICES:
        if str(masks) == name or Path(masks).resolve() == (folder.out / name).resolve():
            return folder, name
    also = "".join(f", or {s}" for s in folder.structures)
    raise UsageError(f"--masks {masks}: {folder.out} is what biomask predict wrote",
                     fix=f"--masks labels (ids of objects) or --masks masks (connected pieces){also}")


def _narrowed(folder: PredictedFolder, source: Path, below: Sequence[str]) -> PredictedFolder:
    """The images and the structure that lie in a folder within masks/ or labels/, or the one of a file."""
    rest = below[1:]
    if folder.structures and rest[0] in folder.structures:
        folder, rest = folder.of_structure(rest[0]), rest[1:]
    if not rest:
        return folder
    if source.is_file():
        stem = normal(relative_stem(Path(*rest), Path()).as_posix())
        images = tuple(i for i in folder.images if normal(i.name) == stem)
    else:
        images = tuple(i for i in folder.images if normal(i.name).startswith(normal("/".join(rest)) + "/"))
    return replace(folder, images=images, strange=())


def _files_in(images: Path, folder: PredictedFolder) -> dict[str, tuple[str, Path]]:
    """The images of the folder, wherever they are now. Raises PairingError naming those that are not there."""
    below = index(images)
    partners, _ = match([i.name for i in folder.images], list(below), anywhere=True)
    lacking = [i.name for i in folder.images if i.name not in partners]
    if lacking:
        raise PairingError(f"{len(lacking)} of {len(folder.images)} images of {folder.out} are not here: {some(lacking)}",
                           where=images, fix="give the folder that was predicted, or leave --images out: their names are known")
    return {name: (stem, below[stem]) for name, stem in partners.items()}


def convert_predictions(told: Predictions, out: Path, to: str, *, overwrite: bool, progress: Progress) -> Converted:
    """Write the objects of predictions for another program. Raises as `convert`."""
    folder = told.folder
    planes = {i.name: _planes(i, told.z) for i in folder.images}
    _require_flat(told, planes, to)
    items = {i.name: [Named(i.name + p.suffix, i.name + p.suffix, i.masks[0] if i.masks else folder.out) for p in planes[i.name]]
             for i in folder.images}
    every = [item for few in items.values() for item in few]
    targets = targets_of(every, out, to)
    several = folder.structures if not draws(to) else ()
    written = [of_structure(t, out, s) for t in targets.values() for s in several] or list(targets.values())
    written += [] if draws(to) else [out / LEGEND_FILE]
    check_targets(written, folder.out if folder.out in (told.given, *told.given.parents) else told.given, overwrite)
    writing, remarks = Writing(out, to, targets), Remarks(folder, to, chosen=told.choice is not None)
    images = {i.name: i for i in folder.images}
    with progress.bar("converting") as bar:
        for n, (name, rows) in enumerate(rows_of(folder, set(images))):
            with writing.image(items[name][0]):
                found = find_objects(folder, images[name], rows, told.choice)
                remarks.add(images[name], found, rows)
                for item, plane in zip(items[name], planes[name], strict=True):
                    here = found if plane == WHOLE else _of_plane(found, plane, item.where)
                    _write(told, images[name], here, plane, writing, item)
            bar.update((n + 1) / len(images), name)
    done = writing.finish([i.name for i in every], told.legend)
    return replace(done, notes=(*remarks.said(), *done.notes))


def _planes(image: PredictedImage, z: int | str | None) -> list[Plane]:
    """The images that a volume gives; what is flat is one, whatever plane is wanted."""
    size = list(image.entry.get("size") or ())
    if z is None or len(size) < 3:
        return [WHOLE]
    return [Plane(n) for n in range(int(size[0]))] if z == "each" else [Plane(int(z))]


def _require_flat(told: Predictions, planes: Mapping[str, Sequence[Plane]], to: str) -> None:
    deep = [i.name for i in told.folder.images if len(i.entry.get("size") or ()) > 2 and planes[i.name] == [WHOLE]]
    if to in ("coco", "labelme") and deep:
        raise UsageError(f"--to {to} has no place for volumes, such as {deep[0]}",
                         fix="--z each for a file or an image a plane; or --to geojson or roi, which name the plane")


def _of_plane(found: Found, plane: Plane, where: Path) -> Found:
    """One plane of a volume; measurements are of the whole object, so they go."""
    z, depth = plane.z or 0, len(found.masks[0])
    if z >= depth:
        raise LabelsError(f"--z {z}: there are {depth} planes, counted from 0", where=where)
    parts = tuple(replace(p, ids=p.ids[z], rows={}, classes={i: p.classes[i] for i in np.unique(p.ids[z]).tolist() if i})
                  for p in found.parts)
    return replace(found, parts=parts, masks=tuple(m[z] for m in found.masks), pointed=None)


def _file_name(told: Predictions, image: PredictedImage, plane: Plane) -> str:
    """Path of the image below the folder of images."""
    whole = Plane(**image.entry["plane"])
    name, source = told.files.get(image.name, (image.name, image.source))
    return image_name(name + plane.suffix, source, whole if plane == WHOLE else plane)


def _write(told: Predictions, image: PredictedImage, found: Found, plane: Plane, writing: Writing, item: Named) -> None:
    folder, target = told.folder, writing.targets[item.name]
    if draws(writing.to):
        drawn = replace(annotations_of(folder, image, found), image=_file_name(told, image, plane))
        if writing.to != "coco" and found.filled:  # a detector without masks: its boxes are all there is
            drawn = replace(drawn, shapes=(*drawn.shapes, *drawn.boxed), boxed=(), left_out=())
        writing.draw(item.name, _renamed(drawn, told))
        return
    affine, structures = found.header.affine if plane == WHOLE else None, folder.structures
    if writing.to == "labels":
        ids = [p.ids for p in found.parts] or [resolved(found)]
        files = [of_structure(target, writing.out, s) for s in structures] or [target]
        for file, array in zip(files, ids, strict=True):
            write_ids(file, array, _spacing(found, array), affine)
        writing.add(item.name, files, sum(int(np.count_nonzero(np.unique(array))) for array in ids), "")
        return
    files = list[Path]()
    for k, mask in enumerate(found.masks, start=1):
        legend = Legend((told.legend.entries[0], replace(told.legend.entries[k], value=255))) if structures else told.legend
        file = of_structure(target, writing.out, structures[k - 1]) if structures else target
        write_mask(file, legend.values_of(mask), legend, _spacing(found, mask), affine)
        files.append(file)
    writing.add(item.name, files, len(files), "")


def _spacing(found: Found, array: npt.NDArray[Any]) -> dict[str, float] | None:
    """Of the axes that are left."""
    return None if found.header.spacing is None else {a: v for a, v in found.header.spacing.items() if a in "zyx"[-array.ndim:]}


def _renamed(drawn: Annotations, told: Predictions) -> Annotations:
    """With the names that were told."""
    new = {e.name: told.names[e.value] for e in told.folder.legend if told.names.get(e.value, e.name) != e.name}
    if not new:
        return drawn
    shapes, boxed = (tuple(replace(s, name=new.get(s.name, s.name)) for s in some) for some in (drawn.shapes, drawn.boxed))
    return replace(drawn, shapes=shapes, boxed=boxed, categories=tuple(replace(c, name=new.get(c.name, c.name))
                                                                       for c in drawn.categories))
