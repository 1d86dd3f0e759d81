"""Labels of a NIfTI volume laid on their image by what both headers say of the scanner's axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError

Affine = npt.NDArray[np.float64]

#: Voxels by which a direction, over one voxel, and an origin may differ: headers are rounded.
SLANT, APART = 0.02, 0.5


def laid_on(labels: npt.NDArray[Any], affine: Affine, image: Affine, where: Path) -> tuple[npt.NDArray[Any], str]:
    """((Z, Y, X) labels with the axes of the image, what was done or "").

    affine, image: (4, 4), from (x, y, z) in voxels to millimetres. Axes that are exchanged or run the other way are turned.
    An affine that states nothing (the identity, or one that is singular) is taken for the image's. Raises LabelsError where
    the voxels of both do not lie on each other.
    """
    if np.allclose(affine, image, rtol=1e-3, atol=1e-3):
        return labels, ""
    if np.allclose(affine, np.eye(4)) or not (_is_a_grid(affine) and _is_a_grid(image)):
        return labels, "its header states no place in the scanner: taken to lie on its image voxel by voxel"
    between = np.linalg.inv(image) @ affine
    turn = np.rint(between[:3, :3])
    if not (np.abs(between[:3, :3] - turn) < SLANT).all() or not np.array_equal(np.abs(turn).sum(axis=0), np.ones(3)):
        raise LabelsError(f"lies elsewhere than its image: voxels of {_sides(affine)} mm against {_sides(image)} mm, or turned",
                          where=where, fix="resample the labels onto the image's grid, or save them with its header")
    order = [int(np.flatnonzero(turn[axis])[0]) for axis in range(3)]  # image axis → label axis, of x, y, z
    turned = labels.transpose([2 - order[axis] for axis in (2, 1, 0)])
    backwards = [axis for axis in range(3) if turn[axis, order[axis]] < 0]
    start = between[:3, 3] - [turned.shape[2 - axis] - 1 if axis in backwards else 0 for axis in range(3)]
    if (np.abs(start) > APART).any():
        shown = ", ".join(f"{a} {v:+.1f}" for a, v in zip("xyz", start, strict=True))
        raise LabelsError(f"lies elsewhere than its image: by {shown} voxels", where=where,
                          fix="resample the labels onto the image's grid, or save them with its header")
    turned = np.flip(turned, tuple(2 - axis for axis in backwards))
    same = order == [0, 1, 2] and not backwards
    return np.ascontiguousarray(turned), "" if same else "turned as its header says, to lie on its image"


def _is_a_grid(affine: Affine) -> bool:
    """Whether an affine is finite and can be turned back."""
    return bool(np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12)


def _sides(affine: Affine) -> str:
    return " × ".join(f"{v:.3g}" for v in np.linalg.norm(affine[:3, :3], axis=0))
