"""`Image`: an array with the facts that must never be separated from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from biomask.errors import SizeError

#: Axis orders that exist inside biomask; the channel axis is always there.
AXES = ("cyx", "czyx")


@dataclass(frozen=True)
class Image:
    """One image, 2D or 3D, with its axes, its voxel size and its names.

    >>> Image(np.zeros((1, 4, 6), np.uint8), "cyx", "cell").size
    (4, 6)
    """

    array: Any
    """numpy array, or a lazy one with `shape`, `dtype` and slicing; axes as in `axes`, any real dtype."""
    axes: str
    """"cyx" or "czyx"."""
    name: str
    """The file's name without folder, and the series inside it where there are several."""
    spacing: Mapping[str, float] | None = None
    """Micrometres per pixel along each spatial axis, e.g. {"y": 0.5, "x": 0.5}; None when unknown."""
    channel_names: tuple[str, ...] = field(default=())
    """One name per channel, or empty."""
    affine: Any = None
    """float64 (4, 4) of a NIfTI volume or a plane of one, whose z is 0: from (x, y, z) in pixels to scanner millimetres; None
    elsewhere."""

    def __post_init__(self) -> None:
        if self.axes not in AXES:
            raise SizeError(f"axes {self.axes!r} are not one of {AXES}", where=self.name)
        if len(self.array.shape) != len(self.axes):
            raise SizeError(f"shape {tuple(self.array.shape)} does not have axes {self.axes!r}", where=self.name)
        if self.spacing is not None and (
            set(self.spacing) != set(self.axes[1:]) or not all(v > 0 and np.isfinite(v) for v in self.spacing.values())
        ):
            raise SizeError(f"spacing {dict(self.spacing)} does not give a size > 0 for each of {self.axes[1:]!r}",
                            where=self.name)
        if self.channel_names and len(self.channel_names) != self.channels:
            raise SizeError(f"{len(self.channel_names)} channel names for {self.channels} channels", where=self.name)

    @property
    def channels(self) -> int:
        """Number of channels, at least 1."""
        return int(self.array.shape[0])

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial shape, (Y, X) or (Z, Y, X), in pixels."""
        return tuple(int(n) for n in self.array.shape[1:])

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.axes) - 1
