"""The challenge's scores over all thresholds, against each computed on its own."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from biomask.errors import SizeError, UsageError
from biomask.metrics import (
    confusion_matrix,
    information_after_thinning,
    isbi_information_f,
    isbi_rand_f,
    isbi_scores,
    overlap,
    rand_after_thinning,
    warping_error,
)
from biomask.metrics.isbi import LEVELS
from biomask.metrics.rand import regions


def stack(slices=2, side=40, seed=0):
    """(truth, probabilities of cell): cells of a Voronoi diagram, and the same blurred under noise."""
    rng = np.random.default_rng(seed)
    truth = np.ones((slices, side, side), bool)
    for plane in truth:
        seeds = rng.integers(0, side, (9, 2))
        nearest = np.argmin(((np.indices((side, side))[None] - seeds[:, :, None, None]) ** 2).sum(axis=1), axis=0)
        plane[1:] &= nearest[1:] == nearest[:-1]
        plane[:, 1:] &= nearest[:, 1:] == nearest[:, :-1]
        plane &= ndi.binary_erosion(plane, border_value=1)
    noisy = ndi.gaussian_filter(truth + rng.normal(0, 0.8, truth.shape), (0, 1.5, 1.5))
    return truth, noisy.clip(0, 1).astype(np.float32)


def test_each_score_is_the_best_over_the_thresholds():
    truth, p = stack()
    found, cells = isbi_scores(truth, p), regions(truth)
    maps = {t: p > t for t in LEVELS}
    assert found.pixel_error == pytest.approx(min((m != truth).mean() for m in maps.values()))
    dice = [overlap(confusion_matrix(truth.astype(int), m.astype(int), 2)).dice[1] for m in maps.values()]
    assert found.pixel_f_error == pytest.approx(1 - max(dice))
    assert found.rand_f == pytest.approx(max(isbi_rand_f(cells, regions(m)) for m in maps.values()))
    assert found.information_f == pytest.approx(max(isbi_information_f(cells, regions(m)) for m in maps.values()))
    assert found.rand_f_thinned == pytest.approx(rand_after_thinning(cells, p)[0])
    assert found.information_f_thinned == pytest.approx(information_after_thinning(cells, p)[0])
    warped = [warping_error(truth, p, t) for t in LEVELS]
    assert found.warping_error == pytest.approx(min(w.error for w in warped))
    assert found.splits_and_mergers == pytest.approx(min(w.splits_and_mergers for w in warped))
    assert 0 < found.splits_and_mergers < found.warping_error < found.pixel_error < 1


def test_there_are_ten_thresholds_and_the_best_differ():
    found = isbi_scores(*stack())
    assert [level.threshold for level in found.levels] == pytest.approx([n / 10 for n in range(10)])
    assert found.levels[0].rand_f_thinned is None
    assert len({level.warping_error for level in found.levels}) == len(LEVELS)


def test_slices_added_are_the_stack():
    truth, p = stack(3)
    each = [isbi_scores(t, q, (0.3, 0.6)) for t, q in zip(truth, p, strict=True)]
    assert each[0] + each[1] + each[2] == isbi_scores(truth, p, (0.6, 0.3))
    with pytest.raises(UsageError, match="thresholds"):
        each[0] + isbi_scores(truth[0], p[0], (0.3,))


def test_a_mask_has_one_threshold():
    truth, p = stack()
    found = isbi_scores(truth, (p > 0.5).astype(np.float32), (0.5,))
    assert found.rand_f == isbi_rand_f(regions(truth), regions(p > 0.5))
    assert found.warping_error == warping_error(truth, p > 0.5).error
    assert isbi_scores(truth, p > 0.5, (0.5,)) == isbi_scores(truth, np.uint8(p > 0.5), (0.5,)) == found


def test_unknown_pixels_count_nowhere():
    truth, p = stack()
    unknown = np.zeros(truth.shape, bool)
    unknown[:, :, 25:] = True
    spoilt = np.where(unknown, 1 - p, p)
    assert isbi_scores(truth, p, (0.5,), unknown).pixel_error == (((p > 0.5) != truth) & ~unknown).sum() / (~unknown).sum()
    a, b = (isbi_scores(truth, q, (0.5,), unknown).levels[0] for q in (p, spoilt))
    assert (a.known, a.wrong, a.both, a.warping) == (b.known, b.wrong, b.both, b.warping)
    nothing = isbi_scores(truth, p, (0.5,), np.ones(truth.shape, bool))
    assert (nothing.pixel_error, nothing.pixel_f_error, nothing.rand_f, nothing.information_f) == (None,) * 4


def test_shapes_that_differ_are_refused():
    with pytest.raises(SizeError):
        isbi_scores(np.zeros((2, 3)), np.zeros((3, 2)))
