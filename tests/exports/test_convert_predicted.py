"""`convert` of a folder of predictions with keypoints: COCO as `predict --export coco` writes it, and as pycocotools reads it."""

import contextlib
import io
import json
import shutil
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
    assert notes == ()
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
    content, (note,) = converted(out, tmp_path / "x.json")
    assert note.startswith("keypoints of 1 image are left out")
    assert note.endswith(f"a; biomask convert {out / 'detections.json'} keeps them")
    own = {i["file_name"]: [a for a in content["annotations"] if a["image_id"] == i["id"]] for i in content["images"]}
    assert sum(a["area"] for a in own["a.tif"]) == (mask > 0).sum()
    assert all("keypoints" not in a for a in own["a.tif"])
    assert [a["num_keypoints"] for a in own["sub/b.png"]] == [1]


@pytest.mark.parametrize("how", ["no objects", "told"])
def test_where_masks_are_all_there_is_it_is_said(tmp_path: Path, out: Path, how: str) -> None:
    if how == "no objects":
        shutil.rmtree(out)
        predicted(tmp_path, POINTS, objects=False)
    content, notes = converted(out, tmp_path / "x.json", **({"settings": {"legend": NAMES}} if how == "told" else {}))
    assert len([n for n in notes if n.startswith("keypoints of 3 images are left out")]) == 1
    assert all("keypoints" not in a for a in content["annotations"])
    again, notes = converted(out / "detections.json", tmp_path / "y.json")
    assert notes == ()
    assert [a["num_keypoints"] for a in again["annotations"]] == [1] * 4


def test_nothing_changes_without_keypoints(tmp_path: Path) -> None:
    """Pieces of the class masks, as ever."""
    out = predicted(tmp_path)
    shutil.copytree(out / "masks", tmp_path / "masks")
    content, notes = converted(out, tmp_path / "x.json")
    alone, _ = converted(tmp_path / "masks", tmp_path / "y.json", settings={"kind": "classes", "legend": NAMES})
    assert notes == ()
    assert content["annotations"] == alone["annotations"]
    assert content["images"] == alone["images"]
