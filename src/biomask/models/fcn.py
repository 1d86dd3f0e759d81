"""Fully convolutional networks (Long, Shelhamer, Darrell 2015, arXiv:1411.4038) on VGG-16 (Simonyan, Zisserman 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from biomask.errors import SizeError
from biomask.models import dependency
from biomask.models.blocks import initialise, resize
from biomask.models.dependency import Interval
from biomask.models.same_size import SameSize, check_choice, check_count

#: Convolutions of each stage of VGG-16, and its channels in units of the width.
STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


class FCN(SameSize):
    """VGG-16 turned into convolutions, scores of one to three depths summed: (B, in_channels, *S) → logits (B, classes, *S).

    FCN-32s up-samples the scores of fc7; 16s first adds scores of pool4, 8s also of pool3. All scores begin at zero, the
    intermediate up-sampling begins bilinear and is learnt, the last stays bilinear. 3 → 21 classes: 134,346,581 parameters (32s),
    134,364,410 (16s), 134,376,863 (8s).

    Its tensors have torchvision's names of VGG-16, whose weights `biomask.models.load_weights` takes from a file.

    Where the released nets pad the image by 100 and crop each fusion, here every convolution keeps the size and sizes are padded
    to multiples of 32, so that all maps lie on one grid; scores near the border differ from theirs.

    stride: 32, 16 or 8, that of the finest scores.
    dropout: probability after fc6 and fc7.
    """

    def __init__(self, in_channels: int, classes: int, *, stride: Literal[32, 16, 8] = 8, width: int = 64, dropout: float = 0.5,
                 spatial_dims: int = 2) -> None:
        check_count(type(self).__name__, width=width)
        check_choice(type(self).__name__, stride=(stride, (32, 16, 8)))
        if spatial_dims != 2:
            raise SizeError("FCN is made of VGG-16, which takes images, not volumes", fix="take a U-Net for volumes, or --z each")
        super().__init__(in_channels, classes, spatial_dims, 32)
        self.stride = stride
        self.features = nn.Sequential(*_vgg16(in_channels, width))
        self.classifier = nn.Sequential(
            nn.Conv2d(8 * width, 64 * width, 7, padding=3), nn.ReLU(inplace=True), nn.Dropout(dropout),   # fc6
            nn.Conv2d(64 * width, 64 * width, 1), nn.ReLU(inplace=True), nn.Dropout(dropout))             # fc7
        self.score_fc7 = nn.Conv2d(64 * width, classes, 1)
        self.score_pool4 = nn.Conv2d(8 * width, classes, 1) if stride <= 16 else None
        self.upscore2 = _twice(classes) if stride <= 16 else None
        self.score_pool3 = nn.Conv2d(4 * width, classes, 1) if stride <= 8 else None
        self.upscore_pool4 = _twice(classes) if stride <= 8 else None
        initialise(self)
        for score in (self.score_fc7, self.score_pool4, self.score_pool3):
            if score is not None:
                nn.init.zeros_(score.weight)
        for upscore in (self.upscore2, self.upscore_pool4):
            if upscore is not None:
                begin_bilinear(upscore)

    def logits(self, x: Tensor) -> Tensor:
        pool3 = self.features[:17](x)
        pool4 = self.features[17:24](pool3)
        pool5 = self.features[24:](pool4)
        score = self.score_fc7(self.classifier(pool5))
        if self.upscore2 is not None and self.score_pool4 is not None:
            score = self.upscore2(score) + self.score_pool4(pool4)
        if self.upscore_pool4 is not None and self.score_pool3 is not None:
            score = self.upscore_pool4(score) + self.score_pool3(pool3)
        return resize(score, self.stride)

    def depends_on(self, outputs: Interval, axis: int) -> Interval:
        score = dependency.through_linear(outputs, self.stride)
        parts = []
        for stage, stride in ((3, 8), (4, 16)):
            if self.stride <= stride:
                parts.append(_features_depend_on(score, stage))
                score = dependency.through_transposed(score, 4, 1, 2)
        parts.append(_features_depend_on(dependency.through_convolution(score, 7, 3), 5))
        return dependency.union(*parts)


def _vgg16(in_channels: int, width: int) -> Iterator[nn.Module]:
    """Convolutions, ReLU and pooling in torchvision's order: pool3 is layer 16, pool4 23, pool5 30."""
    channels = in_channels
    for count, times in STAGES:
        for _ in range(count):
            yield nn.Conv2d(channels, times * width, 3, padding=1)
            yield nn.ReLU(inplace=True)
            channels = times * width
        yield nn.MaxPool2d(2)


def _features_depend_on(i: Interval, stage: int) -> Interval:
    """Input of pool1 … pool5."""
    for count, _ in reversed(STAGES[:stage]):
        i = dependency.through_blocks(dependency.through_convolution(i, 2, 0, 2), count=count)
    return i


def _twice(classes: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(classes, classes, 4, stride=2, padding=1, bias=False)


def bilinear_kernel(size: int) -> Tensor:
    """Weights of bilinear up-sampling by a transposed convolution of this kernel: float32 (size, size).

    (1 - |i - c| / f) (1 - |j - c| / f) with f = ceil(size / 2), c = f - 1 for odd sizes and f - 0.5 for even ones.

    >>> bilinear_kernel(4)[0].tolist()
    [0.0625, 0.1875, 0.1875, 0.0625]
    """
    f = (size + 1) // 2
    c = f - 1 if size % 2 else f - 0.5
    one = 1 - (torch.arange(size, device="cpu") - c).abs() / f
    return torch.outer(one, one)


def begin_bilinear(layer: nn.ConvTranspose2d) -> None:
    """Set the weights so that each channel is up-sampled bilinearly and none goes into another."""
    if layer.weight.is_meta:
        return
    with torch.no_grad():
        layer.weight.zero_()
        for k in range(min(layer.in_channels, layer.out_channels)):
            layer.weight[k, k] = bilinear_kernel(layer.kernel_size[0])
