"""ResNet (He et al. 2015, arXiv:1512.03385) and ResNeXt (Xie et al. 2016, arXiv:1611.05431) without their classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biomask.errors import SizeError
from biomask.models.blocks import check_input

BackboneNorm = Literal["frozen", "batch", "none"]
#: Strides of C2..C5, the last maps of the four stages.
STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Layout:
    """What tells one network of the family from another."""

    blocks: tuple[int, int, int, int]
    """Residual blocks in each stage."""
    bottleneck: bool
    """Three convolutions a block, 1x1, 3x3, 1x1 with four times the channels out, instead of two 3x3."""
    groups: int = 1
    """Groups of the 3x3 convolution (the paper's cardinality)."""
    group_width: int = 64
    """Channels of each group in the first stage, where the stem has 64."""


#: Every backbone by name.
BACKBONES = {
    "resnet18": Layout((2, 2, 2, 2), bottleneck=False),
    "resnet50": Layout((3, 4, 6, 3), bottleneck=True),
    "resnet101": Layout((3, 4, 23, 3), bottleneck=True),
    "resnext101-32x8d": Layout((3, 4, 23, 3), bottleneck=True, groups=32, group_width=8),
    "resnext101-64x4d": Layout((3, 4, 23, 3), bottleneck=True, groups=64, group_width=4),
}


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with statistics, scale and shift that never change: (B, C, H, W) → (B, C, H, W).

    eps: added to the variance. 1e-5 where weights come from `BatchNorm2d`; torchvision's first COCO files were made with 0.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)  # of a BatchNorm2d, which counts the batches that it saw
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """norm(conv(x)); one convolution where the statistics are fixed, which passes over the maps once less and keeps one less."""
    fixed = isinstance(norm, FrozenBatchNorm) or (isinstance(norm, nn.BatchNorm2d) and not norm.training)
    if not fixed:
        return norm(conv(x))  # type: ignore[no-any-return]
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # type: ignore[operator]
    shift = norm.bias - norm.running_mean * scale  # type: ignore[operator]
    return F.conv2d(x, conv.weight * scale[:, None, None, None], shift, conv.stride, conv.padding, conv.dilation, conv.groups)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the identity: (B, in, H, W) → (B, planes, H/stride, W/stride)."""

    def __init__(self, in_channels: int, planes: int, stride: int, layout: Layout, norm: BackboneNorm) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(in_channels, planes, 3, norm, stride=stride), _norm(planes, norm)
        self.conv2, self.bn2 = _conv(planes, planes, 3, norm), _norm(planes, norm)
        self.downsample = _shortcut(in_channels, planes, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
        return _add(conv_norm(self.conv2, self.bn2, out), x, self.downsample)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and the identity: (B, in, H, W) → (B, 4 planes, H/stride, W/stride).

    The 3x3 one has the stride, as in torchvision; the paper gave it to the first.
    """

    def __init__(self, in_channels: int, planes: int, stride: int, layout: Layout, norm: BackboneNorm) -> None:
        super().__init__()
        middle = max(1, planes * layout.group_width // 64) * layout.groups
        self.conv1, self.bn1 = _conv(in_channels, middle, 1, norm), _norm(middle, norm)
        self.conv2, self.bn2 = _conv(middle, middle, 3, norm, stride=stride, groups=layout.groups), _norm(middle, norm)
        self.conv3, self.bn3 = _conv(middle, 4 * planes, 1, norm), _norm(4 * planes, norm)
        self.downsample = _shortcut(in_channels, 4 * planes, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
        out = F.relu(conv_norm(self.conv2, self.bn2, out), inplace=True)
        return _add(conv_norm(self.conv3, self.bn3, out), x, self.downsample)


def _conv(in_channels: int, out_channels: int, kernel: int, norm: BackboneNorm, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Kept as large by padding; a bias only where no normalisation brings one."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=norm == "none")


def _norm(channels: int, norm: BackboneNorm) -> nn.Module:
    if norm == "frozen":
        return FrozenBatchNorm(channels)
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: BackboneNorm) -> nn.Sequential | None:
    """A 1x1 convolution where the block changes the size or the channels."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, norm, stride=stride), _norm(out_channels, norm))


def _add(out: Tensor, x: Tensor, shortcut: nn.Sequential | None) -> Tensor:
    same = x if shortcut is None else conv_norm(shortcut[0], shortcut[1], x)  # type: ignore[arg-type]
    return F.relu(out.add_(same), inplace=True)  # in place: no convolution needs its output for its gradient


class ResNet(nn.Module):
    """Maps of the stages: (B, in_channels, H, W) → {"0": C2, …, "3": C5} of strides 4, 8, 16, 32, sizes rounded up.

    name: one of `BACKBONES`. width: channels of the stem, 64 in the papers; all others are in proportion.
    norm: "frozen", statistics, scales and shifts as they were loaded; "batch", trained; "none", no normalisation, biases instead.
    trainable: how many of layer4, layer3, layer2, layer1 and the stem are trained, in this order; the others keep their weights
        and, with norm="batch", their statistics.
    stages: how many are built; 3 for a C4 network, whose fourth is `res5`, in the heads.
    """

    def __init__(self, name: str, in_channels: int = 3, width: int = 64, norm: BackboneNorm = "frozen", *, trainable: int = 5,
                 stages: int = 4) -> None:
        super().__init__()
        layout = _check(name, in_channels, width, norm)
        if not (0 <= trainable <= 5 and 1 <= stages <= 4):
            raise SizeError(f"ResNet: trainable={trainable} must be 0..5 and stages={stages} 1..4")
        self.in_channels, self.name, self.trainable, self.stages = in_channels, name, trainable, stages
        self.channels = tuple(width * 2**stage * (4 if layout.bottleneck else 1) for stage in range(stages))
        self.strides = STRIDES[:stages]
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=norm == "none")
        self.bn1 = _norm(width, norm)
        before = (width, *self.channels)
        for stage in range(stages):
            self.add_module(f"layer{stage + 1}", _stage(layout, before[stage], width, stage, norm, 1 if stage == 0 else 2))
        _initialise(self)
        for module in self._kept():
            module.requires_grad_(False)
        self.train()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        check_input(x, self.in_channels, 2, type(self).__name__)
        if x.device.type in ("cpu", "cuda"):  # what convolutions and RoIAlign read fastest; all maps that follow lie alike
            x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        out: dict[str, Tensor] = {}
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            out[str(stage)] = x
        return out

    def train(self, mode: bool = True) -> Self:
        """Training mode, but for what is not trained: its batch normalisation keeps its statistics."""
        super().train(mode)
        for module in self._kept():
            module.eval()
        return self

    def _kept(self) -> list[nn.Module]:
        """The parts that `trainable` leaves out."""
        parts = [(f"layer{stage}",) for stage in (4, 3, 2, 1)] + [("conv1", "bn1")]
        return [self.get_submodule(n) for names in parts[self.trainable:] for n in names if hasattr(self, n)]


def res5(name: str, width: int = 64, norm: BackboneNorm = "frozen", stride: int = 1) -> nn.Sequential:
    """The fourth stage by itself, as the head of a C4 network: (R, C4, 7, 7) → (R, C5, 7, 7).

    stride: of its first block; 1 in figure 4 of the Mask R-CNN paper, 2 in the backbone. Its names are those of `layer4`.
    """
    layout = _check(name, 1, width, norm)
    stage = _stage(layout, width * 4 * (4 if layout.bottleneck else 1), width, 3, norm, stride)
    _initialise(stage)
    return stage


def _stage(layout: Layout, in_channels: int, width: int, stage: int, norm: BackboneNorm, stride: int) -> nn.Sequential:
    planes = width * 2**stage
    block, out_channels = (Bottleneck, 4 * planes) if layout.bottleneck else (BasicBlock, planes)
    return nn.Sequential(*(block(in_channels if i == 0 else out_channels, planes, stride if i == 0 else 1, layout, norm)
                           for i in range(layout.blocks[stage])))


def _initialise(network: nn.Module) -> None:
    """Kaiming normal by fan-out. Without normalisation each block's last convolution starts at 0.

    Otherwise the variance would double with every block (Zhang, Dauphin, Ma 2019, arXiv:1901.09321).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, (BasicBlock, Bottleneck)):
            last = module.conv3 if isinstance(module, Bottleneck) else module.conv2
            if last.bias is not None:
                nn.init.zeros_(last.weight)


def _check(name: str, in_channels: int, width: int, norm: str) -> Layout:
    if name not in BACKBONES:
        raise SizeError(f"backbone={name!r} is not one of {tuple(BACKBONES)}")
    if norm not in ("frozen", "batch", "none"):
        raise SizeError(f"ResNet: norm={norm!r} is not one of ('frozen', 'batch', 'none')")
    if in_channels < 1 or width < 1:
        raise SizeError(f"ResNet: in_channels={in_channels} and width={width} must be integers >= 1")
    return BACKBONES[name]
