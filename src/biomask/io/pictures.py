"""JPEG and BMP: 8-bit grey and colour."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.errors import ReadError, WriteError
from biomask.io.png import refuse_bomb
from biomask.stored import Key, Stored

if TYPE_CHECKING:
    from PIL.Image import Image as Opened

#: EXIF's tag of how a camera was held, and what its values ask a viewer to do.
ORIENTATION = 0x0112
TURNS = {2: "mirrored", 3: "turned by 180°", 4: "flipped", 5: "transposed", 6: "turned by 90° clockwise", 7: "transversed",
         8: "turned by 90° counter-clockwise"}

PLAIN = ("make it plain: `mogrify -auto-orient FILE` turns the pixels, for labels drawn on the upright picture; "
         "`exiftool -Orientation=1 -n FILE` leaves them, for labels drawn on it as stored")


def read_jpeg(path: Path, *, as_labels: bool = False) -> Stored:
    """Axes "YX" or "YXS", uint8.

    A picture that asks to be turned is refused: some programs that labels are drawn in do it and others do not, so where
    its pixels are is open. Raises ReadError for that, and for CMYK.
    """
    with _opened(path, "JPEG") as file:
        if file.mode not in ("L", "RGB"):
            raise ReadError(f"has the colours of a printer ({file.mode})", where=path,
                            fix="convert it to RGB (Photoshop: Image › Mode › RGB; ImageMagick: mogrify -colorspace sRGB FILE)")
        turn = TURNS.get(file.getexif().get(ORIENTATION, 1))
        if turn is not None:
            raise ReadError(f"asks viewers to show it {turn} (EXIF orientation), and programs differ in whether they do",
                            where=path, fix=PLAIN)
        shape: tuple[int, ...] = (file.height, file.width) if file.mode == "L" else (file.height, file.width, 3)
    return Stored(path, shape, np.dtype(np.uint8), "YXS"[: len(shape)], partial(_pixels, path, "JPEG", None))


def read_bmp(path: Path, *, as_labels: bool = False) -> Stored:
    """Axes "YX" or "YXS", uint8, or bool for black and white.

    as_labels: a palette file gives its indices, instead of their colours; a palette that is no more than grey never counts.
    """
    with _opened(path, "BMP") as file:
        mode, size = file.mode, (file.height, file.width)
        if mode == "P" and as_labels:
            palette = np.asarray(file.getpalette("RGB"), np.uint8).reshape(-1, 3)
            return Stored(path, size, np.dtype(np.uint8), "YX", partial(_pixels, path, "BMP", None), palette=palette)
    wanted = "RGB" if mode == "P" else mode
    samples = {"1": 1, "L": 1, "RGB": 3, "RGBA": 4}.get(wanted)
    if samples is None:
        raise ReadError(f"holds pixels of an unusual kind ({mode})", where=path, fix="save it as PNG")
    shape: tuple[int, ...] = size if samples == 1 else (*size, samples)
    return Stored(path, shape, np.dtype(bool if mode == "1" else np.uint8), "YXS"[: len(shape)],
                  partial(_pixels, path, "BMP", wanted), transparency=samples == 4)


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[Opened]:
    """The file in Pillow, with its header read; too large ones are refused."""
    from PIL import Image as Pillow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # a hundred megapixels are no bomb
        try:
            file = Pillow.open(path, formats=[kind])
        except Pillow.DecompressionBombError as error:
            raise ReadError(f"has more pixels than a {path.suffix} file is opened for ({error})", where=path,
                            fix="save it as a tiled TIFF") from error
    with file:
        refuse_bomb(path, file.width, file.height)
        yield file


def _pixels(path: Path, kind: str, mode: str | None, key: tuple[Key, ...]) -> npt.NDArray[Any]:
    """(Y, X)[key] or (Y, X, S)[key]; mode: Pillow's name of what a palette is turned into."""
    with _opened(path, kind) as file:
        return np.asarray(file if mode in (None, file.mode) else file.convert(mode))[key]


def write_bmp(path: Path, array: npt.NDArray[Any]) -> None:
    """uint8 (1 or 3, Y, X) as BMP. Raises WriteError for what a BMP cannot hold."""
    from PIL import Image as Pillow

    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] not in (1, 3):
        raise WriteError(f"a BMP holds one plane of 8-bit grey or colours, not {array.dtype} of shape {array.shape}", where=path,
                         fix="write .tif, which holds every type and shape")
    pixels = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(path, format="BMP")
