"""What was chosen when a training began stays, and axes that carry meaning are left alone."""

import json

import pytest

from biomask import api
from biomask.checkpoint import load_model
from biomask.errors import InputError, UsageError

OPEN = ("network.options.width=2", "network.options.depth=1", "training.patch=[32, 32]", "prediction.augment=none")


def test_another_budget_keeps_the_sizes(objects, tmp_path, heard):
    """The batch and the warps follow from a budget: more of it must not make it another training."""
    first = api.train(objects, tmp_path / "m", api.TrainOptions(settings=OPEN, steps=3, device="cpu"))
    plan = (tmp_path / "m" / "resume" / "plan.json").read_bytes()
    chosen = json.loads(plan)["recipe"]
    more = api.train(objects, tmp_path / "m", api.TrainOptions(settings=OPEN, minutes=0.2, device="cpu"), progress=heard)
    assert more.step > first.step
    assert (tmp_path / "m" / "resume" / "plan.json").read_bytes() == plan
    recipe = load_model(tmp_path / "m").header.recipe
    assert recipe.training.batch == chosen["training"]["batch"]
    assert recipe.augmentation.model_dump(mode="json") == chosen["augmentation"]
    assert (recipe.training.minutes, recipe.training.steps) == (0.2, None)
    assert [s for s in heard.said if "when this training began" in s]


def test_other_wishes_are_another_training(objects, tmp_path):
    api.train(objects, tmp_path / "m", api.TrainOptions(settings=OPEN, steps=2, device="cpu"))
    before = {p: p.read_bytes() for p in (tmp_path / "m").rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="other settings"):
        api.train(objects, tmp_path / "m", api.TrainOptions(settings=(*OPEN, "training.lr=0.01"), steps=2, device="cpu"))
    narrow = ("network.options.width=4", *OPEN[1:])
    with pytest.raises(InputError, match=r"network\.options\.width: 2 → 4"):
        api.train(objects, tmp_path / "m", api.TrainOptions(settings=narrow, steps=2, device="cpu"))
    assert {p: p.read_bytes() for p in (tmp_path / "m").rglob("*") if p.is_file()} == before


class TestNoFlip:
    def test_it_reaches_training_and_the_copies_of_predictions(self, objects, tmp_path):
        options = api.TrainOptions(settings=OPEN[:3], steps=2, device="cpu", no_flip=("x",))
        api.train(objects, tmp_path / "m", options)
        recipe = load_model(tmp_path / "m").header.recipe
        assert "x" not in recipe.augmentation.flip
        assert "y" in recipe.augmentation.flip
        assert not recipe.augmentation.rotate90  # a half turn is a mirror image along both
        assert recipe.augmentation.rotate <= 15
        wanted = api.PredictOptions(device="cpu", augment="symmetries")
        result = api.predict(tmp_path / "m", objects / "images", tmp_path / "p", wanted)
        assert len(result.done) == 6

    def test_axes_by_their_letters_alone(self, objects, tmp_path):
        with pytest.raises(UsageError, match="no such axis"):
            api.train(objects, tmp_path / "m", api.TrainOptions(steps=1, no_flip=("w",)))
