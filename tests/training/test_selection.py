"""Later weights are kept unless earlier ones are better by more than chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from biomask.training.selection import clearly_better


@pytest.mark.parametrize("n", [2, 3, 11])
def test_agrees_with_the_paired_t_test(n):
    rng = np.random.default_rng(n)
    found = set()
    for _ in range(200):
        one, other = rng.normal(0.82, 0.1, n), rng.normal(0.8, 0.1, n) * 0.2 + 0.64
        expected = stats.ttest_rel(one, other, alternative="greater").pvalue < 0.05
        assert clearly_better(one.tolist(), other.tolist()) == expected
        found.add(bool(expected))
    assert found == {True, False}


def test_chance_seldom_keeps_earlier_weights_and_collapse_always_does():
    rng = np.random.default_rng(0)
    alike = [clearly_better(*(rng.normal(0.8, 0.05, (2, 10)).tolist())) for _ in range(2000)]
    assert 0.03 < np.mean(alike) < 0.07
    assert clearly_better([0.8, 0.6, 0.7], [0.0, 0.0, 0.0])


def test_undefined_images_do_not_count_and_equal_scores_are_not_better():
    assert clearly_better([0.9, None, 0.8, 0.7], [0.5, 0.9, None, 0.31])
    assert not clearly_better([0.5, 0.6], [0.5, 0.6])
    assert not clearly_better([None, 0.6], [0.5, None])
    assert not clearly_better([], [])
    assert clearly_better([0.53], [0.5])
    assert not clearly_better([0.51], [0.5])
