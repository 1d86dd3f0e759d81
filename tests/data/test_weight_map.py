"""Weight maps, and the two nearest objects that they are made from, against one distance transform for each object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from biomask.data.distances import separate
from biomask.data.nearest import two_nearest, two_nearest_cropped
from biomask.data.weight_map import TOLERANCE, PlugIn, plug_in_weight_map, weight_map
from biomask.errors import SizeError

BOTH = (two_nearest, two_nearest_cropped)


def all_distances(patch: np.ndarray, spacing: tuple[float, ...] | None) -> np.ndarray:
    """Distances to the nearest and second nearest object, (2, *S), by one transform for each object."""
    each = [ndimage.distance_transform_edt(patch != i, sampling=spacing) for i in np.unique(patch[patch > 0])]
    each += [np.full(patch.shape, np.inf)] * 2
    return np.sort(np.stack(each), axis=0)[:2]


def check(labels: np.ndarray, spacing: tuple[float, ...] | None, radius: float | None) -> None:
    expected = np.stack([all_distances(p, spacing) for p in labels], axis=1)
    if radius is not None:
        expected[expected > radius * (1 + 1e-6)] = np.inf
    for algorithm in BOTH:
        for found, truth in zip(algorithm(torch.from_numpy(labels), spacing=spacing, radius=radius), expected):
            assert found.dtype == torch.float32
            np.testing.assert_allclose(found.numpy(), truth, rtol=2e-6, atol=2e-6 if spacing else 0)


def scattered(seed: int, size: tuple[int, ...], count: int) -> np.ndarray:
    """Boxes of random ids and places, later ones over earlier ones: apart, touching and cut ones."""
    rng = np.random.default_rng(seed)
    out = np.zeros(size, np.int32)
    for i in range(count):
        corner = [int(rng.integers(0, n)) for n in size]
        out[tuple(slice(c, c + int(rng.integers(1, max(2, n // 5)))) for c, n in zip(corner, size))] = rng.integers(1, 10 * (i + 1))
    return out


small = hnp.arrays(np.int32, hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=7),
                   elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3]))


@settings(max_examples=200, deadline=None)
@given(small, st.sampled_from([None, 1.0, 2.0, 2.5, 4.0]))
def test_two_nearest_equals_one_transform_for_each_object(labels: np.ndarray, radius: float | None) -> None:
    check(labels, None, radius)


@settings(max_examples=80, deadline=None)
@given(small, st.sampled_from([None, 2.3, 5.1]))
def test_two_nearest_with_pixels_that_are_not_square(labels: np.ndarray, radius: float | None) -> None:
    check(labels, (3.1, 0.7, 1.0)[:labels.ndim - 1], radius)


@pytest.mark.parametrize(("size", "count"), [((70, 53), 60), ((70, 53), 2), ((70, 53), 1), ((70, 53), 0), ((9, 30, 25), 40)])
@pytest.mark.parametrize("radius", [None, 9.0])
@pytest.mark.parametrize("units", [False, True])
def test_two_nearest_of_many_objects(size: tuple[int, ...], count: int, radius: float | None, units: bool) -> None:
    labels = np.stack([scattered(seed, size, count) for seed in range(3)])
    check(labels, (2.5, 0.5, 0.8)[:len(size)] if units else None, radius)


def touching(seed: int, size: tuple[int, ...], count: int) -> np.ndarray:
    """Every pixel belongs to the nearest of `count` points: objects without any background between them."""
    points = np.random.default_rng(seed).permutation(np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
                                                     .reshape(-1, len(size)))[:count]
    away = np.full(size, True)
    away[tuple(points.T)] = False
    nearest = ndimage.distance_transform_edt(away, return_distances=False, return_indices=True)
    ids = np.zeros(size, np.int32)
    ids[tuple(points.T)] = 1 + np.arange(count)
    return ids[tuple(nearest)]


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([((60, 70), None), ((10, 20, 24), None), ((10, 20, 24), (2.5, 0.5, 0.8))]))
def test_two_nearest_of_400_touching_objects(seed: int, form: tuple[tuple[int, ...], tuple[float, ...] | None]) -> None:
    size, spacing = form
    labels = touching(seed, size, 400)
    labels[np.random.default_rng(seed).random(size) < 0.2] = 0
    assert len(np.unique(labels)) > 300
    check(labels[None], spacing, 6.0)
    check(labels[None], spacing, None)


@settings(max_examples=60, deadline=None)
@given(small, st.permutations([1, 2, 3]), st.sampled_from(BOTH))
def test_names_of_objects_do_not_matter(labels: np.ndarray, order: list[int], algorithm) -> None:
    renamed = np.array([0, *order], np.int32)[labels]
    for a, b in zip(algorithm(torch.from_numpy(labels)), algorithm(torch.from_numpy(renamed))):
        assert torch.equal(a, b)


def by_hand(labels: np.ndarray, w0: float, sigma: float, everywhere: bool, spacing: tuple[float, ...] | None) -> np.ndarray:
    out = []
    for patch in labels:
        nearest, second = all_distances(patch, spacing)
        term = w0 * np.exp(-(nearest + second) ** 2 / (2 * sigma**2))
        out.append(1 + (term if everywhere else term * (patch == 0)))
    return np.stack(out)


@pytest.mark.parametrize("size", [(60, 50), (8, 30, 25)])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (50.0, 2.0), (0.5, 3.0)])
def test_weight_map_is_the_papers_within_the_tolerance(size: tuple[int, ...], count: int, everywhere: bool, w0: float,
                                                       sigma: float) -> None:
    labels = np.stack([scattered(seed, size, count) for seed in range(2)])
    for spacing in (None, (2.0, 0.6, 1.0)[:len(size)]):
        found = weight_map(torch.from_numpy(labels), w0=w0, sigma=sigma, everywhere=everywhere, spacing=spacing).numpy()
        np.testing.assert_allclose(found, by_hand(labels, w0, sigma, everywhere, spacing), atol=TOLERANCE + 1e-5)


@pytest.mark.parametrize("gap", [1, 2, 5, 8])
def test_two_half_planes(gap: int) -> None:
    labels = torch.zeros(1, 6, 20 + gap, dtype=torch.int32)
    labels[..., :10], labels[..., -10:] = 1, 2
    for nearest in BOTH:
        first, second = nearest(labels)
        assert (first + second == gap + 1)[..., 10:-10].all(), "from pixel centre to pixel centre"
        expected = 1 + 10 * np.exp(-(gap + 1) ** 2 / 50)
        found = weight_map(labels, nearest=nearest)
        np.testing.assert_allclose(found[..., 10:-10].numpy(), expected, rtol=1e-6)
        assert (found[labels > 0] == 1).all()


def test_class_weights() -> None:
    labels = torch.zeros(1, 4, 10, dtype=torch.int32)
    labels[..., :1] = 3
    balanced = weight_map(labels, class_weights="balanced")
    torch.testing.assert_close(balanced[labels > 0].unique(), torch.tensor([40 / (2 * 4)]))
    torch.testing.assert_close(balanced[labels == 0].unique(), torch.tensor([40 / (2 * 36)]))
    assert balanced.mean() == pytest.approx(1)
    assert (weight_map(torch.zeros_like(labels), class_weights="balanced") == 1).all()
    classes = torch.arange(40).reshape(1, 4, 10) % 3
    given_ones = weight_map(labels, class_weights=torch.tensor([0.5, 2.0, 4.0]), classes=classes)
    torch.testing.assert_close(given_ones, torch.tensor([0.5, 2.0, 4.0])[classes])
    assert (weight_map(labels, w0=0.0) == 1).all()


def plug_in_by_hand(labels: np.ndarray, classes: np.ndarray, f: PlugIn, spacing: tuple[float, ...] | None) -> np.ndarray:
    """The plug-in's loops: one transform for each object, one sum for each class."""
    out = []
    for patch, kinds in zip(labels, classes):
        extra = np.zeros(patch.shape)
        for kind in np.unique(kinds[patch > 0]):
            nearest, second = all_distances(np.where(kinds == kind, patch, 0), spacing)
            extra += f.w0 * np.exp(-(nearest + second) ** 2 / (2 * f.sigma**2))
            extra += (1 - f.background) * np.exp(-nearest**2 / (2 * f.reach**2))
        kept = separate(torch.from_numpy(patch)[None], torch.from_numpy(kinds)[None])[0].numpy()
        out.append(np.where(kept > 0, 1.0, f.background + extra))
    return np.stack(out)


@pytest.mark.parametrize("size", [(60, 50), (8, 30, 25)])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
@pytest.mark.parametrize("nearest", BOTH)
def test_the_plug_ins_formula(size: tuple[int, ...], count: int, nearest) -> None:
    labels = np.stack([scattered(seed, size, count) for seed in range(2)])
    classes = np.where(labels > 0, labels % 2 + 1, 0)
    ignore = torch.rand(labels.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    for formula in (PlugIn(), PlugIn(background=0.3, reach=4.0, w0=20.0, sigma=2.0)):
        for spacing in (None, (2.0, 0.6, 1.0)[:len(size)]):
            tensor = torch.from_numpy(labels)
            one = plug_in_weight_map(tensor, formula, spacing=spacing, nearest=nearest)
            alike = (labels > 0).astype(np.int64)
            np.testing.assert_allclose(one.numpy(), plug_in_by_hand(labels, alike, formula, spacing), atol=3 * TOLERANCE)
            two = plug_in_weight_map(tensor, formula, classes=torch.from_numpy(classes), ignore=ignore, spacing=spacing,
                                     nearest=nearest)
            expected = np.where(ignore, 0, plug_in_by_hand(labels, classes, formula, spacing))
            np.testing.assert_allclose(two.numpy(), expected, atol=6 * TOLERANCE)


def test_the_plug_ins_formula_at_places_that_can_be_said_beforehand() -> None:
    far = torch.zeros(1, 1, 200, dtype=torch.int32)
    far[..., :10] = 4
    found = plug_in_weight_map(far)[0, 0]
    assert (found[:10] == 1).all()
    assert float(found[-1]) == pytest.approx(0.1)
    assert float(found[19]) == pytest.approx(0.1 + 0.9 * np.exp(-(10**2) / 200))  # 10 px from the one object there is
    touch = torch.tensor([[[1, 1, 2, 2]]])
    cut = plug_in_weight_map(touch)[0, 0]  # the first pixel of 2 becomes background: in 2, and 1 px from 1
    assert cut.tolist() == pytest.approx([1, 1, 0.1 + 0.9 + 50 * np.exp(-1 / 72), 1])
    assert (plug_in_weight_map(touch, classes=torch.tensor([[[1, 1, 2, 2]]])) == 1).all(), "other classes are not separated"


def test_spacing_has_to_fit() -> None:
    with pytest.raises(SizeError, match="spacing"):
        two_nearest(torch.zeros(1, 4, 4, dtype=torch.int32), spacing=(1.0, 1.0, 1.0))
