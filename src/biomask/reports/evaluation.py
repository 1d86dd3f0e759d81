"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biomask.evaluation.instances import COUNTS, SCORES
from biomask.labels import Legend
from biomask.reports.examples import Example
from biomask.reports.figures import per_image_scores
from biomask.reports.html import Block, Cell, Headline, KeyValues, Paragraph, Section, Table, render
from biomask.reports.parts import (
    chart,
    class_names,
    class_table,
    count,
    examples_section,
    folded,
    footnotes,
    interval_note,
    per_image_section,
    summary_table,
)

HOW = "In a mean over images each image counts alike; pooled over pixels, large images and large structures count more."

HOW_OBJECTS = "In a mean over images each image counts alike; pooled over objects, images with many of them count more."


def evaluation_report(evaluation: Mapping[str, Any], examples: Sequence[Example]) -> str:
    """HTML page on one evaluation. evaluation: the content of the evaluation JSON; examples: some of its images."""
    images = count(int(evaluation["n_images"]), "image")
    objects = evaluation.get("kind") == "instances"
    sections = (*(_of_objects(evaluation) if objects else _of_pixels(evaluation)),
                *((examples_section(examples, over="the images scored here"),) if examples or not objects else ()),
                Section("What was compared", (KeyValues(_compared(evaluation)),)))
    return render("Evaluation report", f"{evaluation['predictions']} against {evaluation['truth']}, {images}", sections)


def _of_pixels(evaluation: Mapping[str, Any]) -> tuple[Section, ...]:
    each = "Each structure" if evaluation.get("kind") == "multilabel" else "Each class"
    return (Section("", (score_headline(evaluation), Paragraph(f"{over(evaluation)} {HOW}"), summary_table(evaluation))),
            Section(each, (class_table(evaluation),)), per_image_section(evaluation))


def _of_objects(evaluation: Mapping[str, Any]) -> tuple[Section, ...]:
    """Headline, scores, counts, classes where there are several, and images."""
    mean, pooled = evaluation["mean"], evaluation["pooled"]
    headline = Headline(tuple((title, mean[key], interval_note(evaluation, key)) for key, title in (
        ("ap50", "AP at 0.5"), ("ap", "AP, mean over 0.5 … 0.95"), ("f1", "F1 at 0.5"), ("pq", "panoptic quality"))))
    titles = {**SCORES, "dice": "Dice of the pixels", "iou": "IoU of the pixels", "count_error": "count error",
              "count_bias": "count bias"}
    rows = tuple((title, mean[key], evaluation["intervals"][key]["low"], evaluation["intervals"][key]["high"],
                  _ends(evaluation["intervals"][key]), pooled.get(key)) for key, title in titles.items())
    said = f"{objects_line(evaluation)} {HOW_OBJECTS}"
    summary = Table(("metric", "mean over images", "low", "high", "low and high are", "pooled over objects"), rows,
                    footnotes(evaluation))
    blocks: list[Block] = [headline, Paragraph(said), summary]
    classes = evaluation["per_class"]
    foreground = {v: c for v, c in classes.items() if "ap50" in c}
    table = Table(("class", "value", *SCORES.values(), "Dice", *COUNTS.values()), tuple(
        (str(c["name"]), int(v), *(c[k] for k in SCORES), c["dice"], *(c[k] for k in COUNTS)) for v, c in foreground.items()),
        footnotes(evaluation))
    return (Section("", tuple(blocks)), Section("Each class", (table,)), _objects_of_each_image(evaluation))


def _objects_of_each_image(evaluation: Mapping[str, Any]) -> Section:
    rows = evaluation["per_image"]
    images = count(len(rows), "image")
    figure = chart(per_image_scores([str(r["name"]) for r in rows], [r["ap50"] for r in rows], "AP at 0.5"),
                   f"AP at 0.5 of each of {images}, lowest first.",
                   f"AP at an IoU of 0.5 of {images}, lowest first; the line is the mean over these images.")
    columns = {**SCORES, **COUNTS, "count_error": "count error", "dice": "Dice"}
    table = Table(("image", *columns.values()), tuple((str(r["name"]), *(r[k] for k in columns)) for r in rows),
                  footnotes(evaluation))
    return Section("Each image", (figure, folded(table, "images with all their scores")))


def objects_line(evaluation: Mapping[str, Any]) -> str:
    """A sentence: how many objects there are, and what went wrong with them."""
    pooled = evaluation["pooled"]
    return (f"{pooled['tp']:,} of {count(pooled['true_objects'], 'object')} were found at an IoU of 0.5; of "
            f"{pooled['predicted_objects']:,} predicted ones {pooled['fp']:,} are none. There are "
            f"{count(pooled['merges'], 'merge')} and {count(pooled['splits'], 'split')}.")


def _ends(interval: Mapping[str, Any]) -> str | None:
    """What the two ends of an interval are."""
    if interval["low"] is None:
        return None
    return "lowest and highest image" if interval["kind"] == "range" else str(interval["kind"])


def over(evaluation: Mapping[str, Any]) -> str:
    """A sentence: what the scores were computed over."""
    names = ", ".join(e.name for e in list(Legend.from_json(evaluation["legend"]))[1:])
    images = count(int(evaluation["n_images"]), "image")
    if evaluation.get("kind") == "multilabel":
        return f"Dice and IoU are those of {names}, each on its own, over {images}."
    return f"Dice and IoU are those of {names}, background left out, over {images}."


def _compared(evaluation: Mapping[str, Any]) -> tuple[tuple[str, Cell], ...]:
    alone = ", ".join(str(name) for name in evaluation.get("without_truth") or ())
    ignored = evaluation.get("ignore")
    return (("predictions", str(evaluation["predictions"])), ("truth", str(evaluation["truth"])),
            ("images", int(evaluation["n_images"])),
            ("classes (value in label files)", class_names(Legend.from_json(evaluation["legend"]))),
            *((("not judged: pixels of value", int(ignored)),) if ignored is not None else ()),
            *((("left out: predictions without a truth", alone),) if alone else ()))


def score_headline(evaluation: Mapping[str, Any]) -> Headline:
    """The three mean scores with their intervals."""
    mean = evaluation["mean"]
    return Headline((("mean Dice", mean["dice"], interval_note(evaluation, "dice")),
                     ("mean IoU", mean["iou"], interval_note(evaluation, "iou")),
                     ("mean pixel error", mean["pixel_error"], interval_note(evaluation, "pixel_error"))))
