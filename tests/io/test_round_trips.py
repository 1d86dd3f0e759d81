"""read(write(x)) = x, for every format and everything that it can hold."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from biomask.errors import WriteError
from biomask.image import Image
from biomask.io import READERS, read_image, read_label_values, write_image, write_mask
from biomask.io.files import IMAGE_WRITERS, WRITERS
from biomask.labels import Legend
from biomask.stored import Selection

ALL = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
NIFTI = tuple(d for d in ALL if d != "float16")
DTYPES = {".png": ALL[:2], ".bmp": ALL[:1], ".npy": ALL, ".tif": ALL, ".tiff": ALL, ".nii": NIFTI, ".nii.gz": NIFTI}
SPACED = (".tif", ".tiff", ".nii", ".nii.gz")
VOLUMES = (".npy", *SPACED)
NAMED = (".tif", ".tiff")

#: What a person calls a channel; XML and JSON have a say in it.
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Co", "Cn")), min_size=1, max_size=12)


@st.composite
def images(draw, suffix):
    """An `Image` that the format can hold."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES[suffix])))
    volume = suffix in VOLUMES and draw(st.booleans())
    channels = draw(st.sampled_from([1, 3] if suffix not in VOLUMES else [1, 2, 3, 4, 5]))
    size = draw(st.tuples(*[st.integers(2 if volume and axis == 0 else 1, 9) for axis in range(3 if volume else 2)]))
    seed = draw(st.integers(0, 2**32 - 1))
    raw = np.random.default_rng(seed).integers(0, 256, (channels, *size, dtype.itemsize), dtype=np.uint8)
    array = raw.view(dtype)[..., 0]
    if dtype.kind == "f" and draw(st.booleans()):
        array = np.nan_to_num(array)
    axes = "czyx" if volume else "cyx"
    spacing = None
    if suffix in SPACED and (suffix.startswith(".nii") or draw(st.booleans())):
        spacing = {a: draw(st.floats(1e-3, 1e5, allow_nan=False)) for a in axes[1:]}
    names: tuple[str, ...] = ()
    if suffix in NAMED and draw(st.booleans()):
        names = tuple(draw(st.lists(NAMES, min_size=channels, max_size=channels)))
    return Image(array, axes, "image", spacing, names)


@pytest.mark.parametrize("suffix", sorted(IMAGE_WRITERS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_image_comes_back(tmp_path, suffix, data):
    image = data.draw(images(suffix))
    write_image(tmp_path / f"image{suffix}", image)
    axes = None
    colours = image.axes == "cyx" and image.channels == 3 and image.array.dtype == np.uint8
    if suffix == ".npy" and not colours:  # which has no place for them
        axes = (image.axes if image.channels > 1 else image.axes[1:]).upper()
    back = read_image(tmp_path / f"image{suffix}", Selection(axes=axes))
    assert (back.axes, back.name, back.channel_names) == (image.axes, "image", image.channel_names)
    assert back.array.dtype == image.array.dtype
    assert np.array_equal(back.array, image.array, equal_nan=image.array.dtype.kind == "f")
    if image.spacing is None:
        assert back.spacing is None
    else:
        assert back.spacing == pytest.approx(image.spacing, rel=1e-6)


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz", ".nii", ".npy"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@example(data=None)
def test_a_mask_comes_back(tmp_path, suffix, data):
    """Values, dtype and spacing, of planes and volumes."""
    if data is None:
        values, size, ids, spacing = [0, 300], (3, 4, 5), np.zeros((3, 4, 5), int), {"z": 2.0, "y": 0.5, "x": 0.25}
    else:
        values = sorted(data.draw(st.lists(st.integers(0, 70_000), min_size=1, max_size=6, unique=True)))
        size = data.draw(st.tuples(st.integers(2, 6), st.integers(1, 6), st.integers(1, 6)))[-data.draw(st.sampled_from([2, 3])):]
        ids = data.draw(st.integers(0, 99).map(lambda seed: np.random.default_rng(seed).integers(0, len(values), size)))
        spacing = {a: data.draw(st.floats(1e-2, 1e4)) for a in "zyx"[-len(size):]}
    legend = Legend.of_values(values)
    stored = legend.values_of(ids)
    write_mask(tmp_path / f"mask{suffix}", stored, legend, spacing)
    back = read_label_values(tmp_path / f"mask{suffix}", Selection(axes="ZYX" if suffix == ".npy" and len(size) == 3 else None))
    assert back.array.dtype == stored.dtype
    assert np.array_equal(back.array[0], stored)
    if suffix != ".npy":
        assert back.spacing == pytest.approx(spacing, rel=1e-3)


def test_formats_that_are_written_are_read():
    assert set(IMAGE_WRITERS) <= set(READERS)
    assert set(WRITERS) <= set(READERS)


@pytest.mark.parametrize(("suffix", "dtype", "shape", "axes"), [
    (".png", "f4", (1, 4, 5), "cyx"), (".png", "u4", (1, 4, 5), "cyx"), (".png", "u1", (2, 4, 5), "cyx"),
    (".png", "u1", (4, 4, 5), "cyx"), (".png", "u1", (1, 3, 4, 5), "czyx"), (".bmp", "u2", (1, 4, 5), "cyx"),
    (".nii.gz", "f2", (1, 4, 5), "cyx"),
    (".npz", "u1", (1, 4, 5), "cyx"), ("", "u1", (1, 4, 5), "cyx")])
def test_what_a_format_cannot_hold_is_refused_with_one_that_can(tmp_path, suffix, dtype, shape, axes):
    image = Image(np.zeros(shape, dtype), axes, "a", dict.fromkeys(axes[1:], 1.0))
    with pytest.raises(WriteError) as caught:
        write_image(tmp_path / f"a{suffix}", image)
    assert ".tif" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", sorted(IMAGE_WRITERS))
def test_true_becomes_255(tmp_path, suffix):
    array = np.random.default_rng(0).random((1, 5, 7)) > 0.5
    write_image(tmp_path / f"a{suffix}", Image(array, "cyx", "a", {"y": 1.0, "x": 1.0}))
    assert np.array_equal(read_image(tmp_path / f"a{suffix}").array, array * 255)


def test_colours_are_colours_to_every_viewer(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (3, 5, 7)).astype(np.uint8)
    for name in ("a.tif", "a.png", "a.bmp"):
        write_image(tmp_path / name, Image(array, "cyx", "a"))
        with Pillow.open(tmp_path / name) as file:
            assert np.array_equal(np.asarray(file.convert("RGB")), np.moveaxis(array, 0, -1))


def test_an_image_of_tiff_is_ome_to_every_program(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7)).astype(np.uint16)
    write_image(tmp_path / "a.tif", Image(array, "czyx", "a", {"z": 2.0, "y": 0.5, "x": 0.25}, ("a", "b")))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_ome
        assert (file.series[0].axes, file.series[0].shape) == ("CZYX", (2, 3, 5, 7))
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeZ"], pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (2.0, 0.25, "µm")
        assert [c["Name"] for c in pixels["Channel"]] == ["a", "b"]


def test_what_is_written_over_is_whole(tmp_path):
    for value in (1, 2):
        write_image(tmp_path / "a.nii.gz", Image(np.full((1, 4, 5), value, np.uint8), "cyx", "a", {"y": 1.0, "x": 1.0}))
    assert (read_image(tmp_path / "a.nii.gz").array == 2).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
