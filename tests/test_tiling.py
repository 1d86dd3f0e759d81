"""Tile arithmetic, by its rules and against brute force."""

from math import prod

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from biomask.tiling import (
    AxisGeometry,
    choose_tile,
    mirror,
    pixels_read,
    plan_axis,
    plan_tiles,
    round_up,
    smallest_read,
    smallest_tile,
)


def same(stride: int, halo: int) -> AxisGeometry:
    return AxisGeometry(stride, halo, 0, lambda n: round_up(max(1, n), stride))


def valid(depth: int) -> AxisGeometry:
    """The unpadded U-Net's algebra as the specification prints it (1.3), apart from the network's own code."""
    period = 2**depth

    def legal(n: int) -> int:
        size = period + 4 * (period - 1)
        while size < n or size - (12 * period - 8) <= 0:
            size += period
        return size

    return AxisGeometry(period, 0, 6 * period - 4, legal)


geometries = st.one_of(
    st.tuples(st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 6)).map(lambda p: same(p[0], p[0] * p[1])),
    st.integers(1, 4).map(valid),
)


@given(size=st.integers(1, 700), tile=st.integers(1, 900), geometry=geometries)
def test_one_axis_keeps_every_pixel_once_and_reads_what_the_rules_ask(size, tile, geometry):
    tiles = plan_axis(size, tile, geometry)
    assert [p for t in tiles for p in range(t.keep_start, t.keep_stop)] == list(range(size))
    for t in tiles:
        # Rule 1: in the frame of the first tile's input, every input begins at a multiple of the stride.
        assert (t.start + geometry.margin) % geometry.stride == 0
        assert t.start + t.offset + geometry.margin == t.keep_start
        if geometry.margin:
            assert geometry.legal_size(t.stop - t.start) == t.stop - t.start
            assert t.keep_stop + geometry.margin <= t.stop
        else:
            # Rules 2 and 3: the whole halo, but never beyond the image.
            assert t.start == max(0, t.keep_start - geometry.halo)
            assert t.stop == min(size, t.keep_stop + geometry.halo)


@pytest.mark.parametrize(("depth", "legal"), [(1, [18, 20]), (2, [44, 48]), (3, [92, 100]), (4, [188, 204, 220])])
def test_legal_sizes_of_the_unpadded_network(depth, legal):
    geometry = valid(depth)
    assert [geometry.legal_size(n) for n in legal] == legal
    assert geometry.legal_size(legal[0] + 1) == legal[1]


@given(index=st.lists(st.integers(-50, 50), min_size=1), size=st.integers(1, 12))
def test_mirror_walks_to_and_fro(index, size):
    walk = list(range(size)) + list(range(size - 2, 0, -1))
    expected = [walk[i % len(walk)] for i in index]
    assert mirror(np.array(index), size).tolist() == expected


def test_mirror_is_numpys_reflect():
    image = np.arange(7)
    assert (image[mirror(np.arange(-5, 12), 7)] == np.pad(image, (5, 5), mode="reflect")).all()


@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), stride=st.sampled_from([1, 4, 16]),
       halos=st.integers(0, 4), limit=st.integers(1, 90_000))
@example(size=(2, 241), stride=16, halos=2, limit=288)  # tiles of 80 read less than balanced ones, for the last keeps one pixel
def test_the_chosen_tile_fits_and_no_balanced_one_that_fits_costs_less(size, stride, halos, limit):
    geometry = (same(stride, stride * halos),) * 2

    def reads(tile):
        return [prod(t.read_size) for t in plan_tiles(size, tile, geometry)]

    chosen = choose_tile(size, limit, geometry)
    floor = max(stride, stride * halos)

    def thin(tile):
        """Whether a last tile keeps less than its context: what balancing is there to avoid."""
        return any(n > t and n % round_up(t, stride) and n % round_up(t, stride) < stride * halos
                   for n, t in zip(size, tile, strict=True))

    fitting = [(sum(r), t) for t in ((a, b) for a in range(floor, size[0] + floor, max(stride, 16))
                                     for b in range(floor, size[1] + floor, max(stride, 16)))
               if max(r := reads(t)) <= limit]
    balanced = [work for work, t in fitting if not thin(t)]
    if chosen is None:
        assert limit < smallest_read(size, geometry)
        assert not fitting
    else:
        assert max(reads(chosen)) <= limit
        assert not balanced or sum(reads(chosen)) <= min(balanced)


@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), tile=st.tuples(st.integers(1, 400), st.integers(1, 400)),
       geometry=geometries)
def test_pixels_read_are_those_of_all_tiles(size, tile, geometry):
    assert pixels_read(size, tile, (geometry,) * 2) == sum(prod(t.read_size) for t in plan_tiles(size, tile, (geometry,) * 2))


def test_a_side_that_fits_whole_needs_no_halo():
    geometry = (same(16, 96),) * 2
    chosen = choose_tile((2000, 200), 200 * 500, geometry)
    assert chosen is not None
    assert chosen[1] >= 200
    assert all(t.axes[1].start == 0 and t.axes[1].stop == 200 for t in plan_tiles((2000, 200), chosen, geometry))


def test_smallest_tile_is_as_long_as_its_context():
    assert smallest_tile((same(8, 16), same(4, 0), valid(4))) == (16, 4, 96)
