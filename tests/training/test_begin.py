"""`--from`: what is loaded, what is not, and that the better of before and after is kept."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from biomask import recipes
from biomask.api import TrainOptions
from biomask.api import train as train_by_options
from biomask.checkpoint import load_model
from biomask.errors import MissingPathError, ModelFileError, UsageError
from biomask.models import FCN, UNet
from biomask.training.begin import GENTLER, Begin, begin_recipe, load_into, read_begin


def network(channels: int = 4, width: int = 2) -> UNet:
    torch.manual_seed(7)
    return UNet(1, channels, width=width, depth=1, norm="batch")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class TestRead:
    @pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s},
                                      lambda s: {f"module.{k}": v for k, v in s.items()}])
    def test_state_dicts(self, tmp_path, wrap):
        state = network().state_dict()
        torch.save(wrap(state), tmp_path / "w.pth")
        begin = read_begin(tmp_path / "w.pth")
        assert same(begin.tensors, dict(state))
        other = network().requires_grad_(True)
        for p in other.parameters():
            p.data.zero_()
        assert load_into(other, begin) == ()
        assert same(dict(other.state_dict()), dict(state))

    def test_safetensors_of_others(self, tmp_path):
        save_file(network().state_dict(), tmp_path / "w.safetensors")
        assert same(read_begin(tmp_path / "w.safetensors").tensors, dict(network().state_dict()))

    def test_nothing_is_unpickled_but_tensors(self, tmp_path):
        """A whole module would run code when it is read."""
        torch.save(network(), tmp_path / "whole.pt")
        with pytest.raises(ModelFileError, match="read safely"):
            read_begin(tmp_path / "whole.pt")

    @pytest.mark.parametrize("content", [{}, [1, 2], {"a": 3}, torch.zeros(3)])
    def test_no_tensors_by_name(self, tmp_path, content):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(ModelFileError, match="no tensors"):
            read_begin(tmp_path / "w.pth")

    def test_what_is_not_there(self, tmp_path):
        with pytest.raises(MissingPathError):
            read_begin(tmp_path / "no.pth")
        (tmp_path / "text.pth").write_text("hello")
        with pytest.raises(ModelFileError):
            read_begin(tmp_path / "text.pth")


class TestLoad:
    def test_a_foreign_head_begins_anew(self, tmp_path):
        torch.save(network(channels=3).state_dict(), tmp_path / "w.pth")
        ours = network(channels=5)
        head = {k: v.clone() for k, v in ours.state_dict().items() if k.startswith("head")}
        left = load_into(ours, read_begin(tmp_path / "w.pth"))
        assert left == tuple(sorted(head))
        found = ours.state_dict()
        assert all(torch.equal(found[k], head[k]) for k in head)
        theirs = network(channels=3).state_dict()
        assert all(torch.equal(found[k], theirs[k]) for k in found if k not in head)

    def test_nothing_fits(self, tmp_path):
        torch.save({"encoder.weight": torch.zeros(3, 3)}, tmp_path / "w.pth")
        with pytest.raises(ModelFileError, match="none of its 1 tensors fits") as caught:
            load_into(network(), read_begin(tmp_path / "w.pth"))
        assert "encoder.weight" in str(caught.value)

    @pytest.mark.parametrize(("before", "after"), [("fcn-32s", "fcn-16s"), ("fcn-16s", "fcn-8s"), ("fcn-32s", "fcn-8s")])
    def test_a_stage_begins_with_the_weights_of_the_one_before(self, before, after):
        """All of them: what is new are scores of finer layers, which begin at zero, and their up-sampling, which is bilinear."""
        made = {}
        for name in (before, after):
            recipe = recipes.get(name).with_settings(["network.options.width=2"])
            torch.manual_seed(3)
            made[name] = recipe, FCN(1, 2, **recipe.network.options)
        trained = made[before][1]
        with torch.no_grad():
            for p in trained.parameters():
                p.normal_(generator=torch.Generator().manual_seed(p.numel()))
        begin = Begin(dict(trained.state_dict()), before, made[before][0])
        recipe = begin_recipe(recipes.get(after), begin, ())
        assert recipe.network.options == {**made[before][0].network.options, "stride": recipes.get(after).network.options["stride"]}
        network = FCN(1, 2, **recipe.network.options)
        left = load_into(network, begin)
        own, theirs = network.state_dict(), trained.state_dict()
        assert all(torch.equal(own[k], theirs[k]) for k in theirs)
        assert set(left) == set(own) - set(theirs)
        assert {k.partition(".")[0] for k in left} <= {"score_pool4", "upscore2", "score_pool3", "upscore_pool4"}
        assert not any(own[k].any() for k in left if k.startswith("score"))

    def test_another_network_than_the_recipes_stays_that_of_the_model(self, tiny_model):
        begin = read_begin(tiny_model)
        assert begin_recipe(recipes.get("fcn-8s"), begin, ()).network == begin.recipe.network
        fcn = Begin({}, "fcn", recipes.get("fcn-32s"))
        assert begin_recipe(recipes.get("default"), fcn, ()).network == recipes.get("fcn-32s").network

    def test_settings_of_the_network_contradict_a_model(self, tiny_model):
        begin = read_begin(tiny_model)
        recipe = begin.recipe
        with pytest.raises(UsageError, match="--from"):
            begin_recipe(recipe, begin, ("network.options.width=8",))
        assert begin_recipe(recipe, begin, ()).training.lr == pytest.approx(GENTLER * recipe.training.lr)
        assert begin_recipe(recipe, begin, ("training.lr=0.001",)).training.lr == recipe.training.lr


class TestTrained:
    def gone_on(self, objects, tmp_path, train, heard, lr):
        first = train(objects, tmp_path / "first", steps=30)
        settings = ("training.batch=2", "training.patch=[32, 32]", "training.validations=3", "prediction.augment=none",
                    "training.warmup=0", f"training.lr={lr}")
        options = TrainOptions(settings=settings, steps=6, device="cpu", begin=tmp_path / "first")
        return first, train_by_options(objects, tmp_path / "second", options, progress=heard)

    def test_the_score_before_is_on_record_and_the_better_is_kept(self, objects, tmp_path, train, heard):
        """Far too high a rate ruins the weights: those it began with are kept."""
        _, second = self.gone_on(objects, tmp_path, train, heard, lr=1e4)
        assert second.score_before is not None
        assert second.validation_score >= second.score_before
        before, after = (load_model(tmp_path / n) for n in ("first", "second"))
        if second.validation_score == second.score_before and after.header.step == 0:
            assert same(dict(before.network.state_dict()), dict(after.network.state_dict()))
            assert [w for w in heard.warned if "did not improve" in w]
        assert after.header.scores["before.value"] == second.score_before
        assert [s for s in heard.said if s.startswith("before training, average precision")]

    def test_a_rate_of_almost_nothing_changes_almost_nothing(self, objects, tmp_path, train, heard):
        _, second = self.gone_on(objects, tmp_path, train, heard, lr=1e-12)
        before, after = (load_model(tmp_path / n).network for n in ("first", "second"))
        for (name, a), (_, b) in zip(before.named_parameters(), after.named_parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6), name
        assert second.validation_score >= second.score_before

    def test_the_stages_of_the_fcn(self, tmp_path, tiny_data, heard):
        """32s → 16s → 8s, each from the model before: all its tensors are taken over."""
        small = ("training.batch=2", "training.patch=[32, 32]", "training.validations=1", "prediction.augment=none")
        before = None
        for name in ("fcn-32s", "fcn-16s", "fcn-8s"):
            width = ("network.options.width=1",) if before is None else ()
            options = TrainOptions(recipe=name, settings=(*small, *width), steps=1, device="cpu", begin=before)
            before = train_by_options(tiny_data, tmp_path / name, options, progress=heard).model
            assert load_model(before).network.stride == int(name[4:-1])
            assert load_model(before).header.recipe.name == name
        anew = [s.partition("begin anew: ")[2] for s in heard.said if "begin anew" in s]
        assert [a.partition(".")[0] for a in anew] == ["score_pool4", "score_pool3"]

    def test_other_images_of_another_kind(self, objects, tmp_path, train, heard, tiny_model):
        """A model of two classes becomes one of objects: all but the head is taken over, and there is no score before."""
        from biomask import api

        options = api.TrainOptions(settings=("training.batch=2", "training.patch=[32, 32]", "prediction.augment=none"), steps=2,
                                   device="cpu", begin=tiny_model)
        result = api.train(objects, tmp_path / "m", options, progress=heard)
        assert result.score_before is None
        assert [s for s in heard.said if "begin anew: head" in s]
        header = load_model(tmp_path / "m").header
        assert header.kind == "instances"
        assert header.recipe.network == load_model(tiny_model).header.recipe.network
        assert json.loads((tmp_path / "m" / "run.json").read_text())["step"] == 2
        assert np.isfinite(result.validation_score)
