"""Warping against its definition: pixel by pixel, with scipy's connected components, and on mistakes drawn by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from biomask.errors import SizeError
from biomask.metrics import warp, warping_error
from biomask.metrics.warping import RING, SIMPLE, Mistakes

EIGHT = np.ones((3, 3), int)


def pieces(inside):
    """(4-connected pieces of foreground, 8-connected pieces of background), background beyond the image."""
    padded = np.pad(inside, 1)
    return ndi.label(padded)[1], ndi.label(~padded, EIGHT)[1]


def window(code, centre):
    found = np.zeros((3, 3), bool)
    found[1, 1] = centre
    for k, (dy, dx) in enumerate(RING):
        found[1 + dy, 1 + dx] = code >> k & 1
    return found


def simple(around):
    """Whether the flip of its centre leaves a 3 x 3 window with as many pieces of foreground (by edges) and of background."""
    counts = []
    for centre in (False, True):
        flipped = around.copy()
        flipped[1, 1] = centre
        counts.append((ndi.label(flipped)[1], ndi.label(~flipped, EIGHT)[1]))
    return counts[0] == counts[1]


def test_each_of_all_neighbourhoods_is_simple_where_its_pieces_stay_as_many():
    assert SIMPLE.tolist() == [simple(window(code, False)) for code in range(256)]
    assert SIMPLE.tolist() == [simple(window(code, True)) for code in range(256)]


def test_the_patterns_that_are_simple_number_as_in_fiji():
    assert SIMPLE.sum() == 116


@st.composite
def cases(draw):
    """(truth, probabilities, threshold, ignore); probabilities of many ties, or of none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    levels, agree = draw(st.sampled_from([1, 3, 10, 1000])), draw(st.sampled_from([0.0, 0.3, 0.7]))
    truth = rng.random(shape) < draw(st.sampled_from([0.3, 0.6, 0.9, 1.0]))
    other = rng.integers(0, levels + 1, shape) / levels
    probabilities = np.where(rng.random(shape) < agree, np.where(truth, 0.9, 0.1), other).astype(np.float32)
    ignore = rng.random(shape) < 0.2 if draw(st.booleans()) else None
    return truth, probabilities, draw(st.sampled_from([0.0, 0.1, 0.5, 0.9])), ignore


def one_by_one(truth, probabilities, threshold, ignore):
    """The order of the spec with nothing clever about it: sort once, visit each, flip in place, until a pass flips nothing."""
    inside, target = np.pad(truth, 1), np.pad(probabilities > threshold, 1)
    unknown = np.pad(np.zeros(truth.shape, bool) if ignore is None else ignore, 1, constant_values=True)
    far = np.pad(np.abs(probabilities.astype(float) - threshold), 1).astype(np.float32)
    while True:
        listed = [(x, y) for x in range(inside.shape[1]) for y in range(inside.shape[0])
                  if inside[y, x] != target[y, x] and not unknown[y, x]]
        flips = 0
        for x, y in sorted(listed, key=lambda p: -far[p[1], p[0]]):
            if simple(inside[y - 1 : y + 2, x - 1 : x + 2]):
                inside[y, x] ^= True
                flips += 1
        if not flips:
            return inside[1:-1, 1:-1]


@given(cases())
@settings(deadline=None)
def test_rounds_give_what_one_pixel_after_the_other_gives(case):
    assert np.array_equal(warp(*case), one_by_one(*case))


@given(cases())
@settings(deadline=None)
def test_warping_never_changes_the_topology_nor_unknown_pixels(case):
    truth, probabilities, threshold, ignore = case
    warped = warp(*case)
    assert pieces(warped) == pieces(truth)
    moved = warped != truth
    assert np.array_equal(warped[moved], (probabilities > threshold)[moved])
    assert ignore is None or not (moved & ignore).any()


def kind_of(warped, y, x):
    """The kind of mistake at a pixel, by labelling the image before and after its flip."""
    padded = np.pad(warped, 1)
    y, x = y + 1, x + 1
    ring = [(y + dy, x + dx) for dy, dx in RING]
    objects = ndi.label(padded)[0]
    there = {int(objects[p]) for p in ring}
    several, cell = len(there - {0}) > 1, bool(padded[y, x])
    if there == {0}:
        return "objects_lost" if cell else "objects_added"
    if several:
        return "splits" if cell else "mergers"
    if 0 not in there:
        return "holes_added" if cell else "holes_filled"
    if not cell:
        return "holes_added"
    padded[y, x] = False
    objects = ndi.label(padded)[0]
    return "splits" if len({int(objects[p]) for p in ring} - {0}) > 1 else "holes_filled"


@given(cases())
@settings(deadline=None)
def test_each_pixel_that_is_left_is_of_the_kind_that_relabelling_shows(case):
    truth, probabilities, threshold, ignore = case
    warped, found = warp(*case), warping_error(*case)
    left = (warped != (probabilities > threshold)) & (True if ignore is None else ~ignore)
    kinds = [kind_of(warped, y, x) for y, x in np.argwhere(left)]
    assert found.mistakes == Mistakes(**{k: kinds.count(k) for k in set(kinds)})
    assert found.mistakes.total == left.sum()
    assert found.error == pytest.approx(left.sum() / truth.size)
    assert found.splits_and_mergers == pytest.approx((kinds.count("splits") + kinds.count("mergers")) / truth.size)
    assert all(0 < c <= m or c == m == 0 for c, m in zip(vars(found.clusters).values(), vars(found.mistakes).values(), strict=True))


def cells():
    """Two cells of 7 x 6, three pixels of membrane between them."""
    truth = np.zeros((11, 19), bool)
    truth[2:9, 2:8] = truth[2:9, 11:17] = True
    return truth


class TestMistakesDrawnByHand:
    def found(self, truth, segmentation):
        return warping_error(truth, segmentation.astype(np.float32))

    def test_borders_that_moved_cost_nothing(self):
        moved = ndi.binary_dilation(cells())
        assert self.found(cells(), moved).mistakes.total == 0
        assert self.found(cells(), ndi.binary_erosion(cells())).mistakes.total == 0

    def test_a_split(self):
        cut = cells()
        cut[5, :8] = False
        found = self.found(cells(), cut)
        assert (found.mistakes, found.clusters) == (Mistakes(splits=1), Mistakes(splits=1))

    def test_a_split_wider_than_a_pixel_still_counts_once(self):
        """The truth shrinks to a thread of one pixel width across the gap, and each pixel of it is left."""
        cut = cells()
        cut[4:7, :8] = False
        found = self.found(cells(), cut)
        assert (found.mistakes, found.clusters) == (Mistakes(splits=3), Mistakes(splits=1))

    def test_a_merger(self):
        joined = cells()
        joined[4:6, 8:11] = True
        found = self.found(cells(), joined)
        assert (found.mistakes, found.clusters) == (Mistakes(mergers=2), Mistakes(mergers=1))

    def test_a_hole_that_is_none(self):
        holed = cells()
        holed[4:6, 4:6] = False
        found = self.found(cells(), holed)
        assert found.mistakes.total == found.mistakes.holes_added == 4
        assert found.clusters == Mistakes(holes_added=1)

    def test_a_hole_that_was_filled(self):
        truth = cells()
        truth[4:6, 4:6] = False
        found = self.found(truth, cells())
        assert (found.mistakes, found.clusters) == (Mistakes(holes_filled=1), Mistakes(holes_filled=1))

    def test_an_object_that_is_none(self):
        more = cells()
        more[5, 9] = True
        more[5, 18] = True
        found = self.found(cells(), more)
        assert (found.mistakes, found.clusters) == (Mistakes(objects_added=2), Mistakes(objects_added=2))

    def test_an_object_that_was_lost(self):
        less = cells()
        less[:, :9] = False
        found = self.found(cells(), less)
        assert (found.mistakes, found.clusters) == (Mistakes(objects_lost=1), Mistakes(objects_lost=1))
        assert found.splits_and_mergers == 0
        assert found.error == 1 / cells().size


def test_the_farthest_from_the_threshold_go_first():
    """A bridge of two pixels: the one that is visited first is flipped, so the mistake stays where the segmentation is unsure."""
    truth, p = np.zeros((1, 6), bool), np.array([[0.9, 0.9, 0.8, 0.7, 0.9, 0.9]])
    truth[0, [0, 1, 4, 5]] = True
    assert warp(truth, p).tolist() == [[True, True, True, False, True, True]]
    assert warp(truth, p[:, ::-1]).tolist() == [[True, True, False, True, True, True]]


def test_a_stack_is_its_slices_added():
    rng = np.random.default_rng(0)
    truth, p = ndi.gaussian_filter(rng.normal(size=(3, 20, 24)), (0, 2, 2)) > 0, rng.random((3, 20, 24))
    slices = [warping_error(t, q, 0.4) for t, q in zip(truth, p, strict=True)]
    assert warping_error(truth, p, 0.4) == slices[0] + slices[1] + slices[2]
    assert slices[0].mistakes.total > 0


def test_nothing_to_compare_has_no_error_and_shapes_that_differ_are_refused():
    assert warping_error(np.zeros((0, 4)), np.zeros((0, 4))).error is None
    with pytest.raises(SizeError, match="probabilities"):
        warping_error(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(SizeError, match="ignore"):
        warping_error(np.zeros((2, 3)), np.zeros((2, 3)), ignore=np.zeros((3, 2), bool))
    with pytest.raises(SizeError, match="slice"):
        warping_error(np.zeros(4), np.zeros(4))
