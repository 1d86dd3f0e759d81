"""Shapes as a `RoiSet.zip` for ImageJ's ROI Manager."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from biomask.errors import WriteError
from biomask.io.files import writing
from biomask.io.rois import GROUP, LARGEST_WHOLE
from biomask.shapes import Annotations, Shape

#: ImageJ keeps longer outlines as paths.
LONGEST = 65_535
#: Characters of a file name in the zip; the ROI itself keeps its whole name.
LONGEST_NAME = 100


def write_roi_zip(path: Path, annotations: Annotations) -> None:
    """Write a `RoiSet.zip` that ImageJ's ROI Manager opens.

    The class is the ROI's name and its colour the stroke's; without a class the name is the title, or the place as ImageJ
    would call it. Outlines along pixel edges become traced selections, others polygons with fractions in float32 (within
    1/256 pixel up to 65 536), several rings a composite. Planes and times become positions, from 1; measurements become
    properties of the ROI.
    """
    used: dict[str, int] = {}
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as zipped:
        for shape in annotations.shapes:
            roi = _roi(shape)
            # A fixed date: the same shapes give the same bytes.
            member = zipfile.ZipInfo(_file_name(roi.name, used) + ".roi", (1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(member, roi.tobytes())


def _roi(shape: Shape) -> Any:
    """An ImagejRoi."""
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

    if not shape.rings:
        raise WriteError("a shape without an outline cannot be written")
    roi = ImagejRoi()
    x0, y0, x1, y1 = shape.bounds
    roi.left, roi.top, roi.right, roi.bottom = (int(v) for v in (np.floor(x0), np.floor(y0), np.ceil(x1), np.ceil(y1)))
    whole = min(roi.left, roi.top) >= 0 and max(roi.right, roi.bottom) <= LARGEST_WHOLE and all(
        (r % 1 == 0).all() for r in shape.rings)
    if len(shape.rings) > 1 or len(shape.rings[0]) > LONGEST:
        roi.roitype = ROI_TYPE.RECT
        roi.multi_coordinates = np.concatenate([_path(r) for r in shape.rings]).astype(np.float32)
        roi.shape_roi_size = len(roi.multi_coordinates)
    else:
        ring = shape.rings[0]
        level = (np.roll(ring, -1, axis=0) == ring).any(axis=1).all()
        roi.roitype = ROI_TYPE.TRACED if level else ROI_TYPE.POLYGON
        roi.n_coordinates = len(ring)
        # ImageJ wants both, and takes the fractions where there are some.
        roi.integer_coordinates = (np.floor(ring) - (roi.left, roi.top)).astype(np.int32).clip(0, 65_535)
        if not whole:
            roi.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
            roi.subpixel_coordinates = ring.astype(np.float32)
    roi.name = _without_surrogates(shape.name or shape.title) or f"{_middle(y0, y1):04d}-{_middle(x0, x1):04d}"
    if shape.colour is not None:
        roi.stroke_color = bytes((255, *shape.colour))
    if shape.time is not None:  # a hyperstack's position; a plain stack's otherwise
        roi.c_position, roi.z_position, roi.t_position = 0, (shape.z or 0) + 1, shape.time + 1
    elif shape.z is not None:
        roi.position = shape.z + 1
    kept = {GROUP: str(shape.group)} if shape.group is not None else {}
    # As Java reads properties: a name ends at a space, a colon or an equals sign.
    kept |= {re.sub(r"[\s:=\\]+", "_", _without_surrogates(name)): f"{value:g}" for name, value in shape.measurements.items()}
    if kept:
        roi.props = "".join(f"{name}: {value}\n" for name, value in kept.items())
    return roi


def _middle(low: float, high: float) -> int:
    return max(0, int((low + high) / 2))


def _path(ring: Any) -> Any:
    """Move to the first point, lines to the others, close."""
    steps = np.concatenate([np.ones((len(ring), 1)), ring], axis=1)
    steps[0, 0] = 0
    return np.append(steps.reshape(-1), 4)


def _without_surrogates(name: str) -> str:
    """Names go to the file as UTF-16 with two bytes a character counted: others than those of two bytes are replaced."""
    return "".join(c if ord(c) < 0x10000 and not 0xD800 <= ord(c) < 0xE000 else "?" for c in name)


def _file_name(name: str, used: dict[str, int]) -> str:
    """Unlike any before, as ImageJ tells them apart: "nucleus", "nucleus-1", …"""
    plain = "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in name)[:LONGEST_NAME]
    if plain.startswith("._"):  # as file managers call theirs, which are not read
        plain = "_" + plain[1:]
    wanted = plain
    while wanted.casefold() in used:
        number = used[plain.casefold()]
        used[plain.casefold()] = number + 1
        wanted = f"{plain}-{number}"
    used[wanted.casefold()] = 1
    return wanted
