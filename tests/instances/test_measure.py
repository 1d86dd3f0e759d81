"""Measurements against scikit-image, formulas and brute force."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops_table

from biomask.errors import LabelsError, SizeError
from biomask.instances import measure_objects
from biomask.instances.surface import direction_shares


def blobs(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """Touching and lone objects with gaps between their ids."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0.7, 2.5))
    ids = label(np.digitize(field, [0, field.std()]), connectivity=1).astype(np.int32)
    return np.where(ids > 0, ids * 3 + 1, 0), rng


@pytest.mark.parametrize("spacing", [None, {"y": 0.5, "x": 0.5}, {"y": 0.7, "x": 0.2}])
@pytest.mark.parametrize("seed", range(6))
def test_plane_against_scikit_image(seed: int, spacing: dict[str, float] | None) -> None:
    ids, rng = blobs((70, 90), seed)
    image = rng.integers(0, 60_000, (2, 70, 90)).astype(np.uint16)
    p = rng.uniform(size=ids.shape).astype(np.float32)
    got = measure_objects(ids, image=image, probability=p, spacing=spacing, channel_names=["DAPI", "GFP"])
    names = ["label", "area", "centroid", "bbox", "eccentricity", "solidity", "equivalent_diameter_area", "axis_major_length",
             "axis_minor_length", "perimeter_crofton"]
    plain = regionprops_table(ids, properties=names)
    grey = regionprops_table(ids, intensity_image=np.moveaxis(np.stack([*image, p]).astype(np.float64), 0, -1),
                             properties=["intensity_mean"])
    pairs = {"id": plain["label"], "area_px": plain["area"], "centroid_y_px": plain["centroid-0"],
             "centroid_x_px": plain["centroid-1"],
             "bbox_y_start_px": plain["bbox-0"], "bbox_x_start_px": plain["bbox-1"], "bbox_y_stop_px": plain["bbox-2"],
             "bbox_x_stop_px": plain["bbox-3"], "perimeter_px": plain["perimeter_crofton"], "solidity": plain["solidity"],
             "equivalent_diameter_px": plain["equivalent_diameter_area"], "major_axis_px": plain["axis_major_length"],
             "minor_axis_px": plain["axis_minor_length"], "mean_intensity_DAPI": grey["intensity_mean-0"],
             "mean_intensity_GFP": grey["intensity_mean-1"], "probability": grey["intensity_mean-2"]}
    if spacing is None:
        assert not [name for name in got if "_um" in name]
        pairs["eccentricity"] = plain["eccentricity"]
    else:
        sized = regionprops_table(ids, properties=names[:-1], spacing=(spacing["y"], spacing["x"]))
        pairs |= {"area_um2": sized["area"], "centroid_y_um": sized["centroid-0"], "centroid_x_um": sized["centroid-1"],
                  "equivalent_diameter_um": sized["equivalent_diameter_area"], "major_axis_um": sized["axis_major_length"],
                  "minor_axis_um": sized["axis_minor_length"], "eccentricity": sized["eccentricity"]}
        if spacing["y"] == spacing["x"]:
            pairs["perimeter_um"] = plain["perimeter_crofton"] * spacing["y"]
    assert set(got) - set(pairs) <= {"touching_border", "perimeter_um"}
    for name, expected in pairs.items():
        np.testing.assert_allclose(got[name], expected, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.filterwarnings("ignore:Failed to get convex hull", "ignore:divide by zero")
@pytest.mark.parametrize("seed", range(3))
def test_volume_against_scikit_image(seed: int) -> None:
    ids, rng = blobs((9, 14, 16), seed)
    image = rng.normal(size=(1, *ids.shape))
    spacing = {"z": 2.0, "y": 0.5, "x": 0.4}
    got = measure_objects(ids, image=image, spacing=spacing)
    names = ["label", "area", "centroid", "bbox", "solidity", "equivalent_diameter_area", "inertia_tensor_eigvals"]
    plain = regionprops_table(ids, properties=names)
    sized = regionprops_table(ids, properties=names, spacing=tuple(spacing.values()))
    grey = regionprops_table(ids, intensity_image=image[0], properties=["intensity_mean"])
    pairs = {"id": plain["label"], "volume_px": plain["area"], "volume_um3": sized["area"],
             "equivalent_diameter_px": plain["equivalent_diameter_area"],
             "equivalent_diameter_um": sized["equivalent_diameter_area"], "mean_intensity_1": grey["intensity_mean"]}
    for i, axis in enumerate("zyx"):
        pairs |= {f"centroid_{axis}_px": plain[f"centroid-{i}"], f"centroid_{axis}_um": sized[f"centroid-{i}"],
                  f"bbox_{axis}_start_px": plain[f"bbox-{i}"], f"bbox_{axis}_stop_px": plain[f"bbox-{i + 3}"]}
    for unit, table in (("px", plain), ("um", sized)):
        a, b, c = (table[f"inertia_tensor_eigvals-{i}"] for i in range(3))
        pairs |= {f"major_axis_{unit}": np.sqrt(np.clip(10 * (a + b - c), 0, None)),
                  f"minor_axis_{unit}": np.sqrt(np.clip(10 * (b + c - a), 0, None))}
    for name, expected in pairs.items():
        # The root of what rounding leaves of 0 is large.
        np.testing.assert_allclose(got[name], expected, rtol=1e-6, atol=1e-5 if "axis" in name else 1e-6, err_msg=name)
    assert np.isnan(got["eccentricity"]).all()
    flat = ~np.isfinite(plain["solidity"]) | (plain["solidity"] == 0)  # scikit-image gives up on those
    np.testing.assert_allclose(got["solidity"][~flat], plain["solidity"][~flat])
    assert ((got["solidity"] > 0) & (got["solidity"] <= 1)).all()


def crossings_one_by_one(mask: np.ndarray, sizes: tuple[float, ...]) -> float:
    """Cauchy-Crofton pixel by pixel, with each direction's share counted on a fine sampling of all directions."""
    steps = [s for s in product((-1, 0, 1), repeat=mask.ndim) if s > (0,) * mask.ndim]
    vectors = np.array(steps) * sizes
    units = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    samples = np.random.default_rng(0).normal(size=(200_000, mask.ndim))
    nearest = abs(samples @ units.T).argmax(axis=1)
    padded = np.pad(mask, 1)
    total = 0.0
    for k, step in enumerate(steps):
        enter = sum(not padded[tuple(np.subtract(at, step))] for at in np.argwhere(padded))
        total += (nearest == k).mean() * enter * np.prod(sizes) / np.linalg.norm(vectors[k])
    return float(total * (np.pi if mask.ndim == 2 else 4))


@pytest.mark.parametrize("sizes", [(0.5, 0.5), (0.2, 0.7), (1.0, 1.0, 1.0), (2.0, 0.5, 0.4)])
def test_boundary_one_by_one(sizes: tuple[float, ...]) -> None:
    ids, _ = blobs((20, 20) if len(sizes) == 2 else (6, 8, 8), 3)
    axes = "zyx"[-len(sizes):]
    got = measure_objects(ids, spacing=dict(zip(axes, sizes)))
    column = got["perimeter_um" if len(sizes) == 2 else "surface_um2"]
    for number, value in list(zip(got["id"].tolist(), column.tolist()))[:6]:
        assert value == pytest.approx(crossings_one_by_one(ids == number, sizes), rel=0.01)


@pytest.mark.parametrize("sizes", [(1.0, 1.0), (1.0, 0.6), (1.0, 1.0, 1.0), (1.0, 0.5, 0.5)])
@pytest.mark.parametrize("radius", [5.0, 9.0, 14.0])
def test_boundary_of_balls(sizes: tuple[float, ...], radius: float) -> None:
    centre = np.random.default_rng(1).uniform(17, 18, len(sizes))
    grid = np.meshgrid(*(np.arange(0, 36, s) for s in sizes), indexing="ij")
    ids = (sum((g - c) ** 2 for g, c in zip(grid, centre)) <= radius**2).astype(np.uint8)
    got = measure_objects(ids, spacing=dict(zip("zyx"[-len(sizes):], sizes)))
    if len(sizes) == 2:
        assert got["perimeter_um"][0] == pytest.approx(2 * np.pi * radius, rel=0.03)
        assert got["eccentricity"][0] < 0.35
    else:
        assert got["surface_um2"][0] == pytest.approx(4 * np.pi * radius**2, rel=0.03)
    assert got["major_axis_um"][0] == pytest.approx(2 * radius, rel=0.04)
    assert got["minor_axis_um"][0] == pytest.approx(2 * radius, rel=0.04)


def test_direction_shares_add_up() -> None:
    square = direction_shares(np.array([[0, 1], [1, 1], [1, 0], [1, -1]]) / np.array([[1], [2**0.5], [1], [2**0.5]]))
    np.testing.assert_allclose(square, 0.25)


def test_neighbours_do_not_change_an_object() -> None:
    ids, _ = blobs((40, 40), 2)
    whole = measure_objects(ids)
    for row, number in enumerate(whole["id"].tolist()):
        alone = measure_objects(np.where(ids == number, ids, 0))
        for name, values in whole.items():
            np.testing.assert_allclose(alone[name][0], values[row], rtol=1e-12, err_msg=name)


def test_long_images_are_summed_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, rng = blobs((60, 30), 4)
    image, p = rng.uniform(size=(3, 60, 30)), rng.uniform(size=(60, 30))
    whole = measure_objects(ids, image=image, probability=p)
    monkeypatch.setattr("biomask.instances.measure.STRIP", 100)
    for name, values in measure_objects(ids, image=image, probability=p).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-12, atol=1e-12)


def test_touching_the_border() -> None:
    ids = np.array([[0, 1, 0, 0, 0], [0, 0, 0, 2, 0], [3, 0, 0, 0, 0], [0, 0, 4, 0, 0], [0, 0, 0, 0, 0]])
    assert measure_objects(ids)["touching_border"].tolist() == [True, False, True, False]
    assert measure_objects(ids[None])["touching_border"].tolist() == [True, False, True, False]  # a volume of one plane
    assert measure_objects(ids[:4])["touching_border"].tolist() == [True, False, True, True]


def test_classes_by_name_or_number() -> None:
    ids = np.array([[1, 0, 7]])
    assert measure_objects(ids, classes={1: 2, 7: 1})["class"].tolist() == [2, 1]
    of = np.array([0, 1, 0, 0, 0, 0, 0, 2])
    assert measure_objects(ids, classes=of, names=["background", "cell", "=nucleus"])["class"].tolist() == ["cell", "=nucleus"]
    with pytest.raises(LabelsError, match="no class"):
        measure_objects(ids, classes={1: 2})
    with pytest.raises(LabelsError, match="name"):
        measure_objects(ids, classes={1: 1, 7: 2}, names=["background", "cell"])


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (5, 6), (1, 1, 1), (3, 0, 2)])
def test_nothing_and_single_pixels(shape: tuple[int, ...]) -> None:
    none = measure_objects(np.zeros(shape, np.uint8), image=np.zeros((2, *shape)), classes={}, probability=np.zeros(shape))
    assert {len(v) for v in none.values()} == {0}
    if np.prod(shape):
        ids: Any = np.zeros(shape, np.uint16)
        ids[(0,) * ids.ndim] = 65_535
        one = measure_objects(ids)
        assert list(one) == [n for n in none if n[:4] not in ("mean", "clas", "prob")]
        assert one["solidity"].tolist() == [1.0]
        assert one["major_axis_px"].tolist() == [0.0]
        assert one["id"].tolist() == [65_535]


def test_other_shapes_are_refused() -> None:
    ids = np.ones((4, 5), np.uint8)
    with pytest.raises(SizeError, match="image"):
        measure_objects(ids, image=np.zeros((4, 5)))
    with pytest.raises(SizeError, match="probability"):
        measure_objects(ids, probability=np.zeros((5, 4)))
    with pytest.raises(SizeError, match="spacing"):
        measure_objects(ids, spacing={"y": 1.0})
    with pytest.raises(LabelsError):
        measure_objects(np.zeros((4, 5)))
