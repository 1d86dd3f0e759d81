"""Overlap-tile arithmetic: integers only, no arrays of pixels, no network.

One axis of one tile, for a network that keeps the size ("same" padding)::

    image     |0 . . . . . . . . . . . . . . . . . . . . . . . . . . size|
    read            |<---- halo ---->|<==== keep ====>|<---- halo ---->|
                    ^ a multiple of stride            ^ a multiple of stride

and for one without padding ("valid"), which returns `margin` pixels less on each side::

    read            |<--- margin --->|<==== keep ====>. .|<- margin -->|
                                                       ^ surplus where only some sizes are legal

Rules that make tiling exact (spec 9): every tile's input begins at a multiple of the network's stride in the image's
frame; the halo covers every dependency of the kept pixels; where the image ends the tile ends, so that the same
padding acts; a "valid" network reads the mirrored image beyond the border.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import numpy as np
import numpy.typing as npt

LegalSize = Callable[[int], int]
"""Smallest input size >= n that a network takes along one axis."""


@dataclass(frozen=True)
class AxisGeometry:
    """What tiling must know of a network along one axis."""

    stride: int
    """Product of the strides: shifts by this many pixels commute with the network."""
    halo: int
    """Context on each side that is read and cropped away; a multiple of `stride`; 0 for "valid" networks."""
    margin: int
    """Pixels that the output lacks on each side; 0 for "same" networks."""
    legal_size: LegalSize
    """Smallest input size >= n that the network takes without padding of its own."""


@dataclass(frozen=True)
class AxisTile:
    """One axis of one tile, in the image's frame."""

    start: int
    """First pixel read; below 0 only for "valid" networks (mirrored)."""
    stop: int
    """One past the last pixel read; beyond the image only for "valid" networks (mirrored)."""
    keep_start: int
    """First pixel that this tile writes."""
    keep_stop: int
    """One past the last pixel that this tile writes."""
    offset: int
    """Where `keep_start` lies in the network's output for this tile."""


@dataclass(frozen=True)
class Tile:
    """A window to read, the part of the output to keep and where that goes; one entry an axis."""

    axes: tuple[AxisTile, ...]

    @property
    def read_size(self) -> tuple[int, ...]:
        """Spatial shape of the window, in pixels."""
        return tuple(a.stop - a.start for a in self.axes)

    @property
    def write(self) -> tuple[slice, ...]:
        """Where the kept part goes in the image."""
        return tuple(slice(a.keep_start, a.keep_stop) for a in self.axes)

    @property
    def crop(self) -> tuple[slice, ...]:
        """Where the kept part lies in the network's output."""
        return tuple(slice(a.offset, a.offset + a.keep_stop - a.keep_start) for a in self.axes)

    def read_indices(self, size: Sequence[int]) -> tuple[npt.NDArray[np.int64], ...]:
        """Pixels to read along each axis of an image of `size`, mirrored beyond its borders."""
        return tuple(mirror(np.arange(a.start, a.stop), n) for a, n in zip(self.axes, size, strict=True))


def mirror(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Indices reflected into 0..size-1 without repeating the edge pixel, as often as needed.

    The paper says "mirroring" (U-Net, fig. 2) and leaves open whether the edge is repeated; it is not, here.

    >>> mirror(np.arange(-3, 7), 3).tolist()
    [1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    """
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * (size - 1))
    return np.where(folded < size, folded, 2 * (size - 1) - folded)


def round_up(n: int, multiple: int) -> int:
    """Smallest multiple >= n."""
    return -(-n // multiple) * multiple


def plan_axis(size: int, tile: int, geometry: AxisGeometry) -> list[AxisTile]:
    """Tiles that keep every pixel 0..size-1 of one axis exactly once.

    tile: pixels kept a tile, rounded up to the stride; `size` or more gives one tile.
    """
    step = round_up(max(1, tile), geometry.stride)
    return [_axis_tile(start, min(start + step, size), size, geometry) for start in range(0, size, step)]


def _axis_tile(start: int, stop: int, size: int, g: AxisGeometry) -> AxisTile:
    if g.margin:
        read = g.legal_size(stop - start + 2 * g.margin)
        return AxisTile(start - g.margin, start - g.margin + read, start, stop, 0)
    first = max(0, start - g.halo)
    return AxisTile(first, min(size, stop + g.halo), start, stop, start - first)


def plan_tiles(size: Sequence[int], tile: Sequence[int], geometry: Sequence[AxisGeometry]) -> list[Tile]:
    """All tiles of an image, in reading order; together they keep every pixel exactly once."""
    axes = [plan_axis(n, t, g) for n, t, g in zip(size, tile, geometry, strict=True)]
    return [Tile(combination) for combination in product(*axes)]


def smallest_tile(geometry: Sequence[AxisGeometry]) -> tuple[int, ...]:
    """The smallest tile that is chosen unasked: as long as its context on one side, so three times it is read.

    Smaller ones are legal, but nearly all their work is context, and near the borders each reads a window of its own
    shape, for each of which convolution libraries keep compiled code.
    """
    return tuple(round_up(max(g.stride, g.halo, g.margin), g.stride) for g in geometry)


def smallest_read(size: Sequence[int], geometry: Sequence[AxisGeometry]) -> int:
    """Pixels of the largest window that tiles of the smallest kind read."""
    return prod(min(o[1] for o in _axis_options(n, g)) for n, g in zip(size, geometry, strict=True))


def choose_tile(size: Sequence[int], max_read: float, geometry: Sequence[AxisGeometry]) -> tuple[int, ...] | None:
    """The balanced tile with the least total work whose window reads at most `max_read` pixels; None if none is that small.

    Balanced: as small as their number allows, which avoids a thin last tile with a window of its own shape. A side that fits whole
    needs no halo there. Total work is the sum over tiles of the pixels read.
    """
    options = [list(_axis_options(n, g)) for n, g in zip(size, geometry, strict=True)]
    floor = [min(o[1] for o in axis) for axis in options]
    best: tuple[float, tuple[int, ...]] | None = None

    def search(chosen: list[tuple[int, int, int]]) -> None:
        nonlocal best
        depth = len(chosen)
        if prod(c[1] for c in chosen) * prod(floor[depth:]) > max_read:
            return
        if depth == len(options):
            work = float(prod(c[2] for c in chosen))
            if best is None or work < best[0]:
                best = work, tuple(c[0] for c in chosen)
            return
        for option in options[depth]:
            search([*chosen, option])

    search([])
    return best[1] if best else None


def pixels_read(size: Sequence[int], tile: Sequence[int], geometry: Sequence[AxisGeometry]) -> int:
    """The total work of a tile: the sum over all tiles of the pixels read."""
    return prod(sum(a.stop - a.start for a in plan_axis(n, t, g)) for n, t, g in zip(size, tile, geometry, strict=True))


def _axis_options(size: int, g: AxisGeometry) -> Iterator[tuple[int, int, int]]:
    """(tile, longest read, total read) for every useful number of tiles along one axis, fewest tiles first."""
    seen: set[int] = set()
    strides = ceil(size / g.stride)
    (floor,) = smallest_tile((g,))
    for count in [*range(1, min(strides, 64) + 1), *range(128, strides, 64), strides]:
        tile = max(floor, g.stride * ceil(strides / count))
        if tile not in seen:
            seen.add(tile)
            reads = [a.stop - a.start for a in plan_axis(size, tile, g)]
            yield tile, max(reads), sum(reads)
