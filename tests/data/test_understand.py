"""A folder is read once; what it is, and everything that is wrong with it, comes out together."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from biomask.data.understand import Understood, raise_errors, split_planes, understand
from biomask.errors import BiomaskError, ManyErrors, MissingPathError, PairingError, UsageError
from biomask.io.files import write_picture
from biomask.progress import Silent
from biomask.recipe import DataSettings
from biomask.stored import Plane


def understood(folder: Path, masks: str | Path | None = None, **options: object) -> Understood:
    return understand(folder, DataSettings(**options), Silent(), masks=masks)


def complaints(folder: Path, **options: object) -> list[str]:
    return [str(e) for e in understood(folder, **options).errors]


def band(at: int, size: tuple[int, ...] = (24, 24)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[..., at % size[-1] :][..., :8] = 255
    return mask


def volume(path: Path, array: np.ndarray, axes: str = "ZYX", **metadata: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": axes, **metadata})
    return path


def make(folder: Path, count: int = 4, size: tuple[int, int] = (24, 24)) -> Path:
    for i in range(count):
        write_picture(folder / "images" / f"{i}.png", np.random.default_rng(i).integers(0, 255, size).astype(np.uint8))
        write_picture(folder / "masks" / f"{i}.png", band(i, size))
    return folder


class TestErrors:
    def test_none(self, tmp_path):
        found = understood(make(tmp_path))
        assert found.errors == ()
        assert len(found.survey.good) == 4
        raise_errors(found, tmp_path)

    def test_everything_together(self, tmp_path):
        make(tmp_path, 14)
        (tmp_path / "images" / "0.png").write_bytes(b"")  # zero bytes
        (tmp_path / "images" / "1.png").write_bytes((tmp_path / "images" / "2.png").read_bytes()[:60])  # truncated
        (tmp_path / "images" / "3.png").unlink()
        (tmp_path / "images" / "3.tif").write_text("a text")  # text as image
        write_picture(tmp_path / "masks" / "4.png", band(4, (24, 30)))  # another size
        (tmp_path / "images" / "5.png").unlink()
        tifffile.imwrite(tmp_path / "images" / "5.tif", np.full((24, 24), np.nan, np.float32))  # not a number
        write_picture(tmp_path / "images" / "6.png", np.zeros((1, 1), np.uint8))
        write_picture(tmp_path / "masks" / "6.png", np.zeros((1, 1), np.uint8))  # 1 x 1
        (tmp_path / "masks" / "7.png").unlink()
        tifffile.imwrite(tmp_path / "masks" / "7.tif", np.arange(576, dtype=np.uint16).reshape(24, 24))  # a grey image
        (tmp_path / "masks" / "8.png").unlink()  # no mask
        (tmp_path / "masks" / "stranger.png").write_bytes(b"")  # no image
        (tmp_path / "images" / "9.czi").write_bytes(b"")  # not read
        write_picture(tmp_path / "masks" / "10.png", np.zeros((24, 24), np.uint8))  # empty
        write_picture(tmp_path / "images" / "11.png", np.zeros((3, 24, 24), np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None])
        write_picture(tmp_path / "masks" / "12.png", (band(12) > 0).astype(np.uint8))  # 0/1 among 0/255
        text = "\n".join(complaints(tmp_path))
        for name in ("0.png", "1.png", "3.tif", "4.png", "5.tif", "6.png", "7.tif", "8.png", "stranger.png", "9.czi", "10.png",
                     "11.png", "12.png"):
            assert f"/{name}" in text or f" {name}" in text, f"{name} is not named"
        assert "/2.png" not in text
        assert "/13.png" not in text
        with pytest.raises(ManyErrors) as caught:
            raise_errors(understood(tmp_path), tmp_path)
        assert "biomask check" in caught.value.fix
        assert "cannot be used yet" in caught.value.summary

    @pytest.mark.parametrize("most", [200, 255, 5000, 40_000])
    def test_a_grey_image_among_masks(self, tmp_path, most):
        make(tmp_path, 6, (80, 80))
        (tmp_path / "masks" / "2.png").unlink()
        tifffile.imwrite(tmp_path / "masks" / "2.tif", np.random.default_rng(0).integers(0, most, (80, 80)).astype(np.uint16))
        (said,) = complaints(tmp_path)
        assert "masks/2.tif" in said
        assert "grey image" in said

    def test_a_single_error_is_raised_as_it_is(self, tmp_path):
        (make(tmp_path) / "images" / "1.png").write_bytes(b"broken")
        with pytest.raises(BiomaskError) as caught:
            raise_errors(understood(tmp_path), tmp_path)
        assert not isinstance(caught.value, ManyErrors)
        assert caught.value.where == tmp_path / "images" / "1.png"

    def test_what_leaves_nothing_to_be_said(self, tmp_path):
        with pytest.raises(MissingPathError):
            understood(tmp_path / "no")
        with pytest.raises(PairingError):
            understood(tmp_path)

    def test_images_alone_are_no_error(self, tmp_path):
        found = understood(make(tmp_path) / "images")
        assert found.errors == ()
        assert found.encoding is None

    def test_a_bomb(self, tmp_path):
        """A small file that claims to hold 100,000 x 100,000 pixels."""
        make(tmp_path)
        header = tmp_path / "images" / "1.png"
        data = bytearray(header.read_bytes())
        data[16:24] = (100_000).to_bytes(4, "big") * 2
        header.write_bytes(bytes(data))
        (said,) = complaints(tmp_path)
        assert "1.png" in said


class TestUnlabelled:
    def test_an_image_without_mask_is_a_question(self, tmp_path):
        (make(tmp_path) / "masks" / "2.png").unlink()
        (said,) = complaints(tmp_path)
        assert "1 of 4 images have no labels" in said
        assert "2.png" in said
        for answer in ("ignore", "background"):
            assert complaints(tmp_path, unlabelled=answer) == []

    def test_an_empty_mask_is_a_question(self, tmp_path):
        write_picture(make(tmp_path) / "masks" / "2.png", np.zeros((24, 24), np.uint8))
        (said,) = complaints(tmp_path)
        assert "1 of 4 masks are empty: empty, or not annotated? 2.png" in said
        assert "--unlabelled background" in said
        assert complaints(tmp_path, unlabelled="ignore") == []

    def test_a_plane_between_is_a_question(self, tmp_path):
        for i in range(2):
            mask = np.stack([band(3)] * 7)
            mask[3 + i] = 0
            mask[0] = 0
            volume(tmp_path / "images" / f"{i}.tif", np.random.default_rng(i).integers(0, 255, (7, 24, 24)).astype(np.uint8))
            volume(tmp_path / "masks" / f"{i}.tif", mask)
        (said,) = complaints(tmp_path)
        assert "2 volumes" in said
        assert "0.tif (planes 3)" in said
        assert "1.tif (planes 4)" in said
        assert complaints(tmp_path, unlabelled="ignore") == []

    def test_a_test_part_without_labels_is_none(self, tmp_path):
        make(tmp_path / "train")
        make(tmp_path / "test")
        for path in (tmp_path / "test" / "masks").iterdir():
            path.unlink()
        (tmp_path / "test" / "masks").rmdir()
        assert complaints(tmp_path) == []


class TestChannels:
    def colour(self, path: Path, grey: bool = False) -> None:
        plane = np.arange(576, dtype=np.uint8).reshape(24, 24)
        write_picture(path, np.stack([plane] * 3 if grey else [plane, plane.T, plane]))

    def test_all_grey_but_saved_in_colour(self, tmp_path):
        make(tmp_path)
        for i in range(4):
            self.colour(tmp_path / "images" / f"{i}.png", grey=True)
        found = understood(tmp_path)
        assert found.settings.channels == ("grey",)
        assert "all images are grey, but saved in colour: taken as one channel" in found.notes

    def test_some_grey_saved_in_colour(self, tmp_path):
        self.colour(make(tmp_path) / "images" / "1.png", grey=True)
        found = understood(tmp_path)
        assert found.settings.channels == ("grey",)
        assert found.errors == ()
        assert "1 of 4 images" in found.notes[0]

    def test_real_colours_among_grey_are_a_question(self, tmp_path):
        self.colour(make(tmp_path) / "images" / "1.png")
        (said,) = complaints(tmp_path)
        assert "1 image has 3 channels in 2D, the other 3 1 channel" in said
        assert "--channels grey" in said
        assert "--channels rgb" in said
        for answer in ("grey", "rgb"):
            assert complaints(tmp_path, channels=(answer,)) == []

    def stacks(self, folder: Path, channels: int = 2, names: tuple[str, ...] = ("DAPI", "GFP")) -> Path:
        for i in range(3):
            array = np.random.default_rng(i).integers(0, 255, (channels, 24, 24)).astype(np.uint8)
            volume(folder / "images" / f"{i}.tif", array, "CYX", Labels=list(names))
            write_picture(folder / "masks" / f"{i}.png", band(i))
        return folder

    @pytest.mark.parametrize(("wish", "count"), [(("DAPI",), 1), (("gfp", "0"), 2), (("1",), 1), (None, 2)])
    def test_by_name_or_number(self, tmp_path, wish, count):
        found = understood(self.stacks(tmp_path), channels=wish)
        assert found.errors == ()
        assert {i.image.channels for i in found.survey.good} == {count}

    @pytest.mark.parametrize("wish", [("Cy5",), ("2",), ("DAPI", "nucleus")])
    def test_a_channel_that_is_not_there(self, tmp_path, wish):
        said = complaints(self.stacks(tmp_path), channels=wish)
        assert len(said) == 3
        assert "0 DAPI, 1 GFP" in said[0]

    def test_other_numbers_of_channels(self, tmp_path):
        volume(self.stacks(tmp_path) / "images" / "1.tif", np.zeros((4, 24, 24), np.uint8) + 1, "CYX")
        (said,) = complaints(tmp_path)
        assert "1.tif" in said
        assert "--channels 0" in said


class TestPlanes:
    def stacks(self, folder: Path, masks: str = "ZYX", count: int = 3, depth: int = 5) -> Path:
        for i in range(count):
            image = np.random.default_rng(i).integers(0, 200, (depth, 24, 24)).astype(np.uint8)
            volume(folder / "images" / f"{i}.tif", image)
            mask = np.stack([band(z + i) for z in range(depth)])
            (folder / "masks").mkdir(exist_ok=True)
            if masks == "ZYX":
                volume(folder / "masks" / f"{i}.tif", mask)
            else:
                write_picture(folder / "masks" / f"{i}.png", mask[2])
        return folder

    def test_volumes(self, tmp_path):
        found = understood(self.stacks(tmp_path))
        assert found.errors == ()
        assert {i.image.axes for i in found.survey.good} == {"czyx"}

    def test_masks_of_one_plane_say_what_to_type(self, tmp_path):
        said = complaints(self.stacks(tmp_path, "YX"))
        assert len(said) == 3
        assert "--z max" in said[0]
        assert "--z N" in said[0]
        for z in ("max", 2):
            assert complaints(tmp_path, z=z) == []

    def test_each_plane(self, tmp_path):
        found = understood(self.stacks(tmp_path), z="each")
        assert found.errors == ()
        assert [p.name for p in found.layout.pairs][:2] == ["0_z000", "0_z001"]
        assert {p.group for p in found.layout.pairs} == {"0", "1", "2"}
        assert len(found.survey.good) == 15

    def test_each_plane_with_masks_of_one(self, tmp_path):
        """One mask for all planes is right for none but one of them."""
        said = "\n".join(complaints(self.stacks(tmp_path, "YX"), z="each"))
        assert "0.png" in said
        assert "5 planes" in said
        assert "--z max" in said

    def test_a_plane_that_is_not_there(self, tmp_path):
        said = complaints(self.stacks(tmp_path), z=7)
        assert "no z 7" in said[0]
        assert "0 to 4" in said[0]

    def test_axes_that_stay_open(self, tmp_path):
        for i in range(2):
            for side in ("images", "masks"):
                (tmp_path / side).mkdir(exist_ok=True)
                tifffile.imwrite(tmp_path / side / f"{i}.tif", np.stack([band(z + i) for z in range(5)]), photometric="minisblack")
        said = complaints(tmp_path)
        assert "(5, 24, 24)" in said[0]
        assert "--axes ZYX" in said[0]
        assert complaints(tmp_path, axes="ZYX") == []
        assert complaints(tmp_path, z="each") == []

    def test_a_volume_among_pictures(self, tmp_path):
        make(tmp_path)
        for side in ("images", "masks"):
            volume(tmp_path / side / "x.tif", np.stack([band(z) for z in range(5)]))
        (said,) = complaints(tmp_path)
        assert "x.tif" in said
        assert "--z each" in said
        assert complaints(tmp_path, z="each") == []

    def test_time_points(self, tmp_path):
        for side in ("images", "masks"):
            volume(tmp_path / side / "film.tif", np.stack([band(t) for t in range(4)]), "TYX")
            volume(tmp_path / side / "other.tif", np.stack([band(t + 5) for t in range(4)]), "TYX")
        said = complaints(tmp_path)
        assert "--time each" in said[0]
        assert complaints(tmp_path, time=1) == []
        found = understood(tmp_path, time="each")
        assert found.errors == ()
        assert [p.plane for p in found.layout.pairs][:4] == [Plane(None, t) for t in range(4)]

    def test_a_broken_file_is_named_while_others_are_split(self, tmp_path):
        (self.stacks(tmp_path) / "images" / "1.tif").write_bytes(b"broken")
        (said,) = complaints(tmp_path, z="each")
        assert "1.tif" in said
        layout, errors = split_planes(understood(tmp_path).layout, DataSettings(z="each"))
        assert len(layout.pairs) == 10
        assert len(errors) == 1

    def test_drawn_slices_of_a_film_are_not_split_again(self, tmp_path):
        """The Cell Tracking Challenge's gold truth of volumes: one slice of each."""
        for t in range(2):
            volume(tmp_path / "01" / f"t{t:03d}.tif", np.random.default_rng(t).integers(0, 200, (5, 24, 24)).astype(np.uint8))
            (tmp_path / "01_GT" / "SEG").mkdir(parents=True, exist_ok=True)
            mask = (band(t) > 0).astype(np.uint16) * (1 + t)
            tifffile.imwrite(tmp_path / "01_GT" / "SEG" / f"man_seg_{t:03d}_{t + 2:03d}.tif", mask)
        for options in ({}, {"z": "each"}):
            found = understood(tmp_path, **options)
            assert found.errors == ()
            assert [i.pair.name for i in found.survey.good] == ["01/t000_z002", "01/t001_z003"]
            assert {i.image.size for i in found.survey.good} == {(24, 24)}


class TestParts:
    def test_only_those_that_are_asked_for_are_read(self, tmp_path):
        for part in ("train", "test"):
            make(tmp_path / part)
        (tmp_path / "test" / "images" / "1.png").write_bytes(b"broken")
        assert understand(tmp_path, DataSettings(), Silent(), parts=("train", None)).errors == ()
        assert len(understood(tmp_path).errors) == 1

    def test_groups_by_a_column(self, tmp_path):
        (make(tmp_path) / "split.csv").write_text("image,mouse\n0,a\n1,a\n2,b\n3,b\n")
        assert [p.group for p in understood(tmp_path, groups="column:mouse").layout.pairs] == ["a", "a", "b", "b"]
        with pytest.raises(PairingError, match="rat"):
            understood(tmp_path, groups="column:rat")


class TestScale:
    @pytest.mark.parametrize(("size", "scale"), [((96, 96), 4), ((97, 95), 4), ((60, 60), 2.5), ((71, 83), 3)])
    def test_masks_at_a_downsample(self, tmp_path, size, scale):
        for i in range(3):
            write_picture(tmp_path / "images" / f"{i}.png", np.random.default_rng(i).integers(0, 255, size).astype(np.uint8))
            write_picture(tmp_path / "masks" / f"{i}-labels.png", band(i, tuple(round(n / scale) for n in size)))
        said = complaints(tmp_path)
        assert f"--mask-scale {scale:g}" in said[0]
        assert complaints(tmp_path, mask_scale=scale) == []

    def test_exchanged_rows_and_columns(self, tmp_path):
        make(tmp_path, size=(24, 40))
        write_picture(tmp_path / "masks" / "1.png", band(1, (40, 24)))
        (said,) = complaints(tmp_path)
        assert "transpose" in said


@pytest.mark.parametrize("option", [{"axes": "QQ"}, {"axes": "Y"}, {"axes": "YXX"}])
def test_axes_that_are_none(option):
    with pytest.raises((UsageError, ValueError)):
        DataSettings(**option)


@pytest.mark.data
class TestReal:
    """What each folder of real data is, without a flag or with the one that it asks for."""

    @pytest.mark.parametrize(("folder", "options", "good", "kind", "legend", "words"), [
        ("isbi2012", {}, 60, "classes", 2, ""), ("ctc", {}, 84, "instances", 2, "other ones in each image"),
        ("drishti_gs", {}, 101, "multilabel", 3, "averages of experts"), ("dsb2018_original", {}, 6, "instances", 2, "288 objects"),
        ("hippocampus", {}, 195, "classes", 3, "[0, 1, 2]"), ("mouse_embryo3d", {}, 8, "instances", 2, ""),
        ("coco_mini", {}, 159, "instances", 81, "1319 objects"), ("fixtures", {"axes": "ZYX"}, 2, "instances", 2, ""),
        ("dsb2018", {"channels": ("grey",)}, 582, "instances", 2, ""),
    ])
    def test_every_folder(self, data_root, folder, options, good, kind, legend, words):
        found = understood(data_root / folder, **options)
        wrong = [e for e in found.errors if folder != "fixtures"]
        assert wrong == [], [str(e) for e in wrong]
        assert (len(found.survey.good), found.encoding.kind, len(found.encoding.legend)) == (good, kind, legend)
        assert words in found.encoding.reason

    def test_gold_truth_and_one_structure(self, data_root):
        gold = understood(data_root / "ctc", "GT")
        assert (len(gold.survey.good), gold.encoding.kind) == (9, "instances")
        disc = understood(data_root / "drishti_gs", "disc")
        assert (disc.encoding.kind, disc.encoding.full) == ("soft", (255.0,))
        assert "4 experts" in disc.encoding.reason

    def test_the_flag_that_is_asked_for_is_named(self, data_root):
        assert "--channels grey" in complaints(data_root / "dsb2018")[0]
        assert "--axes ZYX" in complaints(data_root / "fixtures")[0]
