"""A single convolution: the least that can be called a network, to show what a task asks for."""

from __future__ import annotations

from torch import Tensor, nn

from biomask.errors import SizeError
from biomask.models import dependency
from biomask.models.blocks import CONVOLUTION, check_input, initialise
from biomask.models.dependency import Interval

LARGEST = 255


class OneLayer(nn.Module):
    """One convolution with zero padding: (B, in_channels, *S) → logits (B, classes, *S).

    It is logistic regression on the kernel's window: what separates classes by local grey values alone.

    kernel: odd window side in pixels, the same along every axis.
    """

    exact_tiling = True

    def __init__(self, in_channels: int, classes: int, *, kernel: int = 11, spatial_dims: int = 2) -> None:
        super().__init__()
        if not (isinstance(kernel, int) and kernel % 2 == 1 and 1 <= kernel <= LARGEST) or spatial_dims not in CONVOLUTION:
            raise SizeError(f"OneLayer: kernel={kernel!r} must be odd and 1..{LARGEST}, spatial_dims={spatial_dims} 2 or 3")
        self.in_channels, self.classes, self.spatial_dims = in_channels, classes, spatial_dims
        self.kernel = kernel
        self.conv = CONVOLUTION[spatial_dims](in_channels, classes, kernel, padding=kernel // 2)
        initialise(self)
        self.strides = (1,) * spatial_dims
        self.margin = (0,) * spatial_dims
        self.halo = (dependency.halo(lambda i: self.depends_on(i, 0), 1),) * spatial_dims

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.in_channels, self.spatial_dims, type(self).__name__)
        return self.conv(x)  # type: ignore[no-any-return]

    def legal_size(self, size: int, axis: int) -> int:
        """Any length is taken."""
        return max(1, size)

    def depends_on(self, outputs: Interval, axis: int) -> Interval:
        """Input pixels that an interval of output pixels depends on (spec 9)."""
        return dependency.through_convolution(outputs, self.kernel, self.kernel // 2)
