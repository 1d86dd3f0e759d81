"""One pass over a data folder finds the kind of labels, and every file that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from biomask import api
from biomask.checkpoint import load_model
from biomask.data.dataset import Dataset, open_dataset
from biomask.data.inference import infer_kind
from biomask.errors import BiomaskError, LabelsError, ManyErrors, PairingError, ReadError
from biomask.io import read_label_values
from biomask.io.files import write_picture
from biomask.progress import Silent
from biomask.recipe import DataSettings
from biomask.transforms import Normalization

#: The smallest network that still pools, skips and normalises.
TINY = ("network.options.width=2", "network.options.depth=1", "training.batch=2")


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)

    warn = say


def opened(folder: Path, masks: str | Path | None = None, **settings: object) -> Dataset:
    return open_dataset(folder, DataSettings(**settings), Normalization(), masks=masks)


def opened_or_refused(folder: Path, because: str, **settings: object) -> Dataset | None:
    """The data set, or None where it is refused with the reason that is expected."""
    try:
        return opened(folder, **settings)
    except BiomaskError as error:
        message = str(error)
    assert because in message
    return None


def write(folder: Path, masks: list[np.ndarray], channels: int = 1) -> Path:
    """A data folder with these masks; each image shows its mask."""
    for i, mask in enumerate(masks):
        grey = (mask.astype(int) * 37 % 256).astype(np.uint8)
        write_picture(folder / "images" / f"{i:02d}.png", grey if channels == 1 else np.stack([grey] * channels))
        (folder / "masks").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / "masks" / f"{i:02d}.tif", mask)
    return folder


def colourful(side: int = 48) -> np.ndarray:
    """(3, side, side) whose channels differ."""
    return np.random.default_rng(0).integers(0, 255, (3, side, side)).astype(np.uint8)


def blobs(ids: list[int], side: int = 40) -> np.ndarray:
    """A mask with one square for each entry, in its value; equal values make several components."""
    mask = np.zeros((side, side), np.uint16)
    for place, value in enumerate(ids):
        y, x = divmod(place, side // 5)
        mask[5 * y : 5 * y + 4, 5 * x : 5 * x + 4] = value
    return mask


class TestFacts:
    @pytest.mark.parametrize(("classes", "channels"), [((0, 255), 1), ((0, 1, 2), 3), ((1, 2), 1), ((0, 128, 255), 1)])
    def test_two_dimensions(self, tmp_path, make_dataset, classes, channels):
        data = opened(make_dataset(tmp_path, n=3, size=(20, 30), classes=classes, channels=channels))
        assert len(data) == 3
        assert (data.facts.axes, data.facts.channels, data.facts.dtype) == ("cyx", channels, "uint8")
        assert data.facts.sizes == ((20, 30),) * 3
        assert data.legend.values == classes
        assert sum(data.facts.class_pixels.values()) == 3 * 20 * 30
        assert data.facts.kind == "classes"
        assert str(classes[-1]) in data.facts.kind_reason or "values" in data.facts.kind_reason

    def test_volumes(self, tmp_path, make_dataset):
        data = opened(make_dataset(tmp_path, n=2, size=(12, 14), volume=True))
        assert (data.facts.axes, data.facts.sizes) == ("czyx", ((8, 12, 14),) * 2)

    def test_items_are_normalised_with_class_ids(self, tmp_path, make_dataset):
        data = opened(make_dataset(tmp_path, n=2, classes=(5, 9)))
        image, (ids,), ignore = data.item(1)
        assert image.dtype == np.float32
        assert image.mean() == pytest.approx(0, abs=1e-4)
        assert image.std() == pytest.approx(1, abs=1e-3)
        assert np.unique(ids).tolist() == [0, 1]
        assert ignore is None
        assert np.array_equal(data.labels(1).array, ids)

    def test_names_come_from_the_settings(self, tmp_path, make_dataset):
        legend = opened(make_dataset(tmp_path), legend={0: "nothing", 255: "cell"}).legend
        assert [e.name for e in legend] == ["nothing", "cell"]

    def test_hashes_tell_every_file(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path, n=2)
        before = opened(folder).facts.hashes
        assert len(before) == 4
        write_picture(folder / "masks" / "im_01.png", np.eye(48, dtype=np.uint8) * 255)
        after = opened(folder).facts.hashes
        assert {k for k in before if before[k] != after[k]} == {"im_01:labels"}

    def test_a_subset_keeps_sizes_and_pairs_together(self, tmp_path):
        data = opened(write(tmp_path, [blobs([1], 20), blobs([1, 1], 25), blobs([1] * 3, 30)]))
        part = data.subset([2, 0])
        assert part.facts.sizes == ((30, 30), (20, 20))
        assert [p.name for p in part.pairs] == ["02", "00"]
        assert part.item(0)[1].shape == (1, 30, 30)

    def test_the_cache_is_bounded_and_changes_nothing(self, tmp_path, make_dataset):
        data, small = (opened(make_dataset(tmp_path / "d", n=4)) for _ in range(2))
        small.cache_bytes = 1
        for i in (0, 1, 2, 3, 0, 2, 2, 1):
            assert all(np.array_equal(a, b) for a, b in zip(data.item(i)[:2], small.item(i)[:2], strict=True))
        assert len(small._cache) == 1
        assert len(data._cache) == 4


class TestKind:
    """Design: ids that differ between images and form one component each are instances."""

    def kind(self, tmp_path, masks, **settings):
        return opened(write(tmp_path, masks), **settings).facts.kind

    @pytest.mark.parametrize("values", [[255], [1], [1, 2], [128, 255], [1, 1, 1, 2, 2, 2]])
    def test_few_values_are_classes(self, tmp_path, values):
        assert self.kind(tmp_path, [blobs(values)] * 3) == "classes"

    def test_many_classes_that_recur(self, tmp_path):
        assert self.kind(tmp_path, [blobs([1, 2, 3, 4, 5, 1, 2, 3, 4, 5])] * 3) == "classes"

    def test_counted_cells(self, tmp_path):
        masks = [blobs(list(range(1, n + 1))) for n in (12, 30, 21, 17)]
        assert self.kind(tmp_path, masks) == "instances"

    def test_counted_cells_in_hundreds(self, tmp_path):
        assert self.kind(tmp_path, [blobs(list(range(1, 200)), 80)]) == "instances"

    def test_few_cells_in_each_image(self, tmp_path):
        masks = [blobs(list(range(1, n + 1))) for n in (1, 2, 3, 2)]
        assert self.kind(tmp_path, masks) == "instances"

    def test_two_images_of_cells(self, tmp_path):
        """Trained as classes this would be a network of 13 classes that mean nothing."""
        assert self.kind(tmp_path, [blobs(list(range(1, n + 1))) for n in (10, 12)]) == "instances"

    def test_tracked_cells_whose_ids_do_not_begin_at_one(self, tmp_path):
        masks = [blobs(ids) for ids in ([3, 7, 9, 11], [7, 9, 12, 13], [9, 13, 14, 15, 16])]
        assert self.kind(tmp_path, masks) == "instances"

    def test_classes_in_pieces_that_some_images_lack(self, tmp_path):
        """1, 2 and 3 count up from image to image, but each is in several places: classes."""
        masks = [blobs([1] * 5), blobs([1, 2] * 4), blobs([1, 2, 3] * 4)]
        assert self.kind(tmp_path, masks) == "classes"

    def test_unknown_pixels_do_not_hide_instances(self, tmp_path):
        masks = [blobs([*range(1, n + 1), 255]) for n in (12, 30, 21, 17)]
        assert self.kind(tmp_path, masks, ignore=255) == "instances"

    def test_the_user_has_the_last_word(self, tmp_path):
        masks = [blobs(list(range(1, n + 1))) for n in (12, 30, 21)]
        data = opened(write(tmp_path, masks), kind="classes")
        assert (data.facts.kind, data.facts.kind_reason) == ("classes", "as told")
        assert len(data.legend) == 31

    def test_classes_beyond_what_fits_are_refused(self, tmp_path):
        """Class ids are held in 8 bits: 300 classes would be trained as if some were others."""
        mask = np.kron(np.arange(400).reshape(20, 20) % 300, np.ones((3, 3), int)).astype(np.uint16)
        data = opened_or_refused(write(tmp_path, [mask] * 2), "300", kind="classes")
        assert data is None or np.array_equal(data.item(0)[1][0], mask)

    def test_reasons_name_the_values(self):
        assert infer_kind({0: 5, 255: 3}, [frozenset({255})]) == ("classes", "the values are [0, 255]")

    def test_objects_come_with_ids_and_classes(self, tmp_path):
        masks = [blobs(list(range(1, n + 1))) for n in (12, 30, 21)]
        data = opened(write(tmp_path, masks))
        assert data.facts.kind == "instances"
        for i, mask in enumerate(masks):
            ids, classes = data.item(i)[1]
            assert np.array_equal(ids, mask)
            assert np.array_equal(classes, mask > 0)

    @pytest.mark.data
    def test_instances_of_the_real_fixture(self, data_root, tmp_path):
        for name, sub in (("img2d.tif", "images"), ("mask2d.tif", "masks")):
            (tmp_path / sub).mkdir()
            (tmp_path / sub / "a.tif").write_bytes((data_root / "fixtures" / name).read_bytes())
        data = opened(tmp_path)
        assert data.facts.kind == "instances"
        ids, classes = data.item(0)[1]
        assert np.array_equal(ids > 0, classes > 0)
        assert len(np.unique(ids)) > 2


class TestIgnore:
    def test_unknown_pixels_are_no_class(self, tmp_path):
        data = opened(write(tmp_path, [blobs([1, 1, 255]), blobs([1])]), ignore=255)
        assert data.legend.values == (0, 1)
        _, (ids,), ignore = data.item(0)
        assert ignore is not None
        assert ignore.sum() == 16
        assert (ids[ignore] == 0).all()
        assert data.item(1)[2] is None

    def test_a_negative_value(self, tmp_path):
        mask = blobs([1, 1]).astype(np.int16)
        mask[0] = -1
        data = opened(write(tmp_path, [mask]), ignore=-1)
        assert data.legend.values == (0, 1)
        assert data.item(0)[2][0].all()

    def test_zero_may_be_unknown(self, tmp_path):
        data = opened(write(tmp_path, [blobs([1, 2, 1, 2])]), ignore=0)
        assert data.legend.values == (1, 2)
        assert data.item(0)[2].sum() == 40 * 40 - 64

    def test_nothing_left_to_tell_apart(self, tmp_path):
        with pytest.raises(LabelsError, match="nothing to tell apart"):
            opened(write(tmp_path, [blobs([255])]), ignore=255)


class TestRefused:
    def test_one_value_alone(self, tmp_path):
        with pytest.raises(LabelsError, match=r"\[0\]"):
            opened(write(tmp_path, [blobs([])] * 2))

    def test_a_grey_image_as_mask(self, tmp_path):
        grey = np.random.default_rng(0).integers(0, 60_000, (90, 90)).astype(np.uint16)
        write(tmp_path, [blobs([1], 90), grey])
        with pytest.raises(LabelsError, match="distinct values: a grey image") as caught:
            opened(tmp_path)
        assert caught.value.where == tmp_path / "masks" / "01.tif"

    def test_an_eight_bit_photograph_as_mask(self, tmp_path):
        """256 grey values in every image, none of them one component: neither classes nor instances."""
        rng = np.random.default_rng(0)
        with pytest.raises(BiomaskError, match="grey"):
            opened(write(tmp_path, [rng.integers(0, 255, (60, 60)).astype(np.uint8) for _ in range(3)]))

    def test_colours_as_mask(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path, n=2)
        write_picture(folder / "masks" / "im_01.png", np.random.default_rng(0).integers(0, 255, (3, 48, 48)).astype(np.uint8))
        with pytest.raises(LabelsError, match=r"im_01\.png.*colours"):
            opened(folder)

    def test_another_size_names_both(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path, n=3)
        write_picture(folder / "masks" / "im_01.png", np.zeros((24, 48), np.uint8))
        with pytest.raises(LabelsError, match=r"im_01\.png.*\(24, 48\).*\(48, 48\)"):
            opened(folder)

    def test_an_image_of_other_channels(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path, n=3)
        write_picture(folder / "images" / "im_02.png", colourful())
        with pytest.raises(ReadError, match=r"im_02\.png.*3 channel"):
            opened(folder)

    def test_a_volume_among_pictures(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path, n=3)
        for sub in ("images", "masks"):
            (folder / sub / "im_02.png").unlink()
            tifffile.imwrite(folder / sub / "im_02.tif", np.zeros((4, 48, 48), np.uint8), imagej=True, metadata={"axes": "ZYX"})
        with pytest.raises(ManyErrors, match=r"im_02\.tif.*1 channel in 3D"):
            opened(folder)

    def test_all_bad_files_are_listed_at_once(self, tmp_path, make_dataset):
        """Damaged, of another size, of other channels, and not a mask: one run names them all."""
        folder = make_dataset(tmp_path, n=6)
        (folder / "images" / "im_00.png").write_bytes(b"broken")
        write_picture(folder / "masks" / "im_01.png", np.zeros((24, 48), np.uint8))
        write_picture(folder / "images" / "im_02.png", colourful())
        write_picture(folder / "masks" / "im_03.png", np.random.default_rng(0).integers(0, 255, (3, 48, 48)).astype(np.uint8))
        with pytest.raises(ManyErrors) as caught:
            opened(folder)
        assert [name for name in ("im_00", "im_01", "im_02", "im_03", "im_04", "im_05") if name in str(caught.value)] == [
            "im_00", "im_01", "im_02", "im_03"]
        assert "for 4 reasons (2 of 6 pairs cannot be read)" in caught.value.summary

    def test_both_files_of_a_pair_are_named_when_both_are_bad(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path, n=2)
        for sub in ("images", "masks"):
            (folder / sub / "im_01.png").write_bytes(b"broken")
        with pytest.raises(ManyErrors) as caught:
            opened(folder)
        assert str(folder / "images" / "im_01.png") in str(caught.value)
        assert str(folder / "masks" / "im_01.png") in str(caught.value)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(PairingError):
            opened(tmp_path)


class TestSettingsAreFollowedOrRefused:
    """A setting that is taken and does nothing is a lie in the model's header."""

    @pytest.mark.parametrize(("wish", "count"), [(("0",), 1), (("2", "0"), 2), (("grey",), 1), (("rgb",), 3)])
    def test_channels(self, tmp_path, make_dataset, wish, count):
        data = opened(make_dataset(tmp_path, channels=3), channels=wish)
        assert data.facts.channels == data.item(0)[0].shape[0] == count

    def test_spacing(self, tmp_path, make_dataset):
        with pytest.raises(BiomaskError, match="spacing is not followed yet"):
            opened(make_dataset(tmp_path), spacing={"y": 1.0, "x": 1.0})

    def test_a_legend_that_leaves_out_a_value_on_disk(self, tmp_path, make_dataset):
        """`legend: value: name; none = the values found`: with one, a stray value is an error and no class of its own."""
        folder = make_dataset(tmp_path, classes=(0, 1, 7))
        with pytest.raises(BiomaskError, match="7"):
            opened(folder, legend={0: "background", 1: "cell"})


class TestParts:
    """What is called test is never trained on; what is called validation is what the best weights are chosen by."""

    def make(self, folder: Path, make_dataset, *parts: str) -> Path:
        for part in parts:
            make_dataset(folder / part, n=3)
        return folder

    def test_the_test_part_is_not_even_read(self, tmp_path, make_dataset):
        folder = self.make(tmp_path, make_dataset, "train", "test")
        (folder / "test" / "images" / "im_00.png").write_bytes(b"broken")
        data = opened(folder)
        assert {p.part for p in data.pairs} == {"train"}
        assert not any("test" in name for name in data.facts.hashes)

    def test_by_a_table(self, tmp_path, make_dataset):
        (make_dataset(tmp_path, n=4) / "split.csv").write_text("image,part\nim_00,train\nim_01,test\nim_02,train\nim_03,val\n")
        assert {p.name: p.part for p in opened(tmp_path).pairs} == {"im_00": "train", "im_02": "train", "im_03": "validation"}

    @pytest.mark.parametrize("sides", [("images", "masks")])
    def test_below_images_and_masks(self, tmp_path, make_dataset, sides):
        for part in ("train", "val", "test"):
            make_dataset(tmp_path / part, n=2)
            for side in sides:
                (tmp_path / "data" / side).mkdir(parents=True, exist_ok=True)
                (tmp_path / part / side).rename(tmp_path / "data" / side / part)
        assert sorted(p.part for p in opened(tmp_path / "data").pairs) == ["train", "train", "validation", "validation"]

    def test_a_validation_part_is_used(self, tmp_path, make_dataset):
        folder = self.make(tmp_path / "data", make_dataset, "train", "val", "test")
        heard = Heard()
        api.train(folder, tmp_path / "m", api.TrainOptions(steps=2, settings=TINY, device="cpu"), progress=heard)
        assert any("the 3 of the validation part" in line for line in heard.lines)
        hashes = load_model(tmp_path / "m").header.data_hashes
        assert len(hashes) == 12
        assert not any("test" in name for name in hashes)

    def test_a_test_part_alone(self, tmp_path, make_dataset):
        with pytest.raises(BiomaskError, match="test") as caught:
            opened(self.make(tmp_path, make_dataset, "test"))
        assert "part test" in str(caught.value)


class TestUnlabelled:
    def make(self, folder: Path, make_dataset, **options: object) -> Path:
        make_dataset(folder, n=4, **options)
        (folder / "masks" / "im_01.png").unlink()
        return folder

    def test_asked(self, tmp_path, make_dataset):
        with pytest.raises(PairingError, match=r"im_01\.png"):
            opened(self.make(tmp_path, make_dataset))

    def test_left_out(self, tmp_path, make_dataset):
        heard = Heard()
        folder = self.make(tmp_path, make_dataset)
        write_picture(folder / "masks" / "im_02.png", np.zeros((48, 48), np.uint8))
        data = open_dataset(folder, DataSettings(unlabelled="ignore"), Normalization(), progress=heard)
        assert [p.name for p in data.pairs] == ["im_00", "im_03"]
        assert any("im_01, im_02" in line for line in heard.lines)

    @pytest.mark.parametrize("classes", [(0, 255), (0, 1, 2), (1, 2), (5, 9, 200)])
    def test_taken_for_background(self, tmp_path, make_dataset, classes):
        """Value 0 is background, also where no mask holds it."""
        data = opened(self.make(tmp_path, make_dataset, classes=classes), unlabelled="background")
        assert len(data) == 4
        assert data.legend.values == tuple(sorted({0, *classes}))
        assert not data.item(1)[1].any()
        assert (data.item(0)[1].min() > 0) == (0 not in classes)

    def test_taken_for_background_beside_a_white_one(self, tmp_path, make_dataset):
        folder = self.make(tmp_path, make_dataset)
        for i in (0, 2, 3):
            mask = np.full((3, 48, 48), 255, np.uint8)
            mask[1:, 10:20] = 0
            mask[:, 30:40] = 0
            write_picture(folder / "masks" / f"im_{i:02d}.png", mask)
        data = opened(folder, unlabelled="background")
        assert not data.item(1)[1].any()
        assert len(np.unique(data.item(0)[1])) == 3

    def test_planes_of_a_volume(self, tmp_path):
        for i in range(2):
            mask = np.zeros((6, 24, 24), np.uint8)
            mask[[1, 3]] = np.eye(24, dtype=np.uint8)
            image = np.random.default_rng(i).integers(0, 255, mask.shape).astype(np.uint8)
            for side, array in (("images", image), ("masks", mask)):
                (tmp_path / side).mkdir(exist_ok=True)
                tifffile.imwrite(tmp_path / side / f"{i}.tif", array, imagej=True, metadata={"axes": "ZYX"})
        with pytest.raises(LabelsError, match="planes 2"):
            opened(tmp_path)
        assert opened(tmp_path, unlabelled="background").item(0)[2] is None
        ignore = opened(tmp_path, unlabelled="ignore").item(0)[2]
        assert ignore.reshape(6, -1).all(axis=1).tolist() == [True, False, True, False, True, True]


class TestForms:
    """Whatever stores the labels, class ids come out."""

    def truth(self, i: int) -> np.ndarray:
        return blobs([1, 2, 1, 2] if i % 2 else [2, 1, 1, 1], 40)

    def make(self, folder: Path, save) -> Path:
        for i in range(3):
            write_picture(folder / "images" / f"{i}.png", np.random.default_rng(i).integers(0, 255, (40, 40)).astype(np.uint8))
            (folder / "masks").mkdir(exist_ok=True)
            save(folder / "masks" / f"{i}.png", self.truth(i))
        return folder

    def test_colours(self, tmp_path):
        colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)
        data = opened(self.make(tmp_path, lambda path, t: write_picture(path, np.moveaxis(colours[t], -1, 0))))
        assert [e.colour for e in data.legend] == [(0, 0, 0), (0, 0, 255), (255, 0, 0)]
        assert np.array_equal(data.item(0)[1][0], np.array([0, 2, 1])[self.truth(0)])

    def test_a_downsample(self, tmp_path):
        self.make(tmp_path, lambda path, t: write_picture(path, t.astype(np.uint8)))
        for i in range(3):
            big = np.kron(np.random.default_rng(i).integers(0, 255, (40, 40)), np.ones((3, 3))).astype(np.uint8)
            write_picture(tmp_path / "images" / f"{i}.png", big)
        assert np.array_equal(opened(tmp_path, mask_scale=3).item(0)[1][0], np.kron(self.truth(0), np.ones((3, 3))))

    def test_fractions(self, tmp_path):
        folder = self.make(tmp_path, lambda path, t: tifffile.imwrite(path.with_suffix(".tif"), (t / 4).astype(np.float32)))
        data = opened(folder)
        assert data.facts.kind == "soft"
        assert np.array_equal(data.item(0)[1][0], self.truth(0) == 2)

    def test_jpeg_with_values(self, tmp_path):
        from PIL import Image as Pillow

        def save(path: Path, truth: np.ndarray) -> None:
            large = np.kron((truth > 0) * 255, np.ones((4, 4))).astype(np.uint8)
            Pillow.fromarray(large).save(path.with_suffix(".jpg"), quality=60)

        self.make(tmp_path, save)
        for i in range(3):
            write_picture(tmp_path / "images" / f"{i}.png", np.random.default_rng(i).integers(0, 255, (160, 160)).astype(np.uint8))
        with pytest.raises(LabelsError, match=r"--values 0,255"):
            opened(tmp_path)
        data = opened(tmp_path, values=(0, 255))
        assert np.array_equal(data.item(0)[1][0], np.kron(self.truth(0) > 0, np.ones((4, 4))))

    def test_outlines_with_classes(self, tmp_path):
        import json

        def save(path: Path, truth: np.ndarray) -> None:
            shapes = [{"label": name, "shape_type": "polygon", "points": [[x, x], [x + 6, x], [x + 6, x + 6], [x, x + 6]]}
                      for name, x in (("tumour", 3), ("stroma", 20))]
            path.with_suffix(".json").write_text(json.dumps({"version": "5.8", "shapes": shapes, "imagePath": path.name}))

        data = opened(self.make(tmp_path, save))
        assert data.facts.kind == "classes"
        assert [e.name for e in data.legend] == ["background", "stroma", "tumour"]
        ids = data.item(0)[1][0]
        assert (ids[3:9, 3:9] == 2).all()
        assert (ids[20:26, 20:26] == 1).all()
        assert (ids > 0).sum() == 72

    def test_values_that_are_told_to_be_objects(self, tmp_path):
        self.make(tmp_path, lambda path, t: write_picture(path, t.astype(np.uint8)))
        data = opened(tmp_path, kind="instances")
        ids, classes = data.item(0)[1]
        assert data.facts.kind == "instances"
        assert np.array_equal(ids > 0, self.truth(0) > 0)
        assert np.array_equal(classes, self.truth(0) > 0)

    def test_one_mask_an_image_holds_no_structures_that_overlap(self, tmp_path):
        self.make(tmp_path, lambda path, t: write_picture(path, t.astype(np.uint8)))
        with pytest.raises(LabelsError):
            opened(tmp_path, kind="multilabel")


class TestReplayed:
    """What was chosen of the images is in the model, and chosen again of new ones."""

    def stacks(self, folder: Path, axes: str, masks: str) -> Path:
        for i in range(4):
            rng = np.random.default_rng(i)
            shape = {"Z": 8, "C": 2, "Y": 32, "X": 32}
            image = rng.integers(0, 100, tuple(shape[a] for a in axes)).astype(np.uint8)
            truth = np.zeros(tuple(shape[a] for a in masks), np.uint8)
            truth[..., 8 + i : 20 + i] = 255
            for side, array, names in (("images", image, axes), ("masks", truth, masks)):
                (folder / side).mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(folder / side / f"{i}.tif", array, imagej=True, metadata={"axes": names})
        return folder

    def train(self, folder: Path, out: Path, **data: object) -> None:
        api.train(folder, out, api.TrainOptions(steps=2, settings=TINY, device="cpu", data=data))

    @pytest.mark.parametrize(("axes", "masks", "data", "channels", "dims", "names"), [
        ("CYX", "YX", {"channels": ("1",)}, 1, 2, ["0"]), ("ZYX", "YX", {"z": "max"}, 1, 2, ["0"]),
        ("ZYX", "YX", {"z": 1}, 1, 2, ["0"]), ("ZYX", "ZYX", {"z": "each"}, 1, 2, [f"0_z{z:03d}" for z in range(8)]),
        ("ZCYX", "YX", {"z": "max", "channels": ("0", "1")}, 2, 2, ["0"]),
        ("ZCYX", "ZYX", {"channels": ("1",)}, 1, 3, ["0"])])
    def test_by_predict(self, tmp_path, axes, masks, data, channels, dims, names):
        folder = self.stacks(tmp_path / "data", axes, masks)
        self.train(folder, tmp_path / "m", **data)
        model = load_model(tmp_path / "m")
        assert (model.header.in_channels, model.header.spatial_dims) == (channels, dims)
        assert {k: getattr(model.header.recipe.data, k) for k in data} == data
        result = api.predict(tmp_path / "m", folder / "images" / "0.tif", tmp_path / "out", api.PredictOptions(device="cpu"))
        assert list(result.done) == names
        for name in names:
            found = read_label_values(tmp_path / "out" / "masks" / f"{name}.tif")
            assert found.size == ((8, 32, 32) if dims == 3 else (32, 32))

    def test_grey_that_was_saved_in_colour(self, tmp_path, make_dataset):
        make_dataset(tmp_path / "data", channels=3)
        for path in (tmp_path / "data" / "images").iterdir():
            plane = np.asarray(read_label_values(tmp_path / "data" / "masks" / path.name).array[0])
            write_picture(path, np.stack([plane // 2] * 3))
        self.train(tmp_path / "data", tmp_path / "m")
        assert load_model(tmp_path / "m").header.in_channels == 1
        write_picture(tmp_path / "new" / "grey.png", np.zeros((40, 40), np.uint8) + 7)
        write_picture(tmp_path / "new" / "colour.png", np.zeros((3, 40, 40), np.uint8) + 7)
        assert len(api.predict(tmp_path / "m", tmp_path / "new", tmp_path / "out", api.PredictOptions(device="cpu")).done) == 2

    def test_planes_of_one_file_are_never_split(self, tmp_path):
        data = opened(self.stacks(tmp_path, "ZYX", "ZYX"), z="each")
        assert len(data) == 32
        assert data.facts.groups == tuple(str(i) for i in range(4) for _ in range(8))


def test_neighbouring_crops_are_never_split(tmp_path):
    """Found by their pixels, where nobody names groups."""
    from scipy.ndimage import gaussian_filter

    for k in range(3):
        rng = np.random.default_rng(k)
        field = gaussian_filter(rng.normal(0, 1, (256, 256)), 3)
        field = np.clip(110 + 40 * field / field.std() + rng.normal(0, 3, field.shape), 0, 255).astype(np.uint8)
        for j, crop in enumerate((field[:, :128], field[:, 128:])):
            name = f"{'qrs'[k]}{(7 * k + 5 * j) % 11}{'xyz'[(k + j) % 3]}"
            write_picture(tmp_path / "images" / f"{name}.png", crop)
            write_picture(tmp_path / "masks" / f"{name}.png", (crop > 120).astype(np.uint8))
    groups = opened(tmp_path).facts.groups
    assert len(set(groups)) == 3
    assert set(opened(tmp_path, groups="none").facts.groups) == {p.name for p in opened(tmp_path).pairs}


@pytest.mark.data
class TestReal:
    def test_electron_microscopy(self, data_root):
        data = opened(data_root / "isbi2012" / "train")
        assert len(data) == 30
        assert data.legend.values == (0, 255)
        assert data.facts.kind == "classes"

    def test_its_test_part_is_not_trained_on(self, data_root):
        assert len(opened(data_root / "isbi2012")) == 30

    def test_a_structure_of_several_experts(self, data_root):
        data = opened(data_root / "drishti_gs", "disc")
        assert (len(data), data.facts.kind) == (50, "soft")
        image, ids, _ = data.item(0)
        assert image.shape[0] == 3
        assert 0.005 < (ids == 1).mean() < 0.2

    @pytest.mark.parametrize(("folder", "masks", "kind"), [
        ("ctc", None, "instances"), ("drishti_gs", None, "multilabel"), ("dsb2018_original", None, "instances"),
        ("coco_mini", None, "instances"), ("mouse_embryo3d", None, "instances")])
    def test_objects_and_structures(self, data_root, folder, masks, kind):
        data = opened(data_root / folder, masks)
        assert data.facts.kind == kind
        image, labels, _ = data.item(0)
        assert labels.shape[1:] == image.shape[1:]
        if kind == "multilabel":
            assert len(labels) == len(data.legend) - 1
            assert labels.max() == 1
        else:
            ids, classes = labels
            assert np.array_equal(ids > 0, classes > 0)
            assert classes.max() < len(data.legend)

    def test_magnetic_resonance(self, data_root):
        data = opened(data_root / "hippocampus", validation_share=0.1)
        assert (len(data), data.facts.axes, data.legend.values) == (195, "czyx", (0, 1, 2))
        assert data.facts.spacing == {"z": 1000.0, "y": 1000.0, "x": 1000.0}
