"""A COCO file of results against a COCO file of truth, without label images."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from biomask.data.annotations import coco_files
from biomask.data.mistakes import some
from biomask.data.naming import match
from biomask.errors import BiomaskError, LabelsError, ManyErrors, MissingPathError, PairingError, ReadError, UsageError
from biomask.evaluation.bootstrap import Units
from biomask.evaluation.coco import KINDS, Coco, found_kinds, name_of, numbers_of, points_of, said_of_scores, true_kinds
from biomask.evaluation.coco_table import COCO_NAMES
from biomask.evaluation.coco_truth import UNNAMED, found_by_detector, true_in_coco
from biomask.evaluation.measures import summarise_measures
from biomask.evaluation.options import ALL, EvaluateOptions
from biomask.io.coco import CocoFile, CocoImage, read_coco
from biomask.io.detections import DETECTIONS, DetectedImage, DetectionFile, read_detections
from biomask.io.jsons import read_json
from biomask.metrics import CocoKind, MatchedImage, match_image
from biomask.progress import Progress
from biomask.shapes import Category
from biomask.stored import stem_of


def results_file(predictions: Path) -> Path | None:
    """The file of results that predictions are, or the only thing that a folder of them holds; None where they are images."""
    if predictions.is_file():
        return predictions if predictions.name.lower().endswith((".json", ".json.gz")) else None
    alone = predictions / DETECTIONS
    return alone if alone.is_file() and not any((predictions / name).is_dir() for name in ("labels", "masks")) else None


def score_results(predictions: Path, truth: Path, options: EvaluateOptions, progress: Progress) -> dict[str, Any]:
    """What differs from an evaluation of label images: `n_images`, `truth_is`, `without_truth`, `metrics` with COCO's scores.

    predictions: as `read_detections` takes it; of a bare list the ids are those of the truth. truth: a COCO file, or a folder with
    one. Images whose name or id the truth does not list are named and left out, as everywhere. Raises PairingError where the truth
    has images that a file of results does not list, UsageError for options that need label images, and ManyErrors.
    """
    if options.against is not None or options.annotator is not None or set(options.metrics) - {"coco", ALL}:
        raise UsageError("a file of results has COCO's scores alone: no --against, --annotator or other --metrics",
                         fix="give the folder that predict wrote")
    content = read_coco(_truth_file(truth))
    images = sorted(content.images, key=lambda i: (isinstance(i.id, str), i.id))  # in which order scores are equal, as pycocotools
    file = _read_results(predictions, images)
    found, extra = _by_id(file, images) if file.bare else _by_name(file, images)
    for left_out in content.left_out:
        progress.warn(f"left out of the truth: {left_out}")
    if extra:
        progress.warn(f"{len(extra)} images of {predictions.name} have no truth and are left out: {some(extra)}")
    coco = _sides(file, content, found)
    matched = _matched(images, found, coco, progress)
    chosen = tuple(name for name, kind in COCO_NAMES.items() if kind in coco.kinds)
    metrics = summarise_measures(chosen, matched, Units(seed=options.seed), coco)
    return {"n_images": len(images), "truth_is": "COCO's annotations", "without_truth": extra, "metrics": metrics,
            "names": coco.names}


def _read_results(predictions: Path, images: Sequence[CocoImage]) -> DetectionFile:
    """Raises ReadError, also for a file of labels, whose objects have no scores."""
    try:
        return read_detections(predictions, sizes={i.id: i.size for i in images if i.id is not None})
    except ReadError as error:
        if not error.what.startswith("score of") or _has_scores(read_json(predictions)):
            raise
        fix = f"biomask convert {shlex.quote(str(predictions))} --to labels -o LABELS --images IMAGES, and give LABELS"
        raise ReadError(f"{error.what}: these are labels and no results, of whose scores COCO's average precision is made",
                        where=predictions, fix=fix) from error


def _has_scores(content: Any) -> bool:
    rows = content.get("annotations") if isinstance(content, dict) else content
    return any(isinstance(row, dict) and "score" in row for row in rows or ())


def _truth_file(truth: Path) -> Path:
    """Raises MissingPathError, and PairingError where a folder holds another number of COCO files than one."""
    if not truth.exists():
        raise MissingPathError("no such file or folder", where=truth)
    files = [truth] if truth.is_file() else coco_files(truth)
    if len(files) != 1:
        raise PairingError(f"holds {len(files) or 'no'} COCO files; results are compared with one", where=truth,
                           fix="give the file with the truth, or the folder that predict wrote")
    return files[0]


def _by_id(file: DetectionFile, images: Sequence[CocoImage]) -> tuple[dict[Any, DetectedImage], list[str]]:
    """({id of the image: what was found}, ids that the truth does not have)."""
    known = {i.id for i in images}
    return {i.id: i for i in file.images if i.id in known}, [f"image_id {i.id}" for i in file.images if i.id not in known]


def _by_name(file: DetectionFile, images: Sequence[CocoImage]) -> tuple[dict[Any, DetectedImage], list[str]]:
    """The same for a file that names its images. Raises PairingError where it lacks some."""
    made = {name_of(i): i for i in file.images}
    names = {_stem(i.file_name): i for i in images}
    if len(made) < len(file.images) or len(names) < len(images):
        raise PairingError("has images of the same name but for the suffix", where=file.path)
    partners, _ = match(list(names), list(made), anywhere=True)
    lacking = [name for name in names if name not in partners]
    if lacking:
        raise PairingError(f"lacks {len(lacking)} of the {len(names)} images of the truth: {some(lacking)}", where=file.path,
                           fix="predict them too, or give a truth with only the images that were predicted")
    taken = set(partners.values())
    return {names[n].id: made[p] for n, p in partners.items()}, [n for n in made if n not in taken]


def _stem(file_name: str) -> str:
    path = Path(file_name.replace("\\", "/"))
    return path.with_name(stem_of(path)).as_posix()


def _sides(file: DetectionFile, content: CocoFile, found: Mapping[Any, DetectedImage]) -> Coco:
    """Classes and kinds. Raises LabelsError where the two have no class in common."""
    names = tuple(dict.fromkeys(content.categories)) or (UNNAMED,)
    kinds, notes = true_kinds(content.images, content.described)
    shared: tuple[CocoKind, ...] = tuple(k for k in KINDS if k in kinds and k in found_kinds(file))
    own = replace(file, categories=_of_truth(file, content)) if file.bare else file
    numbers, more = numbers_of(own, names, found.values())
    notes = (*notes, *more, said_of_scores(file, found.values()))
    return Coco(names, shared, notes, numbers=numbers, points=points_of(content.described))


def _of_truth(file: DetectionFile, content: CocoFile) -> tuple[Category, ...]:
    """The categories of a bare list: those of the truth, and whatever else it holds."""
    known = content.described or (Category(UNNAMED, 1),)
    used = {int(c) for i in file.images for c in i.categories}
    return (*known, *(Category(f"category_id {c}", c) for c in sorted(used - {c.id for c in known})))


def _matched(images: Sequence[CocoImage], found: Mapping[Any, DetectedImage], coco: Coco,
             progress: Progress) -> dict[str, dict[str, MatchedImage]]:
    """By the name of the image and of the measure. Raises ManyErrors."""
    numbers = {name: n for n, name in enumerate(coco.names, start=1)}
    named = Counter(i.file_name for i in images)
    matched, errors = dict[str, dict[str, MatchedImage]](), list[BiomaskError]()
    with progress.bar("evaluating") as bar:
        for n, image in enumerate(images):
            try:
                if image.size is None:
                    raise LabelsError("the truth does not say its height and width", where=image.file_name)
                true = true_in_coco(image, numbers, image.size, coco.points, masks="masks" in coco.kinds)
                own = found.get(image.id) or DetectedImage.none(image.size)
                sides = true, found_by_detector(own, coco.numbers, image.size, coco.points)
                row = image.file_name if named[image.file_name] == 1 else f"{image.file_name} (id {image.id})"
                matched[row] = {name: match_image(*sides, kind) for name, kind in COCO_NAMES.items() if kind in coco.kinds}
            except BiomaskError as error:
                errors.append(error if error.where else LabelsError(error.what, where=image.file_name, fix=error.fix))
            bar.update((n + 1) / len(images), image.file_name)
    if errors:
        raise ManyErrors(f"{len(errors)} of {len(images)} images cannot be compared:", errors)
    return matched
