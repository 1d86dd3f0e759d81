"""Calibration and median filter between the network and the decision."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask import api
from biomask.checkpoint import load_model
from biomask.data.task import Task
from biomask.models import Calibration, median_filter
from biomask.prediction.refine import CALIBRATION, Refinement

TWO = Task("classes", 2)


def maps_of(second: np.ndarray) -> np.ndarray:
    return np.stack([1 - second, second]).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 4), radius=st.integers(0, 3),
       steps=st.lists(st.floats(0, 0.25), min_size=4, max_size=4))
def test_probabilities_stay_probabilities(seed, classes, radius, steps):
    maps = np.random.default_rng(seed).dirichlet(np.ones(classes), (12, 9)).transpose(2, 0, 1).astype(np.float32)
    found = Refinement(Calibration(tuple(np.cumsum(steps))), radius)(maps)
    assert found.shape == maps.shape
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


def test_calibration_then_median():
    second = np.random.default_rng(0).random((20, 30))
    calibration = Calibration((0.0, 0.1, 0.3, 1.0))
    assert np.allclose(Refinement(calibration, 2)(maps_of(second))[1], median_filter(calibration(second), 2), atol=1e-6)


def test_travels_through_the_header():
    one = Refinement(Calibration((0.0, 0.125, 0.5, 0.75)), 3)
    assert Refinement.of(TWO, {"cut": 0.4, **one.to_thresholds()}, 3) == one
    assert Refinement.of(TWO, {"cut": 0.4}, 0) == Refinement()
    assert not Refinement().does_something
    assert Refinement.of(Task("instances", 2), one.to_thresholds(), 3) == Refinement()


def test_a_broken_header_gives_no_probabilities_beyond_0_and_1():
    found = Refinement.of(TWO, dict(zip(CALIBRATION, (-3.0, 0.5, 9.0, 99.0), strict=True)), 0)
    assert found.calibration.coefficients == (0.0, 0.5, 1.0, 1.0)


@pytest.fixture(scope="module")
def window_model(tmp_path_factory, tiny_data):
    """The recipe of the sliding window, narrow and short."""
    settings = ("network.options={width: 2, hidden: 4}", "training.batch=8", "training.validations=1")
    options = api.TrainOptions(recipe="sliding-window-2012", steps=4, device="cpu", settings=settings)
    return api.train(tiny_data, tmp_path_factory.mktemp("window") / "m", options).model


def test_the_sliding_window_is_calibrated_and_filtered(tmp_path, tiny_data, window_model):
    model = load_model(window_model)
    assert {"cut", *CALIBRATION} == set(model.header.thresholds)
    assert "trial.unrefined" in model.header.scores
    refine = Refinement.of(model.task, model.header.thresholds, model.header.recipe.prediction.median)
    assert refine.radius == 2
    plain = model.header.model_copy(update={"thresholds": {}, "recipe": model.header.recipe.with_settings(["prediction.median=0"])})
    api.predict(window_model, tiny_data / "images", tmp_path / "out", api.PredictOptions(probabilities=True, device="cpu"))
    api.predict(type(model)(model.network, plain, model.path), tiny_data / "images", tmp_path / "plain",
                api.PredictOptions(probabilities=True, device="cpu"))
    found, before = (tifffile.imread(tmp_path / name / "probabilities" / "im_00.tif") for name in ("out", "plain"))
    assert np.abs(found - refine(before)).max() < 1e-5
    mask = tifffile.imread(tmp_path / "out" / "masks" / "im_00.tif")
    assert np.array_equal(mask == 255, found[1] > model.cut)
