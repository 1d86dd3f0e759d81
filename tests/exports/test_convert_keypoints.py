"""What only COCO holds: kept from COCO to COCO, told where another format takes the outlines alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from biomask.exports.convert import convert

SQUARE = [1, 1, 6, 1, 6, 6, 1, 6]
CONTENT = {
    "images": [{"id": 3, "file_name": "a.png", "height": 8, "width": 9}, {"id": 8, "file_name": "b.png", "height": 8, "width": 9}],
    "categories": [{"id": 5, "name": "fish", "supercategory": "animal", "keypoints": ["l_fin", "r_fin"], "skeleton": [[1, 2]]},
                   {"id": 9, "name": "unseen", "supercategory": ""}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 5, "iscrowd": 0, "segmentation": [SQUARE], "bbox": [1, 1, 5, 5], "area": 25,
         "keypoints": [2, 3, 2, 0, 0, 0], "num_keypoints": 1},
        {"id": 2, "image_id": 3, "category_id": 5, "iscrowd": 1, "segmentation": {"size": [8, 9], "counts": [50, 6, 16]}},
        {"id": 3, "image_id": 3, "category_id": 5, "iscrowd": 0, "segmentation": [], "bbox": [2, 2, 3, 3.5]}]}


def folder_of(path: Path) -> Path:
    from PIL import Image

    path.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(path / name)
    (path / "labels.json").write_text(json.dumps(CONTENT))
    return path


def test_coco_to_coco_loses_nothing(tmp_path: Path) -> None:
    done = convert(folder_of(tmp_path / "d"), tmp_path / "out.json", "coco")
    again = json.loads((tmp_path / "out.json").read_text())
    assert (done.objects, done.notes) == (3, ())
    assert [i["file_name"] for i in again["images"]] == ["a.png", "b.png"], "the empty one too"
    kinds = CONTENT["categories"]
    assert [{k: c.get(k) for k in kind} for c, kind in zip(again["categories"], kinds, strict=True)] == kinds
    first, crowd, box = again["annotations"]
    assert {k: first[k] for k in ("category_id", "iscrowd", "segmentation", "bbox", "area", "keypoints", "num_keypoints")} == {
        k: v for k, v in CONTENT["annotations"][0].items() if k not in ("id", "image_id")}
    assert (crowd["iscrowd"], crowd["area"], crowd["segmentation"]["size"]) == (1, 6, [8, 9])
    assert (box["bbox"], box["segmentation"]) == ([2, 2, 3, 3.5], [])


def test_other_formats_say_what_they_do_not_hold(tmp_path: Path) -> None:
    done = convert(folder_of(tmp_path / "d"), tmp_path / "out", "geojson")
    assert done.objects == 1
    assert done.notes == (
        "a: annotation 3 (it has no outline, a box at most)", "a: fish 2 (a crowd of objects that nobody told apart)",
        "a: keypoints of 1 object (only COCO holds them)")
