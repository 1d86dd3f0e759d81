"""The report of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from biomask.labels import Legend
from biomask.reports.examples import Example
from biomask.reports.html import Code, Headline, KeyValues, Paragraph, Points, Section, render
from biomask.reports.parts import count, duration, examples_section, learning_section, settings_section
from biomask.reports.scores import SELECTED, fold_section, legend_fact, meaning_of, scores_blocks, trials_section

if TYPE_CHECKING:
    from biomask.checkpoint import ModelHeader
    from biomask.training.resume import LogRow

_NO_VALIDATION = "no image was held out, or training stopped before the first validation"

_PLAIN = ("To save time these pictures were predicted once each; 'biomask predict' takes the mean over mirrored or turned copies, "
          "which is a little better.")


def training_report(header: ModelHeader, history: Sequence[LogRow], *, facts: Mapping[str, str], examples: Sequence[Example],
                    choices: Sequence[str] = (), folds: Sequence[Sequence[LogRow]] = (), plain: bool = False) -> str:
    """HTML page on one training.

    facts: what else is worth knowing, e.g. device and data folder; examples: some of the held-out images; plain: whether they
    were predicted without copies though the model takes the mean of some. choices: what was chosen and why, a sentence each.
    folds: the history of each fold of a cross-validation, which has none of its own.
    """
    over = ("the images held out by a fold, each predicted by the network of that fold alone" if header.members > 1 else
            "the images held out for validation, by which the weights were chosen")
    shown = examples_section(examples, over=over)
    if plain:
        shown = Section(shown.title, (Paragraph(_PLAIN), *shown.blocks))
    sections = (
        Section("", (_headline(header, folds or (history,)), *scores_blocks(header))),
        *fold_section(header),
        *trials_section(header),
        learning_section(history, meaning_of(header), folds),
        shown,
        *((Section("What was chosen, and why", (Points(tuple(choices)),)),) if choices else ()),
        Section("Data", (KeyValues(data_facts(header)), *_hashes(header))),
        settings_section(header.recipe, facts),
    )
    return render("Training report", f"{header.recipe.name} recipe, learning {_learnt(header)}", sections)


def data_facts(header: ModelHeader) -> tuple[tuple[str, str], ...]:
    """What the model was trained on, as its header knows it."""
    spacing = " × ".join(f"{k} {v:g}" for k, v in header.spacing.items()) + " µm" if header.spacing else "unknown"
    names = f" ({', '.join(header.channel_names)})" if header.channel_names else ""
    files = f"{len(header.data_hashes):,}" if header.data_hashes else "not recorded"
    return (legend_fact(header.kind, Legend.from_json(header.legend)),
            ("kind of labels", header.kind), ("dimensions", f"{header.spatial_dims}D"),
            ("channels", f"{header.in_channels}{names}"), ("pixel type", header.dtype or "unknown"),
            ("pixel size", spacing), ("files, images and labels", files))


def _learnt(header: ModelHeader) -> str:
    names = [e.name for e in list(Legend.from_json(header.legend))[1:]]
    if header.kind != "instances":
        return ", ".join(names)
    return "single objects" + (f": {', '.join(names)}" if len(names) > 1 else "")


def _headline(header: ModelHeader, histories: Sequence[Sequence[LogRow]]) -> Headline:
    meaning, score, ends = meaning_of(header), header.scores.get("validation.score"), [h[-1] for h in histories if h]
    note = f"{meaning.over}; {SELECTED}" if score is not None else _NO_VALIDATION
    if score is not None and header.members > 1:
        note = f"mean of {header.members} folds; {note}"
    at_half = header.scores.get("validation.ap50")
    half = (("at an IoU of 0.5", at_half, "TP / (TP + FP + FN) of objects at this one threshold, mean over images"),)
    total = count(max(r.step for r in ends), "step") if ends else "an unknown number"
    time = duration(sum(r.seconds for r in ends)) if ends else None
    return Headline(((f"validation {meaning.name}", score, note),
                     *(half if header.kind == "instances" and at_half is not None else ()),
                     ("weights of step", header.step, f"of {total} done" + (" in the longest fold" if header.members > 1 else "")),
                     ("training time", time, "validation included" + (", all folds" if header.members > 1 else ""))))


def _hashes(header: ModelHeader) -> tuple[Code, ...]:
    lines = "\n".join(f"{digest}  {name}" for name, digest in header.data_hashes.items())
    return (Code(lines, "SHA-256 of every training file"),) if lines else ()
