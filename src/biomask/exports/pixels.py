"""Labels as TIFF: ids of objects, or class masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.encoding import Encoding
from biomask.exports.written import Writing, of_structure
from biomask.image import Image
from biomask.io import write_mask
from biomask.io.files import write_ids
from biomask.labels import Labels, Legend
from biomask.words import count

#: What marks pixels where nothing is known, where the labels themselves have no value for it.
UNKNOWN = 255


def write_pixels(labels: Labels, image: Image | None, writing: Writing, name: str,
                 encoding: Encoding) -> tuple[list[Path], int, str]:
    """(files, objects or masks written, what is to be said of pixels where nothing is known; empty for nothing).

    image: what the labels are of, for spacing and place. writing: of labels or masks; structures have a folder each.
    """
    spacing = labels.spacing or (image.spacing if image is not None else None)
    affine = image.affine if image is not None else None
    target, several = writing.targets[name], labels.kind == "multilabel"
    planes = labels.array if several else _object_ids(labels)[None] if writing.to == "labels" else _class_ids(labels)[None]
    written, objects, note = list[Path](), 0, ""
    for k, plane in enumerate(planes, start=1):
        entry = labels.legend.entries[k] if several else None
        file = of_structure(target, writing.out, entry.name) if entry is not None else target
        if writing.to == "labels":
            ids = _pieces(plane) if several else plane
            write_ids(file, ids, spacing, affine)
            objects += int(np.count_nonzero(np.unique(ids)))
            unknown = 0 if labels.ignore is None else int(labels.ignore.sum())
            note = f"{unknown} pixels where nothing is known became background: ids cannot say so" if unknown else ""
        else:
            legend = labels.legend if entry is None else Legend.of_values([0, 255], {255: entry.name})
            values, note = _with_unknown(legend.values_of(plane.astype(np.uint8)), labels.ignore, legend, encoding)
            write_mask(file, values, legend, spacing, affine)
            objects += 1
        written.append(file)
    return written, objects, note


def _with_unknown(values: npt.NDArray[Any], unknown: npt.NDArray[np.bool_] | None, legend: Legend,
                  encoding: Encoding) -> tuple[npt.NDArray[Any], str]:
    """(values with one where nothing is known, what is to be said of it): that of the labels, else 255, if it is no class."""
    if unknown is None or not unknown.any():
        return values, ""
    free = [v for v in (encoding.ignore, UNKNOWN) if v is not None and v not in legend.values]
    lost = count(int(unknown.sum()), "pixel")
    if not free:
        taken = UNKNOWN if encoding.ignore is None else encoding.ignore
        return values, f"{lost} where nothing is known became background: {taken} is a class"
    value = free[0]
    out = values.astype(Legend.of_values([*legend.values, value]).dtype)
    out[unknown] = value
    same = value == encoding.ignore and encoding.form == "values"
    return out, "" if same else f"{lost} where nothing is known got the value {value} (--ignore {value})"


def _object_ids(labels: Labels) -> npt.NDArray[Any]:
    """Ids from 1: those of objects, or of the connected components of each class."""
    return labels.array if labels.kind == "instances" else _pieces(_class_ids(labels))


def _pieces(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    from skimage.measure import label

    return np.asarray(label(mask, background=0))


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
