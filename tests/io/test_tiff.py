"""TIFF of every kind, in the form in which programs write it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biomask.errors import ReadError
from biomask.io import open_stored, read_image, read_label_values, read_labels_raw, recent, tiff
from biomask.stored import Selection

GREY = np.random.default_rng(0).integers(0, 256, (40, 56)).astype(np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (40, 56, 3)).astype(np.uint8)


def noise(shape, dtype="u2"):
    rng = np.random.default_rng(0)
    return rng.normal(size=shape).astype(dtype) if np.dtype(dtype).kind == "f" else rng.integers(0, 100, shape).astype(dtype)


def make_tiff(path, tags, data, order="<"):
    """A TIFF of one strip, byte for byte. tags: number → (type, values), type 3 = 16 bits, 4 = 32 bits."""
    entries = {273: (4, [0]), 279: (4, [len(data)]), **tags}
    size = 8 + 2 + 12 * len(entries) + 4
    blob, table = b"", b""
    for number, (kind, values) in sorted(entries.items()):
        form = {3: "H", 4: "I"}[kind]
        if number == 273:
            values = [size + sum(len(v) * {3: 2, 4: 4}[k] for k, v in tags.values() if len(v) * {3: 2, 4: 4}[k] > 4)]
        packed = struct.pack(f"{order}{len(values)}{form}", *values)
        if len(packed) > 4:
            packed, blob = struct.pack(f"{order}I", size + len(blob)), blob + packed
        table += struct.pack(f"{order}HHI", number, kind, len(values)) + packed.ljust(4, b"\0")
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    path.write_bytes(head + struct.pack(f"{order}H", len(entries)) + table + bytes(4) + blob + data)
    return path


def grey_tags(height, width, bits, photometric=1):
    return {256: (4, [width]), 257: (4, [height]), 258: (3, [bits]), 259: (3, [1]), 262: (3, [photometric]), 277: (3, [1]),
            278: (4, [height])}


def packed_rows(values, bits):
    """Values (Y, X) of a few bits, each row filled up to whole bytes."""
    out = b""
    for row in values:
        text = "".join(format(int(v), f"0{bits}b") for v in row)
        text += "0" * (-len(text) % 8)
        out += bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    return out


class TestPixels:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "?"])
    @pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"compression": "zlib", "tile": (16, 16)}, {"rowsperstrip": 7}],
                             ids=["strip", "bigtiff", "tiles", "strips"])
    def test_every_dtype_order_and_layout(self, tmp_path, opened, order, dtype, options):
        array = (noise((40, 56), "i2") % 2 if dtype == "?" else noise((40, 56), dtype)).astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", array, byteorder=order, photometric="minisblack", **options)
        stored, read = opened(tmp_path / "a.tif")
        assert stored.axes == "YX"
        assert np.array_equal(read, array)

    @pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "packbits", "lzma", "lerc", "jpeg2000", "jpegxl", "png"])
    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    @pytest.mark.parametrize("tile", [None, (16, 16)])
    def test_lossless_compressions(self, tmp_path, opened, compression, dtype, tile):
        tifffile.imwrite(tmp_path / "a.tif", noise((40, 56), dtype), compression=compression, tile=tile)
        assert np.array_equal(opened(tmp_path / "a.tif")[1], noise((40, 56), dtype))

    @pytest.mark.parametrize(("compression", "dtype"), [("lzw", "u2"), ("zlib", "f4"), ("zstd", "i2")])
    def test_predictors(self, tmp_path, opened, compression, dtype):
        tifffile.imwrite(tmp_path / "a.tif", noise((40, 56), dtype), compression=compression, predictor=True)
        assert np.array_equal(opened(tmp_path / "a.tif")[1], noise((40, 56), dtype))

    @pytest.mark.parametrize("photometric", ["minisblack", "rgb", "ycbcr"])
    @pytest.mark.parametrize("tile", [None, (16, 16)])
    def test_jpeg_is_what_tifffile_sees(self, tmp_path, opened, photometric, tile):
        pixels = GREY if photometric == "minisblack" else COLOUR
        tifffile.imwrite(tmp_path / "a.tif", pixels, compression="jpeg", photometric=photometric, tile=tile)
        stored, read = opened(tmp_path / "a.tif")
        assert stored.axes == "YXS"[: pixels.ndim]
        assert np.array_equal(read, tifffile.imread(tmp_path / "a.tif"))
        # YCbCr is turned back into RGB: noise loses its detail, but not its colours
        assert np.abs(read.mean((0, 1)) - pixels.mean((0, 1))).max() < 6

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
    def test_packed_bits(self, tmp_path, opened, order, bits):
        """Values as stored, also where a byte or two would hold more."""
        values = np.random.default_rng(0).integers(0, 2**bits, (5, 7))
        make_tiff(tmp_path / "a.tif", grey_tags(5, 7, bits), packed_rows(values, bits), order)
        stored, read = opened(tmp_path / "a.tif")
        assert stored.dtype == (np.uint8 if bits <= 8 else np.uint16)
        assert np.array_equal(read, values)

    def test_12_bits_in_16_stay_as_they_are(self, tmp_path, opened):
        tifffile.imwrite(tmp_path / "a.tif", noise((5, 7)) * 40)
        assert opened(tmp_path / "a.tif")[1].max() <= 4095

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_one_bit_is_black_and_white(self, tmp_path, opened, order):
        values = np.random.default_rng(0).integers(0, 2, (5, 11))
        make_tiff(tmp_path / "a.tif", grey_tags(5, 11, 1), packed_rows(values, 1), order)
        assert np.array_equal(opened(tmp_path / "a.tif")[1], values.astype(bool))
        assert np.array_equal(read_image(tmp_path / "a.tif").array[0], values * 255)

    @pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
    def test_where_white_is_zero_an_image_is_turned_round_and_labels_are_not(self, tmp_path, opened, bits):
        values = np.random.default_rng(0).integers(0, 2**bits, (5, 7))
        data = values.astype("<u2").tobytes() if bits == 16 else packed_rows(values, bits)
        path = make_tiff(tmp_path / "a.tif", grey_tags(5, 7, bits, photometric=0), data)
        assert np.array_equal(opened(path)[1], 2**bits - 1 - values)
        assert np.array_equal(opened(path, as_labels=True)[1], values)

    @pytest.mark.parametrize("dtype", ["i2", "f4"])
    def test_values_with_a_sign_have_no_white_to_turn_round(self, tmp_path, opened, dtype):
        tifffile.imwrite(tmp_path / "a.tif", noise((5, 7), dtype), photometric="miniswhite")
        assert np.array_equal(opened(tmp_path / "a.tif")[1], noise((5, 7), dtype))

    @pytest.mark.parametrize("suffix", [".tif", ".tiff", ".TIF", ".btf", ".tf8", ".ome.tif", ".ome.tiff", ".lsm"])
    def test_suffixes(self, tmp_path, suffix):
        tifffile.imwrite(tmp_path / f"a{suffix}", GREY, ome=False)
        image = read_image(tmp_path / f"a{suffix}")
        assert image.name == "a"
        assert np.array_equal(image.array[0], GREY)

    def test_a_single_pixel(self, tmp_path, opened):
        for name in ("a.tif", "a.ome.tif"):
            tifffile.imwrite(tmp_path / name, np.array([[7]], np.uint8))
            assert opened(tmp_path / name)[1].tolist() == [[7]]


class TestColours:
    @pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    @pytest.mark.parametrize("alpha", [False, True])
    def test_rgb(self, tmp_path, opened, dtype, planar, alpha):
        colours = noise((40, 56, 4 if alpha else 3), dtype)
        array = colours if planar == "contig" else np.moveaxis(colours, -1, 0)
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", planarconfig=planar,
                         extrasamples=["unassalpha"] if alpha else None)
        stored, read = opened(tmp_path / "a.tif")
        assert (stored.axes, stored.transparency) == ("YXS" if planar == "contig" else "SYX", alpha)
        assert np.array_equal(read, array)

    def test_several_pages_of_colour(self, tmp_path, opened):
        pages = noise((4, 5, 7, 3), "u1")
        tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb", metadata=None)
        assert opened(tmp_path / "a.tif")[0].axes == "QYXS"
        assert read_image(tmp_path / "a.tif", Selection(axes="ZYXS")).array.shape == (3, 4, 5, 7)

    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    def test_a_palette_is_beside_its_indices(self, tmp_path, opened, dtype):
        size = 256 if dtype == "u1" else 65536
        table = np.random.default_rng(0).integers(0, 65536, (3, size)).astype(np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", noise((5, 7), dtype), photometric="palette", colormap=table)
        for as_labels in (False, True):
            stored, read = opened(tmp_path / "a.tif", as_labels)
            assert stored.axes == "YX"
            assert np.array_equal(read, noise((5, 7), dtype))
            assert np.array_equal(stored.palette, table.T >> 8)
        labels, palette = read_labels_raw(tmp_path / "a.tif")
        assert np.array_equal(labels.array[0], noise((5, 7), dtype))
        assert palette.shape == (size, 3)

    def test_a_palette_of_16_in_the_range_of_bytes(self, tmp_path, opened):
        """Some programs write colours of 0..255 where TIFF has 0..65535."""
        table = np.random.default_rng(0).integers(0, 256, (3, 16))
        values = np.random.default_rng(0).integers(0, 16, (5, 7))
        tags = {**grey_tags(5, 7, 4, photometric=3), 320: (3, table.reshape(-1).tolist())}
        stored, read = opened(make_tiff(tmp_path / "a.tif", tags, packed_rows(values, 4)))
        assert np.array_equal(read, values)
        assert np.array_equal(stored.palette, table.T)

    def test_a_grey_palette_says_nothing(self, tmp_path):
        table = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
        tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="palette", colormap=table)
        assert open_stored(tmp_path / "a.tif").palette is None

    @pytest.mark.parametrize(("photometric", "samples", "word"), [(5, 4, "CMYK"), (8, 3, "L[*]a[*]b"), (6, 3, "YCbCr"),
                                                                  (32803, 1, "mosaic")])
    def test_other_colours_are_refused(self, tmp_path, photometric, samples, word):
        tags = {**grey_tags(4, 4, 8, photometric), 258: (3, [8] * samples), 277: (3, [samples])}
        make_tiff(tmp_path / "a.tif", tags, bytes(16 * samples))
        with pytest.raises(ReadError, match=word) as caught:
            open_stored(tmp_path / "a.tif")
        assert "RGB" in caught.value.fix

    def test_bits_that_nobody_reads_are_named(self, tmp_path):
        make_tiff(tmp_path / "a.tif", {**grey_tags(4, 4, 40), 339: (3, [3])}, bytes(80))
        with pytest.raises(ReadError, match="40 bits"):
            open_stored(tmp_path / "a.tif")


class TestPages:
    def test_plain_pages_have_an_open_axis(self, tmp_path, opened):
        tifffile.imwrite(tmp_path / "a.tif", noise((4, 5, 7)), photometric="minisblack", metadata=None)
        stored, read = opened(tmp_path / "a.tif")
        assert stored.axes == "QYX"
        assert np.array_equal(read, noise((4, 5, 7)))
        for axes in ("ZYX", "CYX"):
            assert read_image(tmp_path / "a.tif", Selection(axes=axes)).array.size == 140
        assert np.array_equal(read_image(tmp_path / "a.tif", Selection(z=2)).array[0], noise((4, 5, 7))[2])

    def test_only_the_pages_that_are_needed_are_decoded(self, tmp_path):
        """A broken page is no obstacle to the others."""
        tifffile.imwrite(tmp_path / "a.tif", noise((4, 40, 56)), photometric="minisblack", compression="zlib",
                         metadata={"axes": "ZYX"})
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            start, length = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
        content = bytearray((tmp_path / "a.tif").read_bytes())
        content[start : start + length] = bytes(length)
        (tmp_path / "a.tif").write_bytes(content)
        stored = open_stored(tmp_path / "a.tif")
        assert np.array_equal(stored.load((2,)), noise((4, 40, 56))[2])
        assert np.array_equal(stored.load((slice(2, 4), slice(3, 5))), noise((4, 40, 56))[2:, 3:5])
        for key in ((1,), (), (slice(0, 2),)):
            with pytest.raises(ReadError, match=r"a\.tif: is damaged"):
                stored.load(key)

    @pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "tile": (16, 16)}, {"bigtiff": True}])
    @pytest.mark.parametrize("form", ["ome", "imagej", "shaped"])
    def test_hyperstacks_of_every_layout(self, tmp_path, opened, options, form):
        array = noise((2, 3, 4, 40, 56))
        if form == "imagej":
            options = {k: v for k, v in options.items() if k != "bigtiff"}
        axes = "TZCYX" if form == "imagej" else "TCZYX"
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata={"axes": axes}, ome=form == "ome",
                         imagej=form == "imagej", **options)
        stored, read = opened(tmp_path / "a.tif")
        assert stored.axes == axes
        assert np.array_equal(read, array)
        image = read_image(tmp_path / "a.tif", Selection(time=1, z=2))
        assert np.array_equal(image.array, array[1, 2] if form == "imagej" else array[1, :, 2])

    def test_a_volume_in_one_page(self, tmp_path, opened):
        array = noise((32, 48, 64), "u1")
        tifffile.imwrite(tmp_path / "a.tif", array, volumetric=True, tile=(16, 16, 16), metadata={"axes": "ZYX"})
        stored, read = opened(tmp_path / "a.tif")
        assert stored.axes == "ZYX"
        assert np.array_equal(read, array)

    @pytest.mark.parametrize("form", ["subifds", "pages", "ome"])
    def test_a_pyramid_is_its_base(self, tmp_path, opened, form):
        array = noise((64, 96), "u1")
        with tifffile.TiffWriter(tmp_path / "a.tif", ome=form == "ome") as file:
            options = {"tile": (16, 16), "compression": "zlib", "metadata": None if form == "pages" else {}}
            file.write(array, subifds=0 if form == "pages" else 2, **options)
            for step in (2, 4):
                file.write(array[::step, ::step], subfiletype=1, **options)
        stored, read = opened(tmp_path / "a.tif")
        assert stored.shape == (64, 96)
        assert np.array_equal(read, array)

    def test_a_thumbnail_is_no_second_image(self, tmp_path, opened):
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            file.write(GREY, metadata=None)
            file.write(GREY[:13, :11], subfiletype=1, metadata=None)
        assert np.array_equal(opened(tmp_path / "a.tif")[1], GREY)

    def test_several_images_are_refused_by_name(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
            file.write(GREY, metadata={"axes": "YX", "Name": "embryo 1"})
            file.write(GREY[:9], metadata={"axes": "YX", "Name": "embryo 2"})
        with pytest.raises(ReadError, match=r"2 image series: 'embryo 1' \(YX = 40, 56\), 'embryo 2' \(YX = 9, 56\)") as caught:
            open_stored(tmp_path / "a.ome.tif")
        assert "bfconvert -series" in caught.value.fix


class TestImageJ:
    """As ImageJ's TiffEncoder writes: big-endian, the hyperstack in the first description, LUTs and labels in tag 50839."""

    @staticmethod
    def save(path, array, *lines, **options):
        """array: (pages, Y, X)."""
        text = f"ImageJ=1.54f\nimages={len(array)}\n" + "".join(f"{line}\n" for line in lines)
        tifffile.imwrite(path, array, byteorder=">", metadata=None, description=text, resolution=(2, 2), resolutionunit="NONE",
                         contiguous=True, **{"photometric": "minisblack", **options})
        return path

    @pytest.mark.parametrize(("lines", "axes", "shape"), [
        (["channels=2", "slices=3", "hyperstack=true", "mode=composite"], "ZCYX", (3, 2)),
        (["channels=2", "frames=3", "hyperstack=true", "mode=grayscale"], "TCYX", (3, 2)),
        (["slices=2", "frames=3", "hyperstack=true"], "TZYX", (3, 2)), (["slices=6", "loop=false"], "ZYX", (6,)),
        (["frames=6", "loop=false"], "TYX", (6,)), (["channels=6", "hyperstack=true"], "CYX", (6,)), ([], "QYX", (6,))])
    def test_hyperstacks(self, tmp_path, opened, lines, axes, shape):
        array = noise((6, 5, 7))
        stored, read = opened(self.save(tmp_path / "a.tif", array, *lines))
        assert stored.axes == axes
        assert np.array_equal(read, array.reshape(*shape, 5, 7))

    @pytest.mark.parametrize(("lines", "spacing"), [
        (["slices=6", "unit=micron", "spacing=1.5"], {"z": 1.5, "y": 0.5, "x": 0.5}),
        (["slices=6", "unit=\\u00B5m", "spacing=-0.25"], {"z": 0.25, "y": 0.5, "x": 0.5}),
        (["slices=6", "unit=nm", "spacing=100.0"], {"z": 0.1, "y": 0.5e-3, "x": 0.5e-3}),
        (["slices=6", "unit=micron"], {"z": 1.0, "y": 0.5, "x": 0.5}),  # ImageJ leaves a depth of 1 out
        (["slices=6", "unit=micron", "yunit=nm", "zunit=mm", "spacing=2"], {"z": 2000.0, "y": 0.5e-3, "x": 0.5}),
        (["slices=6", "unit=pixel", "spacing=2"], None), (["slices=6", "unit=inch", "spacing=2"], None),
        (["slices=6", "spacing=2"], None)])
    def test_spacing(self, tmp_path, lines, spacing):
        found = read_image(self.save(tmp_path / "a.tif", noise((6, 5, 7)), *lines)).spacing
        assert found == (None if spacing is None else pytest.approx(spacing))

    def test_false_colours_are_grey_data(self, tmp_path, opened):
        table = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
        path = self.save(tmp_path / "fire.tif", noise((1, 5, 7), "u1")[0][None], photometric="palette", colormap=table)
        stored, read = opened(path)
        assert np.array_equal(read, noise((1, 5, 7), "u1")[0])
        assert np.array_equal(stored.palette, table.T >> 8)

    def test_an_inverting_lut(self, tmp_path):
        path = self.save(tmp_path / "a.tif", noise((1, 5, 7), "u1"), photometric="miniswhite")
        assert np.array_equal(read_image(path).array[0], 255 - noise((5, 7), "u1"))
        assert np.array_equal(read_label_values(path).array[0], noise((5, 7), "u1"))

    @pytest.mark.parametrize(("labels", "names"), [
        (["DAPI", "GFP"] * 3, ("DAPI", "GFP")), (["c:1/2 z:1/3 - a.czi", "c:2/2 z:1/3 - a.czi"] * 3, ()), (["same"] * 6, ()),
        (["DAPI", "GFP", "DAPI", "other", "DAPI", "GFP"], ()), (["DAPI\nmore\nlines", "GFP"] * 3, ("DAPI", "GFP")),
        (["1", "2"] * 3, ())])
    def test_labels_that_name_channels(self, tmp_path, labels, names):
        tifffile.imwrite(tmp_path / "a.tif", noise((3, 2, 5, 7)), imagej=True, metadata={"axes": "ZCYX", "Labels": labels})
        assert read_image(tmp_path / "a.tif").channel_names == names

    def test_names_in_the_notes_of_a_microscope(self, tmp_path):
        info = ("BitsPerPixel = 16\nInformation|Image|Channel|Name #1 = Cy5\nInformation|Image|Channel|Name #2 = DAPI (dim) \n"
                "zoom = 1\n")
        tifffile.imwrite(tmp_path / "a.tif", noise((2, 5, 7)), imagej=True, metadata={"axes": "CYX", "Info": info})
        assert read_image(tmp_path / "a.tif").channel_names == ("Cy5", "DAPI (dim)")
        tifffile.imwrite(tmp_path / "b.tif", noise((3, 5, 7)), imagej=True, metadata={"axes": "CYX", "Info": info})
        assert read_image(tmp_path / "b.tif").channel_names == ()

    def test_the_table_of_a_volume_of_labels(self, tmp_path):
        table = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", noise((3, 5, 7), "u1"), imagej=True, metadata={"axes": "ZYX", "LUTs": [table]})
        assert np.array_equal(read_labels_raw(tmp_path / "a.tif")[1], table.T)

    def test_beyond_4_gigabytes_only_the_first_page_is_described(self, tmp_path, opened):
        array = noise((6, 5, 7), "u1")
        text = "ImageJ=1.54f\nimages=6\nslices=6\n"
        tifffile.imwrite(tmp_path / "a.tif", array[0], byteorder=">", metadata=None, description=text)
        with (tmp_path / "a.tif").open("ab") as file:
            file.write(array[1:].tobytes())
        stored, read = opened(tmp_path / "a.tif")
        assert stored.axes == "ZYX"
        assert np.array_equal(read, array)


OME = """<?xml version="1.0" encoding="UTF-8"?><!-- Warning: this comment is an OME-XML metadata block -->
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"{uuid}>
<Image ID="Image:0" Name="im"><Pixels BigEndian="false" DimensionOrder="XYCZT" ID="Pixels:0" Type="uint16" {sizes} {physical}>
{channels}{data}</Pixels></Image></OME>"""


def ome_xml(c=1, z=1, t=1, y=5, x=7, physical="", names=None, data="<TiffData/>", uuid=""):
    """As Bio-Formats writes it."""
    channels = "".join(f'<Channel ID="Channel:0:{i}" ' + (f'Name="{n}" ' if n else "")
                       + 'SamplesPerPixel="1"><LightPath/></Channel>' for i, n in enumerate(names or [None] * c))
    return OME.format(uuid=f' UUID="{uuid}"' if uuid else "", physical=physical, channels=channels, data=data,
                      sizes=f'SizeC="{c}" SizeT="{t}" SizeX="{x}" SizeY="{y}" SizeZ="{z}"').encode()


class TestOme:
    def test_as_bio_formats_writes_it(self, tmp_path, opened):
        array = noise((6, 5, 7))
        physical = ('PhysicalSizeX="100" PhysicalSizeXUnit="nm" PhysicalSizeY="0.2" PhysicalSizeZ="0.001" '
                    'PhysicalSizeZUnit="mm"')
        data = "".join(f'<TiffData FirstC="{i % 2}" FirstT="0" FirstZ="{i // 2}" IFD="{i}" PlaneCount="1"/>' for i in range(6))
        xml = ome_xml(2, 3, 1, names=["DAPI", "α-tubulin &amp; co"], physical=physical, data=data)
        tifffile.imwrite(tmp_path / "a.ome.tiff", array, photometric="minisblack", metadata=None, description=xml, ome=False)
        stored, read = opened(tmp_path / "a.ome.tiff")
        assert stored.axes == "ZCYX"
        assert np.array_equal(read, array.reshape(3, 2, 5, 7))
        image = read_image(tmp_path / "a.ome.tiff")
        assert image.channel_names == ("DAPI", "α-tubulin & co")
        assert image.spacing == pytest.approx({"z": 1.0, "y": 0.2, "x": 0.1})
        assert image.name == "a"
        named = read_image(tmp_path / "a.ome.tiff", Selection(channels=("α-Tubulin & CO",)))
        assert np.array_equal(named.array[0], array[1::2])

    @pytest.mark.parametrize(("unit", "micrometres"), [("µm", 1.0), ("nm", 1e-3), ("mm", 1e3), ("cm", 1e4), ("m", 1e6),
                                                       ("pm", 1e-6), ("Å", 1e-4), ("pixel", None), ("reference frame", None),
                                                       ("inch", None)])
    def test_units(self, tmp_path, unit, micrometres):
        xml = ome_xml(physical=f'PhysicalSizeX="3" PhysicalSizeXUnit="{unit}" PhysicalSizeY="2" PhysicalSizeYUnit="{unit}"')
        tifffile.imwrite(tmp_path / "a.ome.tif", noise((5, 7)), metadata=None, description=xml, ome=False)
        spacing = read_image(tmp_path / "a.ome.tif").spacing
        assert spacing == (None if micrometres is None else pytest.approx({"y": 2 * micrometres, "x": 3 * micrometres}))

    @pytest.mark.parametrize("physical", ['PhysicalSizeX="0" PhysicalSizeY="0"', 'PhysicalSizeX="-1" PhysicalSizeY="1"',
                                          'PhysicalSizeX="NaN" PhysicalSizeY="1"', 'PhysicalSizeX="INF" PhysicalSizeY="1"',
                                          'PhysicalSizeX="?" PhysicalSizeY="1"', 'PhysicalSizeY="1"'])
    def test_sizes_that_are_none(self, tmp_path, physical):
        tifffile.imwrite(tmp_path / "a.ome.tif", noise((5, 7)), metadata=None, description=ome_xml(physical=physical), ome=False)
        assert read_image(tmp_path / "a.ome.tif").spacing is None

    def test_names_of_some_channels_only_are_none(self, tmp_path):
        xml = ome_xml(2, names=["DAPI", None])
        tifffile.imwrite(tmp_path / "a.ome.tif", noise((2, 5, 7)), photometric="minisblack", metadata=None, ome=False,
                         description=xml)
        assert read_image(tmp_path / "a.ome.tif").channel_names == ()

    @pytest.fixture
    def two_files(self, tmp_path):
        """One image whose channels are in two files."""
        data = "".join(f'<TiffData FirstC="{i}" FirstT="0" FirstZ="0" IFD="0" PlaneCount="1"><UUID FileName="c{i}.ome.tif">'
                       f"urn:uuid:{i}</UUID></TiffData>" for i in range(2))
        for i in range(2):
            tifffile.imwrite(tmp_path / f"c{i}.ome.tif", noise((5, 7)) + 1000 * i, metadata=None, ome=False,
                             description=ome_xml(2, data=data, uuid=f"urn:uuid:{i}"))
        return tmp_path

    def test_several_files_of_one_image(self, two_files, opened):
        for name in ("c0.ome.tif", "c1.ome.tif"):
            stored, read = opened(two_files / name)
            assert stored.axes == "CYX"
            assert np.array_equal(read, np.stack([noise((5, 7)), noise((5, 7)) + 1000]))

    @pytest.mark.usefixtures("no_log")
    def test_a_missing_partner_is_named_and_never_zero(self, two_files):
        (two_files / "c1.ome.tif").unlink()
        with pytest.raises(ReadError, match=r"c0\.ome\.tif: is one of several files.*c1\.ome\.tif"):
            open_stored(two_files / "c0.ome.tif")

    def test_a_partner_elsewhere_is_not_opened(self, two_files):
        (two_files / "sub").mkdir()
        content = (two_files / "c0.ome.tif").read_bytes().replace(b'FileName="c1.ome.tif"', b'FileName="../c1.tif"  ')
        (two_files / "sub" / "c0.ome.tif").write_bytes(content)
        (two_files / "c1.ome.tif").rename(two_files / "c1.tif")
        with pytest.raises(ReadError, match=r"c1\.tif"):
            open_stored(two_files / "sub" / "c0.ome.tif")

    @pytest.mark.usefixtures("no_log")
    def test_missing_planes_are_never_zero(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.ome.tif", noise((2, 5, 7)), photometric="minisblack", metadata=None, ome=False,
                         description=ome_xml(3))
        with pytest.raises(ReadError, match="lacks 1 of the 3 planes"):
            open_stored(tmp_path / "a.ome.tif")


class TestOtherPrograms:
    @pytest.mark.parametrize(("unit", "spacing"), [("CENTIMETER", {"y": 2.0, "x": 1.0}), ("INCH", None), ("NONE", None)])
    def test_only_centimetres_are_a_size(self, tmp_path, unit, spacing):
        tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=(10_000, 5000), resolutionunit=unit, metadata=None)
        assert read_image(tmp_path / "a.tif").spacing == (None if spacing is None else pytest.approx(spacing))

    def test_tifffiles_own_metadata(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", noise((2, 3, 5, 7)), metadata={
            "axes": "CZYX", "PhysicalSizeZ": 2, "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm", "PhysicalSizeX": 0.5,
            "Channel": {"Name": ["a", "b"]}}, photometric="minisblack")
        image = read_image(tmp_path / "a.tif")
        assert image.spacing == pytest.approx({"z": 2.0, "y": 0.5, "x": 0.5})
        assert image.channel_names == ("a", "b")

    def test_zeiss_lsm(self, tmp_path, opened):
        """Pages alternate with thumbnails; axes and voxel size stand in a structure of Zeiss's."""
        array = noise((3, 5, 7), "u1")
        fields = tifffile.TIFF.CZ_LSMINFO
        info = np.zeros((), np.dtype([(n, "<" + t if t[0] not in "<>" else t) for n, t in fields]))
        for name, value in {"MagicNumber": 67127628, "StructureSize": info.dtype.itemsize, "DimensionX": 7, "DimensionY": 5,
                            "DimensionZ": 3, "DimensionChannels": 1, "DimensionTime": 1, "ScanType": 0, "VoxelSizeX": 1e-7,
                            "VoxelSizeY": 2e-7, "VoxelSizeZ": 1.5e-6}.items():
            info[name] = value
        with tifffile.TiffWriter(tmp_path / "a.lsm", byteorder="<") as file:
            for i, plane in enumerate(array):
                tag = [(34412, "B", info.nbytes, info.tobytes(), True)] if i == 0 else []
                file.write(plane, metadata=None, extratags=tag, subfiletype=0)
                file.write(plane[::2, ::2], metadata=None, subfiletype=1)
        stored, read = opened(tmp_path / "a.lsm")
        assert stored.axes == "ZYX"
        assert np.array_equal(read, array)
        assert read_image(tmp_path / "a.lsm").spacing == pytest.approx({"z": 1.5, "y": 0.2, "x": 0.1})

    @pytest.mark.data
    def test_a_real_slide_is_its_base_level(self, data_root):
        path = data_root / "slides" / "dapi_4864x3968.ndpi"
        stored = open_stored(path)
        assert (stored.shape, stored.axes) == ((4864, 3968, 3), "YXS")
        assert stored.spacing == pytest.approx({"y": 0.228, "x": 0.228}, rel=1e-3)
        with tifffile.TiffFile(path) as file:
            assert len(file.series) == 3
            assert np.array_equal(stored.load((slice(100, 200), slice(300, 400))), file.series[0].asarray()[100:200, 300:400])

    @pytest.mark.data
    @pytest.mark.parametrize("folder", ["mouse_embryo3d/train/images", "mouse_embryo3d/train/labels", "ctc/DIC-C2DH-HeLa/01",
                                        "ctc/DIC-C2DH-HeLa/01_GT/SEG", "fixtures"])
    def test_real_files(self, data_root, opened, folder):
        paths = sorted((data_root / folder).glob("*.tif"))[:2]
        for path in paths:
            assert np.array_equal(opened(path)[1], tifffile.imread(path))
        assert paths


@pytest.mark.usefixtures("no_log")
class TestDamage:
    def test_fewer_strips_than_the_header_claims(self, tmp_path):
        """tifffile would fill the rest with zeros."""
        tifffile.imwrite(tmp_path / "a.tif", GREY, compression="zlib", rowsperstrip=8)
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
            file.pages[0].tags["ImageLength"].overwrite(400)
        with pytest.raises(ReadError, match="5 of 50 strips"):
            open_stored(tmp_path / "a.tif")

    @pytest.mark.parametrize("compression", ["packbits", "lzw", "zlib", "zstd", "lzma"])
    def test_no_more_is_claimed_than_the_bytes_can_hold(self, tmp_path, compression, time_limit):
        tifffile.imwrite(tmp_path / "a.tif", GREY, compression=compression, tile=(48, 64))
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
            for tag in ("ImageWidth", "ImageLength", "TileWidth", "TileLength"):
                file.pages[0].tags[tag].overwrite(2**15, dtype=4)
        with time_limit(5), pytest.raises(ReadError, match="cannot hold"):
            open_stored(tmp_path / "a.tif")

    @pytest.mark.parametrize("compression", ["packbits", "lzw", "zlib", "zstd", "lzma"])
    def test_an_empty_image_is_small_and_no_bomb(self, tmp_path, opened, compression):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((2000, 3000), np.uint8), compression=compression)
        assert not opened(tmp_path / "a.tif")[1].any()

    def test_tiles_that_are_left_out_are_background(self, tmp_path, opened):
        array = np.zeros((64, 64), np.uint8)
        array[:16, :16] = 7
        tiles = iter([array[:16, :16], *[None] * 15])
        tifffile.imwrite(tmp_path / "a.tif", tiles, shape=(64, 64), dtype="u1", tile=(16, 16), compression="zlib")
        assert np.array_equal(opened(tmp_path / "a.tif")[1], array)

    def test_jpeg_that_breaks_off_is_not_filled_with_grey(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", GREY, compression="jpeg", tile=(16, 16))
        content = (tmp_path / "a.tif").read_bytes()
        (tmp_path / "a.tif").write_bytes(content[:-20])
        with pytest.raises(ReadError, match="breaks off"):
            open_stored(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{"contiguous": False}, {"compression": "zlib", "contiguous": False}])
def test_planes_in_turn_walk_the_chain_of_pages_once(tmp_path, monkeypatch, options):
    monkeypatch.setattr(recent, "YOUNG", 0)
    planes = noise((12, 16, 20))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for plane in planes:
            file.write(plane, metadata=None, photometric="minisblack", **options)
    walked, real = [], tiff._check_chain
    monkeypatch.setattr(tiff, "_check_chain", lambda file, path: walked.append(path) or real(file, path))
    for _ in range(2):
        for k in range(12):
            found = read_image(tmp_path / "a.tif", Selection(axes="ZYX", z=k)).array[0]
            labels = read_label_values(tmp_path / "a.tif", Selection(axes="ZYX", z=k)).array[0]
            assert np.array_equal(found, planes[k])
            assert np.array_equal(labels, planes[k])
    assert len(walked) == 1
    (tmp_path / "a.tif").rename(tmp_path / "b.tif")
    tifffile.imwrite(tmp_path / "a.tif", planes[::-1], photometric="minisblack")
    assert np.array_equal(read_image(tmp_path / "a.tif", Selection(axes="ZYX", z=0)).array[0], planes[-1])


def test_a_damaged_file_is_refused_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(recent, "YOUNG", 0)
    tifffile.imwrite(tmp_path / "a.tif", noise((3, 16, 20)), photometric="minisblack", contiguous=False, metadata=None)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    for _ in range(3):
        with pytest.raises(ReadError, match=r"a\.tif"):
            open_stored(tmp_path / "a.tif").load((0,))


def test_kept_files_are_closed(tmp_path, monkeypatch):
    """Processes that are forked would share the place in an open file."""
    monkeypatch.setattr(recent, "YOUNG", 0)
    tifffile.imwrite(tmp_path / "a.tif", noise((3, 16, 20)), photometric="minisblack")
    read_image(tmp_path / "a.tif", Selection(axes="ZYX", z=0))
    here = Path("/proc/self/fd")
    if not here.exists():
        pytest.skip("this system does not list open files")
    assert not any("a.tif" in str(p.resolve()) for p in here.iterdir())
