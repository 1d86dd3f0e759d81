"""`Placement`: where a window lies in an enlarged image, and how it is mirrored and turned; the way of pixels, masks and points.

    image (Y, X)  ->  whole (Y', X'), the image resized  ->  window: start, size of it  ->  canvas  ->  mirrored, turned

Everything is decided by pixel centres: pixel i of the whole lies at (i + 0.5) · Y / Y' in the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from biomask.data.objects import trimmed
from biomask.instances.polygons import Crop
from biomask.transforms import flip_rotate

Size = tuple[int, int]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """One window. All sizes and starts are (y, x), in pixels."""

    image: Size
    whole: Size
    """The image after resizing."""
    start: Size
    """First pixel of the window in the whole."""
    size: Size
    """Of the window, which lies in the whole."""
    canvas: Size
    """The window with empty pixels below and to the right of it."""
    flips: tuple[int, ...] = ()
    """Axes that are mirrored, counted from the end: -1 = x, -2 = y."""
    turns: int = 0
    """Quarter turns y → x, after mirroring."""

    @property
    def scale(self) -> tuple[float, float]:
        """By how much things become larger, along y and x."""
        return self.whole[0] / self.image[0], self.whole[1] / self.image[1]

    @property
    def out(self) -> Size:
        """Size of what comes out."""
        return self.canvas if self.turns % 2 == 0 else (self.canvas[1], self.canvas[0])

    @property
    def is_mirror(self) -> bool:
        """Whether left and right are exchanged; mirrored along two axes things are merely turned."""
        return len(self.flips) % 2 == 1


def place_image(image: npt.NDArray[np.float32], placement: Placement) -> Tensor:
    """The window of an image (C, Y, X): float32 (C, *out). Bilinear as `interpolate` of torch without aligned corners; pixels
    that are not resized are copied, and those beyond the window are 0."""
    (top, left), (height, width) = placement.start, placement.size
    if placement.whole == placement.image:
        window = torch.from_numpy(image[:, top:top + height, left:left + width].copy())
    else:
        axes = zip(placement.image, placement.whole, placement.start, placement.size, strict=True)
        rows, columns = (_taps(*axis) for axis in axes)
        part = torch.from_numpy(image[:, rows[0][0]:rows[1][-1] + 1, columns[0][0]:columns[1][-1] + 1])
        window = _between(_between(part, rows, 1), columns, 2)
    if placement.canvas != placement.size:
        below, right = (c - n for c, n in zip(placement.canvas, placement.size, strict=True))
        window = torch.nn.functional.pad(window, (0, right, 0, below))
    return flip_rotate(window[None], [placement.flips], [placement.turns])[0]


Taps = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]


def _taps(size: int, whole: int, start: int, count: int) -> Taps:
    """Of each pixel of a window along one axis the two that it lies between, and the share of the second."""
    place = np.maximum((np.arange(start, start + count) + 0.5) * size / whole - 0.5, 0.0)
    low = np.minimum(place.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), (place - low).astype(np.float32)


def _between(part: Tensor, taps: Taps, axis: int) -> Tensor:
    """Read along one axis of (C, y, x), whose first line is the first tap's."""
    low, high, share = taps
    shape = [1, 1, 1]
    shape[axis] = len(share)
    first, second = (part.index_select(axis, torch.from_numpy(line - low[0])) for line in (low, high))
    return torch.lerp(first, second, torch.from_numpy(share).reshape(shape))


def place_mask(crop: Crop, placement: Placement) -> Crop | None:
    """The pixels of a mask in the window, not mirrored or turned yet; None where none is left.

    Each pixel is that of the image which its centre lies in, so that areas grow by the square of the scale.
    """
    pixels, (top, left) = crop
    rows, first_row = _rows(top, pixels.shape[0], placement, 0)
    columns, first_column = _rows(left, pixels.shape[1], placement, 1)
    return trimmed((pixels[np.ix_(rows, columns)], (first_row, first_column)))


def _rows(first: int, count: int, placement: Placement, axis: int) -> tuple[npt.NDArray[np.int64], int]:
    """Which of the `count` rows from `first` on each row of the window shows, and the first row of the window that shows one."""
    n, whole, start = placement.image[axis], placement.whole[axis], placement.start[axis]
    low = max(start, first * whole // n - 1)
    high = min(start + placement.size[axis], (first + count) * whole // n + 1)
    read = (2 * np.arange(low, high, dtype=np.int64) + 1) * n // (2 * whole) - first
    inside = np.flatnonzero((read >= 0) & (read < count))
    return read[inside], low - start + (int(inside[0]) if len(inside) else 0)


def visible_share(crop: Crop, placement: Placement) -> float:
    """Share of a mask's pixels whose centres lie in the window, 0..1."""
    pixels, (top, left) = crop
    rows, columns = (_visible(first, count, placement, axis) for axis, (first, count) in
                     enumerate(((top, pixels.shape[0]), (left, pixels.shape[1]))))
    if rows == (0, pixels.shape[0]) and columns == (0, pixels.shape[1]):
        return 1.0
    return float(pixels[slice(*rows), slice(*columns)].sum() / pixels.sum())


def _visible(first: int, count: int, placement: Placement, axis: int) -> tuple[int, int]:
    """From which to before which of the `count` rows from `first` on the window holds."""
    scale, start = placement.scale[axis], placement.start[axis]
    middles = (first + np.arange(count) + 0.5) * scale
    low, high = np.searchsorted(middles, (start, start + placement.size[axis]))
    return int(low), int(high)


def place_points(points: Points, placement: Placement) -> Points:
    """(N, 2) of x, y in the image → in the window, not mirrored or turned yet."""
    (sy, sx), (top, left) = placement.scale, placement.start
    return np.asarray(points * (sx, sy) - (left, top))


def turn_points(points: Points, placement: Placement) -> Points:
    """(N, 2) of x, y in the window → in what comes out."""
    height, width = placement.canvas
    x, y = points[:, 0], points[:, 1]
    x = width - x if -1 in placement.flips else x
    y = height - y if -2 in placement.flips else y
    for _ in range(placement.turns % 4):
        x, y = y, width - x
        height, width = width, height
    return np.stack([x, y], axis=1)


def turn_boxes(boxes: Points, placement: Placement) -> Points:
    """(N, 4) of x0, y0, x1, y1 in the window → in what comes out."""
    first, second = turn_points(boxes[:, :2], placement), turn_points(boxes[:, 2:], placement)
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)


def turn_mask(pixels: npt.NDArray[np.bool_], placement: Placement) -> npt.NDArray[np.bool_]:
    """A mask mirrored and turned as the window is."""
    return np.rot90(np.flip(pixels, placement.flips) if placement.flips else pixels, placement.turns)
