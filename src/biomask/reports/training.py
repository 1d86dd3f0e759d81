"""The report of a training."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from biomask.labels import Legend
from biomask.reports.blocks import Block, Code, Fold, Headline, Jump, KeyValues, Paragraph, Points, Section, Table
from biomask.reports.card import card_section, model_card
from biomask.reports.examples import METRIC, example_blocks
from biomask.reports.figures import per_image_scores
from biomask.reports.gather import HeldOut
from biomask.reports.html import render
from biomask.reports.methods import methods_section, training_methods
from biomask.reports.parts import chart, duration, learning_section
from biomask.reports.run import PACKAGES, Run, digest
from biomask.reports.scores import (
    SELECTED,
    fold_section,
    heads_section,
    legend_fact,
    meaning_of,
    scores_blocks,
    trials_section,
)
from biomask.reports.sentences import tuned_score
from biomask.words import count

if TYPE_CHECKING:
    from biomask.checkpoint import ModelHeader
    from biomask.recipe import Recipe
    from biomask.training.resume import LogRow

_NO_VALIDATION = "no image was held out, or training stopped before the first validation"

_PLAIN = ("To save time these pictures were predicted once each; 'biomask predict' takes the mean over mirrored or turned copies, "
          "which is a little better.")

_FOLDED = "Each was held out by a fold and predicted by the network of that fold alone."

#: More names than this are folded.
MOST_NAMED = 12


def training_report(header: ModelHeader, history: Sequence[LogRow], run: Run, *, held: HeldOut | None = None,
                    contents: Sequence[Block] = (), folds: Sequence[Sequence[LogRow]] = ()) -> str:
    """HTML page on one training.

    held: held-out images as the model predicts them. contents: what the labels hold, as `contents.content_blocks` gives it.
    folds: the history of each fold of a cross-validation, which has none of its own.
    """
    first = Section("", (_headline(header, folds or (history,)), *scores_blocks(header)))
    sections = [
        *fold_section(header),
        learning_section(history, meaning_of(header), folds),
        held_out_section(header, held or HeldOut()),
        *trials_section(header),
        *heads_section(header),
        *((Section("What was chosen, and why", (Points(run.choices),), "choices"),) if run.choices else ()),
        data_section(header, run, contents),
        methods_section(training_methods(header, run)),
        card_section(model_card(header, run)),
        repeat_section(header, run),
        recipe_section(header.recipe),
    ]
    ways = Jump(tuple((s.title, s.anchor) for s in sections if s.anchor))
    return render("Training report", f"{header.recipe.name} recipe, learning {_learnt(header)}",
                  [Section("", (first.blocks[0], ways, *first.blocks[1:])), *sections])


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
    if score is not None and header.scored:
        note = f"over {count(header.scored, 'held-out image')}; {note}"
    tuned = tuned_score(header.scores)
    after = (("once tuned", tuned, "with the thresholds or the cut that were tuned on held-out images in the end, as it predicts"),)
    at_half = header.scores.get("validation.ap50")
    half = (("at an IoU of 0.5", at_half, "TP / (TP + FP + FN) of objects at this one threshold, mean over images"),)
    total = count(max(r.step for r in ends), "step") if ends else "an unknown number"
    time = duration(sum(r.seconds for r in ends)) if ends else None
    return Headline(((f"validation {meaning.name}", score, note),
                     *(after if tuned is not None else ()),
                     *(half if header.kind == "instances" and at_half is not None else ()),
                     ("weights of step", header.step, f"of {total} done" + (" in the longest fold" if header.members > 1 else "")),
                     ("training time", time, "validation included" + (", all folds" if header.members > 1 else ""))))


def held_out_section(header: ModelHeader, held: HeldOut) -> Section:
    """Scores of the held-out images that were predicted again, and pictures: the worst first."""
    title, anchor = "Held-out images, the worst first", "held-out"
    if not held.examples:
        none = "No held-out image is shown: there is none, or all are too large to predict again."
        return Section(title, (Paragraph(none),), anchor)
    metric = METRIC[header.task.kind]
    some = f"{len(held.scores)} of {count(held.of, 'held-out image')}" if len(held.scores) < held.of else count(
        held.of, "held-out image")
    said = [_FOLDED] if header.members > 1 else []
    said += [_PLAIN] if held.plain else []
    blocks: list[Block] = [Paragraph(" ".join(said))] if said else []
    if len(held.scores) > 1:
        names, values = zip(*held.scores, strict=True)
        blocks.append(chart(per_image_scores(names, values, metric), f"{metric} of each of {some}, lowest first.",
                            f"{metric} of {some}, predicted again for this page; lowest first. {_over(header)}"))
    left = len(held.scores) - len(held.examples)
    which = "" if left <= 0 else ": the worst of them" + (", the middle one and the best" if header.members == 1 else "")
    over = some + which
    return Section(title, (*blocks, *example_blocks(held.examples, over=over)), anchor)


def _over(header: ModelHeader) -> str:
    if header.task.kind == "instances":
        return "TP / (TP + FP + FN) of objects at an IoU of 0.5."
    return f"The mean over its {'structures' if header.task.kind == 'multilabel' else 'classes other than background'}."


def data_section(header: ModelHeader, run: Run, contents: Sequence[Block]) -> Section:
    """What was trained on, what was held out by name, and every file's hash."""
    sizes = run.size_text
    groups = f"{run.groups:,} ({run.groups_by})" if run.groups is not None else "each image is one"
    facts = (("images", run.images or None), ("sizes", sizes), *data_facts(header), ("groups that are never split", groups),
             ("held out", _held_text(header, run)), ("folder", run.data),
             ("SHA-256 of all files", digest(header.data_hashes) if header.data_hashes else None))
    blocks: list[Block] = [KeyValues(tuple((k, v) for k, v in facts if v))]
    if len(run.held_out) > MOST_NAMED:
        blocks.append(Code("\n".join(run.held_out), f"Names of the {len(run.held_out):,} held-out images"))
    lines = "\n".join(f"{value}  {name}" for name, value in sorted(header.data_hashes.items()))
    hashes = (Code(lines, "SHA-256 of every training file"),) if lines else ()
    return Section("Data", (*blocks, *contents, *hashes), "data")


def _held_text(header: ModelHeader, run: Run) -> str:
    if header.members > 1:
        return f"each image once, in {run.held_out_by}" if run.held_out_by else f"each image once, in {header.members} folds"
    if not run.held_out:
        return "none"
    names = f": {', '.join(run.held_out)}" if len(run.held_out) <= MOST_NAMED else ""
    return f"{run.held_out_by}{names}"


def data_facts(header: ModelHeader) -> tuple[tuple[str, str], ...]:
    """What the model was trained on, as its header knows it."""
    spacing = " × ".join(f"{k} {v:g}" for k, v in header.spacing.items()) + " µm" if header.spacing else "unknown"
    names = f" ({', '.join(header.channel_names)})" if header.channel_names else ""
    files = f"{len(header.data_hashes):,}" if header.data_hashes else "not recorded"
    return (legend_fact(header.kind, Legend.from_json(header.legend)),
            ("kind of labels", header.kind), ("dimensions", f"{header.spatial_dims}D"),
            ("channels", f"{header.in_channels}{names}"), ("pixel type", header.dtype or "unknown"),
            ("pixel size", spacing), ("files, images and labels", files))


def repeat_section(header: ModelHeader, run: Run) -> Section:
    """On what it ran, with which versions, and how to do it again."""
    facts = (("command", run.command), ("state", run.state), ("written", run.written), ("seed", str(header.recipe.training.seed)),
             ("device", run.device), ("machine", run.machine), ("SHA-256 of the model", run.sha256))
    versions = tuple((PACKAGES.get(name, name), version) for name, version in run.versions.items())
    budget = f" --steps {run.steps}" if run.steps else ""
    folds = f" --folds {header.members}" if header.members > 1 else ""
    exact = ("On the same machine with the same versions the weights are the same, bit for bit; on another one sums are rounded "
             "differently." if header.recipe.training.steps is not None else "The budget was one of time, which no machine repeats "
             "exactly: the weights will differ a little.")
    how = (f"To train so again: save the recipe below as recipe.yaml, then: biomask train {shlex.quote(run.data or 'DATA')} -o NEW "
           f"--recipe recipe.yaml{budget}{folds}. {exact}")
    blocks: list[Block] = [KeyValues(tuple((k, v) for k, v in facts if v))]
    if versions:
        blocks.append(Table(("software", "version"), versions))
    return Section("How to repeat it", (*blocks, Paragraph(how)), "repeat")


def recipe_section(recipe: Recipe) -> Section:
    """The whole recipe, to copy."""
    named = (("recipe", recipe.name), ("what it is", recipe.title), ("follows", recipe.source))
    known = tuple((k, v) for k, v in named if v)
    choices = (Fold("Where it goes its own way", (Points(recipe.choices),)),) if recipe.choices else ()
    return Section("Settings", (KeyValues(known), *choices, Code(recipe.to_yaml(), "The whole recipe as YAML, to train the same "
                   "again")),
                   "settings")
