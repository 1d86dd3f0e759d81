"""Distances, borders and ids of objects against scipy, scikit-image and loops over pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from biomask.data.distances import normalized_distance, object_distance, renumber, separate, touching_border
from biomask.errors import LabelsError, SizeError


def blobs(seed: int, size: tuple[int, ...], count: int, reach: float) -> np.ndarray:
    """Ids 1..count around random points: the nearest one within `reach`; small reach = apart, large = all touch."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)[..., None, :]
    away = np.linalg.norm(grid - rng.uniform(0, size, (count, len(size))), axis=-1)
    return np.where(away.min(-1) <= reach, away.argmin(-1) + 1, 0)


def distance_by_scipy(patch: np.ndarray, spacing: tuple[float, ...] | None) -> np.ndarray:
    """One transform for each object."""
    out = np.zeros(patch.shape)
    for i in np.unique(patch[patch > 0]):
        alone = np.full(patch.shape, np.inf) if (patch == i).all() else ndimage.distance_transform_edt(patch == i, sampling=spacing)
        out[patch == i] = alone[patch == i]
    return out


small = hnp.arrays(np.int32, hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=7), elements=st.integers(0, 3))


@settings(max_examples=150, deadline=None)
@given(small)
def test_distance_equals_one_transform_for_each_object(labels: np.ndarray) -> None:
    expected = np.stack([distance_by_scipy(p, None) for p in labels])
    np.testing.assert_allclose(object_distance(torch.from_numpy(labels)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(("size", "spacing", "reach"), [
    ((61, 47), None, 99.0), ((61, 47), (0.5, 2.0), 99.0), ((61, 47), None, 6.0), ((61, 47), (3.0, 0.7), 6.0),
    ((9, 24, 31), None, 99.0), ((9, 24, 31), (4.0, 1.0, 1.5), 99.0), ((9, 24, 31), (4.0, 1.0, 1.5), 5.0)])
def test_distance_with_pixels_of_any_shape(size: tuple[int, ...], spacing: tuple[float, ...] | None, reach: float) -> None:
    labels = np.stack([blobs(seed, size, 12, reach) for seed in range(2)])
    expected = np.stack([distance_by_scipy(p, spacing) for p in labels])
    found = object_distance(torch.from_numpy(labels), spacing=spacing)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_distance_beyond_the_limit_is_the_limit() -> None:
    labels = torch.from_numpy(blobs(3, (50, 50), 5, 99.0))[None]
    full = object_distance(labels)
    assert full.max() > 4.5
    torch.testing.assert_close(object_distance(labels, limit=4.5), full.clamp(max=4.5))


def test_distance_along_a_line() -> None:
    """(B, x): the one axis is the last."""
    line = torch.tensor([[0, 1, 1, 1, 2, 2]])
    assert object_distance(line).tolist() == [[0, 1, 2, 1, 1, 2]]
    assert normalized_distance(line).tolist() == [[0, 0.5, 1, 0.5, 0.5, 1]]


@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 0, 4), (1, 4, 0), (2, 3, 0, 4)])
def test_nothing_has_no_distance(shape: tuple[int, ...]) -> None:
    nothing = torch.zeros(shape, dtype=torch.int32)
    assert object_distance(nothing).shape == normalized_distance(nothing).shape == touching_border(nothing).shape == shape


def test_the_patch_border_is_no_edge() -> None:
    labels = torch.zeros(1, 5, 9, dtype=torch.int64)
    labels[..., :6] = 4
    assert object_distance(labels)[0, 0].tolist() == [6, 5, 4, 3, 2, 1, 0, 0, 0]
    assert torch.isinf(object_distance(torch.ones(1, 4, 4, dtype=torch.int32))).all()
    assert (normalized_distance(torch.ones(1, 4, 4, dtype=torch.int32)) == 1).all()


@settings(max_examples=60, deadline=None)
@given(small)
def test_normalized_distance_is_one_at_each_centre(labels: np.ndarray) -> None:
    found = normalized_distance(torch.from_numpy(labels)).numpy()
    assert np.isfinite(found).all()
    assert (found[labels == 0] == 0).all()
    for patch, values in zip(labels, found):
        expected = distance_by_scipy(patch, None)
        for i in np.unique(patch[patch > 0]):
            assert values[patch == i].max() == 1
            whole = expected[patch == i]
            np.testing.assert_allclose(values[patch == i], 1 if np.isinf(whole).any() else whole / whole.max(), rtol=1e-5)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=6),
                  elements=st.sampled_from([0, 1, 2, 5, 40, 2**40])))
def test_renumber_counts_each_patch_from_one(labels: np.ndarray) -> None:
    found = renumber(torch.from_numpy(labels))
    assert found.dtype == torch.int32
    for patch, ids in zip(labels, found.numpy()):
        present = np.unique(patch[patch > 0])
        expected = np.where(patch > 0, np.searchsorted(present, patch) + 1, 0)
        np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.bool])
def test_every_integer_type_is_read(dtype: torch.dtype) -> None:
    ids = blobs(1, (20, 20), 1 if dtype == torch.bool else 6, 99.0 if dtype != torch.bool else 5.0)
    labels = torch.from_numpy(ids)[None]
    typed = labels.to(dtype)
    for function in (renumber, object_distance, normalized_distance, touching_border):
        torch.testing.assert_close(function(typed), function(labels))
    cut = separate(typed)
    assert cut.dtype == dtype
    torch.testing.assert_close(cut.long(), separate(labels))


def test_pieces_get_ids_of_their_own_where_wanted() -> None:
    labels = torch.tensor([[[7, 0, 7, 0, 2], [7, 0, 0, 7, 2]]])
    assert renumber(labels).unique().tolist() == [0, 1, 2]
    pieces = renumber(labels, split=True)
    assert pieces.unique().tolist() == [0, 1, 2, 3]
    assert pieces[0, 0, 2] == pieces[0, 1, 3], "pixels that touch at a corner belong together"
    assert pieces[0, 0, 0] != pieces[0, 0, 2]


@settings(max_examples=100, deadline=None)
@given(small, st.integers(1, 3))
def test_touching_border_equals_looking_around_each_pixel(labels: np.ndarray, width: int) -> None:
    expected = np.zeros(labels.shape, bool)
    for b, patch in enumerate(labels):
        for p in np.ndindex(patch.shape):
            around = patch[tuple(slice(max(0, i - width), i + width + 1) for i in p)]
            expected[(b, *p)] = patch[p] > 0 and ((around > 0) & (around != patch[p])).any()
    np.testing.assert_array_equal(touching_border(torch.from_numpy(labels), width).numpy(), expected)


@settings(max_examples=100, deadline=None)
@given(small)
def test_separate_follows_the_rule_of_the_plug_in(labels: np.ndarray) -> None:
    before = [o for o in itertools.product((-1, 0, 1), repeat=labels.ndim - 1) if o < (0,) * (labels.ndim - 1)]
    assert len(before) == {2: 4, 3: 13}[labels.ndim - 1]
    expected = labels.copy()
    for b, patch in enumerate(labels):
        for p in np.ndindex(patch.shape):
            places = [tuple(i + d for i, d in zip(p, o)) for o in before]
            seen = [patch[q] for q in places if all(0 <= i < n for i, n in zip(q, patch.shape))]
            if patch[p] and any(v and v != patch[p] for v in seen):
                expected[(b, *p)] = 0
    found = separate(torch.from_numpy(labels)).numpy()
    np.testing.assert_array_equal(found, expected)
    for patch in found:  # each component of the foreground belongs to one object
        parts, count = ndimage.label(patch > 0, np.ones((3,) * patch.ndim))
        assert all(len(np.unique(patch[parts == i + 1])) == 1 for i in range(count))


def test_separate_within_classes() -> None:
    labels = torch.tensor([[[1, 2, 3, 3]]])
    assert separate(labels).tolist() == [[[1, 0, 0, 3]]]
    assert separate(labels, torch.tensor([[[1, 2, 2, 2]]])).tolist() == [[[1, 2, 0, 3]]]


def test_what_cannot_be_labels_is_refused() -> None:
    with pytest.raises(LabelsError, match="float"):
        object_distance(torch.zeros(1, 4, 4))
    with pytest.raises(LabelsError, match="-1"):
        renumber(torch.tensor([[[0, -1]]]))
    with pytest.raises(SizeError, match="spacing"):
        object_distance(torch.zeros(1, 4, 4, dtype=torch.int32), spacing=(1.0,))
    with pytest.raises(SizeError, match="shape"):
        renumber(torch.zeros(4, dtype=torch.int32))
