"""How well anchors overlap objects, wherever these lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def anchor_overlaps(boxes: npt.NDArray[np.float64], sizes: Sequence[float], ratios: Sequence[float],
                    strides: Sequence[int]) -> npt.NDArray[np.float64]:
    """(M,) IoU of each box with the best anchor, whose centre is a quarter of its level's stride away along each axis, the mean of
    all places that the box may have.

    boxes: (M, 2) height and width. sizes: one a level; several a level where they are a multiple of the strides. ratios: height
    over width.
    """
    repeats = max(1, len(sizes) // len(strides))
    roots = np.sqrt(np.array(ratios, np.float64))
    anchors = np.array(sizes, np.float64)[:, None, None] * np.stack([roots, 1 / roots], axis=1)
    away = np.repeat(np.array(strides, np.float64) / 4, repeats)[:len(sizes), None, None]
    own = boxes[:, None, None, :]
    shared = np.clip(np.minimum(np.minimum(own, anchors), (own + anchors) / 2 - away), 0, None).prod(axis=-1)
    ious = shared / (own.prod(axis=-1) + anchors.prod(axis=-1) - shared)
    return np.asarray(ious.reshape(len(boxes), -1).max(axis=1))
