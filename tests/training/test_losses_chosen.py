"""Losses, schedules and copies by settings, in trainings."""

import pytest
import torch

from biomask import api
from biomask.checkpoint import load_model
from biomask.errors import SizeError, UsageError
from biomask.io import read_label_values

PLUS = ("network.options={width: 2, depth: 2, deep_supervision: true}", "training.batch=2", "training.patch=[32, 32]",
        "training.validations=1", "prediction.augment=none")


def test_class_weights_of_borders_are_those_of_the_training_images(objects, tmp_path, train, heard):
    result = train(objects, tmp_path / "m", "instances.target=borders", "instances.balance=true", "loss.dice=0", steps=3,
                   progress=heard)
    ids = [read_label_values(p).array for p in sorted((objects / "masks").iterdir())]
    share = sum((i > 0).sum() for i in ids) / sum(i.size for i in ids)
    found = load_model(result.model).header.recipe.loss.class_weights
    assert found == pytest.approx((1 / (2 * (1 - share)), 1 / (2 * share)), rel=0.02)
    assert [s for s in heard.said if "by the inverse share of their class" in s]
    assert not [s for s in heard.said if "all classes alike" in s]


def test_weights_that_were_given_stay(objects, tmp_path, train):
    result = train(objects, tmp_path / "m", "instances.target=borders", "instances.balance=true", "loss.class_weights=[1, 2]",
                   steps=2)
    assert load_model(result.model).header.recipe.loss.class_weights == (1, 2)


@pytest.mark.parametrize(("settings", "said"), [
    (("loss.published=optic-disc",), "as published (optic-disc), all classes alike"),
    (("loss.dice=0", "loss.focal=1"), "cross-entropy and focal"), (("loss.cross_entropy=0",), "Dice, all classes alike"),
    (("loss.tversky=1", "loss.cross_entropy=0", "loss.dice=0"), "Tversky, all classes alike")])
def test_the_loss_is_said_and_learns(tiny_data, tmp_path, train, heard, settings, said):
    result = train(tiny_data, tmp_path / "m", *settings, "training.lr=1e-2", steps=20, progress=heard)
    assert [s for s in heard.said if f"loss: {said}" in s]
    rows = [line.split(",") for line in (result.model / "log.csv").read_text().splitlines()[1:]]
    losses = [float(r[3]) for r in rows if r[3]]
    assert losses[-1] < losses[0]


def test_plug_in_weights_and_adam_and_steps(objects, tmp_path, train):
    result = train(objects, tmp_path / "m", "instances.target=borders", "instances.weights=plug-in", "training.optimizer=adam",
                   "training.schedule=step", "training.drop_every=0.5", "training.warmup=0", "training.lr=1e-3", steps=4)
    rates = {float(line.split(",")[2]) for line in (result.model / "log.csv").read_text().splitlines()[1:]}
    assert sorted(rates) == pytest.approx([1e-4, 1e-3])


class TestHeads:
    def trained(self, data, out, *settings):
        return api.train(data, out, api.TrainOptions(recipe="unet++", settings=(*PLUS, *settings), steps=2, device="cpu"))

    def test_weights_of_heads_change_what_is_learnt(self, tiny_data, tmp_path):
        alike, also, last = (self.trained(tiny_data, tmp_path / n, *s) for n, s in (
            ("a", ()), ("b", ("loss.heads=[1, 1]",)), ("c", ("loss.heads=[0, 1]",))))
        weights = [load_model(r.model).network.state_dict() for r in (alike, also, last)]
        head = next(k for k in weights[0] if k.startswith("heads.x01") and k.endswith("bias"))
        assert all(torch.allclose(weights[0][k], weights[1][k], atol=1e-6) for k in weights[0])
        assert not torch.equal(weights[0][head], weights[2][head])

    def test_as_many_as_there_are_heads(self, tiny_data, tmp_path):
        with pytest.raises(SizeError, match="3 weights for 2 heads"):
            self.trained(tiny_data, tmp_path / "m", "loss.heads=[1, 1, 1]")

    def test_published_losses_have_no_weights_of_borders(self, tiny_data, tmp_path):
        with pytest.raises(UsageError, match="no weights of pixels"):
            self.trained(tiny_data, tmp_path / "m", "instances.target=borders")


def test_a_model_predicts_by_the_copies_that_its_recipe_lists(tiny_data, tmp_path, train, heard):
    settings = ("prediction.augment=rotations", "prediction.rotations=[0, 90, mirror 0]")
    result = train(tiny_data, tmp_path / "m", *settings, steps=2)
    assert load_model(result.model).header.recipe.prediction.augment == "rotations"
    api.predict(result.model, tiny_data / "images", tmp_path / "out", api.PredictOptions(device="cpu"), progress=heard)
    assert [s for s in heard.said if "mean over 3 mirrored or turned copies" in s]
