"""Archives of strangers: plain files below the folder, or nothing."""

import io
import os
import stat
import tarfile
import zipfile
from collections import namedtuple

import numpy as np
import pytest

from biomask.errors import DiskFullError, ReadError
from biomask.io import archives
from biomask.io.archives import unpack

FILES = {"set/images/a.png": np.random.default_rng(0).bytes(70_000), "set/images/ä b.png": b"", "set/dataset.json": b"{}"}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.mkdir("set")
        for name, content in files.items():
            opened.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def make_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as opened:
        for name, content in files.items():
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


def below(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


MAKERS = {"zip": make_zip, "tar": make_tar, "tar.gz": lambda path, files: make_tar(path, files, "w:gz")}


@pytest.mark.parametrize("kind", MAKERS)
def test_there_and_back(tmp_path, kind):
    archive = MAKERS[kind](tmp_path / f"a.{kind}", FILES)
    found = unpack(archive, tmp_path / "out")
    assert below(tmp_path / "out") == FILES
    assert (found.files, found.size, found.left_out) == (3, 70_002, 0)


@pytest.mark.parametrize("kind", MAKERS)
def test_what_macos_adds_is_left_out_and_counted(tmp_path, kind):
    added = {"__MACOSX/set/a.png": b"x", "set/._a.png": b"x", "set/.DS_Store": b"x"}
    archive = MAKERS[kind](tmp_path / f"a.{kind}", {**FILES, **added})
    assert unpack(archive, tmp_path / "out").left_out == 3
    assert below(tmp_path / "out") == FILES


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["../out.txt", "set/../../out.txt", "/out.txt", "..\\out.txt", "C:/out.txt", "C:out.txt", "a/..",
                                  "."])
def test_nothing_leads_out_of_the_folder(tmp_path, kind, name):
    archive = MAKERS[kind](tmp_path / f"a.{kind}", {**FILES, name: b"mine"})
    with pytest.raises(ReadError, match="leads out"):
        unpack(archive, tmp_path / "deep" / "out")
    assert [p.name for p in tmp_path.rglob("*")] == [archive.name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_no_links_and_devices_in_tar(tmp_path, kind):
    info = tarfile.TarInfo("set/link")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(ReadError, match="link or a device"):
        unpack(make_tar(tmp_path / "a.tar", {**FILES, info: b""}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_links_in_zip(tmp_path):
    info = zipfile.ZipInfo("set/link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(ReadError, match="link or a device"):
        unpack(make_zip(tmp_path / "a.zip", {**FILES, info: b"/etc/passwd"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", MAKERS)
def test_a_bomb_is_refused_before_the_first_byte(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(archives, "ALLOWANCE", 10_000)
    archive = MAKERS[kind](tmp_path / f"a.{kind}", {"zeros": bytes(3_000_000), **FILES} if kind != "tar" else FILES)
    most = 50_000 if kind == "tar" else None  # a .tar is as large as what it holds
    with pytest.raises(ReadError, match="claims to hold more"):
        unpack(archive, tmp_path / "out", most=most)
    assert not (tmp_path / "out").exists()
    unpack(archive, tmp_path / "out", most=4_000_000)


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 2)
    with pytest.raises(ReadError, match="more than 2 files"):
        unpack(make_zip(tmp_path / "a.zip", FILES), tmp_path / "out")


def test_a_file_longer_than_it_says(tmp_path):
    """The size in the directory at the end of a ZIP is what is counted; the data are not to be longer."""
    path = make_zip(tmp_path / "a.zip", {"long": bytes(200_000)})
    raw = path.read_bytes()
    path.write_bytes(raw.replace((200_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(ReadError):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", MAKERS)
def test_damage_is_said(tmp_path, kind):
    archive = MAKERS[kind](tmp_path / f"a.{kind}", FILES)
    raw = bytearray(archive.read_bytes())
    at = raw.index(FILES["set/images/a.png"][:9]) if kind == "zip" and FILES["set/images/a.png"][:9] in raw else len(raw) // 3
    damaged = {"zip": raw[:at] + bytes(50) + raw[at + 50:], "tar": raw[:30_000], "tar.gz": raw[: len(raw) // 2]}[kind]
    archive.write_bytes(damaged)
    with pytest.raises(ReadError, match="no ZIP or TAR"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["xz", "gz"])
def test_damage_that_checksums_alone_show(tmp_path, kind):
    """Each compression has its own and its own error. Random bytes are stored as they are, so that others in their place unpack."""
    archive = make_tar(tmp_path / f"a.tar.{kind}", {"a": np.random.default_rng(0).bytes(3_000_000)}, f"w:{kind}")
    raw = bytearray(archive.read_bytes())
    raw[1_500_000:1_500_100] = bytes(100)
    archive.write_bytes(raw)
    with pytest.raises(ReadError, match="no ZIP or TAR"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"<!doctype html><p>Log in to use this network", bytes(2000)])
def test_no_archive_at_all(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    if content == bytes(2000):  # what tar calls an empty archive
        assert unpack(tmp_path / "a.zip", tmp_path / "out").files == 0
        return
    with pytest.raises(ReadError, match="no ZIP or TAR"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_encrypted(tmp_path):
    raw = bytearray(make_zip(tmp_path / "a.zip", {"a": b"secret"}).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.rindex(mark) + at] |= 1
    (tmp_path / "a.zip").write_bytes(raw)
    with pytest.raises(ReadError, match="encrypted"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_twice_the_same_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            opened.writestr("a", "2")
    with pytest.raises(ReadError, match="twice"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_the_disk_is_asked_first(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage(10**5, 10**5 - 100, 100))
    with pytest.raises(DiskFullError):
        unpack(make_zip(tmp_path / "a.zip", FILES), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no rights of this kind")
def test_rights_are_those_of_the_user(tmp_path):
    info = zipfile.ZipInfo("run.sh")
    info.create_system, info.external_attr = 3, (stat.S_IFREG | stat.S_ISUID | 0o777) << 16
    unpack(make_zip(tmp_path / "a.zip", {info: b"#!/bin/sh"}), tmp_path / "out")
    assert not (tmp_path / "out" / "run.sh").stat().st_mode & (stat.S_ISUID | 0o111)
