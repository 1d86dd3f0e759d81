"""Numbers that are no numbers, and trainings that learn nothing: told with a cause, and as little is lost as can be."""

import math

import pytest
import torch

from biomask.checkpoint import load_model
from biomask.data.dataset import open_dataset
from biomask.errors import InputError
from biomask.recipe import Recipe
from biomask.training import budget, guard
from biomask.training.guard import MOST_RETRIES, diagnosis, gradient_norm, nothing_learnt, why_nothing
from biomask.training.loop import Trainer
from biomask.training.objective import Score
from biomask.training.optimizer import make_optimizer
from biomask.training.resume import LogRow
from biomask.training.validation import Judge
from biomask.transforms import normalization_of


class Broken:
    """Makes the loss NaN at some calls of `Trainer._backward`."""

    def __init__(self, when):
        self.when, self.calls, self.own, self.rates = when, [], Trainer._backward, []

    def install(self, monkeypatch):
        def backward(trainer, batch, *, low):
            self.calls.append((trainer.state.step, low))
            self.rates.append(trainer.optimizer.param_groups[0]["lr"])
            found = self.own(trainer, batch, low=low)
            return (math.nan, math.nan) if self.when(trainer, low, len(self.calls)) else found

        monkeypatch.setattr(Trainer, "_backward", backward)
        return self


def test_infinite_in_bfloat16_goes_on_in_float32(objects, tmp_path, train, heard, monkeypatch):
    broken = Broken(lambda trainer, low, n: low and trainer.state.step == 4).install(monkeypatch)
    result = train(objects, tmp_path / "m", "training.precision=bfloat16", progress=heard)
    assert result.step == 12
    assert [low for step, low in broken.calls if step == 4] == [True, False]  # the same batch again
    assert not any(low for step, low in broken.calls if step > 4)
    assert [w for w in heard.warned if "bfloat16" in w and "step 4" in w]
    more = len(broken.calls)
    train(objects, tmp_path / "m", "training.precision=bfloat16", steps=14)
    assert not any(low for _, low in broken.calls[more:])  # a resumed run remembers


def test_goes_back_with_a_lower_rate(objects, tmp_path, train, heard, monkeypatch):
    broken = Broken(lambda trainer, low, n: n == 7).install(monkeypatch)
    result = train(objects, tmp_path / "m", "training.precision=float32", "training.warmup=0", "training.schedule=constant",
                   progress=heard)
    assert result.step == 12
    saved_at = next(step for step, _ in broken.calls[7:])
    assert saved_at == 4  # the last validation
    assert broken.rates[7] == pytest.approx(guard.LOWER * broken.rates[6])
    assert [w for w in heard.warned if "going back to step 4" in w]
    assert all(torch.isfinite(v).all() for v in load_model(tmp_path / "m").network.state_dict().values())


def test_gives_up_with_a_diagnosis_and_leaves_a_usable_model(objects, tmp_path, train, heard, monkeypatch):
    broken = Broken(lambda trainer, low, n: trainer.state.step >= 5).install(monkeypatch)
    with pytest.raises(InputError, match="the loss became nan") as caught:
        train(objects, tmp_path / "m", "training.precision=float32", progress=heard)
    assert "training.lr" in (caught.value.fix or "")
    assert len([w for w in heard.warned if "going back" in w]) == MOST_RETRIES
    assert broken.rates[-1] < 0.1 * 1e-3
    assert load_model(tmp_path / "m").header.step == 4


@pytest.mark.parametrize(("worst", "says"), [(math.nan, "not finite"), (1e6, "1000000 times"), (-2.0, "rate 0.01 is too high")])
def test_the_cause_is_named(worst, says):
    assert says in diagnosis(torch.tensor([1.0, worst]), math.inf, math.nan, 0.01, 7)


@pytest.mark.parametrize("largest", [None, 0.5, 100.0])
def test_the_norm_is_that_of_all_gradients(largest):
    network = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(network, Recipe(name="r").training, torch.device("cpu"))
    network(torch.ones(1, 3)).square().sum().backward()
    before = torch.cat([p.grad.flatten() for p in network.parameters()])
    assert gradient_norm(optimizer, largest) == pytest.approx(float(before.norm()), rel=1e-5)
    after = torch.cat([p.grad.flatten() for p in network.parameters()])
    factor = 1 if largest is None else min(1, largest / float(before.norm()))
    assert torch.allclose(after, before * factor, rtol=1e-4)
    network.weight.grad[0, 0] = math.nan
    assert not math.isfinite(gradient_norm(optimizer, largest))


def test_the_norm_of_millions_is_exact():
    network = torch.nn.Linear(2**11, 2**11)
    optimizer = make_optimizer(network, Recipe(name="r").training, torch.device("cpu"))
    network.weight.grad.normal_(generator=torch.Generator().manual_seed(0))
    assert gradient_norm(optimizer, None) == pytest.approx(float(network.weight.grad.double().norm()), rel=1e-5)


FLAT = [LogRow(i, 0, 1e-3, 1.0, None) for i in range(10)]
FALLING = [LogRow(i, 0, 1e-3, 1.0 / (i + 1), None) for i in range(10)]


class TestNothingLearnt:
    @pytest.mark.parametrize(("fraction", "step", "barren", "history", "expected"), [
        (0.5, 500, 3, FLAT, True), (0.1, 500, 3, FLAT, False), (0.5, 100, 3, FLAT, False), (0.5, 500, 2, FLAT, False),
        (0.5, 500, 9, FALLING, False), (0.5, 500, 9, [], False), (0.5, 500, 9, FLAT[:1], False)])
    def test_only_when_all_signs_agree(self, fraction, step, barren, history, expected):
        assert nothing_learnt(fraction, step, barren, history) is expected

    def test_reasons_are_those_that_apply(self):
        error = why_nothing({"background": 0.999, "spot": 0.001}, (32, 32), 50.0, 1e-2, 0.0)
        for reason in ("spot is 0.10%", "training.oversample", "objects measure 50 px, patches 32", "the rate 0.01 is high"):
            assert reason in str(error)
        plain = str(why_nothing({"background": 0.5, "cell": 0.5}, (32, 32), 10.0, 1e-3, 0.5))
        assert "oversample" not in plain
        assert "patches 32" not in plain
        assert "may not belong" in plain

    def test_a_training_says_so(self, objects, tmp_path, train, monkeypatch):
        monkeypatch.setattr(guard, "STEPS", 4)
        monkeypatch.setattr(Judge, "score", lambda *_, **__: Score(0.3, {}, barren=True))
        with pytest.raises(InputError, match="nothing was learnt") as caught:
            train(objects, tmp_path / "m", "training.lr=1e-9", "training.validations=10", steps=20)
        assert "biomask check" in str(caught.value)
        assert "--overwrite" in str(caught.value)


def test_until_flat_ends_early(objects, tmp_path, train, heard, monkeypatch):
    monkeypatch.setattr(Judge, "score", lambda *_, **__: Score(0.3))
    monkeypatch.setattr(budget, "SETTLED", 0)
    result = train(objects, tmp_path / "m", "training.patience=2", steps=60, until_flat=True, progress=heard)
    assert 2 < result.step < 20
    assert [s for s in heard.said if "the score is flat" in s]
    rates = [float(line.split(",")[2]) for line in (tmp_path / "m" / "log.csv").read_text().splitlines()[1:]]
    assert rates[-1] < 0.6 * max(rates)


def test_scored_images_are_chosen_once(objects, tmp_path, train, heard, monkeypatch):
    """Where a validation of all held-out images would cost too much, some are scored, always the same."""
    seen, own = [], Judge.score
    monkeypatch.setattr(Judge, "score", lambda judge, *a, **k: seen.append(tuple(judge.indices)) or own(judge, *a, **k))
    train(objects, tmp_path / "m", "data.validation_share=0.6", "training.batch=1", "training.patch=[16, 16]", progress=heard)
    assert {len(i) for i in seen} == {2}
    assert len(set(seen)) == 1
    assert [s for s in heard.said if "2 of the 4 images held out are scored" in s]


def test_weights_that_are_no_numbers_find_nothing(objects, tmp_path, train):
    """Their score is the lowest, so that the weights of before are kept; training goes on or says what is wrong by itself."""
    train(objects, tmp_path / "m", steps=2)
    model = load_model(tmp_path / "m")
    for parameter in model.network.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    recipe = model.header.recipe
    dataset = open_dataset(objects, recipe.data, normalization_of(recipe.normalization))
    score = Judge(dataset, model.task, torch.device("cpu"), range(len(dataset))).score(model.network)
    assert score.value == 0.0
    assert score.barren
