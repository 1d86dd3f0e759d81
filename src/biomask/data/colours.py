"""Values and colours of masks: the nearest of a legend, and the legend behind a blurred mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.limits import MOST_CLASSES

#: Colours of fewer pixels than this share are no class of their own.
RARE = 2e-4


def snapped(values: npt.NDArray[Any], allowed: Sequence[int]) -> npt.NDArray[np.int64]:
    """Each value replaced by the nearest allowed one, the lower of two."""
    ordered = np.asarray(sorted(allowed))
    limits = (ordered[1:] + ordered[:-1]) / 2
    return np.asarray(ordered[np.searchsorted(limits, values, side="left")])


def pack(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """RGB uint8 (3, *S) as one number 0xRRGGBB."""
    red, green, blue = colours.astype(np.int32)
    return np.asarray(red << 16 | green << 8 | blue)


def unpack(packed: int) -> tuple[int, int, int]:
    """(red, green, blue) of 0xRRGGBB."""
    return packed >> 16 & 255, packed >> 8 & 255, packed & 255


def nearest_colours(colours: npt.NDArray[np.uint8],
                    legend: Sequence[tuple[int, int, int]]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """(position of the nearest colour of the legend, squared distance to it) for RGB uint8 (3, *S)."""
    packed = pack(colours)
    found, flat = np.unique(packed, return_inverse=True)
    table = np.stack([found >> 16 & 255, found >> 8 & 255, found & 255], axis=1)
    distance = ((table[:, None].astype(np.int64) - np.asarray(legend)[None]) ** 2).sum(axis=2)
    return (distance.argmin(axis=1).astype(np.uint8)[flat].reshape(packed.shape),
            distance.min(axis=1)[flat].reshape(packed.shape))


def usual_values(pixels: Mapping[int, int]) -> list[int]:
    """The values that a blurred or compressed mask was made of: the peaks of its histogram.

    >>> usual_values({0: 9000, 1: 300, 2: 40, 128: 20, 253: 30, 254: 200, 255: 5000})
    [0, 255]
    """
    total, reach = sum(pixels.values()), reach_of(pixels)
    peaks: list[int] = []
    for value, n in sorted(pixels.items(), key=lambda item: (-item[1], item[0])):
        if n < total / 200:
            break
        if all(abs(value - p) > reach for p in peaks):
            peaks.append(value)
    return sorted(peaks)


def reach_of(pixels: Mapping[int, int]) -> int:
    """How far from a usual value others are taken for its blur: a sixteenth of the range."""
    return max(2, (max(pixels) - min(pixels)) // 16)


def distance(a: int, b: int) -> float:
    return float(np.hypot.reduce(np.subtract(unpack(a), unpack(b), dtype=float)))


def dominant_colours(pixels: Mapping[int, int], tolerance: int) -> list[int]:
    """The colours of a legend, most common first: those that are common and not within tolerance of a commoner one."""
    total = sum(pixels.values())
    found: list[int] = []
    for colour, n in sorted(pixels.items(), key=lambda item: (-item[1], item[0])):
        if n < RARE * total or len(found) > MOST_CLASSES:
            break
        if all(distance(colour, c) > tolerance for c in found):
            found.append(colour)
    return found


def background_first(colours: Sequence[int], pixels: Mapping[int, int]) -> list[int]:
    """Black first, or white, or else the most common; the others in the order of their numbers."""
    first = next((c for c in (0x000000, 0xFFFFFF) if c in colours), max(colours, key=lambda c: pixels.get(c, 0)))
    return [first, *sorted(c for c in colours if c != first)]
