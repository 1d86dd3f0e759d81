"""Scores of challenges and papers (--metrics): which fit, that they are those of the arrays, and where they are shown."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage as ndi

from biomask import api
from biomask.cli import main
from biomask.errors import UsageError
from biomask.evaluation.evaluate import EvaluateOptions, evaluate
from biomask.evaluation.measures import MEASURES
from biomask.evaluation.options import METRICS
from biomask.io.files import write_mask, write_probabilities
from biomask.labels import Legend
from biomask.metrics import (
    article_scores,
    confusion_matrix,
    det,
    fcn_scores,
    isbi_scores,
    seg,
)
from biomask.recipe import DataSettings
from biomask.reports import evaluation_report

COUNT = 3
CELLS = Legend.of_values([0, 255], {255: "cell"})


def membranes(i: int) -> np.ndarray:
    """bool, True = cell: six of them."""
    truth = np.ones((24, 30), bool)
    truth[10 + i : 12 + i], truth[:, 9:11], truth[:, 20:22] = False, False, False
    return truth


def cell_map(i: int) -> np.ndarray:
    """Probabilities of cell, float32."""
    noise = np.random.default_rng(i).normal(0, 0.6, (24, 30))
    return ndi.gaussian_filter(membranes(i) + noise, 1.0).clip(0, 1).astype(np.float32)


def predicted(out: Path, maps: int = COUNT) -> Path:
    """OUT as `predict` leaves it; probabilities of the first so many images."""
    for folder in ("masks", "probabilities"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for i in range(COUNT):
        write_mask(out / "masks" / f"{i}.tif", np.uint8(255) * (cell_map(i) > 0.5), CELLS, None)
        if i < maps:
            both = np.stack([1 - cell_map(i), cell_map(i)])
            write_probabilities(out / "probabilities" / f"{i}.tif", both, "cyx", None, ("background", "cell"))
    channels = [{"value": 0, "name": "background"}, {"value": 255, "name": "cell"}]
    (out / "run.json").write_text(json.dumps({"command": "predict", "kind": "classes", "legend": CELLS.to_json(),
                                              "probability_channels": channels}))
    return out


def true_masks(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(COUNT):
        write_mask(folder / f"{i}.tif", np.uint8(255) * membranes(i), CELLS, None)
    return folder


def asked(*names: str) -> EvaluateOptions:
    return EvaluateOptions(metrics=names)


def objects(out: Path, truth: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Writes labels/ and masks/ of `predict`, and ids; one object missed, two merged."""
    frames = []
    for i in range(COUNT):
        true = ndi.label(membranes(i))[0].astype(np.uint16)
        found = np.where(true == 2, 1, true)
        found[found == 3 + i] = 0
        frames.append((true, found.astype(np.uint16)))
        for folder, array in ((out / "labels", frames[-1][1]), (out / "masks", np.uint8(found > 0)), (truth, true)):
            folder.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / f"{i}.tif", array)
    legend = Legend.of_values([0, 1], {1: "cell"})
    (out / "run.json").write_text(json.dumps({"command": "predict", "kind": "instances", "legend": legend.to_json()}))
    return frames


def test_every_name_has_a_measure_and_what_it_says():
    assert tuple(dict.fromkeys(name.partition("_")[0] for name in MEASURES)) == METRICS  # of COCO one of each kind
    assert all(m.title and m.scores and all(m.says) for m in MEASURES.values())


class TestScores:
    def test_none_is_computed_unasked(self, tmp_path):
        assert evaluate(predicted(tmp_path / "out"), true_masks(tmp_path / "t"))["metrics"] == {}

    def test_isbi_is_that_of_the_probabilities(self, tmp_path):
        got = evaluate(predicted(tmp_path / "out"), true_masks(tmp_path / "t"), options=asked("isbi"))["metrics"]
        assert list(got) == ["isbi"]
        want = isbi_scores(np.stack([membranes(i) for i in range(COUNT)]), np.stack([cell_map(i) for i in range(COUNT)]))
        assert got["isbi"]["pooled"] == pytest.approx({key: getattr(want, key) for key in got["isbi"]["scores"]})
        for i, row in enumerate(got["isbi"]["per_image"]):
            alone = isbi_scores(membranes(i), cell_map(i))
            assert row == {"name": str(i), **{key: pytest.approx(getattr(alone, key)) for key in got["isbi"]["scores"]}}
        assert [t["threshold"] for t in got["isbi"]["thresholds"]] == pytest.approx([n / 10 for n in range(10)])
        assert [t["rand_f"] for t in got["isbi"]["thresholds"]] == pytest.approx([level.rand_f for level in want.levels])

    def test_isbi_is_that_of_the_masks_where_an_image_lacks_probabilities(self, tmp_path):
        out, truth = predicted(tmp_path / "out", maps=COUNT - 1), true_masks(tmp_path / "t")
        got = evaluate(out, truth, options=asked("isbi"))["metrics"]["isbi"]
        stacks = (np.stack([membranes(i) for i in range(COUNT)]), np.stack([cell_map(i) > 0.5 for i in range(COUNT)]))
        want = isbi_scores(*stacks, (0.5,))
        assert got["pooled"] == pytest.approx({key: getattr(want, key) for key in got["scores"]})
        assert len(got["thresholds"]) == 1

    def test_fcn_is_that_of_all_pixels_together(self, tmp_path):
        got = evaluate(predicted(tmp_path / "out"), true_masks(tmp_path / "t"), options=asked("fcn"))["metrics"]["fcn"]
        each = [confusion_matrix(membranes(i).astype(int), (cell_map(i) > 0.5).astype(int), 2) for i in range(COUNT)]
        assert got["pooled"] == vars(fcn_scores(np.sum(each, axis=0)))
        accuracies = [fcn_scores(m).pixel_accuracy for m in each]
        assert got["mean"]["pixel_accuracy"] == pytest.approx(np.mean(accuracies))
        assert got["intervals"]["pixel_accuracy"] == {"low": min(accuracies), "high": max(accuracies), "kind": "range", "n": COUNT}

    def test_article_takes_each_image_for_a_batch(self, tmp_path):
        got = evaluate(predicted(tmp_path / "out"), true_masks(tmp_path / "t"), options=asked("article"))["metrics"]["article"]
        each = [article_scores(cell_map(i)[None], membranes(i)[None]) for i in range(COUNT)]
        assert got["pooled"] == pytest.approx({key: np.mean([getattr(e, key) for e in each]) for key in got["scores"]})
        assert got["pooled"]["dice_loss"] + got["pooled"]["dice"] == pytest.approx(1)

    def test_article_without_probabilities_says_how_to_have_them(self, tmp_path):
        out = predicted(tmp_path / "out")
        shutil.rmtree(out / "probabilities")
        with pytest.raises(UsageError, match="it needs probabilities") as caught:
            evaluate(out, true_masks(tmp_path / "t"), options=asked("article"))
        assert "--probabilities" in caught.value.fix

    def test_article_finds_structures_by_their_names(self, tmp_path):
        legend, out = Legend.of_values([0, 1, 2], {1: "cup", 2: "disc"}), tmp_path / "out"
        truth = {"disc": [membranes(i) for i in range(COUNT)], "cup": [np.roll(membranes(i), 3, 1) for i in range(COUNT)]}
        maps = [np.stack([cell_map(i), cell_map(i + 5)]) for i in range(COUNT)]
        for k, name in enumerate(("disc", "cup")):
            for i in range(COUNT):
                for folder, array in ((tmp_path / "t" / name, truth[name][i]), (out / "masks" / name, maps[i][k] > 0.5)):
                    folder.mkdir(parents=True, exist_ok=True)
                    write_mask(folder / f"{i}.tif", np.uint8(255) * array, CELLS, None)
        (out / "probabilities").mkdir()
        for i in range(COUNT):
            write_probabilities(out / "probabilities" / f"{i}.tif", maps[i], "cyx", None, ("disc", "cup"))
        (out / "run.json").write_text(json.dumps({"command": "predict", "kind": "multilabel", "legend": legend.to_json(),
                                                  "probability_channels": [{"value": 1, "name": n} for n in ("disc", "cup")]}))
        got = evaluate(out, tmp_path / "t", options=asked("article"))
        want = [article_scores(maps[i], np.stack([truth["disc"][i], truth["cup"][i]])) for i in range(COUNT)]
        assert got["kind"] == "multilabel"
        assert got["metrics"]["article"]["pooled"] == pytest.approx(
            {key: np.mean([getattr(w, key) for w in want]) for key in ("iou", "dice_loss", "dice", "bce")})

    def test_ctc_is_of_all_objects_together(self, tmp_path):
        frames = objects(tmp_path / "out", tmp_path / "t")
        got = evaluate(tmp_path / "out", tmp_path / "t", options=asked("ctc"))["metrics"]["ctc"]
        assert got["pooled"] == {"seg": pytest.approx(seg(frames)), "det": pytest.approx(det(frames))}
        assert got["per_image"][1] == {"name": "1", "seg": pytest.approx(seg(frames[1:2])), "det": pytest.approx(det(frames[1:2]))}
        assert 0 < got["pooled"]["seg"] < got["pooled"]["det"] < 1

    def test_unknown_pixels_count_nowhere(self, tmp_path):
        out, truth = predicted(tmp_path / "out"), true_masks(tmp_path / "t")
        for i in range(COUNT):
            array = np.uint8(255) * membranes(i)
            array[:, 15:] = 7
            tifffile.imwrite(truth / f"{i}.tif", array)
        got = evaluate(out, truth, settings=DataSettings(ignore=7), options=asked("all"))["metrics"]
        unknown = np.zeros((24, 30), bool)
        unknown[:, 15:] = True
        alone = article_scores(cell_map(0)[None], membranes(0)[None], ignore=unknown)
        assert got["article"]["per_image"][0]["iou"] == pytest.approx(alone.iou)
        want = isbi_scores(np.where(unknown, False, membranes(0)), cell_map(0), ignore=unknown)
        assert got["isbi"]["per_image"][0]["pixel_error"] == pytest.approx(want.pixel_error)
        assert got["isbi"]["per_image"][0]["warping_error"] == pytest.approx(want.warping_error)


class Heard:
    """Progress that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)

    warn = say

    def bar(self, title):
        from biomask.progress import Silent

        return Silent().bar(title)


class TestFit:
    def test_all_takes_those_that_fit_and_says_which_do_not(self, tmp_path):
        heard = Heard()
        got = evaluate(predicted(tmp_path / "out"), true_masks(tmp_path / "t"), options=asked("all"), progress=heard)["metrics"]
        assert list(got) == ["isbi", "fcn", "article"]
        assert [line for line in heard.lines if "--metrics" in line] == [
            "--metrics ctc is left out: it is of objects (--labels instances)",
            "--metrics coco is left out: COCO's table is of objects (--labels instances)"]
        objects(tmp_path / "objects", tmp_path / "ids")
        assert list(evaluate(tmp_path / "objects", tmp_path / "ids", options=asked("all"))["metrics"]) == [
            "ctc", "coco_boxes", "coco_masks"]

    @pytest.mark.parametrize(("name", "why"), [("ctc", "of objects"), ("article", "probabilities")])
    def test_one_that_is_named_and_does_not_fit_is_an_error(self, tmp_path, name, why):
        with pytest.raises(UsageError, match=why):
            evaluate(predicted(tmp_path / "out", maps=1), true_masks(tmp_path / "t"), options=asked("fcn", name))

    def test_isbi_is_of_two_classes(self, tmp_path):
        out, truth = predicted(tmp_path / "out"), true_masks(tmp_path / "t")
        for i in range(COUNT):
            three = np.uint8(255) * membranes(i)
            three[:5, :5] = 9
            tifffile.imwrite(truth / f"{i}.tif", three)
        with pytest.raises(UsageError, match="two classes"):
            evaluate(out, truth, options=asked("isbi"))

    def test_a_name_that_is_unknown_is_refused_before_anything_is_read(self):
        with pytest.raises(UsageError, match="--metrics rand is unknown") as error:
            EvaluateOptions(metrics=("rand",))
        assert "isbi, fcn, ctc, coco, article" in str(error.value)


class TestShown:
    def test_on_the_command_line_and_in_json(self, tmp_path, capsys):
        out, truth = predicted(tmp_path / "out"), true_masks(tmp_path / "t")
        assert main(["evaluate", str(out), str(truth), "--metrics", "isbi, fcn", "--json", "-"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert list(printed["metrics"]) == ["isbi", "fcn"]
        assert main(["evaluate", str(out), str(truth), "--metrics", "isbi,fcn"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        for measure in printed["metrics"].values():
            assert measure["title"] in text
            assert " ".join(measure["says"][0].split()[:5]) in text
        assert f"{printed['metrics']['fcn']['pooled']['mean_accuracy']:.4f}" in text
        assert main(["evaluate", str(out), str(truth), "--metrics", "ctc"]) == 2

    def test_in_python_and_in_the_report(self, tmp_path):
        out, truth, page = predicted(tmp_path / "out"), true_masks(tmp_path / "t"), tmp_path / "report.html"
        got = api.evaluate(out, truth, options=api.EvaluateOptions(metrics=("isbi", "article")), report=page)
        assert got.metrics["article"]["pooled"]["iou"] == got.scores["metrics"]["article"]["pooled"]["iou"]
        text = page.read_text(encoding="utf-8")
        for measure in got.metrics.values():
            assert measure["title"] in text
            assert all(title.replace("“", "“") in text for title in measure["scores"].values())
        assert f"{got.metrics['isbi']['pooled']['rand_f_thinned']:.3f}" in text

    def test_an_older_evaluation_without_them_still_has_a_report(self, tmp_path):
        got = evaluate(predicted(tmp_path / "out"), true_masks(tmp_path / "t"))
        del got["metrics"]
        assert MEASURES["isbi"].title not in evaluation_report(got, [])
