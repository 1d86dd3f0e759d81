"""TIFF out: masks in the legend's colours, and images with everything that is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.labels import PALETTE, Legend

#: Beyond this many bytes a classic TIFF's 32-bit offsets end.
BIGTIFF = 2**32 - 2**25

#: TIFF's code for the table of colours.
COLOUR_MAP = 320

#: What OME-XML has no word for.
NOT_OME = ("float16", "int64", "uint64")


def write_mask(path: Path, values: npt.NDArray[Any], legend: Legend, spacing: Mapping[str, float] | None = None) -> None:
    """Class values (Y, X) or (Z, Y, X), with spacing and visible colours where the dtype can have them.

    Values of 8 bits are a palette image, which every viewer shows in the legend's colours. A volume is an ImageJ stack besides,
    since only that keeps the distance of slices. Of 16 bits, which few viewers take with a palette, ImageJ alone shows the
    colours.
    """
    _write(path, values, {e.value: e.colour for e in legend}, spacing)


def write_ids(path: Path, ids: npt.NDArray[Any], spacing: Mapping[str, float] | None = None) -> None:
    """Object ids (Y, X) or (Z, Y, X) as they are, with spacing; up to 255 of them in colours that every viewer shows, more in
    colours that ImageJ shows, from 65536 on in none."""
    top = int(ids.max(initial=0))
    dtype = np.uint8 if top < 2**8 else np.uint16 if top < 2**16 else np.int32
    colours = {i: PALETTE[(i - 1) % len(PALETTE)] for i in range(1, top + 1)} if top < 2**16 else {}
    _write(path, ids.astype(dtype), colours, spacing)


#: RGB of a value, 0..255.
Colours = Mapping[int, tuple[int, int, int]]


def _write(path: Path, values: npt.NDArray[Any], colours: Colours, spacing: Mapping[str, float] | None) -> None:
    import tifffile

    big = values.nbytes > BIGTIFF
    options: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack", "bigtiff": big}
    if values.dtype == np.uint8:
        options |= {"photometric": "palette", "colormap": _table(colours, lambda value: value)}
    elif values.dtype == np.uint16:
        options["extratags"] = [(COLOUR_MAP, "H", 3 * 256, _imagej_table(colours, int(values.max(initial=0))), True)]
    if values.ndim == 3 and values.dtype in (np.uint8, np.uint16) and not big:
        options |= {"description": _imagej_description(values, spacing), "metadata": None}
        if spacing:
            options |= {"resolution": (1 / spacing["x"], 1 / spacing["y"]), "resolutionunit": "NONE"}
    else:
        options["metadata"] = {"axes": "ZYX"[-values.ndim:], **_sizes(spacing or {})}
        if spacing:  # ImageJ, too, shows up to 10 µm in centimetres as micrometres
            options |= {"resolution": (1e4 / spacing["x"], 1e4 / spacing["y"]), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, values, **options)


def _imagej_description(values: npt.NDArray[Any], spacing: Mapping[str, float] | None) -> str:
    """As ImageJ writes it into the first page of a stack (ij.io.FileSaver.getDescriptionString)."""
    lines = ["ImageJ=1.54f", f"images={len(values)}", f"slices={len(values)}", f"unit={'um' if spacing else 'pixel'}"]
    lines += [f"spacing={spacing['z']!r}"] if spacing else []
    lines += [f"min=0.0\nmax={float(max(1, values.max(initial=0)))}"] if values.dtype == np.uint16 else []
    return "\n".join([*lines, "loop=false", ""])


def _imagej_table(colours: Colours, top: int) -> list[int]:
    """256 colours by red, green, blue for values of 16 bits: ImageJ takes that in place value × 256 / (top + 1), rounded, when it
    shows 0 to top (ij.process.ShortProcessor), as it does."""
    return [int(v) for v in _table(colours, lambda value: min(255, int(value * 256 / (top + 1) + 0.5))).reshape(-1)]


def _table(colours: Colours, place: Callable[[int], int]) -> npt.NDArray[np.uint16]:
    """uint16 (3, 256): each value's colour at its place, black elsewhere, and at 0 unless 0 has a colour of its own."""
    table = np.zeros((3, 256), np.uint16)
    for value, colour in colours.items():
        if value == 0 or place(value) > 0:
            table[:, place(value)] = np.asarray(colour, np.uint16) * 257
    return table


def write_channels(path: Path, array: npt.NDArray[Any], axes: str, spacing: Mapping[str, float] | None = None,
                   channel_names: tuple[str, ...] = ()) -> None:
    """Real (C, *S) with channel names and spacing, as OME-TIFF; of the types that OME lacks as tifffile's own TIFF."""
    import tifffile

    metadata: dict[str, Any] = {"axes": axes.upper()}
    if channel_names:
        metadata["Channel"] = {"Name": list(channel_names)}
    metadata |= _sizes(spacing or {})
    tifffile.imwrite(path, array, ome=array.dtype.name not in NOT_OME, metadata=metadata, photometric="minisblack",
                     compression="zlib", bigtiff=array.nbytes > BIGTIFF)


def write_image(path: Path, array: npt.NDArray[Any], axes: str, spacing: Mapping[str, float] | None = None,
                channel_names: tuple[str, ...] = ()) -> None:
    """Real (C, *S) as `write_channels` does; three nameless channels of a plane as the colours that every viewer shows."""
    import tifffile

    if axes != "cyx" or array.shape[0] != 3 or array.dtype not in (np.uint8, np.uint16) or channel_names:
        write_channels(path, array, axes, spacing, channel_names)
        return
    tifffile.imwrite(path, np.moveaxis(array, 0, -1), ome=True, metadata={"axes": "YXS", **_sizes(spacing or {})},
                     photometric="rgb", compression="zlib", bigtiff=array.nbytes > BIGTIFF)


def _sizes(spacing: Mapping[str, float]) -> dict[str, Any]:
    """µm per pixel in OME's words, which biomask reads in tifffile's own TIFF too."""
    sizes = {f"PhysicalSize{a.upper()}": size for a, size in spacing.items()}
    return {**sizes, **{f"{name}Unit": "µm" for name in sizes}}
