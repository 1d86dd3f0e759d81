"""Any arrangement of images and labels is understood, or the question that it leaves open is asked."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomask.data.layouts import find_layout
from biomask.data.pairing import IMAGE_FOLDERS, MASK_FOLDERS, missing_truth
from biomask.errors import BiomaskError, MissingPathError, PairingError
from biomask.stored import WHOLE, Plane

FIXTURES = Path(__file__).parents[1] / "fixtures" / "annotations"

LABELME = ('{"version": "5.8", "shapes": [{"label": "cell", "points": [[1, 1], [5, 1], [5, 5]], "shape_type": "polygon"}], '
           '"imagePath": "x"}')
#: Names of which many are contained in others.
SIMILAR = [f"{word}{n}" for word in ("a", "cell_", "t") for n in (1, 2, 3, 11, 12, 20)]
FEW_NAMES = st.lists(st.sampled_from(SIMILAR), unique=True, min_size=1)
GEOJSON = ('{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": '
           '[[[1, 1], [5, 1], [5, 5], [1, 1]]]}, "properties": {}}]}')
ROI = (FIXTURES / "imagej" / "ring.roi").read_bytes()


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def coco(*names: str) -> str:
    images = ", ".join(f'{{"id": {i}, "file_name": "{n}", "width": 9, "height": 9}}' for i, n in enumerate(names))
    return (f'{{"images": [{images}], "categories": [{{"id": 1, "name": "cell"}}], "annotations": '
            '[{"id": 1, "image_id": 0, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]}]}')


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def pairs(folder: Path, masks: str | Path | None = None, *, part: bool = False) -> dict[str, str | tuple[str, ...] | None]:
    """{name: labels below the folder}; of a folder of objects its name. No problem is left."""
    layout = find_layout(folder, masks)
    assert layout.problems == ()
    assert [p.name for p in layout.pairs] == sorted(p.name for p in layout.pairs)

    def shown(pair):
        if pair.truth is None:
            return None
        root = folder if folder.is_dir() and folder in pair.truth.where.parents else pair.truth.where.parents[1]
        files = (pair.truth.folder,) if pair.truth.folder else pair.truth.files
        told = tuple(f.relative_to(root).as_posix() for f in files)
        return told[0] if len(told) == 1 else told

    return {(f"{p.part}:{p.name}" if part else p.name): shown(p) for p in layout.pairs}


def refused(folder: Path, masks: str | Path | None = None) -> str:
    """All that is said against a folder, as `check` lists it."""
    try:
        layout = find_layout(folder, masks)
    except BiomaskError as error:
        return str(error)
    question = missing_truth(layout)
    found = [*layout.problems, *([question] if question else [])]
    assert found, f"nothing is wrong with {[(p.name, p.truth) for p in layout.pairs]}"
    return "\n".join(map(str, found))


class TestTwoFolders:
    @pytest.mark.parametrize("images", IMAGE_FOLDERS)
    @pytest.mark.parametrize("masks", MASK_FOLDERS)
    def test_whatever_they_are_called(self, tmp_path, images, masks):
        touch(tmp_path, f"{images}/a.png", f"{images}/b.ome.tif", f"{images}/c.nii.gz", f"{masks}/a.tif", f"{masks}/b.png",
              f"{masks}/c.npy", "notes.txt", f"{images}/.DS_Store", f"{images}/._a.png", f"{masks}/Thumbs.db")
        assert pairs(tmp_path) == {"a": f"{masks}/a.tif", "b": f"{masks}/b.png", "c": f"{masks}/c.npy"}

    @pytest.mark.parametrize(("images", "masks"), [("Images", "Masks"), ("IMG", "GT"), ("JPEGImages", "SegmentationClass")])
    def test_in_capitals(self, tmp_path, images, masks):
        touch(tmp_path, f"{images}/a.PNG", f"{masks}/a.TIF")
        assert pairs(tmp_path) == {"a": f"{masks}/a.TIF"}

    def test_images_in_the_folder_itself(self, tmp_path):
        touch(tmp_path, "a.tif", "b.tif", "masks/a.tif", "masks/b.tif")
        assert pairs(tmp_path) == {"a": "masks/a.tif", "b": "masks/b.tif"}

    def test_images_in_a_folder_of_any_name(self, tmp_path):
        touch(tmp_path, "DAPI/a.tif", "masks/a.tif", "documents/notes.txt")
        assert pairs(tmp_path) == {"a": "masks/a.tif"}

    def test_masks_in_a_folder_of_any_name(self, tmp_path):
        touch(tmp_path, "images/a.tif", "images/b.tif", "outlined by Anna/a.png", "outlined by Anna/b.png", "documents/x.txt")
        assert pairs(tmp_path) == {"a": "outlined by Anna/a.png", "b": "outlined by Anna/b.png"}

    def test_nested(self, tmp_path):
        touch(tmp_path, "images/day 1/a.png", "images/day 2/a.png", "masks/day 1/a.tif", "masks/day 2/a.tif")
        assert pairs(tmp_path) == {"day 1/a": "masks/day 1/a.tif", "day 2/a": "masks/day 2/a.tif"}

    def test_the_folder_above(self, tmp_path):
        touch(tmp_path, "deep/down/images/a.png", "deep/down/masks/a.png", "deep/readme.md")
        assert pairs(tmp_path) == {"a": "deep/down/masks/a.png"}

    def test_formats_that_are_not_read_are_named(self, tmp_path):
        said = refused(touch(tmp_path, "images/a.png", "images/b.czi", "masks/a.png", "masks/c.gif"))
        assert "b.czi" in said
        assert "c.gif" in said

    def test_two_folders_of_masks_are_a_question(self, tmp_path):
        said = refused(touch(tmp_path, "images/a.png", "masks/a.png", "labels/a.png"))
        assert "--masks labels" in said
        assert "--masks masks" in said
        assert pairs(tmp_path, "labels") == {"a": "labels/a.png"}

    def test_two_folders_of_images_are_a_question(self, tmp_path):
        said = refused(touch(tmp_path, "images/a.png", "raw/a.png", "masks/a.png"))
        assert "images and raw" in said
        assert "--masks" in said

    def test_an_empty_folder_of_masks(self, tmp_path):
        touch(tmp_path, "images/a.png", "images/b.png")
        (tmp_path / "masks").mkdir()
        assert pairs(tmp_path) == {"a": None, "b": None}
        assert find_layout(tmp_path).how.startswith("images")


class TestMismatches:
    def test_each_is_named_with_the_nearest_name(self, tmp_path):
        """The nearest is one that lacks a partner too: cell_02 has its own."""
        touch(tmp_path, "images/cell_01.png", "images/cell_02.png", "images/other.png", "masks/cell_1.png", "masks/cell_02.png",
              "masks/zzz.png")
        said = refused(tmp_path)
        assert "2 of 3 label files belong to no image" in said
        assert "2 of 3 images have no labels" in said
        assert "cell_1.png (nearest: cell_01.png)" in said
        assert "cell_01.png (nearest: masks/cell_1.png)" in said
        for name in ("other.png", "zzz.png"):
            assert name in said
        assert "masks/cell_02.png" not in said

    def test_no_match_at_all_is_no_folder_without_labels(self, tmp_path):
        touch(tmp_path, "images/cell_01.png", "images/cell_02.png", "masks/other_3.png", "masks/other_4.png")
        layout = find_layout(tmp_path)
        assert [p.name for p in layout.pairs] == ["cell_01", "cell_02"], "masks are no images"
        said = refused(tmp_path)
        assert "2 of 2 label files belong to no image" in said
        for name in ("other_3.png", "other_4.png"):
            assert name in said

    def test_no_match_in_a_part(self, tmp_path):
        touch(tmp_path, "train/images/a_1.png", "train/masks/b_2.png", "test/images/c.png", "test/masks/c.png")
        assert "b_2.png" in refused(tmp_path)
        assert not any("masks" in str(p.image) for p in find_layout(tmp_path).pairs)

    def test_the_same_name_in_another_folder_is_no_partner(self, tmp_path):
        said = refused(touch(tmp_path, "images/day 1/a.png", "masks/day 2/a.png", "images/day 1/b.png", "masks/day 1/b.png"))
        assert "day 2/a.png" in said
        assert "day 1/a.png" in said

    def test_hundreds_are_counted_and_the_first_shown(self, tmp_path):
        touch(tmp_path, *(f"images/{i:03d}.png" for i in range(100)), "images/same.png", "masks/same.png", "masks/other.png")
        said = refused(tmp_path)
        assert "100 of 101 images" in said
        assert "… and 80 more" in said
        assert len(said.splitlines()) < 30

    @pytest.mark.parametrize("twins", [("a.png", "a.tif"), ("a.tif", "a.tiff"), ("a.tif", "a.ome.tif"), ("sub/a.png", "sub/a.TIF")])
    @pytest.mark.parametrize("side", ["images", "masks"])
    def test_two_files_of_one_name_are_refused(self, tmp_path, side, twins):
        said = refused(touch(tmp_path, *(f"{side}/{name}" for name in twins), "images/b.png", "masks/b.png"))
        for name in twins:
            assert Path(name).name in said

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(FEW_NAMES, FEW_NAMES, st.sampled_from(["", "_mask", "_zz"]))
    def test_all_that_is_left_over_is_named(self, tmp_path_factory, images, masks, affix):
        folder = tmp_path_factory.mktemp("m")
        touch(folder, *(f"images/{n}.png" for n in images), *(f"masks/{n}{affix}.png" for n in masks))
        both = set(images) & set(masks)
        if both == set(images) == set(masks):
            assert set(pairs(folder).values()) == {f"masks/{n}{affix}.png" for n in both}
            return
        if len(images) == len(masks) == 1:
            return  # the only image and the only labels
        said, layout = refused(folder), find_layout(folder)
        for pair in layout.labelled:
            assert pair.truth.files[0].stem == pair.name + affix
        paired = {p.name for p in layout.labelled}
        for name in set(images) - paired:
            assert not paired or f"{name}.png" in said
        for name in set(masks) - paired:
            assert f"{name}{affix}.png" in said


class TestNames:
    @pytest.mark.parametrize("name", ["Zellkörper äöüß", "细胞核 01", "a" * 200, "x.y.z", "%20&+#~", "'quoted' (1)", "-o", "Ωμ✓"])
    def test_any_name(self, tmp_path, name):
        touch(tmp_path, f"{name} images/{name}.png", f"{name} images/b.png", f"masks/{name}.tif", "masks/b.tif")
        assert pairs(tmp_path) == {name: f"masks/{name}.tif", "b": "masks/b.tif"}

    @pytest.mark.parametrize("other", ["masks/", "masks/{}/"])
    def test_umlauts_taken_apart_by_a_mac(self, tmp_path, other):
        composed, apart = (unicodedata.normalize(form, "Zellkörper") for form in ("NFC", "NFD"))
        touch(tmp_path, f"images/{composed}.png", "images/b.png")
        if "{}" in other:  # a folder with the objects of an image
            touch(tmp_path, f"masks/{apart}/1.png", f"masks/{apart}/2.png", "masks/b/1.png")
        else:
            touch(tmp_path, f"masks/{apart}.png", "masks/b.png")
        found = find_layout(tmp_path)
        assert not found.problems
        assert [p.name for p in found.labelled] == [composed, "b"]

    def test_long_paths(self, tmp_path):
        deep = "/".join(["f" * 60] * 12)
        touch(tmp_path, f"images/{deep}/a.png", f"masks/{deep}/a.png")
        assert pairs(tmp_path) == {f"{deep}/a": f"masks/{deep}/a.png"}


class TestMasksGiven:
    def make(self, tmp_path: Path) -> Path:
        touch(tmp_path, "data/a.png", "data/b.png", "elsewhere/a.png", "elsewhere/b.png")
        return tmp_path / "data"

    def test_by_name_within_the_data(self, tmp_path):
        touch(self.make(tmp_path), "mine/a.png", "mine/b.png", "masks/a.png")
        assert pairs(tmp_path / "data", "mine") == {"a": "mine/a.png", "b": "mine/b.png"}

    def test_by_name_beside_images(self, tmp_path):
        touch(tmp_path, *(f"{side}/a.png" for side in ("images", "mine", "masks", "labels")))
        assert pairs(tmp_path, "mine") == {"a": "mine/a.png"}

    def test_absolute(self, tmp_path):
        assert pairs(self.make(tmp_path), tmp_path / "elsewhere") == {"a": "elsewhere/a.png", "b": "elsewhere/b.png"}

    def test_relative_to_where_one_is(self, tmp_path, monkeypatch):
        folder = self.make(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert {p.truth.files[0] for p in find_layout(folder, "elsewhere").pairs} == {
            Path("elsewhere/a.png"), Path("elsewhere/b.png")}

    def test_a_coco_file(self, tmp_path):
        file = write(tmp_path / "here" / "cells.json", coco("a.png"))
        layout = find_layout(self.make(tmp_path), file)
        assert {p.name: p.truth.entry if p.truth else None for p in layout.pairs} == {"a": "a.png", "b": None}

    def test_not_there(self, tmp_path):
        with pytest.raises(MissingPathError, match="nowhere"):
            find_layout(self.make(tmp_path), "nowhere")

    @pytest.mark.parametrize("masks", [".", "images"])
    def test_the_images_themselves(self, tmp_path, masks):
        assert "holds the images themselves" in refused(touch(tmp_path, "images/a.png", "masks/a.png"), masks)

    def test_a_structure_in_each_part(self, tmp_path):
        touch(tmp_path, *(f"{part}/{kind}/a_{part}.png" for part in ("train", "test") for kind in ("images", "disc", "cup")))
        assert pairs(tmp_path, "disc", part=True) == {
            "test:test/a_test": "test/disc/a_test.png", "train:train/a_train": "train/disc/a_train.png"}

    def test_parts_on_both_sides(self, tmp_path):
        touch(tmp_path, *(f"{side}/{part}/a{i}.png" for side in ("data", "drawn") for i, part in enumerate(("train", "test"))))
        assert pairs(tmp_path / "data", tmp_path / "drawn", part=True) == {
            "train:train/a0": "train/a0.png", "test:test/a1": "test/a1.png"}

    def test_one_file_for_one_image(self, tmp_path):
        touch(tmp_path, "my image.tif", "drawn.tif", "other.tif")
        layout = find_layout(tmp_path / "my image.tif", tmp_path / "drawn.tif")
        assert [(p.image.name, p.truth.files[0].name) for p in layout.pairs] == [("my image.tif", "drawn.tif")]

    def test_one_file_for_many_images(self, tmp_path):
        assert "one file" in refused(self.make(tmp_path), tmp_path / "elsewhere" / "a.png")


class TestSideBySide:
    @pytest.mark.parametrize(("image", "mask"), [
        ("{}.png", "{}_mask.png"), ("{}.tif", "{}-labels.png"), ("{}.jpg", "{}_gt.png"), ("img_{}.png", "mask_{}.png"),
        ("{}_img.tif", "{}_masks.tif"), ("{}.png", "{}_cp_masks.png"), ("{}.png", "{} mask.png"), ("{}.tif", "{}_seg.npy"),
        ("img{}d.tif", "mask{}d.tif"), ("{}_raw.tif", "{}_label.tif"), ("day/{}.png", "day/{}_mask.png"),
        ("p_image_{}.png", "p_mask_{}.png"), ("细胞{}.png", "细胞{}_mask.png")])
    def test_of_suffixes_and_prefixes(self, tmp_path, image, mask):
        touch(tmp_path, *(name.format(n) for name in (image, mask) for n in ("1", "2", "12")))
        assert set(pairs(tmp_path).values()) == {mask.format(n) for n in ("1", "2", "12")}
        assert {p.image.name for p in find_layout(tmp_path).pairs} == {Path(image.format(n)).name for n in ("1", "2", "12")}

    def test_a_folder_an_image(self, tmp_path):
        touch(tmp_path, *(f"patient {n}/{name}" for n in (1, 2, 3) for name in ("scan.tif", "scan_mask.tif")))
        assert pairs(tmp_path) == {f"patient {n}/scan": f"patient {n}/scan_mask.tif" for n in (1, 2, 3)}

    def test_a_mask_that_lacks_its_image(self, tmp_path):
        said = refused(touch(tmp_path, "a.png", "a_mask.png", "b_mask.png", "c.png"))
        assert "b_mask.png" in said
        assert "c.png" in said

    def test_in_parts(self, tmp_path):
        touch(tmp_path, "train/a.png", "train/a_mask.png", "val/b.png", "val/b_mask.png")
        assert pairs(tmp_path, part=True) == {"train:train/a": "train/a_mask.png", "validation:val/b": "val/b_mask.png"}

    def test_words_that_no_other_file_answers_are_names(self, tmp_path):
        assert pairs(touch(tmp_path, "mask_a.png", "gt_b.png")) == {"gt_b": None, "mask_a": None}


class TestParts:
    def test_each_with_images_and_masks(self, tmp_path):
        touch(tmp_path, *(f"{part}/{side}/{part}.png" for part in ("train", "val", "test") for side in ("images", "masks")))
        assert pairs(tmp_path, part=True) == {
            "train:train/train": "train/masks/train.png", "validation:val/val": "val/masks/val.png",
            "test:test/test": "test/masks/test.png"}

    @pytest.mark.parametrize("names", [("train2017", "val2017"), ("Training", "Validation"), ("trn", "dev")])
    def test_under_other_names(self, tmp_path, names):
        touch(tmp_path, *(f"{part}/{side}/x{i}.png" for i, part in enumerate(names) for side in ("images", "masks")))
        assert [p.part for p in find_layout(tmp_path).pairs if p.name.startswith(names[0])] == ["train"]
        assert [p.part for p in find_layout(tmp_path).pairs if p.name.startswith(names[1])] == ["validation"]

    @pytest.mark.parametrize("sides", [("images", "masks"), ("JPEGImages", "annotations"), ("img", "anything")])
    def test_below_images_and_masks(self, tmp_path, sides):
        touch(tmp_path, *(f"{side}/{part}/x{i}.png" for side in sides for i, part in enumerate(("train2017", "val", "test"))))
        assert {p.name: p.part for p in find_layout(tmp_path).pairs} == {
            "train2017/x0": "train", "val/x1": "validation", "test/x2": "test"}

    def test_below_a_folder_a_structure(self, tmp_path):
        touch(tmp_path, *(f"{side}/{part}/{part}.png" for side in ("images", "disc", "cup") for part in ("train", "test")))
        assert {p.part for p in find_layout(tmp_path).labelled} == {"train", "test"}

    def test_a_folder_of_tests_is_no_part_where_nothing_is_for_training(self, tmp_path):
        touch(tmp_path, *(f"{side}/{day}/a.png" for side in ("images", "masks") for day in ("test", "control")))
        assert {p.part for p in find_layout(tmp_path).pairs} == {None}

    def test_a_part_without_labels(self, tmp_path):
        touch(tmp_path, "train/images/a.png", "train/masks/a.png", "test/images/b.png")
        layout = find_layout(tmp_path)
        assert pairs(tmp_path) == {"train/a": "train/masks/a.png", "test/b": None}
        assert layout.unlabelled == ()
        assert missing_truth(layout) is None

    def test_the_decathlon(self, tmp_path):
        touch(tmp_path, "imagesTr/h_001.nii.gz", "imagesTr/h_002.nii.gz", "labelsTr/h_001.nii.gz", "labelsTr/h_002.nii.gz",
              "imagesTs/h_003.nii.gz", "imagesTr/._h_001.nii.gz", "dataset.json")
        assert pairs(tmp_path, part=True) == {
            "train:train/h_001": "labelsTr/h_001.nii.gz", "train:train/h_002": "labelsTr/h_002.nii.gz", "test:test/h_003": None}

    def test_the_decathlon_without_a_test(self, tmp_path):
        touch(tmp_path, "imagesTr/h_001.nii.gz", "labelsTr/h_001.nii.gz")
        assert pairs(tmp_path) == {"h_001": "labelsTr/h_001.nii.gz"}

    def test_nn_unet(self, tmp_path):
        touch(tmp_path, "imagesTr/h_001_0000.nii.gz", "imagesTr/h_002_0000.nii.gz", "labelsTr/h_001.nii.gz",
              "labelsTr/h_002.nii.gz", "imagesTs/h_003_0000.nii.gz", "labelsTs/h_003.nii.gz")
        assert pairs(tmp_path, part=True) == {
            "train:train/h_001_0000": "labelsTr/h_001.nii.gz", "train:train/h_002_0000": "labelsTr/h_002.nii.gz",
            "test:test/h_003_0000": "labelsTs/h_003.nii.gz"}


class TestFoldersOfObjects:
    """Data Science Bowl 2018."""

    def test_a_folder_an_image(self, tmp_path):
        touch(tmp_path, "x1/images/x1.png", "x1/masks/m1.png", "x1/masks/m2.png", "x2/images/x2.png", "x2/masks/m3.png")
        assert pairs(tmp_path) == {"x1": "x1/masks", "x2": "x2/masks"}
        assert {p.truth.form for p in find_layout(tmp_path).pairs} == {"objects"}

    def test_some_without_masks(self, tmp_path):
        touch(tmp_path, "x1/images/x1.png", "x1/masks/m1.png", "x1/masks/m2.png", "x2/images/x2.png")
        assert "x2.png" in refused(tmp_path)

    def test_what_a_zip_of_a_mac_leaves(self, tmp_path):
        touch(tmp_path, "x1/images/x1.png", "x1/masks/m1.png", "x1/masks/m2.png", "x2/images/x2.png", "x2/masks/m3.png",
              "__MACOSX/x1/._x1", "documents/read me.txt")
        assert pairs(tmp_path) == {"x1": "x1/masks", "x2": "x2/masks"}

    def test_in_parts(self, tmp_path):
        touch(tmp_path, "stage1/train/x1/images/x1.png", "stage1/train/x1/masks/m1.png", "stage1/train/x1/masks/m2.png",
              "stage1/test/x2/images/x2.png")
        assert pairs(tmp_path, part=True) == {"train:train/x1": "stage1/train/x1/masks", "test:test/x2": None}

    @pytest.mark.parametrize("count", [1, 2, 3, 6])
    @pytest.mark.parametrize("mask", ["scan {}", "label"])
    def test_a_single_mask_is_no_object(self, tmp_path, count, mask):
        """Values of a mask of classes would be lost if it were taken for one object."""
        touch(tmp_path, *(f"patient {n}/images/scan {n}.png" for n in range(count)),
              *(f"patient {n}/masks/{mask.format(n)}.png" for n in range(count)))
        assert set(pairs(tmp_path).values()) == {f"patient {n}/masks/{mask.format(n)}.png" for n in range(count)}
        assert {p.truth.form for p in find_layout(tmp_path).pairs} == {"mask"}

    def test_masks_with_a_folder_a_mask(self, tmp_path):
        touch(tmp_path, "images/a.png", "images/b.png", "masks/a/label.png", "masks/b/label.png")
        assert pairs(tmp_path) == {"a": "masks/a/label.png", "b": "masks/b/label.png"}

    def test_masks_with_a_folder_an_image(self, tmp_path):
        touch(tmp_path, "images/a.png", "images/b.png", "masks/a/1.png", "masks/a/2.png", "masks/b/1.png")
        assert pairs(tmp_path) == {"a": "masks/a", "b": "masks/b"}

    def test_a_folder_that_belongs_to_no_image(self, tmp_path):
        said = refused(touch(tmp_path, "images/a_1.png", "images/b.png", "masks/a_1/1.png", "masks/b/1.png", "masks/c_9/1.png"))
        assert "c_9" in said

    def test_an_empty_folder_is_an_image_without_labels(self, tmp_path):
        touch(tmp_path, "images/a.png", "images/b.png", "images/c.png", "masks/a/1.png", "masks/b/1.png")
        (tmp_path / "masks" / "c").mkdir()
        assert "c.png" in refused(tmp_path)


class TestTrackingChallenge:
    def make(self, folder: Path, truths: tuple[str, ...] = ("01_ST", "01_GT", "02_ST", "02_GT")) -> Path:
        for sequence in ("01", "02"):
            touch(folder, *(f"{sequence}/t{t:03d}.tif" for t in range(4)))
        for truth in truths:
            frames = range(4) if truth.endswith("ST") else (1, 3)
            touch(folder, *(f"{truth}/SEG/man_seg{t:03d}.tif" for t in frames))
        return folder

    def test_silver_truth_of_all_frames(self, tmp_path):
        found = pairs(self.make(tmp_path))
        assert len(found) == 8
        assert found["02/t003"] == "02_ST/SEG/man_seg003.tif"
        assert "--masks GT" in find_layout(tmp_path).notes[0]

    @pytest.mark.parametrize("word", ["GT", "gt"])
    def test_gold_truth_of_some(self, tmp_path, word):
        assert pairs(self.make(tmp_path), word) == {
            f"{s}/t{t:03d}": f"{s}_GT/SEG/man_seg{t:03d}.tif" for s in ("01", "02") for t in (1, 3)}

    def test_gold_truth_alone(self, tmp_path):
        assert len(pairs(self.make(tmp_path, ("01_GT",)))) == 2

    def test_a_sequence_without_truth_is_asked_about(self, tmp_path):
        assert "t003.tif" in refused(self.make(tmp_path, ("01_ST",)))

    def test_a_mask_without_a_frame(self, tmp_path):
        self.make(tmp_path)
        assert "man_seg009.tif" in refused(touch(tmp_path, "01_ST/SEG/man_seg009.tif"))

    def test_one_level_down(self, tmp_path):
        self.make(tmp_path / "DIC-C2DH-HeLa")
        assert len(pairs(tmp_path)) == 8
        assert len(find_layout(tmp_path, "GT").pairs) == 4

    def test_slices_of_volumes(self, tmp_path):
        touch(tmp_path, "01/t000.tif", "01/t001.tif", "01_GT/SEG/man_seg_000_003.tif", "01_GT/SEG/man_seg_001_005.tif")
        found = find_layout(tmp_path)
        assert not found.problems
        assert [(p.name, p.image.name, p.plane) for p in found.pairs] == [
            ("01/t000_z003", "t000.tif", Plane(3)), ("01/t001_z005", "t001.tif", Plane(5))]

    def test_a_folder_called_gt_is_a_folder(self, tmp_path):
        touch(tmp_path, "a.png", "b.png", "GT/a.png", "GT/b.png")
        assert pairs(tmp_path, "GT") == {"a": "GT/a.png", "b": "GT/b.png"}


class TestStructures:
    def test_a_folder_a_structure(self, tmp_path):
        touch(tmp_path, *(f"{side}/{n}.png" for side in ("images", "disc", "cup") for n in "ab"))
        assert pairs(tmp_path) == {"a": ("cup/a.png", "disc/a.png"), "b": ("cup/b.png", "disc/b.png")}
        assert find_layout(tmp_path).pairs[0].truth.structures == ("cup", "disc")

    def test_below_masks(self, tmp_path):
        touch(tmp_path, *(f"{side}/{n}.png" for side in ("images", "masks/disc", "masks/cup") for n in "ab"))
        assert pairs(tmp_path)["a"] == ("masks/cup/a.png", "masks/disc/a.png")

    def test_with_a_word_at_each(self, tmp_path):
        touch(tmp_path, "images/a.png", "images/b.png", "disc/a_disc.png", "disc/b_disc.png", "cup/a_cup.png", "cup/b_cup.png")
        assert pairs(tmp_path)["a"] == ("cup/a_cup.png", "disc/a_disc.png")

    def test_a_mask_that_one_structure_lacks(self, tmp_path):
        touch(tmp_path, *(f"{side}/{n}.png" for side in ("images", "disc", "cup") for n in "abc"))
        (tmp_path / "cup" / "b.png").unlink()
        said = refused(tmp_path)
        assert "b.png" in said
        assert "not of cup" in said

    @pytest.mark.parametrize("where", ["", "masks/"])
    def test_a_rare_structure_is_not_forgotten(self, tmp_path, where):
        """Drawn only where it is there: left out it must not be without a word."""
        touch(tmp_path, *(f"images/{n}.png" for n in "abcdef"), *(f"{where}disc/{n}.png" for n in "abcdef"),
              *(f"{where}cup/{n}.png" for n in "abcdef"), f"{where}scar/a.png")
        layout = find_layout(tmp_path)
        said = "\n".join([*layout.notes, *map(str, layout.problems)])
        assert "scar" in said

    def test_one_of_two_is_rare(self, tmp_path):
        touch(tmp_path, *(f"images/{n}.png" for n in "abcdef"), *(f"disc/{n}.png" for n in "abcdef"), "scar/a.png")
        layout = find_layout(tmp_path)
        assert "scar" in "\n".join([*layout.notes, *map(str, layout.problems)])


class TestAnnotations:
    def test_beside_the_images(self, tmp_path):
        touch(tmp_path, "a.png", "b.png", "c.png")
        write(tmp_path / "a.json", LABELME)
        write(tmp_path / "b.geojson", GEOJSON)
        (tmp_path / "c.roi").write_bytes(ROI)
        assert pairs(tmp_path) == {"a": "a.json", "b": "b.geojson", "c": "c.roi"}
        assert {p.truth.form for p in find_layout(tmp_path).pairs} == {"shapes"}

    @pytest.mark.parametrize("folder", ["annotations", "labels", "rois", "drawn by Anna"])
    def test_in_a_folder(self, tmp_path, folder):
        touch(tmp_path, "images/a.png", "images/b.png")
        for name in "ab":
            write(tmp_path / folder / f"{name}.geojson", GEOJSON)
        assert pairs(tmp_path) == {n: f"{folder}/{n}.geojson" for n in "ab"}

    def test_sets_of_rois(self, tmp_path):
        touch(tmp_path, "a.tif", "b.tif")
        for name in ("a_RoiSet.zip", "RoiSet_b.zip"):
            (tmp_path / name).write_bytes((FIXTURES / "imagej" / "RoiSet.zip").read_bytes())
        assert pairs(tmp_path) == {"a": "a_RoiSet.zip", "b": "RoiSet_b.zip"}

    def test_shapes_of_napari_and_tables_that_are_none(self, tmp_path):
        touch(tmp_path, "a.tif")
        write(tmp_path / "a.csv", (FIXTURES / "napari" / "shapes.csv").read_text())
        write(tmp_path / "results.csv", "name,area\na,3\n")
        assert pairs(tmp_path) == {"a": "a.csv"}

    def test_inside_images(self, tmp_path):
        touch(tmp_path, "images/a.png")
        write(tmp_path / "images" / "a.json", LABELME)
        assert set(pairs(tmp_path).values()) == {"images/a.json"}

    def test_overlays(self, tmp_path):
        for name in ("overlay_stack", "selection"):
            (tmp_path / f"{name}.tif").write_bytes((FIXTURES / "imagej" / f"{name}.tif").read_bytes())
        layout = find_layout(tmp_path)
        assert [p.truth.files[0].name for p in layout.labelled] == ["overlay_stack.tif"]  # a mere selection is no label
        tifffile.imwrite(tmp_path / "plain.tif", np.zeros((9, 9), np.uint8))
        assert "plain.tif" in refused(tmp_path)

    @pytest.mark.parametrize("place", ["instances.json", "annotations/instances_all.json", "images/_annotations.coco.json"])
    def test_coco(self, tmp_path, place):
        touch(tmp_path, "images/a.png", "images/b.png")
        write(tmp_path / place, coco("a.png", "b.png"))
        layout = find_layout(tmp_path)
        assert not layout.problems
        assert [(p.image.name, p.truth.entry) for p in layout.pairs] == [("a.png", "a.png"), ("b.png", "b.png")]
        assert [p.name for p in layout.pairs] == ["a", "b"]  # as predictions of the folder images are named

    def test_coco_in_parts(self, tmp_path):
        touch(tmp_path, "train2017/a.jpg", "val2017/a.jpg", "val2017/b.jpg")
        write(tmp_path / "annotations" / "instances_train2017.json", coco("a.jpg"))
        write(tmp_path / "annotations" / "instances_val2017.json", coco("a.jpg", "b.jpg"))
        layout = find_layout(tmp_path)
        assert not layout.problems
        assert {p.name: (p.part, p.truth.files[0].stem) for p in layout.pairs} == {
            "train2017/a": ("train", "instances_train2017"), "val2017/a": ("validation", "instances_val2017"),
            "val2017/b": ("validation", "instances_val2017")}

    def test_coco_names_with_folders(self, tmp_path):
        touch(tmp_path, "images/day 1/a.png", "images/day 2/a.png")
        write(tmp_path / "instances.json", coco("day 1/a.png", r"day 2\\a.png"))
        layout = find_layout(tmp_path)
        assert not layout.problems
        assert [(p.image.parent.name, p.truth.entry) for p in layout.pairs] == [("day 1", "day 1/a.png"), ("day 2", r"day 2\a.png")]
        assert [p.name for p in layout.pairs] == ["day 1/a", "day 2/a"]

    def test_coco_names_that_stay_open(self, tmp_path):
        touch(tmp_path, "images/day 1/a.png", "images/day 2/a.png")
        write(tmp_path / "instances.json", coco("a.png"))
        said = refused(tmp_path)
        assert "day 1/a.png" in said
        assert "day 2/a.png" in said

    def test_coco_umlauts_taken_apart(self, tmp_path):
        composed, apart = (unicodedata.normalize(form, "Zellkörper.png") for form in ("NFC", "NFD"))
        touch(tmp_path, f"images/{apart}")
        write(tmp_path / "instances.json", coco(composed))
        assert [p.truth is not None for p in find_layout(tmp_path).pairs] == [True]

    def test_coco_beside_masks_of_the_same_names(self, tmp_path):
        """A mask must never be taken for the image of its name."""
        touch(tmp_path, "images/a.png", "masks/a.png")
        write(tmp_path / "annotations" / "instances.json", coco("a.png"))
        said = refused(tmp_path)
        assert "--masks masks" in said
        assert "instances.json" in said
        assert pairs(tmp_path, "masks") == {"a": "masks/a.png"}

    def test_an_image_that_coco_does_not_list(self, tmp_path):
        touch(tmp_path, "images/a.png", "images/b.png")
        write(tmp_path / "instances.json", coco("a.png", "c.png"))
        assert "b.png" in refused(tmp_path)
        assert any("1 of 2" in note and "c.png" in note for note in find_layout(tmp_path).notes)


class TestWithoutLabels:
    def test_images_alone(self, tmp_path):
        assert pairs(touch(tmp_path, "a.png", "sub/b.tif")) == {"a": None, "sub/b": None}
        assert missing_truth(find_layout(tmp_path)) is None

    def test_one_image(self, tmp_path):
        assert pairs(touch(tmp_path, "a.png", "b.png") / "a.png") == {"a": None}

    def test_one_image_with_its_mask(self, tmp_path):
        assert pairs(touch(tmp_path, "images/photo.png", "masks/drawing.tif")) == {"photo": "masks/drawing.tif"}

    def test_masks_alone(self, tmp_path):
        layout = find_layout(touch(tmp_path, "masks/a.png", "masks/b.png"))
        assert layout.labelled == ()

    @pytest.mark.parametrize("names", [(), ("notes.txt",), (".hidden.png",), (".git/a.png",), ("Thumbs.db", "._a.png")])
    def test_nothing(self, tmp_path, names):
        touch(tmp_path, *names)
        with pytest.raises(PairingError, match="holds no images") as caught:
            find_layout(tmp_path)
        assert ".png" in caught.value.fix

    def test_only_formats_that_are_not_read(self, tmp_path):
        with pytest.raises(PairingError, match=r"a\.czi"):
            find_layout(touch(tmp_path, "a.czi", "b.nd2"))

    @pytest.mark.parametrize("missing", ["images", "masks"])
    def test_an_empty_side(self, tmp_path, missing):
        touch(tmp_path, "images/a.png", "masks/a.png")
        (tmp_path / missing / "a.png").unlink()
        assert find_layout(tmp_path).labelled == ()

    def test_not_there(self, tmp_path):
        with pytest.raises(MissingPathError):
            find_layout(tmp_path / "no")

    def test_a_model(self, tmp_path):
        with pytest.raises(PairingError, match="this is a model"):
            find_layout(touch(tmp_path, "model.safetensors", "report.html"))

    def test_hidden_files_are_no_images(self, tmp_path):
        touch(tmp_path, "images/a.png", "masks/a.png", "images/.b.png", "masks/.ipynb_checkpoints/a-checkpoint.png", ".trash/c.png")
        assert pairs(tmp_path) == {"a": "masks/a.png"}


class TestSeveral:
    def test_data_sets_below_are_a_question(self, tmp_path):
        touch(tmp_path, *(f"{name}/{side}/{n}.png" for name in ("mice", "men") for side in ("images", "masks") for n in "ab"))
        with pytest.raises(PairingError, match="several data sets: men, mice") as caught:
            find_layout(tmp_path)
        assert str(tmp_path / "men") in caught.value.fix

    def test_one_data_set_among_other_things(self, tmp_path):
        touch(tmp_path, "mice/images/a.png", "mice/masks/a.png", "figures/fig1.png", "figures/fig2.png")
        assert pairs(tmp_path) == {"a": "mice/masks/a.png"}

    def test_a_link_to_the_same_is_no_second(self, tmp_path):
        touch(tmp_path, "mice/images/a.png", "mice/masks/a.png")
        link(tmp_path / "again", tmp_path / "mice")
        link(tmp_path / "mice" / "up", tmp_path)
        link(tmp_path / "around", tmp_path)
        assert list(pairs(tmp_path)) == ["a"]

    def test_a_loop_of_links(self, tmp_path, time_limit):
        touch(tmp_path, "images/a.png", "masks/a.png")
        link(tmp_path / "images" / "loop", tmp_path / "images")
        link(tmp_path / "self", tmp_path / "self")
        with time_limit(10):
            assert pairs(tmp_path) == {"a": "masks/a.png"}


def link(place: Path, target: Path) -> None:
    try:
        place.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("links are not permitted here")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "masks").chmod(0)
    try:
        assert "masks" in refused(tmp_path)
    finally:
        (tmp_path / "masks").chmod(0o755)


def test_no_pair_is_a_plane_unless_asked(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    assert [p.plane for p in find_layout(tmp_path).pairs] == [WHOLE]


@pytest.mark.data
class TestReal:
    @pytest.mark.parametrize(("folder", "masks", "count", "labelled", "parts"), [
        ("isbi2012", None, 60, 30, {"train": 30, "test": 30}), ("isbi2012/train", None, 30, 30, {None: 30}),
        ("isbi2012/test", None, 30, 0, {None: 30}), ("ctc", None, 84, 84, {None: 84}), ("ctc", "GT", 9, 9, {None: 9}),
        ("drishti_gs", None, 101, 101, {"train": 50, "test": 51}), ("drishti_gs", "disc", 101, 101, {"train": 50, "test": 51}),
        ("dsb2018", None, 582, 582, {"train": 523, "test": 59}), ("dsb2018_original", None, 6, 6, {None: 6}),
        ("coco_mini", None, 159, 159, {"train": 80, "validation": 79}), ("hippocampus", None, 195, 195, {None: 195}),
        ("mouse_embryo3d", None, 8, 8, {"train": 6, "test": 2}), ("fixtures", None, 2, 2, {None: 2}),
        ("slides", None, 1, 0, {None: 1}),
    ])
    def test_every_folder(self, data_root, folder, masks, count, labelled, parts):
        layout = find_layout(data_root / folder, masks)
        found = [p.part for p in layout.pairs]
        assert (len(layout.pairs), len(layout.labelled)) == (count, labelled)
        assert {part: found.count(part) for part in found} == parts
        assert layout.problems == ()

    def test_all_of_them_at_once_are_a_question(self, data_root):
        with pytest.raises(PairingError, match="several data sets: coco_mini, ctc/DIC-C2DH-HeLa, drishti_gs, dsb2018"):
            find_layout(data_root)
