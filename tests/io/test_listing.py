"""What is found in folders, and the names that pair it."""

from __future__ import annotations

import gzip
import os
import zipfile

import numpy as np
import pytest
import roifile

from biomask.errors import MissingPathError, ReadError
from biomask.io import READERS, UNREAD, list_images, list_unread, open_stored, relative_stem
from biomask.io.files import BYSTANDERS, suffix_of, way_for
from biomask.io.listing import yolo_labels
from biomask.io.unread import YOLO_WAY


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(paths, root):
    return [p.relative_to(root).as_posix() for p in paths]


class TestSuffixes:
    @pytest.mark.parametrize(("name", "suffix", "stem"), [
        ("a.png", ".png", "a"), ("a.b.PNG", ".png", "a.b"), ("scan.nii.gz", ".nii.gz", "scan"), ("Scan.NII.GZ", ".nii.gz", "Scan"),
        ("a.ome.tif", ".ome.tif", "a"), ("a.OME.TIFF", ".ome.tiff", "a"), ("a.ome.zarr", ".ome.zarr", "a"), ("a.nii", ".nii", "a"),
        ("a.gz", ".gz", "a"), ("a.tif.gz", ".gz", "a.tif"), ("README", "", "README"), ("v1.2 final", ".2 final", "v1"),
        ("x.y.nii.gz", ".nii.gz", "x.y"), (".nii.gz", ".gz", ".nii"), ("trailing..png", ".png", "trailing.")])
    def test_ending_and_stem(self, tmp_path, name, suffix, stem):
        assert suffix_of(tmp_path / name) == suffix
        assert relative_stem(tmp_path / "sub" / name, tmp_path).as_posix() == f"sub/{stem}"

    def test_an_image_and_its_mask_pair_across_formats(self, tmp_path):
        stems = {relative_stem(tmp_path / f"a.b{s}", tmp_path).as_posix() for s in (*READERS, ".ome.tif", ".OME.TIFF", ".NII.GZ")}
        assert stems == {"a.b"}


class TestListing:
    def test_every_format_is_found_in_name_order(self, tmp_path):
        wanted = sorted([*(f"x{s}" for s in READERS), "b.PNG", "sub/c.TIFF", "sub/deeper/a.nii.gz"])
        others = [".hidden.png", ".folder/d.png", "sub/._c.tif", "notes.txt", "a.czi", "a.gz"]
        touch(*(tmp_path / n for n in (*wanted, *others)))
        (tmp_path / "folder.png").mkdir()
        assert sorted(names(list_images(tmp_path), tmp_path)) == wanted
        assert list_images(tmp_path) == sorted(list_images(tmp_path))

    def test_what_is_not_there(self, tmp_path):
        for path in (tmp_path / "no", tmp_path / "no" / "a.png", tmp_path / ("x" * 300), "a\0b"):
            with pytest.raises(MissingPathError):
                list_images(path)
        assert list_unread(tmp_path / "no") == []

    def test_a_file_is_itself(self, tmp_path):
        touch(tmp_path / "a.czi")
        assert list_images(tmp_path / "a.czi") == [tmp_path / "a.czi"]

    def test_unread_files_are_listed_and_bystanders_are_not(self, tmp_path):
        strange = sorted(["a.czi", "a.gz", "b.webp", "no suffix", "sub/x.foo"])
        touch(*(tmp_path / n for n in strange), tmp_path / "Thumbs.db", tmp_path / "Desktop.ini", tmp_path / ".DS_Store",
              tmp_path / "a.png", *(tmp_path / f"beside{s}" for s in BYSTANDERS if s.startswith(".")))
        assert sorted(names(list_unread(tmp_path), tmp_path)) == strange

    def test_outlines_are_annotations_and_other_archives_are_unread(self, tmp_path):
        roifile.roiwrite(tmp_path / "RoiSet.zip", [roifile.ImagejRoi.frompoints(np.array([[1.0, 1], [5, 1], [5, 5]]))])
        with gzip.open(tmp_path / "cells.geojson.gz", "wb") as file:
            file.write(b'{"type": "FeatureCollection", "features": []}')
        with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
            archive.writestr("a.png", b"x")
        touch(tmp_path / "empty.zip", tmp_path / "a.roi", tmp_path / "a.geojson")
        (tmp_path / "gone.zip").symlink_to(tmp_path / "nowhere.zip")
        assert names(list_unread(tmp_path), tmp_path) == ["empty.zip", "gone.zip", "images.zip"]

    def test_a_folder_of_blocks_is_one_thing(self, tmp_path):
        touch(*(tmp_path / n for n in ("a.ome.zarr/0/0/0.0", "a.ome.zarr/0/thumbnail.png", "b.zarr/c/0")))
        assert names(list_unread(tmp_path), tmp_path) == ["a.ome.zarr", "b.zarr"]
        assert list_images(tmp_path) == []
        for path in (tmp_path / "a.ome.zarr", tmp_path / "b.zarr"):
            for read in (list_images, open_stored):
                with pytest.raises(ReadError) as caught:
                    read(path)
                assert "OME-TIFF" in caught.value.fix

    def test_names_that_are_no_utf8(self, tmp_path):
        path = tmp_path / os.fsdecode(b"zell\xe4.png")
        try:
            touch(path)
        except OSError:
            pytest.skip("this disk takes UTF-8 only")
        assert list_images(tmp_path) == [path]
        assert relative_stem(path, tmp_path).name == os.fsdecode(b"zell\xe4")

    def test_a_thousand_folders_deep(self, tmp_path):
        deep = tmp_path.joinpath(*["d"] * 300)
        touch(deep / "a.png")
        assert list_images(tmp_path) == [deep / "a.png"]


class TestLinks:
    def test_a_loop_of_folders_ends(self, tmp_path, time_limit):
        touch(tmp_path / "a" / "x.png", tmp_path / "b" / "y.png")
        (tmp_path / "a" / "up").symlink_to(tmp_path)
        (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
        (tmp_path / "a" / "b").symlink_to(tmp_path / "b")
        (tmp_path / "b" / "a").symlink_to(tmp_path / "a")
        (tmp_path / "root").symlink_to("/")
        with time_limit(5):
            assert names(list_images(tmp_path), tmp_path) == ["a/x.png", "b/y.png"]
            assert names(list_unread(tmp_path), tmp_path) == ["a/self"]

    def test_links_that_lead_out_are_followed_once(self, tmp_path):
        touch(tmp_path / "disk" / "1.png", tmp_path / "disk" / "sub" / "2.png")
        (tmp_path / "disk" / "back").symlink_to(tmp_path / "disk")
        (tmp_path / "data").mkdir()
        for name in ("one", "two"):
            (tmp_path / "data" / name).symlink_to(tmp_path / "disk")
        found = list_images(tmp_path / "data")
        assert [p.name for p in found] == ["1.png", "2.png"]

    def test_a_folder_that_is_itself_a_link(self, tmp_path):
        touch(tmp_path / "disk" / "1.png")
        (tmp_path / "data").symlink_to(tmp_path / "disk")
        assert list_images(tmp_path / "data") == [tmp_path / "data" / "1.png"]

    def test_broken_links_to_files_are_listed_so_that_they_are_missed(self, tmp_path):
        """As git-annex leaves them where the content was not fetched."""
        (tmp_path / "a.png").symlink_to(tmp_path / ".git" / "annex" / "x.png")
        (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
        assert names(list_images(tmp_path), tmp_path) == ["a.png", "loop.png"]
        for path in list_images(tmp_path):
            with pytest.raises(MissingPathError):
                open_stored(path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
    def test_pipes_are_no_images(self, tmp_path, time_limit):
        os.mkfifo(tmp_path / "a.png")
        with time_limit(5):
            assert list_images(tmp_path) == []

    def test_a_folder_that_may_not_be_listed(self, tmp_path, monkeypatch):
        (tmp_path / "closed").mkdir()
        real = os.scandir

        def refuse(path):
            if os.fspath(path).endswith("closed"):
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(ReadError, match="closed: may not be read"):
            list_images(tmp_path)


class TestWays:
    @pytest.mark.parametrize(("suffix", "way"), [
        (".czi", "bfconvert IN.czi"), (".nd2", "Bio-Formats"), (".lif", "Bio-Formats"), (".oib", "bfconvert IN.oib"),
        (".ims", "Imaris"), (".svs", "QuPath"), (".scn", "QuPath"), (".mrxs", "QuPath"), (".vsi", "QuPath"),
        (".dcm", "dcm2niix"), (".zarr", "zarr.open"), (".h5", "h5py"), (".hdf5", "ilastik"), (".mha", "sitk.WriteImage"),
        (".nrrd", "3D Slicer"), (".webp", "mogrify -format png *.webp"), (".gif", "PNG"), (".heic", "PNG"), (".ser", "TIA"),
        (".stk", "MetaMorph"), (".dv", "DeltaVision"), (".mrc", "bfconvert IN.mrc"), (".zip", "unpack"), (".rar", "unpack"),
        (".7z", "unpack"), (".psd", "PNG"), (".ai", "PNG"), (".pdf", "export"), (".npz", "np.save"), (".mat", "imwrite"),
        (".tif.gz", "gunzip"), (".tar.gz", "tar xf"), (".img", ".nii.gz")])
    def test_a_format_that_is_not_read_names_the_way(self, tmp_path, suffix, way):
        touch(tmp_path / f"a{suffix}")
        for read in (open_stored, lambda p: open_stored(p, as_labels=True)):
            with pytest.raises(ReadError, match="is not read") as caught:
                read(tmp_path / f"a{suffix}")
            assert way in caught.value.fix
            assert ".png, " in caught.value.fix
        assert way in way_for(tmp_path / f"a{suffix}")
        assert way in way_for(tmp_path / f"A{suffix.upper()}")

    @pytest.mark.parametrize("name", ["a.foo", "a", "a.png.bak"])
    def test_an_unknown_suffix_lists_what_is_read(self, tmp_path, name):
        touch(tmp_path / name)
        with pytest.raises(ReadError, match="is not read") as caught:
            open_stored(tmp_path / name)
        assert all(suffix in caught.value.fix for suffix in READERS)

    def test_no_format_is_both(self):
        assert not set(READERS) & set(UNREAD)
        assert all(s.startswith(".") and s == s.lower() and UNREAD[s] for s in UNREAD)


class TestTexts:
    @pytest.mark.parametrize(("name", "content", "listed"), [
        ("LICENSE", b"MIT", False), ("README", "Züge\n".encode(), False), ("Makefile", b"all:\n\tmake\n", False),
        ("sub/NOTICE", b"of the authors", False), ("IM000001", b"\0" * 128 + b"DICM", True), ("scan", b"\x93NUMPY\x01\0", True),
        ("empty", b"", True), ("text.foo", b"some text\n", True)])
    def test_without_a_suffix_are_bystanders(self, tmp_path, name, content, listed):
        touch(tmp_path / name)
        (tmp_path / name).write_bytes(content)
        assert names(list_unread(tmp_path), tmp_path) == ([name] if listed else [])


class TestYolo:
    @pytest.mark.parametrize("text", ["0 0.1 0.1 0.2 0.2\n", "3 .5 .5 1 1\n\n0 0.25 0.75 0.1 0.001\n", "0 0 0 1 0 1 1 0 1.0000001",
                                      "0 0.5 0.5 0.1 0.1 0.98\n", "0 0.1 0.1 0.2 0.2\n" * 9000])
    def test_labels_called_as_images(self, tmp_path, text):
        touch(tmp_path / "images" / "a.b.PNG", tmp_path / "labels" / "a.b.txt", tmp_path / "notes.txt")
        (tmp_path / "labels" / "a.b.txt").write_text(text)
        (tmp_path / "labels" / "other.txt").write_text(text)
        assert yolo_labels(tmp_path) == [tmp_path / "labels" / "a.b.txt"]
        assert list_unread(tmp_path) == []

    @pytest.mark.parametrize("content", [b"", b"\n\n", b"a cell of five words\n", b"0 0.1 0.1 0.2\n", b"0 120 34 56 78\n",
                                         b"0.5 0.1 0.1 0.2 0.2\n", b"0 0.1 0.1 0.2 0.2\nremark\n", b"0 nan 0.1 0.2 0.2\n",
                                         "٣ 0.1 0.1 0.2 0.2\n".encode(), bytes(range(256))])
    def test_other_texts(self, tmp_path, content):
        touch(tmp_path / "a.png")
        (tmp_path / "a.txt").write_bytes(content)
        assert yolo_labels(tmp_path) == []

    def test_nothing_there(self, tmp_path):
        assert yolo_labels(tmp_path / "no") == []
        assert "COCO" in YOLO_WAY
