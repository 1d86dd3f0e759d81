"""The measures of ISBI 2012 against counting of pairs, scikit-image and the formulas as the Fiji code has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage as ndi
from skimage.metrics import adapted_rand_error, variation_of_information

from biomask.errors import SizeError
from biomask.metrics import information_after_thinning, isbi_information_f, isbi_rand, isbi_rand_f, rand_after_thinning
from biomask.metrics.rand import regions, thinned


@st.composite
def cases(draw, least=0):
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    array = hnp.arrays(np.int32, shape, elements=st.integers(least, 3))
    return draw(array), draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 3)))


def pairs(truth, found):
    """(together in both, in the segmentation, in the truth): ordered pairs of foreground pixels, one by one."""
    both = zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True)
    pixels = [(t, f if f else -1 - i) for i, (t, f) in enumerate(both) if t]
    both = sum(a[0] == b[0] and a[1] == b[1] for a in pixels for b in pixels)
    return both, sum(a[1] == b[1] for a in pixels for b in pixels), sum(a[0] == b[0] for a in pixels for b in pixels)


@given(cases())
def test_rand_counts_pairs(case):
    got, (both, found, true) = isbi_rand(*case), pairs(*case)
    assert (got.tp, got.fp, got.fn) == (both, found - both, true - both)
    if true:
        precision, recall = both / found, both / true
        assert (got.precision, got.recall) == (pytest.approx(precision), pytest.approx(recall))
        assert got.f == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert (got.precision, got.recall, got.f) == (None, None, None)


@given(st.lists(st.tuples(hnp.arrays(np.int32, (3, 4), elements=st.integers(0, 3)),
                          hnp.arrays(np.int32, (3, 4), elements=st.integers(0, 3))), min_size=1, max_size=4))
def test_rand_of_a_stack_sums_its_slices(slices):
    got = isbi_rand(np.stack([t for t, _ in slices]), np.stack([f for _, f in slices]))
    each = [isbi_rand(t, f) for t, f in slices]
    assert (got.tp, got.fp, got.fn) == tuple(sum(getattr(e, k) for e in each) for k in ("tp", "fp", "fn"))


@given(cases(least=1))
def test_rand_and_scikit_image_differ_by_the_pairs_of_a_pixel_with_itself(case):
    """Once membrane pixels are regions of their own; its precision and recall are exchanged."""
    truth, found = case
    alone = np.where(found == 0, 10 + np.arange(found.size).reshape(found.shape), found)
    got, n = isbi_rand(truth, found), truth.size
    if got.tp + got.fp == n or got.tp + got.fn == n:  # no pair of two pixels on one side: 0/0 there
        return
    _, recall, precision = adapted_rand_error(truth, alone)
    assert precision == pytest.approx((got.tp - n) / (got.tp + got.fp - n))
    assert recall == pytest.approx((got.tp - n) / (got.tp + got.fn - n))


def fiji(truth, found):
    """The Java code line by line; None where it divides by 0 pixels."""
    n = int((truth > 0).sum())
    if not n:
        return None
    table = np.zeros((truth.max() + 1, found.max() + 1))
    np.add.at(table, (truth, found), 1 / n)
    a, b, alone = table[1:].sum(axis=1), table[1:, 1:].sum(axis=0), table[1:, 0].sum()
    sums = [sum(float(p * np.log(p)) for p in q.ravel() if p > 0) for q in (a, b, table[1:, 1:])]
    sum_a, sum_b, sum_ab = sums[0], sums[1] - alone * np.log(n), sums[2] - alone * np.log(n)
    ha, hb = -sum_a, -sum_b
    precision = (ha - (sum_b - sum_ab)) / ha if abs(ha) > 1e-12 else 0.0
    recall = (hb - (sum_a - sum_ab)) / hb if abs(hb) > 1e-12 else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall > 1e-12 else 0.0


@given(cases())
def test_information_equals_the_code_of_fiji(case):
    assert isbi_information_f(*case) == (None if (want := fiji(*case)) is None else pytest.approx(want, abs=1e-9))


@given(cases(least=1))
def test_information_and_scikit_images_variation(case):
    """VI = H(A) + H(B) - 2 I; F = 2 I / (H(A) + H(B)), so VI / (H(A) + H(B)) = 1 - F."""
    truth, found = case
    alone = np.where(found == 0, 10 + np.arange(found.size).reshape(found.shape), found)
    entropies = sum(-np.sum(p * np.log2(p)) for a in (truth, alone) for p in [np.unique(a, return_counts=True)[1] / a.size])
    if entropies > 1e-9:
        variation = variation_of_information(truth, alone).sum() / entropies
        assert isbi_information_f(truth, found) == pytest.approx(1 - variation, abs=1e-9)


def test_information_of_a_stack_is_the_mean_over_slices_with_regions():
    truth = np.array([[[1, 1, 2, 2]], [[0, 0, 0, 0]], [[1, 1, 2, 2]]])
    found = np.array([[[1, 1, 2, 2]], [[1, 1, 1, 1]], [[1, 1, 1, 1]]])
    assert isbi_information_f(truth, found) == 0.5
    assert isbi_information_f(truth[1], found[1]) is None


@given(cases())
def test_the_background_of_the_truth_does_not_matter(case):
    truth, found = case
    other = np.where(truth == 0, 3 - found, found)
    assert isbi_rand(truth, found) == isbi_rand(truth, other)
    assert isbi_information_f(truth, found) == isbi_information_f(truth, other)


def test_splits_cost_recall_and_merges_precision():
    whole, halves = np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]])
    assert (isbi_rand(whole, halves).precision, isbi_rand(whole, halves).recall) == (1, 0.5)
    assert (isbi_rand(halves, whole).precision, isbi_rand(halves, whole).recall) == (0.5, 1)


class TestThinning:
    def membranes(self):
        """Four cells in a cross of membranes three pixels wide, blurred: p of the interior."""
        truth = np.ones((41, 41), bool)
        truth[19:22], truth[:, 19:22] = False, False
        return regions(truth), ndi.gaussian_filter(truth.astype(float), 1.5)

    def test_lines_are_one_pixel_wide(self):
        truth, p = self.membranes()
        found = thinned(p, 0.5)
        middle = np.zeros((41, 41), bool)
        middle[20], middle[:, 20] = True, True
        assert not ((found == 0) & ~middle).any()
        assert set(np.unique(found).tolist()) == {0, 1, 2, 3, 4}
        assert rand_after_thinning(truth, p)[0] == 1
        assert information_after_thinning(truth, p)[0] == pytest.approx(1)

    def test_thick_membranes_cost_nothing_after_thinning_but_do_before(self):
        truth, p = self.membranes()
        assert isbi_rand_f(truth, regions(p > 0.95)) < 1
        assert isbi_rand_f(truth, thinned(p, 0.95)) == 1

    def test_a_gap_that_joins_two_cells_costs_at_low_thresholds_only(self):
        truth, p = self.membranes()
        p[8:12, 19:22] = np.maximum(p[8:12, 19:22], 0.65)
        best, each = rand_after_thinning(truth, p)
        assert list(each) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
        assert each[0.6] < 0.9
        assert each[0.7] == best == 1

    @given(hnp.arrays(np.float32, (6, 7), elements=st.floats(0, 1, width=32)), st.sampled_from([0.1, 0.5, 0.9]))
    def test_each_marker_grows_and_none_is_added(self, p, threshold):
        found, markers = thinned(p, threshold), regions(p > threshold)
        assert np.array_equal(found[markers > 0], markers[markers > 0])
        assert set(np.unique(found)) - {0} == set(np.unique(markers)) - {0}

    def test_nothing_above_the_threshold_leaves_pixels_alone(self):
        truth = np.ones((3, 4), int)
        got = isbi_rand(truth, thinned(np.zeros((3, 4)), 0.5))
        assert (got.tp, got.fp, got.fn) == (12, 0, 144 - 12)

    def test_slices_are_thinned_one_by_one(self):
        _, p = self.membranes()
        stack = thinned(np.stack([p, p.T[::-1], np.zeros_like(p)]), 0.4)
        assert np.array_equal(stack[0], thinned(p, 0.4))
        assert not stack[2].any()


def test_regions_are_four_connected_and_of_one_slice():
    inside = np.array([[[1, 0], [0, 1]], [[1, 1], [0, 1]]], bool)
    assert regions(inside).tolist() == [[[1, 0], [0, 2]], [[1, 1], [0, 1]]]


def test_shapes_that_differ_are_refused():
    for a, b in ((np.zeros((2, 3), int), np.zeros((3, 2), int)), (np.zeros(4, int), np.zeros(4, int))):
        with pytest.raises(SizeError):
            isbi_rand(a, b)
