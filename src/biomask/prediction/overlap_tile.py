"""The overlap-tile strategy (U-Net, fig. 2), exact: tiled equals untiled (spec 9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from biomask.errors import SizeError, UsageError
from biomask.models import Network
from biomask.tiling import AxisGeometry, Tile, plan_tiles
from biomask.transforms.normalize import apply

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def geometry_of(network: nn.Module) -> tuple[AxisGeometry, ...]:
    """What tiling must know of a network, one entry a spatial axis. Raises UsageError if it lacks the attributes."""
    missing = [a for a in ("strides", "halo", "margin", "exact_tiling", "spatial_dims") if not hasattr(network, a)]
    if missing:
        raise UsageError(f"{type(network).__name__} lacks {', '.join(missing)}", fix="see biomask.models.Network")
    known = cast(Network, network)
    return tuple(AxisGeometry(known.strides[axis], known.halo[axis], known.margin[axis], partial(known.legal_size, axis=axis))
                 for axis in range(known.spatial_dims))


def predict_tiles(network: nn.Module, image: npt.NDArray[Any], tile: Sequence[int], *,
                  statistics: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
                  device: torch.device | str = "cpu", approximate: bool = False,
                  done: Callable[[int, int], None] | None = None) -> Iterator[tuple[Tile, Tensor]]:
    """Logits tile by tile: (tile, float32 (K, *kept) on `device`), together covering every pixel once.

    network: in eval mode on `device`. image: (C, *S), any real dtype. tile: pixels kept along each axis, rounded up to
    the network's stride; the image's size or more = untiled. statistics: (offset, scale), each (C,), for inputs
    (image - offset) / scale; without them the image is taken as it is. approximate: whether networks whose `exact_tiling` is
    False may be tiled, which `tiling_difference` measures; UsageError for them otherwise. done(n, of) is called after each tile.
    """
    geometry = geometry_of(network)
    if image.ndim != len(geometry) + 1:
        raise SizeError(f"image has shape {image.shape}, the network takes (C, {'Z, ' * (len(geometry) == 3)}Y, X)")
    size = image.shape[1:]
    tiles = plan_tiles(size, tile, geometry)
    if len(tiles) > 1 and not approximate and not cast(Network, network).exact_tiling:
        raise UsageError(f"{type(network).__name__} cannot be tiled exactly", fix="use --tile whole")
    for n, window in enumerate(tiles):
        yield window, _logits_of(network, _read(image, window, statistics), device)[(slice(None), *window.crop)]
        if done:
            done(n + 1, len(tiles))


def _logits_of(network: nn.Module, pixels: npt.NDArray[np.float32], device: torch.device | str) -> Tensor:
    """Final logits (K, *S') of a window (C, *S)."""
    with torch.inference_mode(), exact_arithmetic(device):
        x = torch.from_numpy(pixels)[None].to(device, memory_format=CHANNELS_LAST[pixels.ndim - 1])
        logits = network(x)
        final: Tensor = logits[-1] if isinstance(logits, tuple) else logits
        return final[0]


def tiling_difference(network: nn.Module, image: npt.NDArray[Any], tile: Sequence[int], activate: Callable[[Tensor], Tensor], *,
                      statistics: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
                      device: torch.device | str = "cpu") -> float | None:
    """Largest difference of a probability in the middle tile to the same tile read with twice the context; None where one tile
    does.

    What tiles of a network whose `exact_tiling` is False cost, without the untiled prediction that they stand for. activate:
    logits (K, *S) → probabilities. Other arguments as in `predict_tiles`.
    """
    geometry, size = geometry_of(network), image.shape[1:]
    tiles = plan_tiles(size, tile, geometry)
    if len(tiles) == 1:
        return None
    narrow = tiles[len(tiles) // 2]
    wide = plan_tiles(size, tile, [replace(g, halo=2 * max(g.halo, g.stride)) for g in geometry])[len(tiles) // 2]
    one, other = (activate(_logits_of(network, _read(image, t, statistics), device)[(slice(None), *t.crop)])
                  for t in (narrow, wide))
    return float((one - other).abs().max())


def _read(image: npt.NDArray[Any], tile: Tile,
          statistics: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None) -> npt.NDArray[np.float32]:
    """The window of a tile, mirrored beyond the borders, normalised, float32 (C, *S)."""
    size = image.shape[1:]
    if all(a.start >= 0 and a.stop <= n for a, n in zip(tile.axes, size, strict=True)):
        window = image[(slice(None), *(slice(a.start, a.stop) for a in tile.axes))]
    else:
        index: Any = (slice(None), *np.ix_(*tile.read_indices(size)))
        window = image[index]
    return apply(window, *statistics) if statistics else np.ascontiguousarray(window, np.float32)


def predict_array(network: nn.Module, image: npt.NDArray[Any], *, tile: int | Sequence[int] | None = None,
                  statistics: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
                  device: torch.device | str = "cpu") -> npt.NDArray[np.float32]:
    """Logits of a whole image: (C, *S) → float32 (K, *S).

    tile: None = untiled; an int or one int an axis = pixels kept a tile. Other arguments as in `predict_tiles`.
    """
    size = image.shape[1:]
    window = size if tile is None else (tile,) * len(size) if isinstance(tile, int) else tuple(tile)
    out: npt.NDArray[np.float32] | None = None
    for part, logits in predict_tiles(network, image, window, statistics=statistics, device=device):
        if out is None:
            out = np.empty((logits.shape[0], *size), np.float32)
        out[(slice(None), *part.write)] = logits.float().cpu().numpy()
    if out is None:
        raise SizeError(f"image of shape {image.shape} has no pixels")
    return out


def exact_arithmetic(device: torch.device | str) -> AbstractContextManager[Any]:
    """Full float32 convolutions on CUDA, where TF32 would cost three digits and make tiles differ."""
    if torch.device(device).type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
