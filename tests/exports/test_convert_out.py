"""`convert` of a folder that `predict` wrote: its objects are those of labels/, and those that touch stay apart."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biomask import api
from biomask.api import PredictOptions
from biomask.errors import InputError, LabelsError, ManyErrors, PairingError, ReadError, UsageError
from biomask.exports.formats import FORMATS, OUTLINES
from biomask.io.annotations import SHAPE_SUFFIXES, read_shapes
from biomask.io.files import write_picture
from biomask.io.geojson import write_geojson
from biomask.shapes import Annotations, Shape, object_ids
from biomask.stored import Selection

NAMES = ("a/1", "a/2", "b/1")


def touching(index: int) -> np.ndarray:
    """Cells with bright middles: a row of 2 or more that touch, and one on its own. No two images are alike."""
    image = np.full((60, 70), 20 + index, np.uint8)
    for n in range(2 + index):
        image[8:20, 6 + 12 * n:18 + 12 * n] = 150
        image[12:16, 10 + 12 * n:14 + 12 * n] = 240
    image[40:50, 20:30], image[44:46, 24:26] = 150, 240
    return image


def write_images(folder: Path, suffix: str = ".png") -> Path:
    for index, name in enumerate(NAMES):
        write_picture(folder / f"{name}{suffix}", touching(index))
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")


@pytest.fixture
def out(tmp_path: Path, images: Path, rule_model: Callable[..., Path]) -> Path:
    """Predictions of a model of instances, 3 to 5 objects an image, all but one of which touch."""
    model = rule_model(tmp_path / "model", "instances")
    return api.predict(model, images, tmp_path / "out", PredictOptions(device="cpu", exports=("geojson", "roi", "coco"))).out


def ids_of(out: Path, name: str, part: str = "labels") -> np.ndarray:
    return np.asarray(tifffile.imread(out / part / f"{name}.tif"))


def listed(out: Path) -> dict[str, int]:
    """Objects of each image in objects.csv."""
    with (out / "objects.csv").open(newline="", encoding="utf-8") as file:
        rows = [row["image"] for row in csv.DictReader(file)]
    return {name: rows.count(name) for name in NAMES}


def counted(folder: Path, to: str) -> dict[str, int]:
    """Objects of each image in what was converted."""
    if to == "coco":
        content = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        names = {i["id"]: i["file_name"].rpartition(".")[0] for i in content["images"]}
        assert len(set(names.values())) == len(names)
        return {name: sum(names[a["image_id"]] == name for a in content["annotations"]) for name in names.values()}
    if to == "labels":
        return {name: len(np.unique(tifffile.imread(folder / f"{name}.tif"))) - 1 for name in NAMES}
    ending = SHAPE_SUFFIXES[OUTLINES[to]]
    return {name: max(object_ids(read_shapes(folder / f"{name}{ending}")[0].shapes), default=0) for name in NAMES}


def same_objects(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


HAVE_OBJECTS = [f for f in FORMATS if f != "masks"]


class TestObjects:
    @pytest.mark.parametrize("to", HAVE_OBJECTS)
    def test_those_that_touch_stay_apart(self, tmp_path, out, images, to):
        done = api.convert(out, tmp_path / "to", to)
        assert counted(tmp_path / "to", to) == listed(out) == {"a/1": 3, "a/2": 4, "b/1": 5}
        assert done.objects == 12
        assert done.notes == ("objects are the ids of labels/",)
        api.convert(tmp_path / "to", tmp_path / "back", "labels", images=images)
        for name in NAMES:
            assert same_objects(tifffile.imread(tmp_path / "back" / f"{name}.tif"), ids_of(out, name))

    def test_both_ways_write_the_same(self, tmp_path, out):
        for to, there in (("geojson", "geojson"), ("roi", "rois")):
            for file in api.convert(out, tmp_path / to, to).files:
                assert file.read_bytes() == (out / there / file.relative_to(tmp_path / to)).read_bytes()
        (coco,) = api.convert(out, tmp_path / "c.json", "coco").files
        assert coco.read_bytes() == (out / "coco.json").read_bytes()

    @pytest.mark.parametrize("to", ["labels", "masks"])
    def test_pixels_are_those_of_predict(self, tmp_path, out, to):
        done = api.convert(out, tmp_path / "to", to)
        for name in NAMES:
            assert (tmp_path / "to" / f"{name}.tif").read_bytes() == (out / to / f"{name}.tif").read_bytes()
        assert done.notes == ("masks are those of masks/",) if to == "masks" else ("objects are the ids of labels/",)

    @pytest.mark.parametrize("to", HAVE_OBJECTS)
    def test_evaluate_finds_no_difference(self, tmp_path, out, images, to):
        api.convert(out, tmp_path / "to", to)
        scores = api.evaluate(out, images, masks=tmp_path / "to").scores
        assert scores["kind"] == "instances"
        assert scores["pooled"]["true_objects"] == 12
        assert {scores["mean"][k] for k in ("dice", "ap50", "ap", "f1", "pq")} == {1.0}

    @pytest.mark.parametrize("kind", ["classes", "three", "multilabel"])
    @pytest.mark.parametrize("to", FORMATS)
    def test_other_models(self, tmp_path, rule_model, images, kind, to):
        """Pieces that meet in a corner alone are two objects for `predict`, so they are two here."""
        image = touching(0)
        image[26:30, 50:54], image[30:34, 54:58] = 150, 150
        write_picture(images / "a" / "1.png", image)
        out = api.predict(rule_model(tmp_path / "m", kind), images, tmp_path / "out", PredictOptions(device="cpu")).out
        api.convert(out, tmp_path / "to", to)
        structures = ("disc", "cup") if kind == "multilabel" else ("",)
        if to in ("labels", "masks"):
            for name in NAMES:
                for s in structures:
                    written = tmp_path / "to" / s / f"{name}.tif"
                    assert written.read_bytes() == (out / to / s / f"{name}.tif").read_bytes()
        else:
            assert counted(tmp_path / "to", to) == listed(out)

    def test_nothing_touches_nothing(self, tmp_path, out, images, rule_model):
        """An image without objects is there too."""
        write_picture(images / "c.png", np.zeros((20, 30), np.uint8))
        api.predict(tmp_path / "model", images, out, PredictOptions(device="cpu"))
        content = json.loads(api.convert(out, tmp_path / "c.json", "coco").files[0].read_text(encoding="utf-8"))
        assert [i["file_name"] for i in content["images"]] == ["a/1.png", "a/2.png", "b/1.png", "c.png"]
        assert not tifffile.imread(api.convert(out, tmp_path / "l", "labels").files[-2]).any()


class TestVolumes:
    @pytest.fixture
    def out(self, tmp_path, rule_model):
        (tmp_path / "images").mkdir()
        volume = np.stack([np.zeros((60, 70), np.uint8), *[touching(0)] * 3])
        tifffile.imwrite(tmp_path / "images" / "v.tif", volume, imagej=True, resolution=(4, 4),
                         metadata={"axes": "ZYX", "spacing": 1.5, "unit": "um"})
        return api.predict(rule_model(tmp_path / "m", "instances", 3), tmp_path / "images", tmp_path / "out",
                           PredictOptions(device="cpu", exports=("geojson", "roi"))).out

    @pytest.mark.parametrize("to", ["geojson", "roi", "napari"])
    def test_planes_are_parts_of_an_object(self, tmp_path, out, to):
        done = api.convert(out, tmp_path / "to", to)
        (file,), objects = done.files, done.objects
        assert objects == 3
        shapes = read_shapes(file)[0].shapes
        assert (len(shapes), max(object_ids(shapes))) == (9, 3)
        api.convert(tmp_path / "to", tmp_path / "back", "labels", images=tmp_path / "images")
        assert same_objects(tifffile.imread(tmp_path / "back" / "v.tif"), ids_of(out, "v"))

    @pytest.mark.parametrize("to", ["coco", "labelme"])
    def test_flat_formats_take_planes(self, tmp_path, out, to):
        with pytest.raises(UsageError, match=r"(?s)volumes, such as v.*--z each"):
            api.convert(out, tmp_path / "to", to)
        done = api.convert(out, tmp_path / "to", to, {"z": "each"})
        assert done.objects == 9
        if to == "coco":
            content = json.loads(done.files[0].read_text(encoding="utf-8"))
            assert [i["file_name"] for i in content["images"]] == [f"v_z{z:03d}.tif" for z in range(4)]
            assert all("measurements" not in a for a in content["annotations"]), "they are of the whole object"

    def test_pixels_of_planes(self, tmp_path, out):
        for to in ("labels", "masks"):
            done = api.convert(out, tmp_path / to, to, {"z": "each"})
            whole = ids_of(out, "v", to)
            for z in range(4):
                assert np.array_equal(tifffile.imread(done.files[z]), whole[z])
            (one, _) = api.convert(out, tmp_path / f"one {to}", to, {"z": 2}).files
            assert np.array_equal(tifffile.imread(one), whole[2])
        with pytest.raises(LabelsError, match="4 planes"):
            api.convert(out, tmp_path / "far", "labels", {"z": 4})


def test_planes_that_were_predicted_one_by_one(tmp_path, rule_model):
    """Each is an image, called as its results are."""
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "v.tif", np.stack([touching(0), touching(2)]), imagej=True, metadata={"axes": "ZYX"})
    out = api.predict(rule_model(tmp_path / "m", "instances"), tmp_path / "images", tmp_path / "out", PredictOptions(
        device="cpu", selection=Selection(z="each"), exports=("coco",))).out
    (coco,) = api.convert(out, tmp_path / "c.json", "coco").files
    assert coco.read_bytes() == (out / "coco.json").read_bytes()
    assert [i["file_name"] for i in json.loads(coco.read_text(encoding="utf-8"))["images"]] == ["v_z000.tif", "v_z001.tif"]
    api.convert(out, tmp_path / "ids", "labels")
    assert [ids_of(tmp_path, f"v_z00{z}", "ids").max() for z in (0, 1)] == [3, 5]


def erase(out: Path, name: str = "a/2") -> np.ndarray:
    """A mask from which somebody took the object on its own."""
    mask = ids_of(out, name, "masks")
    mask[38:52, 18:32] = 0
    tifffile.imwrite(out / "masks" / f"{name}.tif", mask)
    return mask


class TestCorrected:
    """What somebody changed by hand counts, and is said."""

    @pytest.mark.parametrize("to", FORMATS)
    def test_a_mask(self, tmp_path, out, to):
        mask = erase(out)
        done = api.convert(out, tmp_path / "to", to)
        assert any(n.startswith("masks/ was changed since it was predicted, and counts: a/2") and "--masks labels" in n
                   for n in done.notes)
        if to == "masks":
            assert np.array_equal(tifffile.imread(tmp_path / "to" / "a" / "2.tif"), mask)
        else:
            assert counted(tmp_path / "to", to) == {"a/1": 3, "a/2": 1, "b/1": 5}
            assert "objects are the ids of labels/ in 2 images" in done.notes

    def test_a_mask_saved_in_another_format(self, tmp_path, out):
        mask = erase(out)
        (out / "masks" / "a" / "2.tif").unlink()
        write_picture(out / "masks" / "a" / "2.png", mask)
        assert api.convert(out, tmp_path / "to", "geojson").objects == 3 + 1 + 5

    def test_by_choice(self, tmp_path, out):
        erase(out)
        for n, (source, masks, expected) in enumerate(((out, "labels", 12), (out / "labels", None, 12), (out, "masks", 2 + 1 + 2),
                                                       (out / "masks", None, 2 + 1 + 2), (out, out / "labels", 12))):
            done = api.convert(source, tmp_path / str(n), "geojson", masks=masks)
            assert done.objects == expected
            assert any("as told" in note for note in done.notes)
        with pytest.raises(UsageError, match=r"(?s)--masks outlines.*--masks labels.*--masks masks"):
            api.convert(out, tmp_path / "x", "geojson", masks="outlines")

    def test_kinds_choose_too(self, tmp_path, out):
        assert api.convert(out, tmp_path / "a", "coco", {"kind": "classes"}).objects == 6
        assert api.convert(out, tmp_path / "b", "coco", {"kind": "instances"}).objects == 12
        with pytest.raises(UsageError, match="multilabel"):
            api.convert(out, tmp_path / "c", "coco", {"kind": "multilabel"})

    def test_labels(self, tmp_path, out):
        """An object of labels/ was cut in two by hand, another drawn where the mask has none."""
        ids = ids_of(out, "a/1")
        ids[14:, :18][ids[14:, :18] == 1] = 90
        ids[55:58, 60:64] = 91
        tifffile.imwrite(out / "labels" / "a" / "1.tif", ids)
        done = api.convert(out, tmp_path / "to", "geojson")
        assert done.objects == 12 + 2
        assert any("labels/ was changed since it was predicted, and counts: a/1" in n for n in done.notes)
        assert any("objects.csv does not fit 3 objects" in n for n in done.notes)
        features = json.loads((tmp_path / "to" / "a" / "1.geojson").read_text(encoding="utf-8"))["features"]
        assert {f["properties"]["name"]: "measurements" in f["properties"] for f in features} == {
            "1": False, "2": True, "3": True, "90": False, "91": False}
        api.convert(out, tmp_path / "masks", "masks")
        assert np.array_equal(tifffile.imread(tmp_path / "masks" / "a" / "1.tif") > 0, ids > 0)

    def test_ids_alone_may_change(self, tmp_path, out):
        """Two objects of labels/ were joined: masks/ agrees, so nothing is to be chosen."""
        ids = ids_of(out, "a/1")
        ids[ids == 2] = 1
        tifffile.imwrite(out / "labels" / "a" / "1.tif", ids)
        assert api.convert(out, tmp_path / "to", "coco").objects == 11

    @pytest.mark.parametrize("how", ["both", "moved", "no record"])
    def test_where_it_stays_open_it_is_asked(self, tmp_path, out, how):
        if how == "moved":
            mask = np.roll(ids_of(out, "a/2", "masks"), 2, 0)
            tifffile.imwrite(out / "masks" / "a" / "2.tif", mask)
        else:
            erase(out)
        if how == "both":
            ids = ids_of(out, "a/2")
            ids[50:56, 50:56] = 99
            tifffile.imwrite(out / "labels" / "a" / "2.tif", ids)
        if how == "no record":
            record = json.loads((out / "run.json").read_text(encoding="utf-8"))
            del record["images"]["a/2"]["class_pixels"]
            (out / "run.json").write_text(json.dumps(record), encoding="utf-8")
            (out / "objects.csv").unlink()
        with pytest.raises(ManyErrors, match=r"(?s)1 of 3 .*a/2 do not agree.*--masks labels.*--masks masks"):
            api.convert(out, tmp_path / "to", "coco")
        assert api.convert(out, tmp_path / "x", "coco", masks="labels").objects == 12 + (how == "both")
        assert api.convert(out, tmp_path / "y", "coco", masks="masks").objects == 2 + (2 if how == "moved" else 1) + 2

    def test_another_size(self, tmp_path, out):
        tifffile.imwrite(out / "masks" / "a" / "2.tif", ids_of(out, "a/2", "masks")[:50])
        assert api.convert(out, tmp_path / "to", "geojson").objects == 3 + 2 + 5

    def test_a_value_of_no_class(self, tmp_path, out):
        mask = ids_of(out, "a/2", "masks")
        mask[0, 0] = 9
        tifffile.imwrite(out / "masks" / "a" / "2.tif", mask)
        with pytest.raises(ManyErrors, match=r"(?s)2\.tif.*\[9\].*--masks labels"):
            api.convert(out, tmp_path / "to", "geojson")
        assert api.convert(out, tmp_path / "x", "geojson", masks="labels").objects == 12
        done = api.convert(out, tmp_path / "y", "masks", {"ignore": 9})
        assert done.notes[0].startswith("masks/ is read anew, for --ignore")
        assert tifffile.imread(tmp_path / "y" / "a" / "2.tif")[0, 0] == 9

    def test_predict_exports_the_same(self, tmp_path, out, images):
        erase(out)
        told = list[str]()

        class Told(api_progress()):
            def warn(self, message: str) -> None:
                told.append(message)

        api.predict(tmp_path / "model", images, out, PredictOptions(device="cpu", exports=("coco", "geojson")), progress=Told())
        assert any("masks/ was changed" in t and "a/2" in t for t in told)
        (coco,) = api.convert(out, tmp_path / "c.json", "coco").files
        assert coco.read_bytes() == (out / "coco.json").read_bytes()
        shapes = read_shapes(out / "geojson" / "a" / "2.geojson")[0].shapes
        assert len(shapes) == 1


def api_progress() -> Any:
    from biomask.progress import Silent

    return Silent


class TestLess:
    """Where something is missing, what is left is taken, and said."""

    def test_no_labels(self, tmp_path, out):
        shutil.rmtree(out / "labels")
        done = api.convert(out, tmp_path / "to", "geojson")
        assert done.objects == 6
        assert done.notes[0].startswith("objects are the connected pieces of masks/")
        with pytest.raises(ManyErrors, match="--masks labels"):
            api.convert(out, tmp_path / "x", "geojson", masks="labels")

    def test_no_labels_of_one_image(self, tmp_path, out):
        (out / "labels" / "a" / "1.tif").unlink()
        done = api.convert(out, tmp_path / "to", "labels")
        assert done.objects == 2 + 4 + 5
        assert any("pieces of masks/ in 1 image" in n for n in done.notes)

    def test_no_masks(self, tmp_path, out):
        shutil.rmtree(out / "masks")
        for to in FORMATS:
            done = api.convert(out, tmp_path / to, to)
            assert done.objects == (3 if to == "masks" else 12)
        assert np.array_equal(tifffile.imread(tmp_path / "masks" / "a" / "1.tif"), ids_of(out, "a/1") > 0)

    def test_no_table(self, tmp_path, out):
        (out / "objects.csv").unlink()
        done = api.convert(out, tmp_path / "to", "geojson")
        assert done.objects == 12
        assert any("no measurements" in n for n in done.notes)
        assert "measurements" not in (tmp_path / "to" / "a" / "1.geojson").read_text(encoding="utf-8")

    @pytest.mark.parametrize("text", ["", "a;b;c\n1;2;3\n", "image,id,class,area_px\na/1,one,cell,9\n",
                                      "image,id,class,area_px\na/1,1\n", "image,id,class,area_px\na/1,1,cell,many\n"])
    def test_a_damaged_table(self, tmp_path, out, text):
        (out / "objects.csv").write_text(text, encoding="utf-8")
        with pytest.raises(ReadError, match=r"(?s)objects\.csv.*not as biomask predict wrote it.*elsewhere"):
            api.convert(out, tmp_path / "to", "geojson")

    @pytest.mark.parametrize("text", ["{", '{"command": "predict", "images": {}}'])
    def test_a_damaged_record(self, tmp_path, out, text):
        (out / "run.json").write_text(text, encoding="utf-8")
        with pytest.raises(ReadError, match=r"run\.json: is damaged"):
            api.convert(out, tmp_path / "to", "geojson")

    def test_masks_that_the_record_does_not_know(self, tmp_path, out):
        shutil.copy(out / "masks" / "a" / "1.tif", out / "masks" / "new.tif")
        done = api.convert(out, tmp_path / "to", "geojson")
        assert len(done.files) == 3
        assert any("run.json does not know" in n and "new" in n for n in done.notes)
        (out / "run.journal").write_text("", encoding="utf-8")
        with pytest.raises(ReadError, match=r"(?s)stopped.*same predict command"):
            api.convert(out, tmp_path / "x", "geojson")

    def test_a_part_of_the_folder(self, tmp_path, out):
        done = api.convert(out / "labels" / "a", tmp_path / "a", "geojson")
        assert [f.relative_to(tmp_path / "a").as_posix() for f in done.files] == ["a/1.geojson", "a/2.geojson"]
        done = api.convert(out / "labels" / "b" / "1.tif", tmp_path / "b", "geojson")
        assert [f.relative_to(tmp_path / "b").as_posix() for f in done.files] == ["b/1.geojson"]
        assert done.objects == 5
        with pytest.raises(InputError, match="no labels"):
            api.convert(out / "labels" / "c.tif", tmp_path / "c", "geojson")


class TestNames:
    def test_of_classes(self, tmp_path, out):
        api.convert(out, tmp_path / "c.json", "coco", {"legend": {1: "nucleus"}})
        content = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
        assert [c["name"] for c in content["categories"]] == ["nucleus"]
        assert len(content["annotations"]) == 12
        api.convert(out, tmp_path / "m", "masks", {"legend": {1: "nucleus"}})
        assert json.loads((tmp_path / "m" / "legend.json").read_text(encoding="utf-8"))[1]["name"] == "nucleus"
        with pytest.raises(UsageError, match="names 2"):
            api.convert(out, tmp_path / "x", "masks", {"legend": {2: "nucleus"}})

    def test_of_images_that_moved(self, tmp_path, out, images):
        """The names are those below --images, wherever they were when they were predicted."""
        shutil.move(images / "b", tmp_path / "b")
        images.rename(tmp_path / "elsewhere")
        shutil.move(tmp_path / "b", tmp_path / "elsewhere" / "b")
        content, = (json.loads(f.read_text(encoding="utf-8")) for f in api.convert(
            out, tmp_path / "c.json", "coco", images=tmp_path / "elsewhere").files)
        assert [i["file_name"] for i in content["images"]] == ["a/1.png", "a/2.png", "b/1.png"]
        (tmp_path / "elsewhere" / "b" / "1.png").unlink()
        with pytest.raises(PairingError, match=r"1 of 3 images .*not here: b/1"):
            api.convert(out, tmp_path / "d.json", "coco", images=tmp_path / "elsewhere")

    def test_of_another_system(self, tmp_path, out):
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        record["images"]["a/1"]["file"] = "C:\\images\\a\\1.png"
        (out / "run.json").write_text(json.dumps(record), encoding="utf-8")
        content = json.loads(api.convert(out, tmp_path / "c.json", "coco").files[0].read_text(encoding="utf-8"))
        assert content["images"][0]["file_name"] == "a/1.png"


class TestBackToMasks:
    """Class masks become outlines and masks again, with the values that they had."""

    @pytest.fixture
    def out(self, tmp_path, rule_model, images):
        """Values 0, 1 = cell, 7 = bright: not in the order of names."""
        return api.predict(rule_model(tmp_path / "m", "three"), images, tmp_path / "out", PredictOptions(device="cpu")).out

    @pytest.mark.parametrize("to", [*OUTLINES, "coco", "masks"])
    def test_values(self, tmp_path, out, images, to):
        api.convert(out, tmp_path / "to", to)
        told = {"legend": {0: "background", 1: "cell", 7: "bright"}} if to in OUTLINES else {}
        done = api.convert(tmp_path / "to", tmp_path / "back", "masks", told, images=images)
        assert done.notes == ()
        for name in NAMES:
            assert np.array_equal(tifffile.imread(tmp_path / "back" / f"{name}.tif"), ids_of(out, name, "masks"))
        assert api.evaluate(tmp_path / "back", out / "masks").scores["mean"]["dice"] == 1.0

    def test_values_that_nobody_said_are_told(self, tmp_path, out, images):
        api.convert(out, tmp_path / "to", "geojson")
        done = api.convert(tmp_path / "to", tmp_path / "back", "masks", images=images)
        assert [n for n in done.notes if "1 = bright, 2 = cell" in n and "--legend" in n]
        with pytest.raises(UsageError, match="gives bright no value"):
            api.convert(tmp_path / "to", tmp_path / "x", "masks", {"legend": {0: "background", 1: "cell"}}, images=images)
        done = api.convert(tmp_path / "to", tmp_path / "y", "coco", {"legend": {0: "background", 1: "cell"}}, images=images)
        assert any("--legend has no effect" in n for n in done.notes)

    def test_one_class_has_any_name(self, tmp_path, rule_model, images):
        out = api.predict(rule_model(tmp_path / "one", "classes"), images, tmp_path / "o", PredictOptions(device="cpu")).out
        api.convert(out, tmp_path / "to", "roi")
        api.convert(tmp_path / "to", tmp_path / "back", "masks", {"legend": {0: "nothing", 255: "cells"}}, images=images)
        assert np.array_equal(tifffile.imread(tmp_path / "back" / "a" / "2.tif"), ids_of(out, "a/2", "masks"))
        legend = json.loads((tmp_path / "back" / "legend.json").read_text(encoding="utf-8"))
        assert [(e["value"], e["name"]) for e in legend] == [(0, "background"), (255, "cells")]


class TestStructures:
    """Masks that may overlap: disc and cup, of which one lies in the other."""

    @pytest.fixture
    def out(self, tmp_path, rule_model, images):
        return api.predict(rule_model(tmp_path / "m", "multilabel"), images, tmp_path / "out", PredictOptions(device="cpu")).out

    @pytest.mark.parametrize("to", [*OUTLINES, "coco", "masks"])
    @pytest.mark.parametrize("back", ["masks", "labels"])
    def test_there_and_back(self, tmp_path, out, images, to, back):
        api.convert(out, tmp_path / "to", to)
        api.convert(tmp_path / "to", tmp_path / "back", back, {"kind": "multilabel"}, images=images)
        for s in ("disc", "cup"):
            for name in NAMES:
                assert same_objects(tifffile.imread(tmp_path / "back" / s / f"{name}.tif"), ids_of(out, name, f"{back}/{s}"))
        if back == "masks":
            scores = api.evaluate(out, tmp_path / "back").scores
            assert (scores["kind"], scores["mean"]["dice"]) == ("multilabel", 1.0)

    def test_one_for_all_is_no_truth(self, tmp_path, out, images):
        api.convert(out, tmp_path / "to", "geojson")
        with pytest.raises(LabelsError, match=r"(?s)disc, cup, which may overlap.*--labels multilabel --to masks"):
            api.evaluate(out, tmp_path / "to")

    def test_ids_are_no_averages_of_experts(self, tmp_path, out, images):
        """Ids 1 to 5 are as far from each other as the levels of five experts."""
        api.convert(out, tmp_path / "ids", "labels")
        with pytest.raises(LabelsError, match="one mask a structure"):
            api.convert(tmp_path / "ids", tmp_path / "x", "masks", images=images)
        done = api.convert(tmp_path / "ids" / "cup", tmp_path / "y", "coco", {"kind": "instances"}, images=images)
        assert done.objects == sum(int(ids_of(out, name, "labels/cup").max()) for name in NAMES)

    def test_classes_that_are_no_folders(self, tmp_path, images):
        drawn = Annotations((Shape((np.array([(1, 1), (9, 1), (9, 9)], float),), "../up"),))
        write_geojson(tmp_path / "in" / "a" / "1.geojson", drawn)
        with pytest.raises(PairingError, match=r"'\.\./up' gives no name of a folder"):
            api.convert(tmp_path / "in", tmp_path / "x", "masks", {"kind": "multilabel"}, images=images)


def test_several_structures_one_at_a_time(tmp_path, rule_model, images):
    out = api.predict(rule_model(tmp_path / "m", "multilabel"), images, tmp_path / "out", PredictOptions(device="cpu")).out
    for n, (source, masks) in enumerate(((out, "cup"), (out / "labels" / "cup", None))):
        done = api.convert(source, tmp_path / str(n), "coco", masks=masks)
        content = json.loads(done.files[0].read_text(encoding="utf-8"))
        assert [c["name"] for c in content["categories"]] == ["cup"]
        assert done.objects == sum(ids_of(out, f"{name}", "labels/cup").max() for name in NAMES)
    assert api.convert(out, tmp_path / "masks", "masks").objects == 6
    scores = api.evaluate(out, tmp_path / "masks").scores
    assert scores["kind"] == "multilabel"
    assert scores["mean"]["dice"] == 1.0


def test_the_command_says_what_was_taken(out, tmp_path, run_cli):
    done = run_cli("convert", out, "--to", "labels", "-o", tmp_path / "to", "--masks", "labels")
    assert done.returncode == 0, done.stderr
    assert "note: objects are the ids of labels/" in done.stdout + done.stderr
    wrong = run_cli("convert", out, "--to", "labels", "-o", out / "new")
    assert wrong.returncode == 2
    assert "nothing is written beside inputs" in wrong.stderr
