"""Outlines of classes that may overlap: a mask, or ids, a class, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biomask.data.annotations import coco_categories, read_annotations, read_coco_entry
from biomask.data.pairing import Pair
from biomask.data.truth import read_outlines
from biomask.errors import InputError, PairingError
from biomask.exports.written import Writing, of_structure
from biomask.image import Image
from biomask.instances.polygons import rasterise
from biomask.io import write_mask
from biomask.io.coco import UNNAMED
from biomask.io.files import write_ids
from biomask.labels import Legend
from biomask.recipe import DataSettings
from biomask.shapes import object_ids
from biomask.words import count

#: What no name of a folder holds on some system.
FORBIDDEN = '<>:"/\\|?*'


def structures_in(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The classes of all outlines, by name. Raises PairingError for one that cannot be a folder."""
    names, files = set[str](), set[Path]()
    for pair in pairs:
        truth = pair.truth
        if truth is None:
            continue
        drawn = read_coco_entry(truth.files[0], truth.entry) if truth.form == "coco" else read_annotations(truth.files[0])
        names |= {s.name or UNNAMED for s in drawn.shapes if not s.crowd}
        files |= {truth.files[0]} if truth.form == "coco" else set()
    names |= {c.name for file in files for c in coco_categories(file)}
    bad = [n for n in sorted(names) if n in (".", "..") or n != n.strip(" .") or any(c in FORBIDDEN or ord(c) < 32 for c in n)]
    if bad:
        raise PairingError(f"the class {bad[0]!r} gives no name of a folder", fix="rename it")
    return tuple(sorted(names))


def write_structures(pair: Pair, image: Image | None, writing: Writing, names: Sequence[str], settings: DataSettings) -> None:
    """The files of one image; objects of one class that overlap are given to the last."""
    if image is None or pair.truth is None:
        raise InputError("has no image that states its size", fix="say where the images are: --images FOLDER")
    drawn = read_outlines(pair, pair.truth, image.size, settings)
    crowds = sum(s.crowd for s in drawn.shapes)
    notes = [*drawn.left_out, *([f"{count(crowds, 'crowd')} of objects that nobody told apart"] if crowds else [])]
    files, objects = list[Path](), 0
    for name in names:
        own = [s for s in drawn.shapes if (s.name or UNNAMED) == name and not s.crowd]
        ids = rasterise(own, image.size, values=object_ids(own)).array
        file = of_structure(writing.targets[pair.name], writing.out, name)
        if writing.to == "labels":
            write_ids(file, ids, image.spacing, image.affine)
            objects += int(np.count_nonzero(np.unique(ids)))
        else:
            legend = Legend.of_values([0, 255], {255: name})
            write_mask(file, legend.values_of((ids > 0).astype(np.uint8)), legend, image.spacing, image.affine)
            objects += 1
        files.append(file)
    writing.add(pair.name, files, objects, f"left out: {'; '.join(notes)}" if notes else "")
