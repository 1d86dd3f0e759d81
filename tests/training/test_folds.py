"""Cross-validation: each image is held out once, and the mean of all networks predicts."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biomask import api
from biomask.checkpoint import load_model
from biomask.data.task import Task
from biomask.errors import UsageError
from biomask.prediction import predict_array
from biomask.prediction.maps import predict_maps
from biomask.training.folds import fold_splits


class TestSplits:
    @given(st.lists(st.integers(0, 6), min_size=2, max_size=30), st.integers(2, 6), st.integers(0, 99), st.booleans())
    def test_each_image_is_held_out_once_and_groups_stay_whole(self, groups, folds, seed, numbered):
        names = [f"s{i:03d}" if numbered else f"{'abcdefghij'[i % 10]}x{'qwertzuiop'[i // 10]}" for i in range(len(groups))]
        own = [str(g) for g in groups]
        distinct = len(set(own)) if len(set(own)) < len(names) else len(names)
        if folds > distinct:
            with pytest.raises(UsageError, match=f"--folds {folds}"):
                fold_splits(names, own, folds, seed)
            return
        splits = fold_splits(names, own, folds, seed)
        assert len(splits) == folds
        assert sorted(i for s in splits for i in s.validation) == list(range(len(names)))
        for split in splits:
            assert split.validation
            assert sorted([*split.training, *split.validation]) == list(range(len(names)))
            if len(set(own)) < len(names):
                assert not {own[i] for i in split.training} & {own[i] for i in split.validation}
        assert fold_splits(names, own, folds, seed) == splits

    def test_planes_of_a_stack_are_held_out_in_blocks(self):
        splits = fold_splits([f"z{i}" for i in (3, 1, 2, 0, 5, 4)], None, 3, 0)
        assert [sorted([3, 1, 2, 0, 5, 4][i] for i in s.validation) for s in splits] == [[0, 1], [2, 3], [4, 5]]


def test_trained_resumed_and_predicted(objects, tmp_path, train, heard):
    out = tmp_path / "m"
    result = train(objects, out, steps=6, folds=2, progress=heard)
    model = load_model(out)
    members = [load_model(out / "folds" / str(n)) for n in (1, 2)]
    assert model.header.members == 2
    assert model.header.scores["validation.score"] == pytest.approx(np.mean([m.header.scores["validation.score"] for m in members]))
    assert result.validation_score == pytest.approx(model.header.scores["validation.score"])
    assert json.loads((out / "run.json").read_text())["folds"] == 2
    # The ensemble is the mean of the logits, then softmax and sigmoid.
    image = np.random.default_rng(0).normal(size=(1, 33, 41)).astype(np.float32)
    logits = np.mean([predict_array(m.network, image) for m in members], axis=0)
    assert np.allclose(predict_array(model.network, image), logits, atol=1e-5)
    expected = Task("instances", 2).activate(torch.from_numpy(logits)).numpy()
    assert np.allclose(predict_maps(model.network, image, model.task, (16, 16)), expected, atol=1e-5)
    done = api.predict(out, objects / "images", tmp_path / "p", api.PredictOptions(device="cpu"))
    assert len(done.done) == 6
    # Again: nothing is trained, and the file is the same.
    before = (out / "model.safetensors").read_bytes()
    train(objects, out, steps=6, folds=2, progress=heard)
    assert len([s for s in heard.said if "finished already" in s]) == 2
    assert (out / "model.safetensors").read_bytes() == before


def test_interrupted_between_folds_it_goes_on(objects, tmp_path, train, monkeypatch):
    """Killed in the second fold: the first one is not trained again, and the result is that of a straight run."""
    from biomask.training.loop import Trainer

    own = Trainer._step

    def killed(trainer, fraction):
        if trainer.folder.parent.name == "2" and trainer.state.step == 3:
            raise KeyboardInterrupt
        own(trainer, fraction)

    monkeypatch.setattr(Trainer, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(objects, tmp_path / "m", steps=6, folds=2)
    monkeypatch.undo()
    first = (tmp_path / "m" / "folds" / "1" / "model.safetensors").read_bytes()
    train(objects, tmp_path / "m", steps=6, folds=2)
    train(objects, tmp_path / "straight", steps=6, folds=2)
    assert (tmp_path / "m" / "folds" / "1" / "model.safetensors").read_bytes() == first
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (tmp_path / "straight" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("augment", ["none", "mirrors", "rotations"])
def test_copies_that_the_recipe_asks_for_stay(objects, tmp_path, train, augment):
    train(objects, tmp_path / "m", f"prediction.augment={augment}", steps=2, folds=2)
    assert load_model(tmp_path / "m").header.recipe.prediction.augment == augment


def test_more_folds_than_images(objects, tmp_path, train):
    with pytest.raises(UsageError, match="--folds 7") as caught:
        train(objects, tmp_path / "m", folds=7)
    assert "--folds 5" in (caught.value.fix or "")
