"""`Example`: one image with what was predicted and what is true, shown as pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.image import Image
from biomask.labels import Legend
from biomask.prediction.outlines import draw_outlines
from biomask.reports.figures import ADDED, CONFUSED, MISSED, RIGHT, error_overlay, middle, picture
from biomask.reports.html import Block, ColourKey, Figure, Gallery, Paragraph, show

#: Pixels of a panel's longest side, and examples of a report: a report must fit into a mail.
LONGEST = 384
MOST_EXAMPLES = 12

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Example:
    """One image to show. Arrays hold class ids (*S), as positions in the legend."""

    name: str
    image: Image
    predicted: npt.NDArray[Any] | None
    truth: npt.NDArray[Any] | None
    legend: Legend
    score: float | None
    """Dice of this image; None when unknown or undefined."""
    ignore: npt.NDArray[np.bool_] | None = None
    """bool (*S), True where nothing is known."""


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
    nothing = np.zeros(small.image.size, np.uint8)
    found = [("image", draw_outlines(small.image, nothing, small.legend))]
    if small.truth is not None:
        found.append(("truth", draw_outlines(small.image, small.truth, small.legend)))
    if small.predicted is not None:
        found.append(("prediction", draw_outlines(small.image, small.predicted, small.legend)))
    if small.truth is not None and small.predicted is not None:
        found.append(("errors", error_overlay(small.image, small.truth, small.predicted, small.ignore)))
    times = max(1, longest // max(small.image.size))
    return [(caption, _fewer_levels(rgb).repeat(times, axis=1).repeat(times, axis=2)) for caption, rgb in found]


def example_blocks(examples: Sequence[Example], *, over: str) -> tuple[Block, ...]:
    """The keys to the colours and one gallery each, worst first. over: which images these are, for the text."""
    if not examples:
        return (Paragraph("No example was given."),)
    shown = worst_first(examples)[:MOST_EXAMPLES]
    return (Paragraph(_introduction(shown, len(examples), over)), *_keys(shown), *(_gallery(e) for e in shown))


def legend_key(legend: Legend) -> ColourKey:
    """Names and colours of all classes but the background."""
    return ColourKey(tuple((e.name, e.colour) for e in list(legend)[1:]), "Outlines:")


def _introduction(shown: Sequence[Example], given: int, over: str) -> str:
    count = f"{len(shown)} of {given} examples" if len(shown) < given else f"{given} example{'s' if given > 1 else ''}"
    parts = [f"{count} from {over}."]
    if len([e for e in shown if e.score is not None]) > 1:
        parts.append("The lowest Dice comes first.")
    parts.append("Outlines run along the inner edge of each class.")
    if any(e.truth is not None and e.predicted is not None for e in shown):
        parts.append("The last panel of each row compares prediction and truth pixel by pixel"
                     + ("; darkened pixels were not judged." if any(e.ignore is not None for e in shown) else "."))
    if any(e.image.spatial_dims == 3 for e in shown):
        parts.append("Of a volume the middle slice is shown.")
    if any(e.image.channels not in (1, 3) for e in shown):
        parts.append("Of several channels the first is shown.")
    return " ".join(parts)


def _keys(shown: Sequence[Example]) -> tuple[Block, ...]:
    legend = shown[0].legend
    if not any(e.truth is not None and e.predicted is not None for e in shown):
        return (legend_key(legend),)
    errors = [("right", RIGHT), ("missed", MISSED), ("added, not in the truth", ADDED)]
    if len(legend) > 2:
        errors.append(("taken for another class", CONFUSED))
    return (legend_key(legend), ColourKey(tuple(errors), "Errors:"))


def _gallery(example: Example) -> Gallery:
    drawn = panels(example)
    title = example.name if example.score is None else f"{example.name} · Dice {show(example.score)}"
    figures = tuple(Figure(picture(rgb, LONGEST), "image/png", f"{example.name}: {caption}", caption)
                    for caption, rgb in drawn)
    return Gallery(figures, columns=max(2, len(drawn)), title=title)


def shrunk(example: Example, longest: int) -> Example:
    """The middle slice, reduced by a whole factor: the mean of a block of pixels, the class of its middle."""
    array = np.asarray(example.image.array if example.image.spatial_dims == 2
                       else example.image.array[:, example.image.size[0] // 2])
    step = -(-max(array.shape[1:]) // longest)
    return replace(example, image=Image(_block_means(array, step), "cyx", example.image.name),
                   predicted=_sampled(example.predicted, step), truth=_sampled(example.truth, step),
                   ignore=_sampled(example.ignore, step))


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


def _sampled(array: npt.NDArray[Any] | None, step: int) -> npt.NDArray[Any] | None:
    if array is None:
        return None
    plane = middle(array)
    if min(plane.shape) < step:
        return plane[::step, ::step]
    rows, columns = (n // step for n in plane.shape)
    return plane[step // 2 :: step, step // 2 :: step][:rows, :columns]
