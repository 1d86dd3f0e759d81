"""What a detector found, drawn on the contrast-stretched image: masks, boxes, scores, and skeletons of key points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from biomask.image import Image
from biomask.instances.polygons import Crop
from biomask.labels import PALETTE, Legend
from biomask.prediction.detections import Detections
from biomask.prediction.outlines import stretched

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

#: Pictures are enlarged by a whole factor, at most to this many pixels on the longer side, so that scores can be read.
LARGEST = 1280

#: How much of its colour a mask has.
TINT = 0.4

#: The most pixels of the picture that an outline is wide.
WIDEST = 2

#: Height of letters in pixels of the picture, and of those beside boxes too narrow for them; narrower ones have none.
LETTERS, SMALL_LETTERS = 13, 9

#: Weights of red, green and blue in brightness (ITU-R BT.601): letters are black on bright colours and white on dark ones.
LUMA = (0.299, 0.587, 0.114)

#: A key point below this logit is a guess, and drawn hollow.
SURE = 0.0

Colour = tuple[int, int, int]


def draw_detections(image: Image, found: Detections, legend: Legend,
                    skeleton: Sequence[tuple[int, int]] = ()) -> npt.NDArray[np.uint8]:
    """RGB picture, uint8 (3, zoom · Y, zoom · X), of an image and what was found in it, the surest on top.

    Of several classes each has its colour and its name beside the score; of one, colours tell neighbours apart. A mask tints the
    image and never darkens it; where several lie over each other, the surest one does. skeleton: pairs of key points that a line
    joins, as positions from 0. The zoom is the same for all pictures of a size: see `zoom_of`.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw

    zoom = zoom_of(image.size)
    small = stretched(image)
    several, entries = len(legend) > 2, list(legend)
    colours = [entries[c].colour for c in found.classes] if several else told_apart(found.boxes)
    order = range(len(found) - 1, -1, -1)
    shown = order if found.masked else ()
    bare = np.ones(small.shape[1:], bool)
    for n in reversed(shown):
        _tint(small, found.masks[n], colours[n], bare)
    picture = small.repeat(zoom, axis=1).repeat(zoom, axis=2)
    line = max(1, round(max(picture.shape[1:]) / 1000))
    for n in shown:
        _outline(picture, found.masks[n], colours[n], zoom, min(max(zoom, line), WIDEST))
    canvas = Pillow.fromarray(np.ascontiguousarray(np.moveaxis(picture, 0, -1)))
    draw = ImageDraw.Draw(canvas)
    for n in order:
        x0, y0, x1, y1 = (float(v) * zoom for v in found.boxes[n])
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colours[n], width=line)
    for n in order:
        if found.keypoints is not None:
            _skeleton(draw, found, n, colours[n], skeleton, zoom, line)
    for n in order:
        name = f"{entries[int(found.classes[n])].name} " if several else ""
        _score(draw, f"{name}{found.scores[n]:.2f}", tuple(float(v) * zoom for v in found.boxes[n]), colours[n])
    return np.ascontiguousarray(np.moveaxis(np.asarray(canvas), -1, 0))


def told_apart(boxes: npt.NDArray[np.float32]) -> list[Colour]:
    """A colour for each box (N, 4), another one than those of the boxes before it that overlap it, as far as there are enough."""
    colours = PALETTE[:-1]  # white is lost on bright objects
    chosen = list[int]()
    for n, box in enumerate(boxes):
        others = boxes[:n]
        meet = (np.minimum(others[:, 2:], box[2:]) > np.maximum(others[:, :2], box[:2])).all(axis=1)
        taken = {chosen[i] for i in np.flatnonzero(meet)}
        turns = [(n + step) % len(colours) for step in range(len(colours))]
        chosen.append(next((c for c in turns if c not in taken), turns[0]))
    return [colours[c] for c in chosen]


def zoom_of(size: Sequence[int]) -> int:
    """By how much pictures of images of this size are enlarged.

    >>> zoom_of((256, 320)), zoom_of((1000, 1000)), zoom_of((20000, 30000))
    (4, 1, 1)
    """
    return max(1, LARGEST // max(size))


def _tint(picture: npt.NDArray[np.uint8], mask: Crop, colour: Colour, bare: npt.NDArray[np.bool_]) -> None:
    """Lay a mask over those pixels of the picture that are bare (Y, X), and bare no more after it.

    Each keeps at least its brightness, as far as there is something brighter: dark colours would hide what lies under them.
    """
    pixels, (top, left) = mask
    rows, columns = slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1])
    chosen = pixels & bare[rows, columns]
    under = picture[:, rows, columns][:, chosen].astype(np.float32)
    mixed = under * (1 - TINT) + np.array(colour, np.float32)[:, None] * TINT
    mixed += np.maximum(0, np.tensordot(LUMA, under - mixed, 1))
    picture[:, rows, columns][:, chosen] = np.rint(np.minimum(mixed, 255)).astype(np.uint8)
    bare[rows, columns] &= ~pixels


def _outline(picture: npt.NDArray[np.uint8], mask: Crop, colour: Colour, zoom: int, width: int) -> None:
    """The inner outline of a mask, on an enlarged picture, so many of its pixels wide."""
    pixels, (top, left) = mask
    large = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    window = picture[:, top * zoom:top * zoom + large.shape[0], left * zoom:left * zoom + large.shape[1]]
    inner = large
    for _ in range(width):
        wide = np.pad(inner, 1)
        inner = wide[2:, 1:-1] & wide[:-2, 1:-1] & wide[1:-1, 2:] & wide[1:-1, :-2] & inner
    window[:, large & ~inner] = np.array(colour, np.uint8)[:, None]


def _skeleton(draw: ImageDraw, found: Detections, number: int, colour: Colour, skeleton: Sequence[tuple[int, int]], zoom: int,
              line: int) -> None:
    """Lines between key points, and a dot for each: full where it is sure."""
    if found.keypoints is None:
        return
    points = found.keypoints[number]
    sure = points[:, 2] > 0 if found.keypoint_scores is None else (points[:, 2] > 0) & (found.keypoint_scores[number] > SURE)
    places = [(float(x) * zoom, float(y) * zoom) for x, y, _ in points]
    for a, b in skeleton:
        if points[a, 2] > 0 and points[b, 2] > 0:
            draw.line((*places[a], *places[b]), fill=(0, 0, 0), width=line + 3)
            draw.line((*places[a], *places[b]), fill=colour, width=line + 1)
    radius = line + 2
    for (x, y), there, certain in zip(places, points[:, 2] > 0, sure, strict=True):
        if there:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour if certain else None,
                         outline=(255, 255, 255) if certain else colour)


def _score(draw: ImageDraw, text: str, box: tuple[float, ...], colour: Colour) -> None:
    """The text above a box, or within it at the top of the picture, in letters that are no wider than it; none where that is
    impossible."""
    from PIL import ImageFont

    x0, y0, x1, _ = box
    for size in (LETTERS, SMALL_LETTERS):
        font = ImageFont.load_default(size)
        width = draw.textlength(text, font=font) + 3
        if width <= max(x1 - x0, 2.2 * size):
            break
    else:
        return
    x = min(x0, draw.im.size[0] - width)
    y = y0 - size - 2 if y0 - size - 2 >= 0 else y0
    draw.rectangle((x, y, x + width, y + size + 2), fill=colour)
    draw.text((x + 2, y), text, fill=(0, 0, 0) if sum(w * c for w, c in zip(LUMA, colour, strict=True)) > 128 else (255, 255, 255),
              font=font)
