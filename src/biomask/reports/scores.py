"""What a model file knows of its own scores, in words: on held-out images, before training, what was tried, each fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biomask.data.task import CUT, SCORE
from biomask.instances import Thresholds
from biomask.labels import Legend
from biomask.prediction.maps import Augment, symmetries
from biomask.prediction.refine import CALIBRATION
from biomask.reports.blocks import Block, Cell, Paragraph, Points, Section, Table, show

if TYPE_CHECKING:
    from biomask.checkpoint import ModelHeader

SELECTED = "used to choose the weights, so it flatters a little"


@dataclass(frozen=True)
class Meaning:
    """What the score is by which training chooses weights."""

    name: str
    over: str
    """What it is the mean of, for the headline."""
    rule: str
    """The same in a sentence's end."""


#: By kind of task; as `biomask.training.objective.Score` computes them.
MEANINGS: Mapping[str, Meaning] = {
    "classes": Meaning("Dice", "mean of all classes, background too",
                       "mean over all classes, background included, pooled over the pixels of the validation images"),
    "multilabel": Meaning("Dice", "mean of all structures",
                          "mean over all structures, each pooled over the pixels of the validation images"),
    "instances": Meaning("average precision", "mean over IoU 0.5 … 0.95 and images",
                         "TP / (TP + FP + FN) of objects, mean over the IoU thresholds 0.5, 0.55, … 0.95 and over the validation "
                         "images"),
}

#: What each threshold decides.
THRESHOLDS: Mapping[str, str] = {
    CUT: "a pixel is of the second class where its probability is above this",
    "foreground": "a pixel belongs to an object where the probability of any is above this",
    "valley": "two middles are of different objects where distance less border falls by so much between them",
    "min_size": "objects of fewer pixels are none",
    "sigma": "the middles are smoothed over so many pixels first",
    SCORE: "objects of at most this score are left out",
    "hole": "holes of up to this share of their object are filled",
    **{name: f"coefficient {n} of the cubic by which probabilities are calibrated (Bernstein basis)"
       for n, name in enumerate(CALIBRATION)},
}


def meaning_of(header: ModelHeader) -> Meaning:
    """Of the score of a model."""
    return MEANINGS[header.task.kind]


def scores_blocks(header: ModelHeader) -> tuple[Block, ...]:
    """The scores of the weights that were kept, beside those of the weights that training began with, if it was given some."""
    meaning = meaning_of(header)
    own = {k.removeprefix("validation."): v for k, v in header.scores.items() if k.startswith("validation.")}
    before = {("score" if k == "before.value" else k.removeprefix("before.")): v for k, v in header.scores.items()
              if k.startswith("before.")}
    names = [*own, *(k for k in before if k not in own)]
    if not names:
        return ()
    title = f"{meaning.name[:1].upper()}{meaning.name[1:]}, {meaning.over}"
    words = {"score": title, **({"ap50": "Average precision at an IoU of 0.5"} if header.task.kind == "instances" else {})}
    rows = tuple((words.get(k, f"Dice, {k}"), own.get(k), *((before.get(k),) if before else ())) for k in names)
    columns = ("on the held-out images", "these weights", *(("the weights it began with",) if before else ()))
    first = [_compared(before.get("score"), own.get("score"), meaning)] if before else []
    return (*(Paragraph(text) for text in first), Table(columns, rows, _notes(header, meaning)))


def _notes(header: ModelHeader, meaning: Meaning) -> tuple[str, ...]:
    folds = f"Means over {header.members} folds, each on the images that it held out; " if header.members > 1 else ""
    pooled = ("Dice is that of the pixels of all objects of a class, pooled over the held-out images; the thresholds of objects "
              "were those from before they were tuned." if header.task.kind == "instances" else
              "Pooled over the pixels of the held-out images.")
    pooled = "At the threshold of scores that was best on them." if header.is_detector else pooled
    return (f"{pooled} {folds}{'t' if folds else 'T'}he {meaning.name if folds else 'first score'} was {SELECTED}.",
            "For a figure to publish, score the model with 'biomask evaluate' on images that took no part in training.",
            "– is undefined: it is neither in the truth nor predicted.")


def _compared(before: float | None, now: float | None, meaning: Meaning) -> str:
    if before is None or now is None:
        return "Training began with the weights of another model."
    said = "the weights it began with are kept, for training did not make them better" if now <= before else (
        f"training raised it by {now - before:.3f}")
    return (f"Training began with the weights of another model, whose {meaning.name} on these images was {show(before)}; now it is "
            f"{show(now)}: {said}.")


def fold_section(header: ModelHeader) -> tuple[Section, ...]:
    """Each training of a cross-validation; none of a single training."""
    names = [k for k in header.scores if k.startswith("fold ") and k.endswith(".score")]
    if not names:
        return ()
    meaning = meaning_of(header)
    rows: list[tuple[Cell, ...]] = [(k.removesuffix(".score"), header.scores[k]) for k in names]
    found = [v for k in names if (v := header.scores[k]) is not None]
    if len(found) > 1:
        rows.append((f"mean of {len(found)}", sum(found) / len(found)))
    text = (f"{header.members} networks were trained, each without the images of its fold, by which its weights were chosen. "
            f"The model is their mean: it predicts with all {header.members}, which takes as many times as long.")
    table = Table(("fold", f"{meaning.name}, {meaning.over}"), tuple(rows), (
        f"Of each fold on the images that it held out, {SELECTED}; how much folds differ says how much the score depends on the "
        "images.",))
    return (Section("Folds", (Paragraph(text), table), "folds"),)


def trials_section(header: ModelHeader) -> tuple[Section, ...]:
    """What was tried with the best weights, what was kept of it, and the thresholds; none where nothing was."""
    tried = {k.removeprefix("trial."): v for k, v in header.scores.items() if k.startswith("trial.")}
    rows = (*_copies(header, tried), *_tuned(tried))
    blocks: list[Block] = []
    if rows:
        said = tuple(filter(None, (_copies_said(header, tried), _tuned_said(tried), _found_said(tried))))
        name = meaning_of(header).name
        blocks += [Points(said), Table(("what was tried", name, "kept"), rows, (
            "Tried when training ended, with the weights that were kept, on as many held-out images as there was time for: these "
            "figures can differ from those above, and compare only with each other.",))]
    if header.thresholds:
        blocks += [_thresholds(header)]
    return (Section("How it predicts", tuple(blocks), "predicts"),) if blocks else ()


def heads_section(header: ModelHeader) -> tuple[Section, ...]:
    """What each depth of a UNet++ is worth and costs; none for other networks."""
    if not header.heads:
        return ()
    rows = tuple((f"L{h.depth}" if h.mode == "fast" else "mean of all heads", h.score, h.parameters, h.seconds,
                  f"--depth {h.depth}" if h.mode == "fast" else "(as it is)", "recommended" if h.recommended else "")
                 for h in header.heads)
    table = Table(("depth", meaning_of(header).name, "parameters", "seconds a megapixel", "biomask predict", ""), rows, (
        "L1 … are the networks that are left when what only deeper heads need is removed; they give what these heads give, bit for "
        "bit (Zhou et al. 2018).",
        "Scored on the held-out images with the weights that were kept; timed on the machine that it was trained on.",
        "Recommended is the fastest that none is clearly better than (one-sided paired t-test over images, 95 %).",
        *(("Scores are the mean over folds; parameters and seconds are those of all networks together.",)
          if header.members > 1 else ())))
    return (Section("What each depth is worth", (table,), "depths"),)


def copies_of_header(header: ModelHeader) -> int:
    """How many mirrored or turned copies of an image are predicted, or can be where none are."""
    augmentation, prediction = header.recipe.augmentation, header.recipe.prediction
    kept = prediction.augment or "none"
    mode: Augment = "symmetries" if kept == "none" else kept
    return len(symmetries(mode, header.spatial_dims, augmentation.flip or (), turn=augmentation.rotate90 is not False,
                          rotations=prediction.rotations))


def _copies(header: ModelHeader, tried: Mapping[str, float | None]) -> Sequence[tuple[Cell, ...]]:
    if "none" not in tried:
        return ()
    mean = header.recipe.prediction.augment not in (None, "none")
    rows: list[tuple[Cell, ...]] = [("each image as it is", tried["none"], not mean)]
    if "symmetries" in tried:
        rows.append((f"mean over {copies_of_header(header)} mirrored or turned copies", tried["symmetries"], mean))
    return [(name, value, "yes" if kept else "no") for name, value, kept in rows]


def _copies_said(header: ModelHeader, tried: Mapping[str, float | None]) -> str:
    plain, mean = tried.get("none"), tried.get("symmetries")
    if plain is None or mean is None:
        return ""
    kept = header.recipe.prediction.augment not in (None, "none")
    if kept:
        end = f"the mean is kept (biomask predict with --augment none is {copies_of_header(header)} times as fast)"
    else:
        end = "single ones are kept, for the mean was no better"
    return f"Mean over {copies_of_header(header)} copies {show(mean)}, single predictions {show(plain)}: {end}."


#: What is tuned: the name of its trials, words.
TUNED: Mapping[str, str] = {"cut": "the cut between the two classes", "thresholds": "thresholds of objects"}


def _tuned(tried: Mapping[str, float | None]) -> Sequence[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    if "unrefined" in tried:
        rows.append(("probabilities as the network gives them, without calibration and median filter", tried["unrefined"], "no"))
    for name, what in TUNED.items():
        if f"{name} tuned" in tried:
            if f"{name} before" in tried:
                rows.append((f"{what} as by default", tried[f"{name} before"], "no"))
            rows.append((f"{what} tuned", tried[f"{name} tuned"], "yes"))
    return rows


def _tuned_said(tried: Mapping[str, float | None]) -> str:
    for name, what in TUNED.items():
        before, after = tried.get(f"{name} before"), tried.get(f"{name} tuned")
        if before is not None and after is not None:
            end = "what was tuned is kept" if after > before else "nothing that was tried is better"
            return f"{what[:1].upper()}{what[1:]}: tuned {show(after)}, as by default {show(before)}: {end}."
    return ""


def _found_said(tried: Mapping[str, float | None]) -> str:
    objects, merges, splits = (tried.get(name) for name in ("objects", "merges", "splits"))
    if objects is None or merges is None or splits is None:
        return ""
    return (f"With these thresholds: {merges:,.0f} of the predicted objects cover several true ones (merges), and {splits:,.0f} of "
            f"{objects:,.0f} true ones lie in several pieces (splits).")


def _thresholds(header: ModelHeader) -> Table:
    usual = {CUT: 0.5, **Thresholds().to_dict()}
    usual = {} if header.is_detector else usual
    tuned = "The score was tuned on the held-out images, the least size follows from the objects of training." if (
        header.is_detector) else "They were tuned on the held-out images."
    rows = tuple((name.replace("_", " "), f"{value:g}", f"{usual[name]:g}" if name in usual else None, THRESHOLDS.get(name, ""))
                 for name, value in header.thresholds.items())
    folds = f"Each is the median of {header.members} folds." if header.members > 1 else ""
    return Table(("threshold", "value", "by default", "what it decides"), rows,
                 tuple(filter(None, (tuned, folds))))


def legend_fact(header_kind: str, legend: Legend, where: str = "label files") -> tuple[str, str]:
    """(what the entries of a legend are, their names), with their values where labels hold them."""
    if header_kind == "multilabel":
        return "structures", ", ".join(e.name for e in list(legend)[1:])
    if header_kind == "instances":
        return "classes of objects (value in masks)", ", ".join(f"{e.name} ({e.value})" for e in list(legend)[1:])
    return f"classes (value in {where})", ", ".join(f"{e.name} ({e.value})" for e in legend)
