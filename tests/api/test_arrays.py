"""`predict_array` gives what `predict` writes."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from biomask import api
from biomask.checkpoint import MODEL_FILE, Model, ModelHeader, build_network, load_model, save_model
from biomask.errors import SizeError
from biomask.labels import Legend
from biomask.recipe import NetworkSettings, Recipe

KINDS = {"classes": [0, 7, 255], "multilabel": [0, 1, 2], "instances": [0, 1]}


def random_model(folder: Path, kind: str, dims: int = 2, channels: int = 1) -> Model:
    """A small U-Net with random weights, which looks farther than its tiles."""
    recipe = Recipe(name="random", network=NetworkSettings(name="unet", options={"width": 2, "depth": 2}))
    header = ModelHeader(recipe=recipe, in_channels=channels, spatial_dims=dims, kind=kind,
                         legend=Legend.of_values(KINDS[kind]).to_json())
    torch.manual_seed(3)
    network = build_network(recipe, in_channels=channels, channels=header.task.channels, spatial_dims=dims)
    save_model(folder / MODEL_FILE, network.state_dict(), header)
    return load_model(folder)


def noise(*shape: int) -> np.ndarray:
    """Grey values with some structure."""
    rng = np.random.default_rng(sum(shape))
    return np.kron(rng.integers(0, 60000, [-(-n // 4) for n in shape]), np.ones([4] * len(shape)))[
        tuple(slice(n) for n in shape)].astype(np.uint16)


def written(out: Path, folder: str) -> np.ndarray:
    """What `predict` wrote of the image x; structures stacked."""
    return np.squeeze(np.stack([tifffile.imread(p) for p in sorted((out / folder).rglob("x.tif"))]))


class TestEqualToTheFile:
    @pytest.mark.parametrize(("kind", "dims"), [("classes", 2), ("multilabel", 2), ("instances", 2), ("classes", 3)])
    def test_masks_labels_probabilities_and_measurements(self, tmp_path, kind, dims):
        model = random_model(tmp_path / "model", kind, dims)
        array = noise(*((6,) if dims == 3 else ()), 40, 52)
        (tmp_path / "images").mkdir()
        tifffile.imwrite(tmp_path / "images" / "x.tif", array, imagej=True, resolution=(2, 2),
                         metadata={"axes": "ZYX"[-dims:], "unit": "um", "spacing": 1.5})
        out, spacing = tmp_path / "out", {"z": 1.5, "y": 0.5, "x": 0.5}
        api.predict(model, tmp_path / "images", out, api.PredictOptions(device="cpu", probabilities=True, tile=16))
        found = api.predict_array(model, array, spacing={a: spacing[a] for a in "zyx"[-dims:]},
                                  options=api.PredictOptions(device="cpu", tile=32))
        assert len(np.unique(found.mask)) > 1
        np.testing.assert_array_equal(found.mask, written(out, "masks") > 0 if kind == "multilabel" else written(out, "masks"))
        np.testing.assert_array_equal(found.labels, written(out, "labels"))
        np.testing.assert_allclose(found.probabilities, written(out, "probabilities"), rtol=1e-5, atol=1e-6)
        assert len(found.channels) == len(found.probabilities)
        with (out / "objects.csv").open(newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
        assert list(rows[0])[1:] == list(found.objects)
        assert [int(r["id"]) for r in rows] == found.objects["id"].tolist()
        for column in ("centroid_y_um", "probability"):
            np.testing.assert_allclose([float(r[column]) for r in rows], found.objects[column], rtol=1e-4)


class TestAxes:
    def test_any_order_of_axes_is_the_same_image(self, tmp_path):
        model, array = random_model(tmp_path, "classes", channels=3), noise(3, 20, 24)
        usual = api.predict_array(model, array)
        last = api.predict_array(model, array.transpose(1, 2, 0), axes="YXC")
        turned = api.predict_array(model, array.transpose(2, 0, 1), axes="xcy")
        for other in (last, turned):
            np.testing.assert_array_equal(usual.mask, other.mask)
            np.testing.assert_array_equal(usual.probabilities, other.probabilities)

    @pytest.mark.parametrize(("shape", "axes"), [((8,), None), ((1, 2, 8, 8), None), ((8, 8), "YXC"), ((8, 8), "ZY"),
                                                 ((1, 8, 8), "YYX"), ((3, 8, 8), None), ((0, 8), None)])
    def test_what_the_model_does_not_take_is_refused(self, tmp_path, shape, axes):
        model = random_model(tmp_path, "classes")
        with pytest.raises(SizeError, match=r"shape|channel|no pixel"):
            api.predict_array(model, np.zeros(shape), axes=axes)

    @pytest.mark.parametrize(("dims", "channels", "shape", "told", "axes"), [
        (2, 3, (20, 24, 3), None, "YXC"), (2, 3, (20, 24, 3), "CYX", "YXC"), (2, 1, (20, 24, 1), None, "YXC"),
        (2, 4, (3, 20, 4), None, "YXC"), (3, 2, (4, 8, 12, 2), None, "ZYXC"), (2, 3, (3, 20, 24), "YXC", "CYX")])
    def test_the_order_that_fits_is_named_and_works(self, tmp_path, dims, channels, shape, told, axes):
        model, array = random_model(tmp_path, "classes", dims, channels), noise(*shape)
        with pytest.raises(SizeError, match=rf"channels, the model was trained on {channels}") as caught:
            api.predict_array(model, array, axes=told)
        assert str(shape) in caught.value.what
        assert caught.value.fix == f'if the channels come {"last" if axes[-1] == "C" else "first"}, say so: axes="{axes}"'
        assert api.predict_array(model, array, axes=axes).mask.shape == tuple(
            n for n, letter in zip(shape, axes, strict=True) if letter != "C")

    @pytest.mark.parametrize(("channels", "shape", "fix"), [
        (3, (20, 24), "give an array (3, Y, X)"), (1, (20, 24, 3), "give an array (1, Y, X) or (Y, X)"),
        (3, (20, 24, 5), "give an array (3, Y, X)"), (3, (1, 20, 24, 3), "give one image, with these axes and no others")])
    def test_no_order_is_named_that_does_not_fit(self, tmp_path, channels, shape, fix):
        with pytest.raises(SizeError) as caught:
            api.predict_array(random_model(tmp_path, "classes", channels=channels), noise(*shape))
        assert caught.value.fix == fix

    def test_a_folder_serves_as_a_model(self, tmp_path):
        model = random_model(tmp_path, "classes")
        array = noise(16, 16) > 30000
        np.testing.assert_array_equal(api.predict_array(tmp_path, array).mask, api.predict_array(model, array.astype(float)).mask)
