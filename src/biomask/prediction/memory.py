"""How much memory a tile takes, found by running the network on tensors without data."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from biomask.errors import InputError
from biomask.models import Network
from biomask.models.own import OwnNetwork
from biomask.prediction.overlap_tile import CHANNELS_LAST, geometry_of
from biomask.tiling import choose_tile, plan_tiles, smallest_read, smallest_tile

#: Convolution libraries keep reordered copies beside the tensors that can be counted: of activations by this factor
#: (1.2 to 1.3 measured on a CPU), and of the weights once.
OVERHEAD = 1.3

#: Larger windows save little work and make progress hard to see and memory hard to foretell.
LARGEST_READ = 2048 * 2048


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that are alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def activation_bytes(network: nn.Module, window: Sequence[int], channels: int | None = None) -> int:
    """Most bytes of activations alive at once for an input window (1, C, *window), float32, in inference.

    channels: C of a part of a network, which does not say it.
    """
    own = isinstance(network, OwnNetwork)  # may not work on tensors without data, so it is run
    tensors = () if own else (*network.named_parameters(), *network.named_buffers())
    state = {k: torch.empty_like(v, device="meta") for k, v in tensors}
    device = next(network.parameters(), torch.empty(0)).device if own else torch.device("meta")
    x = torch.zeros((1, channels or cast(Network, network).in_channels, *window), device=device)
    x = x.contiguous(memory_format=CHANNELS_LAST[len(window)])
    counter = _LiveBytes()
    with torch.no_grad(), counter:
        counter._add(x.untyped_storage())
        torch.func.functional_call(network, state, (x,))
    return counter.peak


@dataclass(frozen=True)
class TileCost:
    """Bytes of a window of n pixels: base + slope n, on top of what is there before the first tile."""

    base: float
    slope: float

    def bytes(self, pixels: float) -> float:
        """For a window of so many pixels."""
        return self.base + self.slope * pixels

    def pixels(self, budget: float) -> float:
        """Largest window within a budget in bytes; 0 or less when there is none."""
        return (budget - self.base) / self.slope


def tile_cost(network: nn.Module) -> TileCost:
    """From the activations of two windows, the factor for reordered copies, and one copy of the weights."""
    geometry = geometry_of(network)
    probe = plan_tiles([4 * g.stride + 4 * g.halo for g in geometry], smallest_tile(geometry), geometry)
    small = max((t.read_size for t in probe), key=lambda s: sum(s))
    large = tuple(g.legal_size(2 * n) for g, n in zip(geometry, small, strict=True))
    pixels = [float(prod(s)) for s in (small, large)]
    needed = [OVERHEAD * activation_bytes(network, s) for s in (small, large)]
    slope = (needed[1] - needed[0]) / (pixels[1] - pixels[0])
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return TileCost(max(0.0, needed[0] - slope * pixels[0]) + weights, slope)


def fit_tile(network: nn.Module, size: Sequence[int], budget: float, cost: TileCost | None = None) -> tuple[int, ...]:
    """The tile with the least work whose activations stay within `budget` bytes.

    cost: what `tile_cost` gives, where it is known already. Raises TooLittleMemory with the smallest budget that would do.
    """
    geometry, cost = geometry_of(network), cost or tile_cost(network)
    tile = choose_tile(size, min(cost.pixels(budget), LARGEST_READ), geometry)
    if tile is None:
        needed = cost.bytes(smallest_read(size, geometry))
        raise TooLittleMemory(f"one tile needs at least {needed / 1e6:.0f} MB", fix="close other programs, or use another machine",
                              needed=needed)
    return tile


class TooLittleMemory(InputError):
    """Not even the smallest tile fits."""

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str | None = None, needed: float = 0.0) -> None:
        super().__init__(what, where=where, fix=fix)
        self.needed = needed
        """Smallest budget in bytes that would do."""
