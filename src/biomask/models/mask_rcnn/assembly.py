"""Mask R-CNN (He, Gkioxari, Dollár, Girshick 2017, arXiv:1703.06870), put together.

                                       ┌── RPN ── proposals ──┐
    images ── resize ── ResNet ── FPN ─┤                      ├─ RoIAlign 7x7 ─── box head ────── class, box ── detections
                        C2..C5  P2..P6 └──────── P2..P5 ──────┤
                                                              ├─ RoIAlign 14x14 ─ mask head ───── 28x28 of the class ── paste
                                                              └─ RoIAlign 14x14 ─ keypoint head ─ 56x56 of each keypoint

In a C4 network C4 takes the place of all levels, and ResNet's fourth stage, `res5`, that of the layers of the box and mask heads:

    images ── resize ── ResNet ── C4 ── RPN … RoIAlign 7x7 ── res5 ─┬─ average ── class, box
                                                                    └─ mask predictor ── 14x14 of the class

In training the mask and keypoint heads see proposals on objects, in prediction the detections.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from biomask.errors import SizeError
from biomask.models.backbones import BackboneNorm, ResNet, res5
from biomask.models.mask_rcnn.anchors import AnchorGenerator
from biomask.models.mask_rcnn.box_head import BoxPredictor, TwoLayers, average, four_convolutions
from biomask.models.mask_rcnn.fpn import FPN
from biomask.models.mask_rcnn.keypoint_head import KeypointPredictor, keypoint_head
from biomask.models.mask_rcnn.mask_head import MaskPredictor, mask_head, paste_masks
from biomask.models.mask_rcnn.matcher import sample_balanced
from biomask.models.mask_rcnn.resize import IMAGENET_MEAN, IMAGENET_STD, Resize, rescale_boxes, rescale_keypoints
from biomask.models.mask_rcnn.roi_align import MultiScale, RoiKind
from biomask.models.mask_rcnn.roi_heads import Branch, RoIHeads
from biomask.models.mask_rcnn.rpn import RPN
from biomask.models.mask_rcnn.truth import Sampler, truths
from biomask.models.mask_rcnn.types import Detection, Limits, Target

#: Limits of the paper's C4 network where they differ from the FPN's; the anchors before suppression are Faster R-CNN's.
C4_LIMITS = Limits(proposals_before_nms=6000, proposals=300, proposals_before_nms_training=12000, samples=64)


class Backbone(nn.Module):
    """ResNet, with FPN if there is one: (B, in_channels, H, W) → maps, the finest first, all of `channels` channels."""

    def __init__(self, body: ResNet, fpn: FPN | None) -> None:
        super().__init__()
        self.body = body
        if fpn is not None:
            self.fpn = fpn
        self.channels = body.channels[-1] if fpn is None else fpn.channels
        strides = body.strides[-1:] if fpn is None else body.strides
        self.scales = tuple(1 / s for s in strides)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.body(x)
        if hasattr(self, "fpn"):
            return self.fpn(maps)  # type: ignore[no-any-return]
        last = list(maps)[-1]
        return {last: maps[last]}


class MaskRCNN(nn.Module):
    """Objects with class, box, mask and keypoints: list of images (C, H, W) → losses in training mode, else detections.

    With the defaults, in_channels=3 and classes=91 this is torchvision's `maskrcnn_resnet50_fpn`, 44,401,393 parameters; version=2
    and norm="batch" its `_v2`, 46,359,409; classes=2, masks=False and keypoints=17 its `keypointrcnn_resnet50_fpn`, 59,137,258.
    Without masks and keypoints it is Faster R-CNN. Names of weights are torchvision's.

    classes: with background, which is 0. masks: whether masks are learnt. keypoints: how many an object has, 0 for none.
    backbone, width, norm, trainable: see `ResNet`. neck: "fpn", or "c4" for C4 alone (the paper's first network).
    channels: of the FPN and the heads; head: of the fully connected layers. version: 2 has batch normalisation in the FPN and the
        heads, two convolutions in the region proposal network and four in the box head (torchvision's second).
    roi: "align", or for comparison "pool" or "warp". class_agnostic: one mask for all classes.
    anchor_sizes: square roots of areas, in pixels after resizing; one, or a list of several, for each level (C4: all at its one).
    anchor_ratios: height over width.
    short_side, long_side, mean, std: see `Resize`. mean and std default to ImageNet's (of values 0..1), for other than three
        channels to their averages over the colours; one value is taken for all channels.
    limits: see `Limits`; the values that differ from the defaults.
    """

    def __init__(self, in_channels: int, classes: int, *, spatial_dims: int = 2, masks: bool = True, keypoints: int = 0,
                 backbone: str = "resnet50", width: int = 64, norm: BackboneNorm = "frozen", trainable: int = 5,
                 neck: Literal["fpn", "c4"] = "fpn", channels: int = 256, head: int = 1024, version: Literal[1, 2] = 1,
                 roi: RoiKind = "align", class_agnostic: bool = False,
                 anchor_sizes: Sequence[float | Sequence[float]] = (32, 64, 128, 256, 512),
                 anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
                 short_side: int | Sequence[int] | None = 800, long_side: int | None = 1333, mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None, limits: Limits | Mapping[str, Any] | None = None) -> None:
        super().__init__()
        _check(spatial_dims, classes, keypoints, neck, version, min(channels, head))
        self.in_channels, self.classes, self.keypoints, self.has_masks = in_channels, classes, keypoints, masks
        self.spatial_dims, self.short_side, self.long_side = 2, short_side, long_side
        fpn = neck == "fpn"
        self.limits = Limits.of(limits, Limits() if fpn else C4_LIMITS)
        self.sample: Sampler = sample_balanced
        self.anchors = _anchors(anchor_sizes, anchor_ratios, fpn)
        self.transform = Resize(short_side, long_side, _statistic(mean, IMAGENET_MEAN, in_channels, "mean"),
                                _statistic(std, IMAGENET_STD, in_channels, "std"))
        body = ResNet(backbone, in_channels, width, norm, trainable=trainable, stages=4 if fpn else 3)
        self.backbone = Backbone(body, FPN(body.channels, channels, version) if fpn else None)
        maps = self.backbone.channels
        self.rpn = RPN(maps, self.anchors, depth=version)
        fifth = None if fpn else res5(backbone, width, norm)
        regions = maps if fpn else 2 * maps

        def pool(size: int) -> MultiScale:
            return MultiScale(self.backbone.scales, size, 2, roi)

        layers = average() if not fpn else TwoLayers(maps, 7, head) if version == 1 else four_convolutions(maps, 7, head)
        box = Branch(pool(7), layers, BoxPredictor(head if fpn else regions, classes))
        mask = Branch(pool(14 if fpn else 7), mask_head(maps, version) if fpn else nn.Sequential(),
                      MaskPredictor(regions, channels, 1 if class_agnostic else classes))
        keypoint = Branch(pool(14), keypoint_head(maps, 2 * channels), KeypointPredictor(2 * channels, max(1, keypoints)))
        self.roi_heads = RoIHeads(box, mask if masks else None, keypoint if keypoints else None, fifth)

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None, *,
                paste: bool = True) -> dict[str, Tensor] | list[Detection]:
        """Images (in_channels, H, W), floating point, each of its own size.

        In training mode, with a target for each image, the losses: loss_objectness, loss_rpn_box_reg, loss_classifier, loss_box_reg
        and where built loss_mask and loss_keypoint. Which anchors and proposals are sampled comes from torch's global generator, or
        from `sample` where that was replaced. Else the detections, in pixels of the images given. paste: masks laid over the whole
        image; False: as they are in their boxes, for `paste_masks` or `mask_in_window`.

        Raises SizeError for images of other shapes and LabelsError for targets that do not fit.
        """
        self._check_images(images)
        known = truths(targets, images, self.classes, self.has_masks, self.keypoints) if self.training else None
        given = [(int(x.shape[1]), int(x.shape[2])) for x in images]
        batch = self.transform(images)
        features = self.backbone(batch.images)
        if known is None:
            proposals, _ = self.rpn(list(features.values()), batch.size, batch.sizes, self.limits)
            found = self.roi_heads.detect(features, proposals, batch.sizes, self.limits)
            return [_restored(f, now, before, paste) for f, now, before in zip(found, batch.sizes, given, strict=True)]
        known = [t.resized(before, now) for t, before, now in zip(known, given, batch.sizes, strict=True)]
        proposals, losses = self.rpn(list(features.values()), batch.size, batch.sizes, self.limits, known, self.sample)
        return {**losses, **self.roi_heads.losses(features, proposals, known, self.limits, self.sample)}

    @contextmanager
    def with_limits(self, changes: Mapping[str, Any]) -> Iterator[None]:
        """Other limits for a while, e.g. `with network.with_limits({"score": 0.5}): network(images)`."""
        before = self.limits
        self.limits = Limits.of(changes, before)
        try:
            yield
        finally:
            self.limits = before

    def _check_images(self, images: Sequence[Tensor]) -> None:
        if not len(images):
            raise SizeError("a detector takes at least one image")
        for n, x in enumerate(images):
            if x.ndim != 3 or x.shape[0] != self.in_channels or 0 in x.shape or not x.is_floating_point():
                raise SizeError(f"images[{n}] is {tuple(x.shape)} {x.dtype}; the detector takes ({self.in_channels}, H, W) of "
                                "floating point")


def _restored(found: Detection, now: tuple[int, int], given: tuple[int, int], paste: bool) -> Detection:
    """Detections of an image of size `now` in the image as it was given."""
    found["boxes"] = rescale_boxes(found["boxes"], now, given)
    if "keypoints" in found:
        found["keypoints"] = rescale_keypoints(found["keypoints"], now, given)
    if paste and "masks" in found:
        found["masks"] = paste_masks(found["masks"], found["boxes"], given)[:, None]
    return found


def _anchors(sizes: Sequence[float | Sequence[float]], ratios: Sequence[float], fpn: bool) -> AnchorGenerator:
    if not fpn:
        flat = [s for level in sizes for s in ([level] if isinstance(level, (int, float)) else level)]
        return AnchorGenerator([flat], ratios)
    anchors = AnchorGenerator(sizes, ratios)
    if len(sizes) != 5 or len(set(anchors.per_cell)) != 1:
        raise SizeError(f"anchor_sizes={list(sizes)} must give as many sizes for each of the 5 levels, P2 to P6")
    return anchors


def _statistic(given: Sequence[float] | None, usual: tuple[float, ...], channels: int, name: str) -> tuple[float, ...]:
    """One value of each channel."""
    if given is None:
        return usual if channels == len(usual) else (sum(usual) / len(usual),) * channels
    values = tuple(float(v) for v in given)
    if len(values) not in (1, channels):
        raise SizeError(f"{name}={list(given)} has {len(values)} values for {channels} channels",
                        fix="give one for each channel, or one for all")
    return values if len(values) == channels else values * channels


def _check(spatial_dims: int, classes: int, keypoints: int, neck: str, version: int, channels: int) -> None:
    for name, value, allowed in (("spatial_dims", spatial_dims, (2,)), ("neck", neck, ("fpn", "c4")), ("version", version, (1, 2))):
        if value not in allowed:
            raise SizeError(f"MaskRCNN: {name}={value!r} is not one of {allowed}")
    if classes < 2 or keypoints < 0 or channels < 1:
        raise SizeError(f"MaskRCNN: classes={classes} must be at least 2, background counted, keypoints={keypoints} at least 0, "
                        "channels and head at least 1")
