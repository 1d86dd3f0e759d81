"""Annotation files are told from all other files, and give their shapes in whatever way they came."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile

from biomask.data import annotations
from biomask.data.annotations import (
    coco_files,
    coco_images,
    is_annotation,
    list_annotations,
    read_annotations,
    read_coco_entry,
    with_overlays,
)
from biomask.errors import BiomaskError, MissingPathError, OutOfMemoryError, ReadError
from biomask.io.coco import read_coco

FIXTURES = Path(__file__).parents[1] / "fixtures" / "annotations"

ONE_IMAGE = ("imagej/RoiSet.zip", "imagej/ring.roi", "napari/shapes.csv", "labelme/cells.json", "qupath/export.geojson",
             "qupath/version_0.2.json")


@pytest.mark.parametrize("name", ONE_IMAGE)
def test_files_of_each_program(name):
    assert is_annotation(FIXTURES / name)
    assert read_annotations(FIXTURES / name).shapes


@pytest.mark.parametrize("name", ["overlay_stack.tif", "overlay_hyperstack.tif", "selection.tif"])
def test_overlays_in_images(name):
    assert not is_annotation(FIXTURES / "imagej" / name)
    assert read_annotations(FIXTURES / "imagej" / name).shapes


def test_coco_is_about_many_images():
    file = FIXTURES / "coco" / "instances.json"
    assert not is_annotation(file)
    assert coco_files(FIXTURES / "coco") == [file]
    names = coco_images(file)
    assert names
    assert any(read_coco_entry(file, name).shapes for name in names)
    with pytest.raises(ReadError, match="does not list the image nowhere"):
        read_coco_entry(file, "nowhere")


@pytest.mark.parametrize(("name", "content"), [
    ("settings.json", b'{"shapes": 3}'), ("package.json", b'{"name": "x", "version": "1"}'), ("list.json", b"[1, 2]"),
    ("empty.json", b""), ("broken.json", b'{"shapes": [{"points"'), ("results.csv", b"name,area\na,3\n"), ("empty.csv", b""),
    ("not a zip.zip", b"text"), ("empty.zip", b""), ("bytes.csv", bytes(range(256))), ("bytes.json", bytes(range(256))),
    ("utf16.json", '{"shapes": []}'.encode("utf-16")), ("archive.json.gz", b"not gzip"),
    ("notes.txt", b'{"type": "FeatureCollection", "features": []}'),
])
def test_other_files_are_none(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert not is_annotation(tmp_path / name)
    assert coco_files(tmp_path) == []
    assert list_annotations(tmp_path) == []


@pytest.mark.parametrize(("name", "content"), [("empty.roi", b""), ("text.roi", b"hello, I am a text"), ("a.geojson", b"{}"),
                                               ("a.geojson", b""), ("a.geojson.gz", b"not gzip")])
def test_damaged_ones_whose_name_leaves_no_doubt_are_named_by_their_readers(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert list_annotations(tmp_path) == [tmp_path / name]
    with pytest.raises(ReadError, match=name):
        read_annotations(tmp_path / name)


def test_listed_in_name_order_without_hidden_ones(tmp_path):
    for name in ("b/x.geojson", "a.geojson", ".c.geojson", ".hidden/d.geojson", "b/.e.geojson"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((FIXTURES / "qupath" / "export.geojson").read_bytes())
    assert [p.relative_to(tmp_path).as_posix() for p in list_annotations(tmp_path)] == ["a.geojson", "b/x.geojson"]
    assert list_annotations(tmp_path / "a.geojson") == [tmp_path / "a.geojson"]


def test_packed_by_gzip(tmp_path):
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress((FIXTURES / "qupath" / "export.geojson").read_bytes()))
    assert list_annotations(tmp_path) == [tmp_path / "a.geojson.gz"]
    unpacked = read_annotations(FIXTURES / "qupath" / "export.geojson")
    assert len(read_annotations(tmp_path / "a.geojson.gz").shapes) == len(unpacked.shapes)


def test_a_coco_file_that_changes_is_read_again(tmp_path):
    import os

    def write(name: str) -> None:
        (tmp_path / "c.json").write_text(json.dumps({"images": [{"id": 1, "file_name": name, "width": 3, "height": 3}],
                                                     "annotations": [], "categories": []}))

    write("a.png")
    assert coco_images(tmp_path / "c.json") == ["a.png"]
    write("b.png")
    os.utime(tmp_path / "c.json", (1, 1))
    assert coco_images(tmp_path / "c.json") == ["b.png"]


def test_overlays_are_found_among_other_tiffs(tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((4, 4), np.uint8))
    tifffile.imwrite(tmp_path / "imagej.tif", np.zeros((4, 4), np.uint8), imagej=True)
    (tmp_path / "broken.tif").write_bytes(b"broken")
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "selected.tif").write_bytes((FIXTURES / "imagej" / "selection.tif").read_bytes())  # left behind by accident
    (tmp_path / "drawn.tif").write_bytes((FIXTURES / "imagej" / "overlay_stack.tif").read_bytes())
    assert with_overlays(tmp_path) == [tmp_path / "drawn.tif"]


@pytest.mark.parametrize("text", ['{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1}', "{}"])
def test_a_damaged_coco_file_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(BiomaskError, match=r"instances\.json"):
        coco_images(tmp_path / "instances.json")


def test_an_annotation_file_of_no_kind_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"broken")
    with pytest.raises(BiomaskError, match=r"a\.tif"):
        read_annotations(tmp_path / "a.tif")


def coco_text(*names):
    return json.dumps({"images": [{"id": i, "file_name": n, "width": 9, "height": 9} for i, n in enumerate(names)],
                       "annotations": [], "categories": []})


def test_images_of_many_coco_files_in_turn_are_parsed_once_a_file(tmp_path, monkeypatch):
    parsed = []
    real = annotations.read_coco
    monkeypatch.setattr(annotations, "read_coco", lambda path: parsed.append(path) or real(path))
    files = [tmp_path / f"part{i}.json" for i in range(12)]
    for i, file in enumerate(files):
        file.write_text(coco_text(*(f"{i}_{k}.png" for k in range(5))))
    for k in range(5):
        for i, file in enumerate(files):
            assert read_coco_entry(file, f"{i}_{k}.png").size == (9, 9)
    assert sorted(parsed) == sorted(files)


def test_kept_coco_files_make_room_for_one_that_does_not_fit(tmp_path, monkeypatch):
    (tmp_path / "c.json").write_text(coco_text("a.png"))
    calls = []

    def short_of_memory(path):
        calls.append(path)
        if len(calls) == 1:
            raise OutOfMemoryError("needs more")
        return read_coco(path)

    monkeypatch.setattr(annotations, "read_coco", short_of_memory)
    assert coco_images(tmp_path / "c.json") == ["a.png"]
    monkeypatch.setattr(annotations, "read_coco", lambda path: (_ for _ in ()).throw(OutOfMemoryError("needs more")))
    (tmp_path / "d.json").write_text(coco_text("a.png"))
    with pytest.raises(OutOfMemoryError):
        coco_images(tmp_path / "d.json")


@pytest.mark.parametrize("missing", ["gone.json"])
def test_a_coco_file_that_is_gone(tmp_path, missing):
    with pytest.raises(MissingPathError, match=missing):
        coco_images(tmp_path / missing)


@pytest.mark.parametrize(("axes", "where"), [
    (None, (2, None)), ("ZYX", (2, None)), ("CZYX", (2, None)), ("TYX", (None, 2)), ("TCYX", (None, 2)), ("CYX", (None, None)),
    ("YX", (2, None)), ("QYX", (2, None))])
def test_a_position_in_a_stack_is_what_the_axes_of_the_image_say(tmp_path, axes, where):
    roi = roifile.ImagejRoi.frompoints(np.array([[1.0, 1], [5, 1], [5, 5]]))
    roi.position = 3
    roifile.roiwrite(tmp_path / "a.zip", [roi])
    shape, = read_annotations(tmp_path / "a.zip", axes).shapes
    assert (shape.z, shape.time) == where


def test_positions_of_a_hyperstack_say_it_themselves(tmp_path):
    roi = roifile.ImagejRoi.frompoints(np.array([[1.0, 1], [5, 1], [5, 5]]))
    roi.c_position, roi.z_position, roi.t_position = 1, 4, 6
    roifile.roiwrite(tmp_path / "a.zip", [roi])
    for axes in (None, "TYX", "ZYX", "TZCYX", "CYX"):
        shape, = read_annotations(tmp_path / "a.zip", axes).shapes
        assert (shape.z, shape.time) == (3, 5)


def test_a_region_around_cells_is_no_object(tmp_path):
    def feature(x, size, kind, name=""):
        square = [[x, 2], [x + size, 2], [x + size, 2 + size], [x, 2 + size], [x, 2]]
        return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]},
                "properties": {"objectType": kind, "name": name}}

    cells = [feature(4 + 12 * k, 9, kind) for k, kind in enumerate(("cell", "detection", "cell", "detection"))]
    empty = feature(100, 9, "annotation", "by hand")
    content = {"type": "FeatureCollection", "features": [feature(0, 90, "annotation", "Region 1"), *cells, empty]}
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    found = read_annotations(tmp_path / "a.geojson")
    assert [s.bounds[0] for s in found.shapes] == [4, 16, 28, 40, 100]
    assert found.left_out == ("annotation 0 Region 1 (it holds 4 detections)",)
