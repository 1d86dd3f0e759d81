"""The report of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from biomask.labels import Legend
from biomask.reports.examples import Example
from biomask.reports.html import Code, Headline, KeyValues, Section, Table, render
from biomask.reports.parts import (
    SELECTED,
    class_names,
    count,
    duration,
    examples_section,
    learning_section,
    settings_section,
)

if TYPE_CHECKING:
    from biomask.checkpoint import ModelHeader
    from biomask.training.resume import LogRow

_NO_VALIDATION = "no image was held out, or training stopped before the first validation"


def training_report(header: ModelHeader, history: Sequence[LogRow], *, facts: Mapping[str, str],
                    examples: Sequence[Example]) -> str:
    """HTML page on one training.

    facts: what else is worth knowing, e.g. device and data folder; examples: some of the held-out images.
    """
    sections = (
        Section("", (_headline(header, history), *_scores(header))),
        learning_section(history),
        examples_section(examples, over="the images held out for validation, by which the weights were chosen"),
        Section("Data", (KeyValues(data_facts(header)), *_hashes(header))),
        settings_section(header.recipe, facts),
    )
    names = ", ".join(e.name for e in list(Legend.from_json(header.legend))[1:])
    return render("Training report", f"{header.recipe.name} recipe, learning {names}", sections)


def data_facts(header: ModelHeader) -> tuple[tuple[str, str], ...]:
    """What the model was trained on, as its header knows it."""
    spacing = " × ".join(f"{k} {v:g}" for k, v in header.spacing.items()) + " µm" if header.spacing else "unknown"
    names = f" ({', '.join(header.channel_names)})" if header.channel_names else ""
    files = f"{len(header.data_hashes):,}" if header.data_hashes else "not recorded"
    return (("classes (value in label files)", class_names(Legend.from_json(header.legend))),
            ("kind of labels", header.kind), ("dimensions", f"{header.spatial_dims}D"),
            ("channels", f"{header.in_channels}{names}"), ("pixel type", header.dtype or "unknown"),
            ("pixel size", spacing), ("files, images and labels", files))


def _headline(header: ModelHeader, history: Sequence[LogRow]) -> Headline:
    score = header.scores.get("validation.dice")
    note = f"mean of all classes, background too; {SELECTED}" if score is not None else _NO_VALIDATION
    last = history[-1] if history else None
    total = count(last.step, "step") if last else "an unknown number"
    return Headline((("validation Dice", score, note), ("weights of step", header.step, f"of {total} done"),
                     ("training time", duration(last.seconds) if last else None, "validation included")))


def _scores(header: ModelHeader) -> tuple[Table, ...]:
    if not header.scores:
        return ()
    rows = tuple((_score_name(key), value) for key, value in header.scores.items())
    return (Table(("score of these weights", "value"), rows, (
        f"Pooled over the pixels of the held-out images; the mean was {SELECTED}.",
        "For a figure to publish, score the model with 'biomask evaluate' on images that took no part in training.",
        "– is undefined: the class is neither in the truth nor predicted.")),)


def _score_name(key: str) -> str:
    """"validation.dice.cell" in words; other keys as they are."""
    if key == "validation.dice":
        return "validation Dice, mean of all classes"
    return f"validation Dice, {key.removeprefix('validation.dice.')}" if key.startswith("validation.dice.") else key


def _hashes(header: ModelHeader) -> tuple[Code, ...]:
    lines = "\n".join(f"{digest}  {name}" for name, digest in header.data_hashes.items())
    return (Code(lines, "SHA-256 of every training file"),) if lines else ()
