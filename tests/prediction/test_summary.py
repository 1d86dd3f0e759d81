"""images.csv: one row an image, figures that are known beforehand."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from biomask import api
from biomask.api import PredictOptions
from biomask.errors import InputError, ManyErrors
from biomask.io.files import write_picture

CPU = PredictOptions(device="cpu")


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "images.csv").open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def save(path: Path, image: np.ndarray, spacing: tuple[float, ...] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if spacing is None:
        tifffile.imwrite(path, image)
        return
    more = {"spacing": spacing[0]} if image.ndim == 3 else {}
    tifffile.imwrite(path, image, imagej=True, resolution=(1 / spacing[-1], 1 / spacing[-2]),
                     metadata={"axes": "ZYX"[-image.ndim:], "unit": "um", **more})


@pytest.mark.parametrize("spacing", [None, (0.5, 0.25)])
def test_figures_of_objects(tmp_path, rule_model, draw_scene, spacing):
    image = draw_scene(1)
    image[0, :3] = 150  # an object at the edge
    save(tmp_path / "images" / "a.tif", image, spacing)
    out = api.predict(rule_model(tmp_path / "m", "instances"), tmp_path / "images", tmp_path / "out", CPU).out
    row = table(out)["a"]
    ids = tifffile.imread(out / "labels" / "a.tif")
    areas = np.bincount(ids.ravel())[1:]
    assert len(areas) == 7
    assert (int(row["pixels"]), int(row["objects"]), int(row["touching_border"])) == (image.size, 7, 1)
    assert float(row["share_cell"]) == pytest.approx(areas.sum() / image.size)
    pixel = 1 if spacing is None else spacing[0] * spacing[1]
    for unit, size in (("px", 1), *([] if spacing is None else [("um2", pixel)])):
        expected = (areas.mean(), np.median(areas), *np.percentile(areas, [10, 90]))
        found = [float(row[f"area_{unit}_{name}"]) for name in ("mean", "median", "p10", "p90")]
        assert found == pytest.approx([v * size for v in expected], rel=1e-6)
    if spacing is None:
        assert not [c for c in row if "mm2" in c or "um2" in c]
    else:
        assert float(row["objects_per_mm2"]) == pytest.approx(7 / (image.size * pixel * 1e-6), rel=1e-6)
    with (out / "objects.csv").open() as file:
        probabilities = [float(r["probability"]) for r in csv.DictReader(file)]
    assert float(row["probability_mean"]) == pytest.approx(np.mean(probabilities), rel=1e-6)
    assert json.loads((out / "run.json").read_text())["images"]["a"]["summary"]["objects"] == 7


def test_several_classes_are_counted_apart(tmp_path, rule_model, draw_scene):
    image = draw_scene(2)
    write_picture(tmp_path / "images" / "a.png", image)
    out = api.predict(rule_model(tmp_path / "m", "three"), tmp_path / "images", tmp_path / "out", CPU).out
    row, mask = table(out)["a"], tifffile.imread(out / "masks" / "a.tif")
    for name, value in (("cell", 1), ("bright", 7)):
        assert float(row[f"share_{name}"]) == pytest.approx((mask == value).mean())
        assert int(row[f"objects_{name}"]) == ndimage.label(mask == value)[1]
    assert int(row["objects"]) == int(row["objects_cell"]) + int(row["objects_bright"])


def test_structures_that_overlap(tmp_path, rule_model, draw_scene):
    image = draw_scene(3)
    write_picture(tmp_path / "images" / "a.png", image)
    out = api.predict(rule_model(tmp_path / "m", "multilabel"), tmp_path / "images", tmp_path / "out", CPU).out
    row = table(out)["a"]
    assert float(row["share_disc"]) == pytest.approx((image >= 100).mean())
    assert float(row["share_cup"]) == pytest.approx((image >= 200).mean())


def test_volumes(tmp_path, rule_model, draw_scene):
    image = draw_scene(5, (24, 40, 40), 3)
    save(tmp_path / "images" / "v.tif", image, (2.0, 0.5, 0.5))
    out = api.predict(rule_model(tmp_path / "m", "instances", 3), tmp_path / "images", tmp_path / "out", CPU).out
    row = table(out)["v"]
    volumes = np.bincount(tifffile.imread(out / "labels" / "v.tif").ravel())[1:]
    assert float(row["volume_um3_mean"]) == pytest.approx(volumes.mean() * 0.5, rel=1e-6)
    assert float(row["objects_per_mm3"]) == pytest.approx(len(volumes) / (image.size * 0.5e-9), rel=1e-6)


def test_what_is_not_defined_is_empty(tmp_path, rule_model):
    write_picture(tmp_path / "images" / "a.png", np.zeros((20, 20), np.uint8))
    out = api.predict(rule_model(tmp_path / "m", "instances"), tmp_path / "images", tmp_path / "out", CPU).out
    row = table(out)["a"]
    assert (row["objects"], row["share_cell"], row["touching_border"]) == ("0", "0", "0")
    assert row["area_px_mean"] == row["area_px_p90"] == row["probability_mean"] == ""
    assert json.loads((out / "run.json").read_text())["images"]["a"]["summary"]["area_px_mean"] is None


def test_without_objects_it_has_the_shares(tmp_path, rule_model, draw_scene):
    write_picture(tmp_path / "images" / "a.png", draw_scene(0))
    out = api.predict(rule_model(tmp_path / "m", "classes"), tmp_path / "images", tmp_path / "out",
                      PredictOptions(device="cpu", objects=False)).out
    assert list(table(out)["a"]) == ["image", "pixels", "share_cell", "warnings"]


def test_runs_add_up_and_failed_images_have_no_row(tmp_path, rule_model, draw_scene):
    model, images, out = rule_model(tmp_path / "m", "instances"), tmp_path / "images", tmp_path / "out"
    for seed, name in enumerate(("a", "b", "sub/c")):
        write_picture(images / f"{name}.png", draw_scene(seed))
    good = (images / "b.png").read_bytes()
    (images / "b.png").write_bytes(b"")
    with pytest.raises(ManyErrors):
        api.predict(model, images, out, CPU)
    first = table(out)
    assert set(first) == {"a", "sub/c"}
    (images / "b.png").write_bytes(good)
    os.remove(out / "images.csv")
    api.predict(model, images, out, CPU)
    assert set(table(out)) == {"a", "b", "sub/c"}
    assert first.items() <= table(out).items()


def test_a_table_of_someone_else_is_not_written_over(tmp_path, rule_model, draw_scene):
    write_picture(tmp_path / "images" / "a.png", draw_scene(0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images.csv").write_text("mine")
    with pytest.raises(InputError, match=r"images\.csv"):
        api.predict(rule_model(tmp_path / "m", "classes"), tmp_path / "images", tmp_path / "out", CPU)
    assert (tmp_path / "out" / "images.csv").read_text() == "mine"
