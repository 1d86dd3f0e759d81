"""Held-out images: a partition, the same every time, and never neighbours of training images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomask.data.splits import hold_out, is_numbered

NAMES = st.lists(st.text("abcdefgh0123456789_-/", min_size=1, max_size=8), min_size=1, max_size=40, unique=True)
SHARES = st.floats(0, 0.99)


@given(NAMES, SHARES, st.integers(0, 2**63))
def test_a_partition_of_the_right_size(names, share, seed):
    fit, held, reason = hold_out(names, share, seed)
    assert sorted(fit + held) == list(range(len(names)))
    assert fit == sorted(fit)
    assert held == sorted(held)
    assert fit, "nothing is left to train on"
    assert reason
    if share == 0 or len(names) == 1:
        assert held == []
    else:
        assert len(held) == min(len(names) - 1, max(1, round(share * len(names))))


@given(NAMES, SHARES, st.integers(0, 2**63))
def test_the_same_every_time(names, share, seed):
    assert hold_out(names, share, seed) == hold_out(names, share, seed)


@given(st.integers(3, 60), st.floats(0.01, 0.9), st.integers(0, 99), st.integers(0, 500), st.sampled_from([1, 2, 5]))
def test_numbered_images_give_up_one_block(count, share, seed, first, step):
    names = [f"slice_{first + step * i:04d}" for i in range(count)]
    fit, held, reason = hold_out(names, share, seed)
    assert held == list(range(held[0], held[-1] + 1))
    assert held[0] == 0 or held[-1] == count - 1
    assert "contiguous" in reason
    assert not set(fit) & set(held)


def test_the_block_follows_numbers_not_letters():
    names = [f"z{i}" for i in (1, 10, 11, 12, 2, 3, 4, 5, 6, 7, 8, 9)]
    _, held, _ = hold_out(names, 0.25, 0)
    assert sorted(int(names[i][1:]) for i in held) == [10, 11, 12]


@pytest.mark.parametrize(("names", "expected"), [
    (["a1", "a2", "a3"], True),
    (["a1", "a2"], False),
    (["x_1_t0", "x_1_t1", "x_1_t2"], True),
    (["p1_s1", "p2_s7", "p3_s2"], False),
    (["a", "b", "c"], False),
    (["a1", "a2", "b3"], False),
    (["a3", "a77", "a4001", "a9", "a1234"], False),
    (["001/t", "002/t", "003/t"], True),
])
def test_what_counts_as_numbered(names, expected):
    assert is_numbered(names) is expected


def test_another_seed_holds_out_others():
    names = [f"patient {a}{b}" for a in "abcdef" for b in "xyz"]
    assert len({tuple(hold_out(names, 0.2, seed)[1]) for seed in range(20)}) > 5


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_one_image_is_not_split_and_says_so(share):
    fit, held, reason = hold_out(["a"], share, 0)
    assert (fit, held) == ([0], [])
    assert reason.startswith("none held out")


def test_order_of_the_names_does_not_matter_for_a_block():
    names = [f"s{i:02d}" for i in range(10)]
    shuffled = names[::-1]
    assert {names[i] for i in hold_out(names, 0.3, 0)[1]} == {shuffled[i] for i in hold_out(shuffled, 0.3, 0)[1]}


class TestGroups:
    CASES = st.integers(1, 40).flatmap(lambda n: st.tuples(
        st.lists(st.text("abc0123_", min_size=1, max_size=6), min_size=n, max_size=n, unique=True),
        st.lists(st.sampled_from("abcdefg"), min_size=n, max_size=n)))

    @given(CASES, SHARES, st.integers(0, 2**63))
    def test_no_group_is_ever_cut(self, case, share, seed):
        names, groups = case
        fit, held, reason = hold_out(names, share, seed, groups)
        assert sorted(fit + held) == list(range(len(names)))
        assert fit, "nothing is left to train on"
        assert not {groups[i] for i in fit} & {groups[i] for i in held}
        assert reason
        if share > 0 and len(set(groups)) > 1:
            assert held, "two groups can be told apart"

    @given(CASES, st.floats(0.01, 0.99), st.integers(0, 2**63))
    def test_as_near_to_the_share_as_one_group_allows(self, case, share, seed):
        names, groups = case
        _, held, _ = hold_out(names, share, seed, groups)
        if len(set(groups)) > 1:
            wanted = min(len(names) - 1, max(1, round(share * len(names))))
            assert abs(len(held) - wanted) <= max(groups.count(g) for g in groups)

    def test_one_group_is_not_split_and_says_so(self):
        fit, held, reason = hold_out(["a", "b", "c"], 0.3, 0, ["x"] * 3)
        assert (fit, held) == ([0, 1, 2], [])
        assert reason == "none held out: all images belong to one group"

    def test_groups_of_one_are_none(self):
        names = [f"s{i:02d}" for i in range(10)]
        assert hold_out(names, 0.3, 0, names) == hold_out(names, 0.3, 0)

    def test_the_same_every_time(self):
        names, groups = [str(i) for i in range(30)], [str(i // 4) for i in range(30)]
        assert hold_out(names, 0.2, 7, groups) == hold_out(names, 0.2, 7, groups)
        assert len({tuple(hold_out(names, 0.2, seed, groups)[1]) for seed in range(20)}) > 3


@pytest.mark.data
def test_groups_of_dsb2018_are_never_cut(data_root):
    from biomask.data.layouts import find_layout

    pairs = [p for p in find_layout(data_root / "dsb2018").pairs if p.part == "train"]
    groups = [p.group for p in pairs]
    for seed in range(10):
        fit, held, _ = hold_out([p.name for p in pairs], 0.15, seed, groups)
        assert not {groups[i] for i in fit} & {groups[i] for i in held}
        assert 0.05 * len(pairs) <= len(held) <= 0.4 * len(pairs)
