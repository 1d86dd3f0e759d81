"""Training patches: sample n is a pure function of (seed, n), so workers, ranks and resume agree by construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from biomask.data.draws import Draw, PatchGeometry, draw_sample
from biomask.data.looks import changed_looks
from biomask.tiling import mirror
from biomask.transforms import affine, coordinates, covering_margin, elastic_field, moved, warp, warp_labels

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.recipe import AugmentationSettings

#: Displacements are at most this share of the distance of two knots (one standard deviation), so that nothing is folded.
MOST_ELASTIC = 0.1


@dataclass(frozen=True)
class Batch:
    """Tensors of one step on one device."""

    images: Tensor
    """float32 (B, C, *S), normalised."""
    labels: Tensor
    """(B, L, *S'), as in `Dataset.item`."""
    ignore: Tensor | None
    """bool (B, *S'), True = unknown."""


@dataclass(frozen=True)
class Sampling:
    """What patches are drawn, beside their number."""

    seed: int
    geometry: PatchGeometry
    augmentation: AugmentationSettings
    oversample: float = 0.0
    weights: tuple[float, ...] | None = None
    """How often each image is drawn; None = by the root of its pixels."""
    spacing: tuple[float, ...] | None = None
    """Size of a pixel along each axis, for rotations; None = alike."""


def make_batch(dataset: Dataset, sampling: Sampling, samples: Sequence[int], device: torch.device) -> Batch:
    """Read, stack and augment the samples with the given numbers."""
    geometry = sampling.geometry
    draws = [_placed(dataset, draw_sample(sampling.seed, n, dataset.facts.sizes, geometry, sampling.augmentation,
                                          sampling.oversample, sampling.weights), geometry) for n in samples]
    with torch.inference_mode():  # a fifteenth quicker; what is stacked after it is of the kind again that networks learn from
        parts = [_exact(dataset, d, geometry, device) if d.warp is None else _warped(dataset, d, sampling, device) for d in draws]
        images, labels, unknown = zip(*parts, strict=True)
        looking = changed_looks(images, draws)
    ignore = None
    if any(u is not None for u in unknown):
        ignore = torch.stack([u if u is not None else torch.zeros(geometry.target, dtype=torch.bool, device=device)
                              for u in unknown])
    return Batch(torch.stack(looking), torch.stack(labels), ignore)


Part = tuple[Tensor, Tensor, Tensor | None]


def _placed(dataset: Dataset, draw: Draw, geometry: PatchGeometry) -> Draw:
    """With the start that lays the patch on a pixel of an object, where that is wanted and there is one."""
    if draw.focus is None:
        return draw
    places = dataset.places(draw.image)
    if not places:
        return draw
    of_class = places[sorted(places)[int(draw.focus[0] * len(places))]]
    pixel = of_class[int(draw.focus[1] * len(of_class))]
    size = dataset.facts.sizes[draw.image]
    # The pixel takes the place in the patch that the drawn start has among all possible ones, so it is not always the middle.
    start = []
    for s, n, t, p in zip(draw.start, size, geometry.target, pixel, strict=True):
        if n <= t:
            start.append(s)
            continue
        within = round(s / (n - t) * (t - 1))
        start.append(int(min(max(0, int(p) - within), n - t)))
    return replace(draw, start=tuple(start))


def _exact(dataset: Dataset, draw: Draw, geometry: PatchGeometry, device: torch.device) -> Part:
    """Mirrored and turned: pixels move, none is interpolated."""
    image, labels, ignore = _cut(dataset, draw, geometry, geometry.margin, (0,) * len(geometry.target))
    return (moved(image.to(device), draw.flips, draw.turns), moved(labels.to(device), draw.flips, draw.turns),
            None if ignore is None else moved(ignore.to(device), draw.flips, draw.turns))


def _warped(dataset: Dataset, draw: Draw, sampling: Sampling, device: torch.device) -> Part:
    """Turned, scaled and deformed, read from a region that is as much larger as that takes."""
    positions = _positions(draw, sampling, device)
    inner: Any = (slice(None), slice(None), *(slice(m, m + t) for m, t in zip(sampling.geometry.margin, sampling.geometry.target,
                                                                            strict=True)))
    reach = covering_margin(positions)
    margin = tuple(m + r for m, r in zip(sampling.geometry.margin, reach, strict=True))
    image, labels, ignore = _cut(dataset, draw, sampling.geometry, margin, margin)
    found = warp(image.to(device)[None], positions)[0]
    truth = warp_labels(labels.to(device)[None], positions[inner])[0]
    unknown = None if ignore is None else warp_labels(ignore.to(device)[None], positions[inner])[0]
    return found, truth, unknown


def _positions(draw: Draw, sampling: Sampling, device: torch.device) -> Tensor:
    """Where each pixel of the image patch reads, (1, D, *S)."""
    size, settings = sampling.geometry.read, sampling.augmentation
    if draw.warp is None:
        raise ValueError("a draw without a warp")
    flips = torch.tensor([[-1 - i in draw.flips for i in reversed(range(len(size)))]])
    matrices = affine(torch.tensor([draw.warp.angles]), scales=torch.tensor([draw.warp.scales]), flips=flips,
                      spacing=sampling.spacing)
    displacement = None
    if settings.elastic:
        amplitude = [min(settings.elastic, MOST_ELASTIC * (n - 1) / 2) for n in size]
        generator = torch.Generator().manual_seed(draw.seed)  # on the CPU: the same field whatever the device
        displacement = elastic_field(size, amplitude=amplitude, generator=generator).to(device)
    return coordinates(size, matrices.to(device), displacement)


def _cut(dataset: Dataset, draw: Draw, geometry: PatchGeometry, outer: Sequence[int], inner: Sequence[int]) -> Part:
    """The image with `outer` pixels around the label patch, labels and ignore with `inner`; mirrored beyond the borders."""
    image, labels, ignore = dataset.item(draw.image)
    size = labels.shape[1:]
    keep = [(s - m, s + t + m) for s, t, m in zip(draw.start, geometry.target, inner, strict=True)]
    return (_window(image, [(s - m, s + t + m) for s, t, m in zip(draw.start, geometry.target, outer, strict=True)], size),
            _window(labels, keep, size), None if ignore is None else _window(ignore[None], keep, size)[0])


def _window(array: npt.NDArray[Any], bounds: Sequence[tuple[int, int]], size: Sequence[int]) -> Tensor:
    """(C, *S) between bounds, mirrored beyond the borders; not to be changed: within the borders it is a view of the array."""
    index = [mirror(np.arange(a, b), n) if a < 0 or b > n else None for (a, b), n in zip(bounds, size, strict=True)]
    inside: Any = (slice(None), *(slice(a, b) if i is None else slice(i.min(), i.max() + 1)
                                  for (a, b), i in zip(bounds, index, strict=True)))
    part = array[inside]
    for axis, i in reversed(list(enumerate(index, start=1))):  # the last first: it is the slowest, and the array grows
        if i is not None:
            part = part.take(i - i.min(), axis=axis)
    usable = part.flags.writeable and min(part.strides) >= 0  # for torch
    return torch.from_numpy(part if usable else part.copy())
