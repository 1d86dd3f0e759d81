"""Parameters and work of every recipe's network, counted on the network itself, without memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from biomask import recipes
from biomask.checkpoint import construct
from biomask.models import MaskRCNN, Network
from biomask.models.blocks import parameter_count
from biomask.models.mask_rcnn.resize import STRIDE, resized
from biomask.recipes.catalogue import ALIASES, CATALOGUE, USUAL_SIZES

#: Pixels of which the work is counted: 512² in 2D, 64³ in 3D, which are as many.
SIDES = {2: 512, 3: 64}


@dataclass(frozen=True)
class Description:
    """A recipe in one line."""

    name: str
    parameters: int
    """Trainable, biases included, of the network built for these channels and classes."""
    flops: float
    """Floating-point operations, two a multiply-add, of one prediction of at least 512² pixels or 64³ voxels."""
    in_channels: int
    classes: int
    """Channels that come out."""
    spatial_dims: int
    source: str
    good_for: str
    aliases: tuple[str, ...]


def describe(name: str) -> Description:
    """One recipe by name; UsageError for unknown ones."""
    recipe = recipes.get(name)
    entry = CATALOGUE[recipe.name]
    usual = USUAL_SIZES[entry.spatial_dims] if recipe.name == "default" else {}
    with torch.random.fork_rng([]), torch.device("meta"), _Undrawn():
        network = construct(recipe.network.name, {**usual, **recipe.network.options}, entry.in_channels, entry.classes,
                            entry.spatial_dims)
    count = detector_flops if isinstance(network, MaskRCNN) else flops
    return Description(recipe.name, parameter_count(network), count(network, SIDES[entry.spatial_dims]), entry.in_channels,
                       entry.classes, entry.spatial_dims, recipe.source, entry.good_for,
                       tuple(a for a, of in ALIASES.items() if of == recipe.name))


def describe_all() -> list[Description]:
    """All recipes, in the order of the catalogue."""
    return [describe(name) for name in CATALOGUE]


def flops(network: nn.Module, side: int) -> float:
    """Operations of one prediction whose output has at least `side` pixels along each axis, two a multiply-add.

    network: on the meta device; nothing is computed. Counted are convolutions and matrix products.
    """
    known = cast(Network, network.eval())
    size = [known.legal_size(side + 2 * margin, axis) for axis, margin in enumerate(known.margin)]
    counter = _Counter()
    with torch.no_grad(), counter:
        network(torch.empty((1, known.in_channels, *size), device="meta"))
    return float(counter.flops)


def detector_flops(network: nn.Module, side: int) -> float:
    """Operations of one detection in an image of `side` pixels along each axis, as full as the limits allow, two a multiply-add.

    network: a `MaskRCNN` on the meta device. Counted are convolutions and matrix products, not RoIAlign and suppression.
    """
    known = cast(MaskRCNN, network.eval())
    sides = known.transform.short_sides
    seen = [-(-n // STRIDE) * STRIDE for n in resized((side, side), max(sides) if sides else None, known.transform.long_side)]
    heads, channels, limits = known.roi_heads, known.backbone.channels, known.limits
    counter = _Counter()
    with torch.no_grad(), counter:
        maps = known.backbone(torch.empty((1, known.in_channels, *seen), device="meta"))
        known.rpn.head(list(maps.values()))
        regions = torch.empty((limits.proposals, channels, 7, 7), device="meta")
        found = torch.empty((limits.detections, channels, *((14, 14) if heads.res5 is None else (7, 7))), device="meta")
        if heads.res5 is not None:
            regions, found = heads.res5(regions), heads.res5(found)
        heads.box_predictor(heads.box_head(regions))
        if heads.mask_head is not None:
            heads.mask_predictor(heads.mask_head(found))
        if heads.keypoint_head is not None:
            heads.keypoint_predictor(heads.keypoint_head(torch.empty((limits.detections, channels, 14, 14), device="meta")))
    return float(counter.flops)


def _elementwise(*values: Any) -> Tensor:
    """Of tensors and numbers, the first a tensor."""
    shapes = [v.shape for v in values if isinstance(v, Tensor)]
    return cast(Tensor, values[0]).new_empty(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]


def _joined(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    """One after the other along an axis."""
    shape = list(parts[0].shape)
    shape[axis] = sum(p.shape[axis] for p in parts)
    return parts[0].new_empty(shape)


def _averaged(x: Tensor, axes: Sequence[int] | None, kept: bool = False) -> Tensor:
    """kept: whether axes that are averaged over stay, of length 1."""
    gone = {axis % x.ndim for axis in axes or range(x.ndim)}
    return x.new_empty([1 if axis in gone else n for axis, n in enumerate(x.shape) if kept or axis not in gone])


def _resized(x: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    """(B, C, *S) → (B, C, *size)."""
    return x.new_empty((*x.shape[:2], *size))


_aten = torch.ops.aten

#: What operations give of tensors without memory, where torch would load its compiler to find out, which takes longer than all
#: that is counted here.
OUTPUTS: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys((_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.rsqrt.default, _aten.relu.default,
                     _aten.tanh.default), _elementwise),
    **dict.fromkeys((_aten.upsample_bilinear2d.default, _aten.upsample_trilinear3d.default), _resized),
    _aten.cat.default: _joined,
    _aten.stack.default: lambda parts, axis=0: _joined([p.unsqueeze(axis) for p in parts], axis),
    _aten.addmm.default: lambda bias, x, weight, *_: x.new_empty((len(x), weight.shape[1])),
    _aten.mean.dim: _averaged,
    _aten.native_batch_norm.default: lambda x, *_: (torch.empty_like(x), x.new_empty(0), x.new_empty(0)),
}


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the operations of whatever runs, by torch's own formulas."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch loads its compiler, to keep it away from here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs) if kwargs else OUTPUTS.get(func, func)(*args)
        formula = flop_registry.get(func._overloadpacket)
        self.flops += formula(*args, **kwargs, out_val=out) if formula is not None else 0
        return out


class _Undrawn(TorchFunctionMode):
    """Draws no weights: there is no memory to hold them, and torch would load its compiler to find that out."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.normal_:
            return cast(Tensor, args[0])
        return cast(Tensor, kwargs["tensor"]) if func is nn.init.normal_ else func(*args, **kwargs)
