"""Several networks as one: the mean of what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn


class Ensemble(nn.Module):
    """Networks of one kind, trained apart: (B, C, *S) → the mean of their logits (B, K, *S').

    Tiles, strides and sizes are those of the members, which are alike. The mean of logits is, for two classes, the
    geometric mean of the odds.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        first = members[0]
        for name in ("in_channels", "classes", "spatial_dims", "strides", "halo", "margin", "exact_tiling"):
            setattr(self, name, getattr(first, name))

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor | None = None
        for member in self.members:
            out = member(x)
            logits = out[-1] if isinstance(out, tuple) else out
            total = logits if total is None else total + logits
        return cast(Tensor, total) / len(self.members)

    def legal_size(self, size: int, axis: int) -> int:
        """As of the members."""
        return int(self.members[0].legal_size(size, axis))  # type: ignore[operator]

    @staticmethod
    def prefixed(tensors: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of an ensemble from those of its members."""
        return {f"members.{i}.{k}": v for i, member in enumerate(tensors) for k, v in member.items()}
