"""PNG: grey, RGB, RGBA, palette, 1 to 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import ReadError
from biomask.image import Image


def read(path: Path, *, as_labels: bool = False) -> Image:
    """An image "cyx", uint8 or uint16. An alpha channel that hides nothing is dropped.

    as_labels: a palette file gives its indices, 1 channel, instead of colours. Spacing follows the pHYs chunk never:
    it holds the print size.
    """
    from PIL import Image as Pillow

    with Pillow.open(path) as file:
        mode, size = file.mode, file.size
        if mode == "P" and as_labels:
            return Image(np.asarray(file)[None], "cyx", path.stem)
    if size[0] * size[1] > (Pillow.MAX_IMAGE_PIXELS or 0) * 2:
        raise ReadError(f"{size[0]} x {size[1]} pixels is beyond what a PNG is opened for", where=path,
                        fix="save it as a tiled TIFF")
    return Image(_channels_first(_decode(path), path), "cyx", path.stem)


def _decode(path: Path) -> npt.NDArray[Any]:
    """(Y, X) or (Y, X, C). imagecodecs, since Pillow reduces 16-bit colour to 8 bits."""
    import imagecodecs

    array = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    return array.astype(np.uint8) * 255 if array.dtype == np.bool_ else array


def _channels_first(array: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if array.ndim == 2:
        return array[None]
    if array.shape[-1] in (2, 4):
        if (array[..., -1] != np.iinfo(array.dtype).max).any():
            raise ReadError("has transparent pixels, whose grey value is open", where=path,
                            fix="flatten it onto a background and save it without transparency")
        array = array[..., :-1]
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))


def write(path: Path, array: npt.NDArray[Any]) -> None:
    """uint8 or uint16 (Y, X) or (3, Y, X) as PNG."""
    import imagecodecs

    pixels = array if array.ndim == 2 else np.ascontiguousarray(np.moveaxis(array, 0, -1))
    path.write_bytes(imagecodecs.png_encode(pixels))
