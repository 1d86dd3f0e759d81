"""What a TIFF says of its pixels: their size, the names of channels, colours of values, further files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

#: µm of the units that OME and ImageJ write. Pixels, inches and "reference frame" are left out: they measure nothing.
MICROMETRES = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
               "\\u00b5m": 1.0, "pm": 1e-6, "å": 1e-4, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3,
               "millimeter": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6, "meter": 1e6}

#: TIFF's code for resolutions a centimetre. Inches are left out: they are the print size that editors write.
CENTIMETRE = 3

#: Labels of slices that number them instead of naming a channel, as Bio-Formats does in ImageJ.
NUMBERED = re.compile(r"^[cztCZT]:\s*\d+/\d+|^\d+(/\d+)?$")

#: How Zeiss's metadata, which ImageJ keeps, names channels.
CHANNEL_INFO = re.compile(r"^Information\|Image\|Channel\|Name #0*(\d+) = (.+?)\s*$", re.MULTILINE)


def spacing_of(file: TiffFile, series: TiffPageSeries) -> dict[str, float]:
    """µm per pixel along those of "z", "y", "x" for which the file states a length."""
    found: Mapping[str, float] = {}
    if file.is_ome:
        found = _ome_spacing(_ome_pixels(file, series))
    elif file.is_lsm:
        lsm: Mapping[str, Any] = file.lsm_metadata or {}
        found = {a: float(lsm.get(f"VoxelSize{a.upper()}", 0)) * 1e6 for a in "zyx"}
    elif file.is_imagej:
        found = _imagej_spacing(file, series)
    elif file.is_shaped:
        found = _tag_spacing(series) | _ome_spacing(_shaped(file))
    else:
        found = _tag_spacing(series)
    return {a: v for a, v in found.items() if v > 0 and np.isfinite(v)}


def _ome_pixels(file: TiffFile, series: TiffPageSeries) -> dict[str, Any]:
    """Attributes of the image's Pixels element, and "Channel": {"Name": [...]}."""
    images = [p for p in _ome(file).iter() if _local(p.tag) == "Pixels"]
    at = file.series.index(series) if len(images) == len(file.series) else 0
    if not images:
        return {}
    channels = [c for c in images[at] if _local(c.tag) == "Channel"]
    return {**images[at].attrib, "Channel": {"Name": [c.get("Name") for c in channels]}}


def _ome(file: TiffFile) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(file.ome_metadata or "<OME/>")
    except ElementTree.ParseError:
        return ElementTree.Element("OME")


def _local(tag: str) -> str:
    """A tag's name without its namespace."""
    return tag.rpartition("}")[2]


def partner_files(file: TiffFile) -> set[str]:
    """Names of further files that an OME-TIFF's planes are in."""
    root = _ome(file)
    return {uuid.get("FileName", "") for uuid in root.iter() if _local(uuid.tag) == "UUID" and uuid.text != root.get("UUID")
            and uuid.get("FileName", "").lower() not in ("", file.filename.lower())}


def _ome_spacing(pixels: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for axis in "zyx":
        size, unit = pixels.get(f"PhysicalSize{axis.upper()}"), pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm")
        if size is not None:
            found[axis] = _number(size) * _micrometres(unit)
    return found


def _imagej_spacing(file: TiffFile, series: TiffPageSeries) -> dict[str, float]:
    metadata: Mapping[str, Any] = file.imagej_metadata or {}
    if not _micrometres(metadata.get("unit")):
        return {}
    found = _per_unit(series)
    if "slices" in metadata:
        found["z"] = abs(_number(metadata.get("spacing", 1)))  # ImageJ writes nothing where it is 1
    # ImageJ names units of y and z only where they differ from that of x.
    return {a: v * _micrometres(metadata.get({"x": "unit"}.get(a, f"{a}unit"), metadata.get("unit"))) for a, v in found.items()}


def _tag_spacing(series: TiffPageSeries) -> dict[str, float]:
    unit = series.keyframe.tags.get("ResolutionUnit")
    if unit is None or int(unit.value) != CENTIMETRE:
        return {}
    return {a: v * 1e4 for a, v in _per_unit(series).items()}


def _per_unit(series: TiffPageSeries) -> dict[str, float]:
    """Length of a pixel in the file's resolution unit, along y and x."""
    found = {}
    for axis, name in (("y", "YResolution"), ("x", "XResolution")):
        tag = series.keyframe.tags.get(name)
        if tag is not None and tag.value[0] > 0:
            found[axis] = tag.value[1] / tag.value[0]
    return found


def _micrometres(unit: object) -> float:
    """µm of a unit; 0 for one that is no length."""
    return MICROMETRES.get(str(unit).strip().lower(), 0.0)


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return 0.0


def _shaped(file: TiffFile) -> dict[str, Any]:
    """What tifffile, and biomask through it, wrote of the first image."""
    return dict((file.shaped_metadata or ({},))[0])


def channel_names(file: TiffFile, series: TiffPageSeries, count: int) -> tuple[str, ...]:
    """One name for each of `count` channels, or none."""
    if file.is_ome:
        names = (_ome_pixels(file, series).get("Channel") or {}).get("Name")
    elif file.is_lsm:
        names = ((file.lsm_metadata or {}).get("ChannelColors") or {}).get("ColorNames")
    elif file.is_imagej:
        names = _imagej_names(file.imagej_metadata or {}, count)
    elif file.is_shaped:
        channel = _shaped(file).get("Channel")
        names = channel.get("Name") if isinstance(channel, dict) else None
    else:
        names = None
    named = tuple(str(n) for n in names) if isinstance(names, list) and all(n is not None and str(n) for n in names) else ()
    return named if len(named) == count else ()


def _imagej_names(metadata: Mapping[str, Any], count: int) -> list[str] | None:
    """From the slice labels, where each channel has its own on all planes; else from the microscope's notes."""
    labels = metadata.get("Labels")
    labels = [labels] if isinstance(labels, str) else labels  # tifffile gives one without a list
    order = str(metadata.get("order", "czt")).lower()
    if isinstance(labels, list) and labels and len(labels) % count == 0 and order.startswith("c"):
        first = [str(label).partition("\n")[0].strip() for label in labels]
        names = first[:count]
        if all(label == names[i % count] for i, label in enumerate(first)) and len(set(names)) == count \
                and not any(not n or NUMBERED.match(n) for n in names):
            return names
    found = dict(CHANNEL_INFO.findall(str(metadata.get("Info", ""))))
    return [found[n] for n in sorted(found, key=int)] if len(found) == count else None


def palette_of(file: TiffFile, series: TiffPageSeries, count: int) -> npt.NDArray[np.uint8] | None:
    """RGB of each value (N, 3), of a palette or of ImageJ's look-up table; None for grey ones and several channels."""
    table = series.keyframe.colormap
    if table is None and file.is_imagej and count == 1 and series.dtype == np.uint8:
        table = (file.imagej_metadata or {}).get("LUTs")  # one array where there is one table, else a list
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.shape[0] != 3:
        return None
    colours = np.ascontiguousarray((table >> 8 if table.max(initial=0) > 255 else table).T.astype(np.uint8))
    return None if (colours == colours[:, :1]).all() else colours
