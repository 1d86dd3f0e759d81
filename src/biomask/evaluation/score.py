"""From the files of an image to its `ScoredImage`: the truth is read once, whatever it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.encoding import Encoding
from biomask.data.pairing import where_of
from biomask.errors import BiomaskError, LabelsError
from biomask.evaluation.calibration import Channel, reliability_of
from biomask.evaluation.cases import Case
from biomask.evaluation.coco import Coco
from biomask.evaluation.maps import foreground_maps
from biomask.evaluation.meaning import class_ids, true_labels
from biomask.evaluation.measures import Compared, measured
from biomask.evaluation.ruler import Ruler
from biomask.evaluation.scored import BoundaryScores, ScoredImage
from biomask.io import read_label_values
from biomask.labels import Labels, Legend
from biomask.metrics import confusion_matrix, instance_scores, surface_distances
from biomask.recipe import DataSettings


@dataclass(frozen=True)
class Rules:
    """What the truth means, how it is read, and how distances are measured."""

    encoding: Encoding
    settings: DataSettings
    ruler: Ruler


@dataclass(frozen=True)
class Side:
    """What is compared with the truth: predictions, or the labels of a second annotator."""

    cases: Mapping[str, Case]
    """By the name of the image."""
    legend: Legend
    """All classes of this side and of the truth."""
    own: Encoding | None = None
    """Of an annotator: what its labels mean, which are the truth of its cases. None = predictions."""
    positions: tuple[int, ...] = ()
    """Of an annotator: for each entry of its legend, the position of its class in `legend`."""
    channels: tuple[Channel, ...] = field(default=())
    """What each channel of the probabilities is; empty = nothing says so."""
    metrics: tuple[str, ...] = ()
    """Names of measures beside the usual scores."""
    maps: bool = False
    """Whether these are to see the probabilities."""
    coco: Coco | None = None
    """Where they take their objects from; None = none is of COCO."""


@dataclass(frozen=True)
class _Said:
    """What a side says of an image; of its three arrays those that its kind has."""

    classes: npt.NDArray[Any] | None = None
    """Class ids (*S), positions in the side's legend."""
    ids: npt.NDArray[Any] | None = None
    """Objects (*S)."""
    structures: npt.NDArray[np.bool_] | None = None
    """(K, *S)."""
    unknown: npt.NDArray[np.bool_] | None = None
    """bool (*S)."""


def score_image(name: str, labels: Labels, side: Side, rules: Rules) -> ScoredImage:
    """Compare what a side says of an image with the truth. Raises LabelsError or SizeError for what cannot be compared."""
    case = side.cases[name]
    said = _said(case, labels.size, side, rules)
    if said.unknown is not None:
        labels = replace(labels, ignore=said.unknown if labels.ignore is None else labels.ignore | said.unknown)
    spacing = rules.ruler.spacing(name, len(labels.size))
    reliability = reliability_of(case.probabilities, labels, rules.encoding, side.channels)
    if said.structures is not None:
        matrices = [confusion_matrix(true, found, 2, labels.ignore)
                    for true, found in zip(labels.array, said.structures, strict=True)]
        boundaries = tuple(_boundary(true, found, labels, spacing, rules)
                           for true, found in zip(labels.array, said.structures, strict=True))
        return _with_measures(ScoredImage(name, np.stack(matrices), boundaries, reliability=reliability), labels, side, case)
    true, found = class_ids(labels, rules.encoding), said.classes
    if side.legend != rules.encoding.legend:
        true = side.legend.ids(rules.encoding.legend.values_of(true))
    if found is None:
        raise LabelsError("has no classes", where=case.prediction)
    matrix = confusion_matrix(true, found, len(side.legend), labels.ignore)
    boundaries = tuple(_boundary(true == k, found == k, labels, spacing, rules) for k in range(1, len(side.legend)))
    scored = ScoredImage(name, matrix, boundaries, reliability=reliability)
    if said.ids is not None:
        scored = _with_objects(scored, labels, said.ids, (true, found), case)
    return _with_measures(scored, labels, side, case, (true, found), said.ids)


def _boundary(true: npt.NDArray[Any], found: npt.NDArray[Any], labels: Labels, spacing: tuple[float, ...],
              rules: Rules) -> BoundaryScores:
    return BoundaryScores.of(surface_distances(true, found, spacing, labels.ignore), rules.ruler.tolerance)


def _with_objects(scored: ScoredImage, labels: Labels, ids: npt.NDArray[Any], classes: tuple[npt.NDArray[Any], npt.NDArray[Any]],
                  case: Case) -> ScoredImage:
    """The same with the scores of objects, together and of each class. classes: ids (*S) of truth and prediction."""
    try:
        together = instance_scores(labels.array, ids, labels.ignore)
    except LabelsError as error:
        raise LabelsError(error.what, where=case.objects, fix=error.fix) from error
    if len(scored.matrix) == 2:
        return replace(scored, objects=together, of_class=(together,))
    true, found = classes
    each = tuple(instance_scores(np.where(true == k, labels.array, 0), np.where(found == k, ids, 0), labels.ignore)
                 for k in range(1, len(scored.matrix)))
    return replace(scored, objects=together, of_class=each)


def _with_measures(scored: ScoredImage, labels: Labels, side: Side, case: Case,
                   classes: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None,
                   ids: npt.NDArray[Any] | None = None) -> ScoredImage:
    """The same with what it adds to the measures of --metrics. classes: as in `_with_objects`; None = structures."""
    if not side.metrics:
        return scored
    maps = None
    if side.maps and case.probabilities is not None:
        maps = foreground_maps(case.probabilities, labels.size, side.legend, classes is None, side.channels)
    objects = None if side.coco is None or classes is None else side.coco.sides(case, labels, classes, ids)
    return replace(scored, more=measured(side.metrics, Compared(labels, scored.matrix, classes, ids, maps, objects)))


def _said(case: Case, size: tuple[int, ...], side: Side, rules: Rules) -> _Said:
    """Read what a side says, at the size of the truth."""
    if side.own is not None:
        return _annotated(case, size, side, side.own, rules)
    kind = rules.encoding.kind
    if kind == "multilabel":
        return _Said(structures=np.stack([_values(path, size) > 0 for path in case.structures]))
    if kind == "instances":
        if case.objects is None:
            raise LabelsError("has no ids of objects", where=case.prediction)
        ids = _values(case.objects, size)
        classes = (ids > 0).astype(np.uint8) if len(side.legend) == 2 else _class_of_pixels(case, ids, side.legend)
        return _Said(classes, ids)
    return _Said(side.legend.ids(_values(case.prediction, size)))


def _values(path: Any, size: tuple[int, ...]) -> npt.NDArray[Any]:
    """The values of a predicted file. Raises LabelsError for another size."""
    array = np.asarray(read_label_values(path).array[0])
    if array.shape != size:
        raise LabelsError(f"has size {array.shape}, the truth {size}", where=path, fix="predict the image again")
    return array


def _annotated(case: Case, size: tuple[int, ...], side: Side, own: Encoding, rules: Rules) -> _Said:
    """What a second annotator says, in the classes of the truth."""
    labels = true_labels(case, own, size, rules.settings)
    if own.kind == "multilabel":
        return _Said(structures=np.asarray(labels.array, np.bool_)[list(side.positions)], unknown=labels.ignore)
    classes = np.asarray(side.positions, np.uint8)[class_ids(labels, own)]
    if rules.encoding.kind != "instances":
        return _Said(classes, unknown=labels.ignore)
    if own.kind != "instances":
        raise LabelsError("holds classes, the truth objects", where=where_of(case.pair), fix="give labels with ids of objects")
    return _Said(classes, labels.array, unknown=labels.ignore)


def _class_of_pixels(case: Case, predicted: npt.NDArray[Any], legend: Legend) -> npt.NDArray[np.uint8]:
    """Class ids (*S): of each predicted object the class that most of its pixels have in the mask, the background aside."""
    mask = read_label_values(case.prediction).array[0]
    if mask.shape != predicted.shape:
        raise LabelsError(f"has size {mask.shape}, its ids of objects {predicted.shape}", where=case.prediction,
                          fix="predict the image again")
    try:
        pixels = legend.ids(mask)
    except BiomaskError as error:
        raise LabelsError(error.what, where=case.prediction, fix=error.fix) from error
    ids, flat = np.unique(predicted, return_inverse=True)
    flat = flat.reshape(predicted.shape)
    votes = np.bincount((flat * len(legend) + pixels).ravel(), minlength=len(ids) * len(legend)).reshape(len(ids), len(legend))
    chosen = np.where(votes[:, 1:].any(axis=1) & (ids != 0), 1 + votes[:, 1:].argmax(axis=1), 0)
    return np.asarray(chosen[flat], np.uint8)
