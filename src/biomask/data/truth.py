"""`read_truth`: the labels of an image as they are stored, whatever stores them, before anybody decides what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from biomask.data.annotations import read_annotations, read_coco_entry
from biomask.data.orientation import laid_on
from biomask.data.pairing import Pair, Truth
from biomask.errors import BiomaskError, LabelsError, ManyErrors
from biomask.io.files import open_stored, read_labels_raw, suffix_of
from biomask.shapes import Annotations, object_ids, on_plane, scaled
from biomask.stored import Plane, Selection, resolve_axes
from biomask.words import count

if TYPE_CHECKING:
    from biomask.recipe import DataSettings

#: Suffixes of files that say where their voxels lie in a scanner.
NIFTI = {".nii", ".nii.gz"}

#: Share of the outlines of an image that may lie outside it.
MOST_OUTSIDE = 0.5

#: Relative difference of two sizes up to which one is the other's at a scale: exporters round to whole pixels.
ROUNDING = 0.02

#: Nobody exports at a scale nearer to 1; such sizes differ by a cut edge.
SMALLEST_SCALE = 1.2


@dataclass(frozen=True)
class Raw:
    """Labels of one image, or of one structure in it, as stored."""

    array: npt.NDArray[Any]
    """values: integer (*S). fractions: float (*S). colours: uint8 (3, *S). objects: int32 (*S), ids that biomask gave."""
    form: Literal["values", "fractions", "colours", "objects"]
    palette: npt.NDArray[np.uint8] | None = None
    """RGB of each value, uint8 (N, 3), where the file has them."""
    classes: Mapping[int, str] = field(default_factory=dict)
    """Class name of each object, where people gave them."""
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """Colour of each class name."""
    ignore: npt.NDArray[np.bool_] | None = None
    """bool (*S), True where nothing is known, such as COCO's crowds."""
    spacing: Mapping[str, float] | None = None
    in_colour: bool = False
    """Of values: whether they are saved as three equal colours, such as a colour-coded mask of which only black is used."""
    notes: tuple[str, ...] = ()
    """What was left out, and overlaps."""

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial shape."""
        return tuple(self.array.shape[1:] if self.form == "colours" else self.array.shape)


def read_truth(pair: Pair, size: tuple[int, ...], settings: DataSettings) -> tuple[Raw, ...]:
    """The labels of a pair at the size of its image: one, or one a structure; all 0 for a pair without truth.

    Raises the reader's errors, and LabelsError where the sizes differ; ManyErrors where several structures fail.
    """
    truth = pair.truth
    if truth is None:
        return (Raw(np.zeros(size, np.uint8), "values"),)
    if truth.form == "structures":
        found, errors = list[Raw](), list[BiomaskError]()
        for file in truth.files:
            try:
                found.append(_one(replace(pair, truth=Truth("mask", (file,))), size, settings))
            except BiomaskError as error:
                errors.append(error)
        if errors:
            raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} structures cannot be read:", errors)
        return tuple(found)
    return (_one(pair, size, settings),)


def _one(pair: Pair, size: tuple[int, ...], settings: DataSettings) -> Raw:
    truth, selection = pair.truth, settings.selection.of_labels()
    if truth is None:
        raise LabelsError("has no labels", where=pair.image)
    if truth.form in ("shapes", "coco"):
        return _drawn(read_outlines(pair, truth, size, settings), size, truth.where)
    raw = _objects(truth, selection) if truth.form == "objects" else _in_place(truth.files[0], pair, selection)
    return fitted(raw, size, settings.mask_scale, truth.where)


def read_outlines(pair: Pair, truth: Truth, size: tuple[int, ...], settings: DataSettings) -> Annotations:
    """The outlines of a pair whose truth is drawn, those of its plane alone, in pixels of its image.

    Raises the reader's errors, and LabelsError where they were drawn on an image of another size.
    """
    found = (read_coco_entry(truth.files[0], truth.entry) if truth.form == "coco"
             else read_annotations(truth.files[0], image_axes(pair, settings)))
    scale, plane = settings.mask_scale, _plane(pair, settings)
    if found.size is not None and scale is None and tuple(found.size) != size[-2:]:
        raise LabelsError(f"was drawn on an image of {tuple(found.size)} pixels, {pair.image.name} has {size[-2:]}",
                          where=truth.where, fix="give the image at the size on which it was annotated")
    shapes, boxed = (on_plane(drawn, plane.z, plane.time) for drawn in (found.shapes, found.boxed))
    if scale is not None:
        shapes, boxed = ([scaled(s, scale) for s in drawn] for drawn in (shapes, boxed))
    return replace(found, shapes=tuple(shapes), boxed=tuple(boxed))


def image_axes(pair: Pair, settings: DataSettings) -> str | None:
    """The axes of a pair's image file, such as "TYX"; None where they cannot be read or stay open."""
    try:
        return resolve_axes(open_stored(pair.image), settings.selection).axes
    except BiomaskError:
        return None


def _in_place(path: Path, pair: Pair, selection: Selection) -> Raw:
    """A mask, turned onto its image where both are NIfTI volumes and their headers say so."""
    raw = _values(path, pair, selection)
    if not {suffix_of(path), suffix_of(pair.image)} <= NIFTI or selection.axes is not None or raw.array.ndim != 3:
        return raw
    own, image = open_stored(path).affine, open_stored(pair.image).affine
    if own is None or image is None:
        return raw
    array, note = laid_on(raw.array, own, image, path)
    return replace(raw, array=array, notes=(*raw.notes, note) if note else raw.notes)


def _values(path: Path, pair: Pair, selection: Selection) -> Raw:
    image, palette = read_labels_raw(path, selection, pair.plane)
    array = image.array
    if image.channels == 3:
        grey = bool((array == array[:1]).all())
        if not grey and array.dtype != np.uint8:
            raise LabelsError(f"is a colour image of {array.dtype}; colour-coded masks have 8 bits", where=path,
                              fix="save it as 8-bit RGB")
        if not grey:
            return Raw(array, "colours", spacing=image.spacing)
        if array.dtype.kind in "ui":
            return Raw(array[0], "values", spacing=image.spacing, in_colour=array.dtype == np.uint8)
        array = array[:1]
    elif image.channels != 1:
        raise LabelsError(f"has {image.channels} channels; a mask has one, or three of colour", where=path,
                          fix="save the mask as one channel with a value per class, or a file a structure")
    plane = array[0]
    if plane.dtype.kind == "f":
        if not np.isfinite(plane).all():
            raise LabelsError("holds NaN or infinity", where=path, fix="mark unknown pixels by a value and say --ignore VALUE")
        if (plane % 1 == 0).all() and abs(plane).max(initial=0) < 2**31:
            return Raw(plane.astype(np.int64), "values", palette, spacing=image.spacing)
        return Raw(plane, "fractions", spacing=image.spacing)
    return Raw(plane, "values", palette, spacing=image.spacing)


def _objects(truth: Truth, selection: Selection) -> Raw:
    """One binary mask an object: ids in name order. Later objects win where several overlap."""
    out: npt.NDArray[np.int32] | None = None
    contested, empty, errors = 0, list[str](), list[BiomaskError]()
    for number, path in enumerate(truth.files, start=1):
        try:
            image, _ = read_labels_raw(path, selection)
            inside = (image.array > 0).any(axis=0)
            if out is None:
                out = np.zeros(inside.shape, np.int32)
            if inside.shape != out.shape:
                raise LabelsError(f"has size {inside.shape}, the others of the folder {out.shape}", where=path)
            contested += int((out[inside] > 0).sum())
            out[inside] = number
            if not inside.any():
                empty.append(path.name)
        except BiomaskError as error:
            errors.append(error)
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} objects cannot be read:", errors)
    if out is None:
        raise LabelsError("holds no masks of objects", where=truth.where, fix="remove the folder if the image is not annotated")
    notes = [f"{count(contested, 'pixel')} given to the last of several objects that overlap there"] if contested else []
    if empty:
        notes.append(f"{count(len(empty), 'empty mask')} of objects: {', '.join(empty[:5])}")
    return Raw(out, "objects", notes=tuple(notes))


def _plane(pair: Pair, settings: DataSettings) -> Plane:
    """The plane and time point of the image, where one of several was chosen."""
    z, time = (n if isinstance(n, int) else None for n in (settings.z, settings.time))
    return Plane(z if pair.plane.z is None else pair.plane.z, time if pair.plane.time is None else pair.plane.time)


def _drawn(found: Annotations, size: tuple[int, ...], where: Path) -> Raw:
    """Outlines as ids, each on its planes; what is drawn as a crowd is unknown where no object lies."""
    from biomask.instances.polygons import rasterise

    here = found.shapes
    shapes, crowds = [s for s in here if not s.crowd], [s for s in here if s.crowd]
    ids = object_ids(shapes)
    drawn = rasterise(shapes, size, values=ids)
    if len(drawn.empty) > MOST_OUTSIDE * len(shapes):
        far = max(max(s.bounds[2] / size[-1], s.bounds[3] / size[-2]) for s in shapes)
        advice = f"; if it was made smaller after it was annotated, say --mask-scale {1 / math.ceil(far):g}" if far > 1 else ""
        raise LabelsError(f"{len(drawn.empty)} of {len(shapes)} outlines lie outside the image of {size[-2:]}", where=where,
                          fix=f"give the image on which they were drawn{advice}")
    notes = [f"left out: {what}" for what in found.left_out]
    if drawn.overlaps:
        notes.append(f"{count(drawn.overlaps, 'pixel')} given to the last of several outlines that overlap there")
    told = ((drawn.empty, "covering no pixel of the image"), (drawn.hidden, "below others"),
            (drawn.outside, "reaching out of the image"))
    notes += [f"{count(len(numbers), 'outline')} {said}" for numbers, said in told if numbers]
    ignore = None
    if crowds:
        ignore = (rasterise(crowds, size).array > 0) & (drawn.array == 0)
    # Classes of boxes count too, so that a detector may learn them.
    boxed = enumerate(found.boxed, start=max(ids, default=0) + 1)
    classes = {n: s.name for n, s in (*zip(ids, shapes, strict=True), *boxed) if s.name}
    colours = {s.name: s.colour for s in shapes if s.name and s.colour is not None}
    return Raw(drawn.array, "objects", classes=classes, colours=colours, ignore=ignore, notes=tuple(notes))


def fitted(raw: Raw, size: tuple[int, ...], scale: float | None, where: Path) -> Raw:
    """At the image's size: as it is, or enlarged by --mask-scale. Raises LabelsError naming the scale that would do."""
    if raw.size == size and scale in (None, 1.0):
        return raw
    if scale is not None and _is_scaled(raw.size, size, scale):
        picks = [((np.arange(n) + 0.5) / (n / m)).astype(int).clip(max=m - 1) for n, m in zip(size, raw.size, strict=True)]
        picks = [np.arange(n) if i < len(size) - 2 else p for i, (n, p) in enumerate(zip(size, picks, strict=True))]
        read: Any = (slice(None), *np.ix_(*picks)) if raw.form == "colours" else np.ix_(*picks)
        return replace(raw, array=raw.array[read], spacing=None)  # the file's is that of its own, larger pixels
    raise LabelsError(f"the mask has size {raw.size}, the image {size}", where=where, fix=_advice(raw.size, size, scale))


def _is_scaled(small: Sequence[int], large: Sequence[int], scale: float) -> bool:
    """Whether the rows and columns are those of the image over the scale, but for rounding."""
    return len(small) == len(large) and tuple(small[:-2]) == tuple(large[:-2]) and all(
        abs(m * scale - n) <= max(scale, ROUNDING * n) for m, n in zip(small[-2:], large[-2:], strict=True))


def _advice(mask: tuple[int, ...], image: tuple[int, ...], scale: float | None) -> str:
    if mask == image:
        return "this mask has the size of its image: leave out --mask-scale, or export all masks at one scale"
    if len(mask) < len(image):
        return "if the mask is of the brightest projection, say --z max; if it is of one plane, --z N"
    if len(mask) > len(image):
        return "give the volume that the mask belongs to, or one plane of the mask"
    if mask[-2:] == image[-2:][::-1] and mask[-1] != mask[-2]:
        return "rows and columns seem to be exchanged: transpose the mask"
    ratio = image[-1] / mask[-1]
    shown = round(ratio, 3) if abs(ratio - round(ratio)) > ROUNDING * ratio else round(ratio)
    if shown != scale and ratio >= SMALLEST_SCALE and _is_scaled(mask, image, float(shown)):
        return f"if it was exported at a downsample, say --mask-scale {shown:g}"
    return "export the mask at the image's full size"
