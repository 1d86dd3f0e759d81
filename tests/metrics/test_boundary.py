"""Distances of surfaces against MONAI, DeepMind's surface-distance, scikit-image, a distance transform and a brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_erosion, distance_transform_edt
from skimage.metrics import hausdorff_distance

from biomask.errors import SizeError, UsageError
from biomask.metrics import surface, surface_distances

SPACINGS = {2: (0.5, 0.25), 3: (2.0, 0.5, 0.5)}


@st.composite
def masks(draw):
    shape = tuple(draw(st.integers(1, 6)) for _ in range(draw(st.integers(1, 3))))
    return [draw(hnp.arrays(bool, shape)) for _ in range(3)]


def neighbours(index, shape):
    for axis in range(len(shape)):
        for step in (-1, 1):
            yield (*index[:axis], index[axis] + step, *index[axis + 1:])


def brute_surface(mask, ignore):
    """Known pixels of a mask with a known neighbour outside it, or beyond the image."""
    found = np.zeros(mask.shape, bool)
    for i in np.argwhere(mask & ~ignore):
        for n in neighbours(tuple(i), mask.shape):
            inside = all(0 <= a < b for a, b in zip(n, mask.shape, strict=True))
            found[tuple(i)] |= not inside or (not ignore[n] and not mask[n])
    return found


def brute_distances(origin, target, spacing):
    a, b = (np.argwhere(m) * np.asarray(spacing) for m in (origin, target))
    if not len(b):
        return np.full(len(a), np.inf)
    return np.array([np.sqrt(((b - p) ** 2).sum(axis=1)).min() for p in a])


def blobs(seed, dims, side):
    """Two smooth masks that overlap in part, one touching the border of the image."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * dims, indexing="ij"), axis=-1)
    found = []
    for shift in (0, side / 10):
        centres = np.array([[side * 0.25] * dims, [side * 0.6] * dims]) + shift + rng.uniform(-1, 1, (2, dims))
        found.append(np.any([((grid - c) ** 2).sum(axis=-1) < (side * 0.26) ** 2 for c in centres], axis=0))
    return found


@settings(deadline=None)
@given(masks())
def test_the_surface_is_that_of_a_brute_force_and_of_an_erosion(case):
    mask, _, ignore = case
    assert np.array_equal(surface(mask, ignore), brute_surface(mask, ignore))
    assert np.array_equal(surface(mask), mask & ~binary_erosion(mask))


@settings(deadline=None)
@given(masks(), st.booleans())
def test_distances_are_those_of_a_brute_force(case, hide):
    truth, predicted, ignore = case
    spacing = (2.0, 0.5, 0.3)[: truth.ndim]
    found = surface_distances(truth, predicted, spacing, ignore if hide else None)
    unknown = ignore if hide else np.zeros(truth.shape, bool)
    true, other = brute_surface(truth, unknown), brute_surface(predicted, unknown)
    assert found.from_truth == pytest.approx(brute_distances(true, other, spacing))
    assert found.from_prediction == pytest.approx(brute_distances(other, true, spacing))


#: Of the packages that are compared with, about their own dependencies.
theirs = pytest.mark.filterwarnings("ignore")


@theirs
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_equals_monai(dims, seed):
    """HD95, ASSD and NSD to rounding, with a spacing."""
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    truth, predicted = blobs(seed, dims, 30)
    spacing = SPACINGS[dims]
    found = surface_distances(truth, predicted, spacing)
    one, two = (torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (predicted, truth))
    for percentile in (50, 95, 100):
        want = compute_hausdorff_distance(one, two, percentile=percentile, spacing=spacing)
        assert found.hausdorff(percentile) == pytest.approx(float(want), rel=1e-6)
    want = compute_average_surface_distance(one, two, symmetric=True, spacing=spacing)
    assert found.average == pytest.approx(float(want), rel=1e-6)
    for tolerance in (0.4, 1.1):
        want = compute_surface_dice(one, two, [tolerance], spacing=spacing)
        assert found.within(tolerance) == pytest.approx(float(want), rel=1e-6)


@theirs
@pytest.mark.parametrize("dims", [2, 3])
def test_is_within_a_pixel_of_deepmind(dims):
    """Their surfaces lie between pixels, and their pieces are weighed by area: another definition of the same thing."""
    import surface_distance

    truth, predicted = blobs(3, dims, 40)
    spacing = SPACINGS[dims]
    found = surface_distances(truth, predicted, spacing)
    other = surface_distance.compute_surface_distances(truth, predicted, spacing)
    assert found.hausdorff() == pytest.approx(surface_distance.compute_robust_hausdorff(other, 95), abs=max(spacing))
    means = surface_distance.compute_average_surface_distance(other)
    assert found.average == pytest.approx(np.mean(means), abs=max(spacing))
    within = surface_distance.compute_surface_dice_at_tolerance(other, 4 * max(spacing))
    assert found.within(4 * max(spacing)) == pytest.approx(within, abs=0.1)


def test_the_hausdorff_distance_of_the_surfaces_is_that_of_scikit_image():
    truth, predicted = blobs(1, 2, 40)
    want = hausdorff_distance(surface(truth), surface(predicted))
    assert surface_distances(truth, predicted).hausdorff(100) == pytest.approx(want)


def test_equals_a_distance_transform_of_the_whole_image():
    truth, predicted = blobs(2, 3, 30)
    far = distance_transform_edt(~surface(predicted), sampling=SPACINGS[3])
    assert surface_distances(truth, predicted, SPACINGS[3]).from_truth == pytest.approx(far[surface(truth)])


@settings(deadline=None)
@given(masks(), st.floats(0.1, 5))
def test_bounds_symmetry_and_scale(case, scale):
    truth, predicted, _ = case
    found, other = surface_distances(truth, predicted), surface_distances(predicted, truth)
    assert (found.hausdorff(), found.average, found.within(1)) == (other.hausdorff(), pytest.approx(other.average), other.within(1))
    same = surface_distances(truth, truth)
    assert {same.hausdorff(), same.average} <= {0.0, None}
    assert same.within(0) == (1.0 if truth.any() else None)
    if found.defined:
        assert 0 <= found.average <= found.hausdorff(100)
        assert found.hausdorff(95) <= found.hausdorff(100) <= np.sqrt(sum((n - 1) ** 2 for n in truth.shape)) + 1e-9
        assert found.within(found.hausdorff(100)) == 1
        wider = surface_distances(truth, predicted, (scale,) * truth.ndim)
        assert wider.hausdorff() == pytest.approx(scale * found.hausdorff())
        assert wider.within(scale) == found.within(1)


class TestEdges:
    NOTHING, EVERYTHING = np.zeros((5, 6), bool), np.ones((5, 6), bool)

    def one_pixel(self, y, x):
        mask = self.NOTHING.copy()
        mask[y, x] = True
        return mask

    def test_empty_on_both_sides_is_undefined(self):
        found = surface_distances(self.NOTHING, self.NOTHING)
        assert (found.hausdorff(), found.average, found.within(1), found.defined) == (None, None, None, False)

    @pytest.mark.parametrize("swap", [False, True])
    def test_empty_on_one_side_has_no_distance_and_no_surface_in_common(self, swap):
        pair = (self.NOTHING, self.EVERYTHING)[:: -1 if swap else 1]
        found = surface_distances(*pair)
        assert (found.hausdorff(), found.average, found.within(100)) == (None, None, 0.0)
        assert {*found.from_truth, *found.from_prediction} == {np.inf}

    def test_one_pixel_each(self):
        found = surface_distances(self.one_pixel(0, 0), self.one_pixel(3, 4), (1, 1))
        assert (found.hausdorff(), found.average) == (5.0, 5.0)
        assert (found.within(5), found.within(4.999)) == (1.0, 0.0)

    def test_a_mask_that_fills_the_image_has_the_image_border_as_its_surface(self):
        assert surface(self.EVERYTHING).sum() == 2 * 5 + 2 * 6 - 4
        found = surface_distances(self.EVERYTHING, self.EVERYTHING)
        assert len(found.from_truth) == 18

    def test_touching_the_border(self):
        """A block at the edge, and the same a pixel further in: the edge of the image counts as outside."""
        truth, predicted = self.NOTHING.copy(), self.NOTHING.copy()
        truth[0:3, 1:4] = predicted[1:4, 1:4] = True
        found = surface_distances(truth, predicted)
        assert found.hausdorff() == 1
        assert found.average == pytest.approx((3 + 1 + 3 + 1) / 16)  # the first and last rows, and the two middles

    def test_a_volume_of_one_plane_is_all_surface(self):
        assert surface(np.ones((1, 4, 4), bool)).all()

    def test_unknown_pixels_have_no_surface_and_make_none(self):
        """The right half of a block is unknown: there the prediction may end anywhere."""
        truth, predicted, ignore = (np.zeros((9, 12), bool) for _ in range(3))
        truth[2:7, 2:10] = predicted[2:7, 2:6] = True
        ignore[:, 6:] = True
        found = surface_distances(truth, predicted, ignore=ignore)
        assert (found.hausdorff(), found.within(0)) == (0.0, 1.0)
        assert surface_distances(truth, predicted).hausdorff() == 4

    def test_all_unknown_is_undefined(self):
        found = surface_distances(self.EVERYTHING, self.EVERYTHING, ignore=self.EVERYTHING)
        assert (found.defined, found.within(1)) == (False, None)

    def test_a_tolerance_of_whole_pixels_holds_whatever_they_measure(self):
        """3 * 0.1 is more than 0.3 by rounding."""
        found = surface_distances(self.one_pixel(0, 0), self.one_pixel(0, 3), (0.1, 0.1))
        assert found.within(0.3) == 1

    def test_refused(self):
        for other in (np.zeros((5, 5), bool), np.zeros((5, 6, 1), bool)):
            with pytest.raises(SizeError, match=r"\(5, 6\), predicted"):
                surface_distances(self.NOTHING, other)
        for spacing in ((1.0,), (1.0, 0.0), (1.0, 1.0, 1.0)):
            with pytest.raises(SizeError, match="spacing"):
                surface_distances(self.NOTHING, self.NOTHING, spacing)
        found = surface_distances(self.EVERYTHING, self.EVERYTHING)
        with pytest.raises(UsageError, match="tolerance"):
            found.within(-1)
        with pytest.raises(UsageError, match="percentile"):
            found.hausdorff(101)
