"""Every recipe trains by its name: two steps at a fraction of the width, then the model file predicts."""

from pathlib import Path

import numpy as np
import pytest

from biomask import api, recipes
from biomask.checkpoint import load_model
from biomask.models import MODELS
from biomask.prediction import predict_array
from biomask.recipes.catalogue import CATALOGUE

#: Of networks that are slow at any width.
CHEAP = {"unet-2015": ("training.patch=[20, 20]",), "sliding-window-2012": ("training.batch=4", "network.options.hidden=4")}


@pytest.fixture(scope="module")
def data_of(tmp_path_factory, make_dataset):
    """Images or volumes with two classes."""
    made: dict[int, Path] = {}

    def data(dims: int) -> Path:
        if dims not in made:
            size = (48, 48) if dims == 2 else (16, 16)
            made[dims] = make_dataset(tmp_path_factory.mktemp("data") / f"{dims}d", n=3, size=size, volume=dims == 3)
        return made[dims]

    return data


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in recipes.names() if recipes.get(n).network.name in MODELS])
def test_trains_and_predicts(name, tmp_path, data_of):
    dims = CATALOGUE[name].spatial_dims
    width = () if name == "one-layer" else ("network.options.width=2",)
    up = ("network.options.up_width=1",) if name == "wide-unet" else ()
    settings = ("prediction.augment=none", "training.validations=1", *width, *up, *CHEAP.get(name, ()))
    result = api.train(data_of(dims), tmp_path / "m", api.TrainOptions(recipe=name, settings=settings, steps=2, device="cpu"))
    assert result.step == 2
    model = load_model(tmp_path / "m")
    assert model.header.recipe.name == name
    size = (20, 33) if dims == 2 else (5, 20, 33)
    image = np.random.default_rng(0).standard_normal((1, *size)).astype(np.float32)
    logits = predict_array(model.network, image)
    assert logits.shape == (2, *size)
    assert np.isfinite(logits).all()
