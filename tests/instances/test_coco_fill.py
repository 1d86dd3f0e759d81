"""Polygons filled as pycocotools fills them, to the pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.errors import LabelsError
from biomask.instances.coco_fill import polygon_bounds
from biomask.instances.runs import Runs

#: pycocotools' own arrays, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def check(polygons: list[list[float]], size: tuple[int, int]) -> None:
    from pycocotools import mask

    expected = mask.merge(mask.frPyObjects(polygons, *size))
    got = Runs.of_bounds([polygon_bounds(polygons, size)], size)
    np.testing.assert_array_equal(Runs.of_counts([expected["counts"].decode()], size).bounds, got.bounds)


@pytest.mark.data
@pytest.mark.parametrize("name", ["instances_train2017", "instances_val2017"])
def test_real_polygons(data_root: Path, name: str) -> None:
    truth = json.loads((data_root / "coco_mini" / "annotations" / f"{name}.json").read_text())
    sizes = {i["id"]: (i["height"], i["width"]) for i in truth["images"]}
    polygons = [(a["segmentation"], sizes[a["image_id"]]) for a in truth["annotations"] if isinstance(a["segmentation"], list)]
    assert any(len(p) > 1 for p, _ in polygons)
    for polygon, size in polygons:
        check(polygon, size)


NUMBERS = st.one_of(st.integers(-4, 24).map(float), st.floats(-4, 24, width=32))


@settings(max_examples=100)
@given(st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=7), min_size=1, max_size=3))
def test_any_polygons(polygons: list[list[tuple[float, float]]]) -> None:
    """Crossing themselves and each other, with repeated points, and in part outside the image."""
    check([[v for point in polygon for v in point] for polygon in polygons], (17, 20))


@pytest.mark.parametrize("polygon", [[1, 2, 3], [1, 2, float("nan"), 4, 5, 6], [[1, 2], [3, 4]], ["a", "b"],
                                     [0, 0, 1e8, 1, 5, 5], [1e12] * 6])
def test_what_is_no_polygon(polygon: list[float]) -> None:
    with pytest.raises(LabelsError):
        polygon_bounds([polygon], (10, 10))


def test_nothing() -> None:
    assert [len(polygon_bounds(p, (10, 10))) for p in ([], [[]])] == [0, 0]
