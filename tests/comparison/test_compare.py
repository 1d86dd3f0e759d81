"""`compare` over files and processes: splits that are kept, kills, external predictions, the table and the page."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from biomask import api
from biomask.api import CompareOptions
from biomask.checkpoint import load_model
from biomask.cli import main
from biomask.comparison.cell import RESULT_FILE, run_cell
from biomask.comparison.cells import plan_cells
from biomask.comparison.run import RECORD_FILE
from biomask.comparison.splits import Splits
from biomask.comparison.splits import TestSplit as Split
from biomask.errors import InputError, ManyErrors, UsageError
from biomask.progress import Silent
from biomask.recipe import Recipe
from biomask.training.lock import locked

SMALL = ("network.options.width=2", "network.options.depth=1", "training.batch=2", "training.patch=[32, 32]",
         "training.validations=1", "prediction.augment=none")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A recipe file: the default, small."""
    path = tmp_path_factory.mktemp("recipe") / "narrow.yaml"
    path.write_text(Recipe(name="narrow").with_settings([*SMALL, "network.options.norm=batch"]).to_yaml(), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "wide.yaml"
    path.write_text(Recipe(name="wide").with_settings([*SMALL, "network.options.width=3"]).to_yaml(), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_data, narrow, wide):
    """Two recipes on two folds. Read it, don't write to it."""
    out = tmp_path_factory.mktemp("compared") / "out"
    api.compare(tiny_data, [narrow, wide], out, CompareOptions(steps=2, folds=2, device="cpu"))
    return out


class TestFinished:
    def test_every_image_is_judged_by_a_model_that_never_saw_it(self, finished):
        record = json.loads((finished / RECORD_FILE).read_text())
        judged = [n for fold in record["judged"] for n in fold]
        assert sorted(judged) == [f"im_{n:02d}" for n in range(4)]
        for fold, names in enumerate(record["judged"], start=1):
            cell = finished / "cells" / "narrow" / "seed-0" / f"fold-{fold}"
            assert sorted(json.loads((cell / "out" / "run.json").read_text())["images"]) == sorted(names)
            trained = {k.split(" ")[0].split("/")[0].split(":")[0] for k in load_model(cell / "model").header.data_hashes}
            assert not any(n in t for n in names for t in trained)
            assert json.loads((cell / "out" / "run.json").read_text())["trained_on"] == []

    def test_the_score_is_that_of_evaluate(self, finished, tiny_data):
        record = json.loads((finished / RECORD_FILE).read_text())
        for row in record["rows"]:
            found = api.evaluate(finished / "predictions" / f"{row['name']}-seed-0", tiny_data)
            assert row["score"] == pytest.approx(found.mean["dice"])
            assert found.n_images == 4

    def test_costs_are_counted(self, finished):
        rows = {r["name"]: r["costs"] for r in json.loads((finished / RECORD_FILE).read_text())["rows"]}
        assert rows["narrow"]["parameters"] < rows["wide"]["parameters"]
        assert rows["narrow"]["flops"] < rows["wide"]["flops"]
        for costs in rows.values():
            assert costs["steps"] == 2
            assert costs["trainings"] == 2
            assert costs["training_seconds"] > 0
            assert costs["peak_bytes"] is None or costs["peak_bytes"] > 1e7

    def test_the_table_as_csv(self, finished):
        with (finished / "comparison.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [r["name"] for r in rows] == ["narrow", "wide"]
        assert rows[0]["difference"] == ""
        assert 0 <= float(rows[1]["p_holm"]) <= 1

    def test_the_page(self, finished):
        page = (finished / "report.html").read_text(encoding="utf-8")
        for said in ("narrow", "wide", "What it costs", "Side by side", "Each image", "errors of wide", "p (Holm)", "2 folds"):
            assert said in page
        assert "mathdefault" not in page
        interval = json.loads((finished / RECORD_FILE).read_text())["rows"][1]["interval"]
        assert f"{interval['low']:.3f} to {interval['high']:.3f}" in page

    def test_run_again_nothing_is_trained(self, finished, tiny_data, narrow, wide, tmp_path):
        shutil.copytree(finished, tmp_path / "out")
        times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "cells").rglob(RESULT_FILE)}
        assert len(times) == 4
        again = api.compare(tiny_data, [narrow, wide], tmp_path / "out", CompareOptions(steps=2, folds=2, device="cpu"))
        assert {p: p.stat().st_mtime_ns for p in times} == times
        assert again["rows"] == json.loads((finished / RECORD_FILE).read_text())["rows"]

    def test_other_settings_are_refused_and_predictions_of_others_are_added(self, finished, tiny_data, narrow, wide, tmp_path):
        shutil.copytree(finished, tmp_path / "out")
        with pytest.raises(InputError, match=r"other settings or data .*steps"):
            api.compare(tiny_data, [narrow, wide], tmp_path / "out", CompareOptions(steps=3, folds=2, device="cpu"))
        with pytest.raises(InputError, match="recipe narrow"):
            api.compare(tiny_data, [narrow], tmp_path / "out", CompareOptions(steps=2, folds=2, device="cpu"),
                        settings=["training.lr=1"])
        shutil.copytree(tiny_data / "masks", tmp_path / "perfect")
        perfect = {"perfect": tmp_path / "perfect"}
        record = api.compare(tiny_data, [narrow, wide], tmp_path / "out", CompareOptions(steps=2, folds=2, external=perfect))
        row = record["rows"][2]
        assert (row["name"], row["score"], row["external"], row["by_seed"], row["costs"]) == ("perfect", 1.0, True, [1.0], None)


def test_seeds_and_sizes_make_cells():
    split = Split(tuple("abcdef"), ("t",))
    options = CompareOptions(seeds=(0, 1), sizes=(2, 4, 6))
    cells = plan_cells([Recipe(name="a"), Recipe(name="b")], Splits((split, split), ""), options)
    assert len({c.place for c in cells}) == len(cells) == 2 * 2 * 2 * 3  # six images are all of them
    assert {len(c.split.train) for c in cells if c.size == 4} == {4}
    with pytest.raises(UsageError, match="a training has 6 images"):
        plan_cells([Recipe(name="a")], Splits((split,), ""), CompareOptions(sizes=(7,)))


@pytest.mark.slow
def test_a_learning_curve_with_its_forecast(tmp_path, make_dataset, narrow):
    data = make_dataset(tmp_path / "data", n=8)
    record = api.compare(data, [narrow], tmp_path / "out", CompareOptions(steps=2, folds=2, sizes=(2,), device="cpu"))
    curve = record["curve"]["narrow"]
    assert [p["images"] for p in curve["points"]] == [2, 4]
    assert [t["images"] for t in curve["forecast"]["targets"]] == [8, 16, 32]
    assert "How many more images?" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_test_part_is_what_is_judged(tmp_path, make_dataset, narrow):
    make_dataset(tmp_path / "all", n=5)
    for n in range(5):
        for kind in ("images", "masks"):
            place = tmp_path / "data" / ("test" if n > 2 else "train") / kind
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "all" / kind / f"im_{n:02d}.png", place)
    record = api.compare(tmp_path / "data", [narrow], tmp_path / "out", CompareOptions(steps=2, device="cpu"))
    assert record["splits"] == "trained on 3 images, judged by the 2 of the data's test part"
    assert sorted(i["name"] for i in record["images"]) == ["im_03", "im_04"]


def test_a_training_that_fails_is_named_and_the_others_are_kept(tmp_path, tiny_data, narrow):
    broken = tmp_path / "broken.yaml"
    broken.write_text(Recipe(name="broken").with_settings([*SMALL, "network.options.colour=red"]).to_yaml(), encoding="utf-8")
    with pytest.raises(ManyErrors, match="2 trainings failed") as found:
        api.compare(tiny_data, [narrow, str(broken)], tmp_path / "out", CompareOptions(steps=2, folds=2, device="cpu"))
    assert "colour" in str(found.value)
    record = json.loads((tmp_path / "out" / RECORD_FILE).read_text())
    assert [r["name"] for r in record["rows"]] == ["narrow"]
    assert len(record["failed"]) == 2
    assert "What failed" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_another_comparison_at_once_is_refused(tmp_path, tiny_data, narrow):
    with locked(tmp_path / "out" / "cells"), pytest.raises(InputError, match="writing into this folder now"):
        api.compare(tiny_data, [narrow], tmp_path / "out", CompareOptions(steps=2))


def test_what_was_trained_otherwise_is_noticed_after_other_recipes_were_compared(finished, tiny_data, narrow, tmp_path):
    """The record names the recipes of the last time; each training knows its own."""
    shutil.copytree(finished, tmp_path / "out")
    record = json.loads((tmp_path / "out" / RECORD_FILE).read_text())
    record["recipes"] = {}
    (tmp_path / "out" / RECORD_FILE).write_text(json.dumps(record))
    with pytest.raises(InputError, match="recipe narrow"):
        api.compare(tiny_data, [narrow], tmp_path / "out", CompareOptions(steps=2, folds=2, device="cpu"),
                    settings=["training.lr=1"])


def test_overwrite_forgets_only_what_is_its_own(finished, tiny_data, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    shutil.copytree(tiny_data / "masks", tmp_path / "theirs")
    api.compare(tiny_data, [], tmp_path / "out", CompareOptions(external={"theirs": tmp_path / "theirs"}, folds=2, overwrite=True))
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    assert not list((tmp_path / "out").glob("cells/*/"))


def test_a_folder_of_something_else_is_refused(tmp_path, tiny_data, narrow):
    (tmp_path / "out" / "predictions").mkdir(parents=True)
    with pytest.raises(InputError, match="did not write"):
        api.compare(tiny_data, [narrow], tmp_path / "out", CompareOptions(steps=2))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / RECORD_FILE).write_text("{}")
    with pytest.raises(InputError, match="not a record"):
        api.compare(tiny_data, [narrow], tmp_path / "other", CompareOptions(steps=2))
    with pytest.raises(UsageError, match="lies in the data folder"):
        api.compare(tiny_data, [narrow], tiny_data / "out", CompareOptions(steps=2))


def test_external_predictions_that_lack_images_are_named(tmp_path, tiny_data):
    (tmp_path / "theirs").mkdir()
    shutil.copy(tiny_data / "masks" / "im_00.png", tmp_path / "theirs")
    with pytest.raises(InputError, match="predictions of external theirs cannot be judged"):
        api.compare(tiny_data, [], tmp_path / "out", CompareOptions(external={"theirs": tmp_path / "theirs"}))


def test_others_alone_are_compared_without_training(tmp_path, tiny_data):
    for name in ("a", "b"):
        shutil.copytree(tiny_data / "masks", tmp_path / name)
    assert main(["compare", str(tiny_data), "-o", str(tmp_path / "out"), "--recipes", "none", "--external",
                 f"one={tmp_path / 'a'}", "--external", f"two={tmp_path / 'b'}"]) == 0
    rows = json.loads((tmp_path / "out" / RECORD_FILE).read_text())["rows"]
    assert [(r["name"], r["score"]) for r in rows] == [("one", 1.0), ("two", 1.0)]
    assert not (tmp_path / "out" / "cells").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_survives_being_stopped_or_killed(tmp_path, tiny_data, narrow, number):
    """What ran ends with it, nothing is lost, and the same line goes on."""
    line = [sys.executable, "-m", "biomask", "compare", str(tiny_data), "-o", str(tmp_path / "out"), "--recipes", narrow,
            "--steps", "4000", "--folds", "2", "--device", "cpu"]
    state = tmp_path / "out" / "cells" / "narrow" / "seed-0" / "fold-1" / "model" / "resume" / "state.safetensors"
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
        while not state.is_file() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(number)
        code = process.wait()
    assert code == (3 if number == signal.SIGTERM else -9)
    cell = state.parents[2]
    while _holds(cell):
        time.sleep(0.1)  # until it has saved
    log = (cell / "log.txt").read_text()
    assert "Traceback" not in log
    assert not (cell / RESULT_FILE).exists()
    told = json.loads((cell / "cell.json").read_text())
    told["recipe"]["training"]["steps"] = 1  # enough to see that it goes on rather than begins
    (cell / "cell.json").write_text(json.dumps(told))

    heard = list[str]()

    class Heard(Silent):
        def say(self, message):
            heard.append(message)

    run_cell(cell, Heard())
    assert any("resuming at step" in m for m in heard)
    assert (cell / RESULT_FILE).is_file()


def _holds(cell) -> bool:
    """Whether a process still trains there."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(cell / "model" / "resume" / "lock", timeout=0):
            return False
    except Timeout:
        return True


def test_the_command_prints_the_table(finished, tiny_data, narrow, wide, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "out")
    line = ["compare", str(tiny_data), "-o", str(tmp_path / "out"), "--recipes", f"{narrow},{wide}", "--steps", "2", "--folds", "2",
            "--device", "cpu"]
    assert main([*line, "--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["metric"] == "dice"
    capsys.readouterr()
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert "less narrow" in shown
    assert "wide" in shown


@pytest.mark.parametrize(("more", "said"), [
    (["--folds", "x"], "neither a number nor loo"), (["--seeds", "a"], "not whole numbers"),
    (["--images", "5,-2"], "not whole numbers"),
    (["--external", "x"], "not NAME=FOLDER"), (["--external", "a=b", "--external", "a=c"], "given twice"),
    (["--recipes", "no-such"], "no-such"), (["--minutes", "1", "--steps", "2"], "exclude each other"),
    (["--splits", "nowhere.json"], "nowhere.json")])
def test_wrong_lines(tmp_path, tiny_data, capsys, more, said):
    assert main(["compare", str(tiny_data), "-o", str(tmp_path / "out"), *more]) in (1, 2)
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
