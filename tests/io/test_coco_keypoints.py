"""COCO's keypoints, categories, crowds, boxes and empty images: in and out without loss."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biomask.errors import LabelsError, ReadError, WriteError
from biomask.instances.polygons import rasterise
from biomask.io.coco import read_coco, write_coco
from biomask.shapes import Annotations, Category, Shape, scaled

#: pycocotools' own arrays, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

IMAGE = {"id": 1, "file_name": "a.png", "height": 8, "width": 9}
TRIANGLE = [1, 1, 6, 1, 1, 6]
FISH = {"id": 7, "name": "fish", "supercategory": "animal", "keypoints": ["snout", "fin_l", "fin_r"], "skeleton": [[1, 2], [3, 1]]}


def reference(path: Path) -> Any:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def saved(path: Path, *annotations: Any, categories: Any = (FISH,), images: Any = (IMAGE,)) -> Path:
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}), encoding="utf-8")
    return path


def annotation(**more: Any) -> dict[str, Any]:
    return {"id": 4, "image_id": 1, "category_id": 7, "segmentation": [TRIANGLE], "bbox": [1, 1, 5, 5], "iscrowd": 0, **more}


def mask(shape: Shape, size: tuple[int, int]) -> np.ndarray:
    return rasterise([shape], size).array > 0


@pytest.mark.data
@pytest.mark.parametrize("name", ["person_keypoints_val2017", "instances_val2017"])
def test_real_files_come_back_whole(data_root: Path, tmp_path: Path, name: str) -> None:
    path = data_root / "coco_mini" / "annotations" / f"{name}.json"
    images = [i.annotations() for i in read_coco(path)]
    write_coco(tmp_path / "out.json", images)
    again = [i.annotations() for i in read_coco(tmp_path / "out.json")]
    before, after = reference(path), reference(tmp_path / "out.json")
    assert [(a.image, a.size, len(a.shapes)) for a in images] == [(a.image, a.size, len(a.shapes)) for a in again]
    assert any(not a.shapes for a in again) or name.startswith("instances"), "empty images stay"
    told = {k: {key: c.get(key) for key in ("name", "supercategory", "keypoints", "skeleton")} for k, c in before.cats.items()}
    assert told == {k: {key: c.get(key) for key in told[k]} for k, c in after.cats.items()}
    pairs = list(zip((a for i in before.getImgIds() for a in before.imgToAnns[i]),
                     (a for i in after.getImgIds() for a in after.imgToAnns[i]), strict=True))
    assert any(a["iscrowd"] for a, _ in pairs)
    for old, new in pairs:
        assert (old["iscrowd"], old["category_id"]) == (new["iscrowd"], new["category_id"])
        assert (old.get("keypoints"), old.get("num_keypoints")) == (new.get("keypoints"), new.get("num_keypoints"))
        if old["iscrowd"]:
            np.testing.assert_array_equal(before.annToMask(old), after.annToMask(new))
    for a, b in zip(images, again, strict=True):
        for old, new in zip(a.shapes, b.shapes, strict=True):
            np.testing.assert_array_equal(mask(old, a.size or (0, 0)), mask(new, b.size or (0, 0)))


def test_keypoints_and_skeleton(tmp_path: Path) -> None:
    file = read_coco(saved(tmp_path / "a.json", annotation(keypoints=[2, 2.5, 2, 9, 9, 0, 3, 1, 1])))
    assert file.described == (Category("fish", 7, "animal", ("snout", "fin_l", "fin_r"), ((0, 1), (2, 0))),)
    (shape,) = file.images[0].annotations().shapes
    assert shape.keypoints is not None
    assert shape.keypoints.tolist() == [[2, 2.5, 2], [0, 0, 0], [3, 1, 1]], "what is not labelled is nowhere"
    large = scaled(shape, 3.0)
    assert large.keypoints is not None
    assert large.keypoints.tolist() == [[6, 7.5, 2], [0, 0, 0], [9, 3, 1]]
    assert large.bounds == (3, 3, 18, 18)


@pytest.mark.parametrize(("points", "reason"), [
    ([1, 1, 2], "it has 1 keypoints, its category 3"), ([1, 1, 2, 3], "no list of x, y, visibility"),
    ([1, 1, 2, 1, 1, 2, 1, 1, 3], "visibility"), ([1, 1, 2, "x", 1, 2, 1, 1, 2], "no list of x, y, visibility"),
    ([1, 1, 2, 1e99, 1, 2, 1, 1, 2], "no list of x, y, visibility"), ("abc", "it has 0 keypoints|no list of x, y, visibility"),
])
def test_damaged_keypoints_are_named(tmp_path: Path, points: Any, reason: str) -> None:
    (image,) = read_coco(saved(tmp_path / "a.json", annotation(keypoints=points), annotation(id=5)))
    found = image.annotations()
    assert [s.title for s in found.shapes] == ["5"]
    with pytest.raises(LabelsError, match=reason):
        image.objects[0].shape()
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith("annotation 4 (")


@pytest.mark.parametrize(("category", "reason"), [
    ({"keypoints": ["a", "a"]}, "different names"), ({"keypoints": "ab"}, "different names"),
    ({"keypoints": ["a", "b"], "skeleton": [[0, 1]]}, "count from 1"), ({"keypoints": ["a"], "skeleton": [[1, 2]]}, "of its 1"),
    ({"keypoints": ["a"], "skeleton": [1]}, "count from 1"),
])
def test_damaged_categories_are_named(tmp_path: Path, category: dict[str, Any], reason: str) -> None:
    with pytest.raises(ReadError, match=reason):
        read_coco(saved(tmp_path / "a.json", categories=[{"id": 7, "name": "fish", **category}]))


def test_keypoints_without_names_get_numbers(tmp_path: Path) -> None:
    file = read_coco(saved(tmp_path / "a.json", annotation(keypoints=[2, 2, 2, 3, 3, 1]), categories=[{"id": 7, "name": "fish"}]))
    assert file.described[0].keypoints == ("1", "2")
    assert file.images[0].annotations().shapes[0].keypoints is not None


def test_boxes_alone_are_kept_as_boxes(tmp_path: Path) -> None:
    points = [2, 2.5, 2, 0, 0, 0, 3, 1, 1]
    path = saved(tmp_path / "a.json", annotation(), annotation(id=5, segmentation=[], bbox=[0.5, 1, 2, 3.25], keypoints=points),
                 annotation(id=6, segmentation=[], bbox=[1, 1, 0, 3]), annotation(id=8, segmentation=[], bbox=[1, 1]))
    (found,) = (i.annotations() for i in read_coco(path))
    assert [s.bounds for s in found.boxed] == [(0.5, 1, 2.5, 4.25)]
    assert [said.split(" (")[0] for said in found.left_out] == ["annotation 5", "annotation 6", "annotation 8"]
    assert [said.split(" (")[0] for said in found.lost] == ["annotation 6", "annotation 8"]
    write_coco(tmp_path / "b.json", [found])
    outlined, boxed = json.loads((tmp_path / "b.json").read_text())["annotations"]
    assert (boxed["bbox"], boxed["segmentation"], boxed["keypoints"], boxed["num_keypoints"]) == ([0.5, 1, 2, 3.25], [], points, 2)
    assert outlined["segmentation"] == [TRIANGLE]
    assert "keypoints" not in outlined


def test_ids_of_categories_stay_unless_they_contradict_each_other(tmp_path: Path) -> None:
    square = Shape((np.array([(0, 0), (2, 0), (2, 2), (0, 2)], float),), "zebra")
    known = (Category("ant", 4), Category("zebra", 2))

    def ids(*images: Annotations) -> dict[str, int]:
        write_coco(tmp_path / "a.json", images)
        return {c["name"]: c["id"] for c in json.loads((tmp_path / "a.json").read_text())["categories"]}

    one = Annotations((square,), (4, 4), image="a.png", categories=known)
    assert list(ids(one).items()) == [("zebra", 2), ("ant", 4)]
    other = Annotations((Shape(square.rings, "bee"), square), (4, 4), image="b.png")
    assert ids(one, other) == {"zebra": 2, "ant": 4, "bee": 1}
    assert ids(one, Annotations((square,), (4, 4), image="b.png", categories=(Category("zebra", 4),))) == {"ant": 1, "zebra": 2}
    same_id = Annotations((square,), (4, 4), image="b.png", categories=(Category("bee", 4),))
    assert ids(one, same_id) == {"ant": 1, "bee": 2, "zebra": 3}
    with pytest.raises(WriteError, match="'zebra' has 1 keypoints"):
        ids(Annotations((), (4, 4), image="a.png", categories=(Category("zebra", 2, keypoints=("tail",)),)), one)
