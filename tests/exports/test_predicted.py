"""`predict --export`: objects for QuPath, ImageJ and COCO, pixel for pixel, read by other programs' rules."""

import csv
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from roifile import ImagejRoi
from scipy import ndimage

from biomask import api
from biomask.api import PredictOptions
from biomask.errors import ManyErrors, UsageError
from biomask.io.annotations import read_shapes
from biomask.io.files import write_picture
from biomask.labels import PALETTE

#: pycocotools makes arrays in a way that numpy 2 finds old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALL = PredictOptions(device="cpu", exports=("geojson", "roi", "coco"))


def objects(out: Path, image: str = "a") -> dict[int, dict[str, str]]:
    with (out / "objects.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["id"]): row for row in csv.DictReader(file) if row["image"] == image}


def filled(geometry: shapely.Geometry, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres are inside, by shapely: no code of ours."""
    y, x = np.indices(size)
    return np.asarray(shapely.contains_xy(geometry, x + 0.5, y + 0.5))


def of_imagej(data: bytes) -> shapely.Geometry:
    """The area of a ROI: what an odd number of its outlines surround."""
    roi = ImagejRoi.frombytes(data)
    found = roi.coordinates(multi=True) if roi.multi_coordinates is not None else [roi.coordinates()]
    area = shapely.Polygon()
    for ring in found:
        area = area.symmetric_difference(shapely.Polygon(ring))
    return area


@pytest.fixture
def predicted(tmp_path, rule_model, draw_scene) -> Path:
    image = draw_scene(1)
    image[40:42, 3:5], image[42:44, 5:7] = 150, 150  # two squares that meet in a corner
    write_picture(tmp_path / "images" / "a.png", image)
    write_picture(tmp_path / "images" / "sub" / "b.png", draw_scene(2, count=3))
    write_picture(tmp_path / "images" / "none.png", np.zeros((20, 30), np.uint8))
    return api.predict(rule_model(tmp_path / "m", "three"), tmp_path / "images", tmp_path / "out", ALL).out


class TestPixels:
    def test_qupath(self, predicted):
        ids, table = tifffile.imread(predicted / "labels" / "a.tif"), objects(predicted)
        assert ndimage.binary_fill_holes(ids == 1).sum() > (ids == 1).sum(), "the first object has no hole"
        features = json.loads((predicted / "geojson" / "a.geojson").read_text())["features"]
        assert len(features) == len(table) == ids.max()
        for feature in features:
            number = int(feature["properties"]["name"])
            area = shapely.from_geojson(json.dumps(feature["geometry"]))
            assert area.is_valid
            assert np.array_equal(filled(area, ids.shape), ids == number)
            assert feature["properties"]["classification"] == {
                "name": table[number]["class"], "color": list(PALETTE[["cell", "bright"].index(table[number]["class"])])}
            measured = {m["name"]: m["value"] for m in feature["properties"]["measurements"]}
            expected = {c: float(v) for c, v in table[number].items() if c not in ("image", "id", "class") and v}
            assert measured == expected
            assert measured["area_px"] == (ids == number).sum()

    def test_imagej(self, predicted):
        ids, table = tifffile.imread(predicted / "labels" / "a.tif"), objects(predicted)
        claimed = np.zeros(ids.shape, int)
        with zipfile.ZipFile(predicted / "rois" / "a.zip") as zipped:
            members = [zipped.read(n) for n in zipped.namelist()]
        assert len(members) == len(table)
        for number, data in enumerate(members, start=1):
            roi, own = ImagejRoi.frombytes(data), filled(of_imagej(data), ids.shape)
            assert np.array_equal(own, ids == number)
            claimed += own
            assert roi.name == table[number]["class"]
            assert tuple(roi.stroke_color[1:]) == PALETTE[["cell", "bright"].index(roi.name)]
            properties = dict(line.split(": ") for line in roi.props.splitlines())
            assert int(properties["area_px"]) == own.sum()
        assert np.array_equal(claimed, ids > 0)

    def test_coco(self, predicted):
        from pycocotools import mask as coco_mask

        content = json.loads((predicted / "coco.json").read_text())
        assert {i["file_name"] for i in content["images"]} == {"a.png", "sub/b.png", "none.png"}
        kinds = {c["id"]: c["name"] for c in content["categories"]}
        for image in content["images"]:
            name = image["file_name"].removesuffix(".png")
            ids, table = tifffile.imread(predicted / "labels" / f"{name}.tif"), objects(predicted, name)
            of_image = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            assert len(of_image) == ids.max()
            for number, annotation in enumerate(of_image, start=1):
                assert annotation["area"] == (ids == number).sum() == annotation["measurements"]["area_px"]
                assert kinds[annotation["category_id"]] == table[number]["class"]
                if isinstance(annotation["segmentation"], dict):
                    runs = annotation["segmentation"]
                    assert np.array_equal(coco_mask.decode({**runs, "counts": runs["counts"].encode()}), ids == number)

    @pytest.mark.parametrize("form", ["geojson", "roi"])
    def test_back_by_convert(self, predicted, tmp_path, form):
        """The way that a corrected file goes: to labels again."""
        source = predicted / {"geojson": "geojson", "roi": "rois"}[form]
        api.convert(source, tmp_path / "back", "labels", {"kind": "instances"}, images=tmp_path / "images")
        for name in ("a", "sub/b", "none"):
            ids, back = (tifffile.imread(p / f"{name}.tif") for p in (predicted / "labels", tmp_path / "back"))
            assert np.array_equal(ids > 0, back > 0)
            pairs = np.unique(np.stack([ids.ravel(), back.ravel()]), axis=1)
            assert pairs.shape[1] == ids.max() + 1 == back.max() + 1

    def test_measurements_are_read_again(self, predicted):
        shapes = read_shapes(predicted / "geojson" / "a.geojson")[0].shapes
        assert all(s.measurements["area_px"] > 0 for s in shapes)

    def test_an_image_without_objects_has_empty_files(self, predicted):
        assert json.loads((predicted / "geojson" / "none.geojson").read_text())["features"] == []
        assert zipfile.ZipFile(predicted / "rois" / "none.zip").namelist() == []


@pytest.mark.parametrize("kind", ["instances", "multilabel"])
def test_kinds(tmp_path, rule_model, draw_scene, kind):
    write_picture(tmp_path / "images" / "a.png", draw_scene(4))
    out = api.predict(rule_model(tmp_path / "m", kind), tmp_path / "images", tmp_path / "out", ALL).out
    names = ("disc", "cup") if kind == "multilabel" else ("cell",)
    features = json.loads((out / "geojson" / "a.geojson").read_text())["features"]
    for name in names:
        ids = tifffile.imread(out / "labels" / (name if kind == "multilabel" else "") / "a.tif")
        own = [f for f in features if f["properties"]["classification"]["name"] == name]
        assert len(own) == ids.max()
        for feature in own:
            area = shapely.from_geojson(json.dumps(feature["geometry"]))
            assert np.array_equal(filled(area, ids.shape), ids == int(feature["properties"]["name"]))


def test_planes_of_a_volume_are_parts_of_one_object(tmp_path, rule_model, draw_scene):
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "v.tif", draw_scene(5, (24, 40, 40), 3), imagej=True, metadata={"axes": "ZYX"})
    model = rule_model(tmp_path / "m", "instances", 3)
    out = api.predict(model, tmp_path / "images", tmp_path / "out", PredictOptions(device="cpu", exports=("geojson", "roi"))).out
    ids = tifffile.imread(out / "labels" / "v.tif")
    back = np.zeros_like(ids)
    for feature in json.loads((out / "geojson" / "v.geojson").read_text())["features"]:
        plane = feature["geometry"].pop("plane")["z"]
        own = filled(shapely.from_geojson(json.dumps(feature["geometry"])), ids.shape[1:])
        back[plane][own] = int(feature["properties"]["name"])
    assert np.array_equal(back, ids)
    with pytest.raises(UsageError, match="COCO"):
        api.predict(model, tmp_path / "images", tmp_path / "other", ALL)
    assert not (tmp_path / "other").exists()


class TestAgain:
    def test_only_what_is_missing_or_old_is_written(self, predicted, tmp_path, draw_scene):
        def state() -> dict[str, int]:
            return {p.relative_to(predicted).as_posix(): p.stat().st_mtime_ns for p in predicted.rglob("*")
                    if p.parent.name in ("geojson", "rois", "sub") or p.name == "coco.json"}

        before = state()
        api.predict(tmp_path / "m", tmp_path / "images", predicted, ALL)
        assert state() == before
        write_picture(tmp_path / "images" / "a.png", draw_scene(7))
        os.remove(predicted / "rois" / "none.zip")
        api.predict(tmp_path / "m", tmp_path / "images", predicted, ALL)
        changed = {name for name, when in state().items() if before[name] != when}
        assert {n for n in changed if not n.startswith(("masks", "labels", "outlines"))} == {
            "geojson/a.geojson", "rois/a.zip", "rois/none.zip", "coco.json"}

    def test_asked_for_later(self, tmp_path, rule_model, draw_scene):
        write_picture(tmp_path / "images" / "a.png", draw_scene(0))
        model, out = rule_model(tmp_path / "m", "instances"), tmp_path / "out"
        api.predict(model, tmp_path / "images", out, PredictOptions(device="cpu"))
        assert not (out / "geojson").exists()
        result = api.predict(model, tmp_path / "images", out, ALL)
        assert result.done == ()
        assert (out / "geojson" / "a.geojson").is_file()

    def test_good_images_are_exported_where_others_fail(self, tmp_path, rule_model, draw_scene):
        write_picture(tmp_path / "images" / "a.png", draw_scene(0))
        (tmp_path / "images" / "b.png").write_bytes(b"")
        with pytest.raises(ManyErrors):
            api.predict(rule_model(tmp_path / "m", "instances"), tmp_path / "images", tmp_path / "out", ALL)
        assert [i["file_name"] for i in json.loads((tmp_path / "out" / "coco.json").read_text())["images"]] == ["a.png"]

    def test_overwrite_discards_them(self, predicted, tmp_path):
        api.predict(tmp_path / "m", tmp_path / "images", predicted, PredictOptions(device="cpu", overwrite=True))
        assert not [p for p in ("geojson", "rois", "coco.json") if (predicted / p).exists()]


@pytest.mark.parametrize("options", [{"exports": ("svg",)}, {"exports": ("coco",), "objects": False}])
def test_refused(options):
    with pytest.raises(UsageError, match="--export"):
        PredictOptions(**options)
