"""PNG: grey, RGB, RGBA, palette, 1 to 16 bits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import ReadError
from biomask.image import Image

#: Pixels of the largest PNG that is opened, which is Pillow's limit too; a small file can claim any number.
LARGEST = 178_956_970

#: PNG's colour types.
GREY, PALETTE = 0, 3


def read(path: Path, *, as_labels: bool = False) -> Image:
    """An image "cyx", uint8 or uint16. An alpha channel that hides nothing is dropped.

    as_labels: a palette file gives its indices, 1 channel, instead of colours. Spacing follows the pHYs chunk never:
    it holds the print size.
    """
    kind, bits, (width, height) = _header(path)
    if width * height > LARGEST:
        raise ReadError(f"{width} x {height} pixels is more than a PNG is opened for ({LARGEST:,})", where=path,
                        fix="save it as a tiled TIFF")
    if kind == PALETTE and as_labels:
        return Image(_palette_indices(path)[None], "cyx", path.stem)
    array = _channels_first(_decode(path), path)
    if kind == GREY and bits in (2, 4) and as_labels:
        array = array // (255 // (2**bits - 1))  # decoders spread few bits over 0..255
    return Image(array, "cyx", path.stem)


def _header(path: Path) -> tuple[int, int, tuple[int, int]]:
    """(colour type, bits a sample, (width, height)) from the first bytes."""
    with path.open("rb") as file:
        start = file.read(26)
    if len(start) < 26 or start[:8] != b"\x89PNG\r\n\x1a\n" or start[12:16] != b"IHDR":
        raise ReadError("is damaged or not a .png file (no PNG header)", where=path)
    return start[25], start[24], (int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big"))


def _palette_indices(path: Path) -> npt.NDArray[np.uint8]:
    """(Y, X). Pillow, since imagecodecs turns indices into their colours."""
    from PIL import Image as Pillow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # `read` has looked at the size
        with Pillow.open(path) as file:
            return np.asarray(file)


def _decode(path: Path) -> npt.NDArray[Any]:
    """(Y, X) or (Y, X, C). imagecodecs, since Pillow reduces 16-bit colour to 8 bits."""
    import imagecodecs

    array = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    return array.astype(np.uint8) * 255 if array.dtype == np.bool_ else array


def _channels_first(array: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if array.ndim == 2:
        return array[None]
    planes = np.moveaxis(array, -1, 0)
    return np.ascontiguousarray(without_alpha(planes, path) if len(planes) in (2, 4) else planes)


def without_alpha(planes: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """(C + 1, …) → (C, …): the last plane, transparency, dropped. Raises ReadError where it hides something."""
    opaque = np.iinfo(planes.dtype).max if planes.dtype.kind in "ui" else 1
    if (planes[-1] != opaque).any():
        raise ReadError("has transparent pixels, whose grey value is open", where=path,
                        fix="flatten it onto a background and save it without transparency")
    return planes[:-1]


def write(path: Path, array: npt.NDArray[Any]) -> None:
    """uint8 or uint16 (Y, X) or (3, Y, X) as PNG."""
    import imagecodecs

    pixels = array if array.ndim == 2 else np.moveaxis(array, 0, -1).copy()  # "contiguous" keeps odd strides of one pixel
    path.write_bytes(imagecodecs.png_encode(pixels))
