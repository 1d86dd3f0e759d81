"""Which input pixels an output pixel depends on, by propagating intervals backwards (spec 9).

An interval is (first, last), inclusive, along one axis. From a network's own structure follow its halo and margin,
so no figure is kept that could go stale.
"""

from __future__ import annotations

from collections.abc import Callable

from biomask.tiling import round_up

Interval = tuple[int, int]


def through_convolution(i: Interval, kernel: int, padding: int, stride: int = 1, dilation: int = 1) -> Interval:
    """Input needed by outputs `i` of a convolution or pooling."""
    return i[0] * stride - padding, i[1] * stride - padding + dilation * (kernel - 1)


def through_transposed(i: Interval, kernel: int, padding: int, stride: int) -> Interval:
    """Input needed by outputs `i` of a transposed convolution."""
    return -((kernel - 1 - i[0] - padding) // stride), (i[1] + padding) // stride


def through_repeat(i: Interval, factor: int) -> Interval:
    """Input needed by outputs `i` of a transposed convolution with kernel = stride, or of nearest up-sampling."""
    return i[0] // factor, i[1] // factor


def through_linear(i: Interval, factor: int) -> Interval:
    """Input needed by outputs `i` of linear up-sampling with align_corners=False."""
    if factor == 1:
        return i

    def below(o: int) -> int:  # floor((o + 0.5) / factor - 0.5), in integers
        return (2 * o + 1 - factor) // (2 * factor)

    return below(i[0]), below(i[1]) + 1


def through_blocks(i: Interval, kernel: int = 3, count: int = 2) -> Interval:
    """Input needed by outputs `i` of `count` convolutions of an odd kernel that keep the size."""
    return i[0] - count * (kernel // 2), i[1] + count * (kernel // 2)


def union(*parts: Interval) -> Interval:
    """Input needed by a sum or concatenation."""
    return min(p[0] for p in parts), max(p[1] for p in parts)


def halo(dependency: Callable[[Interval], Interval], stride: int) -> int:
    """Context that aligned tiles need on each side: a multiple of `stride`.

    dependency: output interval → input interval, for a network that keeps the size. An aligned tile begins at phase 0
    and ends at phase stride - 1 and dependencies are monotone, so one period says it all.
    """
    first, last = dependency((0, stride - 1))
    return round_up(max(0, -first, last - (stride - 1)), stride)
