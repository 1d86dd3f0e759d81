"""Files in and out: every value, dtype and spacing comes back, and nothing damaged gets through."""

import contextlib
import errno
import logging
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from biomask.errors import BiomaskError, DiskFullError, MissingPathError, ReadError, WriteError
from biomask.io import (
    READERS,
    list_images,
    read_image,
    read_label_values,
    read_labels_raw,
    relative_stem,
    write_mask,
    write_picture,
    write_probabilities,
)
from biomask.io.files import write_text
from biomask.labels import PALETTE, Legend
from biomask.stored import Plane, Selection

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
COLOUR = np.stack([GREY, GREY * 2, 255 - GREY])
NOISE = np.random.default_rng(0).integers(0, 255, (512, 512)).astype(np.uint8)
TWO = Legend.of_values([0, 255])

#: Names that a laboratory really uses; each is used for an image and its results.
NAMES = ["plain", "with spaces", "Zellen_µm_äöü", "细胞 图像 01", "a.b.c", "trailing.", "x" * 200, "100% (2) [final] #1 'q'"]


def make_png(path: Path, width: int, height: int, depth: int, colour: int, pixels: bytes) -> Path:
    """A PNG with any header that we like."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.fixture
def palette_file(tmp_path):
    picture = Pillow.fromarray(GREY % 3)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "palette.png")
    return tmp_path / "palette.png"


@pytest.fixture
def no_log():
    """tifffile logs what it finds wrong; here everything is."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class TestPng:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_grey_and_colour_come_back(self, tmp_path, dtype, channels):
        array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (channels, 5, 7), endpoint=True).astype(dtype)
        write_picture(tmp_path / "a.png", array[0] if channels == 1 else array)
        image = read_image(tmp_path / "a.png")
        assert (image.axes, image.name, image.spacing, image.array.dtype) == ("cyx", "a", None, dtype)
        assert np.array_equal(image.array, array)

    def test_a_palette_is_indices_as_labels_and_colours_as_image(self, palette_file):
        assert np.array_equal(read_label_values(palette_file).array[0], GREY % 3)
        image = read_image(palette_file)
        assert image.array.shape == (3, 6, 8)
        assert np.array_equal(image.array[0] == 255, GREY % 3 == 1)
        assert np.array_equal(image.array[2] == 255, GREY % 3 == 2)

    def test_a_palette_of_few_bits(self, tmp_path):
        picture = Pillow.fromarray(GREY % 3)
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
        picture.save(tmp_path / "a.png", bits=2)
        assert np.array_equal(read_label_values(tmp_path / "a.png").array[0], GREY % 3)

    def test_one_bit_is_black_and_white(self, tmp_path):
        Pillow.fromarray(GREY > 20).save(tmp_path / "a.png")
        expected = np.where(GREY > 20, 255, 0)
        for image in (read_image(tmp_path / "a.png"), read_label_values(tmp_path / "a.png")):
            assert image.array.dtype == np.uint8
            assert np.array_equal(image.array[0], expected)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_alpha_that_hides_nothing_is_dropped(self, tmp_path, channels, dtype):
        colour = COLOUR[:channels].astype(dtype)
        full = np.full((1, 6, 8), np.iinfo(dtype).max, dtype)
        write_picture(tmp_path / "a.png", np.concatenate([colour, full]))
        assert np.array_equal(read_image(tmp_path / "a.png").array, colour)

    def test_transparent_pixels_are_refused(self, tmp_path):
        alpha = np.full((1, 6, 8), 255, np.uint8)
        alpha[0, 2, 3] = 254
        write_picture(tmp_path / "a.png", np.concatenate([COLOUR, alpha]))
        with pytest.raises(ReadError, match=r"a\.png: has transparent pixels"):
            read_image(tmp_path / "a.png")

    def test_print_resolution_is_no_spacing(self, tmp_path):
        Pillow.fromarray(GREY).save(tmp_path / "a.png", dpi=(300, 300))
        assert read_image(tmp_path / "a.png").spacing is None

    def test_a_hundred_megapixels_are_read_without_a_warning(self, tmp_path):
        path = make_png(tmp_path / "large.png", 10_000, 10_000, 1, 0, bytes(1251 * 10_000))
        assert read_image(path).size == (10_000, 10_000)

    def test_beyond_the_limit_is_called_large_and_not_damaged(self, tmp_path):
        path = make_png(tmp_path / "bomb.png", 30_000, 30_000, 8, 0, b"")
        with pytest.raises(ReadError, match="30000 x 30000") as caught:
            read_image(path)
        assert "TIFF" in str(caught.value)
        assert "damaged" not in str(caught.value)


class TestTiff:
    @pytest.mark.parametrize("dtype", ["u1", ">u2", "<u2", "i2", "i4", "u4", ">f4", "f8", "f2"])
    def test_plain_two_dimensions_in_every_dtype_and_byte_order(self, tmp_path, dtype):
        array = (np.arange(35).reshape(5, 7) * 3).astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", array, byteorder=">" if dtype[0] == ">" else "<")
        image = read_image(tmp_path / "a.tif")
        assert (image.axes, image.spacing, image.channel_names) == ("cyx", None, ())
        assert image.array.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")
        assert np.array_equal(image.array[0], array)

    def test_imagej_hyperstack_with_spacing(self, tmp_path):
        array = np.arange(3 * 5 * 7, dtype=np.uint16).reshape(3, 5, 7)
        tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, resolution=(4.0, 2.0),
                         metadata={"axes": "ZYX", "spacing": 1.5, "unit": "um"})
        image = read_image(tmp_path / "a.tif")
        assert image.axes == "czyx"
        assert np.array_equal(image.array[0], array)
        assert image.spacing == pytest.approx({"z": 1.5, "y": 0.5, "x": 0.25})

    def test_imagej_channels_come_first(self, tmp_path):
        array = np.arange(3 * 2 * 5 * 7, dtype=np.uint8).reshape(3, 2, 5, 7)
        tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "ZCYX"})
        image = read_image(tmp_path / "a.tif")
        assert image.axes == "czyx"
        assert np.array_equal(image.array, array.transpose(1, 0, 2, 3))
        assert image.spacing is None

    @pytest.mark.parametrize(("unit", "micrometres"), [("nm", 1e-3), ("mm", 1e3), ("\\u00B5m", 1.0), ("micron", 1.0)])
    def test_imagej_units(self, tmp_path, unit, micrometres):
        tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, resolution=(2.0, 2.0), metadata={"axes": "YX", "unit": unit})
        assert read_image(tmp_path / "a.tif").spacing == pytest.approx({"y": micrometres / 2, "x": micrometres / 2})

    @pytest.mark.parametrize("unit", ["pixel", "inch", ""])
    def test_no_unit_of_length_no_spacing(self, tmp_path, unit):
        tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, resolution=(2.0, 2.0), metadata={"axes": "YX", "unit": unit})
        assert read_image(tmp_path / "a.tif").spacing is None

    @pytest.mark.parametrize("axes", ["CZYX", "TCZYX", "TZCYX"])
    def test_ome_with_names_and_sizes(self, tmp_path, axes):
        array = np.arange(2 * 3 * 5 * 7, dtype=np.uint16).reshape(2, 3, 5, 7)
        stored = {"CZYX": array, "TCZYX": array[None], "TZCYX": array.swapaxes(0, 1)[None]}[axes]
        tifffile.imwrite(tmp_path / "a.ome.tif", stored, metadata={
            "axes": axes, "Channel": {"Name": ["nuclei", "膜"]}, "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 500.0, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.002, "PhysicalSizeZUnit": "mm"})
        image = read_image(tmp_path / "a.ome.tif")
        assert image.axes == "czyx"
        assert np.array_equal(image.array, array)
        assert image.spacing == pytest.approx({"z": 2.0, "y": 0.5, "x": 0.25})
        assert image.channel_names == ("nuclei", "膜")

    def test_ome_without_sizes_has_no_spacing(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.ome.tif", GREY, metadata={"axes": "YX"})
        assert read_image(tmp_path / "a.ome.tif").spacing is None

    def test_colour(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(COLOUR, 0, -1), photometric="rgb")
        tifffile.imwrite(tmp_path / "planar.tif", COLOUR, photometric="rgb", planarconfig="separate")
        for name in ("a.tif", "planar.tif"):
            image = read_image(tmp_path / name)
            assert image.axes == "cyx"
            assert np.array_equal(image.array, COLOUR)

    def test_opaque_alpha_is_dropped_as_in_a_png(self, tmp_path):
        pixels = np.concatenate([COLOUR, np.full((1, 6, 8), 255, np.uint8)])
        tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(pixels, 0, -1), photometric="rgb", extrasamples=["unassalpha"])
        assert np.array_equal(read_image(tmp_path / "a.tif").array, COLOUR)

    def test_one_bit_is_black_and_white_as_in_a_png(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", GREY > 20)
        assert np.array_equal(read_label_values(tmp_path / "a.tif").array[0], np.where(GREY > 20, 255, 0))

    @pytest.mark.parametrize("metadata", [None, {}])
    def test_pages_without_axes_are_refused_with_their_shape(self, tmp_path, metadata):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 6, 8), np.uint8), photometric="minisblack", metadata=metadata)
        with pytest.raises(ReadError, match=r"a\.tif.*\(5, 6, 8\)"):
            read_image(tmp_path / "a.tif")

    def test_time_series_are_refused(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 6, 8), np.uint8), imagej=True, metadata={"axes": "TYX"})
        tifffile.imwrite(tmp_path / "b.ome.tif", np.zeros((5, 2, 6, 8), np.uint8), metadata={"axes": "TZYX"})
        for name in ("a.tif", "b.ome.tif"):
            with pytest.raises(ReadError, match="time series"):
                read_image(tmp_path / name)

    def test_several_series_are_refused(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            file.write(np.zeros((6, 8), np.uint8))
            file.write(np.zeros((9, 4), np.uint8))
        with pytest.raises(ReadError, match="2 image series"):
            read_image(tmp_path / "a.tif")

    def test_print_resolution_is_no_spacing(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=(300, 300), resolutionunit="INCH")
        assert read_image(tmp_path / "a.tif").spacing is None
        tifffile.imwrite(tmp_path / "b.tif", GREY, resolution=(20_000, 10_000), resolutionunit="CENTIMETER")
        assert read_image(tmp_path / "b.tif").spacing == pytest.approx({"y": 1.0, "x": 0.5})

    @pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd"])
    def test_compressed_tiles(self, tmp_path, compression):
        array = np.random.default_rng(0).integers(0, 9, (70, 50)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", array, compression=compression, tile=(16, 16))
        assert np.array_equal(read_image(tmp_path / "a.tif").array[0], array)

    @pytest.mark.usefixtures("no_log")
    def test_a_circle_of_pages_is_refused_in_time(self, tmp_path, time_limit):
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            file.write(np.zeros((6, 8), np.uint8), metadata=None)
            file.write(np.zeros((9, 4), np.uint16), metadata=None)
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            first, second = (page.offset for page in file.pages)
            next_page = second + 2 + 12 * len(file.pages[1].tags)
        content = bytearray((tmp_path / "a.tif").read_bytes())
        content[next_page : next_page + 4] = struct.pack("<I", first)
        (tmp_path / "a.tif").write_bytes(content)
        with time_limit(5), pytest.raises(ReadError):
            read_image(tmp_path / "a.tif")

    @pytest.mark.usefixtures("no_log")
    def test_a_claim_of_exabytes_is_refused(self, tmp_path, time_limit):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16), np.uint8), compression="zlib")
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
            for tag in ("ImageWidth", "ImageLength"):
                file.pages[0].tags[tag].overwrite(2**31 - 1, dtype=4)
        with time_limit(10), pytest.raises((BiomaskError, MemoryError)):
            read_image(tmp_path / "a.tif")


@pytest.mark.usefixtures("no_log")
class TestDamage:
    @pytest.mark.parametrize("suffix", sorted(READERS))
    @pytest.mark.parametrize("content", [b"", b"\0", b"no image", bytes(range(256)), b"II*\0\xff\xff\xff\xff",
                                         b"\x89PNG\r\n\x1a\n"])
    def test_garbage(self, tmp_path, suffix, content):
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(content)
        for read in (read_image, read_label_values):
            with pytest.raises(ReadError, match="broken"):
                read(path)

    @pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
    @pytest.mark.parametrize("kind", ["png", "tif", "zlib.tif", "ome.tif", "imagej.tif", "bigtiff.tif"])
    def test_a_truncated_file_is_never_read_as_something_else(self, tmp_path, kind, share):
        noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
        path = tmp_path / f"cut.{kind}"
        options = {"tif": {}, "zlib.tif": {"compression": "zlib", "rowsperstrip": 8},
                   "ome.tif": {"ome": True, "metadata": {"axes": "ZYX"}}, "bigtiff.tif": {"bigtiff": True},
                   "imagej.tif": {"imagej": True, "metadata": {"axes": "ZYX"}}}
        if kind == "png":
            write_picture(path, noise)
        elif kind in ("ome.tif", "imagej.tif"):
            tifffile.imwrite(path, noise, photometric="minisblack", **options[kind])
        else:
            tifffile.imwrite(path, noise[0], **options[kind])
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ReadError, match="cut"):
            read_image(path)

    def test_flipped_bits_give_an_image_or_a_read_error(self, tmp_path, time_limit):
        rng = np.random.default_rng(0)
        write_picture(tmp_path / "good.png", COLOUR)
        tifffile.imwrite(tmp_path / "good.tif", GREY, compression="zlib")
        for name in ("good.png", "good.tif"):
            content = (tmp_path / name).read_bytes()
            for _ in range(60):
                damaged = bytearray(content)
                for place in rng.integers(0, len(content), 3):
                    damaged[place] ^= 1 << int(rng.integers(8))
                path = tmp_path / name.replace("good", "bad")
                path.write_bytes(damaged)
                with time_limit(20), contextlib.suppress(ReadError, MemoryError):
                    read_image(path)

    def test_a_wrong_suffix(self, tmp_path):
        write_picture(tmp_path / "a.png", GREY)
        tifffile.imwrite(tmp_path / "b.tif", GREY)
        (tmp_path / "a.png").rename(tmp_path / "wrong.tif")
        (tmp_path / "b.tif").rename(tmp_path / "wrong.png")
        for name in ("wrong.tif", "wrong.png"):
            with pytest.raises(ReadError, match=name):
                read_image(tmp_path / name)

    @pytest.mark.parametrize("suffix", sorted(READERS))
    def test_a_folder_with_an_image_suffix(self, tmp_path, suffix):
        (tmp_path / f"folder{suffix}").mkdir()
        with pytest.raises(ReadError, match=r"(?i)directory|folder"):
            read_image(tmp_path / f"folder{suffix}")

    @pytest.mark.parametrize("name", ["a.xyz", "a", "a.png.bak"])
    def test_an_unknown_suffix_names_those_that_are_read(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ReadError, match=r"\.png, \.jpg.*\.tif"):
            read_image(tmp_path / name)

    @pytest.mark.parametrize("name", ["no.png", "no/no.tif", "x" * 300 + ".png", "a\0b.png"])
    def test_a_missing_path(self, tmp_path, name):
        with pytest.raises(MissingPathError):
            read_image(tmp_path / name)

    def test_a_link_to_nowhere(self, tmp_path):
        (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
        with pytest.raises(MissingPathError):
            read_image(tmp_path / "a.png")

    def test_complex_numbers_are_refused(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.complex64))
        with pytest.raises(ReadError, match="complex"):
            read_image(tmp_path / "a.tif")


class TestLabelValues:
    def test_a_grey_picture_saved_as_colour_is_one_channel(self, tmp_path):
        write_picture(tmp_path / "a.png", np.stack([GREY] * 3))
        tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY] * 3, axis=-1), photometric="rgb")
        for name in ("a.png", "a.tif"):
            assert np.array_equal(read_label_values(tmp_path / name).array, GREY[None])

    def test_colours_are_refused(self, tmp_path):
        write_picture(tmp_path / "a.png", COLOUR)
        with pytest.raises(ReadError, match="3 channels"):
            read_label_values(tmp_path / "a.png")

    def test_whole_numbers_stored_as_fractions_are_taken(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", (GREY % 3).astype(np.float32))
        assert np.array_equal(read_label_values(tmp_path / "a.tif").array[0], GREY % 3)

    @pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
    def test_fractions_are_refused(self, tmp_path, value):
        array = np.zeros((4, 4), np.float32)
        array[1, 1] = value
        tifffile.imwrite(tmp_path / "a.tif", array)
        with pytest.raises(ReadError, match="fractions or NaN"):
            read_label_values(tmp_path / "a.tif")

    def test_other_planes_and_axes_are_selected_as_of_images(self, tmp_path):
        """Channels and the brightest plane are left out: labels have none."""
        volume = np.stack([GREY % 3, GREY % 4])
        tifffile.imwrite(tmp_path / "a.tif", volume, photometric="minisblack", metadata=None)
        for read in (read_label_values, lambda *given: read_labels_raw(*given)[0]):
            assert np.array_equal(read(tmp_path / "a.tif", Selection(axes="ZYX")).array[0], volume)
            assert np.array_equal(read(tmp_path / "a.tif", Selection(z=1, channels=("DAPI",))).array[0], volume[1])
            assert np.array_equal(read(tmp_path / "a.tif", Selection(z="each"), Plane(z=1)).array[0], volume[1])
            assert read(tmp_path / "a.tif", Selection(z="each"), Plane(z=1)).name == "a_z001"

    def test_a_palette_tiff_keeps_its_indices(self, tmp_path):
        colours = np.random.default_rng(0).integers(0, 65535, (3, 256)).astype(np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", GREY % 3, photometric="palette", colormap=colours)
        assert np.array_equal(read_label_values(tmp_path / "a.tif").array[0], GREY % 3)


class TestLabelsRaw:
    def test_colours_are_no_error(self, tmp_path):
        write_picture(tmp_path / "a.png", COLOUR)
        image, palette = read_labels_raw(tmp_path / "a.png")
        assert np.array_equal(image.array, COLOUR)
        assert palette is None

    def test_equal_colours_are_left_to_the_caller(self, tmp_path):
        write_picture(tmp_path / "a.png", np.stack([GREY] * 3))
        assert read_labels_raw(tmp_path / "a.png")[0].channels == 3

    def test_a_palette_is_given_with_its_indices(self, palette_file):
        image, palette = read_labels_raw(palette_file)
        assert np.array_equal(image.array[0], GREY % 3)
        assert palette[:3].tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 255]]

    @pytest.mark.parametrize(("values", "dtype"), [([0, 7, -3], np.int32), ([0, 2**31 - 64], np.int32), ([0, 2**40], np.int64)])
    @pytest.mark.parametrize("stored", [np.float32, np.float64])
    def test_whole_numbers_become_integers(self, tmp_path, values, dtype, stored):
        array = np.array([values], stored)
        tifffile.imwrite(tmp_path / "a.tif", array)
        image, _ = read_labels_raw(tmp_path / "a.tif")
        assert image.array.dtype == (np.int64 if array.max() >= 2**31 else dtype)
        assert np.array_equal(image.array[0], array)

    @pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e30])
    def test_fractions_and_nan_are_left_as_they_are(self, tmp_path, value):
        tifffile.imwrite(tmp_path / "a.tif", np.array([[0, value]], np.float32))
        image, palette = read_labels_raw(tmp_path / "a.tif")
        assert (image.array.dtype, palette) == (np.float32, None)
        assert np.array_equal(image.array[0], np.array([[0, value]], np.float32), equal_nan=True)


class TestWriteMask:
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(values=st.lists(st.integers(0, 65535), min_size=1, max_size=6, unique=True), data=st.data())
    def test_values_and_spacing_come_back(self, tmp_path, values, data):
        legend = Legend.of_values(values)
        shape = data.draw(st.one_of(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
                                    hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6)))
        ids = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, len(legend) - 1)))
        stored = legend.values_of(ids)
        spacing = dict(zip("zyx"[-len(shape):], (2.0, 0.5, 0.25)[-len(shape):], strict=True))
        write_mask(tmp_path / "m.tif", stored, legend, spacing)
        back = read_label_values(tmp_path / "m.tif")
        assert back.array.dtype == stored.dtype
        assert back.size == shape
        assert np.array_equal(back.array[0], np.asarray(legend.values)[ids])

    @pytest.mark.parametrize("values", [[0, 255], [0, 1, 2], [0, 300], [7, 65535], [0, 70_000], [-1, 0, 4]])
    def test_spacing_comes_back_in_two_dimensions(self, tmp_path, values):
        legend = Legend.of_values(values)
        write_mask(tmp_path / "m.tif", legend.values_of(GREY % len(values)), legend, {"y": 0.325, "x": 0.1083})
        back = read_label_values(tmp_path / "m.tif")
        assert back.spacing == pytest.approx({"y": 0.325, "x": 0.1083}, rel=1e-4)
        assert np.unique(back.array).tolist() == values

    def test_spacing_comes_back_in_three_dimensions(self, tmp_path):
        write_mask(tmp_path / "m.tif", np.zeros((3, 4, 5), np.uint8), TWO, {"z": 2.0, "y": 0.5, "x": 0.25})
        back = read_label_values(tmp_path / "m.tif")
        assert back.axes == "czyx"
        assert back.spacing == pytest.approx({"z": 2.0, "y": 0.5, "x": 0.25}, rel=1e-4)

    @pytest.mark.parametrize("spacing", [{"y": 1e-4, "x": 1e-4}, {"y": 5000.0, "x": 12_345.0}])
    def test_extreme_spacing_comes_back(self, tmp_path, spacing):
        write_mask(tmp_path / "m.tif", GREY * 0, TWO, spacing)
        assert read_image(tmp_path / "m.tif").spacing == pytest.approx(spacing, rel=1e-3)

    @pytest.mark.parametrize("values", [[0, 1, 2], [0, 255]])
    def test_the_palette_is_visible(self, tmp_path, values):
        legend = Legend.of_values(values)
        write_mask(tmp_path / "m.tif", legend.values_of(GREY % len(values)), legend)
        with tifffile.TiffFile(tmp_path / "m.tif") as file:
            page = file.pages[0]
            assert page.photometric == tifffile.PHOTOMETRIC.PALETTE
            seen = [tuple(page.colormap[:, v] >> 8) for v in values]
            assert seen == [(0, 0, 0), *PALETTE[: len(values) - 1]]

    def test_a_program_that_knows_nothing_of_us_sees_the_colours(self, tmp_path):
        write_mask(tmp_path / "m.tif", np.array([[0, 255]], np.uint8), TWO)
        with Pillow.open(tmp_path / "m.tif") as file:
            seen = np.asarray(file.convert("RGB"))
        assert seen.tolist() == [[[0, 0, 0], list(PALETTE[0])]]

    def test_the_largest_value_of_32_bits(self, tmp_path):
        legend = Legend.of_values([0, 2**32 - 1])
        write_mask(tmp_path / "m.tif", legend.values_of(GREY % 2), legend)
        assert np.unique(read_label_values(tmp_path / "m.tif").array).tolist() == [0, 2**32 - 1]


class TestWriteProbabilities:
    @pytest.mark.parametrize("axes", ["cyx", "czyx"])
    def test_all_comes_back(self, tmp_path, axes):
        array = np.random.default_rng(0).random((3, 4, 5, 6)[-len(axes):] if axes == "cyx" else (3, 4, 5, 6)).astype(np.float32)
        names = tuple(["background", 'cell & <nucleus> "q"', "细胞 µm", "d", "e"][: array.shape[0]])
        spacing = dict(zip(axes[1:], (2.0, 0.5, 0.1083)[-len(axes) + 1:], strict=True))
        write_probabilities(tmp_path / "p.tif", array, axes, spacing, names)
        back = read_image(tmp_path / "p.tif")
        assert (back.axes, back.array.dtype, back.channel_names) == (axes, np.float32, names)
        assert np.array_equal(back.array, array)
        assert back.spacing == pytest.approx(spacing)


class TestAtomic:
    def test_an_interrupted_write_leaves_nothing(self, tmp_path, monkeypatch):
        def interrupted(path, *args, **options):
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(tifffile, "imwrite", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_mask(tmp_path / "deep" / "m.tif", GREY, TWO)
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == []

    def test_a_failed_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        write_mask(tmp_path / "m.tif", GREY * 0, TWO)
        before = (tmp_path / "m.tif").read_bytes()

        def fail(path, *args, **options):
            Path(path).write_bytes(b"half")
            raise ValueError

        monkeypatch.setattr(tifffile, "imwrite", fail)
        with pytest.raises(ValueError):
            write_mask(tmp_path / "m.tif", GREY, TWO)
        assert (tmp_path / "m.tif").read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["m.tif"]

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_is_named_whatever_wrote(self, tmp_path, monkeypatch, number):
        def full(path, *args, **options):
            Path(path).write_bytes(b"half")
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(tifffile, "imwrite", full)
        with pytest.raises(DiskFullError, match=r"m\.tif") as caught:
            write_mask(tmp_path / "m.tif", GREY, TWO)
        assert caught.value.exit_code == 3
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("write", [
        lambda folder: write_mask(folder / "m.tif", NOISE, TWO),
        lambda folder: write_picture(folder / "m.png", NOISE),
        lambda folder: write_text(folder / "m.txt", "x" * 200_000),
        lambda folder: write_probabilities(folder / "m.tif", NOISE[None].astype(np.float32), "cyx", None, ("a",)),
    ], ids=["mask", "picture", "text", "probabilities"])
    def test_a_real_full_disk(self, full_disk, write):
        with pytest.raises(DiskFullError):
            write(full_disk)
        assert list(full_disk.iterdir()) == []

    @pytest.mark.parametrize("below", ["file/m.tif", "file/deeper/m.tif"])
    def test_a_file_as_folder(self, tmp_path, below):
        (tmp_path / "file").write_text("")
        with pytest.raises(WriteError, match=r"m\.tif"):
            write_mask(tmp_path / below, GREY, TWO)

    def test_a_folder_as_file(self, tmp_path):
        (tmp_path / "m.tif").mkdir()
        with pytest.raises(WriteError, match=r"m\.tif"):
            write_mask(tmp_path / "m.tif", GREY, TWO)
        assert list((tmp_path / "m.tif").iterdir()) == []
        assert [p.name for p in tmp_path.iterdir()] == ["m.tif"]

    def test_files_have_the_usual_rights(self, tmp_path):
        write_mask(tmp_path / "m.tif", GREY, TWO)
        (tmp_path / "plain").write_text("")
        assert (tmp_path / "m.tif").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_the_longest_name_that_the_disk_takes(self, tmp_path):
        path = tmp_path / ("x" * 251 + ".tif")
        write_mask(path, GREY * 0, TWO)
        assert path.is_file()

    def test_text_that_is_no_utf8_is_no_crash(self, tmp_path):
        """A file name in Latin-1 reaches run.json as a lone surrogate."""
        write_text(tmp_path / "a.txt", os.fsdecode(b"zell\xe4.png"))
        assert (tmp_path / "a.txt").is_file()


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_name_works(self, tmp_path, name):
        folder = tmp_path / f"{name[:50]} folder"
        write_picture(folder / f"{name}.png", GREY)
        write_mask(folder / f"{name}.tif", GREY * 0, TWO)
        assert sorted(list_images(folder)) == sorted([folder / f"{name}.png", folder / f"{name}.tif"])
        assert read_image(folder / f"{name}.png").name == name
        assert relative_stem(folder / f"{name}.png", folder) == Path(name)
        assert {p.name for p in folder.iterdir()} == {f"{name}.png", f"{name}.tif"}

    @pytest.mark.parametrize(("file", "stem"), [("a.tif", "a"), ("a.ome.tif", "a"), ("A.OME.TIFF", "A"), ("a.b.png", "a.b"),
                                                ("sub/a.TIF", "sub/a")])
    def test_stems(self, tmp_path, file, stem):
        assert relative_stem(tmp_path / file, tmp_path).as_posix() == stem

    def test_listing(self, tmp_path):
        for name in ("b.PNG", "a.tif", "sub/c.TIFF", ".hidden.png", ".folder/d.png", "sub/._c.tif", "notes.txt"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"")
        (tmp_path / "folder.png").mkdir()
        assert [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path)] == ["a.tif", "b.PNG", "sub/c.TIFF"]

    def test_listing_what_is_not_there(self, tmp_path):
        with pytest.raises(MissingPathError):
            list_images(tmp_path / "no")


@pytest.mark.data
class TestRealFiles:
    def test_fixtures(self, data_root):
        for name in ("img2d.tif", "mask2d.tif"):
            image = read_image(data_root / "fixtures" / name)
            assert (image.spatial_dims, image.channels) == (2, 1)
        for name in ("img3d.tif", "mask3d.tif"):  # no axes in the file: not guessed
            with pytest.raises(ReadError, match=r"\(31, 61, 57\)"):
                read_image(data_root / "fixtures" / name)

    def test_electron_microscopy(self, data_root):
        folder = data_root / "isbi2012" / "train"
        image = read_image(next((folder / "images").iterdir()))
        mask = read_label_values(next((folder / "masks").iterdir()))
        assert image.size == mask.size == (512, 512)
        assert np.unique(mask.array).tolist() == [0, 255]
