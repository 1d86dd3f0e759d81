"""What the U-Net's weight map costs: one distance transform for each cell against the two ways of `biomask.targets`.

    python benchmarks/weight_map.py

Cells lie as close in every image, 400 of them on 512 x 512 pixels, so that a time that grows with the pixels grows with the cells.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from skimage.draw import disk
from torch import Tensor

from biomask.targets import two_nearest, two_nearest_cropped, weight_map
from common import record

W0, SIGMA = 10.0, 5.0

#: Distance between the middles of neighbouring cells, px: 20 x 20 of them on 512 x 512 pixels.
PITCH = 25.6

#: A transform for each cell of a larger image takes minutes.
LARGEST_FULL = 512


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts; the transforms of all cells are timed once")
    parser.add_argument("--show", action="store_true", help="print, and write no results")
    given = parser.parse_args()
    rows = [measured(side, given.repeats) for side in given.sides]
    for row in rows:
        print(row)
    content = {"what": "weight map of 2015 (w0 10, sigma 5 px) of discs of 7 to 11 px radius, on the CPU", "threads":
               torch.get_num_threads(), "rows": rows}
    if not given.show:
        record("weight_map", content)


def measured(side: int, repeats: int) -> dict[str, float]:
    """Seconds of each way on one image, how much quicker than a transform a cell, and the largest difference to it."""
    ids = cells(side)
    labels = torch.from_numpy(ids)[None]
    row: dict[str, float] = {"side": side, "cells": int(ids.max())}
    maps = {}
    for name, nearest in (("separable", two_nearest), ("cropped", two_nearest_cropped)):
        def make(nearest: Callable[..., tuple[Tensor, Tensor]] = nearest) -> Tensor:
            return weight_map(labels, w0=W0, sigma=SIGMA, nearest=nearest)

        make()  # the first is slower
        seconds = min(timed(make) for _ in range(repeats))
        maps[name] = make()[0].numpy()
        row |= {f"{name}_seconds": round(seconds, 4), f"{name}_seconds_a_megapixel": round(seconds / side**2 * 1e6, 3)}
    if side <= LARGEST_FULL:
        began = time.perf_counter()
        full = one_transform_a_cell(ids)
        row["full_seconds"] = round(time.perf_counter() - began, 2)
        for name, found in maps.items():
            row |= {f"{name}_times_faster": round(row["full_seconds"] / row[f"{name}_seconds"], 1),
                    f"{name}_largest_difference": float(np.abs(found - full).max())}
    return row


def cells(side: int) -> npt.NDArray[np.int32]:
    """Ids of discs on a shaken grid; some touch, some are cut by others."""
    rng, ids = np.random.default_rng(side), np.zeros((side, side), np.int32)
    middles = np.arange(PITCH / 2, side, PITCH)
    for y in middles:
        for x in middles:
            place = np.array([y, x]) + rng.uniform(-6, 6, 2)
            ids[disk(tuple(place), rng.uniform(7, 11), shape=ids.shape)] = ids.max() + 1
    return ids


def one_transform_a_cell(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """The formula as it stands in the paper: the distance of every pixel to every cell."""
    nearest, second = np.full((2, *ids.shape), np.inf)
    for number in np.unique(ids[ids > 0]):
        distance = ndimage.distance_transform_edt(ids != number)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    return np.asarray(1 + np.where(ids == 0, W0 * np.exp(-((nearest + second) ** 2) / (2 * SIGMA**2)), 0))


def timed(make: Callable[[], object]) -> float:
    began = time.perf_counter()
    make()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
