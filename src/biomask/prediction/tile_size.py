"""How large the tiles of an image are, and what its results take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import psutil
import torch

from biomask.allocator import keep_freed_memory, return_freed_memory
from biomask.errors import InputError
from biomask.image import Image
from biomask.machine import free_memory
from biomask.prediction.memory import TooLittleMemory, fit_tile
from biomask.prediction.overlap_tile import geometry_of
from biomask.prediction.work import Work
from biomask.tiling import pixels_read

#: Share of the free memory that a prediction takes unless told.
FREE_SHARE = 0.5

#: Bytes a pixel that finding objects takes at its peak: by a watershed, and as connected pieces.
FLOODED, COUNTED = 40, 24

#: Gates that a network is taken to have when its attention is kept.
GATES = 4

#: Where freed memory is kept, the process grows by up to this many times what is in use at once, and so many bytes: 1440 MB for
#: 473 were the most, of several networks, sizes and images of unlike size one after the other.
GAPS, MORE = 2.5, 3e8

#: Times as many pixels may be read with smaller tiles: returning memory costs as much (benchmarks/allocator.py).
MORE_WORK = 1.5

#: Share of --memory that is left for what cannot be foretold, such as the allocator's gaps.
RESERVE = 0.05


def tile_for(work: Work, image: Image, size: Sequence[int] | None = None) -> tuple[int, ...]:
    """Pixels kept a tile along each axis of an image. size: after resampling, where it is.

    On a CPU it also says what becomes of memory that is freed. Raises InputError where --memory is too little, with the least that
    would do.
    """
    seen = image.size if size is None else tuple(size)
    options, recipe = work.options, work.model.header.recipe
    choice = options.tile if options.tile is not None else recipe.prediction.tile
    if choice != "auto":
        if options.memory is not None:  # the best that can be done for it
            return_freed_memory()
        return seen if choice == "whole" else (choice,) * image.spatial_dims
    if work.device.type == "cuda" and options.memory is None:
        return fit_tile(work.network, seen, torch.cuda.mem_get_info(work.device)[0] * FREE_SHARE, work.cost)
    if options.memory is None:
        return _with_gaps(work, seen, lambda: free_memory() * FREE_SHARE)
    return _within(options.memory, work, image, seen)


def _with_gaps(work: Work, seen: tuple[int, ...], left: Callable[[], float]) -> tuple[int, ...]:
    """A tile for which freed memory is kept, which is faster; where that leaves room for small tiles alone, a larger one for
    which it is returned. left(): bytes that may be taken now."""
    for attempt in (keep_freed_memory, return_freed_memory):  # an image before may have left much that is free
        attempt()
        room = left()
        small, large = (_fitting(work, seen, budget) for budget in ((room - MORE) / GAPS, room))
        if small is not None and large is not None and _work(work, seen, small) <= MORE_WORK * _work(work, seen, large):
            keep_freed_memory()
            return small
    return fit_tile(work.network, seen, room, work.cost)


def _fitting(work: Work, seen: tuple[int, ...], budget: float) -> tuple[int, ...] | None:
    try:
        return fit_tile(work.network, seen, budget, work.cost)
    except TooLittleMemory:
        return None


def _work(work: Work, seen: tuple[int, ...], tile: tuple[int, ...]) -> int:
    return pixels_read(seen, tile, geometry_of(work.network))


def _within(memory: int, work: Work, image: Image, seen: tuple[int, ...]) -> tuple[int, ...]:
    output = output_bytes(work, image, seen)

    def taken() -> float:
        return float(psutil.Process().memory_info().rss + output)

    try:
        return _with_gaps(work, seen, lambda: memory * (1 - RESERVE) - taken())
    except TooLittleMemory as error:
        # The program's own share differs a little from run to run.
        enough = 1.03 * (taken() + error.needed) / (1 - RESERVE)
        raise InputError(f"{memory / 1e6:.0f} MB are too little for an image of {image.size}: {taken() / 1e6:.0f} MB go to the "
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
