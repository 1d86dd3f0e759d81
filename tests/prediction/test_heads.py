"""`--depth`, `--mode` and `--attention`: what a network's heads and gates give, over files."""

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

from biomask import api
from biomask.api import PredictOptions
from biomask.checkpoint import MODEL_FILE, ModelHeader, load_model, network_of, save_model
from biomask.errors import UsageError
from biomask.io.files import write_picture
from biomask.labels import Legend
from biomask.models import AttentionUNet, UNetPlusPlus
from biomask.models.ensemble import Ensemble
from biomask.models.head_score import HeadScore
from biomask.models.unet_plus_plus import mean_of_heads
from biomask.prediction.attention import Gates, draw_attention
from biomask.prediction.heads import with_heads
from biomask.prediction.overlap_tile import predict_array
from biomask.recipe import NetworkSettings, NormalizationSettings, Recipe
from biomask.transforms.normalize import apply


def model_of(folder, name, **options):
    """A model with random weights: one channel, two classes."""
    recipe = Recipe(name="test", network=NetworkSettings(name=name, options=options),
                    normalization=NormalizationSettings(method="zscore"))
    header = ModelHeader(recipe=recipe, in_channels=1, spatial_dims=2, kind="classes", legend=Legend.of_values([0, 1]).to_json())
    torch.manual_seed(0)
    network = network_of(recipe, header.task, in_channels=1, spatial_dims=2)
    save_model(folder / MODEL_FILE, network.state_dict(), header)
    return folder


@pytest.fixture(scope="module")
def plus(tmp_path_factory):
    return model_of(tmp_path_factory.mktemp("plus"), "unet++", width=2, depth=3, deep_supervision=True)


@pytest.fixture(scope="module")
def attentive(tmp_path_factory):
    return model_of(tmp_path_factory.mktemp("attentive"), "attention-unet", width=2)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for n in range(2):
        write_picture(folder / f"{n}.png", np.random.default_rng(n).integers(0, 255, (40, 56), np.uint8))
    return folder


def test_each_head_decides_by_its_own_cut(tmp_path, plus, images):
    model = load_model(plus)
    network = with_heads(model.network, 1, "fast")
    with torch.no_grad():
        found = network(pixels(images, plus))[0].softmax(dim=0)[1].numpy()
    cut = float(np.quantile(found, 0.3))
    heads = (HeadScore(depth=1, mode="fast", score=0.5, parameters=1, seconds=1.0, cut=cut),)
    save_model(tmp_path / MODEL_FILE, model.network.state_dict(), model.header.model_copy(
        update={"heads": heads, "thresholds": {"cut": 1.0}}))
    api.predict(tmp_path, images / "0.png", tmp_path / "whole")
    assert not tifffile.imread(tmp_path / "whole" / "masks" / "0.tif").any()  # by the cut of the model
    api.predict(tmp_path, images / "0.png", tmp_path / "one", PredictOptions(depth=1))
    assert (tifffile.imread(tmp_path / "one" / "masks" / "0.tif") > 0).mean() == pytest.approx((found > cut).mean(), abs=0.001)


def pixels(images, model):
    with Pillow.open(images / "0.png") as opened:
        array = np.asarray(opened, np.float32)[None]
    offset, scale = load_model(model).normalization.statistics(array)
    return torch.from_numpy(apply(array, offset, scale))[None]


class TestHeads:
    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_fast_is_that_head_and_accurate_the_mean_of_probabilities(self, tmp_path, plus, images, depth):
        network = load_model(plus).network
        with torch.no_grad():
            heads = network.train()(pixels(images, plus))
        for mode, expected in (("fast", heads[depth - 1].softmax(1)),
                               ("accurate", torch.stack([h.softmax(1) for h in heads[:depth]]).mean(0))):
            out = tmp_path / mode
            api.predict(plus, images, out, PredictOptions(depth=depth, mode=mode, probabilities=True, device="cpu"))
            found = tifffile.imread(out / "probabilities" / "0.tif")
            assert np.abs(found - expected[0].numpy()).max() < 1e-5

    def test_without_a_depth_all_heads_count(self, tmp_path, plus, images):
        api.predict(plus, images, tmp_path / "as trained", PredictOptions(probabilities=True, device="cpu"))
        api.predict(plus, images, tmp_path / "accurate", PredictOptions(probabilities=True, device="cpu", mode="accurate"))
        one, other = (tifffile.imread(tmp_path / n / "probabilities" / "0.tif") for n in ("as trained", "accurate"))
        assert np.array_equal(one, other)

    def test_another_depth_is_predicted_again_and_the_same_is_not(self, tmp_path, plus, images):
        ways = [PredictOptions(device="cpu", depth=d) for d in (1, 2, 2, None)]
        done = [len(api.predict(plus, images, tmp_path / "out", way).done) for way in ways]
        assert done == [2, 2, 0, 2]
        assert json.loads((tmp_path / "out" / "run.json").read_text())["images"]["0"]["depth"] is None

    def test_averages_what_its_channels_mean(self, plus):
        """Of two classes softmax probabilities, not logits."""
        network = load_model(plus).network
        assert network.average == 2
        x = torch.randn(1, 1, 16, 16)
        with torch.no_grad():
            assert torch.equal(network(x), mean_of_heads(network.train()(x), "softmax"))

    def test_what_there_is_not(self, tmp_path, plus, attentive, images):
        for model, options, said in ((plus, PredictOptions(depth=4), "no head at depth 4"),
                                     (attentive, PredictOptions(depth=1), "this model is a AttentionUNet"),
                                     (attentive, PredictOptions(mode="fast"), "--mode fast chooses"),
                                     (plus, PredictOptions(attention=True), "this model is a UNetPlusPlus")):
            with pytest.raises(UsageError, match=said):
                api.predict(model, images, tmp_path / "out", options)
        with pytest.raises(UsageError, match="trained with one"):
            with_heads(UNetPlusPlus(1, 2, width=2, depth=2), None, "accurate")
        with pytest.raises(UsageError, match="not at least 1"):
            PredictOptions(depth=0)

    def test_members_of_an_ensemble_are_pruned_alike(self):
        torch.manual_seed(0)
        members = [UNetPlusPlus(1, 2, width=2, depth=2, deep_supervision=True).eval() for _ in range(2)]
        x = torch.randn(1, 1, 16, 16)
        with torch.no_grad():
            expected = torch.stack([m.prune(1)(x) for m in members]).mean(0)
            assert torch.allclose(with_heads(Ensemble(members), 1, None)(x), expected, atol=1e-6)


class TestAttention:
    def test_files(self, tmp_path, attentive, images):
        out = api.predict(attentive, images, tmp_path / "out", PredictOptions(attention=True, device="cpu")).out
        with tifffile.TiffFile(out / "attention" / "0.tif") as file:
            maps = file.asarray()
            assert "gate 1, finest" in (file.ome_metadata or "")
        network = load_model(attentive).network
        with torch.no_grad():
            expected = torch.cat(network.attention(pixels(images, attentive)), 1)[0].numpy()
        assert maps.shape == (4, 40, 56)
        assert maps.dtype == np.float32
        assert np.abs(maps - expected).max() < 1e-5
        with Pillow.open(out / "attention" / "0.png") as picture:
            assert picture.size == (56 * 5, 40)

    def test_is_made_when_asked_for_later(self, tmp_path, attentive, images):
        assert len(api.predict(attentive, images, tmp_path / "out", PredictOptions(device="cpu")).done) == 2
        assert len(api.predict(attentive, images, tmp_path / "out", PredictOptions(device="cpu", attention=True)).done) == 2
        assert len(api.predict(attentive, images, tmp_path / "out", PredictOptions(device="cpu", attention=True)).done) == 0

    @pytest.mark.parametrize(("name", "options"), [("attention-unet", {}), ("grid-attention-unet", {"gates": 2})])
    def test_tiled_equals_untiled(self, tmp_path, name, options):
        network = load_model(model_of(tmp_path, name, width=2, **options)).network
        image = np.random.default_rng(0).standard_normal((1, 70, 90)).astype(np.float32)
        whole, tiled = predict_array(Gates(network), image), predict_array(Gates(network), image, tile=16)
        assert np.abs(whole - tiled).max() < 1e-5
        assert whole.min() >= -1e-6
        assert whole.max() <= 1 + 1e-6

    def test_of_an_ensemble_is_the_mean(self):
        torch.manual_seed(0)
        members = [AttentionUNet(1, 2, width=2).eval() for _ in range(2)]
        x = torch.randn(1, 1, 32, 32)
        with torch.no_grad():
            expected = torch.stack([torch.cat(m.attention(x), 1) for m in members]).mean(0)
            assert torch.allclose(Gates(Ensemble(members))(x), expected, atol=1e-6)

    def test_the_picture_is_brighter_where_more_passes(self):
        from biomask.image import Image

        image = Image(np.full((1, 8, 10), 7, np.uint8), "cyx", "i")
        attention = np.zeros((1, 8, 10), np.float32)
        attention[0, :, 5:] = 1
        panel = draw_attention(image, attention)[:, :, 10:].astype(int).sum(axis=0)
        assert (panel[:, 5:].min() > panel[:, :5].max()).all()
