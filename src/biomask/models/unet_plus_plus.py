"""UNet++ (Zhou, Rahman Siddiquee, Tajbakhsh, Liang 2018, arXiv:1807.10165), in 2D and 3D."""

from __future__ import annotations

from functools import lru_cache
from math import log
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biomask.errors import SizeError
from biomask.models import dependency
from biomask.models.blocks import BATCH_NORM, CONVOLUTION, MAX_POOL, TRANSPOSED, Norm, initialise
from biomask.models.dependency import Interval
from biomask.models.same_size import SameSize, check_choice, check_count

Mode = Literal["accurate", "fast"]

#: What is averaged: logits, probabilities, or probabilities of which so many leading channels exclude each other (the softmax's)
#: and the others are sigmoids, as of networks that also see distances and borders of objects.
Average = Literal["logits", "softmax", "sigmoid"] | int

#: A network of more levels has more nodes than anybody can train.
DEEPEST = 8


class UNetPlusPlus(SameSize):
    """Nodes x(i, j) that are all linked along a row: (B, in_channels, *S) → logits (B, classes, *S).

    Figure 1 of the paper, depth 4; ↘ pools, ↗ up-samples, and every node of a row also gets all nodes left of it::

        x00 ─ x01 ─ x02 ─ x03 ─ x04        heads on x01 … x04
          ↘ ↗   ↘ ↗   ↘ ↗   ↘ ↗
          x10 ─ x11 ─ x12 ─ x13
            ↘ ↗   ↘ ↗   ↘ ↗
            x20 ─ x21 ─ x22
              ↘ ↗   ↘ ↗
              x30 ─ x31
                ↘ ↗
                x40

        x(i, 0) = H(pool(x(i-1, 0)))    x(i, j) = H([up(x(i+1, j-1)), x(i, 0), …, x(i, j-1)])

    Two 3x3 convolutions a node, 32 · 2^i channels in row i. 1 → 1: 9,041,601 parameters with one head, 9,041,700 with four.

    depth: the d of L1 … L4: nodes with i + j <= d.
    norm: None (the paper) or "batch".
    up: "transposed" (the authors' code), or "aligned": bilinear with align_corners=True and no parameters, as in the common
        PyTorch ports. Its grid depends on the size of what it gets, so it cannot tile exactly.
    dropout: probability after each convolution (the authors' code: 0.5).
    deep_supervision: a head on each x(0, j), j >= 1, instead of on the last one. In training all logits are returned, the final
        one last; in evaluation what `mode` says.
    mode: "accurate" = mean of the heads, "fast" = the last head.
    average: what is averaged. The paper averages what comes out of the sigmoid: "sigmoid", or "softmax" for classes that exclude
        each other, give the logits of mean probabilities; a number: so many leading channels exclude each other, the others are
        sigmoids. "logits" is what fits where the network does not know; training and prediction tell it (`biomask.checkpoint`).
    pad_depth: sizes are padded inside to multiples of 2^pad_depth; default depth. Of a pruned network the depth of the whole one,
        so that both give the same bits at any size.
    """

    def __init__(self, in_channels: int, classes: int, *, width: int = 32, depth: int = 4, spatial_dims: int = 2,
                 norm: Norm = None, up: Literal["transposed", "aligned"] = "transposed", dropout: float = 0.0,
                 deep_supervision: bool = False, mode: Mode = "accurate", average: Average = "logits",
                 pad_depth: int | None = None) -> None:
        name = type(self).__name__
        check_count(name, width=width, depth=depth, pad_depth=depth if pad_depth is None else pad_depth)
        check_choice(name, spatial_dims=(spatial_dims, (2, 3)), norm=(norm, (None, "batch")), up=(up, ("transposed", "aligned")),
                     deep_supervision=(deep_supervision, (False, True)), mode=(mode, ("accurate", "fast")),
                     average=(average, ("logits", "softmax", "sigmoid", *range(classes + 1))))
        self.pad_depth = depth if pad_depth is None else pad_depth
        if not depth <= self.pad_depth <= DEEPEST:
            raise SizeError(f"{name}: depth={depth} must be at most pad_depth={self.pad_depth}, and that at most {DEEPEST}")
        super().__init__(in_channels, classes, spatial_dims, 2**self.pad_depth)
        self.width, self.depth, self.norm, self.up, self.dropout = width, depth, norm, up, dropout
        self.deep_supervision, self.mode, self.average = deep_supervision, mode, average
        self.exact_tiling = up != "aligned"
        self.pool = MAX_POOL[spatial_dims](2)
        self.nodes = nn.ModuleDict({f"x{i}{j}": self._node(i, j) for i, j in self._order()})
        self.ups = nn.ModuleDict({f"x{i}{j}": self._up(i) for i, j in self._order() if j})
        heads = range(1, depth + 1) if deep_supervision else (depth,)
        self.heads = nn.ModuleDict({f"x0{j}": CONVOLUTION[spatial_dims](width, classes, 1) for j in heads})
        initialise(self)

    def _order(self) -> list[tuple[int, int]]:
        """(i, j) of every node, those that it needs before it."""
        return [(i, s - i) for s in range(self.depth + 1) for i in reversed(range(s + 1))]

    def _node(self, i: int, j: int) -> nn.Sequential:
        """H: twice convolution, (normalisation,) ReLU, dropout."""
        out, dims = self.width * 2**i, self.spatial_dims
        below = 2 * out if self.up == "aligned" else out
        channels = j * out + below if j else self.in_channels if i == 0 else out // 2
        layers: list[nn.Module] = []
        for c in (channels, out):
            layers.append(CONVOLUTION[dims](c, out, 3, padding=1))
            if self.norm == "batch":
                layers.append(BATCH_NORM[dims](out))
            layers += [nn.ReLU(inplace=True), nn.Dropout(self.dropout)]
        return nn.Sequential(*layers)

    def _up(self, i: int) -> nn.Module:
        if self.up == "aligned":
            return nn.Upsample(scale_factor=2.0, mode="bilinear" if self.spatial_dims == 2 else "trilinear", align_corners=True)
        return TRANSPOSED[self.spatial_dims](self.width * 2 ** (i + 1), self.width * 2**i, 2, stride=2)

    def logits(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        maps: dict[tuple[int, int], Tensor] = {}
        for i, j in self._order():
            if j:
                above = [maps[i, k] for k in range(j)]
                x_in = torch.cat([self.ups[f"x{i}{j}"](maps[i + 1, j - 1]), *above], dim=1)
            else:
                x_in = self.pool(maps[i - 1, 0]) if i else x
            maps[i, j] = self.nodes[f"x{i}{j}"](x_in)
        if self.deep_supervision and not self.training and self.mode == "fast":
            return self.heads[f"x0{self.depth}"](maps[0, self.depth])  # type: ignore[no-any-return]
        found = tuple(head(maps[0, int(key[2:])]) for key, head in self.heads.items())
        if len(found) == 1:
            return found[0]  # type: ignore[no-any-return]
        return found if self.training else mean_of_heads(found, self.average)

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths at which there are heads, ascending."""
        return tuple(int(key[2:]) for key in self.heads)

    def prune(self, depth: int, *, mode: Mode = "fast") -> UNetPlusPlus:
        """A network of its own without the nodes that head `depth` does not need: L1, L2, … of the paper.

        mode: "fast" keeps that head alone, and gives what it gives, bit for bit in evaluation. "accurate" keeps the heads up to it
        too, and gives their mean. Raises SizeError where there is no such head.
        """
        if depth not in self.depths:
            raise SizeError(f"there is no head at depth {depth}: this UNet++ has {', '.join(map(str, self.depths))}",
                            fix="train with deep_supervision=True for all of them")
        every = self.deep_supervision and mode == "accurate"
        pruned = UNetPlusPlus(self.in_channels, self.classes, width=self.width, depth=depth, spatial_dims=self.spatial_dims,
                              norm=self.norm, up=self.up, dropout=self.dropout, pad_depth=self.pad_depth,
                              deep_supervision=every, average=self.average)
        own = self.state_dict()
        pruned.load_state_dict({key: own[key] for key in pruned.state_dict()})
        first = next(self.parameters())
        return pruned.to(first.device, first.dtype).train(self.training)

    def depends_on(self, outputs: Interval, axis: int) -> Interval:
        return dependency.union(*(_depends_on(0, int(key[2:]), outputs, self.up == "aligned") for key in self.heads))


@lru_cache(maxsize=4096)
def _depends_on(i: int, j: int, outputs: Interval, linear: bool) -> Interval:
    """Input that an interval of node x(i, j) depends on; "aligned" is taken for linear."""
    block = dependency.through_blocks(outputs)
    if j:
        below = (dependency.through_linear if linear else dependency.through_repeat)(block, 2)
        return dependency.union(_depends_on(i + 1, j - 1, below, linear), *(_depends_on(i, k, block, linear) for k in range(j)))
    return _depends_on(i - 1, 0, dependency.through_convolution(block, 2, 0, 2), linear) if i else block


def mean_of_heads(heads: tuple[Tensor, ...], average: Average) -> Tensor:
    """Logits whose probabilities are the mean of those of the heads; average="logits": their plain mean.

    heads: (B, K, *S) each. "softmax" over the channels, "sigmoid" of each; a number n: softmax over the first n, sigmoid of the
    others.
    """
    stacked = torch.stack(heads)
    if average == "logits":
        return stacked.mean(dim=0)
    channels = stacked.shape[2]
    exclusive = average if isinstance(average, int) else channels if average == "softmax" else 0
    classes, others = stacked[:, :, :exclusive], stacked[:, :, exclusive:]
    parts = []
    if exclusive:
        parts.append(torch.logsumexp(classes.log_softmax(dim=2), dim=0) - log(len(heads)))
    if exclusive < channels:
        parts.append(torch.logsumexp(F.logsigmoid(others), dim=0) - torch.logsumexp(F.logsigmoid(-others), dim=0))
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
