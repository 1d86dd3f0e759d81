"""Intervals and paired tests: coverage by simulation, against scipy, over groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from biomask.evaluation.bootstrap import FEWEST, Units, differences, interval, intervals

#: Simulated data sets: a share of them is known to 0.007 (one standard deviation at 0.95).
SIMULATED = 1000


def normal(rng, shape):
    return rng.normal(0.8, 0.1, shape), 0.8


def skewed(rng, shape):
    return rng.beta(8, 1.5, shape), 8 / 9.5


def with_failures(rng, shape):
    """Like AP: one image in eight fails with 0."""
    return np.where(rng.random(shape) < 0.12, 0, rng.beta(8, 1.5, shape)), 0.88 * 8 / 9.5


def coverage(draw, n, groups=None):
    """Share of simulated data sets whose interval holds the true mean; all are resampled alike."""
    data, true = draw(np.random.default_rng(n), (SIMULATED, n))
    found = intervals({str(i): row.tolist() for i, row in enumerate(data)}, Units(groups))
    return np.mean([f["low"] <= true <= f["high"] for f in found.values()])


class TestCoverage:
    """The figures of the docstring of `intervals`, within 3.5 standard deviations."""

    @pytest.mark.parametrize(("draw", "n", "expected"), [(normal, 8, 0.95), (normal, 30, 0.95), (skewed, 30, 0.945),
                                                         (skewed, 8, 0.93)])
    def test_it_is_near_what_is_claimed(self, draw, n, expected):
        assert coverage(draw, n) == pytest.approx(expected, abs=3.5 * (expected * (1 - expected) / SIMULATED) ** 0.5)

    def test_rare_failures_need_more_images(self):
        few, more = coverage(with_failures, 8), coverage(with_failures, 100)
        assert few < 0.85
        assert more > 0.91

    def test_plain_percentiles_would_be_too_narrow(self):
        """What the widening is for: at 8 images it holds the true mean more often than the percentiles 2.5 and 97.5."""
        data, true = normal(np.random.default_rng(8), (SIMULATED, 8))
        drawn = np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), 2000) @ data.T / 8
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        plain = np.mean((low <= true) & (true <= high))
        assert plain < 0.93 < coverage(normal, 8)

    def test_images_of_a_group_count_as_one(self):
        """Images of a patient are alike: over images the interval is far too narrow, over patients it is right."""
        groups = tuple(str(i // 5) for i in range(100))

        def alike(rng, shape):
            patients = rng.normal(0.8, 0.1, (shape[0], shape[1] // 5))
            return np.repeat(patients, 5, axis=1) + rng.normal(0, 0.02, shape), 0.8

        assert coverage(alike, 100) < 0.75
        assert coverage(alike, 100, groups) == pytest.approx(0.95, abs=0.03)

    def test_chance_alone_is_rarely_a_difference(self):
        """Both sides from one distribution: p is below 0.05 in no more than 5 % of the data sets, and the interval holds 0."""
        rng = np.random.default_rng(3)
        pairs = {str(i): (rng.beta(8, 1.5, 12).tolist(), rng.beta(8, 1.5, 12).tolist()) for i in range(SIMULATED)}
        found = differences(pairs).values()
        assert np.mean([f["p"] <= 0.05 for f in found]) < 0.05 + 3.5 * (0.05 * 0.95 / SIMULATED) ** 0.5
        assert np.mean([f["low"] <= 0 <= f["high"] for f in found]) == pytest.approx(0.95, abs=0.03)


class TestInterval:
    def test_equals_the_bootstrap_of_scipy(self):
        values = np.random.default_rng(0).beta(5, 2, 40)
        tail = stats.norm.cdf(stats.t.ppf(0.025, 39) * (40 / 39) ** 0.5)
        want = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", confidence_level=1 - 2 * tail,
                               rng=np.random.default_rng(1)).confidence_interval
        found = interval(values.tolist())
        assert [found["low"], found["high"]] == pytest.approx([want.low, want.high], abs=0.1 * (want.high - want.low))

    def test_all_scores_are_resampled_alike(self):
        values = np.random.default_rng(0).beta(5, 2, 12).tolist()
        found = intervals({"a": values, "b": values, "c": [1 - v for v in values]})
        assert found["a"] == found["b"] == interval(values)
        assert found["c"]["low"] == pytest.approx(1 - found["a"]["high"])

    def test_undefined_images_do_not_count(self):
        found = interval([None] * 20 + [0.5] * 10)
        assert (found["low"], found["high"], found["n"]) == (0.5, 0.5, 10)

    def test_few_groups_give_a_range_over_groups(self):
        found = intervals({"a": [0.0, 1.0, 0.5, 0.7]}, Units(("x", "x", "y", "y")))["a"]
        assert found == {"low": 0.5, "high": pytest.approx(0.6), "kind": "range over 2 groups", "n": 4}

    def test_groups_of_one_image_are_images(self):
        values = np.random.default_rng(0).beta(5, 2, 12).tolist()
        alone = intervals({"a": values}, Units(tuple(f"{i:02d}" for i in range(12))))["a"]
        assert {**alone, "kind": "bootstrap 95 %"} == interval(values)
        assert alone["kind"] == "bootstrap 95 % over 12 groups"

    def test_many_images_are_drawn_in_parts(self, monkeypatch):
        values = np.random.default_rng(0).beta(5, 2, 300).tolist()
        whole = interval(values)
        monkeypatch.setattr("biomask.evaluation.bootstrap.HELD", 10_000)
        assert interval(values) == whole


class TestDifference:
    @pytest.mark.parametrize("n", [6, 10])
    def test_p_equals_that_of_scipy(self, n):
        rng = np.random.default_rng(n)
        one = rng.beta(5, 2, n)
        other = one - rng.normal(0.02, 0.04, n)
        want = stats.permutation_test((one, other), lambda a, b, axis: (a - b).mean(axis=axis), permutation_type="samples",
                                      vectorized=True, n_resamples=np.inf)
        found = differences({"a": (one.tolist(), other.tolist())})["a"]
        assert found["p"] == pytest.approx(want.pvalue)
        assert found["mean"] == pytest.approx((one - other).mean())

    def test_p_of_many_images_is_near_that_of_the_t_test(self):
        rng = np.random.default_rng(0)
        one = rng.normal(0.8, 0.1, 60)
        other = one - rng.normal(0.01, 0.04, 60)
        found = differences({"a": (one.tolist(), other.tolist())})["a"]
        assert found["p"] == pytest.approx(stats.ttest_rel(one, other).pvalue, abs=0.015)
        assert found["low"] < found["mean"] < found["high"]

    def test_pairing_is_what_makes_it_sharp(self):
        """Images differ by 0.2, the sides by 0.01 in each: the means' own intervals overlap widely."""
        one = np.random.default_rng(0).uniform(0.5, 0.9, 20)
        found = differences({"a": ((one + 0.01).tolist(), one.tolist())})["a"]
        assert [found["low"], found["high"]] == pytest.approx([0.01, 0.01])
        assert found["p"] == pytest.approx(1 / 10000)

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.tuples(*[st.none() | st.floats(0, 1)] * 2), min_size=1, max_size=14))
    def test_the_mean_is_that_of_the_two_tables(self, pairs):
        """Each side over the images where it is defined, as it stands in its own table."""
        one, other = zip(*pairs, strict=True)
        found, back = differences({"a": (one, other), "b": (other, one)}).values()
        sides = [[v for v in side if v is not None] for side in (one, other)]
        if not all(sides):
            assert (found["mean"], found["p"]) == (None, None)
            return
        assert found["mean"] == pytest.approx(np.mean(sides[0]) - np.mean(sides[1]))
        assert found["p"] == back["p"]
        assert 0 < found["p"] <= 1
        assert found["n"] == sum(a is not None or b is not None for a, b in pairs)
        assert found["kind"].startswith("range" if sum(None not in p for p in pairs) < FEWEST else "bootstrap")

    def test_several_classes_count_alike(self):
        one = [(1.0, 0.5), (0.5, None)]
        other = [(0.5, 0.5), (0.5, 0.0)]
        assert differences({"a": (one, other)})["a"]["mean"] == pytest.approx((0.75 + 0.5) / 2 - (0.5 + 0.25) / 2)

    def test_the_same_sides_do_not_differ(self):
        values = [0.5, None, 0.75]
        found = differences({"a": (values, values)})["a"]
        assert found == {"mean": 0.0, "low": 0.0, "high": 0.0, "kind": "range", "p": 1.0, "n": 2}

    def test_groups_change_sides_together(self):
        """Two patients with 10 images each: 4 exchanges are possible, half of which are as large."""
        one, other = [0.9] * 20, [0.8] * 20
        alone = differences({"a": (one, other)})["a"]["p"]
        assert alone < 0.001
        assert differences({"a": (one, other)}, Units(tuple("xy"[i // 10] for i in range(20))))["a"]["p"] == 0.5
