"""From facts about the data to the sizes that a recipe leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from biomask.data.patches import PatchGeometry
from biomask.errors import UsageError
from biomask.tiling import AxisGeometry

#: Patch sides that fill two CPU cores and still leave room for variety; voxels of both are alike in number.
USUAL_PATCH = {2: 256, 3: 40}


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
