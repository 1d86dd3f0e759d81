"""QuPath's GeoJSON: every kind of object, and JSON that is none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biomask.errors import LabelsError, MissingPathError, OutOfMemoryError, ReadError
from biomask.instances import outlines, rasterise
from biomask.io import jsons
from biomask.io.geojson import read_geojson, write_geojson
from biomask.shapes import Annotations, Shape

FIXTURES = Path(__file__).parents[1] / "fixtures" / "annotations" / "qupath"
SQUARE = [[1, 1], [4, 1], [4, 4], [1, 4], [1, 1]]


def saved(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def polygon(*rings: Any, **more: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings), **more}


def test_what_qupath_exports() -> None:
    read = read_geojson(FIXTURES / "export.geojson")
    assert [(s.name, s.colour, s.title) for s in read.shapes] == [
        ("Tumor", (200, 0, 0), "Region 1"), ("Tumor: Positive", (250, 62, 62), ""), ("Stroma", (150, 200, 150), ""),
        ("Tumor", (200, 0, 0), ""), ("", None, ""), ("", (0, 0, 255), "")]
    areas = [int(rasterise([s], (60, 60)).array.astype(bool).sum()) for s in read.shapes]
    assert areas[1] == 20 * 20 - 10 * 10 + 6 * 6, "a hole and a second part"
    assert areas[3] == 12 * 12, "the cell, not its nucleus"
    assert areas[5] == 8 * 6, "the child of a frame"
    assert (read.shapes[4].z, read.shapes[4].time) == (3, 1)
    assert (read.size, read.image) == (None, None)
    assert read.left_out == ("annotation 5 Counted (points, without an area)", "annotation 6 (a line, without an area)",
                             "tmaCore 7 A-1 (a frame around objects)", "nuclei of 1 cells (the whole cells are taken)")


def test_an_ellipse_fills_its_box() -> None:
    ellipse = read_geojson(FIXTURES / "export.geojson").shapes[2]
    np.testing.assert_allclose(ellipse.bounds, (-2, 26, 10, 34), atol=1e-9)
    assert len(ellipse.rings[0]) > 20, "not the coarse polygon that the file has"


def test_nuclei_instead_of_cells() -> None:
    read = read_geojson(FIXTURES / "export.geojson", kinds={"cell"}, nuclei=True)
    (nucleus,) = read.shapes
    assert nucleus.bounds == (24, 33, 29, 38)
    assert all("not one of the wanted cell" in name for name in read.left_out)
    assert len(read.left_out) == 8


def test_files_of_old_versions() -> None:
    (shape,) = read_geojson(FIXTURES / "version_0.2.json").shapes
    assert (shape.name, shape.colour) == ("Tumor", (200, 0, 0))


@pytest.mark.parametrize("wrap", [
    lambda f: {"type": "FeatureCollection", "features": [f]}, lambda f: [f], lambda f: f, lambda f: f["geometry"],
    lambda f: {"type": "FeatureCollection", "features": [feature(None, objectType="root", childObjects=[f])]},
    lambda f: feature({"type": "GeometryCollection", "geometries": [f["geometry"], {"type": "Point", "coordinates": [1, 2]}]}),
])
def test_ways_to_hold_a_feature(tmp_path: Path, wrap: Any) -> None:
    (shape,) = read_geojson(saved(tmp_path / "a.geojson", wrap(feature(polygon(SQUARE))))).shapes
    assert shape.bounds == (1, 1, 4, 4)


@pytest.mark.parametrize(("properties", "name", "colour"), [
    ({"classification": "Tumor"}, "Tumor", None), ({"classification": {"name": "A", "color": [1, 2, 3, 255]}}, "A", (1, 2, 3)),
    ({"classification": {"name": "A"}, "color": -16776961}, "A", (0, 0, 255)), ({"classification": {}}, "", None),
    ({"classification": None, "color": [1, 2]}, "", None), ({"classification": {"names": ["A", "B"]}}, "A: B", None),
    ({}, "", None),
])
def test_classes_and_colours(tmp_path: Path, properties: Any, name: str, colour: Any) -> None:
    (shape,) = read_geojson(saved(tmp_path / "a.json", [feature(polygon(SQUARE), **properties)])).shapes
    assert (shape.name, shape.colour) == (name, colour)


@pytest.mark.parametrize(("geometry", "reason"), [
    (None, "no geometry"), ({}, "no geometry"), ({"type": "Circle", "coordinates": [1]}, "'Circle' is not known"),
    (polygon(), "0 different points"), (polygon([[1, 1], [2, 2], [1, 1]]), "2 different points"),
    (polygon([[1, 1], [2, "x"], [1, 3]]), "pairs of numbers"), ({"type": "Polygon", "coordinates": 5}, "pairs of numbers"),
    ({"type": "MultiPolygon", "coordinates": [1, 2]}, "pairs of numbers"), ({"type": "Polygon"}, "pairs of numbers"),
    (polygon([[1, 1], [float("nan"), 2], [1, 3]]), "not finite"), (polygon([[1, 1], [float("inf"), 2], [1, 3]]), "not finite"),
    (polygon([[1, 1], [1e12, 2], [1, 3]]), "beyond any image"), ({"type": "GeometryCollection", "geometries": []}, "no area"),
    ({"type": "GeometryCollection"}, "no area"), ({"type": "Point", "coordinates": [1, 1]}, "a point, without an area"),
])
def test_features_that_are_left_out(tmp_path: Path, geometry: Any, reason: str) -> None:
    read = read_geojson(saved(tmp_path / "a.geojson", [feature(geometry, name="odd one"), feature(polygon(SQUARE))]))
    assert len(read.shapes) == 1
    assert len(read.left_out) == 1
    assert read.left_out[0].startswith("annotation 0 odd one (")
    assert reason in read.left_out[0]


def test_a_hole_without_an_area_takes_nothing_away(tmp_path: Path) -> None:
    (shape,) = read_geojson(saved(tmp_path / "a.geojson", feature(polygon(SQUARE, [[2, 2], [2, 2], [2, 2]])))).shapes
    assert len(shape.rings) == 1


@pytest.mark.parametrize(("text", "reason"), [
    ("", "damaged or not JSON"), ("{", "damaged or not JSON"), ('{"type": "Feature"', "damaged"),
    ("[1, 2]", "something else than GeoJSON"),
    ('{"a": 1}', "not GeoJSON"), ('"text"', "not GeoJSON"), ('{"type": "FeatureCollection"}', "not GeoJSON"),
    ("[" * 100_000, "too deep|damaged"), ('{"a":' * 100_000, "too deep|damaged"), ("[" + "9" * 10_000 + "]", "number too long"),
    ('[{"a": 1}]', "something else"), ("\x00", "damaged or not JSON"),
])
def test_json_that_is_none(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(ReadError, match=reason):
        read_geojson(path)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.geojson").write_bytes(b'\xff\xfe{"a"')
    with pytest.raises(ReadError, match="UTF-8"):
        read_geojson(tmp_path / "a.geojson")
    with pytest.raises(MissingPathError):
        read_geojson(tmp_path / "none.geojson")
    with pytest.raises(ReadError, match="cannot be read"):
        read_geojson(tmp_path)
    (tmp_path / "b.geojson.gz").write_bytes(b"not packed")
    with pytest.raises(ReadError, match="cannot be read"):
        read_geojson(tmp_path / "b.geojson.gz")
    (tmp_path / "c.geojson.gz").write_bytes(gzip.compress(b"[" + b" " * 100_000 + b"]")[:-12])
    with pytest.raises(ReadError, match="cannot be read"):
        read_geojson(tmp_path / "c.geojson.gz")
    monkeypatch.setattr(jsons, "SMALL", 1000)
    (tmp_path / "d.geojson.gz").write_bytes(gzip.compress(b"[" + b" " * 1_000_000 + b"]"))
    with pytest.raises(ReadError, match="more than"):
        read_geojson(tmp_path / "d.geojson.gz")
    saved(tmp_path / "e.geojson", [feature(polygon(SQUARE))])
    with pytest.raises(ReadError, match="has more than 10 bytes"):
        jsons.read_json(tmp_path / "e.geojson", largest=10)


def test_byte_order_marks_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_bytes(b"\xef\xbb\xbf" + json.dumps([feature(polygon(SQUARE))]).encode())
    assert len(read_geojson(tmp_path / "a.geojson").shapes) == 1


def test_written_form_is_what_qupath_reads(tmp_path: Path) -> None:
    """Valid polygons with holes, closed rings, a colour with each class, the plane where there is one."""
    import shapely

    mask = np.ones((9, 9), int)
    mask[2:5, 2:6] = 0
    mask[3, 3] = 2
    ring, island = outlines(mask, names={1: "Tumor: Positive", 2: "ignore*"}, colours={1: (1, 2, 3)})
    write_geojson(tmp_path / "a.geojson", Annotations((ring, island, Shape(island.rings, z=2, group=-7, title="cell 5"))))
    content = json.loads((tmp_path / "a.geojson").read_text("utf-8"))
    assert content["type"] == "FeatureCollection"
    first, second, third = content["features"]
    assert first["properties"] == {"objectType": "annotation",
                                   "classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}}
    assert second["properties"]["classification"]["name"] == "ignore*"
    assert len(second["properties"]["classification"]["color"]) == 3, "QuPath refuses a class without a colour"
    assert third["geometry"]["plane"] == {"c": -1, "z": 2, "t": 0}
    assert "classification" not in third["properties"]
    assert third["properties"]["name"] == "cell 5"
    for f in content["features"]:
        geometry = shapely.from_geojson(json.dumps(f["geometry"]))
        assert geometry.is_valid
    assert shapely.from_geojson(json.dumps(first["geometry"])).area == 81 - 12
    again = read_geojson(tmp_path / "a.geojson")
    assert [(s.z, s.time, s.group, s.title) for s in again.shapes[2:]] == [(2, 0, -7, "cell 5")]


def test_packed_files(tmp_path: Path) -> None:
    shapes = Annotations(tuple(outlines(np.eye(5, dtype=int) * np.arange(5), names={1: "ä", 2: 'a "b"\n', 3: "\udcff"})))
    write_geojson(tmp_path / "a.geojson.gz", shapes)
    write_geojson(tmp_path / "b.geojson.gz", shapes)
    assert (tmp_path / "a.geojson.gz").read_bytes() == (tmp_path / "b.geojson.gz").read_bytes()
    read = read_geojson(tmp_path / "a.geojson.gz")
    assert [s.name for s in read.shapes] == ["ä", 'a "b"\n', "\udcff", ""]


def test_fractions_survive_in_full(tmp_path: Path) -> None:
    ring = np.random.default_rng(0).uniform(-5, 1e5, (50, 2))
    write_geojson(tmp_path / "a.geojson", Annotations((Shape((ring,)),)))
    np.testing.assert_array_equal(read_geojson(tmp_path / "a.geojson").shapes[0].rings[0], ring)


def test_nothing_to_write(tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", Annotations(()))
    assert read_geojson(tmp_path / "a.geojson") == Annotations(())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    good, bad = Shape((np.array(SQUARE[:4], float),)), Shape((np.array([(0, 0), (np.nan, 1), (1, 1)]),))
    write_geojson(tmp_path / "a.geojson", Annotations((good,)))
    before = (tmp_path / "a.geojson").read_bytes()
    with pytest.raises(LabelsError, match="not finite"):
        write_geojson(tmp_path / "a.geojson", Annotations((good, bad)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.geojson"]
    assert (tmp_path / "a.geojson").read_bytes() == before


def box(left: float, top: float, size: float) -> list[list[float]]:
    return [[left, top], [left + size, top], [left + size, top + size], [left, top + size], [left, top]]


@pytest.mark.parametrize(("region", "held"), [
    (polygon(box(0, 0, 50)), True), (polygon(box(12, 12, 50)), True), (polygon(box(17, 17, 50)), False),
    (polygon(box(0, 0, 50), box(5, 5, 20)), False), (polygon(box(0, 0, 50), plane={"z": 1, "t": 0}), False),
    (polygon(box(0, 0, 50), plane={"z": 3, "t": 0}), True)])
def test_a_region_is_what_holds_the_centre_of_a_detection(tmp_path: Path, region: Any, held: bool) -> None:
    found = feature(polygon(box(10, 10, 10), plane={"z": 3, "t": 0}), objectType="detection")
    path = saved(tmp_path / "a.geojson", [feature(region, objectType="annotation"), found])
    read = read_geojson(path, regions=False)
    assert len(read.shapes) == (1 if held else 2)
    assert read.left_out == (("annotation 0 (it holds 1 detection)",) if held else ())
    assert len(read_geojson(path).shapes) == 2


def test_annotations_in_annotations_stay(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.geojson", [feature(polygon(box(0, 0, 50))), feature(polygon(box(10, 10, 10)))])
    assert len(read_geojson(path, regions=False).shapes) == 2


def test_qupath_0_2_says_the_kind_as_id(tmp_path: Path) -> None:
    content = [{"type": "Feature", "id": kind, "geometry": polygon(box(at, at, size)), "properties": {}} for kind, at, size in (
        ("PathRootObject", 0, 99), ("PathAnnotationObject", 0, 50), ("PathCellObject", 10, 10), ("PathDetectionObject", 30, 8))]
    read = read_geojson(saved(tmp_path / "a.json", content), regions=False)
    assert [s.bounds[0] for s in read.shapes] == [10, 30]
    assert read.left_out == ("root 0 (a frame around objects)", "annotation 1 (it holds 2 detections)")


def test_a_text_whose_content_would_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    path = saved(tmp_path / "a.geojson", [feature(polygon(box(0, 0, 5)))])
    packed = tmp_path / "b.geojson.gz"
    packed.write_bytes(gzip.compress(path.read_bytes() + b" " * 5000))
    monkeypatch.setattr(jsons, "_LEAST", 100)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 8 * path.stat().st_size - 1}))
    for file in (path, packed):
        with pytest.raises(OutOfMemoryError, match=r"geojson.*memory") as caught:
            read_geojson(file)
        assert "export fewer" in str(caught.value.fix)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 8 * path.stat().st_size}))
    assert len(read_geojson(path).shapes) == 1
