"""Pictures of a report: an image with outlines, with its errors tinted, and as PNG.

Tints are told apart by colour-blind readers: Okabe & Ito (2008), but for a violet where theirs is too pale as a tint; the
tests simulate it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.image import Image
from biomask.labels import PALETTE, Legend
from biomask.metrics import match_instances
from biomask.prediction.outlines import draw_outlines, stretched

#: RGB and strength of the tints of errors.
RIGHT, MISSED, ADDED, CONFUSED = (0, 114, 178), (240, 228, 66), (213, 94, 0), (160, 0, 224)
RIGHT_STRENGTH, ERROR_STRENGTH = 0.45, 0.8

#: The IoU from which on a predicted object is the true one.
SAME = 0.5

#: Colours of objects in turn; white is hard to see on bright ones.
NEIGHBOURS = PALETTE[:-1]

Rgb = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Tint = tuple[Mask, tuple[int, int, int], float]


def picture(rgb: npt.NDArray[np.uint8], longest: int = 512) -> bytes:
    """PNG of uint8 (3, Y, X), shrunk so that no side exceeds `longest`; never enlarged, no colour changed.

    Pictures of up to 256 colours are stored with a palette, at half the size.
    """
    from PIL import Image as Pillow

    image = Pillow.fromarray(np.ascontiguousarray(np.moveaxis(rgb, 0, -1)))
    share = longest / max(image.size)
    if share < 1:
        size = max(1, round(image.width * share)), max(1, round(image.height * share))
        image = image.resize(size, Pillow.Resampling.BOX)
    pixels = np.asarray(image).astype(np.uint32)
    colours, index = np.unique(pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2], return_inverse=True)
    if colours.size <= 256:
        image = Pillow.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8)).convert("P")
        image.putpalette(np.stack([colours >> 16, colours >> 8, colours], axis=1).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def side_by_side(panels: Sequence[npt.NDArray[np.uint8]], gap: int = 4) -> npt.NDArray[np.uint8]:
    """Panels uint8 (3, Y, X) in one uint8 (3, max Y, sum of X and gaps), aligned at the top, on white."""
    height = max(p.shape[1] for p in panels)
    width = sum(p.shape[2] for p in panels) + gap * (len(panels) - 1)
    out = np.full((3, height, width), 255, np.uint8)
    left = 0
    for panel in panels:
        out[:, : panel.shape[1], left : left + panel.shape[2]] = panel
        left += panel.shape[2] + gap
    return out


def error_overlay(image: Image, truth: npt.NDArray[Any], predicted: npt.NDArray[Any], ignore: Mask | None = None) -> Rgb:
    """uint8 (3, Y, X): the image in grey, its foreground tinted RIGHT, MISSED, ADDED or CONFUSED (another class).

    truth, predicted: class ids (*S), 0 = background; or structures (K, *S), 0 or 1, of which a pixel is missed where it lacks
    one, added where it has one too many, and confused where both. ignore: bool (*S), True = unknown, shown at half brightness
    and not judged. Of a volume the middle slice.
    """
    own = int(truth.ndim > image.spatial_dims)
    true, found = middle(truth, own), middle(predicted, own)
    if own:
        missed, added = ((true > 0) & (found == 0)).any(axis=0), ((true == 0) & (found > 0)).any(axis=0)
        right = (true > 0).any(axis=0) & ~missed & ~added
    else:
        missed, added = (true > 0) & (true != found), (found > 0) & (true != found)
        right = (true > 0) & (true == found)
    return _tinted(image, [(right, RIGHT, RIGHT_STRENGTH), (missed & ~added, MISSED, ERROR_STRENGTH),
                           (added & ~missed, ADDED, ERROR_STRENGTH), (missed & added, CONFUSED, ERROR_STRENGTH)], ignore)


def object_errors(image: Image, truth: npt.NDArray[Any], predicted: npt.NDArray[Any], ignore: Mask | None = None,
                  pairs: npt.NDArray[Any] | None = None, other_class: npt.NDArray[Any] | None = None) -> Rgb:
    """uint8 (3, Y, X): the image in grey, each true object tinted RIGHT or MISSED, each predicted one that is none ADDED.

    CONFUSED are the pixels that a missed and an added object share, which a wrong cut leaves, and objects of another class.
    truth, predicted: ids of objects (*S). pairs: (N, 2) ids of a true and a predicted object that are the same; None = those
    of this plane with an IoU of at least `SAME`. other_class: true ids of pairs whose classes differ. ignore: as in
    `error_overlay`.
    """
    true, found = middle(truth), middle(predicted)
    if pairs is None:
        pairs = match_instances(true, found, SAME, None if ignore is None else middle(ignore)).pairs
    right, here = np.isin(true, pairs[:, 0]) & (true > 0), np.isin(found, pairs[:, 1]) & (found > 0)
    missed, added = (true > 0) & ~right, (found > 0) & ~here
    other = right & np.isin(true, other_class) if other_class is not None else np.zeros_like(right)
    true_edge, found_edge = edges(image, true), edges(image, found)
    return _tinted(image, [(right, RIGHT, RIGHT_STRENGTH), (right & true_edge, RIGHT, 1.0), (other, CONFUSED, ERROR_STRENGTH),
                           (missed, MISSED, ERROR_STRENGTH), (missed & true_edge, MISSED, 1.0), (added, ADDED, ERROR_STRENGTH),
                           (missed & added, CONFUSED, ERROR_STRENGTH), (added & found_edge, ADDED, 1.0)], ignore)


def _tinted(image: Image, tints: Iterable[Tint], ignore: Mask | None) -> Rgb:
    """The image in grey, tinted; later tints are laid over the grey, not over earlier ones."""
    plane = stretched(image)
    known = np.ones(plane.shape[1:], bool) if ignore is None else ~middle(ignore)
    grey = plane.astype(np.float32).mean(axis=0)
    out = np.broadcast_to(np.where(known, grey, grey / 2), (3, *grey.shape)).copy()
    for where, colour, strength in tints:
        judged = where & known
        out[:, judged] = grey[judged] * (1 - strength) + np.array(colour, np.float32)[:, None] * strength
    return np.asarray(np.floor(out + 0.5), np.uint8)


def edges(image: Image, ids: npt.NDArray[Any]) -> Mask:
    """Pixels (Y, X) of the inner outlines of ids (Y, X), as `draw_outlines` draws them; no colour of its palette is black."""
    return np.asarray(draw_outlines(image, ids, None, onto=np.zeros((3, *ids.shape), np.uint8)).any(axis=0))


def object_outlines(image: Image, ids: npt.NDArray[Any], classes: npt.NDArray[Any] | None, legend: Legend) -> Rgb:
    """uint8 (3, Y, X): the image with the outline of each object, in the colour of its class, or, without classes, in one that
    tells neighbours apart. ids, classes: integers (Y, X), classes as positions in the legend."""
    out, edge = stretched(image), edges(image, ids)
    colours = NEIGHBOURS if classes is None else [e.colour for e in legend]
    number = (ids[edge] - 1) % len(NEIGHBOURS) if classes is None else classes[edge]
    out[:, edge] = np.array(colours, np.uint8)[number].T
    return out


def structure_outlines(image: Image, masks: npt.NDArray[Any], legend: Legend) -> Rgb:
    """uint8 (3, Y, X): the image with the outline of each structure in its colour. masks: 0 or 1, (K, Y, X)."""
    out = stretched(image)
    for mask, entry in zip(masks, legend.entries[1:], strict=True):
        out = draw_outlines(image, (mask > 0).astype(np.uint8), Legend((legend.entries[0], entry)), onto=out)
    return out


def middle(array: npt.NDArray[Any], own: int = 0) -> npt.NDArray[Any]:
    """(Y, X) as it is; of (Z, Y, X) the middle slice. own: axes before these."""
    return array if array.ndim == own + 2 else array[(slice(None),) * own + (array.shape[own] // 2,)]
