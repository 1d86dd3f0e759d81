"""What is kept of an image so that two of them can be compared without their pixels: at most about 10 kB."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import SizeError

#: Side of the small picture. Texture of nuclei or vessels is still there, sensor noise and coding losses are averaged out.
SMALL = 64

#: Samples of a border; longer ones are averaged down, so that a side costs 0.8 kB at most.
SAMPLES = 384

#: Shorter borders hold too few independent pixels to tell neighbours from strangers.
SHORTEST_BORDER = 32

#: Lines below a border that are looked at: two gaps inside the image with two lines on either side.
LINES = 5

#: A gap's middle is half a pixel away from the lines beside it.
HALF_PIXEL = 0.5

#: Fingerprints an image keeps. A crop that covers 1/16 of a large image shares about eight of them.
FINGERPRINTS = 128

#: A fingerprint describes this many rows and columns (one more column is compared with).
WINDOW = (8, 16)

#: One window in this many is looked at closer; which ones is up to their pixels, hence the same in every crop.
ONE_IN = 64

#: Windows with fewer or more rising steps than this of 128 are flat, saturated or a ramp, and look alike everywhere.
FEWEST_RISES, MOST_RISES = 24, 104

#: Beyond this, squares of float32 square roots and their sums come near the end of the range.
LARGEST = 1e30

#: Odd constants that spread bits over a word (2¹⁶ and 2⁶⁴ times the golden section).
_SPREAD16, _SPREAD64 = np.uint16(40503), np.uint64(0x9E3779B97F4A7C15)

#: Sides in the order of `Signature.borders`: the first of each pair is the end after which the second one continues.
SIDES = ("bottom", "top", "right", "left", "last slice", "first slice")


@dataclass(frozen=True, eq=False)
class Signature:
    """An image in about 9 kB. Volumes are seen through their middle slice and their six faces."""

    shape: tuple[int, ...]
    """(C, Y, X) or (C, Z, Y, X)."""
    digest: bytes
    """Of the values and the shape, not of the type that holds them: 8 bits in a 16-bit file are the same pixels."""
    small: npt.NDArray[np.uint8]
    """(64, 64), mean of the channels, stretched to 0..255; all 0 for a constant image."""
    borders: tuple[npt.NDArray[np.float16], ...]
    """One profile a side of `SIDES` (4, or 6 for volumes), continued half a pixel outwards, in square roots over `scale`;
    empty where the side is too short."""
    gaps: npt.NDArray[np.float32]
    """(4 or 6,) mean squared difference, in square roots, between the two profiles that meet in the middle between two lines
    inside the image, next to each side: what a border of a neighbour may differ by."""
    scale: float
    fingerprints: npt.NDArray[np.uint64]
    """(K ≤ 128,) sorted; each of a window of 8 × 17 pixels, by which pixels are brighter than their left neighbours."""
    places: npt.NDArray[np.int32]
    """(K, 2) row and column of each of them."""

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take."""
        arrays: list[npt.NDArray[Any]] = [self.small, self.gaps, self.fingerprints, self.places, *self.borders]
        return sum(a.nbytes for a in arrays) + len(self.digest)


def signature(array: npt.NDArray[Any]) -> Signature:
    """The signature of (C, Y, X) or (C, Z, Y, X) of any real dtype; equal arrays have equal ones.

    Raises SizeError for another number of axes or an empty array.
    """
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise SizeError(f"an array of shape {array.shape} is not an image with axes cyx or czyx",
                        fix="add the channel axis, and leave out empty images")
    digest = _digest(array)
    planes = array if array.ndim == 3 else array[:, array.shape[1] // 2]
    grey = _grey(planes)
    ends = [_lines(grey, axis, last) for axis in (0, 1) for last in (True, False)]
    if array.ndim == 4:
        ends += [_slices(array, last) for last in (True, False)]
    profiles, gaps = zip(*(_border(lines) for lines in ends), strict=True)
    largest = max((float(np.abs(p).max()) for p in profiles if p.size), default=0.0)
    scale = float(2.0 ** np.ceil(np.log2(largest))) if largest > 0 else 1.0
    fingerprints, places = _fingerprints(grey)
    return Signature(array.shape, digest, _small(grey), tuple((p / scale).astype(np.float16) for p in profiles),
                     np.array(gaps, np.float32), scale, fingerprints, places)


def _digest(array: npt.NDArray[Any]) -> bytes:
    """BLAKE2 of shape and values; whole numbers in the narrowest of uint8, uint16 and int64 that holds them all."""
    values = array.astype(np.uint8) if array.dtype.kind == "b" else array
    if values.dtype != np.uint8:
        low, high = array.min().item(), array.max().item()
        if array.dtype.kind in "iu" or (np.isfinite([low, high]).all() and bool((array == np.rint(array)).all())):
            fitting = [t for t in (np.uint8, np.uint16, np.int64) if np.iinfo(t).min <= low and high <= np.iinfo(t).max]
            values = array.astype(fitting[0] if fitting else array.dtype.newbyteorder("="))
        else:
            values = array.astype(np.float64)
    state = hashlib.blake2b(repr((array.shape, values.dtype.kind, values.itemsize)).encode(), digest_size=16)
    state.update(np.ascontiguousarray(values).data)
    return state.digest()


def _grey(planes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(C, Y, X) → (Y, X): the mean of the channels. What is not a number counts as 0, what is huge as LARGEST."""
    if planes.dtype.kind not in "biu":
        planes = planes if planes.dtype == np.float32 else planes.astype(np.float64)
        planes = np.clip(np.nan_to_num(planes, posinf=0, neginf=0), -LARGEST, LARGEST)
    grey: npt.NDArray[np.float32] = planes[0].astype(np.float32)
    for plane in planes[1:]:
        grey += plane
    grey /= len(planes)
    return grey


def _small(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """(64, 64): means over equal parts of the area, fractions of pixels included, so that mirroring commutes with it."""
    small = _areas(grey.shape[0]) @ grey @ _areas(grey.shape[1]).T
    low, high = float(small.min()), float(small.max())
    # float32 sums of a constant differ in the last digits
    if not high - low > 1e-6 * max(abs(high), abs(low)):
        return np.zeros((SMALL, SMALL), np.uint8)
    return np.rint((small - low) * (255 / (high - low))).astype(np.uint8)


def _areas(length: int) -> npt.NDArray[np.float32]:
    """(64, length): weight of each pixel in each of 64 equal parts."""
    edges, pixels = np.arange(SMALL + 1) * length / SMALL, np.arange(length)
    inside = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.clip(inside, 0, None) * SMALL / length, np.float32)


def _lines(grey: npt.NDArray[np.float32], axis: int, last: bool) -> npt.NDArray[np.float32]:
    """(5, n): the outermost lines of one side, from outside inwards; fewer lines when the image has no more."""
    turned = grey if axis == 0 else grey.T
    return (turned[::-1] if last else turned)[:LINES]


def _slices(array: npt.NDArray[Any], last: bool) -> npt.NDArray[np.float32]:
    """(5, n): the outermost slices of a volume on a coarse grid, each as one line."""
    _, _, height, width = array.shape
    step = int(np.ceil(np.sqrt(height * width / SAMPLES)))
    planes = (array[:, ::-1] if last else array)[:, :LINES, step // 2::step, step // 2::step]
    return np.stack([_grey(planes[:, z]).ravel() for z in range(planes.shape[1])])


def _border(lines: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
    """(profile on the outer edge, usual squared difference of two such profiles from both sides of a gap inside).

    In square roots, where photon noise is equally strong in dark and bright places.
    """
    if len(lines) < LINES or lines.shape[1] < SHORTEST_BORDER:
        return np.empty(0, np.float32), 0.0
    step = -(-lines.shape[1] // SAMPLES)
    used = lines.shape[1] // step * step
    roots = np.sign(lines) * np.sqrt(np.abs(lines))
    roots = roots[:, :used].reshape(len(lines), -1, step).mean(2)
    outwards = roots[:-1] + HALF_PIXEL * (roots[:-1] - roots[1:])
    inwards = roots[1:] + HALF_PIXEL * (roots[1:] - roots[:-1])
    # the gap between lines k and k + 1: k + 1 (and k + 2) continued outwards meets k (and k - 1) continued inwards
    gaps = outwards[2:] - inwards[:-2]
    return outwards[0], float((gaps**2).mean())


def _fingerprints(grey: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """(K,) smallest hashes of windows, sorted, and (K, 2) their places.

    Built on "brighter than the left neighbour" alone: a stretched contrast leaves it unchanged. The smallest hashes are
    the same ones in every crop that holds their windows.
    """
    rows, columns = WINDOW
    height, width = grey.shape[0] - rows + 1, grey.shape[1] - columns
    if height < 1 or width < 1:
        return np.empty(0, np.uint64), np.empty((0, 2), np.int32)
    rises = (grey[:, 1:] > grey[:, :-1]).view(np.uint8)
    octets = rises[:, :-7].copy()  # eight steps to the right of each pixel
    for k in range(1, 8):
        octets |= rises[:, k:rises.shape[1] - 7 + k] << np.uint8(k)
    picked = (octets[:height, :width].astype(np.uint16) << np.uint16(8)) | octets[rows // 2:rows // 2 + height, 8:8 + width]
    y, x = np.nonzero(picked * _SPREAD16 < 2**16 // ONE_IN)
    words = [np.ascontiguousarray(octets[y[:, None] + np.arange(rows), x[:, None] + shift]).view(np.uint64)[:, 0]
             for shift in (0, 8)]
    rising = np.bitwise_count(words[0]) + np.bitwise_count(words[1])
    hashes = _spread(_spread(words[0]) ^ words[1])
    kept = (rising >= FEWEST_RISES) & (rising <= MOST_RISES)
    found, first, counts = np.unique(hashes[kept], return_index=True, return_counts=True)
    found, first = found[counts == 1][:FINGERPRINTS], first[counts == 1][:FINGERPRINTS]
    return found, np.stack([y[kept][first], x[kept][first]], 1).astype(np.int32)


def _spread(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix the bits of each word, so that the smallest are an arbitrary choice."""
    mixed = (words ^ (words >> np.uint64(31))) * _SPREAD64
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _SPREAD64
    return mixed ^ (mixed >> np.uint64(32))
