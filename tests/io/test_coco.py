"""COCO's JSON: real annotations against pycocotools, and files with keys missing."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.errors import LabelsError, ReadError, WriteError
from biomask.instances import outlines, rasterise
from biomask.io.coco import CocoObject, read_coco, write_coco
from biomask.shapes import Annotations, Shape

#: pycocotools' own arrays, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FIXTURE = Path(__file__).parents[1] / "fixtures" / "annotations" / "coco" / "instances.json"
IMAGE = {"id": 1, "file_name": "a.png", "height": 8, "width": 9}
TRIANGLE = [1, 1, 6, 1, 1, 6]


def reference(path: Path) -> Any:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def saved(path: Path, *annotations: Any, **more: Any) -> Path:
    content = {"images": [IMAGE], "annotations": list(annotations), "categories": [{"id": 1, "name": "cell"}], **more}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def annotation(segmentation: Any, **more: Any) -> dict[str, Any]:
    return {"id": 7, "image_id": 1, "category_id": 1, "segmentation": segmentation, "iscrowd": 0, **more}


@pytest.mark.data
@pytest.mark.parametrize("name",
                         ["instances_train2017", "instances_val2017", "person_keypoints_train2017", "person_keypoints_val2017"])
def test_real_files_like_pycocotools(data_root: Path, name: str) -> None:
    """Run lengths are the same; of polygons only pixels within a fifth of a pixel of the outline differ."""
    import shapely

    path = data_root / "coco_mini" / "annotations" / f"{name}.json"
    file, expected = read_coco(path), reference(path)
    assert [i.file_name for i in file] == [i["file_name"] for i in expected.dataset["images"]]
    assert sum(len(i.objects) for i in file) == len(expected.anns)
    assert set(file.categories) == {c["name"] for c in expected.cats.values()}
    different = total = 0
    for image in file:
        shapes = image.annotations()
        assert not shapes.left_out
        for found, shape in zip(image.objects, shapes.shapes, strict=True):
            said = expected.anns[found.id]
            mask, truth = found.mask(), expected.annToMask(said).astype(bool)
            assert (shape.name, shape.crowd) == (expected.cats[said["category_id"]]["name"], bool(said["iscrowd"]))
            np.testing.assert_array_equal(rasterise([shape], mask.shape).array > 0, mask)
            y, x = np.nonzero(mask != truth)
            different, total = different + len(y), total + int(truth.sum())
            if isinstance(said["segmentation"], dict):
                assert not len(y)
            elif len(y):
                lines = shapely.MultiLineString([shapely.LinearRing(np.reshape(p, (-1, 2))) for p in said["segmentation"]])
                assert shapely.distance(shapely.points(x + 0.5, y + 0.5), lines).max() < 0.2
    assert different < 0.002 * total


def test_every_kind_of_segmentation() -> None:
    file = read_coco(FIXTURE)
    assert [(i.file_name, i.size) for i in file] == [("train/cells_1.png", (40, 48)), ("train/empty.png", (20, 30))]
    assert file.categories == ("nucleus", "ring")
    assert file.left_out == ("annotation 18 (image 999 is not in the file)",)
    cells, empty = (i.annotations() for i in file)
    assert (cells.image, cells.size, empty.shapes) == ("cells_1.png", (40, 48), ())
    assert cells.left_out == ("annotation 16 (it has no outline, a box at most)",
                              "annotation 17 (it has 2 different points, an outline needs 3)")
    areas = [int(rasterise([s], (40, 48)).array.astype(bool).sum()) for s in cells.shapes]
    assert areas[1:] == [72, 2 * 100 - 6 * 4 - 4 * 6 + 24, 160 - 24, 32 + 60], "overlapping polygons add up"
    assert [s.crowd for s in cells.shapes] == [False] * 4 + [True]
    assert cells.shapes[0].colour == (0, 114, 178)
    for found, area in zip(file.images[0].objects, areas, strict=False):
        assert found.mask().sum() == area


@pytest.mark.parametrize(("content", "reason"), [
    ([], "no list of images"), ({"images": 5}, "no list of images"), ({"images": [5]}, "image 0 has no id"),
    ({"images": [{"id": 1}]}, "image 0 has no id of its own, or no file_name"),
    ({"images": [IMAGE, {**IMAGE, "id": 7}]}, "are both called"),
    ({"images": [IMAGE, IMAGE]}, "image 1 has no id of its own"),
    ({"images": [IMAGE], "annotations": [5]}, "annotation 0"),
    ({"images": [IMAGE], "annotations": [{"id": 12}]}, "annotation 12 has no image_id"),
    ({"images": [IMAGE], "annotations": [{"id": 12, "image_id": 1}], "categories": [{"id": 3, "name": "a"}]},
     "12 has category_id None.*of 3"),
    ({"images": [IMAGE], "annotations": [{"id": 12, "image_id": 1, "category_id": [1]}], "categories": [{"id": 3, "name": "a"}]},
     "12 has cat"),
    ({"images": [IMAGE], "categories": [{"id": 3}]}, "category 0 has no id"),
    ({"images": [IMAGE], "categories": [5]}, "category 0"),
    ({"images": [IMAGE], "categories": 5}, "its categories are no list"),
    ({"images": [IMAGE], "annotations": {"id": 12, "image_id": 1}}, "its annotations are no list"),
    ({"images": [IMAGE], "annotations": [{"image_id": 1, "segments_info": []}]}, "panoptic"),
    ({"images": [{**IMAGE, "id": [1]}]}, "image 0 has no id"),
])
def test_keys_that_are_missing(tmp_path: Path, content: Any, reason: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ReadError, match=reason):
        read_coco(tmp_path / "a.json")


def test_keys_that_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"id": "x", "file_name": "b\\a.png"}],
                                                 "annotations": [{"image_id": "x", "segmentation": [TRIANGLE]}]}))
    (image,) = read_coco(tmp_path / "a.json")
    found = image.annotations()
    assert (found.size, found.image, found.shapes[0].name, image.objects[0].id) == (None, "a.png", "", 0)
    with pytest.raises(LabelsError, match="how large its image is"):
        image.objects[0].mask()
    assert read_coco(saved(tmp_path / "b.json", annotations=None)).images[0].objects == ()


@pytest.mark.parametrize(("segmentation", "reason"), [
    ([], "a box at most"), (None, "a box at most"), ({}, "a box at most"), ([[]], "0 different points"),
    ([[1, 1, 2]], "x, y, x, y"),
    ([1, 1, 5, 5, 1, 5], "not a list of polygons"), ([TRIANGLE, 5], "x, y, x, y"), ([[1, 1, 5, "a", 1, 5]], "pairs of numbers"),
    ([[1, 1, 5, float("nan"), 1, 5]], "not finite"), ("text", "neither polygons nor runs"), ({"counts": [72]}, "neither"),
    ({"counts": [72], "size": [8]}, "size .8."), ({"counts": [72], "size": [8, -9]}, "size"),
    ({"counts": [72], "size": [9, 8]}, "another size"),
    ({"counts": [71], "size": [8, 9]}, "add up"), ({"counts": [72], "size": [8, 9]}, "mask is empty"),
    ({"counts": "é", "size": [8, 9]}, "packed"),
    ({"counts": "", "size": [8, 9]}, "add up"), ({"counts": {}, "size": [8, 9]}, "whole numbers"),
    ({"counts": [2**62, 2**62], "size": [8, 9]}, "add up"), ({"counts": [-1, 73], "size": [8, 9]}, "add up"),
])
def test_annotations_that_are_left_out(tmp_path: Path, segmentation: Any, reason: str) -> None:
    import re

    (image,) = read_coco(saved(tmp_path / "a.json", annotation(segmentation), annotation([TRIANGLE], id=8)))
    read = image.annotations()
    assert [s.title for s in read.shapes] == ["8"]
    assert len(read.left_out) == 1
    assert re.match(rf"annotation 7 \(.*{reason}", read.left_out[0])


def test_run_lengths_of_huge_images_are_refused() -> None:
    with pytest.raises(LabelsError, match="another size"):
        CocoObject(1, "", {"counts": [2**40], "size": [2**20, 2**20]}, None).mask()


def test_written_form_is_what_pycocotools_reads(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), int)
    labels[2:9, 3:12] = 1
    labels[4:6, 5:8] = 0
    labels[10:14, 4:9] = labels[16:18, 20:29] = 2
    labels[0, 29] = 3
    shapes = outlines(labels, names={1: "ring", 2: "cell", 3: "cell"}, colours={1: (9, 8, 7)})
    triangle = Shape((np.array([(20.5, 3.25), (28, 4), (22, 12.75)]),), "cell")
    write_coco(tmp_path / "a.json", [Annotations((*shapes, triangle), (20, 30), (), "a.png"), Annotations((), (5, 6), (), "b.png")])
    expected = reference(tmp_path / "a.json")
    assert {c["name"]: c["id"] for c in expected.cats.values()} == {"cell": 1, "ring": 2}
    assert [(i["id"], i["file_name"], i["height"], i["width"]) for i in expected.imgs.values()] == [(1, "a.png", 20, 30),
                                                                                                    (2, "b.png", 5, 6)]
    assert [type(a["segmentation"]) for a in expected.anns.values()] == [dict, list, list, list]
    for number, said in expected.anns.items():
        truth = labels == number if number < 4 else rasterise([triangle], (20, 30)).array > 0
        assert said["area"] == truth.sum()
        y, x = np.nonzero(truth)
        box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1] if number < 4 else [20.5, 3.25, 7.5, 9.5]
        assert said["bbox"] == box
        assert number == 4 or (expected.annToMask(said) == truth).all()
    write_coco(tmp_path / "b.json", [Annotations((*shapes, triangle), (20, 30), (), "a.png")], rle="all")
    runs = reference(tmp_path / "b.json")
    assert (runs.annToMask(runs.anns[4]).astype(bool) == (rasterise([triangle], (20, 30)).array > 0)).all()


def test_objects_of_several_outlines_are_one_annotation(tmp_path: Path) -> None:
    squares = [np.array([(x, 0), (x + 4, 0), (x + 4, 4), (x, 4)], float) for x in (0, 6, 2)]
    shapes = tuple(Shape((r,), "cell", group=1) for r in squares[:2])
    write_coco(tmp_path / "a.json", [Annotations((shapes[0], Shape((squares[0] + 8,), "other"), shapes[1]), (20, 20), (), "a.png")])
    (image,) = read_coco(tmp_path / "a.json")
    assert [(o.category, int(o.mask().sum())) for o in image.objects] == [("cell", 32), ("other", 16)]
    over = (*shapes, Shape((squares[2],), "cell", group=1))
    write_coco(tmp_path / "b.json", [Annotations(over, (20, 20), (), "a.png")])
    assert read_coco(tmp_path / "b.json").images[0].objects[0].mask().sum() == 40, "parts over each other add up"


def test_crowds_colours_and_unnamed_shapes(tmp_path: Path) -> None:
    square = np.array([(0, 0), (4, 0), (4, 4), (0, 4)], float)
    write_coco(tmp_path / "a.json",
               [Annotations((Shape((square,), crowd=True), Shape((square + 5,), "b", (1, 2, 3))), (20, 20), (), "a.png")])
    one, two = read_coco(tmp_path / "a.json").images[0].annotations().shapes
    assert (one.name, one.crowd, two.colour) == ("object", True, (1, 2, 3))
    assert isinstance(json.loads((tmp_path / "a.json").read_text())["annotations"][0]["segmentation"], dict)


def test_shapes_outside_the_image_have_no_area(tmp_path: Path) -> None:
    square = np.array([(30, 30), (34, 30), (34, 34), (30, 34)], float)
    for rle in ("holes", "all"):
        write_coco(tmp_path / "a.json", [Annotations((Shape((square,), "a"),), (20, 20), (), "a.png")],
                   rle=rle)  # type: ignore[arg-type]
        assert json.loads((tmp_path / "a.json").read_text())["annotations"][0]["area"] == 0


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_polygons_within_a_pixel_of_pycocotools(seed: int) -> None:
    from pycocotools import mask as coco
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 12))
    ring = np.stack([30 + rng.uniform(5, 25) * np.cos(angle), 30 + rng.uniform(5, 25) * np.sin(angle)], axis=1)
    drawn = CocoObject(1, "", [ring.reshape(-1).tolist()], (60, 60)).mask()
    truth = coco.decode(coco.merge(coco.frPyObjects([ring.reshape(-1).tolist()], 60, 60))).astype(bool)
    assert not (drawn & ~ndimage.binary_dilation(truth, np.ones((3, 3)))).any()
    assert not (truth & ~ndimage.binary_dilation(drawn, np.ones((3, 3)))).any()


@pytest.mark.parametrize(("image", "reason"), [
    (Annotations((), None, (), "a.png"), "name and size"), (Annotations((), (5, 5)), "name and size"),
    (Annotations((Shape((), z=1), Shape((), z=2)), (5, 5), (), "a.png"), "several planes"),
])
def test_what_coco_cannot_hold(tmp_path: Path, image: Annotations, reason: str) -> None:
    with pytest.raises(WriteError, match=reason):
        write_coco(tmp_path / "a.json", [image])
    assert not list(tmp_path.iterdir())
