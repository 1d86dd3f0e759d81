"""Scores of objects of a data set: AP, F1, panoptic quality, counts; and those of their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biomask.errors import LabelsError
from biomask.evaluation.bootstrap import Units, intervals
from biomask.evaluation.overlaps import summarise
from biomask.evaluation.scored import ScoredImage
from biomask.labels import Legend
from biomask.metrics import THRESHOLDS, InstanceScores, agreement, mean, pooled

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
    "their signs. Limits of agreement (Bland and Altman 1986): bias ± 1.96 standard deviations of the errors; those of 95 % of the "
    "images lie between them if they are normally distributed.",
    "Unknown pixels count nowhere; an object with more than half of its pixels among them is left out on either side.",
    "Dice, IoU, precision, recall, specificity, pixel error, HD95, ASSD and NSD are those of the pixels of all objects of a class, "
    "whichever object they belong to. Precision is undefined where nothing is predicted, recall where nothing is in the truth, "
    "specificity where the truth is nothing else.",
)

#: Scores of an image: key, title.
SCORES: dict[str, str] = {"ap50": "AP at 0.5", "ap75": "AP at 0.75", "ap": "AP, mean over 0.5 … 0.95", "f1": "F1 at 0.5",
                          "pq": "PQ", "matched_iou": "IoU of matches"}

#: Numbers of objects of an image: key, title.
COUNTS: dict[str, str] = {"true_objects": "true objects", "predicted_objects": "predicted objects", "tp": "TP", "fp": "FP",
                          "fn": "FN", "merges": "merges", "splits": "splits"}


def summarise_instances(images: Sequence[ScoredImage], legend: Legend, units: Units | None = None) -> dict[str, Any]:
    """What `summarise` gives, and the scores of objects: per image, class and threshold, and the agreement of counts."""
    units, objects = units or Units(), [_objects(i) for i in images]
    found = summarise(images, legend, units)
    rows: Sequence[dict[str, Any]] = found["per_image"]
    for row, own in zip(rows, objects, strict=True):
        row |= {**_scores(own), **_counts(own), "count_error": own.count_error}
    each_image = object_columns(rows)
    found["mean"] |= {key: mean(values) for key, values in each_image.items()}
    found["intervals"] |= intervals(each_image, units)
    whole = pooled(objects)
    found["pooled"] |= {**_scores(whole), **_counts(whole)}
    for k, value in enumerate(legend.values[1:]):
        each = [i.of_class[k] for i in images]
        scores, together = [_scores(e) for e in each], pooled(each)
        found["per_class"][str(value)] |= {**{key: mean(s[key] for s in scores) for key in SCORES}, **_counts(together)}
        found["pooled"]["per_class"][str(value)] |= _scores(together)
    found["thresholds"] = [{"iou": t, "ap": mean(o.precision_at(t) for o in objects), "f1": mean(o.f1(t) for o in objects)}
                           for t in THRESHOLDS]
    found["agreement"] = agreement_of(rows, found["intervals"]["count_bias"])
    return found


def object_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """{score: a value an image} of objects, from the rows of an evaluation."""
    errors = [float(r["count_error"]) for r in rows]
    return {**{key: [r[key] for r in rows] for key in SCORES}, "count_error": [abs(e) for e in errors], "count_bias": list(errors)}


def agreement_of(rows: Sequence[Mapping[str, Any]], interval: Mapping[str, Any]) -> dict[str, Any]:
    """Bias and limits of agreement of the counts, from the rows of an evaluation. interval: of the bias."""
    found = agreement([r["predicted_objects"] for r in rows], [r["true_objects"] for r in rows])
    said = "no image was counted"
    if found.bias is not None:
        limits = "" if found.low is None or found.high is None else (
            f"; limits of agreement {found.low:+.1f} to {found.high:+.1f} (bias ± 1.96 standard deviations)")
        said = (f"predicted less true objects: {found.bias:+.2f} an image on average over {found.n} "
                f"image{'s' * (found.n != 1)}{limits}")
    return {"bias": found.bias, "sd": found.sd, "low": found.low, "high": found.high, "slope": found.slope, "n": found.n,
            "bias_interval": dict(interval), "says": said}


def _objects(image: ScoredImage) -> InstanceScores:
    if image.objects is None:
        raise LabelsError("has no ids of objects", where=image.name)
    return image.objects


def _scores(found: InstanceScores) -> dict[str, float | None]:
    """The scores of `SCORES`."""
    return {"ap50": found.precision_at(0.5), "ap75": found.precision_at(0.75), "ap": found.average_precision, "f1": found.f1(0.5),
            "pq": found.panoptic_quality, "matched_iou": found.matched_iou}


def _counts(found: InstanceScores) -> dict[str, int]:
    """The numbers of `COUNTS`."""
    return {"true_objects": found.true, "predicted_objects": found.predicted, "tp": found.tp(0.5), "fp": found.fp(0.5),
            "fn": found.fn(0.5), "merges": found.merges, "splits": found.splits}
