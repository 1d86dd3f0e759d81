"""Images that belong together are named, or found, and said how."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomask.data.groups import groups_for, named_groups
from biomask.data.matches import Match
from biomask.data.pairing import Pair
from biomask.errors import UsageError
from biomask.stored import Plane


def pairs(*names: str, groups: dict[str, str] | None = None) -> list[Pair]:
    return [Pair(n, Path(f"{n}.png"), None, group=(groups or {}).get(n)) for n in names]


def nothing() -> list[Match]:
    return []


def never() -> list[Match]:
    raise AssertionError("images were compared although groups are named")


class TestNamed:
    def test_none(self):
        assert groups_for(pairs("a", "b", groups={"a": "x"}), "none", never) == (["a", "b"], "every image for itself, as told")

    def test_by_folder(self):
        found, reason = groups_for(pairs("mouse 1/a", "mouse 1/b", "mouse 2/a", "c"), "folder", never)
        assert found == ["mouse 1", "mouse 1", "mouse 2", "."]
        assert "folder" in reason

    @pytest.mark.parametrize(("pattern", "expected"), [
        (r"(.*)_\d+", ["a", "a", "b", "other"]), (r"^[ab]", ["a", "a", "b", "other"]), (r"_(\d)", ["1", "2", "1", "other"]),
        (r"(a)|(b)", ["a", "a", "b", "other"])])
    def test_by_a_pattern(self, pattern, expected):
        found, reason = groups_for(pairs("a_1", "a_2", "b_1", "other"), pattern, never)
        assert found == expected
        assert pattern in reason

    @pytest.mark.parametrize("pattern", ["(", "[a-", "*x"])
    def test_a_pattern_that_is_none(self, pattern):
        with pytest.raises(UsageError, match="not a pattern") as caught:
            groups_for(pairs("a"), pattern, never)
        assert "folder" in caught.value.fix

    def test_a_pattern_that_fits_nothing(self):
        with pytest.raises(UsageError, match="fits no image name, such as 'a'"):
            groups_for(pairs("a", "b"), r"mouse(\d)", never)

    def test_by_a_table(self):
        found, reason = groups_for(pairs("a", "b", "c", groups={"a": "x", "c": "x"}), None, never)
        assert found == ["x", "b", "x"]
        assert "split.csv" in reason
        assert "mouse" in groups_for(pairs("a", groups={"a": "x"}), "column:mouse", never)[1]

    def test_planes_of_one_file(self):
        several = [Pair(f"a_z{z}", Path("a.tif"), None, Plane(z), group="a") for z in range(3)]
        found, reason = groups_for(several, None, never)
        assert set(found) == {"a"}
        assert "planes" in reason


class TestFound:
    def test_matches_join(self):
        look = lambda: [Match(0, 2, "neighbour", "left of", 3.0), Match(2, 3, "duplicate", "same pixels", 1.0)]  # noqa: E731
        found, reason = groups_for(pairs("a", "b", "c", "d"), None, look)
        assert found == ["a", "b", "a", "a"]
        assert "neighbouring" in reason

    def test_nothing_alike(self):
        assert groups_for(pairs("a", "b"), None, nothing) == (["a", "b"], "")

    @given(st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), max_size=12))))
    def test_whatever_matches_is_in_one_group(self, case):
        count, links = case
        found, _ = groups_for(pairs(*map(str, range(count))), None, lambda: [Match(a, b, "overlap", "", 1.0) for a, b in links])
        assert len(found) == count
        assert all(found[a] == found[b] for a, b in links)
        assert len(set(found)) >= count - len({tuple(sorted(p)) for p in links if p[0] != p[1]})


def test_nobody_says():
    assert named_groups(pairs("a"), None) == (None, "")
    assert named_groups([], "none") == ([], "every image for itself, as told")
