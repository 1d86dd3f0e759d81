"""`evaluate`: a folder of predictions against a folder of truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biomask.data.encoding import Encoding
from biomask.data.mistakes import some
from biomask.errors import BiomaskError, LabelsError, ManyErrors
from biomask.evaluation.bootstrap import FEWEST, RESAMPLES, Units
from biomask.evaluation.calibration import calibration
from biomask.evaluation.cases import Case, find_annotated, find_cases, find_others
from biomask.evaluation.coco import coco_or_why
from biomask.evaluation.coco_files import results_file, score_results
from biomask.evaluation.groups import groups_of
from biomask.evaluation.instances import FOOTNOTES as INSTANCE_FOOTNOTES
from biomask.evaluation.instances import summarise_instances
from biomask.evaluation.meaning import Recorded, Understood, true_labels, understand_truth
from biomask.evaluation.measures import Fit, chosen_measures, summarise_measures
from biomask.evaluation.options import ALL, EvaluateOptions
from biomask.evaluation.others import legend_of_others, understand_annotated
from biomask.evaluation.overlaps import FOOTNOTES, STRUCTURE_FOOTNOTES, summarise, summarise_structures
from biomask.evaluation.paired import DIFFERENCE, ceiling, paired
from biomask.evaluation.records import are_ids, recorded_channels
from biomask.evaluation.ruler import boundary, ruler_for
from biomask.evaluation.score import Rules, Side, score_image
from biomask.evaluation.scored import ScoredImage
from biomask.io.detections import DETECTIONS
from biomask.labels import Legend
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings
from biomask.words import count

__all__ = ["FOOTNOTES", "SCHEMA_VERSION", "Case", "EvaluateOptions", "Judged", "ScoredImage", "evaluate", "find_cases", "judge",
           "summarise"]

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
    others: tuple[Case, ...] = ()
    """The same images with the other predictions; none where there are no others."""


def evaluate(predictions: str | Path, truth: str | Path, *, settings: DataSettings | None = None,
             names: Mapping[int, str] | None = None, options: EvaluateOptions | None = None, progress: Progress | None = None,
             masks: str | Path | None = None) -> dict[str, Any]:
    """The scores of `judge`."""
    return judge(predictions, truth, settings=settings, names=names, options=options, progress=progress, masks=masks).scores


def judge(predictions: str | Path, truth: str | Path, *, settings: DataSettings | None = None,
          names: Mapping[int, str] | None = None, options: EvaluateOptions | None = None, progress: Progress | None = None,
          masks: str | Path | None = None) -> Judged:
    """Scores of predictions against the truth: of classes, of structures, or of objects, as the truth is.

    predictions: class masks; a folder of masks a structure; or ids of objects: `labels/` where `predict` wrote it; with the
    detections.json of a detector beside them, or such a file alone, also COCO's scores. With
    `probabilities/` beside them, also whether these are calibrated. settings: how the truth is to be read, as in training:
    `ignore` (by default what `predict` recorded), `values`, `mask_scale`, `kind`, `axes`, `z`, `time`, `unlabelled`; and `groups`,
    which images belong together. names: value → class name; by default those that `predict` recorded. options: what is compared
    beside. masks: where the labels are, if not in `truth`. Each truth is read once more to score it, whatever it is compared
    with; one image is held at a time. Undefined scores are None. Raises ManyErrors listing every bad pair.
    """
    progress, settings, options = progress or Silent(), settings or DataSettings(), options or EvaluateOptions()
    if settings.kind is None and are_ids(truth if masks is None else masks):
        settings = settings.model_copy(update={"kind": "instances"})
    results = results_file(Path(predictions))
    if results is not None:
        return _of_results(results, Path(truth), settings, options, progress)
    cases, extra, notes = find_cases(predictions, truth, settings, masks)
    for note in notes:
        progress.say(note)
    if extra:
        progress.warn(f"{count(len(extra), 'prediction')} without truth left out: {', '.join(extra[:5])}"
                      + (" …" if len(extra) > 5 else ""))
    recorded = Recorded.beside(predictions)
    known = dict(names) if names is not None else {e.value: e.name for e in recorded.legend or ()}
    understood = understand_truth(cases, settings, recorded, known, progress)
    kind = understood.encoding.kind if understood.encoding.kind in SUMMARIES else "classes"
    maps = all(c.probabilities is not None for c in cases)
    detector = (Path(predictions) / DETECTIONS).is_file()
    asked = detector or {"coco", ALL} & set(options.metrics)
    coco, why = coco_or_why(Path(predictions), cases, understood) if asked else (None, "")
    if detector and coco is None:
        progress.say(f"{DETECTIONS} is not scored: {why}")
    chosen = chosen_measures((*options.metrics, "coco") if detector and coco else options.metrics,
                             Fit(kind, len(understood.legend), maps, coco.kinds if coco else (), why), progress)
    mine = Side({c.name: c for c in cases}, understood.legend, channels=recorded_channels(predictions), metrics=chosen,
                maps=maps and kind != "instances", coco=coco)
    others = None if options.against is None else _others(options.against, cases, understood, known, progress)
    second = None if options.annotator is None else _annotated(options.annotator, cases, understood, progress)
    rules = Rules(understood.encoding, understood.settings, ruler_for(cases, understood.settings, options.tolerance))
    cases, found = _scored(cases, (mine, others, second), rules, understood, progress)
    if not cases:
        raise LabelsError("the truth holds no labels: with --unlabelled ignore nothing is left", where=truth,
                          fix="leave out --unlabelled")
    groups, says = groups_of(cases, Path(truth), settings.groups, progress)
    scores: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "kind": kind, "n_images": len(cases), "predictions": str(predictions),
        "truth": str(truth), "legend": understood.legend.to_json(), "ignore": understood.settings.ignore,
        "truth_is": understood.encoding.reason, "without_truth": extra,
        "groups": None if groups is None else {"n": len(set(groups.values())), "says": says},
        **_summary(kind, found[0], understood.legend, groups, options.seed), "boundary": boundary(found[0], rules.ruler),
        "calibration": calibration(found[0], kind), "paired": None, "annotator": None,
        "metrics": summarise_measures(chosen, {i.name: i.more for i in found[0]}, _units(found[0], groups, options.seed), coco)}
    if others is not None:
        theirs = {"kind": kind, **_summary(kind, found[1], others.legend, groups, options.seed)}
        scores["paired"] = paired(scores, theirs, str(options.against), options.seed)
    if second is not None:
        theirs = {"kind": kind, **_summary(kind, found[2], second.legend, groups, options.seed)}
        scores["annotator"] = ceiling(scores, theirs, str(options.annotator), options.seed)
    scores["footnotes"] = _footnotes(scores)
    return Judged(scores, tuple(cases), understood.encoding, understood.legend, understood.settings,
                  () if others is None else tuple(c for name, c in others.cases.items() if name in {i.name for i in found[1]}))


def _of_results(file: Path, truth: Path, settings: DataSettings, options: EvaluateOptions, progress: Progress) -> Judged:
    """COCO's scores alone, of a file of results."""
    found = score_results(file, truth, options, progress)
    legend = Legend.of_values(range(len(found["names"]) + 1), dict(enumerate(found.pop("names"), start=1)))
    scores = {"schema_version": SCHEMA_VERSION, "kind": "detections", "predictions": str(file), "truth": str(truth),
              "legend": legend.to_json(), "ignore": None, "groups": None, "per_image": [], "per_class": {}, "mean": {},
              "pooled": {}, "intervals": {}, "boundary": None, "calibration": None, "paired": None, "annotator": None,
              "footnotes": [], **found}
    return Judged(scores, (), Encoding("instances", found["truth_is"], legend, "objects"), legend, settings)


#: Kind of labels: from the scores of images to those of all, and the rules that hold for them.
SUMMARIES: dict[str, tuple[Callable[[Sequence[ScoredImage], Legend, Units], dict[str, Any]], Sequence[str]]] = {
    "classes": (summarise, FOOTNOTES),
    "multilabel": (summarise_structures, STRUCTURE_FOOTNOTES),
    "instances": (summarise_instances, INSTANCE_FOOTNOTES),
}


def _summary(kind: str, images: Sequence[ScoredImage], legend: Legend, groups: Mapping[str, str] | None,
             seed: int) -> dict[str, Any]:
    """The scores of one side. groups: of each image by name, where they are known."""
    return SUMMARIES[kind][0](images, legend, _units(images, groups, seed))


def _units(images: Sequence[ScoredImage], groups: Mapping[str, str] | None, seed: int) -> Units:
    return Units(None if groups is None else tuple(groups[i.name] for i in images), seed)


def _footnotes(scores: Mapping[str, Any]) -> list[str]:
    """The rules behind all figures of an evaluation."""
    units = "images" if scores["groups"] is None else f"{scores['groups']['n']} groups of images ({scores['groups']['says']})"
    sure = (f"Intervals: 95 % bootstrap over {units}, {RESAMPLES} resamples, percentiles widened for few (Hesterberg 2015). With "
            f"fewer than {FEWEST}, the lowest and the highest instead: a range.")
    more = [scores[key]["says"] for key in ("boundary", "calibration") if scores[key] is not None]
    compared = [DIFFERENCE] if scores["paired"] is not None or scores["annotator"] is not None else []
    changed = [f"Images are {scores['paired']['rule']}."] if scores["paired"] is not None else []
    return [*SUMMARIES[scores["kind"]][1], sure, *more, *compared, *changed]


def _others(folder: str | Path, cases: Sequence[Case], understood: Understood, known: Mapping[int, str],
            progress: Progress) -> Side:
    """The predictions of --against."""
    found, lacking = find_others(folder, cases)
    if lacking:
        progress.warn(f"{folder} lacks {len(lacking)} of {len(cases)} images, which are not compared: {some(lacking)}")
    legend = legend_of_others(found, understood, Recorded.beside(folder), known, progress)
    return Side({c.name: c for c in found}, legend)


def _annotated(folder: str | Path, cases: Sequence[Case], understood: Understood, progress: Progress) -> Side:
    """The labels of --annotator."""
    found, lacking = find_annotated(folder, cases, understood.settings)
    if lacking:
        progress.warn(f"{folder} lacks labels of {len(lacking)} of {len(cases)} images, which are not compared: {some(lacking)}")
    own, positions = understand_annotated(found, understood, progress)
    return Side({c.name: c for c in found}, understood.legend, own, positions)


def _scored(cases: Sequence[Case], sides: Sequence[Side | None], rules: Rules, understood: Understood,
            progress: Progress) -> tuple[list[Case], list[list[ScoredImage]]]:
    """(the cases that count, the images of each side). Raises ManyErrors listing every pair that cannot be compared."""
    kept, left, errors = list[Case](), set[str](), list[BiomaskError]()
    found: list[list[ScoredImage]] = [[] for _ in sides]
    with progress.bar("evaluating") as bar:
        for n, case in enumerate(cases):
            try:
                labels = true_labels(case, rules.encoding, understood.sizes[case.name], rules.settings)
            except BiomaskError as error:
                errors.append(error)
                continue
            scored = list[ScoredImage | None]()
            for side in sides:
                try:
                    scored.append(score_image(case.name, labels, side, rules) if side and case.name in side.cases else None)
                except BiomaskError as error:
                    errors.append(error)
                    scored.append(None)
            if rules.settings.unlabelled == "ignore" and scored[0] is not None and not scored[0].known:
                left.add(case.name)
            else:
                kept.append(case)
                for images, one in zip(found, scored, strict=True):
                    images += [one] if one is not None else []
            bar.update((n + 1) / len(cases), case.name)
    if errors:
        raise ManyErrors(f"{len(errors)} of {len(cases)} pairs cannot be compared:", errors)
    if left:
        progress.say(f"{count(len(left), 'image')} without labels left out (--unlabelled ignore): {some(sorted(left))}")
    return kept, found
