"""objects.csv, read back."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from biomask.errors import SizeError
from biomask.instances import ObjectsTable, measure_objects, object_columns, objects_csv


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def measured(seed: int = 0, dims: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 4, (6,) * dims)
    return measure_objects(ids, image=rng.uniform(-1e-4, 1e6, (1, *ids.shape)), spacing=dict.fromkeys("zyx", 0.123),
                           classes={1: 1, 2: 2, 3: 1}, names=["background", 'round, "small"', "line\nbreak"],
                           probability=rng.uniform(size=ids.shape))


@pytest.mark.parametrize("dims", [2, 3])
def test_reads_back(dims: int) -> None:
    columns = measured(dims=dims)
    rows = read(objects_csv({"a, b": columns, "c": columns}))
    assert [r["image"] for r in rows] == ["a, b"] * 3 + ["c"] * 3
    assert list(rows[0]) == ["image", *columns]
    for name, values in columns.items():
        cells = [r[name] for r in rows[:3]]
        if name == "class":
            assert cells == values.tolist()
        elif name == "eccentricity" and dims == 3:
            assert cells == ["", "", ""]
        elif values.dtype.kind == "f":
            np.testing.assert_allclose([float(c) for c in cells], values, rtol=1e-7)
        else:
            assert [int(c) for c in cells] == values.tolist()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("known", [False, True])
def test_columns_are_those_of_measurements(dims: int, known: bool) -> None:
    ids = np.ones((2,) * dims, int)
    names = ["DAPI", "DAPI", "", "4"]
    got = measure_objects(ids, image=np.zeros((4, *ids.shape)), channel_names=names, classes={1: 1} if known else None,
                          probability=ids.astype(float) if known else None, spacing=dict.fromkeys("zyx", 1.0) if known else None)
    assert object_columns(dims, micrometres=known, classes=known, probability=known, channels=4, channel_names=names) == list(got)
    assert [c for c in got if c.startswith("mean_")] == [f"mean_intensity_{n}" for n in ("DAPI", "2", "3", "4")]


def test_streams_image_by_image_and_leaves_what_is_not_known_empty() -> None:
    file = io.StringIO(newline="")
    table = ObjectsTable(file, object_columns(2, micrometres=True, channels=1))
    assert read(file.getvalue()) == []
    table.write("with", measure_objects(np.eye(3, dtype=int), image=np.ones((1, 3, 3)), spacing={"y": 2.0, "x": 3.0}))
    table.write("none", measure_objects(np.zeros((3, 3), int)))
    table.write("without", measure_objects(np.array([[1, 0, 2]])))
    rows = read(file.getvalue())
    assert [(r["image"], r["id"], r["area_px"], r["area_um2"], r["mean_intensity_1"], r["touching_border"]) for r in rows] == [
        ("with", "1", "3", "18", "1", "1"), ("without", "1", "1", "", "", "1"), ("without", "2", "1", "", "", "1")]
    assert table.rows == 3
    assert "\r" not in file.getvalue()


def test_numbers_are_plain() -> None:
    values = np.array([1e-7, 123456789012.0, 0.1 + 0.2, np.nan, np.inf, -0.5])
    rows = read(objects_csv({"a": {"x": values}}))
    assert [r["x"] for r in rows] == ["0.0000001", "123456790000", "0.3", "", "", "-0.5"]


def test_nothing_is_dropped() -> None:
    table = ObjectsTable(io.StringIO(), ["id", "area_px"])
    with pytest.raises(SizeError, match="area_um2"):
        table.write("a", {"id": np.array([1]), "area_um2": np.array([1.0])})
    with pytest.raises(SizeError, match="rows"):
        table.write("a", {"id": np.array([1]), "area_px": np.array([1, 2])})
    for names in (["id", "id"], ["image"]):
        with pytest.raises(SizeError, match="distinct"):
            ObjectsTable(io.StringIO(), names)
