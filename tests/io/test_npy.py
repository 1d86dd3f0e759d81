"""`.npy`: values and never programs."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from biomask.errors import ReadError
from biomask.image import Image
from biomask.io import open_stored, read_image, read_labels_raw, write_image
from biomask.stored import Selection


class Bomb:
    """What a pickle can do to whoever opens it."""

    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "<u2", ">u2", "<i4", ">i8", "u8", "f2", "<f4", ">f4", "f8"])
@pytest.mark.parametrize(("shape", "axes"), [((5, 7), "YX"), ((1, 1), "YX"), ((4, 5, 7), "QYX"), ((2, 3, 5, 7), "QQYX"),
                                             ((2, 3, 4, 5, 7), "QQQYX")])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_dtype_shape_and_order(tmp_path, opened, dtype, shape, axes, order):
    array = np.asarray(np.random.default_rng(0).integers(0, 2, shape), dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    stored, read = opened(tmp_path / "a.npy")
    assert stored.axes == axes
    assert np.array_equal(read, array)


@pytest.mark.parametrize(("shape", "dtype", "axes"), [((5, 7, 3), "u1", "YXS"), ((5, 7, 3), "f4", "QYX"), ((5, 7, 4), "u1", "QYX"),
                                                      ((3, 5, 7), "u1", "QYX"), ((2, 5, 7, 3), "u1", "QQYX")])
def test_only_bytes_with_a_last_axis_of_three_are_colours(tmp_path, shape, dtype, axes):
    np.save(tmp_path / "a.npy", np.zeros(shape, dtype))
    assert open_stored(tmp_path / "a.npy").axes == axes


def test_axes_that_stay_open_are_refused_with_what_to_type(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((40, 50, 3), np.float32))
    with pytest.raises(ReadError, match=r"\(40, 50, 3\)") as caught:
        read_image(tmp_path / "a.npy")
    assert caught.value.fix.startswith("say --axes YXC")
    assert read_image(tmp_path / "a.npy", Selection(axes="YXC")).array.shape == (3, 40, 50)


def test_true_is_255(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3, dtype=bool))
    assert np.array_equal(read_image(tmp_path / "a.npy").array[0], np.eye(3) * 255)


@pytest.mark.parametrize("array", [
    np.array([[1, "a"]], object), np.zeros((2, 2), complex), np.zeros((2, 2), "U3"), np.zeros((2, 2), "M8[s]"),
    np.zeros((2, 2), "V4"), np.zeros((2, 2), [("x", "f4"), ("y", "u1")]),
    np.zeros((2, 2), np.longdouble)], ids=lambda a: str(a.dtype))
def test_what_is_no_pixel_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ReadError, match=r"a\.npy: h(olds|as)") as caught:
        open_stored(tmp_path / "a.npy")
    assert caught.value.fix


@pytest.mark.parametrize("shape", [(), (5,), (2, 2, 2, 2, 2, 2), (0, 5), (3, 0, 5)])
def test_shapes_that_are_no_image_are_refused(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(ReadError, match="shape"):
        open_stored(tmp_path / "a.npy")


@pytest.mark.parametrize("make", [
    lambda path: np.save(path, np.array([[Bomb()]], object), allow_pickle=True),
    lambda path: path.write_bytes(pickle.dumps(Bomb())),
    lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + pickle.dumps(Bomb())),
], ids=["objects", "pickle", "pickle behind a magic number"])
def test_a_pickle_is_never_loaded(tmp_path, monkeypatch, make):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    make(tmp_path / "a.npy")
    for read in (read_image, read_labels_raw, open_stored):
        with pytest.raises(ReadError):
            read(tmp_path / "a.npy")
    assert not (tmp_path / "exploded").exists()


def test_the_bomb_of_that_test_is_real(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    np.save(tmp_path / "a.npy", np.array([[Bomb()]], object), allow_pickle=True)
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert (tmp_path / "exploded").exists()


def test_a_file_that_breaks_off_is_refused_by_its_header(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((50, 50)))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-1])
    with pytest.raises(ReadError, match="19999 of 20000 bytes"):
        open_stored(tmp_path / "a.npy")


def test_pixels_are_a_copy(tmp_path):
    """What stays mapped shows changes of the file, or crashes."""
    np.save(tmp_path / "a.npy", np.zeros((5, 7)))
    array = open_stored(tmp_path / "a.npy").load((slice(None), slice(None)))
    np.save(tmp_path / "a.npy", np.ones((5, 7)))
    assert not array.any()
    array[:] = 3


@pytest.mark.parametrize(("shape", "axes", "selection"), [
    ((1, 5, 7), "cyx", Selection()), ((3, 5, 7), "cyx", Selection()), ((2, 5, 7), "cyx", Selection(axes="CYX")),
    ((1, 4, 5, 7), "czyx", Selection(axes="ZYX")), ((2, 4, 5, 7), "czyx", Selection(axes="CZYX"))])
def test_round_trip(tmp_path, shape, axes, selection):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    write_image(tmp_path / "a.npy", Image(array, axes, "a"))
    back = read_image(tmp_path / "a.npy", selection)
    assert back.axes == axes
    assert np.array_equal(back.array, array)
