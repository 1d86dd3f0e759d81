"""What goes into a detector and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Required, TypedDict

from torch import Tensor

from biomask.errors import SizeError


class Target(TypedDict, total=False):
    """The objects of one image, in its pixels."""

    boxes: Required[Tensor]
    """(N, 4) float32: x0, y0, x1, y1 in pixel edges, so that a pixel column 3 spans 3..4; x1 > x0 and y1 > y0."""
    labels: Required[Tensor]
    """(N,) int64, 1..classes-1; 0 is background."""
    masks: Tensor
    """(N, H, W) uint8, 0 and 1, where masks are learnt."""
    keypoints: Tensor
    """(N, K, 3) float32: x, y, visibility 0 (absent), 1 (hidden) or 2 (seen), where keypoints are learnt."""
    crowd: Tensor
    """(N,) bool: regions of objects that nobody told apart. What lies in them is neither object nor background."""
    crowd_masks: Tensor
    """(M, H, W) uint8, 0 and 1: the pixels of the M crowds, where no masks are learnt; without, or all 0, a crowd is its box."""


class Detection(TypedDict, total=False):
    """The objects found in one image, in its pixels, by falling score."""

    boxes: Required[Tensor]
    """(N, 4) float32, as in `Target`."""
    labels: Required[Tensor]
    """(N,) int64, 1..classes-1."""
    scores: Required[Tensor]
    """(N,) float32, probability of the class."""
    masks: Tensor
    """float32 probabilities: (N, 1, H, W) in the image, or (N, 1, M, M) in the box where the detector does not paste them."""
    keypoints: Tensor
    """(N, K, 3) float32: x, y, 1."""
    keypoints_scores: Tensor
    """(N, K) float32: the logit at the keypoint."""


@dataclass(frozen=True)
class Limits:
    """How many boxes pass each step, and which. The defaults are those of the paper's FPN network, as in torchvision."""

    proposals_before_nms: int = 1000
    """Most promising anchors of each level that prediction goes on with."""
    proposals: int = 1000
    """Proposals of an image after non-maximum suppression, in prediction."""
    proposals_before_nms_training: int = 2000
    proposals_training: int = 2000
    rpn_nms: float = 0.7
    """A proposal is dropped where it overlaps a more promising one of its level by more than this IoU."""
    rpn_score: float = 0.0
    """Proposals below this probability are dropped."""
    rpn_samples: int = 256
    """Anchors of an image that one step of training learns from; at most half of them on objects."""
    samples: int = 512
    """Proposals of an image that one step of training learns from; at most a quarter of them on objects."""
    score: float = 0.05
    """Detections of at most this probability are dropped."""
    nms: float = 0.5
    """A detection is dropped where it overlaps a better one of its class by more than this IoU."""
    detections: int = 100
    """Most detections of an image."""

    @classmethod
    def of(cls, values: Limits | Mapping[str, Any] | None, base: Limits | None = None) -> Limits:
        """From a recipe's mapping; what it lacks is `base`'s. Errors: `SizeError` names an unknown key or a bad value."""
        given = {} if values is None else dict(values) if isinstance(values, Mapping) else vars(values)
        known = {f.name: f for f in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise SizeError(f"limits has no {name!r}", fix=f"the limits are {', '.join(known)}")
            whole = isinstance(known[name].default, int)
            right = isinstance(value, int) and value >= 1 if whole else isinstance(value, (int, float)) and 0 <= value <= 1
            if isinstance(value, bool) or not right:
                raise SizeError(f"limits: {name}={value!r} must be {'an integer >= 1' if whole else 'a number from 0 to 1'}")
        return replace(base or cls(), **given)
