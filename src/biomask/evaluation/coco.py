"""What COCO's scores are computed from: which classes and kinds both sides have, and the objects of each image."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from biomask.data.annotations import coco_categories, coco_image
from biomask.data.naming import match
from biomask.data.pairing import Truth, index
from biomask.errors import LabelsError, PairingError, ReadError
from biomask.evaluation.cases import Case
from biomask.evaluation.coco_truth import (
    UNNAMED,
    class_numbers,
    found_by_detector,
    found_in_labels,
    true_in_coco,
    true_in_labels,
)
from biomask.evaluation.meaning import Understood
from biomask.evaluation.records import recorded_score
from biomask.io.coco import CocoImage
from biomask.io.detections import DETECTIONS, DetectedImage, DetectionFile, read_detections
from biomask.labels import Labels, Legend
from biomask.metrics import CocoKind, FoundObjects, TrueObjects
from biomask.shapes import Category
from biomask.stored import stem_of

#: In the order of tables.
KINDS: tuple[CocoKind, ...] = ("boxes", "masks", "keypoints")

Sides = tuple[TrueObjects, FoundObjects]


@dataclass(frozen=True)
class Coco:
    """How both sides of each image become objects."""

    names: tuple[str, ...]
    """Classes of the truth; the first has number 1."""
    kinds: tuple[CocoKind, ...]
    """What both sides have."""
    notes: tuple[str, ...] = ()
    """What is not compared, as sentences."""
    detected: Mapping[str, DetectedImage] | None = None
    """What a detector found, by the name of the case; None where label images say it."""
    numbers: Mapping[int, int] = field(default_factory=dict)
    """From ids of a detector's categories, or else from positions in the legend of label images, to classes of the truth."""
    points: int = 0
    """Key points of an object."""
    scores: Mapping[str, Mapping[int, float]] | None = None
    """Of label images: the score of each object, by name of the case and id; None = 1 each."""
    drawn: bool = False
    """Whether the truth is COCO's."""

    def sides(self, case: Case, labels: Labels, classes: tuple[npt.NDArray[Any], npt.NDArray[Any]],
              ids: npt.NDArray[Any] | None) -> Sides:
        """The objects of an image. classes: class ids (*S) of truth and prediction; ids: predicted objects (*S)."""
        size, truth = (labels.size[0], labels.size[1]), case.pair.truth
        if self.drawn:
            true = self._drawn(truth, size)
        else:
            true = true_in_labels(labels, classes[0], len(self.names))
        if self.detected is not None:
            return true, found_by_detector(self.detected[case.name], self.numbers, size, self.points)
        if ids is None:
            raise LabelsError("has no ids of objects", where=case.prediction)
        try:
            return true, found_in_labels(ids, classes[1], self.numbers, None if self.scores is None else self.scores[case.name])
        except LabelsError as error:
            raise LabelsError(error.what, where=case.objects, fix=error.fix) from error

    def _drawn(self, truth: Truth | None, size: tuple[int, int]) -> TrueObjects:
        """Of an image of a COCO file; none where the file does not list it."""
        numbers = {name: n for n, name in enumerate(self.names, start=1)}
        if truth is None:
            return true_in_coco(CocoImage("", size, ()), numbers, size, self.points)
        try:
            return true_in_coco(coco_image(truth.files[0], truth.entry), numbers, size, self.points, masks="masks" in self.kinds)
        except LabelsError as error:
            raise LabelsError(error.what, where=truth.files[0], fix=error.fix) from error


def coco_of(predictions: Path, cases: Sequence[Case], legend: Legend) -> Coco:
    """Of predictions in a folder: its detections.json, or else its label images. legend: of truth and label images.

    Raises PairingError where detections.json lacks images that are judged, and LabelsError where no class is in both.
    """
    entries = [(t.files[0], t.entry) for c in cases if (t := c.pair.truth) is not None and t.form == "coco"]
    shown = [e.name for e in legend][1:]
    names, kinds, points = tuple(shown), KINDS[:2], 0
    notes: tuple[str, ...] = ()
    if entries:
        categories = [c for file in dict.fromkeys(file for file, _ in entries) for c in coco_categories(file)]
        names = tuple(dict.fromkeys(c.name for c in categories)) or (UNNAMED,)
        kinds, notes = true_kinds([coco_image(*entry) for entry in entries], categories)
        points = points_of(categories)
    path = predictions / DETECTIONS
    if path.is_file():
        file = _own_detections(path)
        detected = _of_cases(file, predictions, cases)
        numbers, more = numbers_of(file, names, detected.values())
        kinds = tuple(k for k in kinds if k in found_kinds(file))
        said = said_of_scores(file, detected.values())
        return Coco(names, kinds, (*notes, *more, said), detected, numbers, points, drawn=bool(entries))
    of_name = class_numbers(names, shown)
    scores = _probabilities(predictions, cases)
    return Coco(names, tuple(k for k in kinds if k in KINDS[:2]), (*notes, SCORES_OF["none" if scores is None else "table"]),
                numbers={k: of_name[name] for k, name in enumerate(shown, start=1)}, points=points, scores=scores,
                drawn=bool(entries))


def _own_detections(path: Path) -> DetectionFile:
    """What `predict` wrote beside the label images."""
    try:
        return read_detections(path)
    except ReadError as error:
        raise ReadError(error.what, where=error.where, fix="run the same 'biomask predict' again: it writes the file anew from "
                                                           "detections/, and what is missing there") from error


#: From which score on objects count in published figures.
PUBLISHED = 0.05

#: What orders the objects, as a sentence.
SCORES_OF = {
    "detector": "Scores are the detector's.",
    "table": "The score of an object is its mean probability (objects.csv).",
    "none": "Label images hold no scores: each object has 1, so that precision is that of all objects at once.",
}


def said_of_scores(file: DetectionFile, images: Collection[DetectedImage]) -> str:
    """What orders a detector's objects, and whether some are missing that published figures count.

    What `predict` recorded beside its file says it, or else the lowest score, which is no proof.
    """
    own = file.path.name == DETECTIONS and not file.bare
    least = recorded_score(file.path.parent, [name_of(i) for i in images]) if own else None
    told = least is not None
    if least is None:
        lowest = min((float(i.scores.min()) for i in images if len(i)), default=0.0)
        least = lowest if lowest >= 2 * PUBLISHED else 0.0  # from 0.05 on, the lowest of few may be some way above
    if least <= PUBLISHED:
        return SCORES_OF["detector"]
    missing = (f"Objects of at most {least:.4g} were not written, so" if told else
               f"The lowest is {least:.4g}: if objects of lower ones were left out,")
    return (f"{SCORES_OF['detector']} {missing} AP may be below what published figures mean, which count from {PUBLISHED} on "
            f"(biomask predict --score {PUBLISHED}).")


def true_kinds(images: Sequence[CocoImage], categories: Sequence[Category]) -> tuple[tuple[CocoKind, ...], tuple[str, ...]]:
    """(what COCO's truth can be compared by, why not by the rest)."""
    kinds, notes = list[CocoKind](["boxes"]), list[str]()
    objects = [o for i in images for o in i.objects]
    alone = next((o for o in objects if not o.segmentation), None)
    if alone is None:
        kinds.append("masks")
    elif any(o.segmentation for o in objects):
        notes.append(f"Masks are not scored: annotation {alone.id} of the truth has a box alone.")
    counts = {len(c.keypoints) for c in categories} - {0}
    if len(counts) == 1:
        kinds.append("keypoints")
    elif counts:
        notes.append(f"Key points are not scored: classes have {' and '.join(map(str, sorted(counts)))} of them.")
    return tuple(kinds), tuple(notes)


def found_kinds(file: DetectionFile) -> tuple[CocoKind, ...]:
    """What all objects of a file have; everything where there is none."""
    there = [i for i in file.images if len(i)]
    return tuple(k for k in KINDS if (file.boxed if k == "boxes" else all(getattr(i, k) is not None for i in there)))


def points_of(categories: Sequence[Category]) -> int:
    """Key points of an object; 0 = none."""
    return max((len(c.keypoints) for c in categories), default=0)


def numbers_of(file: DetectionFile, names: Sequence[str],
               images: Collection[DetectedImage]) -> tuple[dict[int, int], tuple[str, ...]]:
    """(from ids of categories to classes of the truth, what counts nowhere). Raises LabelsError where no class is in both."""
    used = {int(c) for i in images for c in i.categories}
    strange = used - {c.id for c in file.categories}
    if strange:
        raise ReadError(f"has objects of category {min(strange)}, which it does not list", where=file.path)
    there = [c for c in file.categories if c.id is not None]
    try:
        found = class_numbers(names, [c.name for c in there])
    except LabelsError as error:
        raise LabelsError(error.what, where=file.path, fix=error.fix) from error
    none = [c for c in there if not found[c.name] and c.id in used]
    count = sum(int((i.categories == c.id).sum()) for i in images for c in none)
    note = f"{count:,} objects are of classes that the truth does not have, and count nowhere: {', '.join(c.name for c in none)}."
    return {c.id: found[c.name] for c in there if c.id is not None}, (note,) if none else ()


def _of_cases(file: DetectionFile, predictions: Path, cases: Sequence[Case]) -> dict[str, DetectedImage]:
    """By the name of the case, which is that of the image or of the file that was predicted."""
    if file.bare:
        raise ReadError("is a bare list of results, which does not say its images", where=file.path,
                        fix="give the file itself, and the COCO file with its ids")
    images = {name_of(i): i for i in file.images}
    made = _made(predictions, cases)
    found = {c.name: images[made[c.name]] for c in cases if made.get(c.name) in images}
    partners, _ = match([c.name for c in cases if c.name not in found], [n for n in images if n not in found])
    found |= {name: images[partner] for name, partner in partners.items()}
    lacking = [c.name for c in cases if c.name not in found]
    if lacking:
        raise PairingError(f"lacks {len(lacking)} of {len(cases)} images: {', '.join(lacking[:5])}", where=file.path,
                           fix="predict again: it does what is missing")
    return found


def name_of(image: DetectedImage) -> str:
    """As results are named: path below the folder of images without suffix."""
    path = Path(image.file_name)
    return path.with_name(stem_of(path)).as_posix()


def _made(predictions: Path, cases: Sequence[Case]) -> dict[str, str]:
    """For each case the name of its prediction."""
    names = dict[Path, str]()
    for folder in (predictions / "masks", predictions / "labels"):
        if folder.is_dir():
            names |= {path: name for name, path in index(folder).items()}
    return {c.name: names[c.objects or c.prediction] for c in cases if (c.objects or c.prediction) in names}


def _probabilities(predictions: Path, cases: Sequence[Case]) -> dict[str, dict[int, float]] | None:
    """Of each object, from objects.csv where `predict` wrote it; None where it says none."""
    home = predictions.parent if predictions.name in ("labels", "masks") else predictions
    made = _made(home, cases)
    names = {partner: name for name, partner in made.items()}
    found: dict[str, dict[int, float]] = {c.name: {} for c in cases}
    try:
        with (home / "objects.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["image"] in names:
                    found[names[row["image"]]][int(row["id"])] = float(row.get("score") or row["probability"])
    except (OSError, KeyError, ValueError, TypeError):
        return None
    return found


def coco_or_why(predictions: Path, cases: Sequence[Case], understood: Understood) -> tuple[Coco | None, str]:
    """(COCO's sides, why there are none)."""
    if understood.encoding.kind != "instances":
        return None, "COCO's table is of objects (--labels instances)"
    if any(len(size) != 2 for size in understood.sizes.values()):
        return None, "COCO's table is of plane images, not of volumes"
    if understood.settings.mask_scale not in (None, 1.0):
        return None, "COCO's table is of labels at the size of their images, without --mask-scale"
    return coco_of(predictions, cases, understood.legend), ""
