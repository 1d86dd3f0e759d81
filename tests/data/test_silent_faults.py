"""Faults of data that would give a model of the wrong thing without a word: each is an error, a warning, or right."""

import json
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from biomask.checking import check
from biomask.data.dataset import open_dataset
from biomask.data.layouts import find_layout
from biomask.data.orientation import laid_on
from biomask.data.understand import understand
from biomask.errors import BiomaskError, LabelsError
from biomask.io.files import write_picture
from biomask.progress import Silent
from biomask.recipe import DataSettings
from biomask.transforms import Normalization


def blob(value: int = 255, seed: int = 0, size: tuple[int, int] = (40, 40)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    y, x = np.random.default_rng(seed).integers(4, 20, 2)
    mask[y : y + 12, x : x + 12] = value
    return mask


def write(folder: Path, count: int, mask_of, side: str = "masks") -> Path:
    for i in range(count):
        write_picture(folder / "images" / f"{i}.png", np.random.default_rng(i).integers(0, 255, (40, 40)).astype(np.uint8))
        write_picture(folder / side / f"{i}.png", mask_of(i))
    return folder


def opened(folder: Path, **settings: object):
    return open_dataset(folder, DataSettings(**settings), Normalization())


def said(folder: Path, **settings: object) -> str:
    found = understand(folder, DataSettings(**settings), Silent())
    return "\n".join(str(e) for e in found.errors)


class TestStructures:
    def test_an_ignored_value_is_not_what_all_experts_agree_on(self, tmp_path):
        for name in ("cup", "disc"):
            def mask(i: int) -> np.ndarray:
                array = blob(1, i)
                array[:2] = 255
                return array
            write(tmp_path, 4, mask, name)
        encoding = understand(tmp_path, DataSettings(ignore=255), Silent()).encoding
        assert encoding is not None
        assert encoding.full == (1.0, 1.0)

    def test_masks_of_two_programs(self, tmp_path):
        write(tmp_path, 6, lambda i: blob(1 if i % 2 else 255, i), "cup")
        write(tmp_path, 6, lambda i: blob(255, i), "disc")
        assert "3 masks with 0 and 1" in said(tmp_path)

    def test_values_that_are_no_averages(self, tmp_path):
        write(tmp_path, 4, lambda i: blob(30, i) + blob(100, i + 9), "cup")
        write(tmp_path, 4, lambda i: blob(255, i), "disc")
        assert "neither of two values nor averages" in said(tmp_path)


def test_palettes_that_disagree(tmp_path):
    for i in range(4):
        write_picture(tmp_path / "images" / f"{i}.png", np.zeros((40, 40), np.uint8) + i)
        picture = Pillow.fromarray(np.where(blob(1, i) > 0, 1, 2 * blob(1, i + 7)).astype(np.uint8)).convert("P")
        order = ((255, 0, 0), (0, 255, 0)) if i % 2 else ((0, 255, 0), (255, 0, 0))
        picture.putpalette([0, 0, 0, *order[0], *order[1]])
        (tmp_path / "masks").mkdir(exist_ok=True)
        picture.save(tmp_path / "masks" / f"{i}.png")
    assert "palettes of the masks differ" in said(tmp_path)
    assert "#ff0000 is 1 or 2" in said(tmp_path)
    assert not said(tmp_path, kind="classes")


@pytest.mark.parametrize("quality", [85, 95, 98, 99, 100])
def test_a_jpeg_mask_of_any_quality(tmp_path, quality):
    yy, xx = np.mgrid[:96, :96]
    for i in range(4):
        write_picture(tmp_path / "images" / f"{i}.png", np.random.default_rng(i).integers(0, 255, (96, 96)).astype(np.uint8))
        mask = np.where((yy - 40 - i) ** 2 + (xx - 50) ** 2 < 900, 255, 0).astype(np.uint8)
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / "masks" / f"{i}.jpg").write_bytes(imagecodecs.jpeg_encode(mask, level=quality))
    values = np.unique(imagecodecs.jpeg_decode((tmp_path / "masks" / "0.jpg").read_bytes()))
    text = said(tmp_path)
    assert ("--values 0,255" in text) == (len(values) > 2), values
    assert opened(tmp_path, values=(0, 255)).legend.values == (0, 255)


def test_classes_of_neighbouring_values_are_no_blur(tmp_path):
    write(tmp_path, 4, lambda i: blob(1, i) + blob(1, i + 3) + blob(1, i + 5))
    assert not said(tmp_path)


def test_an_unnamed_object_is_a_class_of_its_own(tmp_path):
    square = [[5, 5], [15, 5], [15, 15], [5, 15], [5, 5]]
    for i in range(2):
        write_picture(tmp_path / "images" / f"{i}.png", np.full((60, 60), 7 + i, np.uint8))
        features = [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[x + d, y] for x, y in square]]},
                     "properties": {"objectType": "annotation"} | ({"classification": {"name": name}} if name else {})}
                    for d, name in ((0, "Tumor"), (15, "Stroma"), (30, ""))]
        (tmp_path / "images" / f"{i}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    data = opened(tmp_path)
    assert [e.name for e in data.legend] == ["background", "Stroma", "Tumor", "without a class"]
    assert [data.labels(0).array[10, x] for x in (10, 25, 40)] == [2, 1, 3]


def test_outlines_drawn_on_a_larger_image(tmp_path):
    ring = [[100, 100], [180, 100], [180, 180], [100, 180], [100, 100]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
               "properties": {"objectType": "annotation"}}
    for i in range(2):
        write_picture(tmp_path / "images" / f"{i}.png", np.full((50, 50), 7 + i, np.uint8))
        (tmp_path / "images" / f"{i}.geojson").write_text(json.dumps(feature))
    assert "--mask-scale 0.25" in said(tmp_path)
    found = understand(tmp_path, DataSettings(mask_scale=0.25), Silent())
    assert not found.errors
    assert found.survey.good[0].labels[0].counts[1] == 400


def test_groups_that_a_table_cuts(tmp_path):
    write(tmp_path, 6, lambda i: blob(255, i))
    rows = [f"{i},{'train' if i < 3 else 'test'},{'A' if i in (1, 4) else i}" for i in range(6)]
    (tmp_path / "split.csv").write_text("image,part,patient\n" + "\n".join(rows))
    assert "A (test, train)" in said(tmp_path)
    assert not said(tmp_path, groups="none")


def test_a_table_above_the_data(tmp_path):
    write(tmp_path / "dataset", 6, lambda i: blob(255, i))
    (tmp_path / "split.csv").write_text("image,part\n" + "\n".join(f"{i},{'test' if i > 3 else 'train'}" for i in range(6)))
    assert len(opened(tmp_path)) == 4
    assert len(open_dataset(tmp_path / "dataset" / "images", DataSettings(), Normalization(), masks="../masks")) == 6
    (tmp_path / "split.csv").rename(tmp_path / "dataset" / "split.csv")
    assert len(open_dataset(tmp_path / "dataset" / "images", DataSettings(), Normalization(),
                            masks=tmp_path / "dataset" / "masks")) == 4


def test_a_table_that_fits_nothing(tmp_path):
    write(tmp_path, 4, lambda i: blob(255, i))
    (tmp_path / "groups.csv").write_text("image,group\n" + "\n".join(f"scan_{i}x,{i}" for i in range(4)))
    assert "none of its rows" in said(tmp_path)


def test_images_of_a_test_file_of_coco_are_not_trained_on(tmp_path):
    for part, numbers in (("train", range(4)), ("test", range(4, 6))):
        content = {"images": [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 40} for i in numbers],
                   "annotations": [{"id": i, "image_id": i, "category_id": 1, "segmentation": [[2, 2, 20, 2, 20, 20, 2, 20]],
                                    "iscrowd": 0, "bbox": [2, 2, 18, 18], "area": 324} for i in numbers],
                   "categories": [{"id": 1, "name": "cell"}]}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    for i in range(6):
        write_picture(tmp_path / "images" / f"{i}.png", np.full((40, 40), 9 + i, np.uint8))
    assert {p.part for p in find_layout(tmp_path).pairs if int(p.image.stem) > 3} == {"test"}
    assert len(opened(tmp_path, kind="classes")) == 4


def test_a_test_part_beside_the_training_data(tmp_path):
    write(tmp_path, 5, lambda i: blob(255, i))
    write(tmp_path / "test", 2, lambda i: blob(255, i))
    layout = find_layout(tmp_path)
    assert sorted((p.part, p.name) for p in layout.pairs)[:2] == [("test", "test/0"), ("test", "test/1")]
    assert len([p for p in layout.pairs if p.part == "train"]) == 5


def test_numbered_folders_are_groups(tmp_path):
    for patient in (1, 2, 3):
        write(tmp_path / f"patient{patient}", 3, lambda i: blob(255, i))
    data = opened(tmp_path)
    assert len(data) == 9
    assert len(set(data.facts.groups)) == 3


def test_a_folder_that_is_left_aside_is_named(tmp_path):
    write(tmp_path, 3, lambda i: blob(255, i))
    write_picture(tmp_path / "masks_old" / "0.png", blob())
    assert any("masks_old/" in note for note in find_layout(tmp_path).notes)


def test_folders_of_unknown_names_are_a_question(tmp_path):
    for i in range(3):
        write_picture(tmp_path / "Bilder" / f"{i}.png", np.full((40, 40), i, np.uint8))
        write_picture(tmp_path / "Segmentations final v2" / f"{i}.png", blob(255, i))
    found = check(tmp_path)
    assert not found.usable
    assert "--masks 'Segmentations final v2'" in found.problems[0].fix
    assert check(tmp_path, masks="Segmentations final v2").usable


def test_tiles_of_qupath(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(imagecodecs.jpeg_encode(np.full((40, 40, 3), 90 + i, np.uint8), level=90))
        write_picture(tmp_path / f"{i}.png", blob(1, i))
    assert [(p.image.suffix, p.truth.files[0].suffix) for p in find_layout(tmp_path).labelled] == [(".jpg", ".png")] * 3


def test_channels_in_another_order(tmp_path):
    for i in range(4):
        (tmp_path / "images").mkdir(exist_ok=True)
        names = ["DAPI", "GFP"] if i < 3 else ["GFP", "DAPI"]
        grey = np.random.default_rng(i).integers(0, 255, (2, 40, 40)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"{i}.ome.tif", grey,
                         ome=True, metadata={"axes": "CYX", "Channel": {"Name": names}})
        write_picture(tmp_path / "masks" / f"{i}.png", blob(255, i))
    assert "--channels DAPI,GFP" in said(tmp_path)
    data = opened(tmp_path, channels=("DAPI", "GFP"))
    assert data.image(3).channel_names == ("DAPI", "GFP")


def test_background_where_the_masks_lack_it(tmp_path):
    write(tmp_path, 4, lambda i: np.where(blob(1, i) > 0, 2, 1).astype(np.uint8))
    write_picture(tmp_path / "images" / "bare.png", np.full((40, 40), 3, np.uint8))
    data = opened(tmp_path, unlabelled="background")
    assert data.legend.values == (0, 1, 2)
    assert {int(data.item(i)[1].max()) for i in range(5)} == {0, 2}


@pytest.mark.parametrize("value", [-1, 255])
def test_values_that_often_mean_unknown(tmp_path, value):
    for i in range(4):
        write_picture(tmp_path / "images" / f"{i}.png", np.full((40, 40), 3 + i, np.uint8))
        mask = blob(1, i).astype(np.int16)
        mask[:2] = value
        (tmp_path / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "masks" / f"{i}.tif", mask)
    found = check(tmp_path)
    assert [p.fix for p in found.problems if p.kind == "unknown value"] == [f"if it does, say --ignore {value}"]
    assert not [p for p in check(tmp_path, DataSettings(ignore=value)).problems if p.kind == "unknown value"]


def test_a_value_to_ignore_among_colours_is_refused(tmp_path):
    write(tmp_path, 3, lambda i: np.stack([blob(255, i), np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)]))
    assert "colour-coded" in said(tmp_path, ignore=255)


class TestOrientation:
    """Labels of NIfTI volumes lie where their own header says."""

    IMAGE = np.diag([0.5, 0.7, 2.0, 1.0])

    def turned(self, order: tuple[int, int, int], flips: tuple[int, ...], size: tuple[int, int, int]) -> np.ndarray:
        """The affine of the image's grid stored with axes in another order and direction; size in stored x, y, z."""
        turn = np.zeros((4, 4))
        turn[3, 3] = 1
        for stored, axis in enumerate(order):
            turn[axis, stored] = -1 if stored in flips else 1
            turn[axis, 3] = size[stored] - 1 if stored in flips else 0
        return self.IMAGE @ turn

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
    @pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
    def test_turned_labels_come_back(self, order, flips):
        truth = np.arange(4 * 5 * 6).reshape(4, 5, 6)  # z, y, x
        in_xyz = truth.transpose(2, 1, 0)
        stored = np.flip(in_xyz.transpose(order), flips)
        affine = self.turned(order, flips, stored.shape)
        back, note = laid_on(stored.transpose(2, 1, 0), affine, self.IMAGE, Path("x.nii"))
        assert np.array_equal(back, truth)
        assert bool(note) == (order != (0, 1, 2) or bool(flips))

    @pytest.mark.parametrize("change", ["origin", "spacing", "slant"])
    def test_elsewhere_is_an_error(self, change):
        affine = self.IMAGE.copy()
        if change == "origin":
            affine[0, 3] += 30
        elif change == "spacing":
            affine[2, 2] = 4
        else:
            affine[0, 1] = 0.3
        with pytest.raises(LabelsError, match="elsewhere"):
            laid_on(np.zeros((4, 5, 6)), affine, self.IMAGE, Path("x.nii"))

    def test_a_header_that_says_nothing_is_said(self):
        labels = np.arange(24).reshape(2, 3, 4)
        back, note = laid_on(labels, np.eye(4), self.IMAGE, Path("x.nii"))
        assert np.array_equal(back, labels)
        assert "no place" in note

    def test_an_affine_that_cannot_be_turned_back(self):
        labels = np.arange(24).reshape(2, 3, 4)
        for affine, image in ((np.zeros((4, 4)), self.IMAGE), (self.IMAGE, np.full((4, 4), np.nan))):
            assert "no place" in laid_on(labels, affine, image, Path("x.nii"))[1]

    def test_from_files(self, tmp_path):
        truth = np.zeros((12, 10, 9), np.uint8)  # x, y, z
        truth[1:4, 2:5, 3:6] = 1
        for i in range(3):
            for side in ("images", "labels"):
                (tmp_path / side).mkdir(exist_ok=True)
            grey = np.random.default_rng(i).integers(0, 99, truth.shape).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(grey, self.IMAGE), tmp_path / "images" / f"{i}.nii.gz")
            flipped = self.turned((0, 1, 2), (0,), truth.shape)
            label = nibabel.Nifti1Image(truth[::-1].copy(), flipped) if i == 1 else nibabel.Nifti1Image(truth, self.IMAGE)
            nibabel.save(label, tmp_path / "labels" / f"{i}.nii.gz")
        data = opened(tmp_path)
        assert all(np.array_equal(data.labels(i).array, truth.transpose(2, 1, 0)) for i in range(3))
        nibabel.save(nibabel.Nifti1Image(truth, np.diag([1.0, 0.7, 2.0, 1.0])), tmp_path / "labels" / "2.nii.gz")
        with pytest.raises(BiomaskError, match="elsewhere"):
            opened(tmp_path)
