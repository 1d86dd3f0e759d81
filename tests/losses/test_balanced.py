"""The cross-entropy in which few pixels that matter count as much as the many others."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.losses import balanced_cross_entropy


def by_hand(logits: np.ndarray, target: np.ndarray, group: np.ndarray, ignore: np.ndarray, share: float) -> float:
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    losses = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    total = 0.0
    for image in range(len(logits)):
        for part, weight in ((group[image] & ~ignore[image], share), (~group[image] & ~ignore[image], 1 - share)):
            total += weight * losses[image][part].mean() if part.any() else 0.0
    return total / len(logits)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from([(2, 5, 4), (1, 3, 4, 5)]))
def test_it_is_its_definition(seed, share, shape):
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(0, 2, shape).astype(np.float32), rng.random(shape).astype(np.float32)
    group, ignore = rng.random(shape) < 0.3, rng.random(shape) < 0.2
    found = balanced_cross_entropy(*(torch.from_numpy(a) for a in (logits, target, group, ignore)), share=share)
    assert float(found) == pytest.approx(by_hand(logits, target, group, ignore, share), rel=1e-4, abs=1e-6)


def test_a_small_group_counts_as_much_as_all_others():
    group = torch.zeros(1, 10, 10, dtype=torch.bool)
    group[0, 0, 0] = True
    right, wrong = torch.full((1, 10, 10), -20.0), torch.full((1, 10, 10), -20.0)
    right[0, 0, 0] = 20.0
    target = group.float()
    assert float(balanced_cross_entropy(right, target, group)) < 1e-6
    assert float(balanced_cross_entropy(wrong, target, group)) == pytest.approx(10.0, rel=1e-4)


def test_0_and_1_are_as_good_as_bool():
    logits, target = torch.randn(2, 2, 7, 6, generator=torch.Generator().manual_seed(0)).unbind()
    group, ignore = logits > 0.5, target < -0.5
    found = balanced_cross_entropy(logits, target.sigmoid(), group.float(), ignore.float())
    assert torch.equal(found, balanced_cross_entropy(logits, target.sigmoid(), group, ignore))
