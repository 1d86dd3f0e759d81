"""Labels are read as they are stored, at the size of their image, whatever stores them."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from biomask.data.pairing import Pair, Truth
from biomask.data.truth import Raw, fitted, read_truth
from biomask.errors import BiomaskError, LabelsError, ManyErrors
from biomask.io.files import write_picture
from biomask.recipe import DataSettings
from biomask.stored import WHOLE, Plane

FIXTURES = Path(__file__).parents[1] / "fixtures" / "annotations"
SETTINGS = DataSettings()
WHERE = Path("mask.png")


def saved(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        tifffile.imwrite(path, array, **options)
    return path


def read(path: Path, size: tuple[int, ...], settings: DataSettings = SETTINGS, plane: Plane = WHOLE, form: str = "mask") -> Raw:
    pair = Pair("a", Path("a.png"), Truth(form, (path,)), plane)
    (raw,) = read_truth(pair, size, settings)
    return raw


def disc(size: int = 24) -> np.ndarray:
    y, x = np.ogrid[:size, :size]
    return (y - size // 2) ** 2 + (x - size // 2) ** 2 < (size // 3) ** 2


class TestValues:
    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.float32, np.float64])
    def test_of_any_dtype(self, tmp_path, dtype):
        values = disc().astype(dtype)
        raw = read(saved(tmp_path / "a.npy", values), (24, 24))
        assert raw.form == "values"
        assert raw.array.dtype.kind in "iu"
        assert np.array_equal(raw.array > 0, disc())

    @pytest.mark.parametrize(("values", "dtype"), [
        ([0, 65535], np.uint16), ([-1, 0, 7], np.int16), ([0, 2**31], np.uint32), ([0, 1, 2**40], np.int64),
        ([0.0, 3.0, 1e6], np.float32), ([-1.0, 4.0], np.float64)])
    def test_kept_as_they_are(self, tmp_path, values, dtype):
        array = np.resize(np.asarray(values, dtype), (8, 9))
        raw = read(saved(tmp_path / "a.npy", array), (8, 9))
        assert raw.form == "values"
        assert np.array_equal(raw.array, array.astype(np.int64))

    def test_fractions(self, tmp_path):
        shares = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
        raw = read(saved(tmp_path / "a.tif", shares), (8, 8))
        assert raw.form == "fractions"
        assert np.array_equal(raw.array, shares)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_a_number(self, tmp_path, bad):
        array = disc().astype(np.float32)
        array[0, 0] = bad
        with pytest.raises(LabelsError, match="NaN or infinity") as caught:
            read(saved(tmp_path / "a.tif", array), (24, 24))
        assert "--ignore" in caught.value.fix

    def test_a_palette(self, tmp_path):
        picture = Pillow.fromarray(disc().astype(np.uint8) * 2).convert("P")
        picture.putpalette([0, 0, 0, 9, 9, 9, 255, 0, 0])
        picture.save(tmp_path / "a.png")
        raw = read(tmp_path / "a.png", (24, 24))
        assert np.array_equal(raw.array, disc() * 2)
        assert raw.palette[2].tolist() == [255, 0, 0]

    def test_grey_saved_in_colour(self, tmp_path):
        write_picture(tmp_path / "a.png", np.stack([disc().astype(np.uint8) * 255] * 3))
        raw = read(tmp_path / "a.png", (24, 24))
        assert (raw.form, np.unique(raw.array).tolist()) == ("values", [0, 255])

    def test_colours(self, tmp_path):
        rgb = np.stack([disc() * 255, np.zeros((24, 24)), ~disc() * 10]).astype(np.uint8)
        write_picture(tmp_path / "a.png", rgb)
        raw = read(tmp_path / "a.png", (24, 24))
        assert raw.form == "colours"
        assert raw.size == (24, 24)
        assert np.array_equal(raw.array, rgb)

    def test_colours_with_opacity(self, tmp_path):
        rgba = np.stack([disc() * 255, disc() * 0, disc() * 0, disc() * 0 + 255], -1).astype(np.uint8)
        Pillow.fromarray(rgba).save(tmp_path / "a.png")
        assert read(tmp_path / "a.png", (24, 24)).form == "colours"

    def test_colours_of_16_bits(self, tmp_path):
        rgb = np.stack([disc() * 60000, disc() * 0, disc() * 0], -1).astype(np.uint16)
        with pytest.raises(LabelsError, match="8-bit RGB"):
            read(saved(tmp_path / "a.tif", rgb, photometric="rgb"), (24, 24))

    @pytest.mark.parametrize("channels", [2, 5])
    def test_channels_are_refused(self, tmp_path, channels):
        array = np.zeros((channels, 24, 24), np.uint8)
        with pytest.raises(LabelsError, match=f"{channels} channels"):
            read(saved(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "CYX"}), (24, 24))

    def test_no_labels_are_all_background(self):
        (raw,) = read_truth(Pair("a", Path("a.png"), None), (3, 4), SETTINGS)
        assert raw.form == "values"
        assert raw.array.shape == (3, 4)
        assert not raw.array.any()


class TestSizes:
    @pytest.mark.parametrize(("mask", "image", "advice"), [
        ((10, 20), (20, 10), "transpose the mask"), ((10, 20), (40, 80), "--mask-scale 4"),
        ((100, 100), (250, 250), "--mask-scale 2.5"),
        ((33, 17), (101, 51), "--mask-scale 3"), ((10, 20), (10, 21), "full size"), ((40, 80), (10, 20), "full size"),
        ((10, 20), (5, 10, 20), "--z max"), ((10, 20), (5, 10, 20), "--z N"), ((5, 10, 20), (10, 20), "one plane of the mask"),
        ((7, 8), (9, 8), "full size"), ((500, 512), (512, 512), "full size"), ((20, 20), (20, 40), "full size")])
    def test_a_difference_is_met_with_the_way_out(self, mask, image, advice):
        with pytest.raises(LabelsError) as caught:
            fitted(Raw(np.zeros(mask, np.uint8), "values"), image, None, WHERE)
        assert str(mask) in caught.value.what
        assert str(image) in caught.value.what
        assert advice in caught.value.fix

    def test_equal_size_with_a_scale(self):
        with pytest.raises(LabelsError) as caught:
            fitted(Raw(np.zeros((8, 8), np.uint8), "values"), (8, 8), 4.0, WHERE)
        assert "leave out --mask-scale" in caught.value.fix

    def test_another_scale_is_named(self):
        with pytest.raises(LabelsError) as caught:
            fitted(Raw(np.zeros((20, 20), np.uint8), "values"), (80, 80), 2.0, WHERE)
        assert "--mask-scale 4" in caught.value.fix

    @given(hnp.arrays(np.uint8, st.tuples(st.integers(8, 20), st.integers(8, 20))), st.sampled_from([2, 3, 4, 8]))
    def test_a_whole_scale_repeats_pixels(self, array, scale):
        size = tuple(scale * n for n in array.shape)
        raw = fitted(Raw(array, "values"), size, float(scale), WHERE)
        assert np.array_equal(raw.array, np.kron(array, np.ones((scale, scale), np.uint8)))

    @given(st.integers(30, 90), st.integers(30, 90), st.floats(1.2, 8), st.sampled_from([np.floor, np.round, np.ceil]))
    def test_any_scale_and_rounding(self, height, width, scale, rounded):
        small = tuple(max(1, int(rounded(n / scale))) for n in (height, width))
        if min(small) < 8:
            return
        array = np.arange(small[0] * small[1]).reshape(small)
        raw = fitted(Raw(array, "values"), (height, width), scale, WHERE)
        assert raw.size == (height, width)
        assert raw.array[0, 0] == 0
        assert raw.array[-1, -1] == array[-1, -1]
        rows, columns = (np.arange(n) / n * m for n, m in zip((height, width), small, strict=True))
        assert np.abs(raw.array // small[1] - rows[:, None]).max() <= 1.01
        assert np.abs(raw.array % small[1] - columns[None]).max() <= 1.01

    def test_colours_and_fractions_are_scaled_too(self):
        rgb = np.arange(3 * 4).reshape(3, 2, 2).astype(np.uint8)
        assert np.array_equal(fitted(Raw(rgb, "colours"), (4, 4), 2.0, WHERE).array, rgb.repeat(2, 1).repeat(2, 2))
        assert fitted(Raw(np.eye(4, dtype=np.float32), "fractions"), (8, 8), 2.0, WHERE).array.shape == (8, 8)

    def test_of_volumes_planes_stay(self):
        array = np.arange(3 * 2 * 2).reshape(3, 2, 2)
        assert np.array_equal(fitted(Raw(array, "values"), (3, 4, 4), 2.0, WHERE).array, array.repeat(2, 1).repeat(2, 2))
        with pytest.raises(LabelsError):
            fitted(Raw(array, "values"), (6, 4, 4), 2.0, WHERE)

    def test_of_a_file(self, tmp_path):
        path = saved(tmp_path / "a.tif", disc(25).astype(np.uint8))
        assert read(path, (101, 101), DataSettings(mask_scale=4)).array.shape == (101, 101)
        with pytest.raises(LabelsError, match=r"a\.tif"):
            read(path, (99, 55), DataSettings(mask_scale=4))


class TestPlanes:
    def volume(self, tmp_path: Path) -> Path:
        return saved(tmp_path / "v.tif", np.arange(5)[:, None, None].repeat(8, 1).repeat(8, 2).astype(np.uint8), imagej=True,
                     metadata={"axes": "ZYX"})

    def test_one_of_them(self, tmp_path):
        assert (read(self.volume(tmp_path), (8, 8), DataSettings(z=3)).array == 3).all()
        assert (read(self.volume(tmp_path), (8, 8), DataSettings(z="each"), Plane(4)).array == 4).all()

    def test_all_of_them(self, tmp_path):
        assert read(self.volume(tmp_path), (5, 8, 8)).size == (5, 8, 8)

    def test_a_mask_of_a_projection(self, tmp_path):
        path = saved(tmp_path / "a.tif", disc(8).astype(np.uint8))
        assert np.array_equal(read(path, (8, 8), DataSettings(z="max")).array, disc(8))

    def test_outlines_on_planes(self, tmp_path):
        """The stack's overlay has a shape on its third slice and one on any."""
        path = FIXTURES / "imagej" / "overlay_stack.tif"
        size = tifffile.imread(path).shape
        whole = read(path, size, form="shapes")
        on_one = {z: set(np.unique(whole.array[z])) - {0} for z in range(size[0])}
        assert len({tuple(v) for v in on_one.values()}) == 2
        for z in range(size[0]):
            for settings, plane in ((DataSettings(z="each"), Plane(z)), (DataSettings(z=z), WHOLE)):
                raw = read(path, size[1:], settings, plane, form="shapes")
                assert np.array_equal(raw.array > 0, whole.array[z] > 0)
        flat = read(path, size[1:], DataSettings(z="max"), form="shapes")
        assert np.array_equal(flat.array > 0, (whole.array > 0).any(axis=0))


class TestObjects:
    def pair(self, folder: Path, *masks: np.ndarray) -> Pair:
        for i, mask in enumerate(masks):
            write_picture(folder / f"{i}.png", mask.astype(np.uint8) * 255)
        return Pair("a", Path("a.png"), Truth("objects", tuple(sorted(folder.glob("*"))), folder=folder))

    def square(self, y: int, x: int, side: int = 5) -> np.ndarray:
        mask = np.zeros((20, 20), bool)
        mask[y : y + side, x : x + side] = True
        return mask

    def test_each_has_its_number(self, tmp_path):
        masks = [self.square(0, 0), self.square(0, 10), self.square(12, 3)]
        (raw,) = read_truth(self.pair(tmp_path, *masks), (20, 20), SETTINGS)
        assert raw.form == "objects"
        for number, mask in enumerate(masks, start=1):
            assert np.array_equal(raw.array == number, mask)
        assert raw.notes == ()

    def test_overlaps_go_to_the_last_and_are_counted(self, tmp_path):
        (raw,) = read_truth(self.pair(tmp_path, self.square(0, 0), self.square(3, 3)), (20, 20), SETTINGS)
        assert (raw.array == 2).sum() == 25
        assert "4 pixels given to the last of several objects" in raw.notes[0]

    def test_an_empty_mask_is_told(self, tmp_path):
        (raw,) = read_truth(self.pair(tmp_path, self.square(0, 0), np.zeros((20, 20), bool)), (20, 20), SETTINGS)
        assert "1 empty mask of objects: 1.png" in raw.notes[0]

    def test_a_wrong_size_is_named(self, tmp_path):
        with pytest.raises(LabelsError, match=r"1\.png.*\(9, 9\).*\(20, 20\)"):
            read_truth(self.pair(tmp_path, self.square(0, 0), np.ones((9, 9), bool)), (20, 20), SETTINGS)
        with pytest.raises(LabelsError, match=r"\(20, 20\).*\(30, 30\)"):
            read_truth(self.pair(tmp_path / "b", self.square(0, 0)), (30, 30), SETTINGS)

    def test_all_bad_ones_are_named(self, tmp_path):
        pair = self.pair(tmp_path, *[self.square(0, 0)] * 4)
        for i in (1, 3):
            (tmp_path / f"{i}.png").write_bytes(b"broken")
        with pytest.raises(ManyErrors) as caught:
            read_truth(pair, (20, 20), SETTINGS)
        assert [e.where.name for e in caught.value.errors] == ["1.png", "3.png"]

    def test_masks_in_colour(self, tmp_path):
        write_picture(tmp_path / "0.png", np.stack([self.square(0, 0) * k for k in (255, 0, 9)]).astype(np.uint8))
        pair = Pair("a", Path("a.png"), Truth("objects", (tmp_path / "0.png",), folder=tmp_path))
        assert (read_truth(pair, (20, 20), SETTINGS)[0].array == 1).sum() == 25

    def test_none(self, tmp_path):
        with pytest.raises(LabelsError, match="no masks of objects"):
            read_truth(Pair("a", Path("a.png"), Truth("objects", (), folder=tmp_path)), (20, 20), SETTINGS)


class TestStructures:
    def test_one_each(self, tmp_path):
        files = tuple(saved(tmp_path / f"{k}.tif", (disc() * k).astype(np.uint8)) for k in (1, 2))
        raws = read_truth(Pair("a", Path("a.png"), Truth("structures", files, ("x", "y"))), (24, 24), SETTINGS)
        assert [int(r.array.max()) for r in raws] == [1, 2]

    def test_all_bad_ones_are_named(self, tmp_path):
        files = (saved(tmp_path / "a.tif", disc(20)), tmp_path / "b.tif", saved(tmp_path / "c.tif", disc(24)))
        files[1].write_bytes(b"broken")
        with pytest.raises(ManyErrors) as caught:
            read_truth(Pair("a", Path("a.png"), Truth("structures", files, ("x", "y", "z"))), (24, 24), SETTINGS)
        assert [e.where.name for e in caught.value.errors] == ["a.tif", "b.tif"]


class TestOutlines:
    def labelme(self, folder: Path, **content: object) -> Path:
        shapes = [{"label": "cell", "points": [[2, 2], [8, 2], [8, 8], [2, 8]], "shape_type": "polygon"},
                  {"label": "dust", "points": [[5, 5], [12, 5], [12, 12], [5, 12]], "shape_type": "polygon"}]
        path = folder / "a.json"
        path.write_text(json.dumps({"version": "5.8", "shapes": shapes, "imagePath": "a.png", **content}))
        return path

    def test_with_classes(self, tmp_path):
        raw = read(self.labelme(tmp_path), (20, 20), form="shapes")
        assert raw.form == "objects"
        assert raw.classes == {1: "cell", 2: "dust"}
        assert (raw.array == 2).sum() == 49
        assert any("several outlines" in n for n in raw.notes)

    def test_an_image_of_another_size(self, tmp_path):
        with pytest.raises(LabelsError, match=r"\(40, 30\).*\(20, 20\)") as caught:
            read(self.labelme(tmp_path, imageHeight=40, imageWidth=30), (20, 20), form="shapes")
        assert "size on which it was annotated" in caught.value.fix

    def test_what_lies_outside_is_told(self, tmp_path):
        raw = read(self.labelme(tmp_path), (6, 6), form="shapes")
        assert any("reaching out of the image" in n for n in raw.notes)
        assert any("1 outline covering no pixel" in n for n in read(self.labelme(tmp_path), (5, 5), form="shapes").notes)

    def test_nothing_drawn_is_an_empty_image(self, tmp_path):
        raw = read(self.labelme(tmp_path, shapes=[]), (20, 20), form="shapes")
        assert not raw.array.any()

    def test_a_crowd_is_unknown_where_no_object_lies(self, tmp_path):
        counts = [0, 50, 350]  # the first 2 1/2 columns of 20 x 20
        outlines = ([[0, 0, 4, 0, 4, 4, 0, 4]], {"size": [20, 20], "counts": counts})
        annotations = [{"id": k, "image_id": 1, "category_id": 1, "iscrowd": k, "segmentation": s} for k, s in enumerate(outlines)]
        path = tmp_path / "c.json"
        path.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 20}],
                                    "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}))
        (raw,) = read_truth(Pair("a", Path("a.png"), Truth("coco", (path,), entry="a.png")), (20, 20), SETTINGS)
        assert (raw.array > 0).sum() == 16
        assert raw.ignore.sum() == 50 - 4 * 3
        assert not (raw.ignore & (raw.array > 0)).any()


@pytest.mark.parametrize("form", ["mask", "shapes", "coco"])
@pytest.mark.parametrize("content", [b"", b"broken", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_damaged_files_are_named(tmp_path, form, content):
    path = tmp_path / ("a.png" if form == "mask" else "a.json")
    path.write_bytes(content)
    with pytest.raises(BiomaskError, match=path.name):
        read_truth(Pair("a", Path("a.png"), Truth(form, (path,), entry="a.png")), (9, 9), SETTINGS)
