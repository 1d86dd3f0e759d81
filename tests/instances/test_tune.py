"""Thresholds found: known optima, plateaus, ties, time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from biomask.errors import SizeError
from biomask.instances import Thresholds, label_instances, tune_thresholds
from biomask.instances.tune import _best_of, _Search
from biomask.instances.watershed import ObjectMaps


def constant(foreground: float, interior: float) -> tuple[np.ndarray, np.ndarray, None]:
    maps = np.stack([np.full((2, 2), v, np.float32) for v in (1 - foreground, foreground, interior, 0)])
    return maps, np.ones((2, 2), int), None


def cells(seed: int, noise: float = 0.15) -> tuple[np.ndarray, np.ndarray, None]:
    """Touching cells; the network finds their foreground at 0.35 rather than 0.5, and their middles with noise."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.mgrid[:64, :64])
    centres = [(8 + 12 * i + rng.integers(-1, 2), 8 + 12 * j + rng.integers(-1, 2)) for i in range(5) for j in range(5)]
    apart = np.stack([np.hypot(grid[0] - y, grid[1] - x) for y, x in centres])
    ids = np.where(apart.min(axis=0) < 6.5, apart.argmin(axis=0) + 1, 0)
    foreground = np.where(ids > 0, 0.42, 0.28) + rng.uniform(-0.05, 0.05, ids.shape)
    middle = np.clip(1 - apart.min(axis=0) / 7, 0, 1) + ndimage.gaussian_filter(rng.normal(size=ids.shape), 0.5) * noise
    return np.stack([1 - foreground, foreground, middle, 0 * middle]).astype(np.float32), ids, None


def mean_iou(truth: np.ndarray, found: np.ndarray, ignore: Any) -> float:
    """Mean IoU of each true object with its best match, less what is found besides."""
    best = [max((np.sum((truth == i) & (found == j)) / np.sum((truth == i) | (found == j))
                 for j in np.unique(found[truth == i]) if j), default=0.0) for i in range(1, truth.max() + 1)]
    return float(np.sum(best) / max(len(best), found.max()))


def test_finds_what_the_start_misses_and_repeats_itself() -> None:
    maps = [cells(i) for i in range(2)]
    tuned = tune_thresholds(maps, mean_iou, Thresholds())
    assert tuned.score > 0.85
    assert 0.3 <= tuned.thresholds.foreground <= 0.4
    assert tuned.tried[0].thresholds == Thresholds()
    assert max(t.score for t in tuned.tried) - 0.05 < tuned.score > tuned.tried[0].score + 0.5
    assert len({t.thresholds for t in tuned.tried}) == len(tuned.tried)
    again = tune_thresholds(maps, mean_iou, Thresholds())
    assert again == tuned
    # The score is that of `label_instances` with these thresholds, without anything of the search.
    assert tuned.score == pytest.approx(np.mean([mean_iou(t, label_instances(p, tuned.thresholds), None) for p, t, _ in maps]))
    elsewhere = cells(9)
    assert mean_iou(elsewhere[1], label_instances(elsewhere[0], tuned.thresholds), None) > 0.8


def test_nothing_better_leaves_the_start() -> None:
    start = Thresholds(foreground=0.41, valley=0.37, min_size=3, sigma=0.7, hole=0.05)
    tuned = tune_thresholds([constant(0.9, 0.9)], lambda *_: 0.5, start)
    assert tuned.thresholds == start
    assert tuned.score == 0.5
    for name in ("foreground", "valley", "min_size", "sigma", "hole"):
        assert len({getattr(t.thresholds, name) for t in tuned.tried}) > 2, name


@pytest.mark.parametrize(("scores", "start", "expected"), [
    ([0, 1, 1, 1, 0], 0, 2), ([0, 1, 1, 1, 1], 0, 2), ([1, 1, 1, 1, 0], 4, 2), ([0, 0, 1, 0, 0], 4, 2), ([1, 0, 0, 1, 1], 1, 0),
    ([1, 1, 0, 0, 1], 3, 4), ([1, 1, 1, 1, 1], 3, 3), ([0, 0.5, 0.5, 0.2, 0.5], 2, 2), ([1, 1, 0, 1, 1], 2, 1),
    ([0, np.nan, 0.5, 0.6, np.nan], 0, 3),
])
def test_goes_to_the_middle_of_the_nearest_plateau(scores: list[float], start: int, expected: int) -> None:
    values = [0.1, 0.3, 0.5, 0.7, 0.9]
    search = _Search([], lambda *_: None, None, None)
    search.scores = {Thresholds(valley=v): s for v, s in zip(values, scores)}
    assert _best_of(search, Thresholds(valley=values[start]), "valley", values).valley == values[expected]


def test_finer_than_the_grid() -> None:
    def score(truth: np.ndarray, found: np.ndarray, ignore: Any) -> float:
        return float(found.any(axis=1).sum() == 1)  # of two levels of foreground, 0.42 and 0.47, the higher alone

    maps = np.stack([np.array([[0.58, 0.58], [0.53, 0.53]]), *np.full((3, 2, 2), 0.9)]).astype(np.float32)
    maps[3] = 0
    tuned = tune_thresholds([(maps, np.ones((2, 2), int), None)], score, Thresholds(foreground=0.4))
    assert tuned.score == 1.0
    assert tuned.thresholds.foreground == pytest.approx(0.45)


def test_images_without_a_score_do_not_count() -> None:
    maps = [constant(0.9, 0.9), constant(0.1, 0.1), constant(0.9, 0.9)]

    def score(truth: np.ndarray, found: np.ndarray, ignore: Any) -> float | None:
        return 0.75 if found.any() else None

    assert tune_thresholds(maps, score, Thresholds()).score == 0.75
    nothing = tune_thresholds(maps, lambda *_: None, Thresholds(valley=0.3))
    assert nothing.thresholds == Thresholds(valley=0.3)
    assert np.isnan(nothing.score)
    assert len(nothing.tried) == 1
    assert np.isnan(tune_thresholds([], score, Thresholds()).score)


def test_no_trial_begins_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def score(truth: np.ndarray, found: np.ndarray, ignore: Any) -> float:
        clock[0] += 1
        return mean_iou(truth, found, ignore)

    for seconds in (0, 1, 7.5):
        clock[0] = 0
        tuned = tune_thresholds([cells(0)], score, Thresholds(), seconds=seconds)
        assert len(tuned.tried) == max(1, int(np.ceil(seconds)))
        assert tuned.score >= tuned.tried[0].score
        assert tuned.score == dict(tuned.tried)[tuned.thresholds]


def test_ignore_and_truth_reach_the_score() -> None:
    maps, truth, _ = constant(0.9, 0.9)
    ignore = np.array([[True, False], [False, False]])

    def score(got: np.ndarray, found: np.ndarray, left_out: np.ndarray | None) -> float:
        assert got is truth
        assert left_out is ignore
        assert found.dtype == np.int32
        return 1.0

    assert tune_thresholds([(maps, truth, ignore)], score, Thresholds()).score == 1.0


def test_paper_variant() -> None:
    p = np.full((9, 22), 0.9, np.float32)
    p[:, 10:12] = 0.44
    truth = np.ones((9, 22), int)
    truth[:, 11:] = 2
    tuned = tune_thresholds([(np.stack([1 - p, p]), truth, None)], mean_iou, Thresholds(), target="borders")
    assert tuned.thresholds.foreground < 0.44
    assert tuned.thresholds.valley <= 0.46
    assert tuned.score == 1.0


def test_truth_of_another_size_is_refused() -> None:
    maps, _, _ = constant(0.9, 0.9)
    with pytest.raises(SizeError, match="truth"):
        tune_thresholds([(maps, np.ones((2, 3), int), None)], lambda *_: 1.0, Thresholds())
    assert ObjectMaps(maps[0], maps[1]).foreground.shape == (2, 2)


def test_what_a_few_images_gain_by_luck_moves_nothing() -> None:
    """Four images of which one is far better with another threshold and three slightly worse: its mean is higher, its error too."""
    search = _Search([], lambda *_: None, None, None)
    start, other = Thresholds(valley=0.2), Thresholds(valley=0.4)
    for option, each in ((start, [0.5, 0.5, 0.5, 0.5]), (other, [0.9, 0.45, 0.46, 0.47])):
        search.images[option], search.scores[option] = np.array(each), float(np.mean(each))
    assert search.scores[other] > search.scores[start]
    assert _best_of(search, start, "valley", [0.2, 0.4]) == start
    search.images[other] = np.array([0.6, 0.55, 0.56, 0.57])
    search.scores[other] = float(search.images[other].mean())
    assert _best_of(search, start, "valley", [0.2, 0.4]) == other
