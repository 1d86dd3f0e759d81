"""Scores of the pixels and surfaces of a data set, of classes or of structures that may overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biomask.evaluation.bootstrap import Units, intervals
from biomask.evaluation.scored import ScoredImage, columns, overlap_of, vars_of
from biomask.labels import Legend
from biomask.metrics import mean

_COMMON = (
    "Precision is undefined where nothing is predicted, recall where nothing is in the truth, specificity where the truth is "
    "nothing else; HD95, ASSD and NSD are not pooled.",
)

FOOTNOTES = (
    "Per class: the mean over the images in which the class is in the truth or in the prediction. A class that is in "
    "neither is undefined there (–) and does not count; one that is in only one of them scores 0.",
    "Mean: over images, then over the classes but the background (the lowest value). Pooled: from the pixels of all "
    "images together.",
    "Pixel error: the share of known pixels whose class differs.",
    *_COMMON,
)

STRUCTURE_FOOTNOTES = (
    "Per structure: the mean over the images in which the structure is in the truth or in the prediction. One that is in "
    "neither is undefined there (–) and does not count; one that is in only one of them scores 0.",
    "Mean: over images, then over the structures, which may overlap. Pooled: from the pixels of all images together.",
    "Pixel error: the share of wrong answers, of one a known pixel and structure.",
    *_COMMON,
)


def summarise(images: Sequence[ScoredImage], legend: Legend, units: Units | None = None) -> dict[str, Any]:
    """per_image, per_class, mean, pooled and intervals of images of classes. legend: an entry a row of their matrices."""
    return _summary(images, {str(e.value): e.name for e in legend}, 1, units or Units())


def summarise_structures(images: Sequence[ScoredImage], legend: Legend, units: Units | None = None) -> dict[str, Any]:
    """The same of structures. legend: background, then an entry a structure."""
    return _summary(images, {str(e.value): e.name for e in list(legend)[1:]}, 0, units or Units())


def _summary(images: Sequence[ScoredImage], names: Mapping[str, str], skip: int, units: Units) -> dict[str, Any]:
    """names: of each entry by value; skip: leading ones no mean is over."""
    values, per_image = list(names), list[dict[str, Any]]()
    for n, image in enumerate(images):
        scores = image.class_scores()
        row: dict[str, Any] = {"name": image.name, "pixels": image.known, **{k: mean(s[skip:]) for k, s in scores.items()},
                               "pixel_error": image.overlap.pixel_error,
                               "classes": {v: {k: s[i] for k, s in scores.items()} for i, v in enumerate(values)}}
        per_image.append(row if units.groups is None else {**row, "group": units.groups[n]})
    each = columns(per_image, values)
    per_class: dict[str, dict[str, Any]] = {
        v: {"name": names[v], **{k: mean(row[i] for row in rows) for k, rows in each.items()},
            "images": sum(row[i] is not None for row in each["dice"])}
        for i, v in enumerate(values)}
    foreground = columns(per_image, values[skip:])
    errors = [row["pixel_error"] for row in per_image]
    together = overlap_of(np.sum([i.matrix for i in images], axis=0))
    pooled = vars_of(together)
    return {
        "per_image": per_image,
        "per_class": per_class,
        "mean": {**{k: mean(per_class[v][k] for v in values[skip:]) for k in each}, "pixel_error": mean(errors)},
        "pooled": {**{k: mean(s[skip:]) for k, s in pooled.items()}, "pixel_error": together.pixel_error,
                   "per_class": {v: {k: s[i] for k, s in pooled.items()} for i, v in enumerate(values)}},
        "intervals": intervals({**foreground, "pixel_error": errors}, units),
    }
