"""Made-up but complete material for reports: two images, one model header, one history, one evaluation."""

from dataclasses import replace

import numpy as np
import pytest

from biomask.checkpoint import ModelHeader
from biomask.evaluation.evaluate import FOOTNOTES, ScoredImage, summarise
from biomask.image import Image
from biomask.labels import Legend
from biomask.metrics import confusion_matrix
from biomask.recipe import Recipe
from biomask.reports import Example, demo_report, evaluation_report, prediction_report, training_report
from biomask.reports.gather import HeldOut
from biomask.reports.run import Run
from biomask.training.resume import LogRow

ATTACK = "<script>alert('x')</script>"


@pytest.fixture(scope="session")
def attack():
    return ATTACK


@pytest.fixture(scope="session")
def legend():
    return Legend.of_values([0, 255], {255: f"cell {ATTACK}"})


@pytest.fixture(scope="session")
def examples(legend):
    """Three 24 x 32 images named good, bad and unscored."""
    grey = np.random.default_rng(0).integers(0, 255, (1, 24, 32)).astype(np.uint8)
    truth = np.zeros((24, 32), np.uint8)
    truth[6:18, 8:20] = 1
    made = []
    for name, shift, score in (("good", 1, 0.92), (f"bad {ATTACK}", 6, 0.5), ("unscored", 0, None)):
        made.append(Example(name, Image(grey, "cyx", name), np.roll(truth, shift, 1), truth, legend, score))
    return made


@pytest.fixture(scope="session")
def evaluation(legend, examples):
    """Ten images, the last with no cell in truth and prediction, so that its Dice is undefined."""
    pairs = [(e.truth, e.predicted) for e in examples] * 3 + [(np.zeros((4, 4), int), np.zeros((4, 4), int))]
    names = [f"{i:02d} {ATTACK}" for i in range(len(pairs))]
    images = [ScoredImage(name, confusion_matrix(*pair, 2)) for name, pair in zip(names, pairs, strict=True)]
    return {"schema_version": 1, "n_images": len(pairs), "predictions": f"p {ATTACK}", "truth": f"t {ATTACK}",
            "legend": legend.to_json(), **summarise(images, legend), "footnotes": list(FOOTNOTES)}


@pytest.fixture(scope="session")
def empty_evaluation(legend):
    """One image without a single defined score."""
    nothing = {"dice": None, "iou": None}
    return {"schema_version": 1, "n_images": 1, "predictions": "p", "truth": "t", "legend": legend.to_json(),
            "per_image": [{"name": "a", "pixels": 0, "pixel_error": None, **nothing, "classes": {}}],
            "per_class": {"0": {"name": "background", **nothing, "images": 0},
                          "255": {"name": "cell", **nothing, "images": 0}},
            "mean": {**nothing, "pixel_error": None}, "pooled": {**nothing, "pixel_error": None, "per_class": {}},
            "intervals": {"dice": {"low": None, "high": None, "kind": "range", "n": 0}}, "footnotes": ["a rule"]}


@pytest.fixture(scope="session")
def header(legend):
    recipe = Recipe(name=f"default {ATTACK}", title="a title", choices=("a choice",))
    return ModelHeader(recipe=recipe, in_channels=1, spatial_dims=2, kind="classes", legend=legend.to_json(),
                       dtype="uint8", scores={"validation.score": 0.91, f"validation.cell {ATTACK}": None}, step=20,
                       data_hashes={f"images/{ATTACK}.png": "ab" * 32})


@pytest.fixture(scope="session")
def history():
    """Losses at steps 5 .. 30, validations at 10, 20 (best) and 30."""
    rows = [LogRow(step, step * 3.0, 1e-3, 2.0 / step, None) for step in range(5, 31, 5)]
    rows += [LogRow(step, step * 3.0 + 1, 1e-3, None, dice) for step, dice in ((10, 0.7), (20, 0.91), (30, 0.9))]
    return sorted(rows, key=lambda r: (r.step, r.seconds))


@pytest.fixture(scope="session")
def record(legend):
    """run.json of a prediction with one failure."""
    return {"command": "predict", "biomask_version": "0.1.0", "torch_version": "2", "model": f"m {ATTACK}",
            "model_sha256": "cd" * 32, "device": "cpu", "tile": "auto", "legend": legend.to_json(), "seconds": 2.5,
            "images": {f"im {ATTACK}": {"size": [24, 32], "tile": [24, 32], "seconds": 1.25,
                                        "class_pixels": {"0": 576, "255": 192}}},
            "failed": {f"broken {ATTACK}": f"cannot be read {ATTACK}\n  → save it again"}}


@pytest.fixture(scope="session")
def run(attack):
    """A finished training of 12 images, 2 of them held out."""
    return Run(images=12, sizes=((24, 32),) * 12, held_out=(f"a {attack}", "b"), held_out_by="2 of 12 images at random",
               parameters=1234, steps=30, seconds=91.0, device="cpu (2 threads)", machine=f"a processor {attack}", state="finished",
               versions={"biomask": "0.1.0", "Python": "3.11.0", "torch": "2.0"}, data=f"data {attack}",
               written="2030-01-02T03:04:05+0000", command=f"biomask train {attack}", sha256="ef" * 32,
               choices=(f"patches of 24 × 32: {attack}",))


@pytest.fixture(scope="session")
def make(header, history, evaluation, record, examples, run, attack):
    """One report of each kind, made anew at each call."""
    held = HeldOut(tuple(examples), tuple((e.name, e.score) for e in examples), 5)
    return {
        "training": lambda: training_report(header, history, run, held=held),
        "evaluation": lambda: evaluation_report(evaluation, examples),
        "prediction": lambda: prediction_report(record, [replace(e, truth=None, score=None) for e in examples]),
        "demo": lambda: demo_report(header=header, history=history, evaluation=evaluation, baselines={f"Otsu {attack}": 0.4},
                                    examples=examples, facts={f"device {attack}": f"cpu {attack}"}),
    }


@pytest.fixture(scope="session")
def pages(make):
    """One page of each kind."""
    return {kind: build() for kind, build in make.items()}
