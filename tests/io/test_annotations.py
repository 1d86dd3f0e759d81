"""All formats together: which is which, and from any one to any other and back."""

from __future__ import annotations

import gzip
import json
import zipfile
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask.errors import MissingPathError, ReadError
from biomask.instances import outlines, rasterise
from biomask.io import annotations as io_annotations
from biomask.io.annotations import SHAPE_READERS, SHAPE_SUFFIXES, SHAPE_WRITERS, read_shapes, sniff
from biomask.io.roi_writer import write_roi_zip
from biomask.io.rois import read_rois
from biomask.shapes import Annotations, Shape

FIXTURES = Path(__file__).parents[1] / "fixtures" / "annotations"

#: Touching objects, holes, objects of one pixel, objects at borders: whatever random labels have.
LABELS = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=st.integers(0, 4))
NAMES = st.dictionaries(st.integers(1, 4),
                        st.text(st.characters(min_codepoint=33, max_codepoint=0x9FFF, exclude_categories=["Cs", "Nd"]),
                                                   min_size=1, max_size=8), min_size=4, max_size=4)


def through(path: Path, kind: str, annotations: Annotations) -> Annotations:
    """Written and read again; formats that leave them out get back the image's name and size."""
    file = path / f"{kind}{SHAPE_SUFFIXES[kind]}"
    SHAPE_WRITERS[kind](file, annotations)
    assert sniff(file) == kind
    (read,) = read_shapes(file)
    assert not read.left_out
    return replace(read, size=annotations.size, image=annotations.image)


@pytest.mark.parametrize(("one", "other"), list(product(SHAPE_WRITERS, SHAPE_WRITERS)))
def test_from_one_to_the_other_and_back(tmp_path_factory: pytest.TempPathFactory, one: str, other: str) -> None:
    """Pixels, objects and classes stay; nothing of them is rounded, since outlines of pixels are whole numbers."""
    folder = tmp_path_factory.mktemp("pairs")

    @given(LABELS, NAMES)
    @settings(max_examples=12, deadline=None)
    def check(labels: np.ndarray, names: dict[int, str]) -> None:
        start = Annotations(tuple(outlines(labels, names=names)), labels.shape, (), "image 1.png")
        end = through(folder, one, through(folder, other, through(folder, one, start)))
        order = np.unique(np.append(labels, 0), return_inverse=True)[1][:-1].reshape(labels.shape)
        drawn = rasterise(end.shapes, labels.shape)
        np.testing.assert_array_equal(drawn.array, order)
        assert (drawn.overlaps, drawn.empty) == (0, ())
        for number in np.unique(labels[labels > 0]):
            covered = [s for s in end.shapes if (rasterise([s], labels.shape).array[labels == number] > 0).any()]
            assert {s.name for s in covered} == {names[int(number)]}

    check()


@pytest.mark.parametrize(("one", "other"), list(product(SHAPE_WRITERS, SHAPE_WRITERS)))
def test_free_outlines_stay_to_a_256th(tmp_path: Path, one: str, other: str) -> None:
    """ImageJ keeps float32, napari counts from pixel centres; the others keep every bit."""
    rng = np.random.default_rng(0)
    rings = [rng.uniform(0, 50, (7, 2)) + 60 * i for i in range(4)]
    start = Annotations(tuple(Shape((r,), "cell") for r in rings), (300, 300), (), "a.png")
    end = through(tmp_path, one, through(tmp_path, other, start))
    for ring, shape in zip(rings, end.shapes, strict=True):
        np.testing.assert_allclose(shape.rings[0], ring, rtol=0, atol=1 / 256)
        if not {"imagej", "napari"} & {one, other}:
            np.testing.assert_array_equal(shape.rings[0], ring)


@pytest.mark.parametrize(("one", "other"), list(product(["imagej", "geojson", "napari"], repeat=2)))
def test_volumes_from_one_to_the_other(tmp_path: Path, one: str, other: str) -> None:
    labels = np.random.default_rng(1).integers(0, 4, (4, 6, 7))
    end = through(tmp_path, one,
                  through(tmp_path, other, Annotations(tuple(outlines(labels, names={i: f"c{i}" for i in range(4)})))))
    np.testing.assert_array_equal(rasterise(end.shapes, labels.shape).array, np.vectorize({
        0: 0, **{v: i for i, v in enumerate(dict.fromkeys(s.group for s in outlines(labels)), 1)}}.get)(labels))


@pytest.mark.parametrize(("file", "kind"), [
    ("imagej/RoiSet.zip", "imagej"), ("imagej/ring.roi", "imagej"), ("napari/shapes.csv", "napari"),
    ("napari/shapes_zyx.csv", "napari"),
    ("labelme/cells.json", "labelme"), ("qupath/export.geojson", "geojson"), ("qupath/version_0.2.json", "geojson"),
    ("coco/instances.json", "coco"), ("imagej/selection.tif", None), ("README.md", None),
])
def test_which_is_which(file: str, kind: str | None) -> None:
    assert sniff(FIXTURES / file) == kind


@pytest.mark.data
def test_real_coco_files_are_told(data_root: Path) -> None:
    found = {p.name: sniff(p) for p in (data_root / "coco_mini" / "annotations").glob("*.json")}
    assert len(found) == 4
    assert set(found.values()) == {"coco"}


LONG = "A" * 200_000


@pytest.mark.parametrize(("name", "text", "kind"), [
    ("a.json", json.dumps({"version": "4", "imageData": LONG, "shapes": [{"label": "a", "shape_type": "polygon", "points": []}]}),
     "labelme"),
    ("a.json", json.dumps({"shapes": [{"label": "a", "points": [[1, 2]], "shape_type": "polygon"}], "imageData": LONG}), "labelme"),
    ("a.json", json.dumps({"images": [{"id": i, "file_name": "x"} for i in range(9000)], "annotations": []}), "coco"),
    ("a.json", json.dumps({"annotations": [{"image_id": i, "segmentation": [[1] * 50]} for i in range(3000)], "images": []}),
     "coco"),
    ("a.json", json.dumps({"info": {"description": LONG}, "images": [], "categories": [{"supercategory": "x"}]}), "coco"),
    ("a.json", json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature"}]}), "geojson"),
    ("a.json", "\ufeff [ " + json.dumps({"type": "Feature", "geometry": {}}) + "]", "geojson"),
    ("a.geojson", json.dumps({"type": "Polygon", "coordinates": []}), "geojson"),
    ("a.json", json.dumps({"name": "settings", "images": 3}), None), ("a.json", json.dumps({"shapes": 3}), None),
    ("a.json", "[1, 2, 3]", None),
    ("a.json", "", None), ("a.json", '{"images', None), ("a.json", "[" * 1000, None), ("a.json", '["shapes"]', None),
    ("a.json", json.dumps([{"image_id": 1, "segmentation": {}, "score": 0.5}]), None),
    ("dataset_info.json", json.dumps({"info": "of this folder", "files": ["a", "b"]}), None),
    ("split.csv", "file,split,group\na.png,train,1\n", None), ("points.csv", "index,axis-0,axis-1\n0,1,2\n", None),
    ("a.csv", "", None),
    ("A.CSV", '"index","shape-type","vertex-index","axis-0","axis-1"\r\n', "napari"), ("a.txt", "index,shape-type", None),
])
def test_names_and_beginnings(tmp_path: Path, name: str, text: str, kind: str | None) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert sniff(tmp_path / name) == kind


def test_packed_geojson_and_odd_files(tmp_path: Path) -> None:
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress((FIXTURES / "qupath" / "export.geojson").read_bytes()))
    assert sniff(tmp_path / "a.geojson.gz") == "geojson"
    assert len(read_shapes(tmp_path / "a.geojson.gz")[0].shapes) == 6
    (tmp_path / "b.json.gz").write_bytes(b"not packed")
    (tmp_path / "c.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / "d.roi").write_bytes(b"")
    (tmp_path / "e.json").mkdir()
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as file:
        file.writestr("a.png", b"")
    for name in ("b.json.gz", "c.zip", "d.roi", "e.json", "f.zip", "none.json"):
        assert sniff(tmp_path / name) is None
    with pytest.raises(ReadError, match="holds no annotations that are known"):
        read_shapes(tmp_path / "f.zip")
    with pytest.raises(MissingPathError):
        read_shapes(tmp_path / "none.json")


def test_every_reader_refuses_the_files_of_others(tmp_path: Path) -> None:
    files = [p for p in FIXTURES.rglob("*") if p.is_file()]
    for kind, path in product(SHAPE_READERS, files):
        if sniff(path) != kind:
            with pytest.raises(ReadError):
                SHAPE_READERS[kind](path)


@given(st.binary(max_size=200), st.sampled_from(sorted(SHAPE_READERS)))
@settings(max_examples=150, deadline=None)
def test_no_bytes_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, data: bytes, kind: str) -> None:
    path = tmp_path_factory.getbasetemp() / "random.bin"
    path.write_bytes(data)
    with suppress(ReadError):
        SHAPE_READERS[kind](path)


@given(st.integers(0, 2**31), st.sampled_from(["imagej/RoiSet.zip", "imagej/ring.roi", "napari/shapes.csv", "labelme/cells.json",
                                               "qupath/export.geojson", "coco/instances.json"]))
@settings(max_examples=200, deadline=None)
def test_damaged_files_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, seed: int, file: str) -> None:
    """Some bytes changed, or the end cut off: either it is read or it is a ReadError."""
    rng = np.random.default_rng(seed)
    data = bytearray((FIXTURES / file).read_bytes())
    for place in rng.integers(0, len(data), rng.integers(1, 6)):
        data[place] = rng.integers(0, 256)
    path = tmp_path_factory.getbasetemp() / f"damaged{Path(file).suffix}"
    path.write_bytes(data[: rng.integers(1, len(data)) if rng.random() < 0.2 else None])
    kind = sniff(FIXTURES / file)
    assert kind is not None
    sniff(path)
    with suppress(ReadError):
        SHAPE_READERS[kind](path)


def test_a_file_is_looked_at_once_until_it_changes(tmp_path, monkeypatch):
    looked = []
    real = io_annotations.glance
    monkeypatch.setattr(io_annotations, "glance", lambda path: looked.append(path) or real(path))
    path = tmp_path / "a.json"
    path.write_text('{"shapes": [], "imagePath": "a.png"}')
    assert [sniff(path) for _ in range(3)] == ["labelme"] * 3
    assert len(looked) == 1
    path.write_text('{"type": "FeatureCollection", "features": []}')
    assert sniff(path) == "geojson"
    path.unlink()
    assert sniff(path) is None


@pytest.mark.parametrize("name", ["._a", ".:b", "._"])
def test_a_name_like_those_of_file_managers_is_read_again(tmp_path, name):
    shape = Shape((np.array([[1.0, 1], [5, 1], [5, 5]]),), name)
    write_roi_zip(tmp_path / "a.zip", Annotations((shape,)))
    assert sniff(tmp_path / "a.zip") == "imagej"
    assert [s.name for s in read_rois(tmp_path / "a.zip").shapes] == [name]
