"""Which heads of a network with several predict: `--depth` and `--mode` of UNet++."""

from __future__ import annotations

from torch import nn

from biomask.errors import SizeError, UsageError
from biomask.models.ensemble import Ensemble
from biomask.models.unet_plus_plus import Mode, UNetPlusPlus


def with_heads(network: nn.Module, depth: int | None, mode: Mode | None) -> nn.Module:
    """The network that predicts by the heads that are asked for; itself where none are.

    depth: of the deepest head that counts; what only deeper ones need is removed (`UNetPlusPlus.prune`). None = the deepest.
    mode: "fast" = that head alone, "accurate" = the mean of it and those before it. None = fast where a depth is given.

    Raises UsageError for networks that have no such heads.
    """
    if depth is None and mode is None:
        return network
    if isinstance(network, Ensemble):
        return Ensemble([with_heads(member, depth, mode) for member in network.members])
    asked = f"--depth {depth}" if depth is not None else f"--mode {mode}"
    if not isinstance(network, UNetPlusPlus):
        raise UsageError(f"{asked} chooses among the heads of a UNet++, and this model is a {type(network).__name__}",
                         fix="leave it out")
    if mode == "accurate" and not network.deep_supervision:
        raise UsageError("--mode accurate is the mean of several heads, and this UNet++ was trained with one",
                         fix="leave it out, or train with --recipe unet++")
    try:
        return network.prune(network.depth if depth is None else depth, mode=mode or "fast")
    except SizeError as error:
        raise UsageError(f"{asked}: {error.what}", fix=f"one of {', '.join(map(str, network.depths))}") from error
