"""Values and colours of masks: the nearest of a legend, and the legend behind a blurred mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: Colours of fewer pixels than this share are no class of their own.
RARE = 2e-4

#: Up to so many colours in all masks together they are exact: compression and smoothing make more.
FEW_COLOURS = 32

#: Difference in red, green or blue up to which neighbours are alike.
ALIKE = 6

#: Share of the pixels of a colour that lie amid their like, if it covers areas: 0.26 or more in JPEG of any quality, and 0.02
#: at most of what it puts between them.
AREA = 0.1

#: The same of values of a blurred or compressed mask, around which there is more noise in small objects.
BLURRED_AREA = 0.04

#: Share that lines of one colour have of the pixels nearest to it; mixtures have up to 0.25.
PURE = 0.4

#: Colours that are looked at for a legend.
MOST_CANDIDATES = 256


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


def usual_values(pixels: Mapping[int, int], flat: Mapping[int, int] | None = None) -> list[int]:
    """The values that a blurred or compressed mask was made of: the peaks of its histogram.

    flat: as in `LabelFacts`: peaks around which hardly any pixel lies amid its like are edges.

    >>> usual_values({0: 9000, 1: 300, 2: 40, 128: 20, 253: 30, 254: 200, 255: 5000})
    [0, 255]
    """
    if not pixels:
        return []
    total, reach = sum(pixels.values()), reach_of(pixels)
    peaks: list[int] = []
    for value, n in sorted(pixels.items(), key=lambda item: (-item[1], item[0])):
        if n < total / 200:
            break
        if all(abs(value - p) > reach for p in peaks):
            peaks.append(value)

    def around(peak: int, counts: Mapping[int, int]) -> int:
        return sum(n for v, n in counts.items() if abs(v - peak) <= reach)

    return sorted(p for p in peaks if not flat or around(p, flat) >= BLURRED_AREA * around(p, pixels))


def reach_of(pixels: Mapping[int, int]) -> int:
    """How far from a usual value others are taken for its blur: a sixteenth of the range."""
    return max(2, (max(pixels) - min(pixels)) // 16)


def flat_pixels(colours: npt.NDArray[Any], alike: int = ALIKE) -> npt.NDArray[np.bool_]:
    """Whether no neighbour of a pixel in its plane differs by more than `alike` in red, green or blue; for integer (C, *S)."""
    flat = np.ones(colours.shape[1:], bool)
    for axis in (-2, -1):
        step = np.abs(np.diff(colours.astype(np.int64), axis=axis)).max(axis=0) > alike
        first, last = (tuple(part if a == flat.ndim + axis else slice(None) for a in range(flat.ndim))
                       for part in (slice(None, -1), slice(1, None)))
        flat[first] &= ~step
        flat[last] &= ~step
    return flat


def coarsened(pixels: Mapping[int, int], most: int) -> dict[int, int]:
    """{0xRRGGBB: pixels} of the `most` common colours, the others counted at the middle of their cube of 16 x 16 x 16."""
    ordered = Counter(pixels).most_common()
    found = Counter(dict(ordered[:most]))
    for colour, n in ordered[most:]:
        found[colour & 0xF0F0F0 | 0x080808] += n
    return dict(found)


def in_rgb(colours: Iterable[int]) -> npt.NDArray[np.float32]:
    """(N, 3) of packed colours."""
    packed = np.fromiter(colours, np.int64)
    return np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(np.float32)


def explained(pixels: Mapping[int, int], centres: Sequence[int], tolerance: int) -> float:
    """Share of the pixels within the tolerance of one of the centres."""
    rgb, counts = in_rgb(pixels), np.fromiter(pixels.values(), np.int64)
    near = np.zeros(len(rgb), bool)
    for centre in in_rgb(centres):
        near |= np.linalg.norm(rgb - centre, axis=1) <= tolerance
    return float(counts[near].sum() / max(1, counts.sum()))


def dominant_colours(pixels: Mapping[int, int], flat: Mapping[int, int], tolerance: int) -> list[int]:
    """The colours of a legend, most common first.

    They are common, not within tolerance of a commoner one, and cover areas; or lines, if they are no mixture of two
    others, which edges are. Where there are a few colours in all, each of them is exact, and similar ones are told apart.
    flat: as in `LabelFacts`.
    """
    order = sorted(pixels, key=lambda c: (-pixels[c], c))
    rgb, counts = in_rgb(order), np.array([pixels[c] for c in order])
    amid = np.array([flat.get(c, 0) for c in order])
    reach = 0 if len(order) <= FEW_COLOURS else tolerance
    found: list[int] = []
    common = len(order) if reach == 0 else int(np.count_nonzero(counts >= RARE * counts.sum()))
    for i in range(common):
        if len(found) > MOST_CANDIDATES:
            break
        if not found or np.linalg.norm(rgb[found] - rgb[i], axis=1).min() > reach:
            found.append(i)
    kept = []
    nearest = np.argmin([np.linalg.norm(rgb - rgb[i], axis=1) for i in found], axis=0)
    for k, i in enumerate(found):
        around = counts[nearest == k].sum()
        lines = counts[i] >= PURE * around and not _is_mixture(rgb[i], rgb[[j for j in found if j != i]], max(reach, ALIKE))
        if lines or amid[nearest == k].sum() >= AREA * around:
            kept.append(order[i])
    return kept


def _is_mixture(colour: npt.NDArray[np.float32], others: npt.NDArray[np.float32], tolerance: float) -> bool:
    """Whether a colour lies between two others, but for the tolerance."""
    for k in range(len(others) - 1):
        start, line = others[k], others[k + 1 :] - others[k]
        along = ((colour - start) * line).sum(axis=1) / (line**2).sum(axis=1)
        apart = np.linalg.norm(start + along[:, None] * line - colour, axis=1)
        if ((along > 0) & (along < 1) & (apart <= tolerance)).any():
            return True
    return False


def background_first(colours: Sequence[int], pixels: Mapping[int, int]) -> list[int]:
    """Black first, or white, or else the most common; the others in the order of their numbers."""
    first = next((c for c in (0x000000, 0xFFFFFF) if c in colours), max(colours, key=lambda c: pixels.get(c, 0)))
    return [first, *sorted(c for c in colours if c != first)]
