"""Warps against quarter turns, scipy's interpolation and plain algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from biomask.errors import SizeError
from biomask.transforms import affine, coordinates, covering_margin, flip_rotate, moved, needed_margin, warp, warp_labels


def random_matrices(seed: int, dims: int, count: int = 3) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    angles = torch.rand(count, 1 if dims == 2 else 3, generator=rng) * 6 - 3
    return affine(angles, scales=0.7 + 0.6 * torch.rand(count, dims, generator=rng), shears=torch.rand(count, generator=rng) - 0.5,
                  flips=torch.rand(count, dims, generator=rng) < 0.5)


def random_ids(seed: int, shape: tuple[int, ...], high: int = 2**40) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flips", [(), (-1,), (-2,), (-2, -1)])
@pytest.mark.parametrize("size", [(8, 8), (9, 9), (5, 8, 8)])
def test_quarter_turns_and_mirrors_equal_flip_rotate(turns: int, flips: tuple[int, ...], size: tuple[int, ...]) -> None:
    dims = len(size)
    angles = torch.zeros(2, 1 if dims == 2 else 3)
    angles[:, 0] = turns * math.pi / 2
    mirrored = torch.tensor([[axis - dims in flips for axis in range(dims)]] * 2)
    positions = coordinates(size, affine(angles, flips=mirrored))
    labels = random_ids(0, (2, 3, *size))
    expected = flip_rotate(labels, [flips] * 2, [turns] * 2)
    assert torch.equal(warp_labels(labels, positions), expected)
    assert torch.equal(warp_labels(labels[:, 0], positions), expected[:, 0])
    grey = (labels % 251).float()
    torch.testing.assert_close(warp(grey, positions), (expected % 251).float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("turns", range(-1, 5))
@pytest.mark.parametrize("flips", [(), (-1,), (-2,), (-3,), (-2, -1), (-3, -2, -1)])
def test_a_sample_is_moved_as_by_torch(flips: tuple[int, ...], turns: int) -> None:
    sample = random_ids(0, (2, 3, 5, 5))
    assert torch.equal(moved(sample, flips, turns), sample.flip(flips).rot90(turns, (-2, -1)))
    assert torch.equal(flip_rotate(sample[None], [flips], [turns])[0], moved(sample, flips, turns))


@pytest.mark.parametrize(("size", "region"), [((20, 17), (26, 31)), ((6, 11, 9), (10, 15, 9)), ((1, 12, 12), (1, 12, 14))])
def test_warps_equal_scipy(size: tuple[int, ...], region: tuple[int, ...]) -> None:
    dims = len(size)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 2, *region, generator=generator)
    labels = random_ids(2, (3, *region))
    positions = coordinates(size, random_matrices(3, dims), torch.rand(3, dims, *size, generator=generator) * 4 - 2)
    found, ids = warp(images, positions), warp_labels(labels, positions)
    assert found.dtype == torch.float32
    assert ids.dtype == torch.int64
    for b in range(3):
        at = positions[b].double().numpy() + np.array([(n - 1) / 2 for n in region]).reshape(-1, *[1] * dims)
        for c in range(2):
            expected = ndimage.map_coordinates(images[b, c].double().numpy(), at, order=1, mode="nearest")
            np.testing.assert_allclose(found[b, c].numpy(), expected, atol=2e-5)
        nearest = tuple(np.clip(np.rint(a).astype(int), 0, n - 1) for a, n in zip(at.astype(np.float32), region))
        np.testing.assert_array_equal(ids[b].numpy(), labels[b].numpy()[nearest])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32,
                                   torch.int64])
def test_labels_of_every_type_keep_type_and_values(dtype: torch.dtype) -> None:
    high = 2 if dtype == torch.bool else torch.iinfo(dtype).max
    labels = random_ids(4, (2, 3, 9, 9), high).to(dtype)
    labels[:, :, 4, 4] = high if dtype != torch.bool else True
    positions = coordinates((7, 7), random_matrices(5, 2, 2))
    found = warp_labels(labels, positions)
    assert found.dtype == dtype
    assert torch.equal(found.long(), warp_labels(labels.long(), positions))
    assert (found[:, :, 3, 3].long() == int(high if dtype != torch.bool else 1)).all(), "the centre stays the centre"


@pytest.mark.parametrize("size", [(16, 9), (7, 9), (12, 6, 5)])
def test_one_sample_is_read_as_in_a_batch(size: tuple[int, ...]) -> None:
    images = torch.rand(3, 2, *(n + 3 for n in size), generator=torch.Generator().manual_seed(0))
    positions = coordinates(size, random_matrices(6, len(size)))
    together = warp(images, positions)
    for b in range(3):
        assert torch.equal(warp(images[b:b + 1], positions[b:b + 1])[0], together[b])


def test_the_order_is_mirror_enlarge_shear_turn() -> None:
    matrix = affine(torch.tensor([[0.3]]), scales=torch.tensor([[2.0, 0.5]]), shears=torch.tensor([0.4]),
                    flips=torch.tensor([[True, False]]))[0]
    c, s = math.cos(0.3), math.sin(0.3)
    turn = torch.tensor([[c, -s], [s, c]])  # where a point (y, x) goes
    enlarge, mirror = torch.diag(torch.tensor([2.0, 0.5])), torch.diag(torch.tensor([-1.0, 1.0]))
    forward = turn @ torch.tensor([[1.0, 0.0], [0.4, 1.0]]) @ enlarge @ mirror
    torch.testing.assert_close(matrix @ forward, torch.eye(2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.lists(st.floats(0.2, 5), min_size=3, max_size=3))
def test_turns_keep_lengths_of_the_specimen(angles: list[float], spacing: list[float]) -> None:
    matrix = affine(torch.tensor([angles]), spacing=spacing)[0].double()
    size = torch.tensor(spacing, dtype=torch.float64)
    physical = matrix * size[:, None] / size
    torch.testing.assert_close(physical @ physical.T, torch.eye(3, dtype=torch.float64), atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(16, 16), (20, 9), (1, 7), (4, 12, 11)]), st.floats(0, 5))
def test_the_margin_is_enough_and_no_more(seed: int, size: tuple[int, ...], bound: float) -> None:
    dims = len(size)
    matrices = random_matrices(seed, dims, 2)
    signs = torch.randint(0, 2, (2, dims, *size), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    positions = coordinates(size, matrices, signs * bound)
    margin = needed_margin(size, matrices, bound)
    exact = covering_margin(positions)
    for axis, n in enumerate(size):
        last = float(positions[:, axis].abs().max()) - (n - 1) / 2
        assert last <= margin[axis] + 2e-3
        assert last <= exact[axis] + 2e-3
        assert exact[axis] == 0 or last > exact[axis] - 1
        assert exact[axis] <= margin[axis]
    still = covering_margin(coordinates(size, matrices))
    assert still == needed_margin(size, matrices), "without displacement the corners decide"


def test_needed_margin_by_hand() -> None:
    half_turn = affine(torch.tensor([[math.pi / 4]]))
    assert needed_margin((11, 11), affine(torch.zeros(1, 1))) == (0, 0)
    assert needed_margin((11, 11), half_turn) == (3, 3)  # 5 √2 - 5 = 2.07
    assert needed_margin((11, 11), affine(torch.zeros(1, 1), scales=torch.tensor([[0.5, 1.0]])), (1.5, 0.2)) == (7, 1)


def test_a_wider_margin_changes_nothing() -> None:
    matrices = random_matrices(8, 2)
    size, margin = (15, 12), needed_margin((15, 12), matrices)
    wide = tuple(m + 4 for m in margin)
    region = torch.rand(3, 1, *(n + 2 * m for n, m in zip(size, wide)), generator=torch.Generator().manual_seed(0))
    positions = coordinates(size, matrices)
    torch.testing.assert_close(warp(region, positions), warp(region[..., 4:-4, 4:-4], positions), atol=1e-5, rtol=0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    positions = coordinates((4, 4), affine(torch.zeros(1, 1)))
    with pytest.raises(SizeError, match="angles"):
        affine(torch.zeros(1, 2))
    with pytest.raises(SizeError, match="matrices"):
        coordinates((4, 4, 4), affine(torch.zeros(1, 1)))
    with pytest.raises(SizeError, match="positions"):
        warp(torch.zeros(1, 1, 4, 4, 4), positions)
    with pytest.raises(SizeError, match="labels"):
        warp_labels(torch.zeros(4, 4, dtype=torch.int32), positions)
