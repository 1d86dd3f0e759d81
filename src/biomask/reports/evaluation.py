"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biomask.evaluation.instances import COUNTS, SCORES
from biomask.labels import Legend
from biomask.reports.blocks import Block, Cell, Fold, Gallery, Headline, Jump, KeyValues, Paragraph, Section, Table, show
from biomask.reports.examples import Example
from biomask.reports.figures import per_image_scores
from biomask.reports.html import render
from biomask.reports.methods import evaluation_methods, methods_section
from biomask.reports.parts import (
    chart,
    class_names,
    class_table,
    ends_of,
    examples_section,
    folded,
    interval_note,
    notes_again,
    per_image_section,
    summary_table,
)
from biomask.reports.quality import (
    PIXELS,
    annotator_section,
    calibration_section,
    counts_section,
    groups_section,
    paired_section,
    titles,
)
from biomask.reports.run import versions
from biomask.words import count

HOW = "In a mean over images each image counts alike; pooled over pixels, large images and large structures count more."

HOW_OBJECTS = "In a mean over images each image counts alike; pooled over objects, images with many of them count more."

#: What scores of ISBI 2012 are called where they are those at one threshold.
AT_A_THRESHOLD: Mapping[str, str] = {"pixel_f": "F of cell pixels", "pixel_error": "pixel error"}

#: Scores of pixels in the table of each image of objects; the others are in the JSON.
OF_PIXELS = ("dice", "hd95", "nsd")


def evaluation_report(evaluation: Mapping[str, Any], examples: Sequence[Example], pictures: Sequence[Gallery] = ()) -> str:
    """HTML page on one evaluation.

    evaluation: the content of the evaluation JSON, also of an older one, which lacks some keys. examples: some of its images.
    pictures: of images that became wrong against other predictions.
    """
    images = count(int(evaluation["n_images"]), "image")
    if evaluation.get("kind") == "detections":
        return _of_results(evaluation, images)
    objects = evaluation.get("kind") == "instances"
    first, *rest = _of_objects(evaluation) if objects else _of_pixels(evaluation)
    shown = (examples_section(examples, over="the images scored here"),) if examples or not objects else ()
    sections = [*paired_section(evaluation, pictures), *annotator_section(evaluation), *shown, *rest, *groups_section(evaluation),
                *calibration_section(evaluation), *measure_sections(evaluation),
                methods_section(evaluation_methods(evaluation, versions())),
                Section("What was compared", (KeyValues(_compared(evaluation)),), "compared")]
    ways = Jump(tuple((s.title, s.anchor) for s in sections))
    return render("Evaluation report", f"{evaluation['predictions']} against {evaluation['truth']}, {images}",
                  [Section("", (first.blocks[0], ways, *first.blocks[1:])), *sections])


def _of_results(evaluation: Mapping[str, Any], images: str) -> str:
    """The page of a file of results: COCO's tables alone, the AP of each kind first."""
    found = evaluation["metrics"]
    headline = Headline(tuple((f"AP, {name.removeprefix('coco_')}", m["pooled"]["ap"], f"at 0.5: {show(m['pooled']['ap50'])}")
                              for name, m in found.items()))
    return render("Evaluation report", f"{evaluation['predictions']} against {evaluation['truth']}, {images}", [
        Section("", (headline,)), *measure_sections(evaluation),
        Section("What was compared", (KeyValues(_compared(evaluation)),), "compared")])


def _of_pixels(evaluation: Mapping[str, Any]) -> tuple[Section, ...]:
    each = "Each structure" if evaluation.get("kind") == "multilabel" else "Each class"
    names = titles(evaluation)
    classes: Mapping[str, Any] = next(iter(evaluation["per_class"].values()), {})
    return (Section("", (score_headline(evaluation), Paragraph(f"{over(evaluation)} {HOW}"), summary_table(evaluation, names))),
            Section(each, (class_table(evaluation, titles(evaluation, classes)),), "classes"),
            per_image_section(evaluation, names))


def _of_objects(evaluation: Mapping[str, Any]) -> tuple[Section, ...]:
    """Headline, scores, counts, classes where there are several, and images."""
    mean = evaluation["mean"]
    headline = Headline(tuple((title, mean[key], interval_note(evaluation, key)) for key, title in (
        ("ap50", "AP at 0.5"), ("ap", "AP, mean over 0.5 … 0.95"), ("f1", "F1 at 0.5"), ("pq", "panoptic quality"))))
    pixels = {k: f"{name} of the pixels" if k in PIXELS else name for k, name in titles(evaluation).items() if k != "pixel_error"}
    names = {**SCORES, **pixels, "count_error": "count error", "count_bias": "count bias"}
    said = f"{objects_line(evaluation)} {HOW_OBJECTS}"
    foreground = {v: c for v, c in evaluation["per_class"].items() if "ap50" in c}
    table = Table(("class", "value", *SCORES.values(), "Dice", *COUNTS.values()), tuple(
        (str(c["name"]), int(v), *(c[k] for k in SCORES), c["dice"], *(c[k] for k in COUNTS)) for v, c in foreground.items()),
        notes_again(evaluation))
    return (Section("", (headline, Paragraph(said), summary_table(evaluation, names))), *counts_section(evaluation),
            Section("Each class", (table,), "classes"), _objects_of_each_image(evaluation))


def _objects_of_each_image(evaluation: Mapping[str, Any]) -> Section:
    rows = evaluation["per_image"]
    images = count(len(rows), "image")
    figure = chart(per_image_scores([str(r["name"]) for r in rows], [r["ap50"] for r in rows], "AP at 0.5"),
                   f"AP at 0.5 of each of {images}, lowest first.",
                   f"AP at an IoU of 0.5 of {images}, lowest first; the line is the mean over these images.")
    pixels = {k: name for k, name in titles(evaluation).items() if k in OF_PIXELS}
    columns = {**SCORES, **COUNTS, "count_error": "count error", **pixels}
    table = Table(("image", *columns.values()), tuple((str(r["name"]), *(r.get(k) for k in columns)) for r in rows),
                  notes_again(evaluation))
    return Section("Each image", (figure, folded(table, "images with all their scores")), "images")


def measure_sections(evaluation: Mapping[str, Any]) -> tuple[Section, ...]:
    """One for each challenge or paper whose scores were asked for."""
    sections = list[Section]()
    for name, found in (evaluation.get("metrics") or {}).items():
        titles_, sure = found["scores"], found["intervals"]
        table = Table(("score", "all images together", "mean over images", "low", "high", "low and high are"), tuple(
            (title, _fine(found["pooled"][key]), _fine(found["mean"][key]), _fine(sure[key]["low"]), _fine(sure[key]["high"]),
             ends_of(sure[key])) for key, title in titles_.items()), tuple(map(str, found["says"])))
        blocks: list[Block] = [table]
        if "thresholds" in found:
            heads = {k: AT_A_THRESHOLD.get(k, titles_.get(k, k)) for k in found["thresholds"][0] if k != "threshold"}
            rows = tuple((f"{r['threshold']:g}", *(_fine(r[k]) for k in heads)) for r in found["thresholds"])
            blocks.append(Fold("At each threshold", (Table(("threshold", *heads.values()), rows),)))
        if len(found.get("per_class") or ()) > 1:
            blocks.append(Fold("Each class", (_coco_classes(found),)))
        each = tuple((str(r["name"]), *(_fine(r[key]) for key in titles_)) for r in found["per_image"])
        blocks.append(Fold(count(len(each), "image"), (Table(("image", *titles_.values()), each),)))
        sections.append(Section(str(found["title"]), tuple(blocks), name))
    return tuple(sections)


def _coco_classes(found: Mapping[str, Any]) -> Table:
    """COCO's scores of each class that the truth has."""
    return Table(("class", "true objects", *found["scores"].values()), tuple(
        (str(c["name"]), int(c["true"]), *(_fine(c[key]) for key in found["scores"]))
        for c in found["per_class"].values() if c["true"]))


def _fine(value: float | None) -> Cell:
    """With more digits where there is little: warping errors are a few in ten thousand."""
    return show(value) if value is None or value == 0 or abs(value) >= 0.01 else f"{value:.6f}"


def objects_line(evaluation: Mapping[str, Any]) -> str:
    """A sentence: how many objects there are, and what went wrong with them."""
    pooled = evaluation["pooled"]
    return (f"{pooled['tp']:,} of {count(pooled['true_objects'], 'object')} were found at an IoU of 0.5; of "
            f"{pooled['predicted_objects']:,} predicted ones {pooled['fp']:,} are none. There are "
            f"{count(pooled['merges'], 'merge')} and {count(pooled['splits'], 'split')}.")


def over(evaluation: Mapping[str, Any]) -> str:
    """A sentence: what the scores were computed over."""
    names = ", ".join(e.name for e in list(Legend.from_json(evaluation["legend"]))[1:])
    images = count(int(evaluation["n_images"]), "image")
    if evaluation.get("kind") == "multilabel":
        return f"Dice and IoU are those of {names}, each on its own, over {images}."
    return f"Dice and IoU are those of {names}, background left out, over {images}."


def _compared(evaluation: Mapping[str, Any]) -> tuple[tuple[str, Cell], ...]:
    alone = ", ".join(str(name) for name in evaluation.get("without_truth") or ())
    ignored, groups = evaluation.get("ignore"), evaluation.get("groups")
    return (("predictions", str(evaluation["predictions"])), ("truth", str(evaluation["truth"])),
            ("images", int(evaluation["n_images"])),
            ("classes (value in label files)", class_names(Legend.from_json(evaluation["legend"]))),
            *((("how the truth was understood", str(evaluation["truth_is"])),) if evaluation.get("truth_is") else ()),
            *((("groups", f"{int(groups['n']):,}: {groups['says']}"),) if groups else ()),
            *((("not judged: pixels of value", int(ignored)),) if ignored is not None else ()),
            *((("left out: predictions without a truth", alone),) if alone else ()))


def score_headline(evaluation: Mapping[str, Any]) -> Headline:
    """The three mean scores with their intervals."""
    mean = evaluation["mean"]
    return Headline((("mean Dice", mean["dice"], interval_note(evaluation, "dice")),
                     ("mean IoU", mean["iou"], interval_note(evaluation, "iou")),
                     ("mean pixel error", mean["pixel_error"], interval_note(evaluation, "pixel_error"))))
