"""Trainings that end with the table of depths, and with a network of the user's own."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from biomask import api
from biomask.checkpoint import load_model
from biomask.errors import ModelFileError, UsageError
from biomask.models import MODELS, UNetPlusPlus
from biomask.models.blocks import parameter_count

PLUS = ("network.options={width: 2, depth: 2, deep_supervision: true}", "training.batch=2", "training.patch=[32, 32]",
        "training.validations=2", "prediction.augment=none")
OWN = ("training.batch=2", "training.patch=[32, 32]", "training.validations=2", "prediction.augment=none")

CODE = '''
import torch

class Mine(torch.nn.Module):
    def __init__(self, in_channels, classes, width=4):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(in_channels, width, 3, stride=2, padding=1), torch.nn.ReLU(),
                                        torch.nn.ConvTranspose2d(width, classes, 2, 2))

    def forward(self, x):
        return self.body(x)
'''


def options(settings, **more):
    return api.TrainOptions(settings=settings, steps=6, device="cpu", **more)


def test_a_unetpp_ends_with_the_table_of_its_depths(tmp_path, tiny_data, heard):
    api.train(tiny_data, tmp_path / "m", options(PLUS, recipe="unet++"), progress=heard)
    header = load_model(tmp_path / "m").header
    assert [(h.depth, h.mode) for h in header.heads] == [(1, "fast"), (2, "fast"), (2, "accurate")]
    whole = UNetPlusPlus(1, 2, width=2, depth=2, deep_supervision=True)
    assert [h.parameters for h in header.heads] == [parameter_count(n) for n in (whole.prune(1), whole.prune(2), whole)]
    assert sum(h.recommended for h in header.heads) == 1
    assert all(h.seconds > 0 and 0 <= h.score <= 1 and 0 < h.cut < 1 for h in header.heads)
    said = "\n".join(heard.said)
    assert "what each depth of this UNet++ is worth" in said
    assert "--depth 1" in said
    assert said.count("recommended") == 1
    assert json.loads((tmp_path / "m" / "run.json").read_text())["heads"][0]["depth"] == 1


def test_the_table_survives_a_second_run_and_folds_are_averaged(tmp_path, tiny_data):
    api.train(tiny_data, tmp_path / "m", options(PLUS, recipe="unet++", folds=2))
    joined = load_model(tmp_path / "m").header.heads
    folds = [load_model(tmp_path / "m" / "folds" / str(n)).header.heads for n in (1, 2)]
    assert [h.score for h in joined] == pytest.approx([np.mean([f[k].score for f in folds]) for k in range(3)])
    assert sum(h.recommended for h in joined) == 1
    before = load_model(tmp_path / "m" / "folds" / "1").header.heads
    api.train(tiny_data, tmp_path / "m", options(PLUS, recipe="unet++", folds=2))
    assert load_model(tmp_path / "m" / "folds" / "1").header.heads == before


class TestOwnNetwork:
    @pytest.fixture
    def code(self, tmp_path):
        (tmp_path / "my_nets.py").write_text(CODE)
        yield f"{tmp_path / 'my_nets.py'}:Mine"
        MODELS.pop("my_nets:Mine", None)

    def test_trains_resumes_and_predicts(self, tmp_path, tiny_data, code):
        wanted = options((*OWN, "network.options.width=6"), network=code)
        trained = api.train(tiny_data, tmp_path / "m", wanted)
        assert trained.validation_score is not None
        assert api.train(tiny_data, tmp_path / "m", wanted).step == trained.step
        MODELS.pop("my_nets:Mine")
        with pytest.raises(ModelFileError, match="somebody's own code, my_nets:Mine"):
            api.load_model(trained.model)
        model = api.load_model(trained.model, model=api.own_network(code))
        assert model.network.inner.body[0].out_channels == 6
        result = api.predict(model, tiny_data / "images", tmp_path / "out")
        assert len(result.done) == 4
        assert 0 <= api.evaluate(result.out, tiny_data).mean["dice"] <= 1

    def test_large_images_go_in_tiles_with_the_difference_told(self, tmp_path, tiny_data, code, heard):
        trained = api.train(tiny_data, tmp_path / "m", options(OWN, network=code))
        result = api.predict(trained.model, tiny_data / "images", tmp_path / "out", api.PredictOptions(tile=16, device="cpu"))
        assert any("cannot be tiled exactly, and tiles were needed for 4 images" in w for w in result.warnings)
        entry = json.loads((tmp_path / "out" / "run.json").read_text())["images"]["im_00"]
        assert 0 <= entry["tiling_difference"] < 1e-4

    def test_a_module_itself_with_weights_to_begin_with(self, tmp_path, tiny_data):
        torch.manual_seed(3)
        module = nn.Conv2d(1, 2, 5, padding=2)
        before = {k: v.clone() for k, v in module.state_dict().items()}
        trained = api.train(tiny_data, tmp_path / "m", options(OWN, network=module))
        assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())  # a copy was trained
        loaded = api.load(trained.model, model=nn.Conv2d(1, 2, 5, padding=2))
        assert not torch.equal(loaded.inner.weight, module.weight)
        assert (loaded.inner.weight - module.weight).abs().max() < 0.1  # it began with its weights
        MODELS.pop("torch.nn.modules.conv:Conv2d")

    def test_objects_need_more_channels_and_it_is_said(self, tmp_path, objects, code):
        """Of a class they are asked for; of a module that is made they are what they are."""
        assert api.train(objects, tmp_path / "m", options(OWN, network=code)).step == 6
        with pytest.raises(UsageError, match="labels need 4 channels"):
            api.train(objects, tmp_path / "n", options(OWN, network=nn.Conv2d(1, 2, 1)))

    @pytest.mark.parametrize(("given", "said"), [
        ("my_nets.py", "does not say where"), ("nowhere.py:Mine", "no such file"), ("no_such_package:Mine", "No module named"),
        ("{}:Yours", "has no network Yours"), ("{}:", "does not say where")])
    def test_what_is_not_there(self, tmp_path, tiny_data, code, given, said):
        with pytest.raises(Exception, match=said) as found:
            api.train(tiny_data, tmp_path / "m", options(OWN, network=given.format(code.rpartition(":")[0])))
        assert type(found.value).__module__ == "biomask.errors"

    def test_code_that_fails(self, tmp_path, tiny_data):
        (tmp_path / "broken.py").write_text("import torch\n1 / 0\n")
        with pytest.raises(UsageError, match="ZeroDivisionError"):
            api.train(tiny_data, tmp_path / "m", options(OWN, network=f"{tmp_path / 'broken.py'}:Mine"))

    @pytest.mark.parametrize(("code", "said"), [
        ("raise SystemExit(0)", "SystemExit"), ("def Mine(c, k):\n    raise RuntimeError('no GPU')", "no GPU"),
        ("def Mine(c, k):\n    return 3", "not a torch"),
        ("import torch\nclass Mine(torch.nn.Conv2d):\n    def __init__(s, c, k): super().__init__(c, k, 1)\n"
         "    def forward(s, x): return x.nothing", "nothing")])
    def test_code_that_fails_later_or_ends_the_program(self, tmp_path, tiny_data, code, said):
        """Also where it is called like a module that biomask needs."""
        import json as before
        import sys

        (tmp_path / "json.py").write_text(code)
        with pytest.raises(UsageError, match=said):
            api.train(tiny_data, tmp_path / "m", options(OWN, network=f"{tmp_path / 'json.py'}:Mine"))
        assert sys.modules["json"] is before
        MODELS.pop("json:Mine", None)

    def test_another_network_than_it_was_trained_with(self, tmp_path, tiny_data, code):
        trained = api.train(tiny_data, tmp_path / "m", options(OWN, network=code))
        MODELS.pop("my_nets:Mine")
        with pytest.raises(ModelFileError, match="own code"):
            api.load_model(trained.model, model=nn.Conv2d(1, 2, 1))
        MODELS.pop("torch.nn.modules.conv:Conv2d")


def test_one_patch_of_one_pixel_at_the_bottom_is_refused_for_batch_normalisation(tmp_path, make_dataset):
    data = make_dataset(tmp_path / "data", size=(20, 20))
    with pytest.raises(UsageError, match="one value a channel at the bottom"):
        api.train(data, tmp_path / "m", api.TrainOptions(recipe="unet-milesial", steps=2, device="cpu", settings=(
            "network.options.width=2", "training.batch=1", "training.patch=[16, 16]")))
