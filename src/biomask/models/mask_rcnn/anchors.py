"""Anchors: the boxes that the region proposal network starts from (Ren et al. 2015; one size a level, Lin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biomask.errors import SizeError


class AnchorGenerator:
    """Boxes of given sizes and aspect ratios at every cell of every level.

    sizes: of each level, one number or several: the square root of an anchor's area, in pixels of the network's input.
    ratios: height over width, the same at every level.

    The rules are torchvision's, so that its weights keep their meaning: an anchor of size s and ratio r is s/√r wide and s√r high,
    centred on the origin, its corners rounded to integers (half to even); the cell in row i and column j shifts it by (j, i)
    strides, where a stride is the image's length over the map's, rounded down. In a cell, ratios come before sizes.
    """

    def __init__(self, sizes: Sequence[float | Sequence[float]], ratios: Sequence[float] = (0.5, 1.0, 2.0)) -> None:
        levels = tuple((float(s),) if isinstance(s, (int, float)) else tuple(map(float, s)) for s in sizes)
        if not levels or not ratios or any(not level or min(level) <= 0 for level in levels) or min(ratios) <= 0:
            raise SizeError(f"anchors need sizes and ratios above 0, got sizes={list(sizes)} and ratios={list(ratios)}")
        self.sizes, self.ratios = levels, tuple(map(float, ratios))

    @property
    def per_cell(self) -> tuple[int, ...]:
        """Anchors in a cell of each level."""
        return tuple(len(level) * len(self.ratios) for level in self.sizes)

    def __call__(self, image_size: tuple[int, int], feature_sizes: Sequence[tuple[int, int]], device: torch.device | str = "cpu",
                 dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Size (H, W) of the padded image and (h, w) of each level's map → of each level (h w A, 4), by row, column, anchor."""
        if len(feature_sizes) != len(self.sizes):
            raise SizeError(f"there are anchor sizes for {len(self.sizes)} levels, but {len(feature_sizes)} maps",
                            fix="give one anchor size for each level")
        return [self._level(base, image_size, size, device, dtype) for base, size in zip(self.sizes, feature_sizes, strict=True)]

    def _level(self, sizes: tuple[float, ...], image: tuple[int, int], cells: tuple[int, int], device: torch.device | str,
               dtype: torch.dtype) -> Tensor:
        rows, columns = cells
        y = torch.arange(rows, dtype=torch.int32, device=device) * (image[0] // rows)
        x = torch.arange(columns, dtype=torch.int32, device=device) * (image[1] // columns)
        y, x = torch.meshgrid(y, x, indexing="ij")
        shifts = torch.stack((x, y, x, y), dim=2).reshape(-1, 1, 4)
        return (shifts + self._cell(sizes, device, dtype)).reshape(-1, 4)

    def _cell(self, sizes: tuple[float, ...], device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """The anchors of the cell at the origin: (A, 4)."""
        size = torch.tensor(sizes, dtype=dtype, device=device)
        root = torch.tensor(self.ratios, dtype=dtype, device=device).sqrt()
        width, height = (1 / root[:, None] * size).flatten(), (root[:, None] * size).flatten()
        return (torch.stack((-width, -height, width, height), dim=1) / 2).round()
