"""`evaluate`: a folder of predictions against a folder of truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biomask.data.encoding import Encoding
from biomask.data.mistakes import some
from biomask.errors import BiomaskError, LabelsError, ManyErrors
from biomask.evaluation.cases import Case, find_cases
from biomask.evaluation.instances import FOOTNOTES as INSTANCE_FOOTNOTES
from biomask.evaluation.instances import score_image, summarise_instances
from biomask.evaluation.meaning import Recorded, true_ids, true_labels, understand_truth
from biomask.evaluation.overlaps import (
    FOOTNOTES,
    STRUCTURE_FOOTNOTES,
    Matrix,
    structure_matrices,
    summarise,
    summarise_structures,
)
from biomask.io import read_label_values
from biomask.labels import Legend
from biomask.metrics import confusion_matrix
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings

__all__ = ["FOOTNOTES", "SCHEMA_VERSION", "Case", "Judged", "evaluate", "find_cases", "judge", "summarise", "true_ids"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Judged:
    """An evaluation, with what it takes to look at its images."""

    scores: dict[str, Any]
    """JSON-ready: design's evaluation schema."""
    cases: tuple[Case, ...]
    """Those that can be looked at as masks of classes: none where predictions are ids alone, or structures that overlap."""
    encoding: Encoding
    legend: Legend
    settings: DataSettings


def evaluate(predictions: str | Path, truth: str | Path, *, settings: DataSettings | None = None,
             names: Mapping[int, str] | None = None, seed: int = 0, progress: Progress | None = None,
             masks: str | Path | None = None) -> dict[str, Any]:
    """The scores of `judge`."""
    return judge(predictions, truth, settings=settings, names=names, seed=seed, progress=progress, masks=masks).scores


def judge(predictions: str | Path, truth: str | Path, *, settings: DataSettings | None = None,
          names: Mapping[int, str] | None = None, seed: int = 0, progress: Progress | None = None,
          masks: str | Path | None = None) -> Judged:
    """Scores of predictions against the truth: of classes, of structures, or of objects, as the truth is.

    predictions: class masks; a folder of masks a structure; or ids of objects: `labels/` where `predict` wrote it.
    settings: how the truth is to be read, as in training: `ignore` (by default what `predict` recorded), `values`,
    `mask_scale`, `kind`, `axes`, `z`, `time`, `unlabelled`. names: value → class name; by default those that `predict`
    recorded. seed: of the bootstrap. masks: where the labels are, if not in `truth`. Undefined scores are None. Raises
    ManyErrors listing every bad pair.
    """
    progress, settings = progress or Silent(), settings or DataSettings()
    cases, extra, notes = find_cases(predictions, truth, settings, masks)
    for note in notes:
        progress.warn(note)
    if extra:
        progress.warn(f"{len(extra)} predictions have no truth and are left out: {', '.join(extra[:5])}"
                      + (" …" if len(extra) > 5 else ""))
    recorded = Recorded.beside(predictions)
    known = dict(names) if names is not None else {e.value: e.name for e in recorded.legend or ()}
    encoding, legend, settings = understand_truth(cases, settings, recorded, known, progress)
    cases, found = _scored(cases, encoding, legend, settings, progress)
    if not cases:
        raise LabelsError("the truth holds no labels: with --unlabelled ignore nothing is left", where=truth,
                          fix="leave out --unlabelled")
    kind = encoding.kind if encoding.kind in ("instances", "multilabel") else "classes"
    summary, footnotes = SUMMARIES[kind]
    scores = {"schema_version": SCHEMA_VERSION, "kind": kind, "n_images": len(cases), "predictions": str(predictions),
              "truth": str(truth), "legend": legend.to_json(), "ignore": settings.ignore, "truth_is": encoding.reason,
              "without_truth": extra, **summary([c.name for c in cases], found, legend, seed=seed), "footnotes": list(footnotes)}
    return Judged(scores, tuple(cases), encoding, legend, settings)


#: Kind of labels: from the scores of images to those of all, and the rules that hold for them.
SUMMARIES: dict[str, tuple[Any, Sequence[str]]] = {
    "classes": (summarise, FOOTNOTES),
    "multilabel": (summarise_structures, STRUCTURE_FOOTNOTES),
    "instances": (summarise_instances, INSTANCE_FOOTNOTES),
}


def _scored(cases: Sequence[Case], encoding: Encoding, legend: Legend, settings: DataSettings,
            progress: Progress) -> tuple[list[Case], list[Any]]:
    """(the cases that count, what the summary takes of each). Raises ManyErrors listing every pair that cannot be compared."""
    kept, found, errors, left = list[Case](), list[Any](), list[BiomaskError](), set[str]()
    with progress.bar("evaluating") as bar:
        for n, case in enumerate(cases):
            try:
                one = _score(case, encoding, legend, settings)
                matrix = one if encoding.kind != "instances" else one.matrix
                if settings.unlabelled == "ignore" and not matrix.any():
                    left.add(case.name)
                else:
                    kept.append(case)
                    found.append(one)
            except BiomaskError as error:
                errors.append(error)
            bar.update((n + 1) / len(cases), case.name)
    if errors:
        raise ManyErrors(f"{len(errors)} of {len(cases)} pairs cannot be compared:", errors)
    if left:
        progress.say(f"{len(left)} images without labels are left out (--unlabelled ignore): {some(sorted(left))}")
    return kept, found


def _score(case: Case, encoding: Encoding, legend: Legend, settings: DataSettings) -> Any:
    """A confusion matrix (K, K); of structures (K, 2, 2); of objects a ScoredImage."""
    if encoding.kind == "instances":
        return score_image(case, encoding, settings)
    prediction = read_label_values(case.prediction)
    if encoding.kind == "multilabel":
        return structure_matrices(true_labels(case, encoding, prediction.size, settings), case)
    truth, unknown = true_ids(case, encoding, prediction.size, settings)
    matrix: Matrix = confusion_matrix(legend.ids(truth), legend.ids(prediction.array[0]), len(legend), unknown)
    return matrix
