"""Weights of pixels between near objects: they count more, so that the network learns to keep objects apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from biomask.data.distances import plain_ids, separate
from biomask.data.nearest import two_nearest

#: Each term may be off by this much at most: objects beyond the radius at which it falls below are not looked for.
TOLERANCE = 1e-3

#: `two_nearest`, or `two_nearest_cropped`.
Nearest = Callable[..., tuple[Tensor, Tensor]]


def weight_map(labels: Tensor, *, w0: float = 10.0, sigma: float = 5.0, class_weights: Literal["balanced"] | Tensor | None = None,
               classes: Tensor | None = None, everywhere: bool = False, spacing: Sequence[float] | None = None,
               nearest: Nearest = two_nearest) -> Tensor:
    """w = wc + w0 exp(-(d1 + d2)² / (2 sigma²)): float32 (B, *S), from ids (B, *S), 0 = background.

    Ronneberger, Fischer and Brox 2015, equation 2; d1 and d2 are the distances to the nearest and second nearest object. What the
    paper leaves open: distances are taken between pixel centres, to each object as a set (0 inside it); the second term is added on
    background alone unless `everywhere`; it is 0 with fewer than two objects, and where it is below 1e-3.
    Touching objects have no background between them: `biomask.data.distances.separate` makes some.

    w0, sigma: the paper's 10 and 5; sigma has the unit of `spacing`.
    class_weights: wc. None: 1. "balanced": N / (K N_c) by the pixels of this batch, K classes being there. A tensor (K,): a weight
                   for each class, such as one made from the whole training set.
    classes: (B, *S), class of each pixel, 0..K-1; None: background 0, every object 1.
    spacing: size of a pixel along each axis (*S); None: 1 px.
    nearest: what finds d1 and d2, `two_nearest` or `two_nearest_cropped`.
    """
    out = _class_term((labels != 0).long() if classes is None else classes.long(), class_weights)
    radius = _radius(w0, sigma)
    if not radius:
        return out
    border = border_term(*nearest(labels, radius=radius, spacing=spacing), w0, sigma)
    return out + (border if everywhere else border.mul_(labels == 0))


@dataclass(frozen=True)
class PlugIn:
    """Constants of the plug-in's formula; lengths in px, or in the unit of the spacing."""

    background: float = 0.1
    """v, the weight far from all objects."""
    reach: float = 10.0
    """s1: how far from an object background weighs more."""
    w0: float = 50.0
    """f, the weight between objects that touch."""
    sigma: float = 6.0
    """s2: how far the weight between objects reaches."""


def plug_in_weight_map(labels: Tensor, formula: PlugIn | None = None, *, classes: Tensor | None = None,
                       background: Tensor | None = None, ignore: Tensor | None = None, spacing: Sequence[float] | None = None,
                       nearest: Nearest = two_nearest) -> Tensor:
    """Weights of the ImageJ plug-in of the U-Net's authors: float32 (B, *S), from ids (B, *S), 0 = background.

    1 on objects, 0 where `ignore`, and on background, with d1 and d2 as in `weight_map`,

        v + Σ over classes of  (1 - v) exp(-d1² / (2 s1²)) + f exp(-(d1 + d2)² / (2 s2²))

    Falk et al. 2019 (doi:10.1038/s41592-018-0261-2), as in lmb-freiburg/Unet-Segmentation (addLabelsAndWeightsToBlobs), whose
    constants are the defaults of `PlugIn` in pixels of 0.5 µm. Distances are to the objects as they are given, before touching
    ones are separated: on the line between two that touch d1 is 0.

    classes: (B, *S), class of each pixel; distances are to objects of one class at a time. None: all are of one.
    background: bool (B, *S), pixels that are learnt as background. None: as `separate` leaves them within each class.
    ignore: bool (B, *S), True = unknown. Other arguments as in `weight_map`. Each term is 0 where it is below 1e-3.
    """
    f, labels = formula or PlugIn(), plain_ids(labels)
    classes = (labels != 0).long() if classes is None else classes
    background = separate(labels, classes) == 0 if background is None else background
    near = 1 - f.background
    radius = max(_radius(near, f.reach), _radius(f.w0, f.sigma))
    out = torch.full(labels.shape, f.background, device=labels.device)
    for number in torch.unique(classes[labels != 0]).tolist() if radius else ():
        first, second = nearest(labels * (classes == number), radius=radius, spacing=spacing)
        out += border_term(first, second, f.w0, f.sigma) + border_term(first, torch.zeros_like(first), near, f.reach)
    out = torch.where(background, out, 1.0)
    return out if ignore is None else out.masked_fill_(ignore, 0)


def border_term(nearest: Tensor, second: Tensor, w0: float, sigma: float) -> Tensor:
    """w0 exp(-(d1 + d2)² / (2 sigma²)): float32, 0 where a distance is inf."""
    return (nearest + second).square_().mul_(-1 / (2 * sigma**2)).exp_().mul_(w0)


def _radius(w0: float, sigma: float) -> float:
    """Distance at which w0 exp(-d² / (2 sigma²)) falls below the tolerance; 0 where it always is."""
    return sigma * math.sqrt(2 * math.log(w0 / TOLERANCE)) if w0 > TOLERANCE else 0.0


def _class_term(classes: Tensor, weights: Literal["balanced"] | Tensor | None) -> Tensor:
    if weights is None:
        return torch.ones(classes.shape, device=classes.device)
    if isinstance(weights, str):
        counts = torch.bincount(classes.flatten())
        present = counts > 0
        weights = torch.where(present, classes.numel() / (present.sum() * counts.clamp(min=1)), 0.0)
    return weights.to(classes.device, torch.float32)[classes]
