"""What several reports have in common: sections and blocks made from histories, evaluations and recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biomask.labels import Legend
from biomask.reports.blocks import Block, Cell, Figure, Fold, Paragraph, Section, Table, show
from biomask.reports.examples import Example, example_blocks
from biomask.reports.figures import best_validation, fold_curves, learning_curves, on_dark, per_image_scores
from biomask.reports.scores import MEANINGS, Meaning
from biomask.words import count

if TYPE_CHECKING:
    from biomask.training.resume import LogRow

#: Longer tables are folded.
MOST_ROWS = 40

#: Scores that every evaluation has: key, title.
MEAN_SCORES: Mapping[str, str] = {"dice": "Dice", "iou": "IoU", "pixel_error": "pixel error"}

#: What stands below the tables of scores that follow the one with all rules.
AGAIN = "What – means, and all other rules: below the first table."

#: What an evaluation calls the lowest and highest image, which it gives where an interval would claim too much.
RANGE = "range"


def chart(svg: bytes, alt: str, caption: str) -> Figure:
    """A chart of `figures` for light and dark pages."""
    return Figure(svg, "image/svg+xml", alt, caption, dark=on_dark(svg))


def folded(table: Table, what: str) -> Block:
    """The table, or behind a fold when it is long."""
    return table if len(table.rows) <= MOST_ROWS else Fold(f"{len(table.rows):,} {what}", (table,))


def duration(seconds: float) -> str:
    """Time for people.

    >>> duration(4.2), duration(300), duration(5000)
    ('4.2 s', '5.0 min', '1 h 23 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def learning_section(history: Sequence[LogRow], meaning: Meaning = MEANINGS["classes"],
                     folds: Sequence[Sequence[LogRow]] = ()) -> Section:
    """Curves of the training, or of each fold, with what they were computed over. meaning: of the validation score."""
    histories = [h for h in (folds or (history,)) if h]
    if not histories:
        return Section("How it learnt", (Paragraph("Nothing was logged: the training ended before its first entry."),), "learning")
    name, ends = meaning.name, [h[-1] for h in histories]
    best = [b for h in histories if (b := best_validation(h)) is not None]
    steps = count(max(r.step for r in ends), "optimisation step")
    each = f" for {len(histories)} folds, a line each" if folds else ""
    caption = [f"{steps} in {duration(sum(r.seconds for r in ends))}{each}. Loss: mean over the training patches since the entry "
               "before."]
    if not best:
        caption.append("There is no validation score: no image was held out, or training stopped before the first.")
        alt = "Training loss over optimisation steps."
    else:
        ringed = "the highest of each is ringed" if folds else "the highest is ringed"
        caption.append(f"Validation {name}: {meaning.rule}; {ringed}. The latest weights were kept, unless earlier ones were "
                       "better by more than chance explains: these scores flatter a little.")
        alt = f"Training loss and validation {name} over optimisation steps; best {name} " + "; ".join(
            f"{show(b.validation_score)} at step {b.step}" for b in best) + "."
    drawn = fold_curves(histories, meaning.name) if folds else learning_curves(history, meaning.name)
    return Section("How it learnt", (chart(drawn, alt, " ".join(caption)),), "learning")


def interval_note(evaluation: Mapping[str, Any], metric: str) -> str:
    """The interval of a mean score in words; of few images their range, which is none."""
    interval = (evaluation.get("intervals") or {}).get(metric) or {}
    kind, _, units = str(interval.get("kind")).partition(" over ")
    images = count(int(interval.get("n") or evaluation["n_images"]), "image")
    if interval.get("low") is None or interval.get("high") is None:
        return f"over {images}, no interval"
    limits = f"{show(interval['low'])} to {show(interval['high'])}"
    if kind == RANGE:
        return f"{limits} is the range of {units or images}, too few for an interval"
    return f"{limits} ({kind}, {f'{units} of ' if units else ''}{images})"


def class_table(evaluation: Mapping[str, Any], names: Mapping[str, str] = MEAN_SCORES) -> Table:
    """Scores of each class, as the mean over images and pooled over all pixels. names: of the scores, by key."""
    pooled = evaluation["pooled"].get("per_class") or {}
    rows = tuple((str(c["name"]), int(value), c.get("images"), *(c.get(k) for k in names), _get(pooled, value, "dice"),
                  _get(pooled, value, "iou")) for value, c in evaluation["per_class"].items())
    columns = (f"{name}, mean" if k in MEAN_SCORES else name for k, name in names.items())
    return Table(("class", "value", "images", *columns, "Dice, pooled", "IoU, pooled"), rows, notes_again(evaluation))


def summary_table(evaluation: Mapping[str, Any], names: Mapping[str, str], *, first: bool = True) -> Table:
    """Every metric: mean over images, its interval, and pooled over all pixels. names: of the scores, by key.

    first: whether it is the first table of scores on its page, below which the rules stand.
    """
    rows = []
    for metric, name in names.items():
        interval = (evaluation.get("intervals") or {}).get(metric) or {}
        rows.append((name, evaluation["mean"].get(metric), interval.get("low"), interval.get("high"), ends_of(interval),
                     evaluation["pooled"].get(metric)))
    pooled = "objects" if evaluation.get("kind") == "instances" else "pixels"
    return Table(("metric", "mean over images", "low", "high", "low and high are", f"pooled over {pooled}"), tuple(rows),
                 footnotes(evaluation) if first else notes_again(evaluation))


def per_image_section(evaluation: Mapping[str, Any], names: Mapping[str, str] = MEAN_SCORES) -> Section:
    """Dice of every image as a chart, and all scores in a table."""
    rows = evaluation["per_image"]
    if not rows:
        return Section("Each image", (Paragraph("No image was scored."),), "images")
    named, values = [str(r["name"]) for r in rows], [r["dice"] for r in rows]
    images = count(len(rows), "image")
    over = "structures" if evaluation.get("kind") == "multilabel" else "classes other than background"
    figure = chart(per_image_scores(named, values, "Dice"), f"Dice of each of {images}, lowest first.",
                   f"Dice of {images}, lowest first, each the mean over its {over}; the line is the mean over these images.")
    return Section("Each image", (figure, folded(per_image_table(evaluation, names), "images with all their scores")), "images")


def per_image_table(evaluation: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """One row an image, in the order of the evaluation; one Dice a class where several are not background."""
    foreground = list(Legend.from_json(evaluation["legend"]))[1:]
    several = [(str(e.value), e.name) for e in foreground] if len(foreground) > 1 else []
    columns = ("image", "pixels", *names.values(), *(f"Dice, {name}" for _, name in several))
    rows: list[tuple[Cell, ...]] = [
        (str(r["name"]), r["pixels"], *(r.get(k) for k in names),
         *(_get(r.get("classes") or {}, value, "dice") for value, _ in several)) for r in evaluation["per_image"]]
    return Table(columns, tuple(rows), notes_again(evaluation))


def footnotes(evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    """The rules that hold for every score of an evaluation."""
    return tuple(str(note) for note in evaluation.get("footnotes") or ())


def notes_again(evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the rules stand, for tables that follow the one that has them."""
    return (AGAIN,) if footnotes(evaluation) else ()


def examples_section(examples: Sequence[Example], *, over: str) -> Section:
    """Pictures, worst first."""
    return Section("Examples, the worst first", example_blocks(examples, over=over), "examples")


def class_names(legend: Legend) -> str:
    """Names with their values on disk, in one line."""
    return ", ".join(f"{e.name} ({e.value})" for e in legend)


def ends_of(interval: Mapping[str, Any]) -> str | None:
    """What the two ends of an interval are."""
    kind = interval.get("kind")
    if kind is None or interval.get("low") is None:
        return None
    units = str(kind).partition(" over ")[2]
    return f"lowest and highest {'group' if units else 'image'}" if str(kind).startswith(RANGE) else str(kind)


def _get(table: Mapping[str, Any], value: str, metric: str) -> float | None:
    found = table.get(value) or {}
    return found.get(metric)
