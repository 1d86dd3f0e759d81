"""Dice, IoU and pixel error of a data set, from the confusion matrices of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.evaluation.bootstrap import interval
from biomask.evaluation.cases import Case
from biomask.io import read_label_values
from biomask.labels import Labels, Legend
from biomask.metrics import Overlap, confusion_matrix, mean, overlap

Matrix = npt.NDArray[np.int64]

FOOTNOTES = (
    "Per class: the mean over the images in which the class is in the truth or in the prediction. A class that is in "
    "neither is undefined there (–) and does not count; one that is in only one of them scores 0.",
    "Mean: over images, then over the classes but the background (the lowest value). Pooled: from the pixels of all "
    "images together.",
    "Pixel error: the share of known pixels whose class differs.",
)

STRUCTURE_FOOTNOTES = (
    "Per structure: the mean over the images in which the structure is in the truth or in the prediction. One that is in "
    "neither is undefined there (–) and does not count; one that is in only one of them scores 0.",
    "Mean: over images, then over the structures, which may overlap. Pooled: from the pixels of all images together.",
    "Pixel error: the share of wrong answers, of one a known pixel and structure.",
)


def summarise(names: Sequence[str], matrices: Sequence[Matrix], legend: Legend, *, seed: int = 0) -> dict[str, Any]:
    """per_image, per_class, mean, pooled and intervals from one confusion matrix (K, K) an image."""
    images = [(name, int(m.sum()), overlap(m)) for name, m in zip(names, matrices, strict=True)]
    return _summary(images, overlap(np.sum(matrices, axis=0)), {str(e.value): e.name for e in legend}, skip=1, seed=seed)


def summarise_structures(names: Sequence[str], matrices: Sequence[Matrix], legend: Legend, *, seed: int = 0) -> dict[str, Any]:
    """The same from matrices (K, 2, 2) an image, one a structure; legend: background, then the structures."""
    images = [(name, int(m[0].sum()), _of_structures(m)) for name, m in zip(names, matrices, strict=True)]
    shown = {str(e.value): e.name for e in list(legend)[1:]}
    return _summary(images, _of_structures(np.sum(matrices, axis=0)), shown, skip=0, seed=seed)


def structure_matrices(truth: Labels, case: Case) -> Matrix:
    """(K, 2, 2) known pixels of an image, by truth and prediction of each structure. Raises LabelsError where sizes differ."""
    found = list[Matrix]()
    for true, path in zip(truth.array, case.structures, strict=True):
        predicted = read_label_values(path).array[0] > 0
        if predicted.shape != true.shape:
            raise LabelsError(f"has size {predicted.shape}, another structure of the image {true.shape}", where=path,
                              fix="predict the image again")
        found.append(confusion_matrix(true, predicted, 2, truth.ignore))
    return np.stack(found)


def _of_structures(matrices: Matrix) -> Overlap:
    """One score a structure, from matrices (K, 2, 2)."""
    each = [overlap(m) for m in matrices]
    return Overlap(tuple(o.dice[1] for o in each), tuple(o.iou[1] for o in each), overlap(matrices.sum(axis=0)).pixel_error)


def _summary(images: Sequence[tuple[str, int, Overlap]], pooled: Overlap, names: Mapping[str, str], *, skip: int,
             seed: int) -> dict[str, Any]:
    """The scores of (name, known pixels, overlap) of images. names: of each entry by value; skip: leading ones no mean is over."""
    overlaps = [o for _, _, o in images]
    per_image: list[dict[str, Any]] = [
        {"name": name, "pixels": pixels, "dice": mean(o.dice[skip:]), "iou": mean(o.iou[skip:]), "pixel_error": o.pixel_error,
         "classes": {v: {"dice": o.dice[i], "iou": o.iou[i]} for i, v in enumerate(names)}}
        for name, pixels, o in images
    ]
    per_class: dict[str, dict[str, Any]] = {
        v: {"name": name, "dice": mean(o.dice[i] for o in overlaps), "iou": mean(o.iou[i] for o in overlaps),
            "images": sum(o.dice[i] is not None for o in overlaps)}
        for i, (v, name) in enumerate(names.items())
    }
    foreground = list(per_class.values())[skip:]
    return {
        "per_image": per_image,
        "per_class": per_class,
        "mean": {"dice": mean(c["dice"] for c in foreground), "iou": mean(c["iou"] for c in foreground),
                 "pixel_error": mean(o.pixel_error for o in overlaps)},
        "pooled": {"dice": mean(pooled.dice[skip:]), "iou": mean(pooled.iou[skip:]), "pixel_error": pooled.pixel_error,
                   "per_class": {v: {"dice": pooled.dice[i], "iou": pooled.iou[i]} for i, v in enumerate(names)}},
        "intervals": {"dice": interval([o.dice[skip:] for o in overlaps], seed),
                      "iou": interval([o.iou[skip:] for o in overlaps], seed),
                      "pixel_error": interval([o.pixel_error for o in overlaps], seed)},
    }
