"""The report of the demo: what was learnt, how good it is, and how much better than doing without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biomask.reports.blocks import Figure, Headline, KeyValues, Paragraph, Section, Table, show
from biomask.reports.evaluation import HOW, over
from biomask.reports.examples import LONGEST, Example, panels, typical
from biomask.reports.figures import score_bars
from biomask.reports.html import render
from biomask.reports.parts import (
    chart,
    class_table,
    duration,
    examples_section,
    footnotes,
    interval_note,
    learning_section,
    per_image_section,
    summary_table,
)
from biomask.reports.pictures import picture, side_by_side
from biomask.reports.quality import titles
from biomask.reports.training import data_facts, recipe_section
from biomask.words import count

if TYPE_CHECKING:
    from biomask.checkpoint import ModelHeader
    from biomask.training.resume import LogRow

THIS = "this model"


def demo_report(*, header: ModelHeader, history: Sequence[LogRow], evaluation: Mapping[str, Any],
                baselines: Mapping[str, float], examples: Sequence[Example], facts: Mapping[str, str]) -> str:
    """HTML page on one run of the demo.

    evaluation: of this model on images held out from training.
    baselines: mean Dice by name over the same images, computed alike; the evaluated model is the one whose name holds
    "this model", or is added last.
    examples: some of these images. facts: what else is worth knowing.
    """
    images = count(int(evaluation["n_images"]), "held-out image")
    strip = typical_strip(examples)
    sections = (
        Section("", (_headline(header, history, evaluation), *((strip,) if strip else ()))),
        _comparison(evaluation, baselines),
        Section("Scores", (Paragraph(f"{over(evaluation)} {HOW}"), summary_table(evaluation, titles(evaluation), first=False),
                           class_table(evaluation))),
        learning_section(history),
        examples_section(examples, over="the held-out images"),
        per_image_section(evaluation),
        Section("Data", (KeyValues((*data_facts(header), *facts.items())),)),
        recipe_section(header.recipe),
    )
    return render("Demo report", f"synthetic phase-contrast cells; a small U-Net, scored on {images}", sections)


def _headline(header: ModelHeader, history: Sequence[LogRow], evaluation: Mapping[str, Any]) -> Headline:
    mean = evaluation["mean"]
    time = duration(history[-1].seconds) if history else None
    return Headline((("held-out Dice", mean["dice"], interval_note(evaluation, "dice")),
                     ("held-out IoU", mean["iou"], interval_note(evaluation, "iou")),
                     ("training time", time, f"{count(header.step, 'step')} behind these weights")))


def typical_strip(examples: Sequence[Example]) -> Figure | None:
    """The example in the middle, so that the first picture does not flatter: its panels in one PNG."""
    example = typical(examples)
    if example is None:
        return None
    drawn = panels(example)
    captions = ", ".join(caption for caption, _ in drawn)
    strip = side_by_side([rgb for _, rgb in drawn])
    return Figure(picture(strip, LONGEST * len(drawn)), "image/png", f"{example.name}: {captions}",
                  f"{example.name}, Dice {show(example.score)}: the middle one by Dice of "
                  f"{count(len(examples), 'example')}. From left to right: {captions}. "
                  "The colours are explained under Examples.")


def _comparison(evaluation: Mapping[str, Any], baselines: Mapping[str, float]) -> Section:
    named = any(THIS in name for name in baselines)
    scores = dict(baselines) if named else {**baselines, THIS: evaluation["mean"]["dice"]}
    marked = next(n for n, name in enumerate(scores) if THIS in name)
    images = count(int(evaluation["n_images"]), "held-out image")
    figure = chart(score_bars(list(scores), list(scores.values()), "mean Dice", marked=marked),
                   "; ".join(f"{name}: mean Dice {show(score)}" for name, score in scores.items()),
                   f"Mean Dice over the same {images}, computed alike for all; 1 is perfect. Orange: {THIS}.")
    table = Table(("method", "mean Dice"), tuple(scores.items()), footnotes(evaluation))
    return Section("Compared with simpler methods", (figure, table))
