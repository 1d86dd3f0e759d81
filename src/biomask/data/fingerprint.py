"""From facts about the data to the sizes that a recipe leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from biomask.data.patches import PatchGeometry
from biomask.errors import UsageError
from biomask.tiling import AxisGeometry

#: Patch sides that fill two CPU cores and still leave room for variety; voxels of both are alike in number.
USUAL_PATCH = {2: 256, 3: 40}


#: Depth of a U-Net whose recipe leaves it open. In 3D the exact halo of depth 4 (96 voxels a side) would make a tile of
#: 96³ read 27 times as much, of depth 2 (24 voxels) a tile of 64³ 5 times.
USUAL_DEPTH = {2: 4, 3: 2}


def complete_network(name: str, options: Mapping[str, Any], spatial_dims: int) -> dict[str, Any]:
    """The network's options with those filled in that a recipe leaves open and the data decide."""
    return {"depth": USUAL_DEPTH[spatial_dims], **options} if name == "unet" else dict(options)


def choose_patch(sizes: Sequence[tuple[int, ...]], geometry: Sequence[AxisGeometry],
                 given: Sequence[int] | None) -> PatchGeometry:
    """Patch sizes that the network takes as they are.

    given: wanted label pixels along each axis, or None for the usual side, at most the median image's. Rounded to what
    the network can give: up for `given`, down (but at least one stride) for the usual side.
    """
    if given is not None and len(given) != len(geometry):
        raise UsageError(f"training.patch={tuple(given)} has {len(given)} sides for {len(geometry)}D images")
    target = []
    for axis, g in enumerate(geometry):
        wanted = given[axis] if given else min(USUAL_PATCH[len(geometry)], int(median(s[axis] for s in sizes)))
        if g.margin:
            target.append(g.legal_size(wanted + 2 * g.margin) - 2 * g.margin)
        else:
            target.append(g.legal_size(wanted) if given else max(g.stride, wanted // g.stride * g.stride))
    return PatchGeometry(tuple(target), tuple(g.margin for g in geometry))
