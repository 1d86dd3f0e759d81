"""`convert` of a folder of predictions with keypoints: COCO as `predict --export coco` writes it, and as pycocotools reads it."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from tests.prediction.stand_in import BrightSquares

from biomask import api
from biomask.api import PredictOptions
from biomask.checkpoint import Keypoints, Model, ModelHeader
from biomask.io.files import write_picture
from biomask.labels import Legend
from biomask.models.mask_rcnn.types import Limits
from biomask.recipe import NetworkSettings, NormalizationSettings, Recipe

#: pycocotools' own arrays, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

#: (top, left, bottom, right, grey value) of what is in the images; boxes are 3 pixels wider, so that the first two overlap.
SCENES = {"a": [(8, 6, 18, 20, 200), (8, 23, 20, 40, 203), (26, 30, 36, 39, 120)], "sub/b": [(5, 5, 9, 12, 250)], "c": []}
KINDS = [{"id": 3, "name": "even", "keypoints": ["head", "tail"], "skeleton": [[1, 2]]},
         {"id": 7, "name": "odd", "keypoints": ["head", "tail"], "skeleton": [[1, 2]]}]


class Pointed(BrightSquares):
    """With masks of wider boxes, and two keypoints: one in a corner of the rectangle, one found nowhere."""

    def forward(self, images: list[torch.Tensor], *, paste: bool) -> list[dict[str, torch.Tensor]]:
        found = super().forward([image / 250 for image in images], paste=paste)
        for one in found:
            boxes = one["boxes"]
            first = torch.cat([boxes[:, :2] + 0.25, torch.ones(len(boxes), 1)], 1)
            one["keypoints"] = torch.stack([first, torch.zeros(len(boxes), 3)], 1)
            one["boxes"] = boxes + torch.tensor([-3.0, -3, 3, 3])
            one["masks"] = torch.ones(len(boxes), 1, 28, 28)
        return found


def predicted(folder: Path, points: Keypoints | None = None, **options: Any) -> Path:
    for name, rects in SCENES.items():
        picture = np.zeros((40, 50), np.uint8)
        for top, left, bottom, right, value in rects:
            picture[top:bottom, left:right] = value
        write_picture(folder / "images" / f"{name}.png", picture)
    (folder / "model.safetensors").write_bytes(b"a stand-in has no weights")
    recipe = Recipe(name="stand-in", network=NetworkSettings(name="mask-rcnn"), normalization=NormalizationSettings(method="none"))
    header = ModelHeader(recipe=recipe, in_channels=1, spatial_dims=2, kind="instances", dtype="uint8", keypoints=points,
                         legend=Legend.of_values([0, 3, 7], {3: "even", 7: "odd"}).to_json(), thresholds={"score": 0.1})
    network = (BrightSquares if points is None else Pointed)(Limits(detections=50, score=0.0)).eval()
    if points is None:
        network.forward = lambda images, paste: [{k: v for k, v in one.items() if k != "keypoints"} for one in
                                                 BrightSquares.forward(network, [i / 250 for i in images], paste=paste)]
    return api.predict(Model(network, header, folder / "model.safetensors"), folder / "images", folder / "out",
                       PredictOptions(device="cpu", **options)).out


OF_LABELS = ("objects are the ids of labels/",)
NAMES = {0: "background", 3: "even", 7: "odd"}
POINTS = Keypoints(names=("head", "tail"), skeleton=((0, 1),))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return predicted(tmp_path, POINTS, exports=("coco",))


def converted(out: Path, file: Path, **options: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    done = api.convert(out, file, "coco", **options)
    return json.loads(file.read_text(encoding="utf-8")), done.notes


@pytest.mark.parametrize("images", [False, True])
def test_is_what_predict_exports(tmp_path: Path, out: Path, images: bool) -> None:
    content, notes = converted(out, tmp_path / "x.json", **({"images": tmp_path / "images"} if images else {}))
    assert content == json.loads((out / "coco.json").read_text(encoding="utf-8"))
    assert notes == OF_LABELS
    assert [{k: c[k] for k in KINDS[0]} for c in content["categories"]] == KINDS
    assert [(a["num_keypoints"], a["keypoints"]) for a in content["annotations"]] == [
        (1, [23.25, 8.25, 1, 0, 0, 0]), (1, [6.25, 8.25, 1, 0, 0, 0]), (1, [30.25, 26.25, 1, 0, 0, 0]),
        (1, [5.25, 5.25, 1, 0, 0, 0])]


def test_pycocotools_finds_the_detections_in_it(tmp_path: Path, out: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    converted(out, tmp_path / "x.json")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "x.json"))
        names = {i["file_name"]: i["id"] for i in truth.imgs.values()}
        found = json.loads((out / "detections.json").read_text(encoding="utf-8"))
        of = {i["id"]: names[i["file_name"]] for i in found["images"]}
        rows = [{**{k: a[k] for k in ("category_id", "keypoints", "score")}, "image_id": of[a["image_id"]]}
                for a in found["annotations"]]
        judged = COCOeval(truth, truth.loadRes(rows), "keypoints")
        judged.params.kpt_oks_sigmas = np.full(2, 0.05)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    assert len(truth.anns) == 4
    assert judged.stats[0] == 1


def test_images_without_objects_name_the_keypoints_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCENES, "a", [])
    monkeypatch.setitem(SCENES, "sub/b", [])
    content, _ = converted(predicted(tmp_path, POINTS), tmp_path / "x.json")
    assert [{k: c[k] for k in KINDS[0]} for c in content["categories"]] == KINDS
    assert content["annotations"] == []
    assert len(content["images"]) == 3


def test_a_corrected_mask_counts_and_it_is_said_what_is_lost(tmp_path: Path, out: Path) -> None:
    mask = tifffile.imread(out / "masks" / "a.tif")
    mask[30:, 25:] = 0
    tifffile.imwrite(out / "masks" / "a.tif", mask)
    content, (changed, _, note) = converted(out, tmp_path / "x.json")
    assert changed.startswith("masks/ was changed since it was predicted, and counts: a.")
    assert note.startswith("keypoints of 1 image are left out")
    assert note.endswith(f"a; biomask convert {out / 'detections.json'} keeps them")
    own = {i["file_name"]: [a for a in content["annotations"] if a["image_id"] == i["id"]] for i in content["images"]}
    assert sum(a["area"] for a in own["a.png"]) == (mask > 0).sum()
    assert all("keypoints" not in a for a in own["a.png"])
    assert [a["num_keypoints"] for a in own["sub/b.png"]] == [1]


@pytest.mark.parametrize("how", ["no table", "pieces", "anew"])
def test_what_is_lost_is_said(tmp_path: Path, out: Path, how: str) -> None:
    options: dict[str, Any] = {"pieces": {"masks": "masks"}, "anew": {"settings": {"ignore": 9}}}.get(how, {})
    if how == "no table":
        (out / "objects.csv").unlink()
    content, notes = converted(out, tmp_path / "x.json", **options)
    assert len([n for n in notes if "keypoints" in n]) == 1
    assert len([n for n in notes if n.startswith("keypoints of 3 images are left out")]) == (how != "anew")
    assert all("keypoints" not in a for a in content["annotations"])
    assert {i["file_name"] for i in content["images"]} == ({"a.tif", "sub/b.tif", "c.tif"} if how == "anew" else
                                                          {"a.png", "sub/b.png", "c.png"})
    again, notes = converted(out / "detections.json", tmp_path / "y.json")
    assert notes == ()
    assert [a["num_keypoints"] for a in again["annotations"]] == [1] * 4
    assert {i["file_name"] for i in again["images"]} == {"a.png", "sub/b.png", "c.png"}


class TestWithoutLabels:
    """`predict --no-objects`: what a detector found says more than masks."""

    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        return predicted(tmp_path, POINTS, objects=False)

    def test_detections_are_the_objects(self, tmp_path: Path, out: Path) -> None:
        content, notes = converted(out, tmp_path / "x.json")
        assert notes == ("objects are those of detections/, as labels/ has none; they may overlap",)
        found = json.loads((out / "detections.json").read_text(encoding="utf-8"))
        assert [a["num_keypoints"] for a in content["annotations"]] == [1] * 4
        assert [a["area"] for a in content["annotations"]] == [a["area"] for a in found["annotations"]], "overlaps are kept"
        assert [a["measurements"]["score"] for a in content["annotations"]] == [a["score"] for a in found["annotations"]]
        assert [c["id"] for c in content["categories"]] == [3, 7]

    def test_the_surer_one_has_the_pixel(self, tmp_path: Path, out: Path) -> None:
        again = predicted(tmp_path / "again", POINTS)
        assert api.convert(out, tmp_path / "ids", "labels").objects == 4
        for name in ("a", "sub/b", "c"):
            ids, others = (tifffile.imread(p / f"{name}.tif") for p in (tmp_path / "ids", again / "labels"))
            assert np.array_equal(ids, others)
        api.convert(out, tmp_path / "masks", "masks")
        assert np.array_equal(tifffile.imread(tmp_path / "masks" / "a.tif"), tifffile.imread(out / "masks" / "a.tif"))

    def test_other_formats(self, tmp_path: Path, out: Path) -> None:
        done = api.convert(out, tmp_path / "g", "geojson")
        assert done.objects == 4
        assert "a: keypoints of 3 objects (only COCO holds them)" in done.notes

    def test_a_corrected_mask_counts(self, tmp_path: Path, out: Path) -> None:
        mask = tifffile.imread(out / "masks" / "a.tif")
        mask[22:] = 0
        tifffile.imwrite(out / "masks" / "a.tif", mask)
        done = api.convert(out, tmp_path / "g", "geojson")
        assert done.objects == 2 + 1
        assert any(n.startswith("masks/ was changed since it was predicted, and counts: a.") for n in done.notes)


def test_names_that_are_told_keep_keypoints(tmp_path: Path, out: Path) -> None:
    content, notes = converted(out, tmp_path / "x.json", settings={"legend": {3: "fish"}})
    assert notes == OF_LABELS
    assert [c["name"] for c in content["categories"]] == ["fish", "odd"]
    assert [a["num_keypoints"] for a in content["annotations"]] == [1] * 4


def test_a_class_that_a_mask_was_given_counts(tmp_path: Path, out: Path) -> None:
    """Somebody painted the mask of an object in another class, and nothing else."""
    mask = tifffile.imread(out / "masks" / "sub" / "b.tif")
    mask[mask == 3], mask[mask == 7] = 70, 3
    mask[mask == 70] = 7
    tifffile.imwrite(out / "masks" / "sub" / "b.tif", mask)
    before = json.loads((out / "coco.json").read_text(encoding="utf-8"))["annotations"][-1]["category_id"]
    content, notes = converted(out, tmp_path / "x.json")
    assert content["annotations"][-1]["category_id"] == {3: 7, 7: 3}[before]
    assert content["annotations"][-1]["num_keypoints"] == 1
    assert "the class of 1 object is that of masks/, and not of objects.csv: sub/b" in notes


def test_boxes_are_outlines_where_there_are_no_masks(tmp_path: Path) -> None:
    out = predicted(tmp_path, objects=False)
    for to in ("coco", "geojson", "labels"):
        done = api.convert(out, tmp_path / to, to)
        assert done.objects == 4
    boxed = json.loads((tmp_path / "coco" / "labels.json").read_text(encoding="utf-8"))["annotations"]
    assert all(a["segmentation"] == [] for a in boxed)


def test_without_keypoints_too(tmp_path: Path) -> None:
    """Objects of a detector that touch are not one."""
    out = predicted(tmp_path, exports=("coco",))
    content, notes = converted(out, tmp_path / "x.json")
    assert notes == OF_LABELS
    assert content == json.loads((out / "coco.json").read_text(encoding="utf-8"))
