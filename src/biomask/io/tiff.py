"""TIFF: plain, OME, ImageJ, and what microscopes and slide scanners make of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.errors import ReadError
from biomask.io.recent import Recent
from biomask.io.tiff_facts import channel_names, palette_of, partner_files, spacing_of
from biomask.stored import KNOWN_AXES, UNKNOWN, Key, Stored

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

# What tifffile has to say of odd tags is no news to a user; damage raises an error here.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

#: TIFF's code for images whose lowest value is white.
WHITE_IS_ZERO = 0

#: TIFF's codes for extra samples that mean transparency.
ALPHA = (1, 2)

#: TIFF's codes for colours that are neither grey, RGB nor a palette, and what they are.
STRANGE_COLOURS = {5: "the colours of a printer (CMYK)", 8: "CIE L*a*b* colours", 9: "ICC L*a*b* colours", 10: "ITU L*a*b* colours",
                   32803: "the mosaic of a camera's sensor", 32844: "LogL light values", 32845: "LogLuv light values"}

#: TIFF's code for YCbCr colours, and compressions that leave them as they are.
YCBCR, LOSSLESS = 6, (1, 5, 8, 32773, 32946, 34925, 50000)

#: TIFF's codes for JPEG.
JPEG = (6, 7, 33007, 34892)

#: The most bytes that one byte can stand for, by TIFF's code of a compression: none, LZW, deflate, packbits, LZMA, zstd.
RATIOS = {1: 1, 5: 2000, 8: 1100, 32946: 1100, 32773: 66, 34925: 10_000, 50000: 40_000}

#: Files of slide scanners: their first series is the slide; the others show its label and whole.
SLIDES = ("ndpi", "svs", "qpi", "bif", "philips", "avs")


def read(path: Path, *, as_labels: bool = False) -> Stored:
    """Axes as the file names them, "Q" where it does not; the base level of pyramids.

    A palette's indices are kept, since microscopy software colours grey data by one. Where the lowest value is white,
    unsigned images are turned round, so that they are as they are shown; as_labels: values stay as stored.
    Raises ReadError for damage, several images in a file, missing parts, and colours that are not RGB.
    """
    with _opened(path) as (file, series):
        page: TiffPage = series.keyframe
        axes = "".join(a if a in KNOWN_AXES else UNKNOWN for a in series.axes)
        dtype = np.dtype(series.dtype).newbyteorder("=")
        white = int(page.photometric) == WHITE_IS_ZERO and dtype.kind in "bu" and not as_labels
        count = math.prod(n for n, a in zip(series.shape, axes, strict=True) if a in "CS")
        return Stored(path, tuple(series.shape), dtype, axes, partial(_load, path, 2**page.bitspersample - 1 if white else None),
                      spacing_of(file, series), channel_names(file, series, count), palette_of(file, series, count),
                      transparency="S" in axes and any(int(kind) in ALPHA for kind in page.extrasamples))


#: Files whose pages were found, closed.
_FILES = Recent(8)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[TiffFile, TiffPageSeries]]:
    """A file that was checked, and the image in it.

    Finding a page means walking the chain of all, so the walk is kept for the next plane; the file itself is closed
    between, or processes that are forked would share its place.
    """
    file, series = _FILES.get(path, lambda: _walked(path))
    try:
        file.filehandle.open()
        yield file, series
    finally:
        file.close()


def _walked(path: Path) -> tuple[TiffFile, TiffPageSeries]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        _check_chain(file, path)
        _check_partners(file, path)
        series = _choose(file, path)
        _check_page(series.keyframe, path)
        _check_length(file, series, path)
        return file, series


def _check_chain(file: TiffFile, path: Path) -> None:
    """Raise ReadError unless the chain of pages ends inside the file: tifffile would give the pages before the break."""
    pages = len(file.pages)  # walks the chain, and so finds a circle
    where, handle = file.pages.next_page_offset, file.filehandle
    if where is None:  # an index without a chain, as in some microscope formats
        return
    handle.seek(where)
    following = int.from_bytes(handle.read(file.tiff.offsetsize), "little" if file.byteorder == "<" else "big")
    if following:
        raise ReadError(f"is damaged: it breaks off after page {pages}", where=path, fix="copy or export it again")


def _check_partners(file: TiffFile, path: Path) -> None:
    """Raise ReadError where an OME-TIFF names further files that are not beside it: tifffile would read zeros."""
    partners = partner_files(file) if file.is_ome else ()
    missing = sorted(name for name in partners if Path(name).name != name or not path.with_name(name).exists())
    if missing:
        shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise ReadError(f"is one of several files of an image, and {len(missing)} of them are not beside it: {shown}", where=path,
                        fix="put them into its folder; or, if it was renamed, give it back the name that it states")


def _choose(file: TiffFile, path: Path) -> TiffPageSeries:
    """The one image of the file, without thumbnails. Raises ReadError where there are several."""
    if not file.series:
        raise ReadError("holds no images", where=path)
    first = file.series[0]
    series = [first] if first.kind in (*SLIDES, "lsm") else [s for s in file.series if not _is_aside(s)] or file.series
    if len(series) > 1:
        named = ", ".join((f"{s.name!r} " if s.name else "") + f"({s.axes} = {', '.join(map(str, s.shape))})" for s in series[:6])
        raise ReadError(f"holds {len(series)} image series: {named}" + (" …" if len(series) > 6 else ""), where=path,
                        fix="save each as its own file: Fiji shows them in a list, or `bfconvert -series 0 IN OUT.ome.tif`")
    if first.kind == "ome" and any(page is None for page in series[0]):
        raise ReadError(f"lacks {sum(p is None for p in series[0])} of the {len(series[0])} planes that it states", where=path,
                        fix="export it again")
    return series[0]


def _is_aside(series: TiffPageSeries) -> bool:
    """Whether these pages are a thumbnail, or mark where another page is valid."""
    return bool(series.keyframe.is_reduced or series.keyframe.is_mask)


def _check_page(page: TiffPage, path: Path) -> None:
    """Raise ReadError for pixels that are no values of grey or RGB."""
    if page.dtype is None:
        raise ReadError(f"holds samples of {page.bitspersample} bits in a form that is not read", where=path,
                        fix="save it with 8 or 16 bits")
    colours = STRANGE_COLOURS.get(int(page.photometric))
    if int(page.photometric) == YCBCR and int(page.compression) in LOSSLESS:
        colours = "YCbCr colours"
    if colours is not None:
        raise ReadError(f"holds {colours}", where=path, fix="convert it to RGB or grey (Fiji: Image › Type, then File › Save As)")


def _check_length(file: TiffFile, series: TiffPageSeries, path: Path) -> None:
    """Raise ReadError where strips or tiles are missing or too short for what they claim: decoders would fill them with grey."""
    page, again = series.keyframe, "copy or export it again"
    if series.kind == "lsm":  # states lengths before compression
        return
    segments, there = math.prod(page.chunked), len(page.dataoffsets)
    if there < segments and not page.is_contiguous:
        raise ReadError(f"is damaged: {there} of {segments} strips or tiles of its first image are there", where=path, fix=again)
    filled = sum(n > 0 for n in page.databytecounts) / max(1, there)  # empty ones stand for background
    claimed, stored = page.size * page.bitspersample // 8 * filled, sum(page.databytecounts)
    if claimed > stored * RATIOS.get(int(page.compression), math.inf) and not page.is_contiguous:
        raise ReadError(f"is damaged: {stored} bytes cannot hold an image of {', '.join(map(str, page.shape))}", where=path,
                        fix=again)
    for part in series if int(page.compression) in JPEG else ():
        if part is not None and part.parent is file:
            end = max((a + n for a, n in zip(part.dataoffsets, part.databytecounts, strict=False)), default=0)
            if end > file.filehandle.size:
                raise ReadError(f"breaks off: {file.filehandle.size} of {end} bytes are there", where=path, fix=again)


def _load(path: Path, white: int | None, key: tuple[Key, ...]) -> npt.NDArray[Any]:
    """array[key]; white: the value that becomes 0, and 0 it."""
    with _opened(path) as (_, series):
        array = _decode(series, key)
    array = np.asarray(array, array.dtype.newbyteorder("="))
    if white is not None:
        array = ~array if array.dtype == np.bool_ else np.subtract(white, array, dtype=array.dtype)
    return array


def _decode(series: TiffPageSeries, key: tuple[Key, ...]) -> npt.NDArray[Any]:
    """array[key] of a series, from no more pages than it touches."""
    page = series.keyframe
    lead = tuple(series.shape[: len(series.shape) - len(page.shape)])
    if all(k == slice(None) for k in key[: len(lead)]):
        return np.asarray(series.asarray())[key]
    if series.dataoffset is not None and page.is_memmappable and series.transform is None:
        mapped = series.asarray(out="memmap")
        return np.array(mapped[key])  # a copy: what stays mapped would crash where the file is changed later
    if series.shape[len(lead):] != page.shape or math.prod(lead) != len(series) or series.transform is not None:
        return np.asarray(series.asarray())[key]
    numbers = np.arange(len(series)).reshape(lead)[key[: len(lead)]]
    array = np.empty((numbers.size, *page.shape), series.dtype)
    for i, number in enumerate(numbers.reshape(-1)):
        array[i] = _page(series[int(number)])
    return array.reshape(*numbers.shape, *page.shape)[(*[slice(None)] * numbers.ndim, *key[len(lead):])]


def _page(page: Any) -> npt.NDArray[Any]:
    """One page, of this file or of another one of the image."""
    handle = page.parent.filehandle
    closed = handle.closed
    if closed:
        handle.open()
    try:
        return np.asarray(page.asarray())
    finally:
        if closed:
            handle.close()
