"""Made-up but complete material for reports: two images, one model header, one history, one evaluation."""

import numpy as np
import pytest

from biomask.checkpoint import ModelHeader
from biomask.evaluation.evaluate import FOOTNOTES, summarise
from biomask.image import Image
from biomask.labels import Legend
from biomask.metrics import confusion_matrix
from biomask.recipe import Recipe
from biomask.reports import Example
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
    matrices = [confusion_matrix(truth, predicted, 2) for truth, predicted in pairs]
    return {"schema_version": 1, "n_images": len(pairs), "predictions": f"p {ATTACK}", "truth": f"t {ATTACK}",
            "legend": legend.to_json(), **summarise(names, matrices, legend), "footnotes": list(FOOTNOTES)}


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
