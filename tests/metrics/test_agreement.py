"""Limits of agreement against the formulas, and a planted bias that must appear."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from biomask.errors import SizeError
from biomask.metrics import agreement

counts = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=3, max_size=20)


@given(counts)
def test_equals_the_formulas(pairs):
    found, true = (np.array(side, float) for side in zip(*pairs, strict=True))
    got, difference, middle = agreement(found, true), found - true, (found + true) / 2
    assert got.bias == pytest.approx(difference.mean())
    assert got.sd == pytest.approx(difference.std(ddof=1))
    assert (got.low, got.high) == (pytest.approx(got.bias - 1.96 * got.sd), pytest.approx(got.bias + 1.96 * got.sd))
    if len(set(middle)) > 1:
        assert got.slope == pytest.approx(linregress(middle, difference).slope)
    else:
        assert got.slope is None


@given(counts)
def test_exchanging_the_sides_turns_the_signs(pairs):
    found, true = zip(*pairs, strict=True)
    one, other = agreement(found, true), agreement(true, found)
    assert one.bias == pytest.approx(-other.bias)
    assert one.sd == pytest.approx(other.sd)


def test_a_planted_bias_appears():
    """Two objects too many an image, and 5 % more the more there are."""
    rng = np.random.default_rng(0)
    true = rng.integers(20, 200, 400)
    shifted = agreement(true + 2 + rng.normal(0, 1, 400), true)
    assert shifted.bias == pytest.approx(2, abs=0.2)
    assert (shifted.low, shifted.high) == (pytest.approx(0.04, abs=0.2), pytest.approx(3.96, abs=0.2))
    assert shifted.slope == pytest.approx(0, abs=0.005)
    grown = agreement(1.05 * true + rng.normal(0, 1, 400), true)
    assert grown.slope == pytest.approx(0.05 / 1.025, abs=0.005)


def test_95_percent_of_normal_errors_lie_between_the_limits():
    rng = np.random.default_rng(1)
    true, errors = np.full(4000, 50), rng.normal(1, 3, 4000)
    got = agreement(true + errors, true)
    assert np.mean((errors > got.low) & (errors < got.high)) == pytest.approx(0.95, abs=0.01)


def test_few_images():
    assert (agreement([], []).bias, agreement([], []).low) == (None, None)
    one = agreement([5], [3])
    assert (one.bias, one.sd, one.low, one.high, one.slope) == (2, None, None, None, None)
    assert agreement([5, 4, 3], [3, 4, 5]).slope is None
    with pytest.raises(SizeError):
        agreement([1, 2], [1])
