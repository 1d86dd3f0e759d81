"""From probabilities to objects: against scikit-image, by brute force, and what must hold for any map."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import label, regionprops
from skimage.segmentation import watershed

from biomask.errors import LabelsError, SizeError
from biomask.instances import Thresholds, fill_holes, in_scan_order, label_instances, min_size_of
from biomask.instances.watershed import label_by_each, smoothed

SHAPES = st.one_of(hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=14),
                   hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7))


@st.composite
def probabilities(draw: Any) -> np.ndarray:
    shape = draw(SHAPES)
    # Few levels: plateaus and ties everywhere.
    background, distance, border = (draw(hnp.arrays(np.float32, shape, elements=st.sampled_from(
        [np.float32(n / 5) for n in range(6)]))) for _ in range(3))
    return np.stack([background, 1 - background, distance, border / 2])


def thresholds(**fixed: Any) -> st.SearchStrategy[Thresholds]:
    free: dict[str, Any] = {"foreground": st.sampled_from([0.1, 0.5]), "valley": st.sampled_from([0.0, 0.1, 0.3, 0.7]),
                            "min_size": st.integers(1, 8),
                            "sigma": st.sampled_from([0.0, 1.0]), "hole": st.sampled_from([0.0, 0.2, 1.0])}
    return st.builds(Thresholds, **{**free, **{k: st.just(v) for k, v in fixed.items()}})


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack([a.reshape(-1), b.reshape(-1)]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs) and bool(((pairs[0] == 0) == (pairs[1] == 0)).all())


def middles(interior: np.ndarray, inside: np.ndarray, valley: float) -> np.ndarray:
    """Ids of the maxima whose surroundings down to `valley` below them hold nothing higher, by trying each pixel."""
    out = np.zeros(interior.shape, int)
    for n, pixel in enumerate(zip(*np.nonzero(inside))):
        height = interior[pixel]
        around = np.zeros_like(inside)
        around[pixel] = True
        if valley:
            near, _ = ndimage.label(inside & (interior > height - valley))
            around = near == near[pixel]
        else:
            around = ndimage.binary_dilation(around) & inside
        if interior[around].max() <= height:
            out[pixel] = n + 1
    return out


@settings(max_examples=150, deadline=None)
@given(probabilities(), thresholds(min_size=1, sigma=0.0, hole=0.0), st.integers(0, 2**32))
def test_an_object_for_each_maximum_with_its_dynamics(maps: np.ndarray, t: Thresholds, seed: int) -> None:
    # No two pixels are alike: at equal heights it goes by the order in its heap, which pixels elsewhere change.
    maps[3] += np.random.default_rng(seed).permutation(maps[0].size).reshape(maps[0].shape) / np.float32(5000)
    inside, interior = 1 - maps[0] > t.foreground, maps[2] - maps[3]
    found = label_instances(maps, t)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found > 0, inside)
    seeds = middles(interior, inside, t.valley)
    assert sorted(found[seeds > 0].tolist()) == list(range(1, found.max(initial=0) + 1))
    if inside.any():
        basins = label_instances(maps, replace(t, valley=0))
        assert same_partition(basins, watershed(-interior, middles(interior, inside, 0), mask=inside))
        pairs = np.unique(np.stack([basins.reshape(-1), found.reshape(-1)]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1], "a basin was cut"


@settings(max_examples=150, deadline=None)
@given(probabilities(), thresholds(), st.sampled_from(["distance", "borders"]))
def test_objects_are_whole_large_enough_numbered_and_inside(maps: np.ndarray, t: Thresholds, target: Any) -> None:
    maps = maps if target == "distance" else maps[:2]
    ids = label_instances(maps, t, target=target)
    values, first = np.unique(ids, return_index=True)
    values, first = values[values > 0], first[values > 0]
    assert values.tolist() == list(range(1, len(values) + 1))
    assert (np.diff(first) > 0).all()
    for i in values.tolist():
        assert ndimage.label(ids == i)[1] == 1
        assert (ids == i).sum() >= t.min_size
    inside = 1 - maps[0] > t.foreground
    if t.hole == 0:
        assert not (ids[~inside] > 0).any()
    parts, count = ndimage.label(inside)
    for part in range(1, count + 1):  # none is lost, none is left over
        here = parts == part
        assert (ids[here] > 0).all() if here.sum() >= t.min_size else t.hole or not ids[here].any()
    np.testing.assert_array_equal(ids, label_instances(maps.copy(order="F"), t, target=target))


@settings(max_examples=60, deadline=None)
@given(probabilities(), st.lists(thresholds(), max_size=6), st.sampled_from(["distance", "borders"]))
def test_by_each_of_several_thresholds_as_by_each_alone(maps: np.ndarray, several: list[Thresholds], target: Any) -> None:
    maps = maps if target == "distance" else maps[:2]
    for found, t in zip(label_by_each(maps, several, target=target), several, strict=True):
        np.testing.assert_array_equal(found, label_instances(maps, t, target=target))


@settings(max_examples=60, deadline=None)
@given(probabilities(), thresholds())
def test_a_plane_is_a_volume_of_one_plane(maps: np.ndarray, t: Thresholds) -> None:
    if maps.ndim == 3:
        for axis in (1, 2, 3):
            volume = np.expand_dims(maps, axis)
            np.testing.assert_array_equal(label_instances(volume, t).squeeze(axis - 1), label_instances(maps, t))


def discs(shape: tuple[int, ...], centres: list[tuple[int, ...]], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Perfect maps of balls that touch, and their ids."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    apart = np.stack([np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre))) for centre in centres])
    ids = np.where(apart.min(axis=0) <= radius, apart.argmin(axis=0) + 1, 0)
    distance = np.zeros(shape)
    for i in range(1, len(centres) + 1):
        depth = ndimage.distance_transform_edt(np.pad(ids, 1, mode="edge") == i)[(slice(1, -1),) * len(shape)]
        distance += depth / depth.max()
    border = np.zeros(shape)
    return np.stack([ids == 0, ids > 0, distance, border]).astype(np.float32), ids


@pytest.mark.parametrize(("shape", "centres"), [((40, 60), [(15, 14), (15, 32), (30, 22), (28, 50)]),
                                                ((20, 30, 30), [(9, 8, 8), (9, 8, 22), (9, 22, 15)])])
def test_touching_objects_come_apart(shape: tuple[int, ...], centres: list[tuple[int, ...]]) -> None:
    maps, truth = discs(shape, centres, 10)
    assert ndimage.label(truth > 0)[1] < len(centres)
    found = label_instances(maps, Thresholds())
    assert found.max() == len(centres)
    for i in range(1, len(centres) + 1):
        own = found == found[centres[i - 1]]
        assert (own & (truth == i)).sum() / (own | (truth == i)).sum() > 0.97


def test_paper_variant_needs_a_valley_to_grow_over_the_border() -> None:
    p = np.full((9, 21), 0.9, np.float32)
    p[:, 10] = 0.4
    maps = np.stack([1 - p, p])
    apart = label_instances(maps, Thresholds(foreground=0.5), target="borders")
    assert apart.max() == 2
    assert (apart[:, 10] == 0).all()
    grown = label_instances(maps, Thresholds(foreground=0.3, valley=0.5), target="borders")
    assert grown.max() == 2
    assert (grown > 0).all()
    assert label_instances(maps, Thresholds(foreground=0.3, valley=0.51), target="borders").max() == 1


def flat(foreground: np.ndarray, interior: np.ndarray) -> np.ndarray:
    return np.stack([1 - foreground, foreground, interior, np.zeros(foreground.shape)]).astype(np.float32)


def test_an_object_with_a_weak_middle_stays() -> None:
    foreground = np.zeros((10, 20))
    foreground[2:6, 2:6] = foreground[2:6, 10:14] = 1
    maps = flat(foreground, foreground * np.where(np.arange(20) < 8, 0.9, 0.1))
    assert label_instances(maps, Thresholds(min_size=16)).max() == 2
    assert label_instances(maps, Thresholds(min_size=17)).max() == 0


def test_pieces_too_small_join_their_neighbour_or_each_other() -> None:
    foreground, interior = np.ones((1, 12)), np.full((1, 12), 0.1)
    interior[0, [2, 11]] = 0.9
    assert label_instances(flat(foreground, interior), Thresholds()).tolist() == [[1] * 7 + [2] * 5]
    assert label_instances(flat(foreground, interior), Thresholds(min_size=6)).tolist() == [[1] * 12]
    assert label_instances(flat(foreground, interior), Thresholds(min_size=8)).tolist() == [[1] * 12]
    assert label_instances(flat(foreground, interior), Thresholds(min_size=13)).tolist() == [[0] * 12]


def test_ripples_are_no_middles_at_any_height() -> None:
    for height in (0.0, 0.3, 0.6):
        interior = height + np.array([[0.0, 0.2, 0.15, 0.3, 0.05, 0.1, 0.0]])
        maps = flat(np.ones((1, 7)), interior)
        assert [int(label_instances(maps, Thresholds(valley=v)).max()) for v in (0.01, 0.049, 0.051, 0.06)] == [3, 3, 1, 1]


def test_smoothing_is_round_in_micrometres() -> None:
    interior = np.zeros((21, 21, 21), np.float32)
    interior[10, 10, 10] = 1
    out = smoothed(interior, 2, {"z": 2.0, "y": 1.0, "x": 1.0})
    grid = np.stack(np.mgrid[:21, :21, :21]) - 10
    spread = [(out * g**2).sum() / out.sum() for g in grid]
    np.testing.assert_allclose(spread, [1, 4, 4], rtol=0.05)
    assert smoothed(interior, 0) is interior


def brute_holes(ids: np.ndarray, share: float) -> np.ndarray:
    out = ids.copy()
    regions, count = ndimage.label(ids == 0, np.ones((3,) * ids.ndim))
    for r in range(1, count + 1):
        region = regions == r
        around = ndimage.binary_dilation(np.pad(region, 1), np.ones((3,) * ids.ndim)) & ~np.pad(region, 1)
        owners = set(np.pad(ids, 1, constant_values=-1)[around].tolist())
        if len(owners) == 1 and (owner := owners.pop()) > 0 and region.sum() <= share * (ids == owner).sum():
            out[region] = owner
    return out


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.int32, st.one_of(hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=10),
                                      hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=5)),
                  elements=st.sampled_from([0, 1, 1, 1, 1, 2])), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_holes_by_brute_force(ids: np.ndarray, share: float) -> None:
    # A corner is only where another object can look into a hole without touching its sides; the rule is by sides there.
    expected = brute_holes(ids, share)
    found = fill_holes(ids, share)
    differ = found != expected
    assert not differ[expected > 0].any()
    if (ids < 2).all():
        assert not differ.any()


def test_holes_of_one_object_are_those_of_regionprops() -> None:
    for seed in range(20):
        field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 40)), 1)
        ids = (label(field > 0) == 1).astype(np.int32)
        (region,) = regionprops(ids)
        expected = np.zeros(ids.shape, np.int32)
        expected[region.slice] = region.image_filled
        # at the edge of the image regionprops sees no background either
        np.testing.assert_array_equal(fill_holes(ids, 1.0), expected)


def test_a_ring_around_another_object_stays_open() -> None:
    ids = np.ones((7, 7), np.int32)
    ids[1:6, 1:6] = 0
    ids[3, 3] = 2
    np.testing.assert_array_equal(fill_holes(ids, 1.0), ids)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=8),
                  elements=st.sampled_from([0, 1, 5, 300, 2**40])))
def test_numbers_in_scan_order(ids: np.ndarray) -> None:
    seen: dict[int, int] = {}
    expected = [seen.setdefault(i, len(seen) + 1) if i else 0 for i in ids.reshape(-1).tolist()]
    assert in_scan_order(ids).reshape(-1).tolist() == expected


@given(st.lists(st.integers(1, 10_000), max_size=300))
def test_min_size_keeps_99_of_100(areas: list[int]) -> None:
    least = min_size_of(areas)
    assert least >= 1
    assert sum(a < least for a in areas) <= 0.01 * len(areas)
    if areas:
        assert least <= max(1, max(areas) // 2)


def test_thresholds_come_back_from_numbers() -> None:
    t = Thresholds(0.4, 0.25, 25, 1.5, 0.3)
    assert Thresholds.from_dict(t.to_dict()) == t
    assert all(type(v) is float for v in t.to_dict().values())
    assert Thresholds.from_dict({"valley": 0.25}) == Thresholds(valley=0.25)
    with pytest.raises(LabelsError, match="tresh"):
        Thresholds.from_dict({"tresh": 1})
    for bad in ({"foreground": 1.5}, {"min_size": 0}, {"sigma": float("nan")}, {"min_size": float("nan")},
                {"min_size": float("inf")}, {"valley": 2.5}):
        with pytest.raises(LabelsError, match=next(iter(bad))):
            Thresholds.from_dict(bad)


def test_what_cannot_work_is_said() -> None:
    for shape in ((3, 4, 4), (4, 4), (4, 2, 2, 2, 2)):
        with pytest.raises(SizeError, match="channels"):
            label_instances(np.zeros(shape, np.float32), Thresholds())
    with pytest.raises(LabelsError, match="not finite"):
        label_instances(np.full((4, 3, 3), np.nan, np.float32), Thresholds())
    assert label_instances(np.zeros((4, 0, 5), np.float32), Thresholds(sigma=1)).shape == (0, 5)
