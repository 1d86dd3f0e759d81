"""What happens to one image: from the file to class ids, probabilities and objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from biomask.image import Image
from biomask.prediction.attention import predict_attention
from biomask.prediction.detect import Detections, detect_image, resolve
from biomask.prediction.fits import require_fit
from biomask.prediction.maps import class_ids, decide, predict_maps
from biomask.prediction.objects import Found, find_objects
from biomask.prediction.overlap_tile import predict_tiles, tiling_difference
from biomask.prediction.rescale import factors_of, resampled, rescaled_image
from biomask.prediction.tile_size import tile_for
from biomask.prediction.windows import window_for
from biomask.prediction.work import Work

#: Of a detector, the threshold below which an object has too few pixels, by its name in a model's header.
LEAST_SIZE = "min_size"


@dataclass(frozen=True)
class Predicted:
    """What is found in an image, in its own pixels."""

    decided: npt.NDArray[np.uint8]
    """Class ids (*S): positions in the legend; of multilabel 0 or 1, (K, *S)."""
    maps: npt.NDArray[np.float32] | None
    """Probabilities (channels, *S); None where they were not kept."""
    found: Sequence[Found]
    """Objects; empty where they are not wanted."""
    tile: tuple[int, ...]
    factors: tuple[float, ...] | None
    """What the image was resampled by before the network saw it; None where it was not."""
    seen: Image
    """The image as the network saw it, before normalisation."""
    attention: npt.NDArray[np.float32] | None = None
    """(gates, *S); None where it is not wanted."""
    tiling_difference: float | None = None
    """Of a network that cannot be tiled exactly, in tiles: about how far probabilities are from those untiled."""
    detections: Detections | None = None
    """Of a detector: what it found, before each pixel was given to one object."""
    vanished: int = 0
    """Of these, objects that others hide, which have no id."""


def predict_image(work: Work, image: Image, done: Callable[[int, int], None] | None = None) -> Predicted:
    """Predict an image. done(n, of) is called as parts are ready.

    Raises SizeError or ReadError for an image that `require_fit` refuses, InputError where --memory is too little or --rescale
    auto does not know the size of a pixel.
    """
    model, task = work.model, work.model.task
    require_fit(image, model, image.name)
    factors = factors_of(work.options.rescale, image, model.header)
    seen = image if factors is None else rescaled_image(image, factors)
    if model.is_detector:
        return _detected(work, image, seen, factors, done)
    tile = tile_for(work, image, seen.size)
    statistics = model.normalization.statistics(seen.array)
    maps: npt.NDArray[np.float32] | None = None
    if work.keeps_maps:
        maps = predict_maps(work.network, seen.array, task, tile, copies=work.copies, statistics=statistics, device=work.device,
                            approximate=True, done=done)
        if work.refinement.does_something:
            maps = work.refinement(maps)
        if factors is not None:
            maps = resampled(maps, image.size)
        decided = decide(maps, task, work.cut)
    else:
        decided = np.empty(image.size, np.uint8)
        for window, logits in predict_tiles(work.network, seen.array, tile, statistics=statistics, device=work.device,
                                            approximate=True, done=done):
            decided[window.write] = class_ids(logits, work.cut).cpu().numpy()
    found = find_objects(model, decided, maps, factors) if work.options.objects else []
    if task.kind == "instances" and found:
        decided = found[0].classes[found[0].ids].astype(np.uint8)
    difference = None if work.is_exact else tiling_difference(work.network, seen.array, tile, task.activate, statistics=statistics,
                                                              device=work.device)
    return Predicted(decided, maps, found, tile, factors, seen, _attention(work, image, seen, tile), difference)


def _detected(work: Work, image: Image, seen: Image, factors: tuple[float, ...] | None,
              done: Callable[[int, int], None] | None) -> Predicted:
    """The same by a detector. seen: the image as the network sees it."""
    model = work.model
    found = detect_image(work.network, seen.array, tile=window_for(work, image, seen.size), limits=work.limits,
                         statistics=model.normalization.statistics(seen.array), device=work.device, done=done)
    if factors is not None:
        back = [n / m for n, m in zip(image.size, seen.size, strict=True)]
        found = found.resampled(back, image.size)
    least = model.header.thresholds.get(LEAST_SIZE, 1.0) / (1.0 if factors is None else prod(factors))
    resolved = resolve(found, image.size, least=max(1, round(least)))
    classes = np.concatenate([np.zeros(1, np.int64), found.classes[resolved.of]])
    scores = np.concatenate([np.zeros(1, np.float32), found.scores[resolved.of]])
    objects = [Found(resolved.ids, classes, None, scores)] if work.options.objects else []
    return Predicted(classes[resolved.ids].astype(np.uint8), None, objects, found.tile, factors, seen, detections=found,
                     vanished=resolved.vanished)


def _attention(work: Work, image: Image, seen: Image, tile: tuple[int, ...]) -> npt.NDArray[np.float32] | None:
    """In the image's own pixels; None where it is not wanted."""
    if not work.options.attention:
        return None
    found = predict_attention(work, seen, tile, work.model.normalization.statistics(seen.array))
    return found if seen.size == image.size else resampled(found, image.size)


def class_pixels(work: Work, predicted: Predicted) -> dict[int, int]:
    """Pixels of each position in the legend; those of structures may overlap."""
    decided = predicted.decided
    if work.model.task.kind == "multilabel":
        return {0: int((~decided.any(axis=0)).sum()), **{k: int((plane > 0).sum()) for k, plane in enumerate(decided, start=1)}}
    return {k: int((decided == k).sum()) for k in range(len(work.model.legend))}
