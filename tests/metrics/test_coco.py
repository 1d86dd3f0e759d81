"""COCO's scores, with pycocotools as the oracle."""

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

from biomask.errors import LabelsError, SizeError
from biomask.instances.rle import pack
from biomask.instances.runs import Runs
from biomask.metrics.coco import coco_scores, coco_summary
from biomask.metrics.coco_match import IGNORED, RIGHT, WRONG, CocoKind, FoundObjects, TrueObjects, match_image

#: pycocotools' own arrays, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}
KEYS = {
    "boxes": ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium",
              "ar_large"),
    "keypoints": ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")}
KEYS["masks"] = KEYS["boxes"]


def reference(truth: dict[str, Any], results: list[dict[str, Any]], kind: CocoKind) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    dropped = {"masks": ("bbox", "keypoints"), "boxes": ("segmentation", "keypoints"), "keypoints": ("bbox", "segmentation")}[kind]
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = json.loads(json.dumps(truth))
        gt.createIndex()
        dt = gt.loadRes([{k: v for k, v in r.items() if k not in dropped} for r in results])
        judged = COCOeval(gt, dt, NAMES[kind])
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged


def sides(truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[list[TrueObjects], list[FoundObjects]]:
    """Both as arrays, images in order of their ids."""
    true, found = [], []
    pointed = any("keypoints" in row for row in (*truth["annotations"], *results))
    for image in sorted(truth["images"], key=lambda i: i["id"]):
        size = (image["height"], image["width"])
        own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        got = [r for r in results if r["image_id"] == image["id"]]
        true.append(TrueObjects(
            np.array([a["category_id"] for a in own], np.int64), np.array([a["area"] for a in own], float), boxes_of(own),
            np.array([a["iscrowd"] for a in own], bool), masks_of(own, size), points_of(own, pointed)))
        found.append(FoundObjects(
            np.array([r["category_id"] for r in got], np.int64), np.array([r["score"] for r in got], float), boxes_of(got),
            masks_of(got, size), points_of(got, pointed)))
    return true, found


def boxes_of(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array([r["bbox"] for r in rows], float).reshape(len(rows), 4)


def points_of(rows: list[dict[str, Any]], pointed: bool) -> np.ndarray | None:
    return np.array([r["keypoints"] for r in rows], float).reshape(len(rows), 17, 3) if pointed else None


def masks_of(rows: list[dict[str, Any]], size: tuple[int, int]) -> Runs:
    from pycocotools import mask

    texts = []
    for row in rows:
        said = row["segmentation"]
        if isinstance(said, list):
            said = mask.merge(mask.frPyObjects(said, *size))
        elif isinstance(said["counts"], list):
            said = mask.frPyObjects(said, *size)
        texts.append(said["counts"] if isinstance(said["counts"], str) else said["counts"].decode())
    return Runs.of_counts(texts, size)


def compare(truth: dict[str, Any], results: list[dict[str, Any]], kind: CocoKind) -> None:
    """The whole table of precisions and recalls, and its summary."""
    expected = reference(truth, results, kind)
    categories = [c["id"] for c in truth["categories"]]
    got = coco_scores(*sides(truth, results), kind, categories)
    np.testing.assert_allclose(np.nan_to_num(got.precision, nan=-1), expected.eval["precision"][..., -1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.nan_to_num(got.recall, nan=-1), expected.eval["recall"], rtol=0, atol=1e-12)
    summary = got.summary()
    assert tuple(summary) == KEYS[kind]
    assert [-1 if v is None else v for v in summary.values()] == pytest.approx(expected.stats.tolist(), abs=1e-12)


def perturbed(truth: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """What a poor detector finds of the true objects: moved, doubled, missed, of other classes, with equal scores."""
    from pycocotools import mask

    rng = np.random.default_rng(seed)
    ids = [*(c["id"] for c in truth["categories"]), 9999]
    sizes = {i["id"]: (i["height"], i["width"]) for i in truth["images"]}
    results = []
    for a in truth["annotations"]:
        size = sizes[a["image_id"]]
        pixels = mask.decode({"size": size, "counts": pack(masks_of([a], size).counts(0))})
        for _ in range(rng.choice([0, 1, 1, 1, 1, 2, 3])):
            shift = rng.choice([0, 0, 1, 2, 5], 2)
            moved = np.roll(pixels, shift, (0, 1)) if rng.random() < 0.9 else np.zeros_like(pixels)
            rle = mask.encode(np.asfortranarray(moved))
            box = np.array(a["bbox"]) + rng.choice([0, 0, 1, 0.25], 4) * rng.normal(0, 0.1, 4) * np.tile(a["bbox"][2:], 2)
            row = {"image_id": a["image_id"], "category_id": int(rng.choice(ids)) if rng.random() < 0.1 else a["category_id"],
                   "score": round(float(rng.random()), 1), "bbox": [*box[:2], *np.maximum(box[2:] * (rng.random() < 0.97), 0)],
                   "segmentation": {"size": list(size), "counts": rle["counts"].decode()}}
            if "keypoints" in a:
                points = np.array(a["keypoints"], float).reshape(-1, 3)
                points[:, :2] += rng.choice([0, 1, 4]) * rng.normal(0, 2, (len(points), 2))
                row["keypoints"] = points.reshape(-1).tolist()
            results.append(row)
    return results


@pytest.mark.data
@pytest.mark.parametrize(("name", "kind"), [("instances_val2017", "boxes"), ("instances_val2017", "masks"),
                                            ("person_keypoints_val2017", "keypoints")])
def test_like_pycocotools_on_real_truth(data_root: Path, name: str, kind: CocoKind) -> None:
    truth = json.loads((data_root / "coco_mini" / "annotations" / f"{name}.json").read_text())
    results = perturbed(truth, 1)
    assert any(r["category_id"] == 9999 for r in results)
    assert any(a["iscrowd"] for a in truth["annotations"])
    empty = {i["id"] for i in truth["images"][::9]}  # images without truth, in which something is found all the same
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] not in empty]
    compare(truth, results, kind)


@st.composite
def rows(draw: st.DrawFn, *, true: bool) -> dict[str, Any]:
    """An object on a coarse grid, so that overlaps, areas and scores are often equal."""
    x, y = (8 * draw(st.integers(0, 4)) for _ in range(2))
    width, height = (draw(st.sampled_from([0, 8, 16, 32, 96])) for _ in range(2))
    category = draw(st.sampled_from([1, 1, 3] if true else [1, 1, 3, 5]))
    row = {"image_id": draw(st.integers(1, 2)), "category_id": category, "bbox": [x, y, width, height],
           "segmentation": {"size": [140, 140], "counts": pack(_box_counts(x, y, width, height))}}
    if draw(st.booleans()):
        points = np.array([[x + width * i / 16, y + height * (i % 2), i % 3] for i in range(17)])
    else:
        points = np.array([[x + i, y, 0 if true else 1] for i in range(17)], float)
    row["keypoints"] = points.reshape(-1).tolist()
    if true:
        area = draw(st.sampled_from([0, 64, 1023, 1024, 5000, 9216, 9217]))
        return row | {"area": area, "iscrowd": int(draw(st.integers(0, 4)) == 0), "num_keypoints": int((points[:, 2] > 0).sum())}
    return row | {"score": draw(st.sampled_from([0.1, 0.5, 0.9]))}


def _box_counts(x: int, y: int, width: int, height: int) -> list[int]:
    crops = [(np.ones((height, width), bool), (y, x))] if width and height else [(np.zeros((0, 0), bool), (0, 0))]
    return Runs.of_crops(crops, (140, 140)).counts(0)


IMAGES = [{"id": i, "height": 140, "width": 140, "file_name": f"{i}.png"} for i in (1, 2)]


@settings(max_examples=60)
@given(st.lists(rows(true=True), max_size=6), st.lists(rows(true=False), min_size=1, max_size=12), st.sampled_from(sorted(NAMES)))
def test_like_pycocotools_on_small_cases(true: list[dict[str, Any]], found: list[dict[str, Any]], kind: CocoKind) -> None:
    truth = {"images": IMAGES, "categories": [{"id": i, "name": str(i)} for i in (1, 3, 4)],
             "annotations": [{"id": n, **a} for n, a in enumerate(true, start=1)]}
    compare(truth, found, kind)


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_hundreds_of_objects_in_an_image(kind: CocoKind) -> None:
    """More found objects than count, and more true ones than can be found."""
    rng = np.random.default_rng(4)
    true, found = [], []
    for n in range(500):
        x, y = 28 * (n % 23), 28 * (n // 23)
        width, height = rng.integers(10, 28, 2).tolist()
        row = {"image_id": 1, "category_id": 1 + n % 2, "bbox": [x, y, width, height],
               "segmentation": {"size": [640, 650], "counts": pack(Runs.of_crops(
                   [(np.ones((height, width), bool), (y, x))], (640, 650)).counts(0))},
               "keypoints": np.stack([x + rng.random(17) * width, y + rng.random(17) * height, np.full(17, 2)], 1).ravel().tolist()}
        true.append(row | {"id": n + 1, "area": width * height, "iscrowd": int(n % 50 == 0), "num_keypoints": 17})
        points = np.array(row["keypoints"]).reshape(17, 3) + rng.choice([0, 1, 3]) * rng.random((17, 3))
        found.append(row | {"score": round(rng.random(), 2), "keypoints": points.ravel().tolist()})
    truth = {"images": [{"id": 1, "height": 640, "width": 650, "file_name": "1.png"}],
             "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}], "annotations": true}
    compare(truth, found, kind)


def objects(boxes: list[list[float]], scores: list[float] | None = None, **more: Any) -> Any:
    array = np.array(boxes, float).reshape(len(boxes), 4)
    if scores is not None:
        return FoundObjects(np.ones(len(array), np.int64), np.array(scores, float), array, **more)
    return TrueObjects(np.ones(len(array), np.int64), array[:, 2:].prod(axis=1), array, np.zeros(len(array), bool), **more)


def test_by_hand() -> None:
    """Two true boxes; found are the first exactly, a double of it with the same score, and half of the second."""
    true = objects([[0, 0, 40, 40], [100, 0, 40, 40]])
    found = objects([[0, 0, 40, 40], [0, 0, 40, 40], [100, 0, 40, 20]], [0.5, 0.5, 0.4])
    image = match_image(true, found, "boxes")
    everywhere = image.outcomes.reshape(3, 10, 4)[:, :, 0]
    assert (everywhere[0] == RIGHT).all()
    assert (everywhere[1] == WRONG).all()
    assert everywhere[2].tolist() == [RIGHT] + 9 * [WRONG]
    scores = coco_scores([true], [found], "boxes", [1]).summary()
    # At 0.5 the second object is the third found: precision 1 up to a recall of 0.5, then 2 of 3.
    assert scores["ap50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert scores["ap75"] == pytest.approx(51 / 101)
    assert (scores["ar_1"], scores["ar_100"], scores["ap_small"]) == (0.5, pytest.approx(0.55), None)
    small = image.outcomes.reshape(3, 10, 4)[:, :, 1]
    assert (small[:2] == IGNORED).all()
    assert small[2].tolist() == [IGNORED] + 9 * [WRONG]


def test_what_is_undefined() -> None:
    nothing = objects([])
    assert set(coco_scores([nothing], [objects([], [])], "boxes", [1]).summary().values()) == {None}
    assert set(coco_summary([], "masks", [1, 2]).summary(2).values()) == {None}
    one = coco_scores([objects([[0, 0, 5, 5]])], [objects([], [])], "boxes", [1, 2])
    assert one.summary()["ap"] == one.summary(1)["ap"] == one.summary(1)["ar_1"] == 0
    assert one.summary(2)["ap"] is None
    with pytest.raises(LabelsError, match="category 3"):
        one.summary(3)


@pytest.mark.parametrize(("make", "error"), [
    (lambda: objects([[0, 0, 5, 5]], [np.nan]), LabelsError),
    (lambda: objects([[0, 0, 5, 5]], [0.5, 0.4]), SizeError),
    (lambda: objects([[0, 0, 5, 5]], masks=Runs.none((9, 9))), SizeError),
    (lambda: match_image(objects([]), objects([], []), "masks"), LabelsError),
    (lambda: match_image(objects([]), objects([], []), "keypoints"), LabelsError),
    (lambda: match_image(objects([], masks=Runs.none((9, 9))), objects([], [], masks=Runs.none((9, 8))), "masks"), LabelsError),
    (lambda: match_image(objects([[0, 0, 5, 5]], keypoints=np.zeros((1, 4, 3))), objects([], [], keypoints=np.zeros((0, 3, 3))),
                         "keypoints"), SizeError),
])
def test_what_cannot_be_compared(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()
