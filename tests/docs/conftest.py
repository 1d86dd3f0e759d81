"""The folder that pages are run in, and trainings that are cut short."""

import importlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biomask import api
from biomask.data.synthetic import phase_contrast_cells
from biomask.io.files import write_picture
from biomask.recipe import Recipe

#: What every training is given, whatever else it was told.
NARROW = ("network.options.width=4", "network.options.depth=2")
SMALL = ("training.patch=[32, 32]", "training.batch=2", "training.validations=2", "prediction.augment=none")
STEPS = 3

#: Outlines that are there, by the format that `convert` calls them.
OUTLINES = {"roi": "ROIS", "geojson": "GEOJSON", "napari": "SHAPES"}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA, IMAGES, TRUTH, MODEL, OUT and the outlines. Copy it, don't write to it."""
    folder = tmp_path_factory.mktemp("pages")
    for i in range(4):
        image, cells = phase_contrast_cells(1, i, (64, 64))
        for part in ("DATA/images", "IMAGES"):
            write_picture(folder / part / f"{i}.png", image)
        for part in ("DATA/masks", "TRUTH"):
            write_picture(folder / part / f"{i}.png", np.where(cells > 0, 255, 0).astype(np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        cut_trainings(patch)
        api.train(folder / "DATA", folder / "MODEL", api.TrainOptions(device="cpu"))
        api.predict(folder / "MODEL", folder / "IMAGES", folder / "OUT", api.PredictOptions(device="cpu"))
    for to, place in OUTLINES.items():
        api.convert(folder / "DATA", folder / place, to)
    return folder


def cut_trainings(patch: pytest.MonkeyPatch) -> None:
    """Every training takes three steps of a narrow network, by whatever way it is started."""
    module = importlib.import_module("biomask.api.train")

    def cut(options: api.TrainOptions) -> Recipe:
        asked = api.resolve_recipe(options)  # what the page says must be right in itself
        narrow = NARROW if asked.network.name == "unet" else ()
        return api.resolve_recipe(replace(options, minutes=None, steps=STEPS, until_flat=False,
                                          settings=(*options.settings, *narrow, *SMALL)))

    patch.setattr(module, "resolve_recipe", cut)
    comparing = importlib.import_module("biomask.comparison.run")

    def cut_one(recipe: Recipe, options: api.CompareOptions) -> Recipe:
        narrow = NARROW if recipe.network.name == "unet" else ()
        training = recipe.training.model_copy(update={"steps": STEPS, "minutes": None, "until_flat": False})
        return recipe.model_copy(update={"training": training}).with_settings([*narrow, *SMALL])

    patch.setattr(comparing, "_budgeted", cut_one)


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is prepared, as the current folder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    cut_trainings(monkeypatch)
    return tmp_path
