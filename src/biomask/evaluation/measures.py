"""Scores of challenges and papers beside the usual ones: what `evaluate --metrics` adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError, UsageError
from biomask.evaluation.bootstrap import Units, intervals
from biomask.evaluation.coco import Coco
from biomask.evaluation.coco_table import COCO_NAMES, COCO_SAYS, KEYPOINTS_SAY, coco_classes, coco_titles, pooled_scores
from biomask.evaluation.options import ALL, METRICS
from biomask.labels import Labels
from biomask.metrics import (
    ArticleScores,
    CocoKind,
    Detections,
    FoundObjects,
    IsbiLevel,
    IsbiScores,
    MatchedImage,
    TrueObjects,
    article_scores,
    detections,
    fcn_scores,
    isbi_scores,
    match_image,
    mean,
    seg_of_objects,
)
from biomask.metrics.isbi import LEVELS
from biomask.progress import Progress

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Compared:
    """An image as measures see it; of its arrays those that its kind has."""

    labels: Labels
    """The truth, with all that is unknown."""
    matrix: npt.NDArray[np.int64]
    """As in `ScoredImage`."""
    classes: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
    """Class ids (*S) of truth and prediction, positions in one legend."""
    ids: npt.NDArray[Any] | None = None
    """Predicted objects (*S)."""
    maps: npt.NDArray[np.float32] | None = None
    """Probabilities (C, *S) of each structure, or of each class but the first."""
    coco: tuple[TrueObjects, FoundObjects] | None = None
    """Objects of truth and prediction with their scores."""


@dataclass(frozen=True)
class Fit:
    """What decides whether a measure fits."""

    kind: str
    """Of the truth's labels."""
    classes: int
    """In the legend, background too."""
    maps: bool
    """Whether every image has probabilities."""
    coco: tuple[CocoKind, ...] = ()
    """What COCO's scores can compare."""
    no_coco: str = "COCO's table is of objects (--labels instances)"
    """Why they compare nothing."""


@dataclass(frozen=True)
class Measure:
    """A set of scores with one name."""

    title: str
    scores: Mapping[str, str]
    """Key: title, in the order of tables."""
    lacks: Callable[[Fit], str | None]
    """Why it does not fit; None where it does."""
    of_image: Callable[[Compared], Any]
    """What an image adds."""
    together: Callable[[Sequence[Any]], Scores]
    """The scores of one image, or of several as one."""
    says: tuple[str, ...]
    """Definition and source."""


def _isbi_of(image: Compared) -> IsbiScores:
    if image.classes is None:
        raise LabelsError("has no classes", where=image.labels.name)
    true, found = image.classes
    if image.maps is None:
        return isbi_scores(true, found, (0.5,), image.labels.ignore)
    return isbi_scores(true, image.maps[0], LEVELS, image.labels.ignore)


def _isbi(images: Sequence[IsbiScores]) -> Scores:
    whole = _sum(images)
    return {key: getattr(whole, key) for key in MEASURES["isbi"].scores}


def _ctc_of(image: Compared) -> tuple[npt.NDArray[np.float64], Detections]:
    if image.ids is None:
        raise LabelsError("has no ids of objects", where=image.labels.name)
    given = image.labels.array, image.ids, image.labels.ignore
    return seg_of_objects(*given), detections(*given)


def _ctc(images: Sequence[tuple[npt.NDArray[np.float64], Detections]]) -> Scores:
    return {"seg": mean(np.concatenate([jaccards for jaccards, _ in images]).tolist()), "det": _sum([d for _, d in images]).det}


def _article_of(image: Compared) -> ArticleScores:
    if image.maps is None:
        raise LabelsError("has no probabilities", where=image.labels.name)
    true = image.labels.array if image.classes is None else np.stack([image.classes[0] == 1 + k for k in range(len(image.maps))])
    return article_scores(image.maps, true, ignore=image.labels.ignore)


def _article(images: Sequence[ArticleScores]) -> Scores:
    return {key: mean(getattr(i, key) for i in images) for key in MEASURES["article"].scores}


def _sum(parts: Sequence[Any]) -> Any:
    return sum(parts[1:], start=parts[0])


def _coco(kind: CocoKind, title: str, says: str) -> Measure:
    """COCO's scores of boxes, masks or key points."""
    def of_image(image: Compared) -> MatchedImage:
        if image.coco is None:
            raise LabelsError("has no objects", where=image.labels.name)
        return match_image(*image.coco, kind)

    return Measure(title, coco_titles(kind), lambda fit: None if kind in fit.coco else fit.no_coco, of_image,
                   lambda images: pooled_scores(images, kind).summary(), (says, *COCO_SAYS))


#: Why a measure of probabilities does not fit, and what to do about it.
NO_MAPS = "it needs probabilities of all images (predict --probabilities)"
PREDICT_MAPS = "predict again with --probabilities: biomask predict MODEL IMAGES -o OUT --probabilities --overwrite"

#: Name, as in --metrics: what it computes.
MEASURES: dict[str, Measure] = {
    "isbi": Measure(
        "ISBI 2012 challenge", {
            "rand_f_thinned": "Rand F after thinning", "information_f_thinned": "V_info after thinning", "rand_f": "Rand F",
            "information_f": "V_info", "warping_error": "warping error", "splits_and_mergers": "warping error, splits and mergers",
            "pixel_f_error": "pixel error, 1 − F", "pixel_error": "pixel error, share"},
        lambda fit: None if fit.kind == "classes" and fit.classes == 2 else "it is of two classes, membrane and cell",
        _isbi_of, _isbi, (
            "The cell is the class of the higher value, and its regions are 4-connected, slice by slice. From probabilities each "
            "score is the best over the thresholds 0.0, 0.1, … 0.9 (after thinning 0.1 … 0.9), from masks there is one; together, "
            "all images share a threshold, alone each has its own. As in the challenge's Fiji code (Arganda-Carreras et al., Front "
            "Neuroanat 2015).",
            "Rand F: of pairs of cell pixels, N² normalised, restricted to the true cells, summed over images. V_info: of mutual "
            "information over entropies, mean over slices. Thinning: regions grow until lines of one pixel part them.",
            "Warping error (Jain et al., CVPR 2010): the share of pixels on which the truth still differs after all flips that "
            "leave its topology as it is; or of those alone whose flip would split or merge cells. Pixel error: 1 − the F-score of "
            "cell pixels, or the share of wrong pixels. Of both, what the challenge listed is, as far as is known, the reading "
            "by splits and mergers, and that by the F-score.")),
    "fcn": Measure(
        "FCN (Long et al. 2015)", {
            "pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean accuracy", "mean_iou": "mean IoU",
            "frequency_weighted_iou": "frequency-weighted IoU"},
        lambda fit: None if fit.kind == "classes" else "it is of classes that exclude each other",
        lambda image: image.matrix, lambda images: asdict(fcn_scores(np.sum(images, axis=0))), (
            "From the confusion matrix (Long, Shelhamer and Darrell, CVPR 2015), background a class like the others: the share of "
            "right pixels; the mean over classes of the share of their pixels that is right; the mean IoU; the mean IoU weighted "
            "by true pixels. A class in neither truth nor prediction does not count. The paper's are of all images together.",)),
    "ctc": Measure(
        "Cell Tracking Challenge", {"seg": "SEG", "det": "DET"},
        lambda fit: None if fit.kind == "instances" else "it is of objects (--labels instances)",
        _ctc_of, _ctc, (
            "A true object is found by the predicted one that covers more than half of it. SEG: the mean IoU of true objects with "
            "it, 0 for those that are not found; predicted objects that are none cost nothing. DET: 1 − D / D0, where D is 5 for "
            "each predicted object too few where one covers several, 10 for each true one missed and 1 for each that is none, "
            "and D0, the most that counts, 10 for each true one (Maška et al., Bioinformatics 2014; Matula et al., PLoS ONE 2015). "
            "The challenge counts DET against markers of all cells: where the truth lacks some, it is too low.",)),
    "coco_boxes": _coco("boxes", "COCO, boxes", "The IoU is that of boxes, in fractions of pixels."),
    "coco_masks": _coco("masks", "COCO, masks", "The IoU is that of the pixels of masks, which may overlap."),
    "coco_keypoints": _coco("keypoints", "COCO, key points", KEYPOINTS_SAY),
    "article": Measure(
        "As the optic disc article computed them", {
            "iou": "IoU", "dice_loss": "“Dice” as printed, a loss", "dice": "soft Dice", "bce": "BCE"},
        lambda fit: ("it is of classes or structures" if fit.kind == "instances" else
                     None if fit.maps else NO_MAPS),
        _article_of, _article, (
            "Each image is a batch of its own, and together means their mean. IoU: of probabilities above 0.5, over the pixels of "
            "all structures (or classes but the first) laid end to end. “Dice” as printed: the mean over structures of "
            "1 − (2 Σ p y + 1) / (Σ p + Σ y + 1), a loss, which the article on a U-Net for the optic disc and cup of Drishti-GS "
            "prints as a coefficient; soft Dice, the coefficient, is 1 less it. BCE: mean binary cross-entropy, nats.",)),
}


def _family(name: str) -> tuple[str, ...]:
    """The measures that a name of --metrics stands for."""
    return tuple(key for key in MEASURES if key == name or key.startswith(f"{name}_"))


def chosen_measures(names: Sequence[str], fit: Fit, progress: Progress) -> tuple[str, ...]:
    """Those of --metrics that fit; of `all`, a line says which do not. Raises UsageError for one that was named and does not."""
    wrong = {key: why for key, measure in MEASURES.items() if (why := measure.lacks(fit)) is not None}
    lacking = {name: wrong[_family(name)[0]] for name in METRICS if set(_family(name)) <= set(wrong)}
    if ALL in names:
        for name, why in lacking.items():
            progress.say(f"--metrics {name} is left out: {why}")
    for name in names:
        if name in lacking:
            raise UsageError(f"--metrics {name} does not fit: {lacking[name]}",
                             fix=PREDICT_MAPS if lacking[name] == NO_MAPS else f"--metrics {ALL} takes those that fit")
    return tuple(key for n in METRICS if n in names or ALL in names for key in _family(n) if key not in wrong)


def measured(names: Sequence[str], image: Compared) -> dict[str, Any]:
    """What an image adds to each measure."""
    return {name: MEASURES[name].of_image(image) for name in names}


def summarise_measures(names: Sequence[str], images: Mapping[str, Mapping[str, Any]], units: Units,
                       coco: Coco | None = None) -> dict[str, dict[str, Any]]:
    """{name: {title, scores, pooled, mean, intervals, per_image, says}}, JSON-ready; of `isbi` also thresholds, of COCO per_class.

    images: by name, what `measured` gave. scores: title by key. pooled: of all images as one; mean: over images. coco: its classes
    and what it does not compare.
    """
    found = dict[str, dict[str, Any]]()
    for name in names:
        measure, parts = MEASURES[name], [i[name] for i in images.values()]
        rows = [measure.together([part]) for part in parts]
        columns = {key: [row[key] for row in rows] for key in measure.scores}
        found[name] = {
            "title": measure.title, "scores": dict(measure.scores), "pooled": measure.together(parts),
            "mean": {key: mean(values) for key, values in columns.items()}, "intervals": intervals(columns, units),
            "per_image": [{"name": image, **row} for image, row in zip(images, rows, strict=True)], "says": list(measure.says)}
        if name == "isbi":
            found[name]["thresholds"] = [_at(level) for level in _sum(parts).levels]
        if name in COCO_NAMES and coco is not None:
            found[name]["per_class"] = coco_classes(parts, COCO_NAMES[name], coco.names)
            found[name]["says"] += coco.notes
    return found


def _at(level: IsbiLevel) -> dict[str, float | None]:
    """All scores at one threshold."""
    keys = ("threshold", "pixel_error", "pixel_f", "rand_f", "rand_f_thinned", "information_f", "information_f_thinned",
            "warping_error", "splits_and_mergers")
    return {key: getattr(level, key) for key in keys}
