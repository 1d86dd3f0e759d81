"""Any module of a user's own, made into a network that can be tiled and trained: what it does to sizes is found by trying."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from biomask.errors import UsageError
from biomask.models.blocks import check_input, crop_end, pad_end

#: Strides that are tried, and the least length of the images that they are tried on: 2D, 3D.
STRIDES, LEAST = (1, 2, 4, 8, 16, 32, 64), {2: 64, 3: 32}

#: Farthest context that is looked for, in pixels, and what counts as no change of the output, as a share of it.
FARTHEST, UNCHANGED = {2: 128, 3: 32}, 1e-4


class OwnNetwork(nn.Module):
    """A module of anybody's as a network that keeps the size: (B, in_channels, *S) → logits (B, classes, *S).

    inner: takes (B, in_channels, *S) and returns logits (B, classes, *S), or several of them with the final one last, for sizes
    that are multiples of some stride. Other sizes are padded inside, at the end and by repeating the last pixel, and cropped again.

    Nothing is known of its inside, so tiles are not exact; how near they are is measured where they are used. A module that
    declares all of `biomask.models.Network` is taken as it is, see `adapt`. Weights are saved under "inner.".

    Raises UsageError for a module that does not keep the size, or gives another number of channels.
    """

    exact_tiling = False

    def __init__(self, inner: nn.Module, in_channels: int, classes: int, spatial_dims: int) -> None:
        super().__init__()
        self.inner = inner
        self.in_channels, self.classes, self.spatial_dims = in_channels, classes, spatial_dims
        self.strides = (_stride_of(inner, in_channels, classes, spatial_dims),) * spatial_dims
        self.margin = (0,) * spatial_dims

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        check_input(x, self.in_channels, self.spatial_dims, type(self.inner).__name__)
        found = tuple(crop_end(o, x.shape[2:]) for o in _logits(self.inner(pad_end(x, self.strides))))
        return found if len(found) > 1 else found[0]

    @cached_property
    def halo(self) -> tuple[int, ...]:
        """Context in pixels beyond which the output hardly changes, found by changing what lies farther away."""
        return tuple(_context_of(self, axis) for axis in range(self.spatial_dims))

    def legal_size(self, size: int, axis: int) -> int:
        """Smallest input length >= size that is taken without padding inside."""
        return max(1, -(-size // self.strides[axis])) * self.strides[axis]


def adapt(module: nn.Module, in_channels: int, classes: int, spatial_dims: int) -> nn.Module:
    """A module that declares all that `biomask.models.Network` asks for as it is, any other one as an `OwnNetwork`."""
    from biomask.models import Network

    return module if isinstance(module, Network) else OwnNetwork(module, in_channels, classes, spatial_dims)


def is_own(name: str) -> bool:
    """Whether a network's name is that of a user's own module, "module:qualname"."""
    return ":" in name


def register_own(network: nn.Module | Callable[..., nn.Module]) -> str:
    """Make a module of the user's own known to this process; returns the name that recipes and models call it by.

    network: a module, of which every network that is built is a copy, as it is now; or what makes one, such as its class, called
    with (in_channels, classes, spatial_dims=…), or as many of these as it takes. Options of the recipe are its further arguments.

    What is made must fit `adapt`.
    """
    from biomask.models import MODELS

    maker = type(network) if isinstance(network, nn.Module) else network
    name = f"{maker.__module__}:{maker.__qualname__}"

    def make(in_channels: int, classes: int, *, spatial_dims: int, **options: Any) -> nn.Module:
        if isinstance(network, nn.Module):
            module = copy.deepcopy(network)
        else:
            try:
                module = _called(network, in_channels, classes, spatial_dims, options)
            except UsageError:
                raise
            except Exception as error:  # anything that somebody's code may raise
                raise UsageError(f"making {name} fails with {type(error).__name__}: {error}",
                                 fix="try it alone in Python, with the same arguments") from error
        if not isinstance(module, nn.Module):
            raise UsageError(f"{name} gives a {type(module).__name__}, not a torch.nn.Module",
                             fix="name a class or function of one")
        return adapt(module, in_channels, classes, spatial_dims)

    MODELS[name] = make
    return name


def _called(maker: Callable[..., Any], in_channels: int, classes: int, spatial_dims: int, options: Mapping[str, Any]) -> Any:
    """With as many of the three as it takes."""
    ways: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((in_channels, classes), {"spatial_dims": spatial_dims}), ((in_channels, classes), {}), ((), {})]
    for positional, named in ways:
        try:
            inspect.signature(maker).bind(*positional, **named, **options)
        except TypeError:
            continue
        return maker(*positional, **named, **options)
    beside = f" beside {dict(options)}" if options else ""
    raise UsageError(f"{maker.__qualname__} takes neither (in_channels, classes) nor nothing{beside}",
                     fix="def my_network(in_channels, classes): …")


def _logits(out: object) -> tuple[Tensor, ...]:
    """One or several tensors. Raises UsageError for anything else."""
    found = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    if not found or not all(isinstance(o, Tensor) for o in found):
        raise UsageError(f"the network returns a {type(out).__name__}", fix="return logits (B, classes, Y, X), or a tuple of them")
    return cast("tuple[Tensor, ...]", found)


def _stride_of(module: nn.Module, in_channels: int, classes: int, dims: int) -> int:
    """The smallest stride of whose multiples images keep their size. Raises UsageError where there is none."""
    first = next(module.parameters(), torch.empty(0))
    was_training, last = module.training, "its output has another size than its input"
    module.eval()
    try:
        for stride in STRIDES:
            try:
                for n in _lengths(stride, LEAST[dims]):
                    with torch.no_grad():
                        out = _logits(module(torch.zeros((1, in_channels, *[n] * dims), device=first.device)))
                    if any(o.ndim != dims + 2 or o.shape[1] != classes for o in out):
                        raise UsageError(f"the network gives {tuple(out[-1].shape)} where the labels need {classes} channels: "
                                         f"{(1, classes, *[n] * dims)} for an input of {(1, in_channels, *[n] * dims)}",
                                         fix=f"let its last layer have {classes} channels, one a class with the background")
                    if any(tuple(o.shape[2:]) != (n,) * dims for o in out):
                        last = f"an input of {n} pixels gives {out[-1].shape[-1]}"
                        break
                else:
                    return stride
            except UsageError:
                raise
            except Exception as error:  # noqa: BLE001  anything that somebody's code may raise
                last = (str(error) or type(error).__name__).splitlines()[0]
    finally:
        module.train(was_training)
    raise UsageError(f"the network does not keep the size of images, tried with lengths up to {2 * LEAST[dims]}: {last}",
                     fix="pad its convolutions, or give it the attributes of biomask.models.Network")


def _lengths(stride: int, least: int) -> Iterator[int]:
    """An odd and an even multiple of a stride: what a larger one divides would pass unseen."""
    odd = -(-least // stride) | 1
    yield stride * odd
    yield stride * (odd + 1)


def _context_of(network: OwnNetwork, axis: int) -> int:
    """Context along an axis, a multiple of the stride."""
    stride, far = network.strides[axis], FARTHEST[network.spatial_dims]
    middle = -(-far // stride) * stride
    size = [network.legal_size(LEAST[network.spatial_dims] // 2, a) for a in range(network.spatial_dims)]
    size[axis] = 2 * middle + stride
    first = next(network.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    x, other = (torch.randn((1, network.in_channels, *size), generator=generator).to(first.device) for _ in range(2))
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            kept = _logits(network(x))[-1].narrow(2 + axis, middle, stride)
            context = stride
            while context < middle:
                changed = other.clone()
                start, length = middle - context, 2 * context + stride
                changed.narrow(2 + axis, start, length).copy_(x.narrow(2 + axis, start, length))
                difference = (_logits(network(changed))[-1].narrow(2 + axis, middle, stride) - kept).abs().max()
                if difference <= UNCHANGED * kept.abs().max():
                    return context
                context = min(2 * context, middle)
    finally:
        network.train(was_training)
    return middle
