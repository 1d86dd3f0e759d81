"""TIFF: plain, OME and ImageJ, 2D and 3D, with axes and spacing from its own metadata."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.errors import ReadError
from biomask.image import Image
from biomask.io.png import without_alpha
from biomask.labels import Legend

if TYPE_CHECKING:
    from tifffile import TiffFile

# What tifffile has to say of odd tags is no news to a user; damage raises an error here.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

#: Beyond this many bytes a classic TIFF's 32-bit offsets end.
BIGTIFF = 2**32 - 2**25

#: TIFF's code for images whose lowest value is white.
WHITE_IS_ZERO = 0

#: TIFF's codes for extra samples that mean transparency.
ALPHA = (1, 2)

_MICROMETRES = {"µm": 1.0, "um": 1.0, "micron": 1.0, "\\u00B5m": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}


def read(path: Path, *, as_labels: bool = False) -> Image:
    """An image "cyx" or "czyx" in the file's own dtype; RGB is three channels.

    as_labels: makes no difference here, a TIFF's palette never replaces its indices.
    Raises ReadError for several series, time points, or axes that the file does not name.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        _check_chain(file, path)
        if len(file.series) != 1:
            raise ReadError(f"holds {len(file.series)} image series", where=path, fix="save each as its own file")
        series = file.series[0]
        axes, array = _order(series.axes, series.asarray(), path)
        if int(file.pages.first.photometric) == WHITE_IS_ZERO and array.dtype.kind == "u" and not as_labels:
            array = np.iinfo(array.dtype).max - array
        if any(int(kind) in ALPHA for kind in file.pages.first.extrasamples) and "S" in series.axes:
            array = without_alpha(array, path)
        return Image(array, axes, path.stem, spacing=_spacing(file, axes), channel_names=_channel_names(file, array))


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


def _order(axes: str, array: npt.NDArray[Any], path: Path) -> tuple[str, npt.NDArray[Any]]:
    """To "cyx" or "czyx". S (samples) is taken as channels; axes of length 1 are dropped."""
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    described = f"axes {axes} with shape {array.shape}"
    keep = [i for i, n in enumerate(array.shape) if n > 1 or axes[i] in "YX"]
    array = array[tuple(slice(None) if i in keep else 0 for i in range(array.ndim))]
    axes = "".join(axes[i] for i in keep)
    if "C" in axes and "S" in axes:
        raise ReadError(f"{described}: both channels and samples", where=path, fix="save the channels as one axis")
    axes = axes.replace("S", "C")
    if "T" in axes:
        raise ReadError(f"{described}: a time series", where=path, fix="save each time point as its own file")
    if set(axes) - set("CZYX") or not {"Y", "X"} <= set(axes):
        raise ReadError(f"{described}: what the extra axis means is not in the file", where=path,
                        fix="save it as OME-TIFF or ImageJ hyperstack, or each page as its own file")
    if "C" not in axes:
        axes, array = "C" + axes, array[None]
    order = [a for a in "CZYX" if a in axes]
    return "".join(order).lower(), np.ascontiguousarray(array.transpose([axes.index(a) for a in order]))


def _spacing(file: TiffFile, axes: str) -> dict[str, float] | None:
    """µm per pixel where the file states a unit of length; None unless every axis has one."""
    found = _ome_spacing(file) if file.is_ome else _imagej_spacing(file) if file.is_imagej else _tag_spacing(file)
    spacing = {a: found[a] for a in axes[1:] if found.get(a, 0) > 0}
    return spacing if len(spacing) == len(axes) - 1 else None


def _ome_spacing(file: TiffFile) -> dict[str, float]:
    import tifffile

    pixels: Any = tifffile.xml2dict(file.ome_metadata or "<OME/>")
    for key in ("OME", "Image", "Pixels"):
        pixels = pixels.get(key, {}) if isinstance(pixels, dict) else {}
    if not isinstance(pixels, dict):
        return {}
    return {a: float(pixels[f"PhysicalSize{a.upper()}"]) * _MICROMETRES.get(pixels.get(f"PhysicalSize{a.upper()}Unit", "µm"), 0)
            for a in "zyx" if f"PhysicalSize{a.upper()}" in pixels}


def _imagej_spacing(file: TiffFile) -> dict[str, float]:
    metadata: Mapping[str, Any] = file.imagej_metadata or {}
    micrometres = _MICROMETRES.get(str(metadata.get("unit", "")), 0)
    found = {a: v * micrometres for a, v in _per_unit(file).items()}
    if "spacing" in metadata:
        found["z"] = float(metadata["spacing"]) * micrometres
    return found


def _tag_spacing(file: TiffFile) -> dict[str, float]:
    unit = file.pages.first.tags.get("ResolutionUnit")
    micrometres = {3: 1e4}.get(int(unit.value) if unit is not None else 0, 0.0)
    # Inches are left out: they are the print size that editors write, not a measurement.
    return {a: v * micrometres for a, v in _per_unit(file).items()}


def _per_unit(file: TiffFile) -> dict[str, float]:
    """Length of a pixel in the file's resolution unit, along y and x."""
    found = {}
    for axis, name in (("y", "YResolution"), ("x", "XResolution")):
        tag = file.pages.first.tags.get(name)
        if tag is not None and tag.value[0] > 0:
            found[axis] = tag.value[1] / tag.value[0]
    return found


def _channel_names(file: TiffFile, array: npt.NDArray[Any]) -> tuple[str, ...]:
    import tifffile

    if not file.is_ome:
        return ()
    channels: Any = tifffile.xml2dict(file.ome_metadata or "<OME/>")
    for key in ("OME", "Image", "Pixels", "Channel"):
        channels = channels.get(key, {}) if isinstance(channels, dict) else {}
    channels = channels if isinstance(channels, list) else [channels]
    names = tuple(str(c["Name"]) for c in channels if isinstance(c, dict) and "Name" in c)
    return names if len(names) == array.shape[0] else ()


def write_mask(path: Path, values: npt.NDArray[Any], legend: Legend, spacing: Mapping[str, float] | None = None) -> None:
    """Class values (Y, X) or (Z, Y, X), with spacing and a visible colour map where the dtype can have one.

    A plane is a palette image, which every viewer shows in the legend's colours. A uint8 volume is an ImageJ hyperstack
    with the legend as its look-up table, since only that format keeps the distance of slices.
    """
    import tifffile

    options: dict[str, Any] = {"compression": "zlib", "metadata": {"axes": "ZYX"[-values.ndim:]}, **_resolution(spacing)}
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
    tifffile.imwrite(path, values, bigtiff=values.nbytes > BIGTIFF, **options)


def _colours(legend: Legend, size: int) -> npt.NDArray[np.uint16]:
    """uint16 (3, size): each class value's colour, black elsewhere."""
    colours = np.zeros((3, size), np.uint16)
    for entry in legend:
        colours[:, entry.value] = np.asarray(entry.colour, np.uint16) * 257
    return colours


def write_channels(path: Path, array: npt.NDArray[Any], axes: str, spacing: Mapping[str, float] | None = None,
                   channel_names: tuple[str, ...] = ()) -> None:
    """float32 or integer (C, *S) as OME-TIFF with channel names and spacing."""
    import tifffile

    metadata: dict[str, Any] = {"axes": axes.upper()}
    if channel_names:
        metadata["Channel"] = {"Name": list(channel_names)}
    for axis, size in (spacing or {}).items():
        metadata |= {f"PhysicalSize{axis.upper()}": size, f"PhysicalSize{axis.upper()}Unit": "µm"}
    tifffile.imwrite(path, array, ome=True, metadata=metadata, photometric="minisblack", compression="zlib",
                     bigtiff=array.nbytes > BIGTIFF)


def _resolution(spacing: Mapping[str, float] | None) -> dict[str, Any]:
    if not spacing:
        return {}
    return {"resolution": (1e4 / spacing["x"], 1e4 / spacing["y"]), "resolutionunit": "CENTIMETER"}
