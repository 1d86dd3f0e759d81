"""Training samples of a detector: sample n is a pure function of (seed, n), so workers, ranks and resume agree by construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from biomask.data.draws import Draw, Look, cumulative, draw_look
from biomask.data.keypoints import KeypointNames
from biomask.data.looks import change_looks
from biomask.data.objects import Objects, box_of, objects_of
from biomask.data.placement import (
    Placement,
    place_image,
    place_mask,
    place_points,
    turn_boxes,
    turn_mask,
    turn_points,
    visible_share,
)
from biomask.errors import UsageError
from biomask.instances.polygons import Crop
from biomask.transforms.normalize import apply

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.models.mask_rcnn.types import Target
    from biomask.recipe import AugmentationSettings


#: A box that reaches into the window by less than this, in pixels, is not there: float32 could not tell its sides apart.
THIN = 1e-3


@dataclass(frozen=True)
class DetectionSampling:
    """What samples are drawn, beside their number. Sizes are (y, x), in pixels."""

    seed: int
    augmentation: AugmentationSettings
    """Mirrors, quarter turns and grey values; its warps are not used."""
    window: tuple[int, int] | None = None
    """Largest size of a sample: larger images are cropped. None = whole images."""
    pad: bool = False
    """Whether smaller samples are filled up to the window with 0, at the bottom and right before they are mirrored."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Range of the factor by which things become larger, drawn log-uniformly: halves are as frequent as doubles."""
    zoom_chance: float = 1.0
    """Chance of that factor, 0..1; the others keep their size."""
    short_sides: tuple[int, ...] = ()
    """The image is resized so that its shorter side has one of these lengths, before the zoom; empty = it keeps its size."""
    long_side: int | None = None
    """What its longer side has at most then."""
    least_visible: float = 0.25
    """An object of which a smaller share is in the window is ignored: neither learnt nor counted as background. The share is
    that of its pixels, or of the window's where it is larger than the window."""
    focus: float = 0.0
    """Share of the samples whose window is laid on an object; classes are alike frequent among these."""
    masks: bool = True
    """Whether masks are wanted. Objects of which a box alone is known are ignored then."""
    keypoints: KeypointNames | None = None
    """The keypoints that are wanted."""
    weights: tuple[float, ...] | None = None
    """How often each image is drawn; None = as `Facts.weights` says."""

    def __post_init__(self) -> None:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise UsageError(f"a zoom from {self.zoom[0]} to {self.zoom[1]} is no range of factors above 0", fix="e.g. (0.5, 2)")
        if self.window is not None and min(self.window) < 1:
            raise UsageError(f"a window of {self.window} pixels is empty", fix="give at least 1 along each axis")
        if any(n < 1 for n in (*self.short_sides, 1 if self.long_side is None else self.long_side)):
            raise UsageError(f"sides of {self.short_sides} up to {self.long_side} pixels", fix="give lengths of at least 1")


@dataclass(frozen=True)
class DetectionDraw:
    """The random choices of one sample."""

    image: int
    zoom: float
    short_side: int | None
    place: tuple[float, float]
    """Where the window lies among all places that it may have, along y and x, 0..1."""
    focus: tuple[float, float] | None
    """Which class and which of its objects, 0..1, the window is laid on; None = `place` counts as it is."""
    flips: tuple[int, ...]
    turns: int
    look: Look
    seed: int


def draw_detection(sampling: DetectionSampling, n: int, weights: tuple[float, ...]) -> DetectionDraw:
    """The choices of sample n. weights: how often each image is drawn."""
    rng = np.random.Generator(np.random.Philox(key=[sampling.seed, n]))
    chances = cumulative(weights)
    image = int(np.searchsorted(chances, rng.random() * chances[-1], side="right").clip(max=len(weights) - 1))
    low, high = sampling.zoom
    zoom = exp(rng.uniform(log(low), log(high))) if low < high else low
    side = int(rng.choice(sampling.short_sides)) if sampling.short_sides else None
    place = (rng.random(), rng.random())
    focus = (rng.random(), rng.random()) if rng.random() < sampling.focus else None
    flips = tuple(axis for axis, name in ((-1, "x"), (-2, "y")) if rng.random() < 0.5 and name in sampling.augmentation.flip)
    turns = int(rng.integers(0, 4)) if sampling.augmentation.rotate90 else 0
    look, seed = draw_look(rng, sampling.augmentation), int(rng.integers(2**62))
    zoom = zoom if rng.random() < sampling.zoom_chance else 1.0
    return DetectionDraw(image, zoom, side, place, focus, flips, turns, look, seed)


def sample(dataset: Dataset, sampling: DetectionSampling, n: int,
           device: torch.device | str = "cpu") -> tuple[Tensor, Target]:
    """Sample n: a normalised image, float32 (C, h, w), and its objects in pixels of it."""
    draw = draw_detection(sampling, n, sampling.weights or dataset.facts.weights)
    image, objects = dataset.kept(draw.image, lambda: scene(dataset, draw.image))
    placement = placement_of(draw, sampling, objects)
    patch = place_image(image, placement).to(device)
    looks = Draw(draw.image, placement.start, draw.flips, draw.turns, look=draw.look, seed=draw.seed)
    target = target_of(objects, placement, sampling)
    return change_looks(patch[None], [looks])[0], move_target(target, device)


def batch(dataset: Dataset, sampling: DetectionSampling, numbers: Sequence[int],
          device: torch.device | str = "cpu") -> tuple[list[Tensor], list[Target]]:
    """The samples with the given numbers, as a detector takes them."""
    found = [sample(dataset, sampling, n, device) for n in numbers]
    return [image for image, _ in found], [target for _, target in found]


def move_target(target: Target, device: torch.device | str) -> Target:
    """The same on a device."""
    moved: Target = {"boxes": target["boxes"].to(device), "labels": target["labels"].to(device)}
    for name in ("masks", "keypoints", "crowd", "crowd_masks"):
        if name in target:
            moved[name] = target[name].to(device)
    return moved


def scene(dataset: Dataset, i: int) -> tuple[tuple[npt.NDArray[np.float32], Objects], int]:
    """The normalised image and its objects, and the bytes that they take."""
    raw = dataset.image(i).array
    objects = objects_of(dataset, i)
    image = apply(raw, *dataset.normalization.statistics(raw))
    return (image, objects), image.nbytes + objects.nbytes


def placement_of(draw: DetectionDraw, sampling: DetectionSampling, objects: Objects) -> Placement:
    """Where the window of a draw lies in its image."""
    size = objects.size
    factor = draw.zoom
    if draw.short_side is not None:
        fits = draw.short_side / min(size)
        factor *= fits if sampling.long_side is None else min(fits, sampling.long_side / max(size))
    whole = (max(1, int(size[0] * factor)), max(1, int(size[1] * factor)))
    wanted = sampling.window or whole
    wanted = (wanted[1], wanted[0]) if draw.turns % 2 else wanted
    if sampling.window is None:
        wanted = whole
    window = (min(wanted[0], whole[0]), min(wanted[1], whole[1]))
    start = [round(p * (n - w)) for p, n, w in zip(draw.place, whole, window, strict=True)]
    middle = _focused(draw, objects)
    if middle is not None:
        # The middle of the object takes the place in the window that the drawn one has among all.
        start = [min(max(0, int(m * n / s - p * w)), n - w)
                 for m, n, s, p, w in zip(middle, whole, size, draw.place, window, strict=True)]
    canvas = wanted if sampling.pad else window
    return Placement(size, whole, (start[0], start[1]), window, canvas, draw.flips, draw.turns)


def _focused(draw: DetectionDraw, objects: Objects) -> tuple[float, float] | None:
    """The middle (y, x) of the object that a draw is laid on; None where it is laid on none, or there is none."""
    chosen = np.flatnonzero(~objects.crowd)
    if draw.focus is None or not len(chosen):
        return None
    classes = np.unique(objects.classes[chosen])
    of_class = chosen[objects.classes[chosen] == classes[int(draw.focus[0] * len(classes))]]
    x0, y0, x1, y1 = objects.boxes[of_class[int(draw.focus[1] * len(of_class))]].tolist()
    return (y0 + y1) / 2, (x0 + x1) / 2


def target_of(objects: Objects, placement: Placement, sampling: DetectionSampling) -> Target:
    """The objects in a window, in ascending id. Boxes are those of the masks that are left, else cut to the window."""
    kept, boxes, masks, crowd = list[int](), list[Sequence[float]](), list[Crop | None](), list[bool]()
    for i in range(len(objects)):
        found = _in_window(objects, i, placement, sampling)
        if found is None:
            continue
        box, mask, ignored = found
        kept.append(i)
        boxes.append(box)
        masks.append(mask)
        crowd.append(ignored)
    turned = turn_boxes(np.array(boxes, np.float64).reshape(-1, 4), placement)
    target: Target = {"boxes": torch.from_numpy(turned.astype(np.float32)), "labels": torch.from_numpy(objects.classes[kept]),
                      "crowd": torch.tensor(crowd, dtype=torch.bool)}
    if sampling.masks:
        target["masks"] = torch.from_numpy(_pasted(masks, turned, placement))
    elif any(crowd):  # of a frame of unknown pixels the box is the whole window
        among = np.flatnonzero(crowd)
        target["crowd_masks"] = torch.from_numpy(_pasted([masks[i] for i in among], turned[among], placement))
    if sampling.keypoints is not None:
        points = objects.keypoints[kept] if objects.keypoints is not None else np.zeros((len(kept), len(sampling.keypoints), 3))
        target["keypoints"] = torch.from_numpy(_placed_keypoints(points, placement, sampling.keypoints).astype(np.float32))
    return target


def _in_window(objects: Objects, i: int, placement: Placement,
               sampling: DetectionSampling) -> tuple[Sequence[float], Crop | None, bool] | None:
    """(box, mask, whether it is ignored) of an object in the window; None where nothing of it is there."""
    crop = objects.masks[i]
    drawn = place_points(objects.boxes[i].reshape(2, 2), placement)
    low, high = np.maximum(drawn[0], 0), np.minimum(drawn[1], placement.size[::-1])
    if (high - low < THIN).any():
        return None
    cut = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    ignored = bool(objects.crowd[i])
    area = float(np.prod(drawn[1] - drawn[0]) if crop is None else crop[0].sum() * np.prod(placement.scale))
    least = sampling.least_visible * min(1.0, np.prod(placement.size) / area)
    if crop is None:
        return cut, None, ignored or sampling.masks or bool(np.prod(high - low) / area < least)
    share = visible_share(crop, placement)
    mask = place_mask(crop, placement)
    if mask is None:  # not in the window, or too small to have a pixel
        return (cut, None, True) if share > 0 else None
    return box_of(mask), mask, ignored or share < least


def _pasted(masks: Sequence[Crop | None], boxes: npt.NDArray[np.float64], placement: Placement) -> npt.NDArray[np.uint8]:
    """uint8 (N, h, w): each mask mirrored and turned, at its box."""
    out = np.zeros((len(masks), *placement.out), np.uint8)
    for plane, mask, box in zip(out, masks, boxes, strict=True):
        if mask is not None:
            pixels = turn_mask(mask[0], placement)
            left, top = int(box[0]), int(box[1])
            plane[top:top + pixels.shape[0], left:left + pixels.shape[1]] = pixels
    return out


def _placed_keypoints(points: npt.NDArray[np.float64], placement: Placement, names: KeypointNames) -> npt.NDArray[np.float64]:
    """(N, K, 3) in what comes out; those beyond the window become 0, 0, 0. A mirror exchanges left and right."""
    places = place_points(points[..., :2].reshape(-1, 2), placement)
    inside = ((places >= 0) & (places <= placement.size[::-1])).all(axis=1).reshape(points.shape[:2]) & (points[..., 2] > 0)
    out = np.concatenate([turn_points(places, placement).reshape(*points.shape[:2], 2), points[..., 2:]], axis=2)
    out[~inside] = 0
    return out[:, list(names.mirrored)] if placement.is_mirror else out
