"""Scores of objects of a data set: AP, F1, panoptic quality, counts; and Dice of their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.encoding import Encoding
from biomask.errors import LabelsError
from biomask.evaluation.bootstrap import interval
from biomask.evaluation.cases import Case
from biomask.evaluation.meaning import class_ids, true_labels
from biomask.evaluation.overlaps import Matrix, summarise
from biomask.io import read_label_values
from biomask.labels import Legend
from biomask.metrics import InstanceScores, confusion_matrix, instance_scores, mean, pooled
from biomask.recipe import DataSettings

FOOTNOTES = (
    "A predicted object and a true one match if their IoU reaches the threshold; matching is one to one, with as many matches "
    "as there can be. At a threshold, AP = TP / (TP + FP + FN) and F1 = 2 TP / (2 TP + FP + FN); AP is the mean over the "
    "thresholds 0.5, 0.55, … 0.95 (as in StarDist and the Data Science Bowl 2018). F1, TP, FP and FN are those at 0.5.",
    "PQ, the panoptic quality: the sum of the IoU of matches above 0.5, over TP + FP/2 + FN/2.",
    "Mean: over images. An image without an object in truth and prediction is undefined (–) and does not count; one with objects "
    "on one side only scores 0. Pooled: from the counts of all images together.",
    "A merge: a predicted object that covers more than half of each of several true ones. A split: a true object that holds more "
    "than half of each of several predicted ones.",
    "Count error: predicted objects less true ones; its mean is over the sizes of the errors, the bias over the errors with "
    "their signs.",
    "Unknown pixels count nowhere; an object with more than half of its pixels among them is left out on either side.",
    "Dice, IoU and pixel error are those of the pixels of all objects of a class, whichever object they belong to.",
)

#: Scores of an image: key, title.
SCORES: dict[str, str] = {"ap50": "AP at 0.5", "ap75": "AP at 0.75", "ap": "AP, mean over 0.5 … 0.95", "f1": "F1 at 0.5",
                          "pq": "PQ", "matched_iou": "IoU of matches"}

#: Numbers of objects of an image: key, title.
COUNTS: dict[str, str] = {"true_objects": "true objects", "predicted_objects": "predicted objects", "tp": "TP", "fp": "FP",
                          "fn": "FN", "merges": "merges", "splits": "splits"}


@dataclass(frozen=True)
class ScoredImage:
    """What one image adds to an evaluation of instances."""

    matrix: Matrix
    """(K, K) known pixels by true and predicted class."""
    objects: InstanceScores
    """Of all objects, whatever their class."""
    of_class: tuple[InstanceScores, ...]
    """Of the objects of each class but the background."""


def score_image(case: Case, encoding: Encoding, settings: DataSettings) -> ScoredImage:
    """Read and score one image. Raises LabelsError for ids that cannot be compared."""
    if case.objects is None:
        raise LabelsError("has no ids of objects", where=case.prediction)
    predicted = read_label_values(case.objects).array[0]
    truth = true_labels(case, encoding, predicted.shape, settings)
    try:
        objects = instance_scores(truth.array, predicted, truth.ignore)
    except LabelsError as error:
        raise LabelsError(error.what, where=case.objects, fix=error.fix) from error
    true_class, classes = class_ids(truth, encoding), len(encoding.legend)
    if classes == 2:
        matrix = confusion_matrix(true_class, predicted > 0, 2, truth.ignore)
        return ScoredImage(matrix, objects, (objects,))
    found_class = _class_of_pixels(case, predicted, encoding.legend)
    each = tuple(instance_scores(np.where(true_class == k, truth.array, 0), np.where(found_class == k, predicted, 0), truth.ignore)
                 for k in range(1, classes))
    return ScoredImage(confusion_matrix(true_class, found_class, classes, truth.ignore), objects, each)


def _class_of_pixels(case: Case, predicted: npt.NDArray[Any], legend: Legend) -> npt.NDArray[np.uint8]:
    """Class ids (*S): of each predicted object the class that most of its pixels have in the mask, the background aside."""
    mask = read_label_values(case.prediction).array[0]
    if mask.shape != predicted.shape:
        raise LabelsError(f"has size {mask.shape}, its ids of objects {predicted.shape}", where=case.prediction,
                          fix="predict the image again")
    try:
        pixels = legend.ids(mask)
    except LabelsError as error:
        raise LabelsError(error.what, where=case.prediction, fix=error.fix) from error
    ids, flat = np.unique(predicted, return_inverse=True)
    flat = flat.reshape(predicted.shape)
    votes = np.bincount((flat * len(legend) + pixels).ravel(), minlength=len(ids) * len(legend)).reshape(len(ids), len(legend))
    chosen = np.where(votes[:, 1:].any(axis=1) & (ids != 0), 1 + votes[:, 1:].argmax(axis=1), 0)
    return np.asarray(chosen[flat], np.uint8)


def summarise_instances(names: Sequence[str], images: Sequence[ScoredImage], legend: Legend, *, seed: int = 0) -> dict[str, Any]:
    """per_image, per_class, mean, pooled and intervals: those of `summarise`, and of objects."""
    found = summarise(names, [i.matrix for i in images], legend, seed=seed)
    for row, image in zip(found["per_image"], images, strict=True):
        row |= {**_scores(image.objects), **_counts(image.objects), "count_error": image.objects.count_error}
    rows: Sequence[Mapping[str, Any]] = found["per_image"]
    for key in SCORES:
        found["mean"][key] = mean(r[key] for r in rows)
        found["intervals"][key] = interval([r[key] for r in rows], seed)
    sizes, errors = [float(abs(r["count_error"])) for r in rows], [float(r["count_error"]) for r in rows]
    found["mean"] |= {"count_error": mean(sizes), "count_bias": mean(errors)}
    found["intervals"] |= {"count_error": interval(sizes, seed), "count_bias": interval(errors, seed)}
    whole = pooled(i.objects for i in images)
    found["pooled"] |= {**_scores(whole), **_counts(whole)}
    for k, value in enumerate(legend.values[1:]):
        each = [i.of_class[k] for i in images]
        scores, together = [_scores(e) for e in each], pooled(each)
        found["per_class"][str(value)] |= {**{key: mean(s[key] for s in scores) for key in SCORES}, **_counts(together)}
        found["pooled"]["per_class"][str(value)] |= _scores(together)
    return found


def _scores(found: InstanceScores) -> dict[str, float | None]:
    """The scores of `SCORES`."""
    return {"ap50": found.precision_at(0.5), "ap75": found.precision_at(0.75), "ap": found.average_precision, "f1": found.f1(0.5),
            "pq": found.panoptic_quality, "matched_iou": found.matched_iou}


def _counts(found: InstanceScores) -> dict[str, int]:
    """The numbers of `COUNTS`."""
    return {"true_objects": found.true, "predicted_objects": found.predicted, "tp": found.tp(0.5), "fp": found.fp(0.5),
            "fn": found.fn(0.5), "merges": found.merges, "splits": found.splits}
