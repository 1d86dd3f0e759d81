"""COCO's table in an evaluation: files of results, a detector's folder, and label images."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biomask import api
from biomask.cli import main
from biomask.errors import BiomaskError, LabelsError, ManyErrors, PairingError, ReadError, UsageError
from biomask.instances.rle import pack
from biomask.instances.runs import Runs
from biomask.io.detections import DETECTIONS, DetectedImage, write_detections
from biomask.io.files import write_picture
from biomask.metrics import FoundObjects, TrueObjects, coco_scores
from biomask.recipe import DataSettings
from biomask.shapes import Category

#: pycocotools' own arrays, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE, COUNT = 80, 3
CELL, DEBRIS = 4, 9  # ids with gaps


def boxes(i: int) -> list[tuple[int, int, int, int, int]]:
    """x, y, width, height, category of the true objects of an image."""
    return [(2 + i, 3, 20, 18, CELL), (30, 5 + i, 24, 24, CELL), (5, 40, 36, 35, DEBRIS), (60, 60, 12, 12, CELL)][:4 - i]


def true_file(folder: Path) -> Path:
    """A folder with images and a COCO file of triangles, run lengths and a crowd."""
    folder.mkdir(parents=True)
    annotations: list[dict[str, Any]] = []
    for i in range(COUNT):
        write_picture(folder / f"{i}.png", np.zeros((SIDE, SIDE), np.uint8))
        for n, (x, y, w, h, category) in enumerate(boxes(i)):
            crowd = i == 0 and n == 3
            runs = {"size": [SIDE, SIDE], "counts": Runs.of_crops([(np.ones((h, w), bool), (y, x))], (SIDE, SIDE)).counts(0)}
            annotations.append({"id": len(annotations) + 1, "image_id": 10 + i, "category_id": category, "iscrowd": int(crowd),
                                "area": float(w * h), "bbox": [x, y, w, h],
                                "segmentation": runs if crowd else [[x, y, x + w, y + 0.3, x + w / 2, y + h]]})
    images = [{"id": 10 + i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE} for i in range(COUNT)]
    categories = [{"id": CELL, "name": "cell"}, {"id": DEBRIS, "name": "debris"}]
    (folder / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return folder


def results() -> list[dict[str, Any]]:
    """Rectangles in the place of triangles, moved, two with one score; one in the crowd, one of no class, one of no image."""
    found = []
    for i in range(COUNT):
        for n, (x, y, w, h, category) in enumerate(boxes(i)):
            mask = np.tri(h, w, dtype=bool)[::-1]
            runs = Runs.of_crops([(mask, (y + n, x))], (SIDE, SIDE))
            found.append({"image_id": 10 + i, "category_id": category, "score": 0.9 - 0.2 * (n // 2), "bbox": [x + 1, y, w, h + n],
                          "segmentation": {"size": [SIDE, SIDE], "counts": pack(runs.counts(0))}})
    return [*found, {**found[0], "category_id": 77}]


def reference(truth: Path, found: list[dict[str, Any]], kind: str) -> list[float | None]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        own = COCO(str(truth / "instances.json"))
        rows = [{k: v for k, v in r.items() if k != "bbox"} for r in found] if kind == "segm" else found
        judged = COCOeval(own, own.loadRes(rows), kind)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return [None if v == -1 else v for v in judged.stats.tolist()]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return true_file(tmp_path / "truth")


def saved(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_list_of_results_like_pycocotools(tmp_path: Path, truth: Path) -> None:
    file = saved(tmp_path / "results.json", [*results(), {**results()[0], "image_id": 99}])
    scores = api.evaluate(file, truth, report=tmp_path / "report.html").scores
    assert (scores["kind"], scores["n_images"], scores["without_truth"]) == ("detections", COUNT, ["image_id 99"])
    assert list(scores["metrics"]) == ["coco_boxes", "coco_masks"]
    for name, kind in (("coco_boxes", "bbox"), ("coco_masks", "segm")):
        assert list(scores["metrics"][name]["pooled"].values()) == pytest.approx(reference(truth, results(), kind), abs=1e-12)
    masks = scores["metrics"]["coco_masks"]
    assert any("1 objects are of classes that the truth does not have" in s and "category_id 77" in s for s in masks["says"])
    assert {c["name"]: c["true"] for c in masks["per_class"].values()} == {"cell": 6, "debris": 2}
    assert masks["pooled"]["ap"] == pytest.approx(np.mean([c["ap"] for c in masks["per_class"].values()]))
    assert [r["name"] for r in masks["per_image"]] == ["0.png", "1.png", "2.png"]
    page = (tmp_path / "report.html").read_text()
    assert all(words in page for words in ("COCO, masks", "category_id 77", "debris"))


def detector(folder: Path, *, labels: bool = True) -> Path:
    """What `predict` of a detector leaves: detections.json, with label images or without."""
    found = results()
    images = []
    for i in range(COUNT):
        own = [r for r in found if r["image_id"] == 10 + i and r["category_id"] != 77]
        masks = Runs.of_counts([r["segmentation"]["counts"] for r in own], (SIDE, SIDE))
        images.append(DetectedImage(f"{i}.png", (SIDE, SIDE), np.array([{CELL: 1, DEBRIS: 2}[r["category_id"]] for r in own]),
                                    np.array([r["score"] for r in own]), np.array([r["bbox"] for r in own], float), masks))
        if labels:
            ids, classes = np.zeros((2, SIDE, SIDE), np.uint8)
            for n in range(len(masks)):
                crop, (y, x) = masks.crop(n)
                ids[y:y + crop.shape[0], x:x + crop.shape[1]][crop] = n + 1
                classes[y:y + crop.shape[0], x:x + crop.shape[1]][crop] = images[-1].categories[n]
            for name, array in (("labels", ids), ("masks", classes)):
                (folder / name).mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(folder / name / f"{i}.tif", array)
    write_detections(folder / DETECTIONS, images, [Category("cell", 1), Category("debris", 2)])
    legend = [{"value": v, "name": n, "colour": [v, v, v]} for v, n in enumerate(("background", "cell", "debris"))]
    saved(folder / "run.json", {"command": "predict", "kind": "instances", "legend": legend})
    return folder


@pytest.mark.parametrize("labels", [True, False])
def test_a_folder_of_a_detector(tmp_path: Path, truth: Path, labels: bool) -> None:
    """Unasked; classes by name, though their ids differ; a detections.json alone too."""
    scores = api.evaluate(detector(tmp_path / "out", labels=labels), truth, report=tmp_path / "report.html").scores
    assert scores["kind"] == ("instances" if labels else "detections")
    known = [r for r in results() if r["category_id"] != 77]
    for name, kind in (("coco_boxes", "bbox"), ("coco_masks", "segm")):
        assert list(scores["metrics"][name]["pooled"].values()) == pytest.approx(reference(truth, known, kind), abs=1e-12)
    assert "COCO, boxes" in (tmp_path / "report.html").read_text()


def said_of_scores(predictions: Path, truth: Path) -> str:
    tables, begin = api.evaluate(predictions, truth).scores["metrics"], "Scores are the detector's."
    (said,) = {s for name in ("coco_boxes", "coco_masks") for s in tables[name]["says"] if s.startswith(begin)}
    return str(said).removeprefix(begin).strip()


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize(("asked", "limit", "images", "left_out"), [
    (None, 0.5, None, "0.5"), (None, 0.05, None, None), (0.05, 0.05, None, None), (0.0, 0.0, None, None), (0.3, 0.3, None, "0.3"),
    (0.05, 0.05, {"1": 0.25}, "0.25"), (None, 0.05, {"1": 0.25}, "0.25")])
def test_a_lower_score_is_advised_where_a_higher_one_was_used(tmp_path: Path, truth: Path, labels: bool, asked: float | None,
                                                              limit: float, images: dict[str, float] | None,
                                                              left_out: str | None) -> None:
    """run.json says it, of each image: a folder may be filled in several runs."""
    out = detector(tmp_path / "out", labels=labels)
    entries = {str(i): {"score": (images or {}).get(str(i), asked)} for i in range(COUNT)}
    record = json.loads((out / "run.json").read_text())
    saved(out / "run.json", {**record, "score": asked, "limits": {"score": limit}, "images": entries})
    for predictions in (out, out / DETECTIONS):
        said = said_of_scores(predictions, truth)
        assert ("--score 0.05" in said) == (left_out is not None)
        if left_out is not None:
            assert said.startswith(f"Objects of at most {left_out} were not written, so AP may be below")
        else:
            assert said == ""


@pytest.mark.parametrize("record", [None, {}, {"score": 0.05, "limits": {"score": 0.05}, "images": {"0": {"score": None}}}])
def test_where_the_score_is_not_recorded_the_lowest_one_counts(tmp_path: Path, truth: Path, record: dict[str, Any] | None) -> None:
    out = detector(tmp_path / "out")
    if record is None:
        (out / "run.json").unlink()
    else:
        saved(out / "run.json", {**json.loads((out / "run.json").read_text()), **record})
    least = min(r["score"] for r in results())
    assert said_of_scores(out / DETECTIONS, truth).startswith(f"The lowest is {least:.4g}: if objects of lower ones were left out")
    unsure = [*results(), {**results()[0], "score": 0.06}]
    assert said_of_scores(saved(tmp_path / "results.json", unsure), truth) == ""


def test_a_damaged_file_of_a_detector_says_that_predict_writes_it_anew(tmp_path: Path, truth: Path) -> None:
    file = detector(tmp_path / "out") / DETECTIONS
    file.write_text(file.read_text()[:300])
    with pytest.raises(ReadError, match="damaged") as caught:
        api.evaluate(tmp_path / "out", truth)
    assert caught.value.where == file
    assert "predict" in (caught.value.fix or "")


def ids_of(i: int, shift: int = 0) -> np.ndarray:
    out = np.zeros((SIDE, SIDE), np.uint8)
    for n, (x, y, w, h, _) in enumerate(boxes(i), start=1):
        out[y + shift * n:y + h + shift * n, x:x + w] = n
    return out


def label_folders(folder: Path) -> tuple[Path, Path]:
    for i in range(COUNT):
        for name, array in (("out/labels", ids_of(i, 1)), ("out/masks", (ids_of(i, 1) > 0).astype(np.uint8)), ("truth", ids_of(i))):
            (folder / name).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / name / f"{i}.tif", array)
    return folder / "out", folder / "truth"


def by_hand(scores: dict[int, float] | None) -> dict[str, float | None]:
    true, found = [], []
    for i in range(COUNT):
        runs, moved = Runs.of_ids(ids_of(i))[0], Runs.of_ids(ids_of(i, 1))[0]
        ones = np.ones(len(runs), np.int64)
        true.append(TrueObjects(ones, runs.areas.astype(float), runs.boxes, ones < 0, runs))
        sure = [1.0 if scores is None else scores[n] for n in range(1, len(moved) + 1)]
        found.append(FoundObjects(ones, np.array(sure), moved.boxes, moved))
    return coco_scores(true, found, "masks", [1]).summary()


def test_label_images_when_asked(tmp_path: Path) -> None:
    out, truth = label_folders(tmp_path)
    settings = DataSettings(kind="instances")
    options = api.EvaluateOptions(metrics=("coco",))
    assert api.evaluate(out, truth, settings=settings).scores["metrics"] == {}
    plain = api.evaluate(out, truth, settings=settings, options=options).scores["metrics"]["coco_masks"]
    assert plain["pooled"] == by_hand(None)
    assert any("each object has 1" in s for s in plain["says"])
    sure = {1: 0.2, 2: 0.4, 3: 0.6, 4: 0.8}
    rows = [f"{i},{n},{sure[n]}" for i in range(COUNT) for n in range(1, len(boxes(i)) + 1)]
    (out / "objects.csv").write_text("\n".join(["image,id,probability", *rows]))
    told = api.evaluate(out, truth, settings=settings, options=options).scores["metrics"]["coco_masks"]
    assert told["pooled"] == by_hand(sure) != by_hand(None)


def test_unknown_pixels_are_crowds(tmp_path: Path) -> None:
    """What is found in them costs nothing; what is found elsewhere does."""
    out, truth = label_folders(tmp_path)
    for i in range(COUNT):
        known = ids_of(i)
        known[known == 2] = 255
        tifffile.imwrite(truth / f"{i}.tif", known)
    settings, options = DataSettings(kind="instances", ignore=255), api.EvaluateOptions(metrics=("coco",))
    table = api.evaluate(out, truth, settings=settings, options=options).scores["metrics"]["coco_masks"]
    assert table["per_class"]["1"]["true"] == sum(len(boxes(i)) - 1 for i in range(COUNT))
    assert table["pooled"]["ap50"] == 1
    settings = DataSettings(kind="instances")
    for i in range(COUNT):
        tifffile.imwrite(truth / f"{i}.tif", np.where(ids_of(i) == 2, 0, ids_of(i)).astype(np.uint8))
    assert api.evaluate(out, truth, settings=settings, options=options).scores["metrics"]["coco_masks"]["pooled"]["ap50"] < 1


def test_command_line(tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path / "results.json", results())
    assert main(["evaluate", str(file), str(truth / "instances.json")]) == 0
    said = capsys.readouterr().out
    assert all(words in said for words in ("COCO, masks", "AR, 10 an image", "each class"))
    assert main(["evaluate", str(detector(tmp_path / "out")), str(truth)]) == 0
    assert "COCO, boxes" in capsys.readouterr().out


@pytest.mark.parametrize(("change", "error", "words"), [
    (lambda rows: [{k: v for k, v in r.items() if k != "score"} for r in rows], ReadError, "score of object 0"),
    (lambda rows: [*rows, {k: v for k, v in rows[0].items() if k != "bbox"}], ReadError, "has no bbox"),
    (lambda rows: [{**rows[0], "bbox": [1, 2, -3, 4]}], ReadError, "negative"),
    (lambda rows: [{**rows[0], "bbox": [1, 2, float("nan"), 4]}], ReadError, "finite"),
    (lambda rows: [{**rows[0], "segmentation": {"size": [SIDE, SIDE + 1], "counts": "01"}}], ReadError, "its image has"),
    (lambda rows: [{**rows[0], "segmentation": {"size": [SIDE, SIDE], "counts": [5, 6]}}], ReadError, "do not add up"),
    (lambda rows: [{"image_id": 10, "category_id": 4, "score": 1}], ReadError, "neither bbox"),
    (lambda rows: [{**rows[0], "category_id": "cell"}], ReadError, "no category_id"),
    (lambda rows: {"annotations": rows}, ReadError, "no detections"),
])
def test_results_that_are_none(tmp_path: Path, truth: Path, change: Any, error: type[BiomaskError], words: str) -> None:
    with pytest.raises(error, match=words):
        api.evaluate(saved(tmp_path / "results.json", change(results())), truth)


def test_sides_that_do_not_fit(tmp_path: Path, truth: Path) -> None:
    out = detector(tmp_path / "out")
    content = json.loads((out / DETECTIONS).read_text())
    fewer = {**content, "images": content["images"][1:], "annotations": [a for a in content["annotations"] if a["image_id"] != 1]}
    saved(out / DETECTIONS, fewer)
    with pytest.raises(PairingError, match="lacks 1 of 3 images: 0"):
        api.evaluate(out, truth)
    with pytest.raises(PairingError, match="lacks 1 of the 3 images"):
        api.evaluate(out / DETECTIONS, truth)
    saved(out / DETECTIONS, {**content, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]})
    with pytest.raises(LabelsError, match="no class is in both"):
        api.evaluate(out, truth)
    saved(out / DETECTIONS, {**content, "images": [{**i, "height": 5} for i in content["images"]]})
    with pytest.raises(ReadError, match="its image has"):
        api.evaluate(out, truth)
    file = saved(tmp_path / "results.json", results())
    with pytest.raises(UsageError, match="COCO's scores alone"):
        api.evaluate(file, truth, options=api.EvaluateOptions(metrics=("ctc",)))
    with pytest.raises(PairingError, match="holds no COCO files"):
        api.evaluate(file, out / "labels")
    broken = json.loads((truth / "instances.json").read_text())
    broken["annotations"][0]["segmentation"] = [[1, 2, 3]]
    saved(truth / "instances.json", broken)
    with pytest.raises(ManyErrors, match=r"annotation 1: a polygon"):
        api.evaluate(file, truth)


def test_a_box_alone_and_no_area(tmp_path: Path, truth: Path) -> None:
    """Boxes are scored all the same, and why masks are not is said; areas are then those of masks or boxes."""
    content = json.loads((truth / "instances.json").read_text())
    del content["annotations"][0]["segmentation"]
    for a in content["annotations"]:
        del a["area"]
    saved(truth / "instances.json", content)
    metrics = api.evaluate(saved(tmp_path / "results.json", results()), truth).scores["metrics"]
    assert list(metrics) == ["coco_boxes"]
    assert "Masks are not scored: annotation 1 of the truth has a box alone." in metrics["coco_boxes"]["says"]
