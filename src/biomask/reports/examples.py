"""`Example`: one image with what was predicted and what is true, shown as pictures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from biomask.image import Image
from biomask.labels import Legend
from biomask.metrics import confusion_matrix, count_overlaps, match_overlaps, mean, overlap
from biomask.prediction.outlines import draw_outlines, stretched
from biomask.reports.blocks import Block, ColourKey, Figure, Gallery, Paragraph, Wall, show
from biomask.reports.pictures import (
    ADDED,
    CONFUSED,
    MISSED,
    RIGHT,
    SAME,
    Rgb,
    error_overlay,
    middle,
    object_errors,
    object_outlines,
    picture,
    structure_outlines,
)

#: Pixels of a panel's longest side, and examples of a report: a report must fit into a mail.
LONGEST = 384
MOST_EXAMPLES = 12

#: What the score of an example is, by kind.
METRIC = {"classes": "Dice", "multilabel": "Dice", "instances": "AP at 0.5"}


@dataclass(frozen=True)
class Example:
    """One image to show, with what was predicted and what is true.

    kind        predicted, truth
    classes     class ids (*S), as positions in the legend
    multilabel  0 or 1 (K, *S), one a structure
    instances   ids of objects (*S), 0 = background
    """

    name: str
    image: Image
    predicted: npt.NDArray[Any] | None
    truth: npt.NDArray[Any] | None
    legend: Legend
    score: float | None
    """Dice of this image, of objects AP at an IoU of 0.5; None when unknown or undefined."""
    ignore: npt.NDArray[np.bool_] | None = None
    """bool (*S), True where nothing is known."""
    kind: Literal["classes", "multilabel", "instances"] = "classes"
    predicted_classes: npt.NDArray[Any] | None = None
    """Of instances: class ids (*S); None where there is one class, or it is not known."""
    true_classes: npt.NDArray[Any] | None = None
    pairs: npt.NDArray[Any] | None = None
    """Of instances: (N, 2) ids of a true and a predicted object that are the same; None = to be found in what is shown."""
    other_class: npt.NDArray[Any] | None = None
    """Of instances: true ids of pairs whose classes differ."""
    note: str = ""
    """What was found, in a few words."""

    @property
    def judged(self) -> bool:
        """Whether prediction and truth can be compared."""
        return self.truth is not None and self.predicted is not None


def compared(example: Example) -> Example:
    """The example with its score, and what becomes of its objects, found in the whole image or volume before it is shrunk."""
    truth, predicted, ignore = example.truth, example.predicted, example.ignore
    if truth is None or predicted is None:
        return example
    if example.kind == "classes":
        matrix = confusion_matrix(truth, predicted, len(example.legend), ignore)
        return replace(example, score=mean(overlap(matrix).dice[1:]))
    if example.kind == "multilabel":
        each = [overlap(confusion_matrix(t, p, 2, ignore)).dice[1] for t, p in zip(truth, predicted, strict=True)]
        return replace(example, score=mean(each))
    found = match_overlaps(count_overlaps(truth, predicted, ignore), SAME)
    total, true = found.tp + found.fp + found.fn, found.tp + found.fn
    parts = [f"{found.tp:,} of {true:,} object{'' if true == 1 else 's'} found", f"{found.fp:,} added"]
    parts += [f"{n:,} {what}{'' if n == 1 else 's'}" for n, what in ((found.merges, "merge"), (found.splits, "split")) if n]
    return replace(example, score=found.tp / total if total else None, pairs=found.pairs, note=", ".join(parts),
                   other_class=_other_class(example, found.pairs))


def _other_class(example: Example, pairs: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """True ids of pairs whose classes differ; None where classes are not known."""
    if example.truth is None or example.predicted is None or example.true_classes is None or example.predicted_classes is None:
        return None
    true, found = (_class_table(ids, classes) for ids, classes in ((example.truth, example.true_classes),
                                                                   (example.predicted, example.predicted_classes)))
    return np.asarray([t for t, p in pairs.tolist() if true[t] != found[p]], np.int64)


def _class_table(ids: npt.NDArray[Any], classes: npt.NDArray[Any]) -> dict[int, int]:
    """The class of each object, of which all pixels have the same."""
    values, first = np.unique(ids, return_index=True)
    return dict(zip(values.tolist(), classes.reshape(-1)[first].tolist(), strict=True))


def worst_first(examples: Sequence[Example]) -> list[Example]:
    """Sorted by score, the lowest first, those without a score last; equal scores by name."""
    return sorted(examples, key=lambda e: (e.score is None, e.score or 0.0, e.name))


def typical(examples: Sequence[Example]) -> Example | None:
    """The example of the median score (the lower of two); None when none has a score."""
    scored = [e for e in worst_first(examples) if e.score is not None]
    return scored[(len(scored) - 1) // 2] if scored else None


def panels(example: Example, longest: int = LONGEST) -> list[tuple[str, Rgb]]:
    """(caption, uint8 (3, Y, X)) of each panel: image, truth, prediction, errors, as far as they are there.

    Large images are shrunk before outlines are drawn, so that these keep their width; small ones are enlarged by
    repeating pixels, so that nothing is invented. 64 levels of brightness halve the size of the file.
    """
    small = shrunk(example, longest)
    found = [("image", stretched(small.image))]
    if small.truth is not None:
        found.append(("truth", _outlined(small, small.truth, small.true_classes)))
    if small.predicted is not None:
        found.append(("prediction", _outlined(small, small.predicted, small.predicted_classes)))
    if small.truth is not None and small.predicted is not None:
        found.append(("errors", error_overlay(small.image, small.truth, small.predicted, small.ignore) if small.kind != "instances"
                      else object_errors(small.image, small.truth, small.predicted, small.ignore, small.pairs, small.other_class)))
    times = max(1, longest // max(small.image.size))
    return [(caption, _fewer_levels(rgb).repeat(times, axis=1).repeat(times, axis=2)) for caption, rgb in found]


def _outlined(example: Example, array: npt.NDArray[Any], classes: npt.NDArray[Any] | None) -> Rgb:
    if example.kind == "multilabel":
        return structure_outlines(example.image, array, example.legend)
    if example.kind == "instances":
        return object_outlines(example.image, array, classes, example.legend)
    return draw_outlines(example.image, array, example.legend)


def example_blocks(examples: Sequence[Example], *, over: str, ordered: bool = False) -> tuple[Block, ...]:
    """The keys to the colours and one gallery each, worst first.

    over: which images these are, for the text. ordered: whether the given order is kept.
    """
    if not examples:
        return (Paragraph("No example was given."),)
    shown = (list(examples) if ordered else worst_first(examples))[:MOST_EXAMPLES]
    galleries = tuple(_gallery(e) for e in shown)
    few = all(g.columns == 2 for g in galleries) and len(galleries) > 1
    return (Paragraph(_introduction(shown, len(examples), over)), *_keys(shown), *((Wall(galleries),) if few else galleries))


def legend_key(legend: Legend) -> ColourKey:
    """Names and colours of all classes but the background."""
    return ColourKey(tuple((e.name, e.colour) for e in list(legend)[1:]), "Outlines:")


def _introduction(shown: Sequence[Example], given: int, over: str) -> str:
    count = f"{len(shown)} of {given} examples" if len(shown) < given else f"{given} example{'s' if given > 1 else ''}"
    kind, classes = shown[0].kind, _by_class(shown)
    parts = [f"{count} from {over}."]
    if len([e for e in shown if e.score is not None]) > 1:
        parts.append(f"The lowest {METRIC[kind]} comes first.")
    parts.append({"classes": "Outlines run along the inner edge of each class.",
                  "multilabel": "Outlines run along the inner edge of each structure; where two coincide the later one is seen.",
                  "instances": "Each object has an outline of its own" + (", in the colour of its class." if classes else
                                                                          "; colours only tell neighbours apart.")}[kind])
    if any(e.judged for e in shown):
        parts.append(_errors_said(kind) + ("; darkened pixels were not judged."
                                           if any(e.ignore is not None for e in shown) else "."))
    if any(e.image.spatial_dims == 3 for e in shown):
        parts.append("Of a volume the middle slice is shown.")
    if any(e.image.channels not in (1, 3) for e in shown):
        parts.append("Of several channels the first is shown.")
    return " ".join(parts)


def _errors_said(kind: str) -> str:
    if kind == "instances":
        return (f"The last panel of each row compares object by object: a predicted one is a true one if their IoU is at least "
                f"{SAME:g}, and AP at {SAME:g} is the share of those among all that are true or predicted")
    return "The last panel of each row compares prediction and truth pixel by pixel"


def _by_class(shown: Sequence[Example]) -> bool:
    """Whether outlines of objects have the colours of classes."""
    return any(e.true_classes is not None or e.predicted_classes is not None for e in shown)


def _keys(shown: Sequence[Example]) -> tuple[Block, ...]:
    first = shown[0]
    names = (legend_key(first.legend),) if first.kind != "instances" or _by_class(shown) else ()
    if not any(e.judged for e in shown):
        return names
    if first.kind == "instances":
        found = [("found", RIGHT), ("missed", MISSED), ("added, not in the truth", ADDED),
                 ("in both, but not the same object" + (", or of another class" if _by_class(shown) else ""), CONFUSED)]
    else:
        found = [("right", RIGHT), ("missed", MISSED), ("added, not in the truth", ADDED)]
        if len(first.legend) > 2:
            confused = "taken for another class" if first.kind == "classes" else "one structure missed, another added"
            found.append((confused, CONFUSED))
    return (*names, ColourKey(tuple(found), "Errors:"))


def _gallery(example: Example) -> Gallery:
    drawn = panels(example)
    score = f"{METRIC[example.kind]}{':' if example.kind == 'instances' else ''} {show(example.score)}"
    title = " · ".join(part for part in (example.name, score if example.score is not None else "", example.note) if part)
    figures = tuple(Figure(picture(rgb, LONGEST), "image/png", f"{example.name}: {caption}", caption)
                    for caption, rgb in drawn)
    return Gallery(figures, columns=max(2, len(drawn)), title=title)


def side_by_side_gallery(these: Example, others: Example) -> Gallery:
    """The same image with two predictions and the errors of both: the other one above, this one below, where three fit a row."""
    mine, theirs = dict(panels(these)), dict(panels(others))
    drawn = (("image", mine["image"]), ("others", theirs["prediction"]), ("errors of the others", theirs["errors"]),
             ("truth", mine["truth"]), ("these", mine["prediction"]), ("errors of these", mine["errors"]))
    figures = tuple(Figure(picture(rgb, LONGEST), "image/png", f"{these.name}: {caption}", caption) for caption, rgb in drawn)
    scores = f"{METRIC[these.kind]} {show(others.score)} before, {show(these.score)} now"
    return Gallery(figures, 3, f"{these.name} · {scores}")


def comparison_gallery(name: str, sides: Mapping[str, Example]) -> Gallery:
    """An image with its truth, and what each side predicted with its errors below."""
    first = next(iter(sides.values()))
    drawn = {side: dict(panels(e)) for side, e in sides.items()}
    one = next(iter(drawn.values()))
    scores = {side: f"{side}: {METRIC[first.kind]} {show(e.score)}" for side, e in sides.items()}
    shown = [("image", one["image"]), *((scores[s], d["prediction"]) for s, d in drawn.items()),
             ("truth", one["truth"]), *((f"errors of {s}", d["errors"]) for s, d in drawn.items())]
    figures = tuple(Figure(picture(rgb, LONGEST), "image/png", f"{name}: {caption}", caption) for caption, rgb in shown)
    return Gallery(figures, 1 + len(sides), name)


def shrunk(example: Example, longest: int) -> Example:
    """The middle slice, reduced by a whole factor: the mean of a block of pixels, the class of its middle."""
    array = np.asarray(example.image.array if example.image.spatial_dims == 2
                       else example.image.array[:, example.image.size[0] // 2])
    step, own = -(-max(array.shape[1:]) // longest), int(example.kind == "multilabel")
    return replace(example, image=Image(_block_means(array, step), "cyx", example.image.name),
                   predicted=_sampled(example.predicted, step, own), truth=_sampled(example.truth, step, own),
                   ignore=_sampled(example.ignore, step), predicted_classes=_sampled(example.predicted_classes, step),
                   true_classes=_sampled(example.true_classes, step))


def _fewer_levels(rgb: Rgb) -> Rgb:
    """64 levels a channel, 0 and 255 among them."""
    return np.asarray(rgb & 0xFC | rgb >> 6, np.uint8)


def _block_means(array: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    """(C, Y, X) to the mean of each step x step block, incomplete ones dropped; as it is for step 1."""
    rows, columns = (max(1, n // step) for n in array.shape[1:])
    if step == 1 or min(array.shape[1:]) < step:
        return array[:, ::step, ::step]
    blocks = array[:, : rows * step, : columns * step].reshape(array.shape[0], rows, step, columns, step)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def _sampled(array: npt.NDArray[Any] | None, step: int, own: int = 0) -> npt.NDArray[Any] | None:
    """The middle of each block of the middle slice; own: axes before the spatial ones."""
    if array is None:
        return None
    plane = middle(array, own)
    if min(plane.shape[-2:]) < step:
        return plane[..., ::step, ::step]
    rows, columns = (n // step for n in plane.shape[-2:])
    return plane[..., step // 2 :: step, step // 2 :: step][..., :rows, :columns]
