"""How detectors are scored on held-out images: equal to the scores of other object systems, at the best threshold."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.data.objects import Objects
from biomask.metrics.average_precision import THRESHOLDS, instance_scores
from biomask.prediction.detections import Detections, resolve
from biomask.training import detection_score
from biomask.training.detection_score import CUTS, best_of, tally

SIZE = (24, 24)
FULL = np.ones((4, 6), bool)
A = (FULL, (2, 3))


def detections(crops: list[Any], scores: list[float], classes: list[int] | None = None, **others: Any) -> Detections:
    boxes = np.array([box(c) for c in crops], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(classes or [1] * len(crops), np.int64), np.array(scores, np.float32), tuple(crops), **others)


def objects(crops: list[Any], classes: list[int] | None = None, crowd: list[bool] | None = None, points: Any = None) -> Objects:
    n = len(crops)
    return Objects(SIZE, np.array([box(c) for c in crops], np.float64).reshape(-1, 4), np.array(classes or [1] * n, np.int64),
                   tuple(crops), np.array(crowd or [False] * n, bool), np.arange(1, n + 1), points)


def box(crop: Any) -> tuple[int, int, int, int]:
    pixels, (top, left) = crop
    return left, top, left + pixels.shape[1], top + pixels.shape[0]


def at(top: int, left: int, shape: tuple[int, int] = (4, 6)) -> Any:
    return np.ones(shape, bool), (top, left)


def crops_of(ids: np.ndarray) -> list[Any]:
    found = []
    for i in np.unique(ids[ids > 0]):
        rows, columns = np.nonzero(ids == i)
        window = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        found.append((ids[window] == i, (int(rows.min()), int(columns.min()))))
    return found


maps = st.builds(lambda seed, n: np.kron(np.random.default_rng(seed).integers(0, n + 1, (6, 6)), np.ones((4, 4), int)),
                 st.integers(0, 10_000), st.integers(1, 5))


@given(truth=maps, found=maps, seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_is_what_label_images_are_scored_by(truth, found, seed):
    """At every cut the value of the ids that prediction writes, by the metric of all other systems."""
    truth[:7] = found[:7]  # so that something is right
    crops = crops_of(found)
    scores = np.random.default_rng(seed).uniform(0.2, 1, len(crops)).round(2)
    have = detections(crops, scores.tolist())
    counts = tally(have, objects(crops_of(truth)))
    for row, cut in zip(counts, CUTS, strict=True):
        ids = resolve(have.taken(np.float32(scores) > cut), SIZE).ids
        want = instance_scores(truth, ids)
        assert row[:-2].tolist() == list(want.found)
        assert (row[-2], row[-1]) == (want.predicted, want.true)


def test_the_best_cut_is_taken_and_named():
    """Two right ones of 0.9 and 0.62, a wrong one of 0.58: between them the cut is best."""
    have = detections([A, at(10, 10), at(18, 0)], [0.9, 0.62, 0.58])
    score = best_of(np.stack([tally(have, objects([A, at(10, 10)]))] * 2))
    assert score.value == 1.0
    assert score.thresholds == {"score": 0.6}
    assert score.images == (1.0, 1.0)
    assert not score.barren


def test_images_without_objects_on_either_side_say_nothing():
    empty = tally(detections([], []), objects([]))
    wrong = tally(detections([A], [0.99]), objects([]))
    assert best_of(np.stack([empty])).images == (None,)
    assert best_of(np.stack([empty])).barren
    found = best_of(np.stack([empty, wrong]))
    assert found.value == 0.0
    assert found.images == (None, 0.0)


def test_another_class_is_wrong():
    right = tally(detections([A], [0.9], [2]), objects([A], [2]))
    wrong = tally(detections([A], [0.9], [2]), objects([A], [1]))
    assert right[0, 0] == 1
    assert wrong[0, :-2].max() == 0


@pytest.mark.parametrize(("share", "counted"), [(6, 0), (2, 1)])
def test_what_lies_in_a_crowd_does_not_count(share, counted):
    """By half of its pixels; and where it is right it counts whatever lies around."""
    crowd = (np.ones((4, share), bool), (2, 3))
    row = tally(detections([A], [0.9]), objects([crowd], crowd=[True]))[0]
    assert (row[-2], row[-1]) == (counted, 0)
    both = tally(detections([A], [0.9]), objects([crowd, A], crowd=[True, False]))[0]
    assert (both[0], both[-2], both[-1]) == (1, 1, 1)


def test_detectors_of_boxes_are_scored_by_boxes():
    """Of 4 x 6 pixels, one column apart: 20 of 28 are shared."""
    have = detections([at(2, 4)], [0.9], masked=False)
    row = tally(have, objects([A]))[0]
    assert row[:-2].tolist() == [float(t <= 20 / 28) for t in THRESHOLDS]


def test_keypoints_without_masks_are_scored_by_their_similarity():
    """A person without labelled points is neither to be found nor wrong."""
    points = np.array([[[4.0, 4.0, 2], [8.0, 5.0, 1]], [[0, 0, 0], [0, 0, 0]]])
    crops = [A, at(14, 10)]
    near = points.copy().astype(np.float32)
    have = detections(crops, [0.9, 0.8], masked=False, keypoints=near)
    row = tally(have, objects(crops, points=points))[0]
    assert (row[0], row[len(THRESHOLDS) - 1], row[-2], row[-1]) == (1, 1, 1, 1)
    far = detections(crops, [0.9, 0.8], masked=False, keypoints=near + np.array([6, 0, 0], np.float32))
    assert tally(far, objects(crops, points=points))[0, 0] == 0


@given(seed=st.integers(0, 10_000), shape=st.tuples(st.integers(1, 4), st.integers(1, 4)))
@settings(max_examples=30, deadline=None)
def test_as_many_pairs_as_there_can_be(seed, shape):
    """By trying every assignment."""
    fits = np.random.default_rng(seed).random(shape) < 0.5
    if shape[0] > shape[1]:
        fits = fits.T
    rows, columns = fits.shape
    best = max(sum(fits[r, c] for r, c in enumerate(order)) for order in permutations(range(columns), rows))
    assert detection_score._pairs(fits) == best
