"""Bad files of every format: refused with a sentence that helps, never read as something else, never a library's traceback."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image as Pillow

from biomask.errors import BiomaskError, MissingPathError, OutOfMemoryError, ReadError
from biomask.image import Image
from biomask.io import READERS, open_stored, read_image, read_label_values, read_labels_raw, write_image
from biomask.io import files as io_files

pytestmark = pytest.mark.usefixtures("no_log")

GREY = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
VOLUME = np.random.default_rng(1).integers(0, 256, (3, 40, 40)).astype(np.uint8)


def palette(path):
    picture = Pillow.fromarray(GREY % 3)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    picture.save(path)


def pyramid(path):
    with tifffile.TiffWriter(path) as file:
        file.write(GREY, subifds=1, tile=(16, 16))
        file.write(GREY[::2, ::2], subfiletype=1, tile=(16, 16))


def compressed(method):
    return lambda path: tifffile.imwrite(path, GREY, compression=method, rowsperstrip=8)


def tiled(method):
    return lambda path: tifffile.imwrite(path, GREY, compression=method, tile=(16, 16))


#: Name: what writes it.
MAKERS = {
    "a.png": lambda p: Pillow.fromarray(GREY).save(p), "bit.png": lambda p: Pillow.fromarray(GREY > 9).save(p),
    "palette.png": palette,
    "a.jpg": lambda p: Pillow.fromarray(GREY).save(p),
    "steps.jpg": lambda p: Pillow.fromarray(GREY).save(p, progressive=True),
    "a.bmp": lambda p: Pillow.fromarray(GREY).save(p), "palette.bmp": palette, "a.npy": lambda p: np.save(p, VOLUME),
    "a.nii": lambda p: nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), p),
    "a.nii.gz": lambda p: nibabel.save(nibabel.Nifti1Image(VOLUME, np.eye(4)), p),
    "plain.tif": lambda p: tifffile.imwrite(p, GREY), "strips.tif": compressed(None), "tiles.tif": tiled(None),
    "big.tif": lambda p: tifffile.imwrite(p, GREY, bigtiff=True), "pyramid.tif": pyramid,
    "imagej.tif": lambda p: tifffile.imwrite(p, VOLUME, imagej=True, metadata={"axes": "ZYX"}),
    "a.ome.tif": lambda p: tifffile.imwrite(p, VOLUME, photometric="minisblack", metadata={"axes": "ZYX"}),
    **{f"{m}.tif": compressed(m) for m in ("lzw", "zlib", "zstd", "packbits", "lzma", "jpeg", "lerc")},
    **{f"tiled-{m}.tif": tiled(m) for m in ("lzw", "zlib", "zstd", "packbits", "lzma", "jpeg", "jpeg2000", "png")},
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_that_breaks_off_is_refused_or_whole(tmp_path, name):
    """Some formats end in bytes without pixels: what is read is the same then. It is never something else."""
    MAKERS[name](tmp_path / name)
    content, whole = (tmp_path / name).read_bytes(), open_stored(tmp_path / name).load(())
    cuts = {int(n) for n in np.linspace(0, len(content) - 1, 40)} | set(range(max(0, len(content) - 12), len(content)))
    refused = []
    for cut in sorted(cuts):
        path = tmp_path / f"cut-{name}"
        path.write_bytes(content[:cut])
        try:
            read = open_stored(path).load(())
        except ReadError as error:
            refused.append(str(error))
        else:
            assert np.array_equal(read, whole), cut
    assert len(refused) > len(cuts) / 3
    assert all(f"cut-{name}: " in message for message in refused)


@pytest.mark.parametrize("name", MAKERS)
def test_flipped_bits_give_an_image_or_an_error_of_ours(tmp_path, name, time_limit):
    MAKERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    rng, refused = np.random.default_rng(0), []
    for attempt in range(30):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content) if attempt % 2 else min(200, len(content)), 3):
            damaged[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"bad-{name}"
        path.write_bytes(damaged)
        for as_labels in (False, True):
            try:
                with time_limit(20):
                    stored = open_stored(path, as_labels=as_labels)
                    assert stored.load(()).shape == stored.shape
            except BiomaskError as error:
                refused.append(str(error))
    assert all(f"bad-{name}: " in message for message in refused)


@pytest.mark.parametrize("suffix", sorted(READERS))
@pytest.mark.parametrize(("content", "says", "does"), [
    (b"", "is empty", "copy or export it again"), (b"Area,Mean\n1,2.5\n", "holds text", "export"),
    ("Fläche\tMittel µm²\n".encode() * 100, "holds text", "export"),
    (b"<!DOCTYPE html>\n<html><body>403</body>", "web page", "download it again"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "Git LFS", "git lfs pull"),
    (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file", "h5py"), (b"ZISRAWFILE" + bytes(99), "is a Zeiss file", "Bio-Formats"),
    (b"PK\x03\x04" + bytes(99), "is a ZIP archive", "unpack"), (b"GIF89a" + bytes(99), "is a GIF", "PNG"),
    (b"\x80\x04\x95" + bytes(99), "is a Python pickle", "np.save"), (bytes(99), "is damaged or not", "again"),
    (b"\xff" * 5000, "is damaged or not", "again")])
def test_what_is_no_image_is_called_what_it_is(tmp_path, suffix, content, says, does):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    for read in (open_stored, read_image, read_label_values, read_labels_raw):
        with pytest.raises(ReadError, match=rf"broken{suffix}: .*{says}") as caught:
            read(path)
        assert does in caught.value.fix
        assert str(path) not in caught.value.what, "the path is named once"


def test_an_image_under_a_wrong_name_is_told_its_right_one(tmp_path):
    made = {".png": "a.png", ".jpg": "a.jpg", ".bmp": "a.bmp", ".npy": "a.npy", ".tif": "plain.tif", ".nii.gz": "a.nii.gz"}
    for right, name in made.items():
        MAKERS[name](tmp_path / name)
        for wrong in (".png", ".jpg", ".bmp", ".npy", ".tif", ".nii", ".nii.gz"):
            if wrong == right:
                continue
            path = tmp_path / f"wrong{wrong}"
            path.write_bytes((tmp_path / name).read_bytes())
            with pytest.raises(ReadError, match=f"wrong{wrong}: is ") as caught:
                open_stored(path)
            if right != ".nii.gz" or wrong == ".nii":
                assert caught.value.fix == f"rename it to end in {right}"


def test_a_tiff_by_any_of_its_names_is_damaged_and_not_misnamed(tmp_path):
    MAKERS["zlib.tif"](tmp_path / "a.tif")
    for name in ("b.tiff", "b.btf", "b.ome.tif", "b.lsm", "b.ndpi"):
        (tmp_path / name).write_bytes((tmp_path / "a.tif").read_bytes()[:-300])
        with pytest.raises(ReadError, match=r"damaged|breaks off"):
            open_stored(tmp_path / name).load(())


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_a_folder_with_the_name_of_an_image(tmp_path, suffix):
    (tmp_path / f"a{suffix}").mkdir()
    with pytest.raises(ReadError, match="is a folder"):
        open_stored(tmp_path / f"a{suffix}")


def test_links(tmp_path):
    MAKERS["a.png"](tmp_path / "a.png")
    (tmp_path / "good.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert np.array_equal(read_image(tmp_path / "good.png").array[0], GREY)
    with pytest.raises(MissingPathError, match=r"gone\.png") as caught:
        open_stored(tmp_path / "gone.png")
    assert "nowhere.png" in caught.value.fix
    with pytest.raises(MissingPathError, match=r"loop\.png"):
        open_stored(tmp_path / "loop.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    MAKERS["a.png"](tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(ReadError, match="may not be read") as caught:
        open_stored(tmp_path / "a.png")
    assert "chmod" in caught.value.fix


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "palette.png", "a.bmp", "a.npy", "a.nii.gz", "plain.tif"])
@pytest.mark.parametrize(("number", "says"), [(errno.EACCES, "may not be read"), (errno.EIO, "Input/output error")])
def test_what_the_system_refuses_is_no_damage(tmp_path, monkeypatch, name, number, says):
    MAKERS[name](tmp_path / name)

    def refuse(*args, **options):
        raise OSError(number, os.strerror(number))

    stored = open_stored(tmp_path / name)
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    for read in (lambda: open_stored(tmp_path / name), lambda: stored.load(())):
        with pytest.raises(ReadError, match=says):
            read()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.npy", "a.nii.gz", "plain.tif", "zlib.tif"])
def test_a_file_that_goes_or_changes_between_header_and_pixels(tmp_path, name):
    MAKERS[name](tmp_path / name)
    stored = open_stored(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    with pytest.raises(ReadError, match=name):
        stored.load(())
    (tmp_path / name).write_bytes(content[: len(content) // 3])
    with pytest.raises(ReadError, match=name):
        stored.load(())


def test_pixels_that_are_not_what_the_header_said(tmp_path):
    write_image(tmp_path / "a.png", Image(GREY[None], "cyx", "a"))
    stored = open_stored(tmp_path / "a.png")
    write_image(tmp_path / "a.png", Image(GREY[None, :20], "cyx", "a"))
    with pytest.raises(ReadError, match=r"uint8 of shape \(40, 40\), its pixels are uint8 of shape \(20, 40\)"):
        stored.load(())


class TestMemory:
    def test_an_array_without_end_is_refused_before_it_is_made(self, tmp_path, monkeypatch):
        monkeypatch.setattr(io_files, "LARGE", 1000)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1500}))
        MAKERS["a.png"](tmp_path / "a.png")
        np.save(tmp_path / "a.npy", VOLUME)
        for name in ("a.png", "a.npy"):
            stored = open_stored(tmp_path / name)
            with pytest.raises(OutOfMemoryError, match="GiB of memory"):
                stored.load(())
        assert stored.load((1, slice(0, 20))).shape == (20, 40), "a part fits"

    def test_a_claim_of_terabytes(self, tmp_path, time_limit):
        image = nibabel.Nifti1Image(VOLUME, np.eye(4))
        nibabel.save(image, tmp_path / "a.nii.gz")
        raw = bytearray(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
        raw[42:48] = np.array([32_767] * 3, "<i2").tobytes()
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw))
        with time_limit(10), pytest.raises(BiomaskError, match=r"a\.nii\.gz"):
            read_image(tmp_path / "a.nii.gz")

    def test_a_decoder_without_memory_names_the_file(self, tmp_path, monkeypatch):
        MAKERS["a.png"](tmp_path / "a.png")

        def greedy(content):
            raise MemoryError

        monkeypatch.setattr("imagecodecs.png_decode", greedy)
        with pytest.raises(OutOfMemoryError, match=r"a\.png"):
            read_image(tmp_path / "a.png")
