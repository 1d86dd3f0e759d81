"""What `check` keeps of each pair beside its facts: signatures, and a small picture with the outlines of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.colours import pack
from biomask.data.fit import FitSignature, fit_signature
from biomask.data.similar import Signature, signature
from biomask.data.truth import Raw
from biomask.image import Image
from biomask.labels import PALETTE, Legend
from biomask.prediction.outlines import draw_outlines

#: Pixels of the longest side of a small picture.
LONGEST = 160

#: More values than this, each in another colour, are objects.
MANY = 8


@dataclass(frozen=True)
class Extra:
    """Of one pair."""

    signature: Signature
    fit: FitSignature | None
    picture: bytes
    """JPEG of the image with the outlines of its labels."""
    size: tuple[int, int]
    """(height, width) of the picture."""


def probe(image: Image, raws: Sequence[Raw]) -> Extra:
    """All of it, from one reading."""
    ids = [_ids(raw) for raw in raws]
    fit = fit_signature(image.array, ids[0], "instances" if ids[0].max(initial=0) > MANY else "classes") if ids else None
    picture = small_picture(image, ids)
    return Extra(signature(image.array), fit, _jpeg(picture), picture.shape[1:])


def _ids(raw: Raw) -> npt.NDArray[np.int32]:
    """Numbers from 0 = background (*S), whatever the labels are."""
    if raw.form == "fractions":
        return (raw.array >= 0.5).astype(np.int32)
    array = pack(raw.array) if raw.form == "colours" else raw.array
    if array.dtype.kind in "iu" and array.min(initial=0) >= 0 and array.max(initial=0) < 2**16:
        used = np.bincount(array.ravel()) > 0
        used[0] = True
        return (np.cumsum(used) - 1).astype(np.int32)[array]
    values, ranks = np.unique(array, return_inverse=True)
    return ranks.reshape(array.shape).astype(np.int32) + (0 if 0 in values else 1)


def small_picture(image: Image, ids: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.uint8]:
    """RGB uint8 (3, Y, X) of the middle slice, with an outline around each object, class or structure in a colour of its own."""
    plane = image.array if image.spatial_dims == 2 else image.array[:, image.size[0] // 2]
    step = max(1, -(-max(plane.shape[1:]) // LONGEST))
    small = Image(np.ascontiguousarray(plane[:, ::step, ::step]) if step > 1 else plane, "cyx", image.name)
    shown = small if small.channels == 3 else Image(small.array[:1], "cyx", image.name)
    out = draw_outlines(shown, np.zeros(small.size, np.uint8), Legend.of_values([0]))
    for number, labels in enumerate(ids):
        flat = labels if labels.ndim == 2 else labels[labels.shape[0] // 2]
        sampled = flat[::step, ::step]
        edge = _edge(sampled)
        colours = np.asarray(PALETTE, np.uint8)[(sampled[edge] - 1 + number) % (len(PALETTE) - 1)]
        out[:, edge] = colours.T
    return out


def _edge(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Labelled pixels with another number to the right or below, or background on any side."""
    edge = np.zeros(ids.shape, bool)
    edge[:-1] |= ids[1:] != ids[:-1]
    edge[:, :-1] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= (ids[1:] != ids[:-1]) & (ids[:-1] == 0)
    edge[:, 1:] |= (ids[:, 1:] != ids[:, :-1]) & (ids[:, :-1] == 0)
    return edge & (ids > 0)


def _jpeg(rgb: npt.NDArray[np.uint8]) -> bytes:
    import imagecodecs

    # A copy, since "contiguous" keeps odd strides of one pixel.
    found: Any = imagecodecs.jpeg_encode(np.moveaxis(rgb, 0, -1).copy(), level=80)
    return bytes(found)
