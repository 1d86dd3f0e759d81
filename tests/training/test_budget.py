"""When training looks at the held-out images, how many of them, and when it ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomask.training.budget import (
    ALIKE,
    COOLDOWN,
    FLOAT32_WORK,
    SETTLED,
    STEP_WORK,
    TRIALS_SHARE,
    VALIDATION_SHARE,
    Budget,
    cooldown_now,
    learning_rate,
)

STEPS, MINUTES = Budget(1000, None, 10), Budget(None, 10.0, 10)


class TestImages:
    """All validations together stay within their share of the work, trials within theirs."""

    @given(st.lists(st.integers(1, 10**7), max_size=60), st.integers(1, 10**6), st.integers(1, 3), st.booleans(),
           st.integers(1, 10**4))
    def test_the_work_is_bounded_but_for_two_images(self, pixels, step_pixels, networks, last, steps):
        budget = Budget(steps, None, 10)
        n = budget.affordable_images(pixels, step_pixels, 0.1, networks=networks, last=last)
        assert min(2, len(pixels)) <= n <= len(pixels)
        whole = steps * step_pixels * STEP_WORK / FLOAT32_WORK * VALIDATION_SHARE
        times, share = (1, TRIALS_SHARE) if last else (10, 1 - TRIALS_SHARE)
        if n > 2:
            assert times * networks * sum(pixels[:n]) <= whole * share * (1 + 1e-9)
        if n < len(pixels):
            assert times * networks * sum(pixels[: n + 1]) > whole * share * (1 - 1e-9)

    def test_time_counts_for_minutes_alone(self):
        pixels = [10**5] * 1000
        slow, fast = (MINUTES.affordable_images(pixels, 10**5, s, networks=1) for s in (1.0, 0.1))
        assert 2 <= slow < fast
        assert len({STEPS.affordable_images(pixels, 10**5, s, networks=1) for s in (1.0, 0.1)}) == 1

    def test_a_few_small_ones_are_all_scored(self):
        assert STEPS.affordable_images([100] * 7, 10**5, 0.1, networks=2) == 7
        assert STEPS.affordable_images([], 10**5, 0.1, networks=2) == 0


class TestPoints:
    @given(st.integers(1, 300), st.integers(1, 20))
    def test_as_many_validations_as_asked_the_last_at_the_end(self, steps, validations):
        budget = Budget(steps, None, validations)
        at = [s for s in range(1, steps + 1) if budget.crossed(budget.fraction(s - 1, 0), budget.fraction(s, 0))]
        assert at[-1] == steps
        assert min(steps, validations) - 1 <= len(at) <= validations

    def test_time_is_kept_back_for_the_end_but_never_too_much(self):
        assert MINUTES.fraction(0, 300) == 0.5
        assert MINUTES.fraction(0, 300, 60) == pytest.approx(300 / 540)
        assert MINUTES.fraction(0, 300, 10**6) == pytest.approx(300 / 420)
        assert MINUTES.fraction(0, 10**6) == 1


class TestCooldown:
    """`--until-flat`."""

    def test_a_rising_score_goes_on_until_the_rest_is_needed(self):
        scores = [0.1 * i for i in range(9)]
        assert cooldown_now(scores, 0.5, 3, SETTLED) is None
        start, end = cooldown_now(scores, 0.81, 3, SETTLED)
        assert (start, end) == (0.81, 1.0)

    def test_a_flat_one_ends_after_a_quarter_more(self):
        scores = [0.2, 0.5, 0.5 + ALIKE / 2, 0.4, 0.5]
        assert cooldown_now(scores[:-1], 0.2, 3, SETTLED) is None
        assert cooldown_now(scores, 0.2, 3, SETTLED) == (0.2, pytest.approx(0.2 * (1 + COOLDOWN)))
        assert cooldown_now([*scores, 0.9], 0.2, 3, SETTLED) is None  # better again
        assert cooldown_now(scores, 0.2, 3, SETTLED - 1) is None  # not begun to learn

    @given(st.lists(st.floats(0, 1), max_size=20), st.floats(0.01, 1), st.integers(1, 6))
    def test_it_always_ends_within_the_budget(self, scores, fraction, patience):
        found = cooldown_now(scores, fraction, patience, SETTLED)
        assert found is None or (found[0] == fraction and fraction <= found[1] <= 1)
        assert found is not None or fraction < 1 / (1 + COOLDOWN)

    def test_the_rate_is_constant_and_then_falls_to_0(self):
        rates = [learning_rate(f, 1e-3, "constant", 0.0, (0.4, 0.5)) for f in (0.1, 0.4, 0.425, 0.475, 0.5, 0.6)]
        assert rates == pytest.approx([1e-3, 1e-3, 0.75e-3, 0.25e-3, 0, 0])

    def test_it_rises_first(self):
        rises = [learning_rate(f, 1.0, "cosine", 0.1) for f in (0, 0.05, 0.0999)]
        assert rises == sorted(rises)
        assert rises[0] == pytest.approx(0.1)
        assert learning_rate(1.0, 1.0, "cosine", 0.1) == pytest.approx(0, abs=1e-12)


class TestSteps:
    """Schedule "step"."""

    def test_the_rate_falls_by_the_factor_at_each_share_of_the_budget(self):
        epochs = 50  # one in ten thousand of a training of 50 epochs before and after each tenth one
        for epoch in range(epochs):
            for part in (1e-4, 1 - 1e-4):
                rate = learning_rate((epoch + part) / epochs, 1e-4, "step", 0.0, (), (0.2, 0.1))
                assert rate == pytest.approx(1e-4 * 0.1 ** (epoch // 10))  # torch's StepLR(step_size=10, gamma=0.1)

    @given(st.integers(1, 50), st.integers(1, 50), st.floats(0.01, 0.99))
    def test_a_fall_comes_exactly_at_its_fraction(self, n, falls, factor):
        rate = learning_rate(min(n, falls) / falls, 1.0, "step", 0.0, (), (1 / falls, factor))
        assert rate == pytest.approx(factor ** min(n, falls))

    def test_it_rises_first(self):
        assert learning_rate(0.05, 1.0, "step", 0.1) == pytest.approx(0.55)


def test_a_rate_falls_where_it_is_told_to():
    """The paper's Mask R-CNN: a tenth after 120,000 of 160,000 steps; its keypoints at 60,000 and 80,000 of 90,000."""
    rates = [learning_rate(f, 0.02, "step", 0.0, drops=(0.2, 0.1), drop_at=(0.75,)) for f in (0.2, 0.7499, 0.75, 1.0)]
    assert rates == pytest.approx([0.02, 0.02, 0.002, 0.002])
    rates = [learning_rate(n / 90, 0.02, "step", 0.0, drop_at=(60 / 90, 80 / 90)) for n in (59, 60, 79, 80)]
    assert rates == pytest.approx([0.02, 0.002, 0.002, 0.0002])
