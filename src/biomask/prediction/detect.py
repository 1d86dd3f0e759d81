"""A detector on one image: whole where it is small, else in overlapping windows, each object once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from biomask.errors import SizeError
from biomask.instances.polygons import Crop
from biomask.models.mask_rcnn.boxes import clip_boxes
from biomask.models.mask_rcnn.types import Detection, Limits
from biomask.prediction.crops import box_crop
from biomask.prediction.detections import Detections, Resolved, resolve
from biomask.prediction.overlap_tile import exact_arithmetic
from biomask.prediction.seams import Windows, merged
from biomask.transforms.normalize import apply

__all__ = ["OVERLAP_SHARE", "Detections", "Resolved", "detect_image", "resolve"]

#: Pixels that neighbouring windows share unless told, over those of a window.
OVERLAP_SHARE = 3


class Detector(Protocol):
    """A network that finds objects: see `biomask.models.mask_rcnn`."""

    in_channels: int
    limits: Limits
    short_side: int | Sequence[int] | None
    """What it resizes the shorter side of an image to; None = sizes stay."""

    def with_limits(self, changes: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Other limits for a while."""
        ...

    def __call__(self, images: list[torch.Tensor], *, paste: bool) -> list[Detection]:
        """What is found in each image (C, H, W); paste=False: masks (N, 1, M, M) within their boxes."""
        ...


def detect_image(network: nn.Module | Detector, image: npt.NDArray[Any], *, tile: int | Sequence[int] | None = None,
                 overlap: int | None = None, limits: Mapping[str, Any] | None = None,
                 statistics: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
                 device: torch.device | str = "cpu", done: Callable[[int, int], None] | None = None) -> Detections:
    """Objects of an image (C, Y, X), any real dtype, by falling score.

    network: a `Detector` in eval mode on `device`. tile: pixels of a window along both axes, or (Y, X); None = the whole image, as
    also where that is no larger. A detector that resizes sees a smaller image with zeros below and to the right of it, as in
    training, so that objects have the same size as in any other window. overlap: pixels that neighbouring windows share at least;
    None = a third of the window's shorter side. Objects smaller than it are found as in the whole image, but for what other
    surroundings make of them; parts of larger ones are joined where windows agree. limits: other values than the network's own,
    e.g. {"score": 0.5}. statistics: (offset, scale), each (C,), for inputs (image - offset) / scale; without them the image is
    taken as it is. done(n, of) is called after each window.

    Raises SizeError for another number of axes or channels, and for windows that are not larger than the overlap.
    """
    detector = cast(Detector, network)
    if image.ndim != 3 or image.shape[0] != detector.in_channels:
        raise SizeError(f"image has shape {image.shape}, the detector takes ({detector.in_channels}, Y, X)")
    size = (int(image.shape[1]), int(image.shape[2]))
    wanted = size if tile is None else (tile, tile) if isinstance(tile, int) else (int(tile[0]), int(tile[1]))
    windows = Windows.of(size, wanted, min(wanted) // OVERLAP_SHARE if overlap is None else overlap)
    canvas = windows.tile if detector.short_side is None else wanted
    parts = list[Detections]()
    with detector.with_limits(limits or {}):
        for n, (top, left) in enumerate(map(windows.place, range(len(windows)))):
            pixels = image[:, top:top + windows.tile[0], left:left + windows.tile[1]]
            window = apply(pixels, *statistics) if statistics else np.ascontiguousarray(pixels, np.float32)
            parts.append(_found(detector, window, canvas, device).moved(top, left))
            if done:
                done(n + 1, len(windows))
    return merged(parts, windows)


def _found(network: Detector, window: npt.NDArray[np.float32], canvas: tuple[int, int], device: torch.device | str) -> Detections:
    """Objects of one window (C, Y, X), in its pixels, seen on a canvas (Y, X) that is no smaller."""
    size = (window.shape[1], window.shape[2])
    seen = np.pad(window, ((0, 0), (0, canvas[0] - size[0]), (0, canvas[1] - size[1]))) if canvas != size else window
    with torch.inference_mode(), exact_arithmetic(device):
        (answer,) = network([torch.from_numpy(seen).to(device)], paste=False)
    told = {name: cast(torch.Tensor, value).float().cpu() for name, value in answer.items()}
    count = len(told["boxes"])
    if canvas != size:
        here = (told["boxes"][:, 0] < size[1]) & (told["boxes"][:, 1] < size[0])
        told = {name: value[here] for name, value in told.items()}
    boxes, labels, scores = told["boxes"], told["labels"], told["scores"]
    masks = (tuple(_crop(mask, box, size) for mask, box in zip(told["masks"], boxes, strict=True)) if "masks" in told
             else tuple(box_crop(box, size) for box in boxes.numpy()))
    points, sure = (told[name].numpy() if name in told else None for name in ("keypoints", "keypoints_scores"))
    return Detections(clip_boxes(boxes, size).numpy(), labels.numpy().astype(np.int64), scores.numpy(), masks, points, sure,
                      "masks" in told, size, at_limit=int(count >= network.limits.detections))


def _crop(mask: torch.Tensor, box: torch.Tensor, size: tuple[int, int]) -> Crop:
    """Pixels of an object: its mask (1, M, M) laid over its box, where it is more likely than not."""
    from biomask.models.mask_rcnn.mask_head import mask_in_window

    pixels, origin = mask_in_window(mask, box, size)
    return np.asarray(pixels, bool), (int(origin[0]), int(origin[1]))
