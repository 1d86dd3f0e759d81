"""How large the tiles of an image are, and what its results take."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import psutil
import torch

from biomask.errors import InputError
from biomask.image import Image
from biomask.machine import free_memory
from biomask.prediction.memory import TooLittleMemory, fit_tile
from biomask.prediction.work import Work

#: Share of the free memory that a prediction takes unless told.
FREE_SHARE = 0.5

#: Bytes a pixel that finding objects takes at its peak: by a watershed, and as connected pieces.
FLOODED, COUNTED = 40, 24

#: Gates that a network is taken to have when its attention is kept.
GATES = 4

#: Share of --memory that is left for what cannot be foretold, such as the allocator's gaps.
RESERVE = 0.05


def tile_for(work: Work, image: Image, size: Sequence[int] | None = None) -> tuple[int, ...]:
    """Pixels kept a tile along each axis of an image. size: after resampling, where it is.

    Raises InputError where --memory is too little, with the least that would do.
    """
    seen = image.size if size is None else tuple(size)
    options, recipe = work.options, work.model.header.recipe
    choice = options.tile if options.tile is not None else recipe.prediction.tile
    if isinstance(choice, int):
        return (choice,) * image.spatial_dims
    if choice == "whole":
        return seen
    if options.memory is not None:
        return _within(options.memory, work, image, seen)
    free = torch.cuda.mem_get_info(work.device)[0] if work.device.type == "cuda" else free_memory()
    return fit_tile(work.network, seen, free * FREE_SHARE, work.cost)


def _within(memory: int, work: Work, image: Image, seen: tuple[int, ...]) -> tuple[int, ...]:
    taken = psutil.Process().memory_info().rss + output_bytes(work, image, seen)
    try:
        return fit_tile(work.network, seen, memory * (1 - RESERVE) - taken, work.cost)
    except TooLittleMemory as error:
        enough = 1.03 * (taken + error.needed) / (1 - RESERVE)  # the program's own share differs a little from run to run
        raise InputError(f"{memory / 1e6:.0f} MB are too little for an image of {image.size}: {taken / 1e6:.0f} MB go to the "
                         f"program, the image and its results, and {error.what}", where="--memory",
                         fix=f"give at least --memory {enough / 1e6:.0f}MB") from error


def output_bytes(work: Work, image: Image, size: Sequence[int] | None = None) -> int:
    """Bytes that an image's results take beside the image itself, at their peak. size: after resampling, where it is."""
    options, task = work.options, work.model.task
    pixels = prod(image.size)
    plane = pixels // (image.size[0] if image.spatial_dims == 3 else 1)
    mask, picture = 4 * pixels, 8 * plane  # class ids, values and their encoding; RGB twice and its PNG
    maps = 4 * task.channels * pixels if work.keeps_maps else 0
    if options.probabilities:
        maps *= 2
    if options.rescale is not None:
        maps += 4 * (task.channels + 2 * image.channels) * prod(size or image.size)
    if options.attention:
        maps += 2 * 4 * GATES * pixels
    flooded = task.kind == "instances" and not work.model.is_detector
    objects = (FLOODED if flooded else COUNTED) * pixels if options.objects else 0
    return mask + picture + maps + objects
