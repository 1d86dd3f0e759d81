"""Reports of every kind of labels, from folders to pages: what they show is what `predict` writes and `evaluate` scores.

The networks look at single grey values, so that what they predict is known beforehand.
"""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage

from biomask import api
from biomask.checkpoint import MODEL_FILE, ModelHeader, build_network, load_model, save_model
from biomask.data.dataset import open_dataset
from biomask.evaluation.cases import find_cases
from biomask.evaluation.evaluate import judge
from biomask.io import read_label_values
from biomask.io.files import write_picture
from biomask.labels import Legend
from biomask.models.ensemble import Ensemble
from biomask.recipe import (
    AugmentationSettings,
    DataSettings,
    NetworkSettings,
    NormalizationSettings,
    PredictionSettings,
    Recipe,
)
from biomask.reports import gather
from biomask.reports.card import CARD_FILE
from biomask.reports.gather import evaluation_examples, fold_examples, held_out_examples, prediction_examples, spread
from biomask.reports.run import digest
from biomask.reports.write import read_choices, read_log, write_evaluation_report, write_prediction_report, write_training_report
from biomask.transforms import Normalization

CPU = torch.device("cpu")
BRIGHT = 100
KINDS = ("classes", "soft", "multilabel", "instances")

#: What the network says of a grey value v: (slope, offset) a channel, in units of v - BRIGHT.
RULES = {"classes": [(0, 0), (1, 0)], "soft": [(0, 0), (1, 0)], "multilabel": [(1, 0), (1, -100)],
         "instances": [(0, 0), (1, 0), (1, -100), (0, -9)]}
VALUES = {"classes": [0, 255], "soft": [0, 1], "multilabel": [0, 1, 2], "instances": [0, 1]}
NAMES = {"multilabel": {1: "body", 2: "core"}, "instances": {1: "cell"}}


def save_rule(folder, kind, *, augment="none", members=1, **header):
    """A model whose output follows from the grey value of each pixel alone."""
    recipe = Recipe(name="rule", network=NetworkSettings(name="one-layer", options={"kernel": 1}),
                    normalization=NormalizationSettings(method="none"), prediction=PredictionSettings(augment=augment),
                    augmentation=AugmentationSettings(flip=("y", "x"), rotate90=True))
    legend = Legend.of_values(VALUES[kind], NAMES.get(kind, {VALUES[kind][-1]: "cell"}))
    header = ModelHeader(**{"recipe": recipe, "in_channels": 1, "spatial_dims": 2, "kind": kind, "legend": legend.to_json(),
                            "dtype": "uint8", "members": members, **header})
    network = build_network(recipe, in_channels=1, channels=header.task.channels, spatial_dims=2)
    slopes, offsets = torch.tensor(RULES[kind], dtype=torch.float32).T
    weight = slopes.reshape(network.state_dict()["conv.weight"].shape).contiguous()
    one = {"conv.weight": weight, "conv.bias": offsets - BRIGHT * slopes}
    several = [{k: v.clone() for k, v in one.items()} for _ in range(members)]
    save_model(folder / MODEL_FILE, Ensemble.prefixed(several) if members > 1 else one, header)
    return folder


def scene(seed, size=(40, 56)):
    """(image with bright balls, brightest in the middle, and one single bright pixel; what a person would call the balls)."""
    rng = np.random.default_rng(seed)
    image, grid = rng.integers(0, BRIGHT - 20, size).astype(np.uint8), np.stack(np.indices(size), -1)
    truth = np.zeros(size, np.uint16)
    for n, centre in enumerate([(8, 8), (8, 28), (28, 10), (30, 40)][: 2 + seed % 3]):
        away = np.linalg.norm(grid - np.array(centre), axis=-1)
        image[away <= 5], image[away <= 2] = 150, 240
        truth[np.linalg.norm(grid - np.array(centre) - (0, seed % 4), axis=-1) <= 5] = n + 1
    image[38, 54] = 240
    return image, truth


def make_data(folder, kind, count=4):
    """images/ and masks/ of a kind."""
    for seed in range(count):
        image, truth = scene(seed)
        name = f"im_{seed}"
        write_picture(folder / "images" / f"{name}.png", image)
        inner = ndimage.binary_erosion(truth > 0, iterations=3)
        for sub, mask in {"classes": {"masks": np.where(truth > 0, 255, 0).astype(np.uint8)},
                          "soft": {"masks": np.where(inner, 1, np.where(truth > 0, 0.6, 0)).astype(np.float32)},
                          "instances": {"masks": truth},
                          "multilabel": {"masks/core": np.where(inner, 255, 0).astype(np.uint8),
                                         "masks/body": np.where(truth > 0, 255, 0).astype(np.uint8)}}[kind].items():
            (folder / sub).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / sub / f"{name}.tif", mask)
    return folder


def open_kind(folder, kind):
    return open_dataset(folder, DataSettings(kind=kind if kind != "classes" else None), Normalization())


def words(path):
    page = re.sub(r"<style>.*?</style>|<[^>]+>", " ", Path(path).read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(page.replace("&#39;", "'").split())


def galleries(path):
    """(title, number of panels) of each example of a page."""
    page = Path(path).read_text(encoding="utf-8")
    blocks = re.findall(r'<div class="gallery-block">\s*<h3>(.*?)</h3>(.*?)</div>\s*</div>', page, re.DOTALL)
    return {title: block.count("<figcaption>") for title, block in blocks}


def record_training(folder, **facts):
    (folder / "run.json").write_text(json.dumps({"step": 20, "seconds": 60.0, "device": "cpu", "finished": True, "stopped_by": None,
                                                 "torch_version": "2", **facts}))


def save_log(folder, scores):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{10 * (n + 1)},{30.0 * (n + 1)},0.001,{1 / (n + 1)},{score}" for n, score in enumerate(scores)]
    (folder / "log.csv").write_text("\n".join(["step,seconds,lr,loss,validation_score", *rows]))


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def data(tmp_path_factory, kind):
    return make_data(tmp_path_factory.mktemp(kind) / "data", kind)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory, kind, data):
    """(model, folder of predictions with its report)."""
    place = tmp_path_factory.mktemp(kind)
    header = {"thresholds": {"min_size": 2.0}} if kind == "instances" else {}
    model = load_model(save_rule(place / "model", kind, **header))
    api.predict(model, data / "images", place / "out", api.PredictOptions(device="cpu"))
    return model, place / "out"


class TestTraining:
    def test_page_of_every_kind(self, tmp_path, kind, data):
        dataset = open_kind(data, kind)
        save_rule(tmp_path, kind, scores={"validation.score": 0.5, "validation.cell": 0.625}, step=20)
        record_training(tmp_path)
        save_log(tmp_path, [0.25, 0.5])
        page = write_training_report(tmp_path, dataset, dataset.subset([1, 3]), CPU)
        shown, metric = words(page), "AP at 0.5:" if kind == "instances" else "Dice"
        name = "average precision" if kind == "instances" else "Dice"
        assert f"validation {name} 0.500 mean" in shown
        assert "Dice, cell 0.625" in shown
        assert f"Validation {name}: " in shown
        assert f"and validation {name} over optimisation steps; best {name} 0.500 at step 20." in page.read_text()
        assert "2 held-out images, predicted again for this page" in shown
        assert f"SHA-256 of all files {digest(load_model(tmp_path).header.data_hashes)}" in shown or not load_model(
            tmp_path).header.data_hashes
        card = (tmp_path / CARD_FILE).read_text(encoding="utf-8")
        assert "Not a medical device" in card
        assert "4 images (40 × 56 px, 1 channel, uint8)" in card
        assert len(galleries(page)) == 2
        assert set(galleries(page).values()) == {4}  # image, truth, prediction, errors
        assert all(f" · {metric} " in title for title in galleries(page))

    @pytest.mark.parametrize("augment", ["none", "symmetries"])
    def test_held_out_images_are_shown_as_predict_writes_them(self, tmp_path, kind, data, augment):
        thresholds = {"thresholds": {"min_size": 2.0}} if kind == "instances" else {}
        model = load_model(save_rule(tmp_path / "m", kind, augment=augment, **thresholds))
        held = held_out_examples(model, open_kind(data, kind), CPU)
        assert not held.plain
        out = api.predict(model, data / "images", tmp_path / "out", api.PredictOptions(device="cpu")).out
        assert sorted(e.name for e in held.examples) == [f"im_{i}" for i in range(4)]
        assert list(held.scores) == sorted((e.name, e.score) for e in held.examples)
        for example in held.examples:
            if kind == "multilabel":
                written = np.stack([tifffile.imread(out / "masks" / s / f"{example.name}.tif") > 0 for s in ("body", "core")])
            elif kind == "instances":
                written = tifffile.imread(out / "labels" / f"{example.name}.tif")
            else:
                written = tifffile.imread(out / "masks" / f"{example.name}.tif") > 0
            assert written.any()
            np.testing.assert_array_equal(example.predicted, written)

    def test_thresholds_of_the_model_decide_what_an_object_is(self, tmp_path):
        dataset = open_kind(make_data(tmp_path / "data", "instances"), "instances")
        counts = []
        for n, least in enumerate((1.0, 2.0, 10_000.0)):
            model = load_model(save_rule(tmp_path / str(n), "instances", thresholds={"min_size": least}))
            found = {e.name: int(e.predicted.max()) for e in held_out_examples(model, dataset, CPU).examples}
            counts.append([found[f"im_{i}"] for i in range(4)])
        assert counts == [[3, 4, 5, 3], [2, 3, 4, 2], [0, 0, 0, 0]]

    def test_large_images_are_predicted_once_and_that_is_said(self, tmp_path, monkeypatch):
        dataset = open_kind(make_data(tmp_path / "data", "classes"), "classes")
        model = load_model(save_rule(tmp_path / "m", "classes", augment="symmetries"))
        record_training(tmp_path / "m")
        size = 40 * 56
        said = "To save time these pictures were predicted once each"
        for pixels, plain, shown in ((8 * size, False, 4), (8 * size - 1, True, 4), (size, True, 4), (size - 1, False, 0)):
            monkeypatch.setattr(gather, "MOST_PREDICTED", len(dataset) * pixels)
            held = held_out_examples(model, dataset, CPU)
            assert (held.plain, len(held.examples)) == (plain, shown)
            assert (said in words(write_training_report(tmp_path / "m", dataset, dataset, CPU))) == plain

    def test_nothing_held_out(self, tmp_path, kind, data):
        save_rule(tmp_path, kind)
        record_training(tmp_path, finished=False, stopped_by="SIGINT")
        shown = words(write_training_report(tmp_path, open_kind(data, kind), None, CPU))
        assert "no image was held out, or training stopped before the first validation" in shown
        assert "stopped by SIGINT" in shown
        assert "Nothing was logged" in shown
        assert "held out none" in shown

    def test_what_was_tried_and_before(self, tmp_path):
        dataset = open_kind(make_data(tmp_path / "data", "instances"), "instances")
        scores = {"validation.score": 0.75, "validation.ap50": 0.875, "validation.background": 0.99, "validation.cell": 0.98,
                  "before.value": 0.25, "before.ap50": 0.375, "before.cell": 0.5, "trial.none": 0.76, "trial.symmetries": 0.77,
                  "trial.thresholds before": 0.77, "trial.thresholds tuned": 0.78,
                  "trial.objects": 1200.0, "trial.merges": 7.0, "trial.splits": 3.0}
        save_rule(tmp_path / "m", "instances", augment="symmetries", scores=scores, thresholds={"valley": 0.25, "min_size": 30.0})
        record_training(tmp_path / "m")
        shown = words(write_training_report(tmp_path / "m", dataset, None, CPU))
        assert "Average precision, mean over IoU 0.5 … 0.95 and images 0.750 0.250" in shown
        assert "Average precision at an IoU of 0.5 0.875 0.375" in shown
        assert "Dice, cell 0.980 0.500" in shown
        assert "whose average precision on these images was 0.250; now it is 0.750: training raised it by 0.500." in shown
        assert "Mean over 8 copies 0.770, single predictions 0.760: the mean is kept" in shown
        assert "Thresholds of objects: tuned 0.780, as by default 0.770: what was tuned is kept." in shown
        assert "7 of the predicted objects cover several true ones (merges), and 3 of 1,200 true ones lie" in shown
        assert "each image as it is 0.760 no mean over 8 mirrored or turned copies 0.770 yes" in shown
        assert "valley 0.25 0.2 two middles are of different" in shown
        assert "min size 30 1 objects of fewer pixels are none" in shown
        kept = {**scores, "before.value": 0.75, "trial.symmetries": 0.761}
        save_rule(tmp_path / "m", "instances", augment="none", scores=kept)
        shown = words(write_training_report(tmp_path / "m", dataset, None, CPU))
        assert "the weights it began with are kept" in shown
        assert "single ones are kept, for the mean was no better" in shown
        assert "each image as it is 0.760 yes" in shown

    def test_cut_between_two_classes(self, tmp_path):
        dataset = open_kind(make_data(tmp_path / "data", "classes"), "classes")
        scores = {"validation.score": 0.75, "trial.cut before": 0.75, "trial.cut tuned": 0.75}
        shares = []
        for cut in (0.9, 0.5, 0.3):
            model = load_model(save_rule(tmp_path / "m", "classes", scores=scores, thresholds={"cut": cut}))
            softer = {k: v * 0.02 for k, v in model.network.state_dict().items()}
            save_model(model.path, softer, model.header)
            model = load_model(tmp_path / "m")
            out = api.predict(model, tmp_path / "data" / "images", tmp_path / f"out{cut}", api.PredictOptions(device="cpu")).out
            examples = sorted(held_out_examples(model, dataset, CPU).examples, key=lambda e: e.name)
            for example in examples:
                np.testing.assert_array_equal(example.predicted, tifffile.imread(out / "masks" / f"{example.name}.tif") > 0)
            shares.append(np.mean([e.predicted.mean() for e in examples]))
        assert 0 < shares[0] < shares[1] < shares[2] < 1
        record_training(tmp_path / "m")
        shown = words(write_training_report(tmp_path / "m", dataset, None, CPU))
        assert "The cut between the two classes: tuned 0.750, as by default 0.750: nothing that was tried is better." in shown
        assert "cut 0.3 0.5 a pixel is of the second class where its probability is above this" in shown

    def test_choices_are_read_from_the_plan(self, tmp_path):
        dataset = open_kind(make_data(tmp_path / "data", "classes"), "classes")
        save_rule(tmp_path / "m", "classes")
        record_training(tmp_path / "m")
        assert read_choices(tmp_path / "m") == ()
        assert "What was chosen" not in words(write_training_report(tmp_path / "m", dataset, None, CPU))
        (tmp_path / "m" / "resume").mkdir()
        plan = tmp_path / "m" / "resume" / "plan.json"
        for content, expected in (("{", ()), ("[]", ()), ("{}", ()), (json.dumps({"sentences": ["a <b>", "c"]}), ("a <b>", "c"))):
            plan.write_text(content)
            assert read_choices(tmp_path / "m") == expected
        page = write_training_report(tmp_path / "m", dataset, None, CPU)
        assert "<li>a &lt;b&gt;</li><li>c</li>" in page.read_text()


class TestFolds:
    @pytest.fixture
    def folder(self, tmp_path):
        """A cross-validation in two folds, the second of whose networks calls everything background."""
        make_data(tmp_path / "data", "classes")
        scores = {"validation.score": 0.625, "fold 1.score": 0.75, "fold 2.score": 0.5}
        save_rule(tmp_path / "m", "classes", members=2, scores=scores, step=20)
        for n, own in ((1, [0.5, 0.75]), (2, [0.5])):
            save_log(save_rule(tmp_path / "m" / "folds" / str(n), "classes"), own)
        state = load_model(tmp_path / "m" / "folds" / "2")
        save_model(state.path, {"conv.weight": torch.zeros(2, 1, 1, 1), "conv.bias": torch.tensor([1.0, 0.0])}, state.header)
        record_training(tmp_path / "m", folds=2)
        return tmp_path / "m"

    def test_page(self, folder, tmp_path):
        dataset = open_kind(tmp_path / "data", "classes")
        page = write_training_report(folder, dataset, None, CPU)
        shown = words(page)
        assert "mean of 2 folds; mean of all classes, background too" in shown
        assert "fold 1 0.750 fold 2 0.500 mean of 2 0.625" in shown
        assert "20 optimisation steps in 1.5 min for 2 folds, a line each" in shown
        assert "best Dice 0.750 at step 20; 0.500 at step 10." in page.read_text()
        assert "each image once, in 2 folds, a contiguous block" in shown
        assert len(galleries(page)) == 2

    def test_each_image_is_predicted_by_the_network_that_did_not_see_it(self, folder, tmp_path):
        held = fold_examples(folder, load_model(folder), open_kind(tmp_path / "data", "classes"), CPU)
        examples = {e.name[-7:-1]: e for e in held.examples}  # of each fold the worst, of those that it held out in blocks
        assert {e.name[:4] for e in examples.values()} <= {"im_0", "im_1", "im_2", "im_3"}
        assert {fold: e.name[:4] in ("im_0", "im_1") for fold, e in examples.items()} == {"fold 1": True, "fold 2": False}
        assert {fold: bool(e.predicted.any()) for fold, e in examples.items()} == {"fold 1": True, "fold 2": False}
        assert sorted(name for name, _ in held.scores) == [f"im_{i}" for i in range(4)]
        own = {"fold 1": ("im_0", "im_1"), "fold 2": ("im_2", "im_3")}
        assert {f: e.score for f, e in examples.items()} == {f: min(s for n, s in held.scores if n in own[f]) for f in own}

    def test_what_is_gone_is_left_out(self, folder, tmp_path):
        for n in (1, 2):
            (folder / "folds" / str(n) / MODEL_FILE).unlink()
            (folder / "folds" / str(n) / "log.csv").unlink()
        shown = words(write_training_report(folder, open_kind(tmp_path / "data", "classes"), None, CPU))
        assert "No held-out image is shown" in shown
        assert "Nothing was logged" in shown


def test_the_worst_held_out_images_are_shown_with_the_middle_one_and_the_best(tmp_path, monkeypatch):
    dataset = open_kind(make_data(tmp_path / "data", "classes", 12), "classes")
    model = load_model(save_rule(tmp_path / "m", "classes"))
    held = held_out_examples(model, dataset, CPU)
    ranked = sorted(s for _, s in held.scores)
    shown = [e.score for e in held.examples]
    assert (len(held.scores), held.of, len(shown)) == (12, 12, gather.SHOWN)
    assert shown[: gather.SHOWN - 2] == ranked[: gather.SHOWN - 2]
    assert shown[-1] == ranked[-1]
    assert ranked[gather.SHOWN - 2] <= shown[-2] <= ranked[-1]
    monkeypatch.setattr(gather, "MOST_PREDICTED", 5 * 40 * 56)
    assert len(held_out_examples(model, dataset, CPU).scores) == 5


class TestPrediction:
    def test_page_of_every_kind(self, predicted, kind):
        _, out = predicted
        page, record = out / "report.html", json.loads((out / "run.json").read_text())
        with (out / "objects.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        shown = words(page)
        assert f"objects {len(rows)} " in shown
        for name in record["images"]:
            assert f"{name} 40 × 56" in shown
            own = sum(row["image"] == name for row in rows)
            assert re.search(rf"{name} 40 × 56 \S+ × \S+ [\d.]+ {own} \d", shown)
        assert set(galleries(page).values()) == {2}
        assert len(galleries(page)) == 4
        assert {"multilabel": "structures body, core", "instances": "classes of objects (value in masks) cell (1)"}.get(
            kind, "classes (value in masks) background (0), cell") in shown

    def test_ways_lead_to_what_is_there(self, predicted):
        _, out = predicted
        ways = re.findall(r'href="([^"]+)"', (out / "report.html").read_text())
        ways = [way for way in ways if not way.startswith("#")]
        assert ways == ["objects.csv", "images.csv", "labels/", "masks/", "outlines/"]
        assert all((out / way).exists() for way in ways)

    def test_examples_show_what_was_written(self, predicted, kind):
        model, out = predicted
        examples = prediction_examples(model, out, json.loads((out / "run.json").read_text()))
        assert [e.name for e in examples] == [f"im_{i}" for i in range(4)]
        for example in examples:
            if kind == "multilabel":
                written = np.stack([tifffile.imread(out / "masks" / s / f"{example.name}.tif") > 0 for s in ("body", "core")])
            elif kind == "instances":
                written = tifffile.imread(out / "labels" / f"{example.name}.tif")
                assert example.note == f"{written.max()} objects"
            else:
                written = tifffile.imread(out / "masks" / f"{example.name}.tif") > 0
            np.testing.assert_array_equal(example.predicted, written)

    def test_without_objects(self, tmp_path, kind, data):
        model = load_model(save_rule(tmp_path / "m", kind))
        out = api.predict(model, data / "images", tmp_path / "out", api.PredictOptions(device="cpu", objects=False)).out
        assert re.findall(r'href="([^"#]+)"', (out / "report.html").read_text()) == ["masks/", "outlines/"]
        assert "objects.csv" not in words(out / "report.html")
        assert len(galleries(out / "report.html")) == 4


class TestEvaluation:
    def test_examples_score_what_the_evaluation_scores(self, predicted, data, kind):
        _, out = predicted
        settings = DataSettings(kind="instances") if kind == "instances" else DataSettings()
        judged = judge(out, data, settings=settings)
        judged = replace(judged, cases=tuple(find_cases(out, data, judged.settings)[0]))
        examples = evaluation_examples(judged)
        key = "ap50" if kind == "instances" else "dice"
        expected = {i["name"]: i[key] for i in judged.scores["per_image"]}
        assert {e.name: e.score for e in examples} == pytest.approx(expected)
        assert len(set(expected.values())) > 1
        assert [e.score for e in examples] == sorted(e.score for e in examples)
        for example in examples:
            image, truth = scene(int(example.name[-1]))
            np.testing.assert_array_equal(example.image.array[0], image)
            true = truth if kind == "instances" else truth > 0
            if kind != "soft":  # of averages of experts the half that agrees
                np.testing.assert_array_equal(example.truth[0] if kind == "multilabel" else example.truth, true)

    def test_page_of_every_kind(self, tmp_path, predicted, data, kind):
        _, out = predicted
        judged = judge(out, data, settings=DataSettings(kind="instances") if kind == "instances" else DataSettings())
        judged = replace(judged, cases=tuple(find_cases(out, data, judged.settings)[0]))
        write_evaluation_report(tmp_path / "e.html", judged)
        found = galleries(tmp_path / "e.html")
        assert set(found.values()) == {4}
        assert len(found) == 4
        if kind == "instances":
            pooled, notes = judged.scores["pooled"], [re.search(r"(\d+) of (\d+) objects found, (\d+) added", t) for t in found]
            counts = np.array([[int(n) for n in note.groups()] for note in notes]).sum(axis=0)
            assert counts.tolist() == [pooled["tp"], pooled["true_objects"], pooled["fp"]]


def test_a_report_of_predictions_says_the_same_when_written_again(predicted):
    model, out = predicted
    before = (out / "report.html").read_text()
    assert write_prediction_report(model, out).read_text() == before


def test_a_log_that_is_not_there_has_no_rows(tmp_path):
    assert read_log(tmp_path / "log.csv") == []
    save_log(tmp_path, [0.5, 0.75])
    assert [(r.step, r.validation_score) for r in read_log(tmp_path / "log.csv")] == [(10, 0.5), (20, 0.75)]


@pytest.mark.parametrize("most", [1, 2, 4])
def test_spread_is_even_and_never_repeats(most):
    for count in range(30):
        found = list(spread(count, most))
        assert len(found) == min(count, most) == len(set(found))
        assert found == sorted(found)
        assert all(0 <= i < count for i in found)
        if 2 <= most < count:
            assert (found[0], found[-1]) == (0, count - 1)


def test_masks_are_read_as_they_are(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", np.arange(12, dtype=np.uint16).reshape(3, 4))
    np.testing.assert_array_equal(gather._values(tmp_path / "m.tif"), read_label_values(tmp_path / "m.tif").array[0])
