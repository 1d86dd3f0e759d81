"""Masks as other programs see them: values, spacing and colours."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from biomask.io.files import write_ids, write_mask
from biomask.labels import PALETTE, Legend

THREE = Legend.of_values([0, 1, 255], {1: "cell", 255: "debris"})
SPACING = {"z": 2.0, "y": 0.25, "x": 0.5}

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")


def values(size: tuple[int, ...], legend: Legend = THREE) -> np.ndarray:
    ids = np.random.default_rng(len(size)).integers(0, len(legend), size)
    return legend.values_of(ids)


def spacing(dims: int) -> dict[str, float]:
    return {a: SPACING[a] for a in "zyx"[-dims:]}


class AsImageJ:
    """What ImageJ makes of a TIFF, by the rules in its source: ij.io.TiffDecoder, ij.io.FileOpener, ij.process.ShortProcessor."""

    def __init__(self, path: Path) -> None:
        with tifffile.TiffFile(path) as file:
            tags = [{t.code: t.value for t in page.tags} for page in file.pages]
            self.pixels = np.stack([page.asarray() for page in file.pages]).squeeze()
        first = tags[0]
        assert first[259] in (1, 5, 8, 32773, 32946), "a compression that ImageJ does not read"
        assert {(t[256], t[257], t[258]) for t in tags} == {(first[256], first[257], first[258])}
        text = first.get(270, "")
        said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line) if text.startswith("ImageJ") else {}
        per_unit = [first[code] for code in (282, 283)] if 282 in first else []
        width, height = ((r[1] / r[0] for r in per_unit) if per_unit else (1.0, 1.0))
        unit = {1: " ", 2: "inch", 3: "cm"}.get(int(first.get(296, 1)))
        unit = said.get("unit", unit) if said else unit
        if unit == "cm" and width <= (0.0001 if said else 0.001):
            width, height, unit = width * 1e4, height * 1e4, "um"
        self.unit, self.width, self.height, self.depth = unit, width, height, float(said.get("spacing", 1))
        self.slices = int(said.get("slices", 1))
        table = np.asarray(first.get(320, ()))
        self.table = table.reshape(3, 256) >> 8 if table.size == 768 else np.tile(np.arange(256), (3, 1))
        self.range = (float(said.get("min", 0)), float(said.get("max", 0)))

    def shown(self) -> np.ndarray:
        """RGB (…, 3) on the screen."""
        if self.pixels.dtype == np.uint8:
            index = self.pixels.astype(int)
        else:
            low, high = self.range if self.range[1] else (float(self.pixels.min()), float(self.pixels.max()))
            shifted = np.maximum(self.pixels.astype(float) - low, 0)
            index = np.minimum((shifted * (256 / (high - low + 1)) + 0.5).astype(int), 255)
        return np.moveaxis(self.table[:, index], 0, -1)


@pytest.mark.parametrize("dims", [2, 3])
class TestEightBits:
    def write(self, folder: Path, dims: int) -> tuple[Path, np.ndarray, np.ndarray]:
        """(file, values, colours)."""
        stored = values((3, 20, 30)[-dims:])
        write_mask(folder / "m.tif", stored, THREE, spacing(dims))
        table = np.zeros((256, 3), np.uint8)
        for entry in THREE:
            table[entry.value] = entry.colour
        return folder / "m.tif", stored, table[stored]

    def test_tifffile(self, tmp_path, dims):
        path, stored, colours = self.write(tmp_path, dims)
        with tifffile.TiffFile(path) as file:
            assert file.series[0].axes == "ZYX"[-dims:]
            assert np.array_equal(file.asarray(), stored)
            for page, seen in zip(file.pages, colours.reshape(-1, 20, 30, 3), strict=True):
                assert page.photometric == tifffile.PHOTOMETRIC.PALETTE
                assert np.array_equal(np.moveaxis(page.colormap[:, page.asarray()], 0, -1) // 257, seen)

    def test_pillow_and_ordinary_viewers(self, tmp_path, dims):
        path, stored, colours = self.write(tmp_path, dims)
        with Picture.open(path) as opened:
            assert opened.n_frames == (3 if dims == 3 else 1)
            for n, (plane, seen) in enumerate(zip(stored.reshape(-1, 20, 30), colours.reshape(-1, 20, 30, 3), strict=True)):
                opened.seek(n)
                assert opened.mode == "P"
                assert np.array_equal(np.asarray(opened), plane)
                assert np.array_equal(np.asarray(opened.convert("RGB")), seen)
            if dims == 2:
                assert opened.info["dpi"] == pytest.approx((25_400 / 0.5, 25_400 / 0.25))

    def test_simple_itk(self, tmp_path, dims):
        """It shows a palette as its colours, and counts in millimetres; of a volume it takes no size."""
        path, _, colours = self.write(tmp_path, dims)
        image = sitk.ReadImage(str(path))
        assert np.array_equal(sitk.GetArrayFromImage(image) // 257, colours)
        if dims == 2:
            assert image.GetSpacing() == pytest.approx((0.5e-3, 0.25e-3))

    def test_imagej(self, tmp_path, dims):
        path, stored, colours = self.write(tmp_path, dims)
        seen = AsImageJ(path)
        assert np.array_equal(seen.pixels, stored)
        assert np.array_equal(seen.shown(), colours)
        assert (seen.unit, seen.width, seen.height) == ("um", pytest.approx(0.5), pytest.approx(0.25))
        assert (seen.slices, seen.depth) == ((3, 2.0) if dims == 3 else (1, 1.0))

    def test_without_spacing_no_size_is_claimed(self, tmp_path, dims):
        write_mask(tmp_path / "m.tif", values((3, 20, 30)[-dims:]), THREE)
        seen = AsImageJ(tmp_path / "m.tif")
        assert seen.unit in (" ", "pixel")
        assert (seen.width, seen.height) == (1, 1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("top", [256, 300, 511])
def test_many_objects_keep_their_numbers_and_imagej_colours_each(tmp_path, dims, top):
    ids = np.resize(np.arange(top + 1), (2, 30, 31)[-dims:]).astype(np.int32)
    write_ids(tmp_path / "l.tif", ids, spacing(dims))
    assert np.array_equal(tifffile.imread(tmp_path / "l.tif"), ids)
    with Picture.open(tmp_path / "l.tif") as opened:
        assert opened.mode == "I;16"
        assert np.array_equal(np.asarray(opened), ids.reshape(-1, 30, 31)[0])
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "l.tif"))), ids)
    seen = AsImageJ(tmp_path / "l.tif")
    colours = {tuple(c) for c in seen.shown()[ids > 0]}
    assert colours <= set(PALETTE)
    assert len(colours) >= len(PALETTE) // 2
    assert (seen.shown()[ids == 0] == 0).all()
    assert (seen.unit, seen.width, seen.height) == ("um", pytest.approx(0.5), pytest.approx(0.25))


def test_values_beyond_a_byte_have_the_legends_colours_in_imagej(tmp_path):
    legend = Legend.of_values([0, 300, 1000], {300: "cell"})
    stored = values((20, 30), legend)
    write_mask(tmp_path / "m.tif", stored, legend, spacing(2))
    colours = np.zeros((1001, 3), int)
    colours[[300, 1000]] = PALETTE[:2]
    seen = AsImageJ(tmp_path / "m.tif")
    assert np.array_equal(seen.shown(), colours[stored])
    with Picture.open(tmp_path / "m.tif") as opened:
        assert np.array_equal(np.asarray(opened), stored)


def test_numbers_beyond_two_bytes_are_kept(tmp_path):
    ids = np.arange(70_000, dtype=np.int32).reshape(200, 350)
    write_ids(tmp_path / "l.tif", ids)
    assert np.array_equal(tifffile.imread(tmp_path / "l.tif"), ids)
