"""The same way from files to scores for volumes, colour images, several classes and the unpadded network."""

import numpy as np
import pytest
import tifffile
from scipy import ndimage as ndi

from biomask import api
from biomask.io import read_image, read_label_values
from biomask.io.files import write_picture
from biomask.recipe import DataSettings

SMALL = ("network.options.width=4", "network.options.depth=2", "training.lr=1e-2")


def blobs(seed: int, size: tuple[int, ...], classes: int = 2) -> np.ndarray:
    field = ndi.gaussian_filter(np.random.default_rng(seed).standard_normal(size), 4)
    return np.digitize(field, np.quantile(field, np.linspace(0, 1, classes + 1)[1:-1])).astype(np.uint8)


@pytest.mark.slow
def test_a_volume_keeps_its_spacing_and_is_tiled(tmp_path):
    for i in range(4):
        mask = blobs(i, (18, 40, 44))
        image = (80 + 60 * mask + np.random.default_rng(i).normal(0, 15, mask.shape)).clip(0, 255).astype(np.uint8)
        for kind, array in (("images", image), ("masks", mask)):
            (tmp_path / "data" / kind).mkdir(exist_ok=True, parents=True)
            tifffile.imwrite(tmp_path / "data" / kind / f"v{i}.tif", array, imagej=True, resolution=(2, 2),
                             metadata={"axes": "ZYX", "unit": "um", "spacing": 2.0})
    api.train(tmp_path / "data", tmp_path / "m", api.TrainOptions(steps=25, settings=SMALL))
    api.predict(tmp_path / "m", tmp_path / "data" / "images", tmp_path / "tiled", api.PredictOptions(tile=16, probabilities=True))
    api.predict(tmp_path / "m", tmp_path / "data" / "images", tmp_path / "whole", api.PredictOptions(tile="whole"))
    assert api.evaluate(tmp_path / "tiled", tmp_path / "data").mean["dice"] > 0.85
    for i in range(4):
        tiled, whole = (read_image(tmp_path / out / "masks" / f"v{i}.tif") for out in ("tiled", "whole"))
        assert (tiled.array == whole.array).all()
        assert tiled.axes == "czyx"
        assert tiled.spacing == {"z": 2.0, "y": 0.5, "x": 0.5}
    probabilities = read_image(tmp_path / "tiled" / "probabilities" / "v0.tif")
    assert (probabilities.axes, probabilities.array.shape) == ("czyx", (2, 18, 40, 44))
    assert probabilities.spacing == {"z": 2.0, "y": 0.5, "x": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_colour_images_with_three_classes_and_unknown_pixels(tmp_path, padding):
    for i in range(5):
        classes = blobs(i, (70, 90), 3)
        colours = np.array([[40, 40, 40], [200, 60, 60], [60, 60, 200]])[classes]
        image = (colours + np.random.default_rng(i).normal(0, 20, colours.shape)).clip(0, 255).astype(np.uint8)
        values = np.array([0, 7, 100], np.uint8)[classes]
        values[:10, :20] = 255  # nobody knows
        write_picture(tmp_path / "data" / "images" / f"image {i}.png", np.moveaxis(image, -1, 0))
        write_picture(tmp_path / "data" / "masks" / f"image {i}.png", values)
    settings = (*SMALL, f"network.options.padding={padding}", "network.options.up=nearest",
                "data.legend={0: background, 7: red, 100: blue}")
    api.train(tmp_path / "data", tmp_path / "m", api.TrainOptions(steps=60, data={"ignore": 255}, settings=settings))
    api.predict(tmp_path / "m", tmp_path / "data" / "images", tmp_path / "out", api.PredictOptions(tile=24))
    evaluation = api.evaluate(tmp_path / "out", tmp_path / "data", settings=DataSettings(ignore=255),
                              report=tmp_path / "report.html").scores
    assert {v: c["name"] for v, c in evaluation["per_class"].items()} == {"0": "background", "7": "red", "100": "blue"}
    assert evaluation["mean"]["dice"] > 0.8
    assert evaluation["per_image"][0]["pixels"] == 70 * 90 - 200
    assert set(np.unique(read_label_values(tmp_path / "out" / "masks" / "image 0.tif").array)) <= {0, 7, 100}
    assert "blue" in (tmp_path / "report.html").read_text()
