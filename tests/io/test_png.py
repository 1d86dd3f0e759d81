"""PNG of every kind that the format has."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from biomask.errors import ReadError
from biomask.io import open_stored, read_image, read_labels_raw

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def pack(rows, bits):
    """Values (Y, N) of few or many bits as PNG's lines of bytes."""
    if bits == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    if bits == 8:
        return b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in rows)
    lines = []
    for row in rows:
        text = "".join(format(int(v), f"0{bits}b") for v in row)
        text += "0" * (-len(text) % 8)
        lines.append(b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)))
    return b"".join(lines)


def make(path, values, bits, colour, extra=b""):
    """A PNG of values (Y, X) or (Y, X, S), byte for byte."""
    height, width = values.shape[:2]
    rows = values.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    path.write_bytes(SIGNATURE + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(pack(rows, bits)))
                     + chunk(b"IEND", b""))
    return path


def values_of(bits, samples, size=(5, 7)):
    shape = size if samples == 1 else (*size, samples)
    return np.random.default_rng(bits * samples).integers(0, 2**bits, shape)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("as_labels", [False, True])
def test_grey_of_any_depth(tmp_path, opened, bits, as_labels):
    values = values_of(bits, 1)
    stored, array = opened(make(tmp_path / "a.png", values, bits, 0), as_labels)
    assert stored.axes == "YX"
    spread = {1: 255, 2: 1 if as_labels else 85, 4: 1 if as_labels else 17, 8: 1, 16: 1}[bits]
    assert np.array_equal(array, values * spread)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("colour", "samples"), [(2, 3), (4, 2), (6, 4)])
def test_colour_and_transparency(tmp_path, opened, bits, colour, samples):
    values = values_of(bits, samples)
    stored, array = opened(make(tmp_path / "a.png", values, bits, colour))
    assert (stored.axes, stored.transparency) == ("YXS", samples != 3)
    assert np.array_equal(array, values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_of_any_depth(tmp_path, opened, bits):
    values = values_of(bits, 1)
    palette = np.random.default_rng(0).integers(0, 256, (2**bits, 3)).astype(np.uint8)
    path = make(tmp_path / "a.png", values, bits, 3, chunk(b"PLTE", palette.tobytes()))
    stored, indices = opened(path, as_labels=True)
    assert stored.axes == "YX"
    assert np.array_equal(indices, values)
    assert np.array_equal(stored.palette, palette)
    stored, colours = opened(path)
    assert (stored.axes, stored.palette) == ("YXS", None)
    assert np.array_equal(colours, palette[values])


@pytest.mark.parametrize(("bits", "colour", "key", "samples"), [
    (1, 0, b"\0\1", 2), (2, 0, b"\0\1", 2), (8, 0, b"\0\x07", 2), (16, 0, b"\1\x07", 2), (8, 2, b"\0\1\0\2\0\3", 4),
    (16, 2, b"\0\1\0\2\0\3", 4), (8, 3, b"\0\xff", 4)])
def test_a_colour_declared_transparent_is_transparency(tmp_path, opened, bits, colour, key, samples):
    extra = (chunk(b"PLTE", bytes(range(6))) if colour == 3 else b"") + chunk(b"tRNS", key)
    values = values_of(bits, 3 if colour == 2 else 1) if colour != 3 else values_of(1, 1)
    stored, _ = opened(make(tmp_path / "a.png", values, bits, colour, extra))
    assert (stored.shape, stored.transparency) == ((5, 7, samples), True)


def test_transparency_of_a_palette_hides_no_indices(tmp_path, opened):
    extra = chunk(b"PLTE", bytes(range(6))) + chunk(b"tRNS", b"\0\xff")
    path = make(tmp_path / "a.png", values_of(1, 1), 8, 3, extra)
    assert np.array_equal(read_labels_raw(path)[0].array[0], values_of(1, 1))
    with pytest.raises(ReadError, match="transparent"):
        read_image(path)


def test_large_chunks_before_the_pixels_are_passed_over(tmp_path, opened):
    extra = chunk(b"iTXt", bytes(70_000)) + chunk(b"PLTE", bytes([9, 8, 7, 1, 2, 3])) + chunk(b"pHYs", bytes(9))
    stored, _ = opened(make(tmp_path / "a.png", values_of(1, 1), 8, 3, extra), as_labels=True)
    assert stored.palette.tolist() == [[9, 8, 7], [1, 2, 3]]


def test_an_animation_is_refused(tmp_path):
    path = make(tmp_path / "a.png", values_of(8, 1), 8, 0, chunk(b"acTL", struct.pack(">II", 5, 0)))
    with pytest.raises(ReadError, match="animation of 5"):
        open_stored(path)


def test_a_bomb_is_refused_by_its_header(tmp_path):
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(SIGNATURE + chunk(b"IHDR", header))
    with pytest.raises(ReadError, match="50000 x 50000"):
        open_stored(tmp_path / "a.png")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_same_as_pillow(tmp_path_factory, opened, data):
    """Another program's files, another program's eyes."""
    mode = data.draw(st.sampled_from(["1", "L", "LA", "RGB", "RGBA", "P", "I;16"]))
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    bands = {"LA": 2, "RGB": 3, "RGBA": 4}.get(mode, 1)
    seed = data.draw(st.integers(0, 99))
    raw = np.random.default_rng(seed).integers(0, 256, size[0] * size[1] * bands * (2 if mode == "I;16" else 1)).astype(np.uint8)
    picture = Pillow.frombytes("L" if mode in ("1", "P") else mode, size, raw.tobytes())
    if mode == "1":
        picture = picture.point(lambda v: v > 99, mode="1")
    elif mode == "P":
        picture = picture.quantize(7)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    path = tmp_path_factory.getbasetemp() / "same.png"
    path.write_bytes(buffer.getvalue())
    _, array = opened(path)
    with Pillow.open(path) as file:
        seen = np.asarray(file.convert("RGB") if mode == "P" else file)
    assert np.array_equal(array, seen * np.uint8(255) if mode == "1" else seen)
