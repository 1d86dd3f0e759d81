"""The demo pictures: pure functions of their arguments, valid instance truth, and not solvable by a threshold."""

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu

from biomask.data.synthetic import phase_contrast_cells

COUNT = 12


@pytest.fixture(scope="module")
def pictures():
    return [phase_contrast_cells(0, index) for index in range(COUNT)]


def assert_valid(image, instances, size):
    assert image.shape == instances.shape == size
    assert image.dtype == np.uint8
    assert instances.dtype == np.int32
    areas = np.bincount(instances.ravel())
    assert instances.min() >= 0
    assert (areas[1:] >= 30).all()  # also fails on a gap in the ids: an absent id has area 0
    for i in range(1, len(areas)):
        assert ndi.label(instances == i)[1] == 1, f"cell {i} is in pieces"


def dice(found, truth):
    return 2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth))


def touching_pairs(instances):
    pairs = set()
    for a, b in ((instances[1:], instances[:-1]), (instances[:, 1:], instances[:, :-1])):
        meet = (a != b) & (a > 0) & (b > 0)
        pairs |= {tuple(sorted(pair)) for pair in zip(a[meet].tolist(), b[meet].tolist(), strict=True)}
    return pairs


def test_same_arguments_give_the_same_picture(pictures):
    image, instances = phase_contrast_cells(0, 3)
    np.testing.assert_array_equal(image, pictures[3][0])
    np.testing.assert_array_equal(instances, pictures[3][1])


def test_every_seed_and_index_gives_another_picture(pictures):
    scenes = [*pictures, *(phase_contrast_cells(1, index) for index in range(2))]
    assert len({image.tobytes() for image, _ in scenes}) == len(scenes)
    assert len({instances.tobytes() for _, instances in scenes}) == len(scenes)


def test_default_pictures_are_valid_and_hold_many_cells(pictures):
    for image, instances in pictures:
        assert_valid(image, instances, (256, 256))
        assert instances.max() >= 5


def test_grey_levels_are_spread_and_hardly_clipped(pictures):
    for image, _ in pictures:
        assert 80 < image.mean() < 160
        assert image.std() > 5
        assert np.isin(image, (0, 255)).mean() < 0.02


def test_share_of_cells(pictures):
    shares = [np.mean(instances > 0) for _, instances in pictures]
    assert min(shares) > 0.20
    assert max(shares) < 0.55
    assert 0.25 <= np.mean(shares) <= 0.50


def test_some_cells_touch(pictures):
    assert sum(len(touching_pairs(instances)) for _, instances in pictures) >= 5 * COUNT


def test_otsu_does_not_solve_them(pictures):
    scores = {"above": [], "below": []}
    for image, instances in pictures:
        above = image > threshold_otsu(image)
        scores["above"].append(dice(above, instances > 0))
        scores["below"].append(dice(~above, instances > 0))
    assert max(np.mean(values) for values in scores.values()) <= 0.75


def test_outline_lies_between_dark_cell_and_bright_halo(pictures):
    """On average the first px outside a cell are brighter than the first px inside, and than the open background."""
    steps, halos = [], []
    for image, instances in pictures:
        cells = instances > 0
        outside, inside = ndi.distance_transform_edt(~cells), ndi.distance_transform_edt(cells)
        rim = image[(outside > 0) & (outside <= 2)].mean()
        steps.append(rim - image[(inside > 0) & (inside <= 3)].mean())
        halos.append(rim - image[(outside > 6) & (outside <= 15)].mean())
    assert min(steps) > 15
    assert np.mean(halos) > 8


@pytest.mark.parametrize("size", [(32, 32), (64, 200), (300, 77), (384, 256)])
def test_other_sizes(size):
    scenes = [phase_contrast_cells(5, index, size) for index in range(3)]
    for image, instances in scenes:
        assert_valid(image, instances, size)
    assert any(instances.max() > 0 for _, instances in scenes)


@pytest.mark.parametrize("size", [(31, 256), (256, 0)])
def test_too_small_a_size_is_refused(size):
    with pytest.raises(ValueError, match="at least 32"):
        phase_contrast_cells(0, 0, size)
