"""The main job on real electron microscopy, a minute of it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from biomask import api
from biomask.io import read_image


@pytest.mark.slow
@pytest.mark.data
def test_membranes_are_learnt_predicted_and_scored(data_root, tmp_path):
    source = data_root / "isbi2012" / "train"
    for path in sorted((source / "images").iterdir()):
        part = "train" if int(path.stem) < 24 else "test"
        for kind in ("images", "masks"):
            (tmp_path / part / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(source / kind / path.name, tmp_path / part / kind / path.name)
    result = api.train(tmp_path / "train", tmp_path / "model",
                       api.TrainOptions(steps=80, settings=("network.options.width=16", "training.validations=2")))
    assert result.validation_score is not None
    options = api.PredictOptions(tile=256, probabilities=True)
    api.predict(tmp_path / "model", tmp_path / "test" / "images", tmp_path / "out", options)
    evaluation = api.evaluate(tmp_path / "out", tmp_path / "test").scores
    assert evaluation["n_images"] == 6
    assert evaluation["per_class"]["0"]["dice"] > 0.65  # membranes
    assert evaluation["mean"]["dice"] > 0.9  # cells
    for path in (tmp_path / "out" / "masks").iterdir():
        assert set(np.unique(read_image(path).array)) == {0, 255}
    probabilities = read_image(Path(tmp_path / "out" / "probabilities" / "24.tif"))
    assert probabilities.array.shape == (2, 512, 512)
    assert np.allclose(probabilities.array.sum(0), 1, atol=1e-5)
