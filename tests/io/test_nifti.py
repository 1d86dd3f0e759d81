"""NIfTI, as nibabel and the programs behind it write it."""

from __future__ import annotations

import gzip
import subprocess
import sys

import nibabel
import numpy as np
import pytest

from biomask.errors import ReadError, WriteError
from biomask.image import Image
from biomask.io import nifti, open_stored, read_image, read_labels_raw, recent, write_image, write_mask
from biomask.labels import Legend
from biomask.stored import WHOLE, Plane, Selection

AFFINE = np.array([[0.0, -0.5, 0.1, 12.0], [0.4, 0.0, 0.0, -3.0], [0.0, 0.1, 2.0, 7.5], [0.0, 0.0, 0.0, 1.0]])


def save(path, array, affine=None, units=(None, None), slope=None, zooms=None):
    """A file in nibabel's form; array (X, Y, Z, …)."""
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine, dtype=array.dtype)
    image.header.set_xyzt_units(*units)
    if zooms is not None:
        image.header.set_zooms(zooms)
    if slope is not None:
        image.header.set_slope_inter(*slope)
        nibabel.save(image, path)
        raw = path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
        pixels = np.asfortranarray(array).tobytes(order="F")  # nibabel divides by the slope: put back what we mean
        raw = raw[: len(raw) - len(pixels)] + pixels
        path.write_bytes(raw if path.suffix != ".gz" else gzip.compress(raw))
        return path
    nibabel.save(image, path)
    return path


def noise(shape, dtype="i2"):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", ">i2", ">f4"])
def test_volumes_of_every_dtype(tmp_path, opened, suffix, dtype):
    array = noise((4, 5, 6), dtype)
    image = nibabel.Nifti1Image(array, AFFINE, dtype=array.dtype)
    if dtype[0] == ">":
        image = nibabel.Nifti1Image(array, AFFINE, header=nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / f"a{suffix.lower()}")
    (tmp_path / f"a{suffix.lower()}").rename(tmp_path / f"a{suffix}")
    stored, read = opened(tmp_path / f"a{suffix}")
    assert stored.axes == "ZYX"
    assert np.array_equal(read, np.asanyarray(nibabel.load(tmp_path / f"a{suffix}").dataobj).T)
    assert np.array_equal(read, array.T)
    assert np.allclose(stored.affine, AFFINE)
    image = read_image(tmp_path / f"a{suffix}")
    assert (image.axes, image.name) == ("czyx", "a")
    assert np.allclose(image.affine, AFFINE)


@pytest.mark.parametrize(("unit", "micrometres"), [("mm", 1e3), ("micron", 1.0), ("meter", 1e6), (None, 1e3)])
def test_spacing_in_micrometres(tmp_path, unit, micrometres):
    save(tmp_path / "a.nii", noise((4, 5, 6)), np.diag([0.5, 2.0, 3.0, 1.0]), (unit, None))
    expected = {"x": 0.5 * micrometres, "y": 2 * micrometres, "z": 3 * micrometres}
    assert read_image(tmp_path / "a.nii").spacing == pytest.approx(expected)


@pytest.mark.parametrize(("slope", "dtype"), [((2.0, 0.0), "f4"), ((1.0, -1024.0), "f4"), ((0.25, 7.0), "f4")])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slope_and_intercept_are_applied_where_there_are_any(tmp_path, opened, slope, dtype, suffix):
    array = noise((4, 5, 6))
    stored, read = opened(save(tmp_path / f"a{suffix}", array, slope=slope))
    assert stored.dtype == dtype
    assert np.array_equal(read, array.T.astype(dtype) * np.float32(slope[0]) + np.float32(slope[1]))


def test_the_identity_leaves_the_dtype(tmp_path, opened):
    stored, read = opened(save(tmp_path / "a.nii", noise((4, 5, 6)), slope=(1.0, 0.0)))
    assert stored.dtype == np.int16
    assert np.array_equal(read, noise((4, 5, 6)).T)


def test_large_integers_with_a_slope_keep_their_digits(tmp_path, opened):
    array = np.full((2, 3, 4), 2**30 + 1, np.int32)
    stored, read = opened(save(tmp_path / "a.nii", array, slope=(1.0, 1.0)))
    assert stored.dtype == np.float64
    assert (read == 2**30 + 2).all()


@pytest.mark.parametrize(("shape", "units", "axes"), [
    ((4, 5), ("mm", None), "YX"), ((4, 5, 1), ("mm", None), "ZYX"), ((4, 5, 6, 1), ("mm", None), "QZYX"),
    ((4, 5, 6, 3), ("mm", "sec"), "TZYX"), ((4, 5, 6, 3), ("mm", "msec"), "TZYX"), ((4, 5, 6, 3), ("mm", "hz"), "QZYX"),
    ((4, 5, 6, 3), ("mm", None), "QZYX"), ((4, 5, 6, 1, 3), ("mm", None), "CQZYX"), ((4, 5, 6, 2, 3), ("mm", "sec"), "CTZYX"),
    ((4, 5, 6, 1, 3, 1, 1), ("mm", None), "QQCQZYX")])
def test_axes(tmp_path, opened, shape, units, axes):
    stored, read = opened(save(tmp_path / "a.nii", noise(shape), units=units))
    assert stored.axes == axes
    assert np.array_equal(read, noise(shape).T)


@pytest.mark.parametrize(("shape", "selection", "size", "channels"), [
    ((4, 5), Selection(), (5, 4), 1), ((4, 5, 1), Selection(), (5, 4), 1), ((4, 5, 6, 1), Selection(), (6, 5, 4), 1),
    ((4, 5, 6, 1, 3), Selection(), (6, 5, 4), 3), ((4, 5, 6, 3), Selection(axes="CZYX"), (6, 5, 4), 3),
    ((4, 5, 1, 3), Selection(axes="CYX"), (5, 4), 3), ((4, 5, 6), Selection(z=2), (5, 4), 1)])
def test_what_is_selected(tmp_path, shape, selection, size, channels):
    image = read_image(save(tmp_path / "a.nii", noise(shape)), selection)
    assert (image.size, image.channels) == (size, channels)


def test_a_fourth_axis_that_is_no_time_is_asked_for(tmp_path):
    with pytest.raises(ReadError, match=r"\(3, 6, 5, 4\)") as caught:
        read_image(save(tmp_path / "a.nii", noise((4, 5, 6, 3))))
    assert "--axes CZYX" in caught.value.fix


def test_channels_that_the_header_calls_time_have_a_way_out(tmp_path):
    with pytest.raises(ReadError, match="time series of 3") as caught:
        read_image(save(tmp_path / "a.nii", noise((4, 5, 6, 3)), units=("mm", "sec")))
    assert "--axes CZYX" in caught.value.fix
    assert read_image(tmp_path / "a.nii", Selection(axes="CZYX")).channels == 3


def test_odd_headers_print_nothing(tmp_path):
    """nibabel writes its remarks to the screen; in a process of its own, since pytest catches what is logged."""
    save(tmp_path / "a.nii", noise((4, 5, 6)))
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[80:92] = bytes(12)  # no size of a voxel
    (tmp_path / "a.nii").write_bytes(raw)
    code = "import sys; from biomask.io import read_image; read_image(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.nii")], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nifti_2(tmp_path, opened):
    nibabel.save(nibabel.Nifti2Image(noise((4, 5, 6)), AFFINE), tmp_path / "a.nii.gz")
    stored, read = opened(tmp_path / "a.nii.gz")
    assert np.array_equal(read, noise((4, 5, 6)).T)
    assert np.allclose(stored.affine, AFFINE)


@pytest.mark.parametrize(("dtype", "word"), [([("R", "u1"), ("G", "u1"), ("B", "u1")], "colours"), ("c8", "complex")])
def test_what_is_no_grey_value_is_refused(tmp_path, dtype, word):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), dtype), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ReadError, match=word):
        open_stored(tmp_path / "a.nii")


def test_floats_that_are_labels_become_integers(tmp_path):
    labels, palette = read_labels_raw(save(tmp_path / "a.nii.gz", noise((4, 5, 6), "f4")))
    assert (labels.array.dtype, palette) == (np.int32, None)
    assert np.array_equal(labels.array[0], noise((4, 5, 6)).T)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("affine", [None, AFFINE])
def test_a_mask_lies_where_its_image_does(tmp_path, suffix, affine):
    """Read by nibabel: a viewer lays one over the other."""
    there = AFFINE if affine is not None else np.diag([0.5, 1.0, 2.0, 1.0])
    save(tmp_path / f"image{suffix}", noise((4, 5, 6)), there, ("mm", None))
    image = read_image(tmp_path / f"image{suffix}")
    values = (image.array[0] > 50).astype(np.uint8) * 2
    write_mask(tmp_path / "out" / f"mask{suffix}", values, Legend.of_values([0, 2]), image.spacing,
               image.affine if affine is not None else None)
    mask = nibabel.load(tmp_path / "out" / f"mask{suffix}")
    assert mask.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(mask.dataobj), (noise((4, 5, 6)) > 50) * 2)
    assert np.allclose(mask.affine, nibabel.load(tmp_path / f"image{suffix}").affine)
    assert mask.header.get_xyzt_units()[0] == "mm"
    assert read_image(tmp_path / "out" / f"mask{suffix}").spacing == pytest.approx(image.spacing)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    image = Image(noise((1, 4, 5, 6)), "czyx", "a", {"z": 1.0, "y": 1.0, "x": 1.0})
    for name in ("a.nii.gz", "b.nii.gz"):
        write_image(tmp_path / name, image)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_an_unknown_voxel_size_is_not_made_up(tmp_path):
    with pytest.raises(WriteError, match="voxel size"):
        write_image(tmp_path / "a.nii", Image(noise((1, 4, 5)), "cyx", "a"))


def test_a_type_that_it_lacks_names_a_format_that_has_it(tmp_path):
    with pytest.raises(WriteError, match=r"float16[^→]*→ write \.tif"):
        write_image(tmp_path / "a.nii", Image(noise((1, 4, 5), "f2"), "cyx", "a", {"y": 1.0, "x": 1.0}))


@pytest.mark.data
def test_real_volumes(data_root, opened):
    paths = sorted((data_root / "hippocampus" / "images").glob("*.nii.gz"))[:5]
    for path in paths:
        stored, array = opened(path)
        oracle = nibabel.load(path)
        assert np.array_equal(array, np.asanyarray(oracle.dataobj).T)
        labels, _ = read_labels_raw(data_root / "hippocampus" / "labels" / path.name)
        assert labels.size == stored.shape
        assert set(np.unique(labels.array)) <= {0, 1, 2}
        assert labels.spacing == pytest.approx({"z": 1000.0, "y": 1000.0, "x": 1000.0})
    assert paths


@pytest.mark.parametrize(("unit", "millimetres"), [("mm", 1.0), ("micron", 1e-3), ("meter", 1e3), (None, 1.0)])
def test_every_unit_survives_the_way_through_millimetres(tmp_path, unit, millimetres):
    save(tmp_path / "a.nii.gz", noise((4, 5, 6)), AFFINE, (unit, None))
    image = read_image(tmp_path / "a.nii.gz")
    assert np.allclose(image.affine[:3], AFFINE[:3] * millimetres)
    assert image.affine[3].tolist() == [0, 0, 0, 1]
    write_image(tmp_path / "b.nii.gz", image)
    write_mask(tmp_path / "c.nii.gz", np.ones(image.size, np.uint8), Legend.of_values([0, 1]), image.spacing, image.affine)
    for name in ("b.nii.gz", "c.nii.gz"):
        again = read_image(tmp_path / name)
        assert again.spacing == pytest.approx(image.spacing)
        assert np.allclose(again.affine, image.affine)


@pytest.mark.parametrize(("selection", "plane", "depth"), [
    (Selection(z="each"), Plane(z=3), 3), (Selection(z=2), WHOLE, 2), (Selection(z="max"), WHOLE, 0)])
def test_a_mask_of_a_plane_lies_on_its_slice(tmp_path, selection, plane, depth):
    """By nibabel's own slicer, for planes; the brightest projection lies on the first one."""
    save(tmp_path / "a.nii.gz", noise((4, 5, 6)), AFFINE, ("mm", None))
    image = read_image(tmp_path / "a.nii.gz", selection, plane)
    write_mask(tmp_path / "m.nii.gz", (image.array[0] > 50).astype(np.uint8), Legend.of_values([0, 1]), image.spacing, image.affine)
    mask, oracle = nibabel.load(tmp_path / "m.nii.gz"), nibabel.load(tmp_path / "a.nii.gz").slicer[:, :, depth:depth + 1]
    assert mask.shape == (4, 5, 1)
    assert np.allclose(mask.affine, oracle.affine, atol=1e-6)
    assert np.allclose(mask.header.get_zooms(), oracle.header.get_zooms())
    if selection.z != "max":
        assert np.array_equal(np.asarray(mask.dataobj), np.asarray(oracle.dataobj) > 50)
    assert read_image(tmp_path / "m.nii.gz").size == (5, 4)


def test_axes_that_override_the_file_take_sizes_and_place_along(tmp_path):
    save(tmp_path / "a.nii", noise((4, 5, 6)), np.diag([0.5, 0.7, 2.0, 1.0]), ("mm", None))
    image = read_image(tmp_path / "a.nii", Selection(axes="YXZ"))  # the file says ZYX
    assert image.size == (4, 6, 5)
    assert image.spacing == pytest.approx({"y": 2000.0, "x": 700.0, "z": 500.0})
    write_image(tmp_path / "b.nii", image)
    assert read_image(tmp_path / "b.nii").spacing == pytest.approx(image.spacing)


def test_planes_in_turn_decode_a_packed_volume_once(tmp_path, monkeypatch):
    monkeypatch.setattr(recent, "YOUNG", 0)
    save(tmp_path / "a.nii.gz", noise((4, 5, 6)))
    opened, real = [], nifti._open
    monkeypatch.setattr(nifti, "_open", lambda path: opened.append(path) or real(path))
    for k in range(6):
        assert np.array_equal(read_image(tmp_path / "a.nii.gz", Selection(z=k)).array[0], noise((4, 5, 6)).T[k])
    assert len(opened) == 3, "the header, the first plane, and the volume"
    save(tmp_path / "a.nii.gz", noise((4, 5, 6)) + 1)
    assert np.array_equal(read_image(tmp_path / "a.nii.gz", Selection(z=1)).array[0], noise((4, 5, 6)).T[1] + 1)


def test_a_packed_volume_that_is_too_large_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(recent, "YOUNG", 0)
    monkeypatch.setattr(nifti, "LARGEST", 100)
    save(tmp_path / "a.nii.gz", noise((4, 5, 6)))
    whole = []
    real = nifti._decode
    monkeypatch.setattr(nifti, "_decode", lambda image, key: whole.append(key == ()) or real(image, key))
    for k in (1, 4):
        assert np.array_equal(read_image(tmp_path / "a.nii.gz", Selection(z=k)).array[0], noise((4, 5, 6)).T[k])
    assert whole == [False, False]
