"""What networks that keep the size have in common."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor, nn

from biomask.errors import SizeError
from biomask.models import dependency
from biomask.models.blocks import check_input, crop_end, pad_end
from biomask.models.dependency import Interval


class SameSize(nn.Module):
    """A network whose logits have the size of its input, whatever that is.

    Sizes that the stride does not divide are padded inside, at the end and by repeating the last pixel, and cropped again. A
    subclass gives `logits` and `depends_on`; halo and legal sizes follow from them.

    stride: shifts by this many pixels commute with the network, along every axis.
    """

    exact_tiling = True

    def __init__(self, in_channels: int, classes: int, spatial_dims: int, stride: int) -> None:
        super().__init__()
        self.in_channels, self.classes, self.spatial_dims = in_channels, classes, spatial_dims
        self.strides = (stride,) * spatial_dims
        self.margin = (0,) * spatial_dims

    @cached_property
    def halo(self) -> tuple[int, ...]:
        """Context that an aligned tile needs on each side, in pixels."""
        return tuple(dependency.halo(lambda i, a=axis: self.depends_on(i, a), stride)  # type: ignore[misc]
                     for axis, stride in enumerate(self.strides))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        check_input(x, self.in_channels, self.spatial_dims, type(self).__name__)
        size = x.shape[2:]
        out = self.logits(pad_end(x, self.strides))
        return tuple(crop_end(o, size) for o in out) if isinstance(out, tuple) else crop_end(out, size)

    def logits(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, C, *S) with S a multiple of the strides → logits (B, K, *S), or several with the final one last."""
        raise NotImplementedError

    def depends_on(self, outputs: Interval, axis: int) -> Interval:
        """Input pixels that an interval of output pixels depends on, along one axis (spec 9)."""
        raise NotImplementedError

    def legal_size(self, size: int, axis: int) -> int:
        """Smallest input length >= size that is taken without padding inside."""
        return max(1, -(-size // self.strides[axis])) * self.strides[axis]


def check_choice(name: str, **choices: tuple[object, tuple[object, ...]]) -> None:
    """Raise SizeError for a constructor's argument that is not among those allowed: argument=(value, allowed)."""
    for argument, (value, allowed) in choices.items():
        if value not in allowed or isinstance(value, bool) != isinstance(allowed[0], bool):
            raise SizeError(f"{name}: {argument}={value!r} is not one of {allowed}")


def check_count(name: str, **counts: int) -> None:
    """Raise SizeError unless each is an integer of at least 1."""
    for argument, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SizeError(f"{name}: {argument}={value!r} is not an integer of at least 1")
