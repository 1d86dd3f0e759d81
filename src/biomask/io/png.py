"""PNG: grey, colour and palette, 1 to 16 bits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from biomask.errors import ReadError, WriteError
from biomask.stored import Key, Stored

#: Pixels of the largest PNG that is opened, which is Pillow's limit too; a small file can claim any number.
LARGEST = 178_956_970

#: PNG's colour types, and the samples a pixel of each.
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
SAMPLES = {GREY: 1, COLOUR: 3, PALETTE: 3, GREY_ALPHA: 2, COLOUR_ALPHA: 4}


@dataclass(frozen=True)
class Header:
    """What stands before the pixels."""

    height: int
    width: int
    bits: int
    """A sample."""
    colour: int
    """PNG's colour type."""
    palette: npt.NDArray[np.uint8] | None
    """(N, 3)."""
    transparent: bool
    """Whether a colour or entry of the palette is declared transparent."""


def read(path: Path, *, as_labels: bool = False) -> Stored:
    """Axes "YX" or "YXS", uint8 or uint16; grey of 1 bit is 0 and 255.

    as_labels: a palette file gives its indices, instead of their colours, and 2 or 4 bits stay 0..3 or 0..15 instead of
    being spread over 0..255. The pHYs chunk gives no spacing: it holds the print size.
    """
    head = _header(path)
    refuse_bomb(path, head.width, head.height)
    if head.colour == PALETTE and as_labels:
        return Stored(path, (head.height, head.width), np.dtype(np.uint8), "YX", partial(_indices, path), palette=head.palette)
    samples = SAMPLES.get(head.colour, 1) + head.transparent
    shape = (head.height, head.width) if samples == 1 else (head.height, head.width, samples)
    spread = 255 // (2**head.bits - 1) if as_labels and head.colour == GREY and head.bits in (2, 4) else 1
    return Stored(path, shape, np.dtype(np.uint16 if head.bits == 16 else np.uint8), "YXS"[: len(shape)],
                  partial(_decode, path, spread), transparency=samples in (2, 4))


def refuse_bomb(path: Path, width: int, height: int) -> None:
    """Raise ReadError for more pixels than a picture is opened for."""
    if width * height > LARGEST:
        raise ReadError(f"{width} x {height} pixels is more than a {path.suffix} file is opened for ({LARGEST:,})", where=path,
                        fix="save it as a tiled TIFF")


def _header(path: Path) -> Header:
    """Raises ValueError where there is none, and ReadError for an animation."""
    with path.open("rb") as file:
        start = file.read(33)
        if len(start) < 33 or start[:8] != b"\x89PNG\r\n\x1a\n" or start[12:16] != b"IHDR":
            raise ValueError("no PNG header")
        palette, transparent = None, False
        for kind, content in _chunks(file):
            if kind == b"PLTE":
                palette = np.frombuffer(content[: len(content) // 3 * 3], np.uint8).reshape(-1, 3)
            transparent |= kind == b"tRNS"
            if kind == b"acTL" and int.from_bytes(content[:4], "big") > 1:
                raise ReadError(f"is an animation of {int.from_bytes(content[:4], 'big')} pictures", where=path,
                                fix="save each picture as its own file")
    width, height = int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")
    return Header(height, width, start[24], start[25], palette, transparent and start[25] in (GREY, COLOUR, PALETTE))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each small chunk between header and pixels; content is empty for large ones."""
    while len(head := file.read(8)) == 8:
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind in (b"IDAT", b"IEND"):
            return
        content = file.read(size) if size <= 768 else b""
        yield kind, content
        file.seek(size - len(content) + 4, 1)


def _indices(path: Path, key: tuple[Key, ...]) -> npt.NDArray[np.uint8]:
    """(Y, X)[key]. Pillow, since imagecodecs turns indices into their colours."""
    from PIL import Image as Pillow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # `read` has looked at the size
        with Pillow.open(path, formats=["PNG"]) as file:
            return np.asarray(file)[key]


def _decode(path: Path, spread: int, key: tuple[Key, ...]) -> npt.NDArray[Any]:
    """(Y, X)[key] or (Y, X, S)[key]. imagecodecs, since Pillow reduces 16-bit colour to 8 bits."""
    import imagecodecs

    array: npt.NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
    return array[key] if spread == 1 else (array // spread)[key]  # decoders spread few bits over 0..255


def write(path: Path, array: npt.NDArray[Any]) -> None:
    """uint8 or uint16 (Y, X), or (C, Y, X) with 1 to 4 samples, as PNG. Raises WriteError for what a PNG cannot hold."""
    import imagecodecs

    if array.dtype not in (np.uint8, np.uint16):
        raise WriteError(f"a PNG holds no {array.dtype}", where=path, fix="write .tif, which holds every type")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[0] > 4):
        raise WriteError(f"a PNG holds one plane of grey or colours, not an array of shape {array.shape}", where=path,
                         fix="write .tif, which holds channels and depth")
    pixels = array if array.ndim == 2 else np.moveaxis(array, 0, -1).copy()  # "contiguous" keeps odd strides of one pixel
    path.write_bytes(imagecodecs.png_encode(pixels))
