"""TIFF out: masks in the legend's colours, and images with everything that is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.labels import Legend

#: Beyond this many bytes a classic TIFF's 32-bit offsets end.
BIGTIFF = 2**32 - 2**25

#: What OME-XML has no word for.
NOT_OME = ("float16", "int64", "uint64")


def write_mask(path: Path, values: npt.NDArray[Any], legend: Legend, spacing: Mapping[str, float] | None = None) -> None:
    """Class values (Y, X) or (Z, Y, X), with spacing and a visible colour map where the dtype can have one.

    A plane is a palette image, which every viewer shows in the legend's colours. A uint8 volume is an ImageJ hyperstack
    with the legend as its look-up table, since only that format keeps the distance of slices.
    """
    import tifffile

    options: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack", "metadata": {"axes": "ZYX"[-values.ndim:]}}
    if values.ndim == 3 and values.dtype == np.uint8 and values.nbytes <= BIGTIFF:
        table = _colours(legend, 256)
        options["metadata"] |= {"LUTs": [(table // 257).astype(np.uint8)], "unit": "um" if spacing else "pixel"}
        if spacing:
            options |= {"resolution": (1 / spacing["x"], 1 / spacing["y"]), "resolutionunit": "NONE"}
            options["metadata"]["spacing"] = spacing["z"]
        tifffile.imwrite(path, values, imagej=True, **options)
        return
    if values.dtype in (np.uint8, np.uint16):
        options |= {"photometric": "palette", "colormap": _colours(legend, 2 ** (8 * values.dtype.itemsize))}
    if spacing:
        options |= {"resolution": (1e4 / spacing["x"], 1e4 / spacing["y"]), "resolutionunit": "CENTIMETER"}
        options["metadata"] |= _sizes(spacing)
    tifffile.imwrite(path, values, bigtiff=values.nbytes > BIGTIFF, **options)


def write_ids(path: Path, ids: npt.NDArray[Any], spacing: Mapping[str, float] | None = None) -> None:
    """Object ids (Y, X) or (Z, Y, X) as they are, with spacing; up to 255 of them in colours that every viewer shows."""
    import tifffile

    if int(ids.max(initial=0)) < 256:
        write_mask(path, ids.astype(np.uint8), Legend.of_values(range(256)), spacing)
        return
    small = ids.astype(np.uint16) if int(ids.max()) < 2**16 else ids.astype(np.int32)
    options: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack",
                               "metadata": {"axes": "ZYX"[-ids.ndim:], **_sizes(spacing or {})}}
    if spacing:
        options |= {"resolution": (1e4 / spacing["x"], 1e4 / spacing["y"]), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, small, bigtiff=small.nbytes > BIGTIFF, **options)


def _colours(legend: Legend, size: int) -> npt.NDArray[np.uint16]:
    """uint16 (3, size): each class value's colour, black elsewhere."""
    colours = np.zeros((3, size), np.uint16)
    for entry in legend:
        colours[:, entry.value] = np.asarray(entry.colour, np.uint16) * 257
    return colours


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
