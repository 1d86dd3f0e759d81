"""ImageJ's regions of interest: `RoiSet.zip`, single `.roi` files, and overlays inside TIFF files."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from biomask.errors import LabelsError, MissingPathError, ReadError
from biomask.instances.curves import bezier, ellipse, oval, spline
from biomask.shapes import Annotations, Ring, Shape, as_ring, as_rings

#: Bytes of one ROI, and of all of a zip, unpacked.
LARGEST_ROI, LARGEST_ZIP = 2**26, 2**30
#: A zip with more files is not a RoiSet.
MOST_ROIS = 2**20
#: Channels, slices and frames of an image that nobody knows.
PLAIN = (1, MOST_ROIS, 1)

#: Names that ImageJ gives: "0123-0456", "0007-0123-0456" with the slice; also bare numbers, as plug-ins count objects.
AUTOMATIC = re.compile(r"\d+(-\d+)*")

#: Types of ROIs without an area, as roifile numbers them.
FLAT = {3: "a line", 4: "a freehand line", 5: "a segmented line", 6: "no selection", 9: "an angle", 10: "points"}
RECTANGLE, OVAL, POLYGONS = 1, 2, (0, 7, 8)
TEXT, ARROW, IMAGE = 1, 2, 4
SPLINE = 1
#: ImageJ keeps larger coordinates as fractions.
LARGEST_WHOLE = 60_000


def read_rois(path: Path) -> Annotations:
    """ROIs of a `RoiSet.zip` or a `.roi` file, in the order of the file.

    The class is "group N" where the ROI has a group, otherwise the ROI's own name unless ImageJ made it up from the place
    ("0123-0456") or it is a bare number; the own name is the title in any case. A position in a plain stack is taken as
    depth, and kept as such: see `shapes.placed`. The channel of a position is not kept. An empty zip is an image without
    objects. Raises ReadError.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            if start == b"Iout":
                return _annotations([(path.stem, start + file.read(LARGEST_ROI))], path, [])
        if start[:2] != b"PK":
            raise ReadError("is neither a zip of ROIs nor a .roi file", where=path)
        found, left_out = _unzipped(path)
    except FileNotFoundError:
        raise MissingPathError("no such file", where=path) from None
    except OSError as error:
        raise ReadError(f"cannot be read ({error.strerror or error})", where=path) from error
    if left_out and not found:
        raise ReadError("is a zip without .roi files", where=path, fix="in ImageJ's ROI Manager: More » Save…")
    return _annotations(found, path, left_out)


def _unzipped(path: Path) -> tuple[list[tuple[str, bytes]], list[str]]:
    """(name without suffix, bytes) of the ROIs of a zip, and the names of other files in it."""
    found, left_out = [], []
    try:
        with zipfile.ZipFile(path) as zipped:
            members = [m for m in zipped.infolist() if not m.is_dir() and not _of_a_desktop(m.filename)]
            if len(members) > MOST_ROIS or sum(m.file_size for m in members) > LARGEST_ZIP:
                raise ReadError(f"unpacks to more than {LARGEST_ZIP:,} bytes or {MOST_ROIS:,} files: not a set of ROIs", where=path)
            left = LARGEST_ZIP
            for member in members:
                if not member.filename.lower().endswith(".roi"):
                    left_out.append(f"{member.filename} (not a ROI)")
                    continue
                with zipped.open(member) as file:  # the sizes in a zip's directory may be lies
                    data = file.read(min(LARGEST_ROI, left) + 1)
                left -= len(data)
                if len(data) > LARGEST_ROI or left < 0:
                    raise ReadError(f"unpacks to more than {LARGEST_ZIP:,} bytes: not a set of ROIs", where=path)
                found.append((member.filename[:-4].rsplit("/", 1)[-1], data))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise ReadError(f"is damaged or not a zip that ImageJ wrote ({error})", where=path) from error
    return found, left_out


def _of_a_desktop(name: str) -> bool:
    """Whether a file manager put the file there."""
    last = name.rsplit("/", 1)[-1]
    return name.startswith("__MACOSX/") or last.startswith("._") or last in (".DS_Store", "Thumbs.db", "desktop.ini")


def has_rois(path: Path) -> bool:
    """Whether a file is a `.roi`, a zip with one, or a zip without any file; a zip's directory alone is read."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start[:2] != b"PK":
            return start == b"Iout"
        with zipfile.ZipFile(path) as zipped:
            names = zipped.namelist()
        return not names or any(n.lower().endswith(".roi") and not _of_a_desktop(n) for n in names)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def read_overlay(path: Path) -> Annotations:
    """The overlay of a TIFF that ImageJ saved; without one, its selection. Raises ReadError where it has neither."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            metadata = tif.imagej_metadata or {}
            page = tif.pages.first
            size = (int(page.imagelength), int(page.imagewidth))
    except FileNotFoundError:
        raise MissingPathError("no such file", where=path) from None
    except Exception as error:  # a decoder can raise anything on a damaged file
        raise ReadError(f"is damaged or not a TIFF file ({error})", where=path) from error
    overlay, selection = (_blocks(metadata.get(k)) for k in ("Overlays", "ROI"))
    if not overlay and not selection:
        raise ReadError("holds no overlay or selection of ImageJ", where=path)
    left_out = ["the active selection (the overlay is taken)"] if overlay and selection and selection[0] not in overlay else []
    shown = [(f"element {i + 1}", data) for i, data in enumerate(overlay or selection)]
    stack = [_count(metadata.get(k)) for k in ("channels", "slices", "frames")]
    if stack == [1, 1, 1]:  # a plain stack says its number of images alone
        stack[1] = MOST_ROIS
    read = _annotations(shown, path, left_out, (stack[0], stack[1], stack[2]))
    return replace(read, size=size, image=path.name)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 1


def _blocks(value: Any) -> list[bytes]:
    if isinstance(value, bytes):
        return [value]
    return [v for v in value if isinstance(v, bytes)] if isinstance(value, (list, tuple)) else []


def _annotations(found: Iterable[tuple[str, bytes]], path: Path, left_out: list[str],
                 stack: tuple[int, int, int] = PLAIN) -> Annotations:
    """stack: channels, slices and frames of the image, which a position in the stack counts through, channels first."""
    from roifile import ImagejRoi

    shapes = []
    for name, data in found:
        try:
            roi = ImagejRoi.frombytes(data)
        except Exception as error:  # roifile raises whatever struct, numpy or enum do
            raise ReadError(f"{name} is damaged or not an ImageJ ROI ({error})", where=path) from error
        try:
            shapes.append(_shape(roi, data, name, stack))
        except LabelsError as error:
            left_out.append(f"{roi.name or name} ({error.what})")
    return Annotations(tuple(shapes), None, tuple(left_out))


def _shape(roi: Any, data: bytes, file_name: str, stack: tuple[int, int, int]) -> Shape:
    """Raises LabelsError with the reason where a ROI has no area."""
    title = roi.name or re.sub(r"-\d{1,3}$", "", file_name)  # ImageJ tells files of one name apart by "-1", "-2"
    kept = {k: v for k, _, v in (line.partition(": ") for line in roi.props.splitlines())}
    group = kept.get(GROUP, "").strip()
    name = f"group {roi.group}" if roi.group > 0 else "" if AUTOMATIC.fullmatch(title) else title
    drawn = next((c for c in (roi.stroke_color, roi.fill_color) if c != b"\0\0\0\0"), None)
    colour = None if drawn is None else (drawn[1], drawn[2], drawn[3])
    z, time = roi.z_position - 1, roi.t_position - 1
    position = None
    if roi.position > 0 and not (roi.c_position or roi.z_position or roi.t_position):
        position = roi.position - 1 if stack == PLAIN else None
        time, z = divmod((roi.position - 1) // stack[0], stack[1])
        time, z = time if stack[2] > 1 else -1, z if stack[1] > 1 else -1
    return Shape(_rings(roi, data), name, colour, z if z >= 0 else None, time if time >= 0 else None,
                 int(group) if group.lstrip("-").isdecimal() else None, title, position=position)


#: Where the number of an object that has several outlines is kept: among a ROI's properties, which ImageJ keeps.
GROUP = "biomask-group"


def _rings(roi: Any, data: bytes) -> tuple[Ring, ...]:
    kind = roi.roitype.value
    if roi.composite:
        return as_rings(_path(data[64:64 + 4 * roi.shape_roi_size]))
    if int(roi.subtype) in (TEXT, ARROW, IMAGE):
        raise LabelsError({TEXT: "a text", ARROW: "an arrow", IMAGE: "an image"}[int(roi.subtype)] + ", no outline")
    if kind in (RECTANGLE, OVAL):
        left, top, width, height = _box(roi, data)
        if kind == OVAL:
            ring = oval(left, top, width, height)
            if ring is None:
                raise LabelsError("an oval that holds no pixel")
            return (ring,)
        return (_rectangle(left, top, width, height, roi.rounded_rect_arc_size),)
    if kind not in POLYGONS:
        raise LabelsError(f"{FLAT[kind]}, without an area" if kind in FLAT else f"its type {kind} is not known")
    if roi.subpixel_coordinates is not None:
        ring = as_ring(roi.subpixel_coordinates)
    else:
        left, top, _, _ = _whole_box(data)
        steps = np.array(roi.integer_coordinates)
        steps[steps >= LARGEST_WHOLE + 536] = 0  # below zero in the file, which ImageJ reads as 0
        ring = as_ring(np.add(steps, (left, top)))
    return (as_ring(spline(ring)) if int(roi.options) & SPLINE else ring,)


def _whole_box(data: bytes) -> tuple[int, int, int, int]:
    """Left, top, width, height. 16 bits a number; those below -5000 are meant without sign, as ImageJ reads them."""
    top, left, bottom, right = (int(v) + (65_536 if v < -5000 else 0) for v in np.frombuffer(data[8:16], ">i2"))
    return left, top, right - left, bottom - top


def _box(roi: Any, data: bytes) -> tuple[int, int, int, int]:
    """The same in whole pixels where the ROI has fractions: ImageJ cuts them off the corner and rounds the sides up."""
    left, top, width, height = _whole_box(data)
    if roi.subpixelrect:
        numbers = np.array([roi.xd, roi.yd, roi.widthd, roi.heightd])
        if not (np.abs(numbers) <= 1e6).all():
            raise LabelsError("its box is not finite or beyond any image")
        left, top = int(roi.xd), int(roi.yd)
        width, height = int(np.ceil(roi.widthd)), int(np.ceil(roi.heightd))
    return left, top, max(1, width), max(1, height)


def _rectangle(left: int, top: int, width: int, height: int, arc: int) -> Ring:
    """arc: diameter of rounded corners, 0 = sharp ones."""
    right, bottom = left + width, top + height
    if arc <= 0:
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    a, b = min(arc, width) / 2, min(arc, height) / 2
    round_ = ellipse((0.0, 0.0), (a, 0.0), (0.0, b))
    corners = ((right - a, bottom - b, 1, 1), (left + a, bottom - b, -1, 1), (left + a, top + b, -1, -1),
               (right - a, top + b, 1, -1))
    angle = np.arctan2(round_[:, 1] / b, round_[:, 0] / a) % (2 * np.pi)
    quarter = round_[angle <= np.pi / 2 + 1e-9]
    rings = [np.add(quarter[:: sx * sy] * (sx, sy), (x, y)) for x, y, sx, sy in corners]
    return as_ring(np.concatenate(rings))


#: Numbers that follow each command of a path.
ARGUMENTS = {0: 2, 1: 2, 2: 4, 3: 6, 4: 0}


def _path(data: bytes) -> list[Any]:
    """Outlines of a composite ROI: move to, line to, curve to, close. roifile reads no curves."""
    numbers = np.frombuffer(data, ">f4").astype(np.float64)
    outlines: list[list[Any]] = []
    place = 0
    while place < len(numbers):
        command = int(numbers[place]) if np.isfinite(numbers[place]) else -1
        count = ARGUMENTS.get(command, -1)
        if count < 0 or place + count >= len(numbers) or (command != 0 and not outlines):
            raise LabelsError("its path is damaged")
        values = numbers[place + 1:place + 1 + count].reshape(-1, 2)
        if not np.isfinite(values).all():
            raise LabelsError("it has coordinates that are not finite or beyond any image")
        if command == 0:
            outlines.append([values[0]])
        elif command == 1:
            outlines[-1].append(values[0])
        elif command in (2, 3):
            outlines[-1] += list(bezier(np.concatenate([outlines[-1][-1:], values])))
        place += 1 + count
    return outlines
