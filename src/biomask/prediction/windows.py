"""How large the windows of a detector are, and the memory that one takes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import psutil

from biomask.allocator import keep_freed_memory, return_freed_memory
from biomask.errors import InputError
from biomask.image import Image
from biomask.models import MaskRCNN
from biomask.models.mask_rcnn.resize import STRIDE, resized
from biomask.prediction.memory import OVERHEAD, activation_bytes
from biomask.prediction.tile_size import GAPS, MORE, RESERVE, output_bytes
from biomask.prediction.work import Work

#: Sides of the pooled maps of the box head, and of the mask and keypoint heads.
BOX_SIDE, MASK_SIDE = 7, 14

#: Tensors of these maps that a head holds at once, and bytes a number.
COPIES, FLOAT = 3, 4

#: Windows of fewer pixels along a side see too little around an object.
SMALLEST = 64

#: Fewer pixels than this are no window, whatever a model says: an image would have more of them than anybody waits for.
LEAST = 16


def window_for(work: Work, image: Image, size: Sequence[int]) -> tuple[int, int]:
    """(Y, X) of a detector's windows for an image. size: as the network sees it.

    Without --tile it is the patch of the training, for objects are then seen at the scale that was learnt, or the whole image where
    that has none. Raises InputError where --memory is too little, with the least that would do.
    """
    recipe, told = work.model.header.recipe, work.options.tile
    choice = told if told is not None else recipe.prediction.tile
    patch = recipe.training.patch
    if isinstance(choice, int):
        window = (choice, choice)
    elif choice == "whole" or patch is None:
        window = (size[0], size[1])
    else:
        window = (max(LEAST, patch[0]), max(LEAST, patch[-1]))
    if work.options.memory is not None and choice == "auto":
        return _within(work.options.memory, work, image, size, window)
    return window


def _within(memory: int, work: Work, image: Image, size: Sequence[int], window: tuple[int, int]) -> tuple[int, int]:
    """The window, or a smaller one that fits; freed memory is kept where there is room for the gaps that this leaves."""
    network: Any = work.network
    if network.short_side is None:  # else smaller images are filled up to the window
        window = (min(window[0], size[0]), min(window[1], size[1]))
    return_freed_memory()
    taken = psutil.Process().memory_info().rss + output_bytes(work, image, size)
    left = memory * (1 - RESERVE) - taken
    while (needed := window_bytes(network, window)) > left:
        smaller = (max(SMALLEST, window[0] // 2), max(SMALLEST, window[1] // 2))
        if prod(smaller) >= prod(window) or window_bytes(network, smaller) >= needed:
            enough = 1.03 * (taken + needed) / (1 - RESERVE)
            fixed = network.short_side is not None
            raise InputError(f"{memory / 1e6:.0f} MB are too little for an image of {image.size}: {taken / 1e6:.0f} MB go to the "
                             f"program, the image and its results, and a window of {window[0]} x {window[1]} needs "
                             f"{needed / 1e6:.0f} MB"
                             + (f", whatever its size: the detector brings each to {network.short_side} pixels" if fixed else ""),
                             where="--memory", fix=f"give at least --memory {enough / 1e6:.0f}MB")
        window = smaller
    if GAPS * needed + MORE <= left:
        keep_freed_memory()
    return window


def window_bytes(network: MaskRCNN, window: Sequence[int]) -> float:
    """About what a window takes beside the weights: the maps of the backbone, and what the heads make of the proposals."""
    sides = network.transform.short_sides
    seen = resized((window[0], window[1]), max(sides) if sides else None, network.transform.long_side)
    padded = [-(-n // STRIDE) * STRIDE for n in seen]
    limits, channels = network.limits, network.backbone.channels
    heads = limits.proposals * channels * BOX_SIDE**2 + network.has_masks * limits.detections * channels * MASK_SIDE**2
    if network.keypoints:
        heads += limits.detections * (2 * channels * MASK_SIDE**2 + network.keypoints * (4 * MASK_SIDE) ** 2)
    return OVERHEAD * activation_bytes(network.backbone, padded, network.in_channels) + COPIES * FLOAT * heads
