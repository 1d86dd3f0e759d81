"""Weights by torchvision's names, without torchvision: its detectors trained on COCO, its ResNets trained on ImageNet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from biomask.errors import ModelFileError, UsageError
from biomask.models.backbones import BackboneNorm, FrozenBatchNorm, ResNet
from biomask.models.mask_rcnn import MaskRCNN
from biomask.models.weights import read_weights

#: Options of `MaskRCNN` that make the detectors of torchvision.
DETECTORS: dict[str, dict[str, Any]] = {
    "fasterrcnn_resnet50_fpn": {"masks": False},
    "keypointrcnn_resnet50_fpn": {"masks": False, "keypoints": 17, "short_side": (640, 672, 704, 736, 768, 800)},
    "maskrcnn_resnet50_fpn": {},
    "maskrcnn_resnet50_fpn_v2": {"version": 2, "norm": "batch"},
}
#: Our names of torchvision's ImageNet networks.
IMAGENET = {"resnet18": "resnet18", "resnet50": "resnet50", "resnet101": "resnet101", "resnext101_32x8d": "resnext101-32x8d",
            "resnext101_64x4d": "resnext101-64x4d"}
#: What depends on the classes, anchors or keypoints: new where the file's has another shape.
PREDICTORS = ("rpn.head.cls_logits.", "rpn.head.bbox_pred.", "roi_heads.box_predictor.",
              "roi_heads.mask_predictor.mask_fcn_logits.", "roi_heads.keypoint_predictor.")
#: Names until torchvision 0.12 and since.
RENAMED = ((re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)"), r"\1.0.\2"),
           (re.compile(r"rpn\.head\.conv\.(weight|bias)"), r"rpn.head.conv.0.0.\1"))
MASK_LAYER = re.compile(r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)")
#: In the name of the one file with old names whose normalisation has the usual eps, keypointrcnn_resnet50_fpn's first.
USUAL_EPS = "9f466800"


@dataclass(frozen=True)
class LoadedWeights:
    """What became of a file of weights, by the network's names."""

    loaded: tuple[str, ...]
    """Tensors that came from the file."""
    new: tuple[str, ...]
    """Tensors of the network that the file has not, or for other classes, anchors or keypoints: as the network was built."""
    unused: tuple[str, ...]
    """Tensors of the file that the network has no place for."""
    first_convolution: str | None = None
    """What was done to fit the file's first convolution to other channels."""
    eps: float | None = None
    """Added to the variance in frozen batch normalisation; None where there is none."""

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded"]
        lines += [f"new: {', '.join(_parts(self.new))}"] if self.new else []
        lines += [f"not used: {', '.join(_parts(self.unused))}"] if self.unused else []
        lines += [f"first convolution: {self.first_convolution}"] if self.first_convolution else []
        lines += [f"frozen batch normalisation with eps = {self.eps:g}"] if self.eps is not None else []
        return "\n".join(lines)


def load_torchvision(name: str, source: str | Path | Mapping[str, Tensor], *, classes: int | None = None, in_channels: int = 3,
                     eps: float | None = None,
                     options: Mapping[str, Any] | None = None) -> tuple[MaskRCNN | ResNet, LoadedWeights]:
    """A network of torchvision with its weights, in eval mode, and what was loaded.

    name: maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2, keypointrcnn_resnet50_fpn or fasterrcnn_resnet50_fpn → `MaskRCNN`;
        resnet18, resnet50, resnet101, resnext101_32x8d or resnext101_64x4d → `ResNet`, without the classifier.
    source: a .pth or .safetensors file, or a state dict.
    classes: with background; default the file's (91 of COCO). Otherwise the class, box and mask predictors are new.
    in_channels, eps: see `load_weights_into`. options: of `MaskRCNN` or `ResNet` beside or instead of torchvision's.

    Raises UsageError for an unknown name, ModelFileError for a file of something else, and errors as `read_weights`.
    """
    if name not in DETECTORS and name not in IMAGENET:
        raise UsageError(f"{name!r} is no network of torchvision that is known here", fix=f"give one of {', '.join(known())}")
    given, where = _read(source)
    if name in IMAGENET:
        norm: BackboneNorm = "frozen"
        network: MaskRCNN | ResNet = ResNet(IMAGENET[name], in_channels, **{"norm": norm, **(options or {})})
    else:
        scores = given.get("roi_heads.box_predictor.cls_score.bias")
        if scores is None:
            raise ModelFileError(f"is no {name}: it holds no box predictor ({', '.join(list(given)[:3])}, …)", where=where,
                                 fix="give that network's own file; one of an ImageNet ResNet is read by its own name")
        network = MaskRCNN(in_channels, len(scores) if classes is None else classes, **{**DETECTORS[name], **(options or {})})
    report = _load(network, given, where, eps)
    missing = [n for n in report.new if not n.startswith(PREDICTORS)]
    if missing:
        raise ModelFileError(f"is no {name}: it lacks {', '.join(_parts(missing))}", where=where,
                             fix="give that network's own file")
    return network.eval(), report


def load_weights_into(network: MaskRCNN | ResNet, source: str | Path | Mapping[str, Tensor], *,
                      eps: float | None = None) -> LoadedWeights:
    """Load what fits by name from torchvision's file: a detector's, or an ImageNet ResNet's into a detector's backbone too.

    Predictors for other classes, anchors or keypoints, and heads that the file has not, stay new. A first convolution for other
    channels is made from the file's: each of n channels gets the sum of its weights over the file's channels, divided by n, so that
    n equal channels are seen as the grey image of which they are copies. A C4 network's `res5` is the file's `layer4`.
    eps: of `FrozenBatchNorm`. Default 1e-5, but 0 for the files with the names used until torchvision 0.12, as torchvision does for
    the detectors that it publishes (COCO_V1); give 0 for such weights saved again by a later version.

    Raises ModelFileError where a tensor of the backbone is missing or of another shape, and errors as `read_weights`.
    """
    given, where = _read(source)
    return _load(network, given, where, eps)


def _load(network: MaskRCNN | ResNet, given: Mapping[str, Tensor], where: str | Path | None, eps: float | None) -> LoadedWeights:
    """See `load_weights_into`."""
    tensors = {_name(n): t for n, t in given.items()}
    own = network.state_dict()
    body = ""
    if isinstance(network, MaskRCNN):
        body = "backbone.body."
        if "conv1.weight" in tensors:
            tensors = {body + n: t for n, t in tensors.items()}
        if network.roi_heads.res5 is not None:
            tensors = {n.replace(f"{body}layer4.", "roi_heads.res5."): t for n, t in tensors.items()}
    first, rule = f"{body}conv1.weight", None
    if first in tensors and tensors[first].shape[1] != own[first].shape[1]:
        tensors[first], rule = _other_channels(tensors[first], own[first].shape[1])
    fits = {n: t for n, t in tensors.items() if n in own and t.shape == own[n].shape}
    _check_fit(own, tensors, fits, body, where)
    network.load_state_dict({**own, **fits})
    frozen = [m for m in network.modules() if isinstance(m, FrozenBatchNorm)]
    old = any(n not in tensors for n in given if n.startswith(("backbone.", "rpn."))) and USUAL_EPS not in str(where)
    added = (0.0 if old else 1e-5) if eps is None else eps
    for module in frozen:
        module.eps = added
    counters = ("num_batches_tracked",)
    return LoadedWeights(tuple(fits), tuple(n for n in own if n not in fits and not n.endswith(counters)),
                         tuple(n for n in tensors if n not in fits and not n.endswith(counters)), rule, added if frozen else None)


def known() -> tuple[str, ...]:
    """The names that `load_torchvision` takes."""
    return (*DETECTORS, *IMAGENET)


def _read(source: str | Path | Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str | Path | None]:
    """The tensors, and the file if there is one."""
    return (read_weights(source), source) if isinstance(source, (str, Path)) else (source, None)


def _name(name: str) -> str:
    """An old name replaced by the new one."""
    layer = MASK_LAYER.fullmatch(name)
    if layer:
        return f"roi_heads.mask_head.{int(layer[1]) - 1}.0.{layer[2]}"
    for pattern, new in RENAMED:
        if pattern.fullmatch(name):
            return pattern.sub(new, name)
    return name


def _other_channels(weight: Tensor, channels: int) -> tuple[Tensor, str]:
    """(out, given, h, w) → (out, channels, h, w), and the rule in words."""
    new = weight.sum(dim=1, keepdim=True).repeat(1, channels, 1, 1) / channels
    return new, (f"from {weight.shape[1]} to {channels} channels, each with the sum of the weights over the {weight.shape[1]}"
                 + (f" over {channels}" if channels > 1 else ""))


def _check_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], fits: Mapping[str, Tensor], body: str,
               where: str | Path | None) -> None:
    """The whole backbone must fit, and of the rest all but predictors where both have it."""
    parts = [n for n in own if n.startswith(body) and not n.endswith("num_batches_tracked")]
    missing = [n for n in parts if n not in tensors]
    if missing:
        raise ModelFileError(f"lacks {len(missing)} of the backbone's {len(parts)} tensors ({', '.join(missing[:3])}, …)",
                             where=where, fix="give a file of the same backbone, saved by torchvision's names")
    for name, tensor in tensors.items():
        if name in own and name not in fits and not name.startswith(PREDICTORS):
            raise ModelFileError(f"{name} is {tuple(tensor.shape)} in the file and {tuple(own[name].shape)} in the network",
                                 where=where, fix="build it as it was trained: the same backbone, width, channels and version")


def _parts(names: tuple[str, ...] | list[str]) -> list[str]:
    """Which layers hold these tensors, each once."""
    return list(dict.fromkeys(n.rsplit(".", 1)[0] for n in names))
