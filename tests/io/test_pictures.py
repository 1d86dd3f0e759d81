"""JPEG and BMP."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image as Pillow

from biomask.errors import ReadError, WriteError
from biomask.image import Image
from biomask.io import open_stored, read_image, read_labels_raw, write_image

GREY = np.random.default_rng(0).integers(0, 256, (6, 9)).astype(np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 9, 3)).astype(np.uint8)


class TestJpeg:
    @pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
    def test_pixels_are_those_that_pillow_sees(self, tmp_path, opened, pixels, progressive, suffix):
        path = tmp_path / f"a{suffix}"
        Pillow.fromarray(pixels).save(path, format="JPEG", progressive=progressive, dpi=(300, 300))
        stored, array = opened(path)
        assert (stored.axes, stored.spacing) == ("YXS"[: pixels.ndim], {})
        with Pillow.open(path) as file:
            assert np.array_equal(array, np.asarray(file))

    def test_equal_colours_stay_colours(self, tmp_path):
        Pillow.fromarray(np.stack([GREY] * 3, axis=-1)).save(tmp_path / "a.jpg")
        assert read_image(tmp_path / "a.jpg").channels == 3

    def test_printers_colours_are_refused(self, tmp_path):
        Pillow.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
        with pytest.raises(ReadError, match="CMYK") as caught:
            open_stored(tmp_path / "a.jpg")
        assert "RGB" in caught.value.fix

    @pytest.mark.parametrize("turn", range(9))
    def test_only_a_picture_that_is_shown_as_stored_is_read(self, tmp_path, turn):
        """Half of the programs that labels are drawn in turn a phone's picture: none of the two is guessed."""
        exif = Pillow.Exif()
        exif[0x0112] = turn
        Pillow.fromarray(COLOUR).save(tmp_path / "a.jpg", exif=exif)
        if turn in (0, 1):
            assert read_image(tmp_path / "a.jpg").size == (6, 9)
            return
        with pytest.raises(ReadError, match="EXIF orientation") as caught:
            open_stored(tmp_path / "a.jpg")
        assert "-auto-orient" in caught.value.fix
        assert "-Orientation=1" in caught.value.fix

    def test_a_bomb_is_refused_by_its_header(self, tmp_path):
        Pillow.fromarray(GREY).save(tmp_path / "a.jpg")
        content = bytearray((tmp_path / "a.jpg").read_bytes())
        place = content.index(b"\xff\xc0") + 5  # height and width in the frame's header
        content[place : place + 4] = struct.pack(">HH", 60_000, 60_000)
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(ReadError, match="more"):
            open_stored(tmp_path / "a.jpg")

    def test_a_hundred_megapixels_are_opened_without_a_warning(self, tmp_path):
        Pillow.fromarray(GREY).save(tmp_path / "a.jpg")
        content = bytearray((tmp_path / "a.jpg").read_bytes())
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", 10_000, 10_000)
        (tmp_path / "a.jpg").write_bytes(content)
        assert open_stored(tmp_path / "a.jpg").shape == (10_000, 10_000)


class TestBmp:
    @pytest.mark.parametrize("mode", ["1", "L", "RGB"])
    def test_pixels_are_those_that_pillow_sees(self, tmp_path, opened, mode):
        Pillow.fromarray(COLOUR).convert(mode).save(tmp_path / "a.bmp")
        _, array = opened(tmp_path / "a.bmp")
        with Pillow.open(tmp_path / "a.bmp") as file:
            assert np.array_equal(array, np.asarray(file))

    @pytest.mark.parametrize("count", [2, 16, 200])
    def test_a_palette_is_indices_as_labels_and_colours_as_image(self, tmp_path, opened, count):
        colours = np.random.default_rng(count).integers(0, 256, (count, 3)).astype(np.uint8)
        make_bmp(tmp_path / "a.bmp", GREY % count, colours)
        stored, indices = opened(tmp_path / "a.bmp", as_labels=True)
        assert np.array_equal(indices, GREY % count)
        assert np.array_equal(stored.palette[:count], colours)
        stored, array = opened(tmp_path / "a.bmp")
        assert (stored.axes, stored.palette) == ("YXS", None)
        assert np.array_equal(array, colours[GREY % count])

    def test_black_and_white_is_0_and_255(self, tmp_path):
        Pillow.fromarray(GREY > 99).save(tmp_path / "a.bmp")
        assert np.array_equal(read_image(tmp_path / "a.bmp").array[0], np.where(GREY > 99, 255, 0))
        assert np.array_equal(read_labels_raw(tmp_path / "a.bmp")[0].array[0], np.where(GREY > 99, 255, 0))

    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 7), (3, 5, 7), (3, 1, 1)])
    def test_round_trip(self, tmp_path, shape):
        array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        write_image(tmp_path / "a.bmp", Image(array, "cyx", "a"))
        assert np.array_equal(read_image(tmp_path / "a.bmp").array, array)

    @pytest.mark.parametrize(("dtype", "shape", "axes"), [(np.uint16, (1, 4, 5), "cyx"), (np.uint8, (2, 4, 5), "cyx"),
                                                          (np.uint8, (1, 3, 4, 5), "czyx"), (np.float32, (1, 4, 5), "cyx")])
    def test_what_it_cannot_hold_names_a_format_that_can(self, tmp_path, dtype, shape, axes):
        with pytest.raises(WriteError, match=r"\.tif"):
            write_image(tmp_path / "a.bmp", Image(np.zeros(shape, dtype), axes, "a"))
        assert list(tmp_path.iterdir()) == []


def make_bmp(path, indices, colours):
    """A BMP with a palette, of 1, 4 or 8 bits, byte for byte."""
    bits = 1 if len(colours) <= 2 else 4 if len(colours) <= 16 else 8
    rows = b""
    for row in indices[::-1]:
        text = "".join(format(int(v), f"0{bits}b") for v in row)
        text += "0" * (-len(text) % 32)
        rows += bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    table = b"".join(bytes([b, g, r, 0]) for r, g, b in colours.tolist())
    start = 54 + len(table)
    height, width = indices.shape
    path.write_bytes(b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start)
                     + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(rows), 0, 0, len(colours), 0) + table + rows)
