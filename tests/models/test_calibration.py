"""From scores on balanced samples to probabilities: calibration and median filter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.errors import InputError
from biomask.models import Calibration, fit_calibration, median_filter
from biomask.models.calibration import BINS


def drawn(frequency, n=200_000, seed=0):
    """Predictions, and truth that is as often true as `frequency` says."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return p, rng.random(n) < frequency(p)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 300))
def test_ascends_within_0_and_1_whatever_it_is_given(seed, n):
    rng = np.random.default_rng(seed)
    fitted = fit_calibration(rng.random(n) ** rng.integers(1, 4), rng.random(n) < rng.random())
    values = fitted(np.linspace(0, 1, 500))
    assert values.dtype == np.float32
    assert (np.diff(values) >= -1e-6).all()
    assert values.min() >= 0
    assert values.max() <= 1 + 1e-6


def test_finds_a_cubic_that_is_there():
    true = Calibration((0.05, 0.1, 0.2, 0.9))
    p, y = drawn(lambda p: true(p))
    assert np.abs(fit_calibration(p, y)(np.linspace(0, 1, 50)) - true(np.linspace(0, 1, 50))).max() < 0.02


def test_undoes_balanced_sampling():
    """A fifth of the pixels are of the class; drawn as often as the others, its odds are four times too high."""
    p, y = drawn(lambda p: (p / 4) / (p / 4 + 1 - p))
    fitted = fit_calibration(p, y)
    assert abs(p.mean() - y.mean()) > 0.2
    assert abs(fitted(p).mean() - y.mean()) < 0.01
    assert ((fitted(p) - y) ** 2).mean() < ((p - y) ** 2).mean() - 0.05


def test_the_fit_is_the_best_of_its_kind():
    """Against many other monotone cubics, by the same sum of squares."""
    p, y = drawn(lambda p: p**4, n=5000)
    p = (np.floor(p * BINS) + 0.5) / BINS
    best = ((fit_calibration(p, y)(p) - y) ** 2).mean()
    rng = np.random.default_rng(1)
    for _ in range(200):
        c = np.sort(rng.random(4))
        assert ((Calibration(tuple(c))(p) - y) ** 2).mean() >= best - 1e-9


def test_the_polynomial_is_the_same_function():
    fitted = Calibration((0.1, 0.2, 0.7, 0.8))
    p = np.linspace(0, 1, 20)
    assert np.polynomial.Polynomial(fitted.polynomial)(p) == pytest.approx(fitted(p), abs=1e-6)


def test_one_class_alone():
    for p in (0.0, 0.3, 1.0):
        assert fit_calibration(np.full(10, p), np.ones(10, bool))(np.array([p])) == pytest.approx([1.0], abs=1e-3)
        assert fit_calibration(np.full(10, p), np.zeros(10, bool))(np.array([p])) == pytest.approx([0.0], abs=1e-3)


@pytest.mark.parametrize(("p", "y"), [([], []), ([0.1, 0.2], [True])])
def test_nothing_to_fit(p, y):
    with pytest.raises(InputError, match="cannot be fitted"):
        fit_calibration(np.array(p), np.array(y, bool))


def test_median_filter_against_every_window():
    rng = np.random.default_rng(0)
    image = rng.random((9, 11)).astype(np.float32)
    padded = np.pad(image, 2, mode="reflect")
    disk = np.hypot(*np.mgrid[-2:3, -2:3]) <= 2
    assert disk.sum() == 13
    expected = [[np.median(padded[y : y + 5, x : x + 5][disk]) for x in range(11)] for y in range(9)]
    assert np.array_equal(median_filter(image), np.array(expected, np.float32))


def test_median_filter_removes_specks_and_keeps_edges():
    image = np.zeros((20, 20))
    image[:, 10:] = 1
    speck = image.copy()
    speck[5, 4] = 1
    assert np.array_equal(median_filter(speck), image.astype(np.float32))
