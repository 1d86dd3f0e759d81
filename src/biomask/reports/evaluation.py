"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biomask.labels import Legend
from biomask.reports.examples import Example
from biomask.reports.html import Cell, Headline, KeyValues, Paragraph, Section, render
from biomask.reports.parts import (
    class_names,
    class_table,
    count,
    examples_section,
    interval_note,
    per_image_section,
    summary_table,
)

HOW = "In a mean over images each image counts alike; pooled over pixels, large images and large structures count more."


def evaluation_report(evaluation: Mapping[str, Any], examples: Sequence[Example]) -> str:
    """HTML page on one evaluation. evaluation: the content of the evaluation JSON; examples: some of its images."""
    images = count(int(evaluation["n_images"]), "image")
    sections = (
        Section("", (score_headline(evaluation), Paragraph(f"{over(evaluation)} {HOW}"), summary_table(evaluation))),
        Section("Each class", (class_table(evaluation),)),
        per_image_section(evaluation),
        examples_section(examples, over="the images scored here"),
        Section("What was compared", (KeyValues(_compared(evaluation)),)),
    )
    return render("Evaluation report", f"{evaluation['predictions']} against {evaluation['truth']}, {images}", sections)


def over(evaluation: Mapping[str, Any]) -> str:
    """A sentence: what the scores were computed over."""
    names = ", ".join(e.name for e in list(Legend.from_json(evaluation["legend"]))[1:])
    images = count(int(evaluation["n_images"]), "image")
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
