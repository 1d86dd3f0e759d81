"""Outlines of a mask drawn on the contrast-stretched image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.image import Image
from biomask.labels import PALETTE, Legend

#: Rows drawn at a time, so that a large image needs no large temporary arrays.
STRIP = 512

#: Values beyond it, with either sign, are shown as if they were it: differences of larger ones are infinite.
HIGHEST = 1e300

#: Least difference of black and white, as a share of the values.
NEAREST = 1e-9


def stretch_limits(image: Image) -> tuple[float, float]:
    """Grey values shown as black and white: the 0.5 and 99.5 percentiles of a grid of pixels, at least a little apart."""
    step = max(1, int((image.array[0].size / 1e6) ** 0.5))
    grid = np.asarray(image.array)[..., ::step, ::step]
    finite = grid[np.isfinite(grid)] if grid.dtype.kind == "f" else grid
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite.astype(np.float64).clip(-HIGHEST, HIGHEST), [0.5, 99.5]))
    # Relative, for the step to the next number grows with the values; above 0 where they are all 0.
    least = max(abs(low), abs(high)) * NEAREST
    return low, max(high, low + max(least, float(np.finfo(np.float64).tiny)))


def draw_outlines(image: Image, ids: npt.NDArray[Any], legend: Legend | None,
                  onto: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
    """RGB picture, uint8 (3, Y, X): the image stretched to 0..255 with each class's inner outline in its colour.

    ids: class ids (*S); without a legend those of objects, each in a colour of the palette. onto: a picture of this image to
    draw on. Three channels are shown as colour, otherwise the first as grey; of a volume the middle slice.
    """
    ids = ids if ids.ndim == 2 else ids[ids.shape[0] // 2]
    out = stretched(image) if onto is None else onto
    colours = np.array(PALETTE[:-1] if legend is None else [e.colour for e in legend], np.uint8)  # white is lost on bright objects
    for top in range(0, ids.shape[0], STRIP):
        rows = slice(top, top + STRIP)
        edge = _inner_edge(ids, top, min(top + STRIP, ids.shape[0]))
        values = ids[rows][edge]
        out[:, rows][:, edge] = colours[values.astype(np.intp) if legend is not None else (values - 1) % len(colours)].T
    return out


def stretched(image: Image) -> npt.NDArray[np.uint8]:
    """The image stretched to 0..255, uint8 (3, Y, X)."""
    low, high = stretch_limits(image)
    pixels = image.array if image.spatial_dims == 2 else image.array[:, image.size[0] // 2]
    shown = pixels if image.channels == 3 else pixels[:1]
    out = np.empty((3, *shown.shape[1:]), np.uint8)
    for top in range(0, shown.shape[1], STRIP):
        rows = slice(top, top + STRIP)
        grey = shown[:, rows].astype(np.float64)
        np.clip(grey, low, high, out=grey)
        grey -= low
        grey /= high - low  # of values near 0 their inverse is infinite
        grey *= 255
        out[:, rows] = np.nan_to_num(grey, copy=False, nan=0.0).astype(np.uint8)
    return out


def _inner_edge(ids: npt.NDArray[Any], top: int, bottom: int) -> npt.NDArray[np.bool_]:
    """Foreground pixels of rows top..bottom with another class among their four neighbours."""
    start, stop = max(0, top - 1), min(ids.shape[0], bottom + 1)
    part = ids[start:stop]
    edge = np.zeros(part.shape, bool)
    vertical, horizontal = part[1:] != part[:-1], part[:, 1:] != part[:, :-1]
    edge[1:] |= vertical
    edge[:-1] |= vertical
    edge[:, 1:] |= horizontal
    edge[:, :-1] |= horizontal
    return (edge & (part > 0))[top - start : bottom - start]
