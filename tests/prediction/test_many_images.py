"""Many images: a killed run goes on where it was, and each image costs as much as the first."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from biomask import api
from biomask.api import PredictOptions
from biomask.io.files import write_picture
from biomask.prediction.record import JOURNAL, Record
from biomask.prediction.summary import write_images_csv

CPU = PredictOptions(device="cpu")
FACTS = {"command": "predict", "model_sha256": "x"}


def state(out: Path) -> tuple[dict, Counter, set[str]]:
    """(run.json's images without times, rows of each image, rows of images.csv)."""
    images = json.loads((out / "run.json").read_text())["images"]
    with (out / "objects.csv").open() as file:
        rows = Counter(row["image"] for row in csv.DictReader(file))
    with (out / "images.csv").open() as file:
        table = {row["image"] for row in csv.DictReader(file)}
    return {name: {k: v for k, v in entry.items() if k != "seconds"} for name, entry in images.items()}, rows, table


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_run_of_60_images_goes_on(tmp_path, rule_model, draw_scene):
    model = rule_model(tmp_path / "m", "instances")
    for i in range(60):
        write_picture(tmp_path / "images" / f"{i:02d}.png", draw_scene(i, (30, 34), 2))
    out = tmp_path / "out"
    run = subprocess.Popen([sys.executable, "-m", "biomask", "predict", str(model), str(tmp_path / "images"), "-o", str(out),
                            "--device", "cpu"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = out / JOURNAL
    try:
        until = time.monotonic() + 600
        while run.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"\n") >= 5):
            assert time.monotonic() < until, "nothing was done in 10 minutes"
            time.sleep(0.005)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    done = journal.read_bytes().count(b"\n") if journal.is_file() else 60  # a fast machine was through already
    result = api.predict(model, tmp_path / "images", out, CPU)
    assert len(result.done) + len(result.skipped) == 60
    assert done <= len(result.skipped) <= done + 1
    assert not journal.exists()
    straight = api.predict(model, tmp_path / "images", tmp_path / "straight", CPU).out
    assert state(out) == state(straight)
    assert not list(out.rglob("*.part*"))


class TestJournal:
    def test_each_image_is_one_line_and_run_json_is_left_alone(self, tmp_path):
        record = Record(tmp_path, FACTS, overwrite=False)
        before = record.path.read_bytes()
        for i in range(50):
            record.done(f"im {i}", {"size": [i]})
        assert record.path.read_bytes() == before
        assert len((tmp_path / JOURNAL).read_text().splitlines()) == 50
        record.write()
        assert not (tmp_path / JOURNAL).exists()
        assert len(json.loads(record.path.read_text())["images"]) == 50

    @pytest.mark.parametrize("cut", [0, 1, 20])
    def test_what_was_cut_off_is_not_done(self, tmp_path, cut):
        record = Record(tmp_path, FACTS, overwrite=False)
        for name in ("a", "zell\udce4", "细胞"):
            record.done(name, {"size": [1]})
        text = (tmp_path / JOURNAL).read_bytes()
        (tmp_path / JOURNAL).write_bytes(text[: len(text) - cut])
        again = Record(tmp_path, FACTS, overwrite=False)
        assert list(again.content["images"]) == ["a", "zell\udce4", "细胞"][: 3 if cut <= 1 else 2]

    def test_what_failed_later_is_not_done(self, tmp_path):
        record = Record(tmp_path, FACTS, overwrite=False)
        record.done("a", {"size": [1]})
        record.done("b", {"size": [2]})
        record.failed("a", "broken")
        assert list(Record(tmp_path, FACTS, overwrite=False).content["images"]) == ["b"]

    def test_overwrite_forgets_it(self, tmp_path):
        Record(tmp_path, FACTS, overwrite=False).done("a", {"size": [1]})
        assert Record(tmp_path, {**FACTS, "model_sha256": "y"}, overwrite=True).content["images"] == {}
        assert not (tmp_path / JOURNAL).exists()


def test_a_table_whose_images_differ_has_all_columns(tmp_path):
    write_images_csv(tmp_path / "images.csv", {"a": {"summary": {"pixels": 4, "objects": 1}, "warnings": ["x", "y"]},
                                               "b": {"summary": {"pixels": 9, "area_um2_mean": 0.125}}, "old": {}})
    with (tmp_path / "images.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["image", "pixels", "objects", "area_um2_mean", "warnings"], ["a", "4", "1", "", "x; y"],
                                          ["b", "9", "", "0.125", ""], ["old", "", "", "", ""]]
