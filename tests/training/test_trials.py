"""What is tried when training ends: the cut between two classes, thresholds and copies of objects."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from biomask.data.task import CUT, Task
from biomask.instances import Thresholds, label_instances
from biomask.labels import Legend
from biomask.metrics.average_precision import instance_scores
from biomask.prediction.maps import class_ids, decide, symmetries
from biomask.prediction.refine import Refinement
from biomask.training.trials import choose_augment, choose_together, tune_cut
from biomask.training.validation import VALLEYS, Judge, scored_thresholds


class Known(Judge):
    """A judge whose maps are given, whatever the network and the copies."""

    def maps(self, network, i, copies=()):
        kind = "many" if len(copies) > 1 else "one"
        return self.dataset.given[kind][i]


def judge(kind: str, labels: list[np.ndarray], one: list[np.ndarray], many: list[np.ndarray] | None = None) -> Known:
    legend = Legend.of_values([0, 1])
    items = [(None, array, None) for array in labels]
    dataset = SimpleNamespace(item=lambda i: items[i], legend=legend, given={"one": one, "many": many or one},
                              facts=SimpleNamespace(sizes=[a.shape[1:] for a in labels], spacing=None))
    return Known(dataset, Task.of(kind, legend), torch.device("cpu"), range(len(labels)))


def probabilities(second: np.ndarray) -> np.ndarray:
    return np.stack([1 - second, second]).astype(np.float32)


class TestCut:
    @pytest.mark.parametrize("true_cut", [0.3, 0.42, 0.6, 0.75])
    def test_finds_where_the_classes_part(self, true_cut):
        second = np.random.default_rng(0).random((2, 64, 64))
        truth = [(s > true_cut).astype(np.uint8)[None] for s in second]
        found, scores = tune_cut(nn.Identity(), judge("classes", truth, [probabilities(s) for s in second]), [])
        assert set(found) == {CUT}
        assert found[CUT] == pytest.approx(true_cut, abs=0.011)
        assert scores["cut tuned"] > scores["cut before"]

    def test_stays_in_the_middle_where_all_cuts_are_alike(self):
        truth = np.zeros((1, 8, 8), np.uint8)
        truth[:, 4:] = 1
        assert tune_cut(nn.Identity(), judge("classes", [truth], [probabilities(truth[0].astype(float))]), [])[0] == {CUT: 0.5}

    def test_calibration_makes_probabilities_what_they_say(self):
        """Of pixels that are said to be foreground with p, p² are: the cubic through that, and a cut where it was."""
        rng = np.random.default_rng(0)
        second = rng.random((2, 128, 128))
        truth = [(rng.random(s.shape) < s**2).astype(np.uint8)[None] for s in second]
        found, scores = tune_cut(nn.Identity(), judge("classes", truth, [probabilities(s) for s in second]), [], calibrate=True)
        refine = Refinement.of(Task("classes", 2), found, 0)
        p = np.linspace(0, 1, 21)
        assert np.abs(refine(probabilities(p))[1] - p**2).max() < 0.03
        assert np.allclose(refine(probabilities(p)).sum(axis=0), 1, atol=1e-6)
        assert 0 <= scores["unrefined"] <= 1

    def test_the_median_removes_specks_before_the_cut(self):
        truth = np.zeros((1, 40, 40), np.uint8)
        truth[:, 10:30, 10:30] = 1
        specked = 0.2 + 0.6 * truth[0]
        specked[::6, ::6] = 0.9 - 0.8 * truth[0][::6, ::6]
        _, plain = tune_cut(nn.Identity(), judge("classes", [truth], [probabilities(specked)]), [])
        _, filtered = tune_cut(nn.Identity(), judge("classes", [truth], [probabilities(specked)]), [], radius=2)
        assert filtered["unrefined"] == plain["cut before"]
        assert filtered["cut tuned"] > plain["cut tuned"]

    @pytest.mark.parametrize("cut", [0.2, 0.5, 0.81])
    def test_logits_and_probabilities_are_cut_alike(self, cut):
        logits = torch.randn(2, 50, 50, generator=torch.Generator().manual_seed(1)).double() * 3
        maps = logits.softmax(dim=0).numpy()
        assert np.array_equal(class_ids(logits, cut).numpy(), decide(maps, Task("classes", 2), cut))

    def test_several_classes_have_no_cut(self):
        logits = torch.randn(3, 20, 20, generator=torch.Generator().manual_seed(2))
        assert np.array_equal(class_ids(logits, 0.9).numpy(), logits.argmax(dim=0).numpy())
        assert np.array_equal(decide(logits.softmax(dim=0).numpy(), Task("classes", 3), 0.9), logits.argmax(dim=0).numpy())


def disc_maps(noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(labels, maps) of two touching discs; noise in the distance breaks them into pieces."""
    y, x = np.mgrid[:48, :48]
    ids = np.zeros((48, 48), np.int32)
    distance = np.zeros((48, 48))
    for n, centre in enumerate((14, 33), start=1):
        r = np.hypot(y - 24, x - centre)
        ids[r < 10] = n
        distance = np.maximum(distance, np.clip(1 - r / 10, 0, 1))
    distance = np.clip(distance + np.random.default_rng(seed).normal(0, noise, distance.shape), 0, 1)
    foreground = (ids > 0).astype(float)
    maps = np.stack([1 - foreground, foreground, distance, np.zeros_like(distance)]).astype(np.float32)
    return np.stack([ids, (ids > 0).astype(np.int32)]), maps


class TestScoreOfObjects:
    """Weights are scored at the best of a few thresholds, which are kept with them."""

    def test_is_that_of_the_valley_that_fits(self):
        (labels, noisy), (others, clean) = disc_maps(0.1, 0), disc_maps(0.0, 1)
        several = [Thresholds(valley=v) for v in (0.05, 0.4, 2.0)]
        score = judge("instances", [labels, others], [noisy, clean]).score(nn.Identity(), several)
        each = [[instance_scores(truth[0], label_instances(maps, t), None).average_precision for truth, maps in
                 ((labels, noisy), (others, clean))] for t in several]
        means = np.mean(each, axis=1)
        assert means[0] < means[1] > means[2], "the sample tells nothing"
        assert score.value == pytest.approx(means[1])
        assert score.images == pytest.approx(each[1])
        assert score.thresholds == several[1].to_dict()

    @pytest.mark.parametrize(("valleys", "middle"), [((0.1, 0.2, 0.3), 0.2), ((0.1, 0.2, 0.3, 0.4), 0.2), ((0.3, 2.0), 0.3)])
    def test_of_several_alike_the_middle_one(self, valleys, middle):
        """The edges of a plateau are where other images may fall off; valleys of 2 are none, so the discs are one then."""
        labels, clean = disc_maps(0.0, 0)
        several = [Thresholds(valley=v) for v in valleys]
        assert judge("instances", [labels], [clean]).score(nn.Identity(), several).thresholds["valley"] == middle

    @pytest.mark.parametrize("valley", [0.25, VALLEYS[1]])
    def test_what_it_begins_with_is_tried_once_in_order(self, valley):
        start = Thresholds(valley=valley, sigma=1.5, min_size=7)
        found = scored_thresholds(start)
        assert [t.valley for t in found] == sorted({*VALLEYS, valley})
        assert {(t.sigma, t.min_size) for t in found} == {(1.5, 7)}

    def test_there_is_nothing_to_choose_without_objects(self):
        truth = np.zeros((1, 8, 8), np.uint8)
        truth[:, 4:] = 1
        score = judge("classes", [truth], [probabilities(truth[0].astype(float))]).score(nn.Identity(), [Thresholds()] * 2)
        assert (score.value, score.thresholds) == (1.0, {})


class TestCopies:
    def copies(self, mode):
        return symmetries(mode, 2)

    def test_of_objects_each_is_judged_by_its_own_thresholds(self):
        labels, noisy = disc_maps(0.4, 0)
        _, clean = disc_maps(0.0, 0)
        clean[2] *= 0.4  # the mean over copies is lower, and so are its valleys
        found = judge("instances", [labels], [noisy], [clean])
        mode, thresholds, scores = choose_together(nn.Identity(), found, None, self.copies, Thresholds(valley=0.9), seconds=None)
        assert mode == "symmetries"
        assert thresholds.valley < 0.4
        assert scores["symmetries"] == 1.0 == scores["thresholds tuned"]
        assert (scores["objects"], scores["merges"], scores["splits"]) == (2, 0, 0)

    def test_what_does_not_help_is_left(self):
        labels, clean = disc_maps(0.0, 0)
        assert choose_together(nn.Identity(), judge("instances", [labels], [clean]), None, self.copies, Thresholds(),
                               seconds=None)[0] == "none"
        truth = np.zeros((1, 8, 8), np.uint8)
        truth[:, 4:] = 1
        same = judge("classes", [truth], [probabilities(truth[0].astype(float))])
        assert choose_augment(nn.Identity(), same, None, self.copies, Thresholds())[0] == "none"

    def test_what_is_asked_for_is_not_tried(self):
        assert choose_augment(nn.Identity(), None, "mirrors", self.copies, Thresholds()) == ("mirrors", {})
