"""Objects of a predicted image: the ids of labels/, unless somebody changed masks/; pieces of masks where nothing says more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from biomask.errors import BiomaskError, InputError, LabelsError
from biomask.exports.changes import are_alike, classes_in, mask_is_changed, rows_of_part, size_said, sizes, which_changed
from biomask.exports.folder import PredictedFolder, PredictedImage, Row
from biomask.image import Image
from biomask.instances import components
from biomask.instances.polygons import rasterise
from biomask.io import read_label_values
from biomask.io.coco import read_coco
from biomask.io.detections import DetectionFile, read_detections
from biomask.shapes import Annotations

#: Where objects may come from.
Source = Literal["labels", "masks", "detections"]

@dataclass(frozen=True)
class Part:
    """Objects of one image, or of one structure in it."""

    ids: npt.NDArray[Any]
    """(*S), 0 = background."""
    classes: Mapping[int, int]
    """Of each object, as a position in the legend."""
    rows: Mapping[int, Row] = field(default_factory=dict)
    """What objects.csv says of them, where that is still so."""

    def mask(self) -> npt.NDArray[np.uint8]:
        """(*S), positions in the legend."""
        numbers, flat = np.unique(self.ids, return_inverse=True)
        table = np.array([self.classes.get(int(i), 0) for i in numbers], np.uint8)
        return np.asarray(table[flat.reshape(self.ids.shape)])


@dataclass(frozen=True)
class Found:
    """What is in one image, and where that is from."""

    source: Source
    parts: tuple[Part, ...]
    """One, or one a structure. Of detections, which may overlap, none."""
    masks: tuple[npt.NDArray[np.uint8], ...]
    """Positions in the legend, one or one a structure."""
    header: Image
    """Spacing and place."""
    changed: bool = False
    """Whether masks/ and labels/ differ, and the one counts that somebody changed."""
    drawn: Annotations | None = None
    """Of detections."""
    filled: bool = False
    """Whether boxes are all that a detector found."""
    pointed: DetectionFile | None = None
    """Where keypoints are."""
    recoloured: int = 0
    """Objects whose class is that of masks/ and not of objects.csv."""
    unmeasured: int = 0
    """Objects that objects.csv does not fit."""


def find_objects(folder: PredictedFolder, image: PredictedImage, rows: Sequence[Row] | None, choice: Source | None = None) -> Found:
    """The objects of one image. rows: of objects.csv; None where there is no table. choice: what counts where several differ.

    `predict` writes masks and labels alike. Where their foreground or the classes of objects differ, somebody corrected one of them
    by hand, and that one counts; it is told by the pixels of each class in run.json and the sizes of objects in objects.csv. Raises
    LabelsError where that does not tell, and InputError where nothing is there.
    """
    if choice != "masks" and image.labels:
        ids, header = _read_ids(image.labels)
        masks = _masks(folder, image, choice)
        agree = masks is None or all(are_alike(i, m, folder.entries) for i, m in zip(ids, masks, strict=True))
        source = choice or ("labels" if agree or masks is None else which_changed(folder, image, ids, masks, rows))
        if source == "labels":
            parts = _measured(folder, image, ids, masks, rows, agree)
            missing = sum(len(p.classes) - len(p.rows) for p in parts)
            return Found("labels", parts, _drawn(folder, parts) if masks is None or not agree else masks, header, not agree,
                         pointed=None if rows is None else _pointed_file(image), recoloured=_recoloured(folder, parts),
                         unmeasured=0 if rows is None else missing)
    elif choice == "labels":
        raise InputError(f"--masks labels, and there are none of {image.name}", where=folder.out / "labels",
                         fix="leave --masks out: what says most is taken then")
    elif choice is None and image.detections is not None and not _is_changed(folder, image):
        return _detected(folder, image)
    masks = _masks(folder, image, "masks")
    if masks is None:
        raise InputError(f"neither a mask nor labels of {image.name} are there", where=folder.out,
                         fix="run the same predict command again: it does what is missing")
    header = read_label_values(image.masks[0])
    parts = tuple(_pieces(mask, k if folder.structures else 0) for k, mask in enumerate(masks, start=1))
    return Found("masks", parts, masks, header, choice is None and bool(image.labels or image.detections))


def _pieces(mask: npt.NDArray[np.uint8], structure: int) -> Part:
    """Connected pieces, as `predict` makes objects of classes."""
    ids, classes = components(mask)
    return Part(ids, {i: structure or int(c) for i, c in enumerate(classes.tolist()) if i})


def _read_ids(paths: Sequence[Path]) -> tuple[tuple[npt.NDArray[Any], ...], Image]:
    """(ids of each file, the header of the first). Raises LabelsError for what are no ids."""
    found = [read_label_values(path) for path in paths]
    arrays = [np.asarray(i.array[0].astype(np.int64) if i.array.dtype.kind == "f" else i.array[0]) for i in found]
    for path, array in zip(paths, arrays, strict=True):
        if int(array.min(initial=0)) < 0 or int(array.max(initial=0)) >= 2**31:
            raise LabelsError("holds numbers that are no ids of objects", where=path, fix="0 is background, objects are 1 and more")
    return tuple(arrays), found[0]


def _masks(folder: PredictedFolder, image: PredictedImage, choice: Source | None) -> tuple[npt.NDArray[np.uint8], ...] | None:
    """Positions in the legend of each mask; None where they are not there, or are of no use to the ids that were chosen. Raises
    LabelsError for values that are no classes."""
    if not image.masks:
        return None
    try:
        return tuple(_positions(folder, path) for path in image.masks)
    except BiomaskError as error:
        if choice == "labels":
            return None
        fix = (error.fix or "give pixels values of the legend") + (
            ", or say --masks labels: the ids of labels/ count then" if choice is None and image.labels else "")
        raise type(error)(error.what, where=error.where, fix=fix) from error


def _positions(folder: PredictedFolder, path: Path) -> npt.NDArray[np.uint8]:
    values = np.asarray(read_label_values(path).array[0])
    if folder.structures:
        return np.asarray(values != 0, np.uint8)
    try:
        return np.asarray(folder.legend.ids(values), np.uint8)
    except LabelsError as error:
        raise LabelsError(error.what, where=path, fix=error.fix) from error


def _drawn(folder: PredictedFolder, parts: Sequence[Part]) -> tuple[npt.NDArray[np.uint8], ...]:
    """What masks would be of these objects."""
    return tuple(np.asarray(p.mask() > 0, np.uint8) if folder.structures else p.mask() for p in parts)


def _measured(folder: PredictedFolder, image: PredictedImage, ids: Sequence[npt.NDArray[Any]],
              masks: Sequence[npt.NDArray[np.uint8]] | None, rows: Sequence[Row] | None, agree: bool) -> tuple[Part, ...]:
    """Objects with their classes: those of the mask where it agrees, else of objects.csv, where that still fits, else those that
    most of their pixels have in the mask. Raises LabelsError for an object that nothing gives a class."""
    place, parts = {e.name: k for k, e in enumerate(folder.legend) if k}, list[Part]()
    for k, array in enumerate(ids):
        here = sizes(array)
        own = {int(r["id"]): r for r in rows_of_part(folder, k, rows or ())}
        fitting = {i: r for i, r in own.items() if i in here and size_said(r) == here[i]}
        if folder.structures:
            parts.append(Part(array, dict.fromkeys(here, k + 1), fitting))
            continue
        once, told = ({i: place[r["class"]] for i, r in some.items() if r["class"] in place} for some in (own, fitting))
        seen = classes_in(array, masks[k], folder.entries) if masks is not None and masks[k].shape == array.shape else {}
        classes = once | (told | seen if agree else seen | told)
        if len(folder.legend) == 2:
            classes = dict.fromkeys(here, 1)
        lacking = [i for i in here if i not in classes]
        if lacking:
            raise LabelsError(f"nothing says of which class the objects {', '.join(map(str, lacking[:10]))} are",
                              where=image.labels[k], fix="give them a class in masks/ too, or say --masks masks")
        parts.append(Part(array, {i: classes[i] for i in here}, fitting))
    return tuple(parts)


def _recoloured(folder: PredictedFolder, parts: Sequence[Part]) -> int:
    if folder.structures:
        return 0
    return sum(r["class"] != folder.legend.entries[p.classes[i]].name for p in parts for i, r in p.rows.items())


def _detected(folder: PredictedFolder, image: PredictedImage) -> Found:
    """All that a detector found, as it found it; of one without masks the boxes."""
    path = image.detections or folder.out
    (said,), (found,) = read_coco(path).images, read_detections(path).images
    drawn = said.annotations()
    # Annotations have the number of their line.
    shapes, boxed = (tuple(replace(s, measurements={"score": float(found.scores[int(s.title) - 1])}) for s in some)
                     for some in (drawn.shapes, drawn.boxed))
    size = found.size or (1, 1)
    masks = _masks(folder, image, "masks") or ()
    header = read_label_values(image.masks[0]) if image.masks else Image(np.zeros((1, *size), np.uint8), "cyx", image.name, None)
    drawn = replace(drawn, shapes=shapes, boxed=boxed)
    return Found("detections", (), masks, header, drawn=drawn, filled=len(found) > 0 and found.masks is None)


def resolved(found: Found) -> npt.NDArray[np.int32]:
    """Ids of detections, each pixel that of the one with the highest score."""
    if found.drawn is None or found.drawn.size is None:
        raise LabelsError("has no detections")
    shapes = found.drawn.boxed if found.filled else found.drawn.shapes
    # By falling score, and of several the last one has the pixel.
    return rasterise(shapes[::-1], found.drawn.size, values=range(len(shapes), 0, -1)).array


def _is_changed(folder: PredictedFolder, image: PredictedImage) -> bool:
    masks = _masks(folder, image, "masks")
    return masks is not None and bool(mask_is_changed(folder, image, masks))


def _pointed_file(image: PredictedImage) -> DetectionFile | None:
    """What a detector found, where it looked for keypoints."""
    file = None if image.detections is None else read_detections(image.detections)
    return file if file is not None and has_points(file) else None


def has_points(file: DetectionFile) -> bool:
    """Whether keypoints were looked for; those of an image without objects are known from its categories."""
    return file.images[0].keypoints is not None or any(c.keypoints for c in file.categories)
