"""Labels of one program become those of another, pixel for pixel."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask import api
from biomask.errors import BiomaskError, InputError, ManyErrors, PairingError, ReadError, UsageError, WriteError
from biomask.exports.formats import FORMATS, OUTLINES
from biomask.io import read_label_values
from biomask.io.annotations import SHAPE_SUFFIXES, SHAPE_WRITERS
from biomask.io.files import write_picture
from biomask.shapes import Annotations, Shape


def objects(seed: int = 0, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Ids with touching objects, a hole, an object at the border and one of one pixel."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(size, np.uint16)
    for number in range(1, 8):
        y, x = rng.integers(2, size[0] - 14), rng.integers(2, size[1] - 14)
        ids[y : y + 10, x : x + 11] = number
    ids[0:5, 0:6] = 9
    ids[20:40, 20:40] = 10
    ids[25:30, 25:30] = 0
    ids[59, 79] = 11
    return ids


def write_ids(folder: Path, count: int = 2) -> Path:
    for i in range(count):
        (folder / "labels").mkdir(parents=True, exist_ok=True)
        write_picture(folder / "images" / f"im {i}.png", np.full((60, 80), 9 + i, np.uint8))
        tifffile.imwrite(folder / "labels" / f"im {i}.tif", objects(i))
    return folder


def same_objects(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label images hold the same objects, whatever their numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@pytest.mark.parametrize("first", [*OUTLINES, "coco"])
@pytest.mark.parametrize("second", [*OUTLINES, "coco", None])
def test_there_and_back(tmp_path, first, second):
    data = write_ids(tmp_path / "data")
    api.convert(data, tmp_path / "a", first)
    source = tmp_path / "a"
    if second is not None:
        api.convert(source, tmp_path / "b", second, images=data / "images")
        source = tmp_path / "b"
    done = api.convert(source, tmp_path / "back", "labels", images=data / "images")
    assert [f.name for f in done.files] == ["im 0.tif", "im 1.tif", "legend.json"]
    for i in range(2):
        assert same_objects(tifffile.imread(tmp_path / "back" / f"im {i}.tif"), objects(i))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=hnp.arrays(np.uint8, st.tuples(st.integers(8, 14), st.integers(8, 14)), elements=st.integers(0, 4)),
       via=st.sampled_from([*OUTLINES, "coco"]))
def test_any_ids_come_back(tmp_path_factory, ids, via):
    if not ids.any():
        return
    folder = tmp_path_factory.mktemp("any")
    write_picture(folder / "data" / "images" / "x.png", np.zeros(ids.shape, np.uint8))
    write_picture(folder / "data" / "labels" / "x.png", ids)
    told = {"kind": "instances"}
    api.convert(folder / "data", folder / "a", via, told)
    api.convert(folder / "a", folder / "back", "labels", images=folder / "data" / "images")
    assert same_objects(tifffile.imread(folder / "back" / "x.tif"), ids)


@pytest.mark.parametrize("via", [*OUTLINES, "coco"])
def test_classes_keep_their_names(tmp_path, via):
    mask = np.zeros((40, 50), np.uint8)
    mask[5:20, 5:20], mask[25:35, 10:30] = 1, 2
    mask[8:10, 8:10] = 0
    write_picture(tmp_path / "data" / "images" / "x.png", np.zeros(mask.shape, np.uint8))
    write_picture(tmp_path / "data" / "masks" / "x.png", mask)
    legend = {"legend": {0: "background", 1: "tumour", 2: "stroma"}}
    api.convert(tmp_path / "data", tmp_path / "a", via, legend)
    api.convert(tmp_path / "a", tmp_path / "back", "masks", {"kind": "classes"}, images=tmp_path / "data" / "images")
    names = {e["name"]: e["value"] for e in json.loads((tmp_path / "back" / "legend.json").read_text(encoding="utf-8"))}
    assert set(names) == {"background", "tumour", "stroma"}
    back = read_label_values(tmp_path / "back" / "x.tif").array[0]
    for value, name in enumerate(("background", "tumour", "stroma")):
        assert np.array_equal(back == names[name], mask == value)


def test_names_of_predicted_classes_are_kept(tmp_path, tiny_model, tiny_data):
    api.predict(tiny_model, tiny_data / "images", tmp_path / "out", api.PredictOptions(device="cpu"))
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    record["legend"][1] |= {"name": "cell", "colour": [1, 2, 3]}
    (tmp_path / "out" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    write_picture(tmp_path / "out" / "masks" / "im_00.png", np.pad(np.full((9, 9), 255, np.uint8), 5))
    (tmp_path / "out" / "masks" / "im_00.tif").unlink()
    api.convert(tmp_path / "out", tmp_path / "shapes", "geojson")
    feature = json.loads((tmp_path / "shapes" / "im_00.geojson").read_text(encoding="utf-8"))["features"][0]
    assert feature["properties"]["classification"]["name"] == "cell"


def test_colours_become_values_and_keep_their_colours(tmp_path):
    colours = np.asarray([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    ids = np.zeros((30, 30), int)
    ids[4:12, 4:12], ids[15:28, 2:20] = 1, 2
    write_picture(tmp_path / "data" / "images" / "x.png", np.zeros((30, 30), np.uint8))
    write_picture(tmp_path / "data" / "masks" / "x.png", np.moveaxis(colours[ids], -1, 0).copy())
    api.convert(tmp_path / "data", tmp_path / "out", "masks", {"tolerance": 30})
    legend = json.loads((tmp_path / "out" / "legend.json").read_text(encoding="utf-8"))
    assert {tuple(e["colour"]) for e in legend} == {tuple(int(v) for v in c) for c in colours}
    with tifffile.TiffFile(tmp_path / "out" / "x.tif") as file:
        table = np.asarray(file.pages.first.colormap)[:, :3].T // 257
        shown = table[file.asarray()]
    assert np.array_equal(shown, colours[ids])


def test_structures_go_into_a_folder_each(tmp_path):
    for name, rows in (("disc", slice(4, 25)), ("cup", slice(10, 15))):
        mask = np.zeros((30, 30), np.uint8)
        mask[rows, 5:20] = 255
        write_picture(tmp_path / "data" / name / "x.png", mask)
        write_picture(tmp_path / "data" / "images" / "x.png", np.zeros((30, 30), np.uint8))
    done = api.convert(tmp_path / "data", tmp_path / "out", "masks")
    assert {p.relative_to(tmp_path / "out").as_posix() for p in done.files} == {"disc/x.tif", "cup/x.tif", "legend.json"}
    assert (read_label_values(tmp_path / "out" / "cup" / "x.tif").array[0] == 255).sum() == 75
    done = api.convert(tmp_path / "data", tmp_path / "ids", "labels")
    assert (tifffile.imread(tmp_path / "ids" / "disc" / "x.tif") == 1).sum() == 315
    assert done.objects == 2
    with pytest.raises(WriteError, match="--overwrite"):
        api.convert(tmp_path / "data", tmp_path / "out", "masks")


def test_one_file_is_enough(tmp_path):
    tifffile.imwrite(tmp_path / "cells.tif", objects())
    done = api.convert(tmp_path / "cells.tif", tmp_path / "out", "geojson", {"kind": "instances"})
    assert [p.name for p in done.files] == ["cells.geojson"]
    assert done.objects == len(np.unique(objects())) - 1
    with pytest.raises(InputError, match=r"(?s)size.*--images"):
        api.convert(done.files[0], tmp_path / "back", "labels")


class TestRefused:
    def test_an_unknown_format(self, tmp_path):
        with pytest.raises(UsageError, match="geojson"):
            api.convert(write_ids(tmp_path / "d"), tmp_path / "out", "svg")
        assert "svg" not in FORMATS

    def test_nothing_is_written_among_the_labels(self, tmp_path):
        data = write_ids(tmp_path / "d")
        with pytest.raises(UsageError, match="beside inputs"):
            api.convert(data, data / "out", "geojson")

    def test_files_are_not_written_over_unless_told(self, tmp_path):
        data = write_ids(tmp_path / "d")
        api.convert(data, tmp_path / "out", "geojson")
        with pytest.raises(WriteError, match="--overwrite"):
            api.convert(data, tmp_path / "out", "geojson")
        api.convert(data, tmp_path / "out", "geojson", overwrite=True)

    def test_a_folder_without_labels(self, tmp_path):
        (tmp_path / "d").mkdir()
        with pytest.raises(BiomaskError, match="no labels"):
            api.convert(tmp_path / "d", tmp_path / "out", "geojson")

    def test_bad_files_are_listed_together(self, tmp_path):
        data = write_ids(tmp_path / "d", 3)
        for i in (0, 2):
            (data / "labels" / f"im {i}.tif").write_bytes(b"")
        with pytest.raises(ManyErrors) as caught:
            api.convert(data, tmp_path / "out", "geojson")
        assert len(caught.value.errors) == 2
        assert "nothing is written" in str(caught.value)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("content", [b"", b"II*\0junk"])
    @pytest.mark.parametrize("to", ["geojson", "labels"])
    def test_a_bad_file_without_an_image_is_said_once(self, tmp_path, to, content):
        """It is read as labels and as the image that it stands for."""
        folder = write_ids(tmp_path / "d", 3) / "labels"
        (folder / "im 1.tif").write_bytes(content)
        for source in (folder, folder / "im 1.tif"):
            with pytest.raises(ReadError) as caught:
                api.convert(source, tmp_path / "out", to)
            assert str(caught.value).count("im 1.tif") == 1

    @pytest.mark.parametrize("bad", [1, 2, 3])
    def test_outlines_that_can_be_are_converted_and_the_others_listed(self, tmp_path, bad):
        api.convert(write_ids(tmp_path / "d", 3), tmp_path / "shapes", "geojson")
        for i in range(bad):
            (tmp_path / "shapes" / f"im {i}.geojson").write_text('{"type": "FeatureCollection", "features": [{}]}')
        with pytest.raises(ManyErrors) as caught:
            api.convert(tmp_path / "shapes", tmp_path / "out", "roi")
        assert len(caught.value.errors) == bad
        assert ("the others are in" in str(caught.value)) == (bad < 3)
        assert len(list((tmp_path / "out").glob("*.zip"))) == 3 - bad

    def test_a_single_bad_file_of_outlines(self, tmp_path):
        (tmp_path / "a.geojson").write_text('{"type": "FeatureCollection", "features": [{}]}')
        with pytest.raises(ReadError) as caught:
            api.convert(tmp_path / "a.geojson", tmp_path / "out", "roi")
        assert "others" not in str(caught.value)


def test_the_command(tmp_path, run_cli):
    data = write_ids(tmp_path / "data")
    done = run_cli("convert", data, "--to", "roi", "-o", tmp_path / "out", "--json", "-")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(said["files"]) == 2
    assert said["objects"] == sum(len(np.unique(objects(i))) - 1 for i in range(2))


def write_coco(path: Path, names: list[str], crowd: bool = False) -> Path:
    """An object in the upper left of each image of 50 x 50; crowd: rows 20 to 29 too, as one."""
    objects = [{"id": i, "image_id": i, "category_id": 1, "segmentation": [[5, 5, 20, 5, 20, 15, 5, 15]], "iscrowd": 0}
               for i, _ in enumerate(names)]
    if crowd:
        objects.append({"id": 99, "image_id": 0, "category_id": 1, "iscrowd": 1, "segmentation": {
            "size": [50, 50], "counts": [20, *[10, 40] * 49, 10, 20]}})
    images = [{"id": i, "file_name": n, "height": 50, "width": 50} for i, n in enumerate(names)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cell"}]}),
                    encoding="utf-8")
    return path


class TestNamesInCoco:
    @pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "..", "{root}/evil.png", "C:\\evil.png", "\\evil.png",
                                      "..\\evil.png", "sub/.."])
    def test_nothing_is_written_outside_the_folder(self, tmp_path, name):
        name = name.format(root=tmp_path)
        source = write_coco(tmp_path / "in" / "x.json", ["fine.png", name])
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(PairingError) as caught:
            api.convert(source, tmp_path / "out" / "deep", "geojson")
        assert repr(name) in caught.value.what
        assert sorted(tmp_path.rglob("*")) == before

    def test_folders_below_are_kept(self, tmp_path):
        source = write_coco(tmp_path / "x.json", ["a/one.png", "b/one.png"])
        files = api.convert(source, tmp_path / "out", "geojson").files
        assert [f.relative_to(tmp_path / "out").as_posix() for f in files] == ["a/one.geojson", "b/one.geojson"]

    @pytest.mark.parametrize("other", ["a.jpg", "A.png"])
    def test_two_images_of_one_name(self, tmp_path, other):
        source = write_coco(tmp_path / "x.json", ["a.png", other])
        with pytest.raises(PairingError, match=rf"a\.png and {other} would both"):
            api.convert(source, tmp_path / "out", "labelme")
        assert not (tmp_path / "out").exists()


def listed(path: Path) -> list[str]:
    return [i["file_name"] for i in json.loads(path.read_text(encoding="utf-8"))["images"]]


class TestImagesInFolders:
    """a/1 and b/1 are two images, in every format."""

    NAMES = ("a/1", "b/1", "b/deep/1")

    @pytest.fixture
    def data(self, tmp_path) -> Path:
        for i, name in enumerate(self.NAMES):
            write_picture(tmp_path / "data" / "images" / f"{name}.png", np.full((60, 80), i, np.uint8))
            write_picture(tmp_path / "data" / "labels" / f"{name}.png", objects(i).astype(np.uint8))
        return tmp_path / "data"

    @pytest.mark.parametrize("to", [f for f in FORMATS if f != "masks"])
    def test_there_and_back(self, tmp_path, data, to):
        done = api.convert(data, tmp_path / "to", to)
        if to == "coco":
            assert listed(done.files[0]) == ["a/1.png", "b/1.png", "b/deep/1.png"]
        else:
            names = [f.relative_to(tmp_path / "to").with_suffix("").as_posix() for f in done.files if f.suffix != ".json" or
                     to == "labelme"]
            assert names == list(self.NAMES)
        api.convert(tmp_path / "to", tmp_path / "back", "labels", images=data / "images")
        for i, name in enumerate(self.NAMES):
            assert same_objects(tifffile.imread(tmp_path / "back" / f"{name}.tif"), objects(i))
        assert api.evaluate(tmp_path / "back", data / "labels").scores["mean"]["ap"] == 1.0

    def test_coco_to_coco(self, tmp_path, data):
        """With its images or alone, folders stay."""
        (first,) = api.convert(data, tmp_path / "1.json", "coco").files
        (alone,) = api.convert(first, tmp_path / "2.json", "coco").files
        (with_images,) = api.convert(first, tmp_path / "3.json", "coco", images=data / "images").files
        assert alone.read_bytes() == with_images.read_bytes() == first.read_bytes()

    def test_other_peoples_paths(self, tmp_path):
        source = write_coco(tmp_path / "in" / "x.json", ["b\\1.png", "c/1.png"])
        assert listed(api.convert(source, tmp_path / "y.json", "coco").files[0]) == ["b/1.png", "c/1.png"]

    def test_two_of_one_name_in_the_end(self, tmp_path):
        source = write_coco(tmp_path / "in" / "x.json", ["b\\1.png", "b/1.png"])
        with pytest.raises(ManyErrors, match=r"both be called b/1\.png"):
            api.convert(source, tmp_path / "y.json", "coco")

    def test_parts_have_their_folder(self, tmp_path):
        for part in ("train", "test"):
            write_ids(tmp_path / "data" / part)
        (file,) = api.convert(tmp_path / "data", tmp_path / "x.json", "coco").files
        assert sorted(listed(file)) == [f"{p}/images/im {i}.png" for p in ("test", "train") for i in range(2)]
        shutil.rmtree(tmp_path / "data" / "train" / "labels")
        shutil.rmtree(tmp_path / "data" / "test" / "labels")
        done = api.convert(file, tmp_path / "back", "labels", images=tmp_path / "data")
        assert len(done.files) == 5

    def test_labels_alone(self, tmp_path, data):
        done = api.convert(data / "labels", tmp_path / "x.json", "coco", {"kind": "instances"})
        assert listed(done.files[0]) == ["a/1.tif", "b/1.tif", "b/deep/1.tif"]
        assert [n for n in done.notes if "3 images called like the labels" in n and "--images" in n]
        done = api.convert(data / "labels", tmp_path / "y.json", "coco", {"kind": "instances"}, images=data / "images")
        assert listed(done.files[0]) == ["a/1.png", "b/1.png", "b/deep/1.png"]
        assert done.notes == ()

    def test_outlines_that_name_their_image(self, tmp_path, data):
        api.convert(data, tmp_path / "shapes", "labelme")
        assert json.loads((tmp_path / "shapes" / "b" / "1.json").read_text(encoding="utf-8"))["imagePath"] == "1.png"
        done = api.convert(tmp_path / "shapes", tmp_path / "x.json", "coco")
        assert listed(done.files[0]) == ["a/1.png", "b/1.png", "b/deep/1.png"]
        assert done.notes == ()

    def test_structures_are_the_outer_folders(self, tmp_path, data):
        shutil.rmtree(data / "labels")
        for name in self.NAMES:
            for n, s in enumerate(("disc", "cup")):
                mask = np.zeros((60, 80), np.uint8)
                mask[5:20, 5:30 - 9 * n] = 255
                write_picture(data / s / f"{name}.png", mask)
        done = api.convert(data, tmp_path / "out", "masks")
        assert {f.relative_to(tmp_path / "out").as_posix() for f in done.files} == {
            "legend.json", *(f"{s}/{name}.tif" for s in ("disc", "cup") for name in self.NAMES)}
        again = api.convert(tmp_path / "out", tmp_path / "again", "masks", images=data / "images")
        assert len(again.files) == 7
        assert api.evaluate(tmp_path / "again", data).scores["mean"]["dice"] == 1.0


def test_few_objects_stay_objects(tmp_path):
    """Where each image has the ids 1 to 3 they would pass for classes: labels say what they are."""
    ids = np.zeros((30, 40), np.uint8)
    ids[3:9, 3:9], ids[9:15, 3:9], ids[20:25, 20:30] = 1, 2, 3
    for name in ("x", "y"):
        write_picture(tmp_path / "data" / "images" / f"{name}.png", np.zeros(ids.shape, np.uint8))
        write_picture(tmp_path / "data" / "labels" / f"{name}.png", ids)
    api.convert(tmp_path / "data", tmp_path / "labels", "labels", {"kind": "instances"})
    for source in (tmp_path / "labels", tmp_path / "labels" / "x.tif"):
        done = api.convert(source, tmp_path / f"to {source.name}", "geojson")
        assert "classification" not in done.files[0].read_text(encoding="utf-8")
    scores = api.evaluate(tmp_path / "labels", tmp_path / "data" / "labels").scores
    assert (scores["kind"], scores["mean"]["ap"]) == ("instances", 1.0)
    scores = api.evaluate(tmp_path / "data" / "labels", tmp_path / "labels").scores
    assert (scores["kind"], scores["mean"]["ap"]) == ("instances", 1.0)


@pytest.mark.parametrize("via", ["geojson", "labelme", "napari", "coco"])
def test_outlines_of_classes_are_objects_too(tmp_path, via):
    """Two that touch and have one class, and another of a second class: three ids."""
    shapes = [Shape((np.array([(x, 5), (x + 10, 5), (x + 10, 15), (x, 15)], float),), name)
              for x, name in ((5, "cell"), (15, "cell"), (30, "bud"))]
    drawn = Annotations(tuple(shapes), (30, 50), (), "x.png")
    (tmp_path / "in").mkdir()
    SHAPE_WRITERS[via](tmp_path / "in" / f"x{SHAPE_SUFFIXES[via]}", drawn)
    write_picture(tmp_path / "images" / "x.png", np.zeros((30, 50), np.uint8))
    done = api.convert(tmp_path / "in", tmp_path / "ids", "labels", images=tmp_path / "images")
    assert done.objects == 3
    assert any("of which class" in n for n in done.notes)
    ids = tifffile.imread(done.files[0])
    assert len({ids[10, 10], ids[10, 20], ids[10, 35], 0}) == 4
    done = api.convert(tmp_path / "in", tmp_path / "masks", "masks", {"kind": "classes"}, images=tmp_path / "images")
    assert len(np.unique(tifffile.imread(done.files[0]))) == 3


@pytest.mark.parametrize("to", ["coco", "geojson"])
def test_labels_are_not_written_over(tmp_path, to):
    source = write_coco(tmp_path / "x.json", ["x.png"])
    if to == "geojson":
        (source,) = api.convert(source, tmp_path, "geojson").files
    before = source.read_bytes()
    with pytest.raises(UsageError, match="labels that are read"):
        api.convert(source, source if to == "coco" else tmp_path, to, overwrite=True)
    assert source.read_bytes() == before


class TestUnknown:
    """Pixels where nothing is known stay so, or it is said."""

    @pytest.mark.parametrize("ignore", [255, 7, 1000])
    def test_the_value_is_kept(self, tmp_path, ignore):
        mask = np.where(objects() > 0, 1, 0).astype(np.uint16)
        mask[:5] = ignore
        (tmp_path / "in").mkdir()
        tifffile.imwrite(tmp_path / "in" / "a.tif", mask)
        done = api.convert(tmp_path / "in", tmp_path / "out", "masks", {"ignore": ignore})
        assert np.array_equal(tifffile.imread(done.files[0]), mask)
        assert done.notes == ()
        drawn = api.convert(tmp_path / "in", tmp_path / "drawn", "geojson", {"ignore": ignore})
        assert any("nothing is known" in n for n in drawn.notes)

    def test_crowds_in_masks(self, tmp_path):
        write_coco(tmp_path / "in" / "x.json", ["a.png"], crowd=True)
        write_picture(tmp_path / "in" / "a.png", np.zeros((50, 50), np.uint8))
        done = api.convert(tmp_path / "in", tmp_path / "out", "masks")
        mask = tifffile.imread(done.files[0])
        assert (mask[20:30] == 255).all()
        assert (mask == 255).sum() == 500
        assert (mask == 1).sum() == 150
        assert any("--ignore 255" in n for n in done.notes)
        assert any("500 pixels" in n for n in api.convert(tmp_path / "in", tmp_path / "ids", "labels").notes)

    @pytest.mark.parametrize("to", list(OUTLINES))
    def test_crowds_are_no_outlines(self, tmp_path, to):
        done = api.convert(write_coco(tmp_path / "x.json", ["a.png"], crowd=True), tmp_path / "out", to)
        assert done.objects == 1
        assert len(done.notes) == 1
        assert "cell 99" in done.notes[0]
        assert "crowd" in done.notes[0]

    def test_coco_keeps_crowds(self, tmp_path):
        done = api.convert(write_coco(tmp_path / "x.json", ["a.png"], crowd=True), tmp_path / "out", "coco")
        entries = json.loads(done.files[0].read_text(encoding="utf-8"))["annotations"]
        assert [e["iscrowd"] for e in entries] == [0, 1]


class TestPlanes:
    """--z each and --time each: every plane is converted on its own."""

    @pytest.fixture
    def stack(self, tmp_path) -> Path:
        ids = np.zeros((4, 40, 50), np.uint8)
        ids[1:3, 5:15, 5:15], ids[2:4, 20:30, 20:35] = 1, 2
        for side, array in (("images", np.arange(ids.size).reshape(ids.shape).astype(np.uint8)), ("labels", ids)):
            (tmp_path / "data" / side).mkdir(parents=True)
            tifffile.imwrite(tmp_path / "data" / side / "v.tif", array, imagej=True, metadata={"axes": "ZYX"})
        return tmp_path / "data"

    def test_a_file_a_plane(self, tmp_path, stack):
        ids = tifffile.imread(stack / "labels" / "v.tif")
        told = {"kind": "instances", "z": "each"}
        for source in (stack, stack / "labels"):
            done = api.convert(source, tmp_path / f"out {source.name}", "labels", told)
            assert [f.name for f in done.files] == [*(f"v_z{z:03d}.tif" for z in range(4)), "legend.json"]
            for z, file in enumerate(done.files[:4]):
                assert np.array_equal(tifffile.imread(file), ids[z])

    @pytest.mark.parametrize("to", ["coco", "labelme", "geojson"])
    def test_outlines_of_a_plane_know_no_plane(self, tmp_path, stack, to):
        done = api.convert(stack, tmp_path / "out", to, {"kind": "instances", "z": "each"})
        assert done.objects == 4
        if to == "coco":
            images = json.loads(done.files[0].read_text(encoding="utf-8"))["images"]
            assert [i["file_name"] for i in images] == [f"v_z{z:03d}.tif" for z in range(4)]
        else:
            assert len(done.files) == 4

    def test_outlines_are_told_apart_by_their_planes(self, tmp_path, stack):
        api.convert(stack, tmp_path / "rois", "roi", {"kind": "instances"})
        with pytest.raises(InputError, match=r"(?s)planes.*--images"):
            api.convert(tmp_path / "rois", tmp_path / "a", "labelme", {"z": "each"})
        done = api.convert(tmp_path / "rois", tmp_path / "b", "labelme", {"z": "each"}, images=stack / "images")
        assert [len(json.loads(f.read_text(encoding="utf-8"))["shapes"]) for f in done.files] == [0, 1, 2, 1]
