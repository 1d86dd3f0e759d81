"""Anchors against the rule written out."""

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biomask.errors import SizeError
from biomask.models.mask_rcnn.anchors import AnchorGenerator


def written_out(sizes, ratios, image, cells):
    """Row by row, column by column, ratio by ratio, size by size."""
    rows = []
    for y in range(cells[0]):
        for x in range(cells[1]):
            for ratio in ratios:
                for size in sizes:
                    height = np.sqrt(np.float32(ratio)) * np.float32(size)
                    width = np.float32(1) / np.sqrt(np.float32(ratio)) * np.float32(size)
                    shift = np.array([x * (image[1] // cells[1]), y * (image[0] // cells[0])] * 2)
                    rows.append(np.round(np.array([-width, -height, width, height]) / 2) + shift)
    return np.array(rows)


sizes = st.lists(st.lists(st.integers(1, 200), min_size=1, max_size=2), min_size=1, max_size=2)


@given(sizes, st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]), min_size=1, max_size=3),
       st.tuples(st.integers(8, 40), st.integers(8, 40)), st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_anchors_are_those_written_out(sizes, ratios, image, cells):
    generator = AnchorGenerator(sizes, ratios)
    levels = generator(image, [cells] * len(sizes))
    assert [len(level) for level in levels] == [prod(cells) * a for a in generator.per_cell]
    for level, of_level in zip(levels, sizes, strict=True):
        np.testing.assert_array_equal(level, written_out(of_level, ratios, image, cells))


def test_first_anchors_of_the_pyramid():
    levels = AnchorGenerator((32, 64, 128, 256, 512))((800, 1088), [(200, 272), (100, 136), (50, 68), (25, 34), (13, 17)])
    assert levels[0][:3].tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    assert levels[4][3 * 18].tolist() == [64 - 362, 61 - 181, 64 + 362, 61 + 181]  # second row and column: 1088 // 17, 800 // 13
    assert sum(map(len, levels)) == 3 * (200 * 272 + 100 * 136 + 50 * 68 + 25 * 34 + 13 * 17)


def test_anchors_have_the_type_asked_for():
    assert AnchorGenerator((8,))((16, 16), [(4, 4)], dtype=torch.float64)[0].dtype == torch.float64


def test_wrong_sizes_are_named():
    with pytest.raises(SizeError, match="above 0"):
        AnchorGenerator((32, 0))
    with pytest.raises(SizeError, match="2 levels, but 1 maps"):
        AnchorGenerator((32, 64))((64, 64), [(16, 16)])
