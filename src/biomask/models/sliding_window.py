"""The sliding-window pixel classifier (Cireşan, Giusti, Gambardella, Schmidhuber 2012, NIPS 25)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biomask.errors import SizeError
from biomask.models.blocks import check_input, is_tracing
from biomask.models.dependency import Interval
from biomask.models.same_size import check_count

#: Kernel of each convolution of N4; a 2x2 pooling follows each. The hidden layer sees the whole last map.
KERNELS, LAST = (4, 5, 4, 4), 3

#: Side of the window, in pixels: 95 → 92 → 46 → 42 → 21 → 18 → 9 → 6 → 3 → 1.
WINDOW = 95


class SlidingWindow(nn.Module):
    """N4: the class of the pixel in the middle of a window of 95: (B, in_channels, *S) → logits (B, classes, *(S - 94)).

    Four stages of convolution, scaled tanh and 2x2 max-pooling, a hidden layer, the classes; 1 → 2: 219,290 parameters. Kernels,
    maps, scaled tanh and the initial weights (uniform, ±0.05) are those of znn's N4, a re-implementation, since the paper gives
    no more than the kind of its layers.

    A window of 95 is classified as in the paper. Anything larger is evaluated densely: every convolution and pooling after a
    pooling is dilated by what was pooled, so that all windows are classified at once, and to the same result.

    width: maps of each stage. hidden: units of the hidden layer.
    """

    exact_tiling = True

    def __init__(self, in_channels: int, classes: int, *, width: int = 48, hidden: int = 200, spatial_dims: int = 2) -> None:
        super().__init__()
        check_count(type(self).__name__, width=width, hidden=hidden)
        if spatial_dims != 2:
            raise SizeError("SlidingWindow classifies pixels of images, not of volumes",
                            fix="take a U-Net for volumes, or --z each")
        self.in_channels, self.classes, self.spatial_dims = in_channels, classes, spatial_dims
        self.conv1 = nn.Conv2d(in_channels, width, KERNELS[0])
        self.conv2 = nn.Conv2d(width, width, KERNELS[1])
        self.conv3 = nn.Conv2d(width, width, KERNELS[2])
        self.conv4 = nn.Conv2d(width, width, KERNELS[3])
        self.hidden = nn.Conv2d(width, hidden, LAST)
        self.head = nn.Conv2d(hidden, classes, 1)
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4, self.hidden, self.head):
            nn.init.uniform_(layer.weight, -0.05, 0.05)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.strides, self.halo = (1, 1), (0, 0)
        self.margin = (window() // 2,) * 2

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.in_channels, self.spatial_dims, type(self).__name__)
        size = tuple(x.shape[2:])
        if not is_tracing() and min(size) < WINDOW:
            raise SizeError(f"the window has {WINDOW} pixels, the image {size}",
                            fix="mirror the image beyond its border by 47 pixels, or let biomask.prediction do so")
        return self._patch(x) if size == (WINDOW, WINDOW) else self._dense(x)

    def _patch(self, x: Tensor) -> Tensor:
        """Of windows alone: (B, C, 95, 95) → (B, K, 1, 1)."""
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = scaled_tanh(F.max_pool2d(conv(x), 2))  # monotone, so it may follow the pooling, which is cheaper
        return self.head(scaled_tanh(self.hidden(x)))  # type: ignore[no-any-return]

    def _dense(self, x: Tensor) -> Tensor:
        """Of all windows: (B, C, *S) → (B, K, *(S - 94))."""
        spread = 1
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = _dilated(conv, x, spread)
            x = scaled_tanh(F.max_pool2d(x, 2, stride=1, dilation=spread))
            spread *= 2
        return self.head(scaled_tanh(_dilated(self.hidden, x, spread)))  # type: ignore[no-any-return]

    def legal_size(self, size: int, axis: int) -> int:
        """Any length of at least one window."""
        return max(WINDOW, size)

    def depends_on(self, outputs: Interval, axis: int) -> Interval:
        """Input pixels, in the output's frame, that an interval of output pixels depends on."""
        return outputs[0] - self.margin[axis], outputs[1] + self.margin[axis]


def window() -> int:
    """Side of the window, from the layers: what one output pixel sees.

    >>> window()
    95
    """
    side = LAST
    for kernel in reversed(KERNELS):
        side = 2 * side + kernel - 1
    return side


def scaled_tanh(x: Tensor) -> Tensor:
    """1.7159 tanh(0.6666 x) (LeCun et al. 1998)."""
    return 1.7159 * torch.tanh(0.6666 * x)


def _dilated(conv: nn.Conv2d, x: Tensor, dilation: int) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, dilation=dilation)
