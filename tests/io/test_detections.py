"""detections.json: there and back, as pycocotools reads it, and damaged ones."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biomask.errors import ReadError, WriteError
from biomask.instances.runs import Runs
from biomask.io.coco import read_coco
from biomask.io.detections import DetectedImage, read_detections, write_detections
from biomask.shapes import Category

#: pycocotools' own arrays, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (12, 10)
CATEGORIES = [Category("cell", 1, "tissue", ("front", "back"), ((0, 1),)), Category("débris", 3)]


def images(rng: np.random.Generator) -> list[DetectedImage]:
    found = []
    for name, count in (("a/0.png", 3), ("a/1.png", 0), ("b.tif", 1)):
        masks = Runs.of_crops([(rng.random((5, 6)) > 0.4, (2, 3)) for _ in range(count)], SIZE)
        points = rng.random((count, 2, 3)) * 9
        points[..., 2] = 1
        found.append(DetectedImage(name, SIZE, rng.choice([1, 3], count), rng.random(count), rng.random((count, 4)) * 5, masks,
                                   points))
    return found


def test_there_and_back(tmp_path: Path) -> None:
    path, made = tmp_path / "out" / "detections.json", images(np.random.default_rng(0))
    write_detections(path, iter(made), CATEGORIES, {"cell": (1, 2, 3)})
    file = read_detections(path)
    assert file.categories == tuple(CATEGORIES)
    assert [i.file_name for i in file.images] == [i.file_name for i in made]
    for got, image in zip(file.images, made, strict=True):
        assert got.size == SIZE
        for key in ("categories", "scores", "boxes", "keypoints"):
            np.testing.assert_array_equal(getattr(got, key), getattr(image, key))
        assert got.masks is not None
        np.testing.assert_array_equal(got.masks.bounds, image.masks.bounds)
        np.testing.assert_array_equal(got.masks.offsets, image.masks.offsets)
    assert [len(i.objects) for i in read_coco(path)] == [3, 0, 1]  # a file of annotations, too


def test_as_pycocotools_reads_it(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    path, made = tmp_path / "detections.json", images(np.random.default_rng(1))
    write_detections(path, made, CATEGORIES)
    with contextlib.redirect_stdout(io.StringIO()):
        own = COCO(str(path))
    for n, row in own.anns.items():
        assert own.annToMask(row).sum() == row["area"] == made[0 if n < 4 else 2].masks.areas[(n - 1) % 3]
    with contextlib.redirect_stdout(io.StringIO()):
        assert len(own.loadRes(own.dataset["annotations"]).anns) == 4


def test_boxes_alone_and_boxes_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    box = np.array([[1.0, 2, 3, 4]])
    write_detections(path, [DetectedImage("0.png", SIZE, np.array([1]), np.array([0.5]), box)], CATEGORIES)
    image = read_detections(path).images[0]
    assert (image.masks, image.keypoints, image.areas.tolist()) == (None, None, [12])
    runs = {"size": list(SIZE), "counts": [14, 3, 9, 2, 92]}
    rows = [{"image_id": 5, "category_id": 1, "score": 1, "segmentation": runs},
            {"image_id": 6, "category_id": 1, "score": 1, "segmentation": runs}]
    path.write_text(json.dumps(rows))
    file = read_detections(path, sizes={5: SIZE, 7: None})
    assert file.bare
    assert [(i.id, len(i)) for i in file.images] == [(5, 1), (7, 0), (6, 1)]
    assert file.images[0].boxes.tolist() == file.images[2].boxes.tolist() == [[1, 2, 2, 3]]
    path.write_text(json.dumps([{"image_id": 5, "category_id": 1, "score": 1, "keypoints": [1, 2, 2, 4, 7, 0]}]))
    assert read_detections(path).images[0].boxes.tolist() == [[1, 2, 3, 5]]


@pytest.mark.parametrize(("change", "words"), [
    ({"images": [{"id": 1, "file_name": ""}]}, "no file_name"),
    ({"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}, "no id of its own"),
    ({"categories": [{"id": "1", "name": "a"}]}, "category 0 has no id"),
    ({"annotations": [{"image_id": 9}]}, "image 9, which the file does not list"),
    ({"annotations": [3]}, "object 0 has no image_id"),
    ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1, "keypoints": [1, 2, 3, 4]}]}, "3 finite numbers"),
    ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1, "keypoints": 7}]}, "no list of numbers"),
    ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1, "segmentation": [[1, 2, 3, 4, 5, 6]]}]}, "no run lengths"),
    ({"annotations": [{"image_id": 1, "category_id": 1, "score": True, "bbox": [1, 2, 3, 4]}]}, "score of object 0"),
])
def test_damaged(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "detections.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], **change}))
    with pytest.raises(ReadError, match=words):
        read_detections(path)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    path, image = tmp_path / "detections.json", DetectedImage("0.png", SIZE, np.array([2]), np.array([0.5]), np.ones((1, 4)))
    with pytest.raises(WriteError, match="category 2"):
        write_detections(path, [image], CATEGORIES)
    with pytest.raises(WriteError, match="no size"):
        write_detections(path, [DetectedImage.none(None, "0.png")], CATEGORIES)
    assert not path.exists()
