"""What `check` keeps of each pair beside its facts: signatures, and a small picture with the outlines of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.colours import pack, snapped
from biomask.data.fit import WORKING_SIDE, FitSignature, fit_signature
from biomask.data.similar import Signature, signature
from biomask.data.survey import Probe
from biomask.data.truth import Raw
from biomask.image import Image
from biomask.labels import PALETTE, Legend
from biomask.prediction.outlines import draw_outlines
from biomask.recipe import DataSettings

#: Pixels of the longest side of a small picture.
LONGEST = 160

#: Of more images than this masks are laid on images of this side, a quarter of the work: of 256² images in tiles of 128² the
#: same 180 of 180 planted shifts (from 5 pixels), turns and swaps were named. Too few details are left to miss objects by.
MANY_IMAGES, COARSE_SIDE = 1000, 192

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


def prober(settings: DataSettings, count: int) -> Probe:
    """The probe for `count` images."""
    ignore, values = settings.ignore, settings.values
    side = WORKING_SIDE if count <= MANY_IMAGES else COARSE_SIDE
    return lambda image, raws: _probe(image, [_mended(r, values) for r in raws], ignore, side)


def _mended(raw: Raw, values: Sequence[int] | None) -> Raw:
    """With values as they are understood."""
    return raw if values is None or raw.form != "values" else replace(raw, array=snapped(raw.array, values))


def _probe(image: Image, raws: Sequence[Raw], ignore: int | None, side: int) -> Extra:
    """All of it, from one reading."""
    ids = [_ids(raw, ignore) for raw in raws]
    fit = fit_signature(image.array, ids[0], "instances" if ids[0].max(initial=0) > MANY else "classes", side) if ids else None
    picture = small_picture(image, ids)
    return Extra(signature(image.array), fit, _jpeg(picture), picture.shape[1:])


def _ids(raw: Raw, ignore: int | None) -> npt.NDArray[np.int32]:
    """Numbers from 0 = background, or unknown, (*S), whatever the labels are."""
    if raw.form == "fractions":
        return (raw.array >= 0.5).astype(np.int32)
    array = pack(raw.array) if raw.form == "colours" else raw.array
    if ignore is not None and raw.form == "values":
        array = np.where(array == ignore, 0, array)
    if array.dtype.kind in "iu" and array.min(initial=0) >= 0 and array.max(initial=0) < 2**16:
        used = np.bincount(array.ravel()) > 0
        used[0] = True
        return (np.cumsum(used) - 1).astype(np.int32)[array]
    values, ranks = np.unique(array, return_inverse=True)
    return ranks.reshape(array.shape).astype(np.int32) + (0 if 0 in values else 1)


def small_picture(image: Image, ids: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.uint8]:
    """RGB uint8 (3, Y, X), with an outline around each object, class or structure in a colour of its own.

    Of a volume the plane with the most labels, or the middle one.
    """
    z = _fullest(ids, image.size[0]) if image.spatial_dims == 3 else 0
    plane = image.array if image.spatial_dims == 2 else image.array[:, z]
    step = max(1, -(-max(plane.shape[1:]) // LONGEST))
    small = Image(np.ascontiguousarray(plane[:, ::step, ::step]) if step > 1 else plane, "cyx", image.name)
    shown = small if small.channels == 3 else Image(small.array[:1], "cyx", image.name)
    out = draw_outlines(shown, np.zeros(small.size, np.uint8), Legend.of_values([0]))
    for number, labels in enumerate(ids):
        flat = labels if labels.ndim == 2 else labels[z]
        sampled = flat[::step, ::step]
        edge = _edge(sampled)
        colours = np.asarray(PALETTE, np.uint8)[(sampled[edge] - 1 + number) % (len(PALETTE) - 1)]
        out[:, edge] = colours.T
    return out


def _fullest(ids: Sequence[npt.NDArray[np.int32]], depth: int) -> int:
    counts = sum((np.count_nonzero(labels, axis=(1, 2)) for labels in ids), np.zeros(depth, int))
    return int(np.argmax(counts)) if counts.any() else depth // 2


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
