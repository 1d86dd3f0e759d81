"""One pass over a data folder finds the kind of labels, and every file that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from biomask.data.dataset import Dataset, infer_kind, open_dataset
from biomask.errors import BiomaskError, LabelsError, ManyErrors, PairingError
from biomask.io.files import write_picture
from biomask.recipe import DataSettings
from biomask.transforms import Normalization


def opened(folder: Path, **settings: object) -> Dataset:
    return open_dataset(folder, DataSettings(**settings), Normalization())


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
        image, ids, ignore = data.item(1)
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
        assert part.item(0)[1].shape == (30, 30)

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
        data = opened_or_refused(write(tmp_path, masks), "the labels look like instances", **settings)
        return data.facts.kind if data else "instances"

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
        mask = np.arange(400, dtype=np.uint16).reshape(20, 20) % 300
        data = opened_or_refused(write(tmp_path, [mask] * 2), "300", kind="classes")
        assert data is None or np.array_equal(data.item(0)[1], mask)

    def test_reasons_name_the_values(self):
        assert infer_kind({0: 5, 255: 3}, [frozenset({255})]) == ("classes", "the values are [0, 255]")

    def test_the_error_says_how_to_go_on(self, tmp_path):
        with pytest.raises(LabelsError) as caught:
            opened(write(tmp_path, [blobs(list(range(1, n + 1))) for n in (12, 30, 21)]))
        assert caught.value.fix
        assert "--labels classes" in caught.value.fix

    @pytest.mark.data
    def test_instances_of_the_real_fixture(self, data_root, tmp_path):
        for name, sub in (("img2d.tif", "images"), ("mask2d.tif", "masks")):
            (tmp_path / sub).mkdir()
            (tmp_path / sub / "a.tif").write_bytes((data_root / "fixtures" / name).read_bytes())
        with pytest.raises(LabelsError, match="instances"):
            opened(tmp_path)


class TestIgnore:
    def test_unknown_pixels_are_no_class(self, tmp_path):
        data = opened(write(tmp_path, [blobs([1, 1, 255]), blobs([1])]), ignore=255)
        assert data.legend.values == (0, 1)
        _, ids, ignore = data.item(0)
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
        with pytest.raises(ManyErrors, match=r"grey image rather than a mask.*|distinct values") as caught:
            opened(write(tmp_path, [blobs([1]), grey]))
        assert "01.tif" in str(caught.value)
        assert "00.tif" not in str(caught.value)

    def test_an_eight_bit_photograph_as_mask(self, tmp_path):
        """256 grey values in every image, none of them one component: neither classes nor instances."""
        rng = np.random.default_rng(0)
        with pytest.raises(BiomaskError, match="grey"):
            opened(write(tmp_path, [rng.integers(0, 255, (60, 60)).astype(np.uint8) for _ in range(3)]))

    def test_colours_as_mask(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path, n=2)
        write_picture(folder / "masks" / "im_01.png", np.random.default_rng(0).integers(0, 255, (3, 48, 48)).astype(np.uint8))
        with pytest.raises(ManyErrors, match=r"im_01\.png.*3 channels"):
            opened(folder)

    def test_another_size_names_both(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path, n=3)
        write_picture(folder / "masks" / "im_01.png", np.zeros((24, 48), np.uint8))
        with pytest.raises(ManyErrors, match=r"im_01\.png.*\(24, 48\).*\(48, 48\)"):
            opened(folder)

    def test_an_image_of_other_channels(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path, n=3)
        write_picture(folder / "images" / "im_02.png", np.zeros((3, 48, 48), np.uint8))
        with pytest.raises(ManyErrors, match=r"im_02\.png.*3 channel"):
            opened(folder)

    def test_a_volume_among_pictures(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path, n=3)
        for sub in ("images", "masks"):
            (folder / sub / "im_02.png").unlink()
            tifffile.imwrite(folder / sub / "im_02.tif", np.zeros((4, 48, 48), np.uint8), imagej=True, metadata={"axes": "ZYX"})
        with pytest.raises(ManyErrors, match=r"im_02\.tif.*czyx"):
            opened(folder)

    def test_all_bad_files_are_listed_at_once(self, tmp_path, make_dataset):
        """Damaged, of another size, of other channels, and not a mask: one run names them all."""
        folder = make_dataset(tmp_path, n=6)
        (folder / "images" / "im_00.png").write_bytes(b"broken")
        write_picture(folder / "masks" / "im_01.png", np.zeros((24, 48), np.uint8))
        write_picture(folder / "images" / "im_02.png", np.zeros((3, 48, 48), np.uint8))
        write_picture(folder / "masks" / "im_03.png", np.random.default_rng(0).integers(0, 255, (3, 48, 48)).astype(np.uint8))
        with pytest.raises(ManyErrors) as caught:
            opened(folder)
        assert [name for name in ("im_00", "im_01", "im_02", "im_03", "im_04", "im_05") if name in str(caught.value)] == [
            "im_00", "im_01", "im_02", "im_03"]
        assert "4 of 6" in caught.value.summary

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

    def test_channels(self, tmp_path, make_dataset):
        data = opened_or_refused(make_dataset(tmp_path, channels=3), "channels", channels=("0",))
        assert data is None or data.facts.channels == data.item(0)[0].shape[0] == 1

    def test_spacing(self, tmp_path, make_dataset):
        folder = make_dataset(tmp_path)
        for file in (folder / "images").iterdir():
            file.unlink()
        for i in range(4):
            tifffile.imwrite(folder / "images" / f"im_{i:02d}.tif", np.zeros((48, 48), np.uint8), imagej=True,
                             resolution=(2, 2), metadata={"axes": "YX", "unit": "um"})
        data = opened_or_refused(folder, "spacing", spacing={"y": 1.0, "x": 1.0})
        assert data is None or data.item(0)[0].shape[1:] == (24, 24)

    def test_a_legend_that_leaves_out_a_value_on_disk(self, tmp_path, make_dataset):
        """`legend: value: name; none = the values found`: with one, a stray value is an error and no class of its own."""
        folder = make_dataset(tmp_path, classes=(0, 1, 7))
        with pytest.raises(BiomaskError, match="7"):
            opened(folder, legend={0: "background", 1: "cell"})


@pytest.mark.data
@pytest.mark.slow
def test_electron_microscopy(data_root):
    data = opened(data_root / "isbi2012" / "train")
    assert len(data) == 30
    assert data.legend.values == (0, 255)
    assert data.facts.kind == "classes"
