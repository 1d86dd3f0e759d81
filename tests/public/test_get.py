"""What can be fetched, and fetching it from a server of our own into the folder that the user names."""

import hashlib
import io
import json
import re
import shlex
import zipfile
from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType
from urllib.parse import urlsplit

import pytest

from biomask import recipes
from biomask.cli import main
from biomask.errors import NetworkError, ReadError, UsageError, WriteError
from biomask.io.download import Checksum
from biomask.models import DETECTORS, MODELS
from biomask.public import OFFERS, catalogue, get, offer

QUICK = {"pauses": ()}


def packed(files):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return made.getvalue()


WEIGHTS = bytes(range(256)) * 100
ARCHIVES = {"/images.zip": packed({"images/a.png": "i", "images/._a.png": "m"}), "/masks.zip": packed({"masks/a.png": "m"})}


@pytest.fixture
def offers(web, monkeypatch):
    """resnet18 and dsb2018 come from a server of our own; nothing else can be reached."""
    found = {}
    weights = offer("resnet18")
    digits = hashlib.sha256(WEIGHTS).hexdigest()[:8]
    file = replace(weights.files[0], url=web.add(f"/resnet18-{digits}.pth", WEIGHTS), checksum=Checksum(digits))
    found["resnet18"] = replace(weights, files=(file,))
    data = offer("dsb2018")
    found["dsb2018"] = replace(data, files=tuple(replace(data.files[0], url=web.add(path, content))
                                                 for path, content in ARCHIVES.items()), use="biomask check {path}")
    monkeypatch.setattr(catalogue, "OFFERS", MappingProxyType(found))
    monkeypatch.setattr(catalogue, "WEIGHTS", (found["resnet18"],))
    return found


def below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


class TestCatalogue:
    @pytest.mark.parametrize("o", OFFERS.values(), ids=lambda o: o.name)
    def test_each_can_be_fetched_as_it_says(self, o):
        assert o.name == o.name.lower()
        assert o.files
        assert o.what
        assert o.licence
        assert o.source.startswith("http")
        assert o.use.startswith(("biomask train ", "biomask check "))
        assert "{path}" in o.use
        for file in o.files:
            assert urlsplit(file.url).scheme in ("http", "https")
            if file.checksum is None:
                assert o.kind == "data"
            else:
                longest = {"sha256": 64, "md5": 32}[file.checksum.kind]
                assert re.fullmatch(rf"[0-9a-f]{{8,{longest}}}", file.checksum.digits)
                assert len(file.checksum.digits) == longest or o.kind == "weights"
        assert o.kind == "weights" or all(f.name.endswith((".zip", ".tar")) for f in o.files)

    def test_the_digits_of_weights_are_in_their_names(self):
        for o in OFFERS.values():
            if o.kind == "weights":
                assert o.files[0].name.endswith(f"-{o.files[0].checksum.digits}.pth")
                assert o.files[0].url.startswith("https://download.pytorch.org/models/")

    @pytest.mark.parametrize("o", [o for o in OFFERS.values() if o.kind == "weights"], ids=lambda o: o.name)
    def test_weights_are_for_a_recipe_with_settings_that_it_has(self, o):
        words = shlex.split(o.use)
        settings = [b for a, b in pairwise(words) if a == "--set"]
        recipe = recipes.get(words[words.index("--recipe") + 1]).with_settings(settings)
        assert recipe.network.name in (*MODELS, *DETECTORS)

    def test_names_in_other_spellings(self):
        assert offer("DIC-C2DH-HeLa").name == "dic-c2dh-hela"
        assert offer("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth").name == "maskrcnn_resnet50_fpn"

    def test_names_that_are_not_known(self):
        with pytest.raises(UsageError, match="did you mean resnet50"):
            offer("resnet5O")
        with pytest.raises(UsageError, match="biomask datasets lists all"):
            offer("???")


class TestWeights:
    def test_arrive_with_a_record(self, offers, tmp_path):
        got = get("resnet18", tmp_path / "weights", **QUICK)
        assert got.path.read_bytes() == WEIGHTS
        assert below(tmp_path / "weights") == [got.path.name, got.record.name]
        record = json.loads(got.record.read_text())
        assert record["files"] == [{"url": offers["resnet18"].files[0].url, "bytes": len(WEIGHTS), "verified": True,
                                    "sha256": hashlib.sha256(WEIGHTS).hexdigest()}]
        assert record["licence"].startswith("BSD-3-Clause")
        assert str(got.path) in got.next
        assert got.notes == ()

    def test_are_not_fetched_twice(self, offers, web, tmp_path):
        get("resnet18", tmp_path, **QUICK)
        web.asked.clear()
        assert get("resnet18", tmp_path, **QUICK).was_there
        assert web.asked == []

    def test_brought_by_other_means_are_checked_and_recorded(self, offers, web, tmp_path):
        (tmp_path / offers["resnet18"].files[0].name).write_bytes(WEIGHTS)
        got = get("resnet18", tmp_path, **QUICK)
        assert json.loads(got.record.read_text())["files"][0]["verified"]
        assert web.asked == []

    def test_another_file_of_that_name_is_refused_and_kept(self, offers, tmp_path):
        place = tmp_path / offers["resnet18"].files[0].name
        place.write_bytes(b"mine")
        with pytest.raises(ReadError, match="another file"):
            get("resnet18", tmp_path, **QUICK)
        assert place.read_bytes() == b"mine"

    def test_that_are_wrong_leave_nothing(self, offers, web, tmp_path):
        next(p for path, p in web.pages.items() if path.startswith("/resnet18")).content = b"something else"
        with pytest.raises(ReadError, match="not the file"):
            get("resnet18", tmp_path, **QUICK)
        assert below(tmp_path) == []


class TestData:
    def test_arrive_unpacked(self, offers, tmp_path):
        got = get("dsb2018", tmp_path, **QUICK)
        assert below(tmp_path) == ["dsb2018.source.json", "dsb2018/images/a.png", "dsb2018/masks/a.png"]
        assert got.next == f"biomask check {tmp_path / 'dsb2018'}"
        assert sum("not verified" in note for note in got.notes) == 2
        assert any(note.endswith("left out: 1") for note in got.notes)
        assert hashlib.sha256(ARCHIVES["/masks.zip"]).hexdigest() in got.record.read_text()

    def test_are_not_fetched_twice(self, offers, web, tmp_path):
        get("dsb2018", tmp_path, **QUICK)
        web.asked.clear()
        assert get("dsb2018", tmp_path, **QUICK).was_there
        assert web.asked == []

    def test_a_folder_of_the_users_own_is_left_alone(self, offers, web, tmp_path):
        (tmp_path / "dsb2018").mkdir()
        with pytest.raises(WriteError, match="not made by this command"):
            get("dsb2018", tmp_path, **QUICK)
        assert web.asked == []

    def test_a_broken_download_goes_on(self, offers, web, tmp_path):
        web.pages["/masks.zip"].cuts.append(40)
        with pytest.raises(NetworkError):
            get("dsb2018", tmp_path, **QUICK)
        assert not (tmp_path / "dsb2018").exists()
        web.asked.clear()
        get("dsb2018", tmp_path, **QUICK)
        assert web.asked == [("/masks.zip", "bytes=40-")]
        assert len(below(tmp_path)) == 3

    def test_an_archive_that_is_none_is_not_kept(self, offers, web, tmp_path):
        web.pages["/masks.zip"].content = b"<html>please log in"
        with pytest.raises(ReadError, match="no ZIP"):
            get("dsb2018", tmp_path, **QUICK)
        assert below(tmp_path) == []
        web.add("/masks.zip", ARCHIVES["/masks.zip"])
        get("dsb2018", tmp_path, **QUICK)
        assert len(below(tmp_path)) == 3

    def test_what_a_killed_run_had_unpacked_is_replaced(self, offers, tmp_path):
        (tmp_path / "dsb2018.unpacking").mkdir()
        (tmp_path / "dsb2018.unpacking" / "half").write_text("x")
        get("dsb2018", tmp_path, **QUICK)
        assert below(tmp_path) == ["dsb2018.source.json", "dsb2018/images/a.png", "dsb2018/masks/a.png"]


class TestCommand:
    def test_list(self, capsys):
        assert main(["datasets"]) == 0
        out = capsys.readouterr().out
        for o in OFFERS.values():
            line = next(line for line in out.splitlines() if line.split()[:1] == [o.name])
            assert o.licence in line
            assert line.endswith("not verified") != o.verified

    def test_list_as_json(self, capsys):
        assert main(["datasets", "--json", "-"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [o["name"] for o in found] == list(OFFERS)
        assert found[0]["urls"] == [OFFERS[found[0]["name"]].files[0].url]

    def test_get(self, offers, capsys, tmp_path):
        assert main(["datasets", "get", "resnet18", "dsb2018", "-o", str(tmp_path / "my files")]) == 0
        out, err = capsys.readouterr()
        assert "biomask check '" in out
        assert "not verified" in out
        assert "CC0" in err
        assert len(below(tmp_path / "my files")) == 5

    def test_get_as_json(self, offers, capsys, tmp_path):
        assert main(["datasets", "get", "resnet18", "-o", str(tmp_path), "--json", "-"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found[0]["path"] == str(tmp_path / offers["resnet18"].files[0].name)
        assert found[0]["was_there"] is False

    def test_a_name_spelt_wrong_stops_before_the_first_download(self, offers, web, capsys, tmp_path):
        assert main(["datasets", "get", "resnet18", "resnet19", "-o", str(tmp_path)]) == 2
        assert "did you mean resnet18" in capsys.readouterr().err
        assert web.asked == []

    def test_a_server_that_is_gone(self, offers, web, capsys, tmp_path):
        web.pages.clear()
        assert main(["datasets", "get", "resnet18", "-o", str(tmp_path)]) == 1
        assert "404" in capsys.readouterr().err
