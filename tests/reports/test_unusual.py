"""Planted outliers come first, and images that are alike are not unusual."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.reports.unusual import FEWEST, striking_first, unusual


def images(count, **odd):
    """Alike images with small differences, and one that is odd."""
    rng = np.random.default_rng(0)
    made = {f"im_{n}": {"summary": {"pixels": 10_000, "share_cell": 0.3 + rng.normal(0, 0.01), "objects": 50 + n % 3,
                                    "area_px_median": 60.0 + n % 4, "probability_mean": 0.9}} for n in range(count)}
    if odd:
        made["odd"] = {"summary": {**made["im_0"]["summary"], **odd}}
    return made


@pytest.mark.parametrize(("odd", "said"), [
    ({"objects": 2}, "objects: 2, usually 5"), ({"objects": 900}, "objects: 900"), ({"share_cell": 0.9},
                                                                                    "share of cell: 90 %, usually"),
    ({"area_px_median": 600.0}, "median size of an object, px: 600"), ({"probability_mean": 0.55},
                                                                       "mean probability of objects: 0.55"),
    ({"pixels": 1_000_000}, "objects: 50"),
])
def test_what_is_odd_comes_first_and_says_why(odd, said):
    found = images(12, **odd)
    assert striking_first(found)[0] == "odd"
    assert said in unusual(found)["odd"].reason
    assert [name for name, u in unusual(found).items() if u.reason] == ["odd"]


def test_alike_images_are_not_unusual():
    assert not any(u.reason for u in unusual(images(30)).values())
    same = {str(n): images(1)["im_0"] for n in range(10)}
    assert {u.score for u in unusual(same).values()} == {0.0}
    assert striking_first(same) == list(same)


def test_of_few_images_none_is_unusual():
    few = images(FEWEST - 2, objects=1)
    assert len(few) == FEWEST - 1
    assert not any(u.score for u in unusual(few).values())


def test_warnings_come_before_oddities():
    found = images(8, objects=1)
    found["im_5"]["warnings"] = ["it is darker"]
    assert striking_first(found)[:2] == ["im_5", "odd"]


def test_records_without_a_summary_are_taken():
    found = {str(n): {"size": [4, 4]} for n in range(9)}
    assert striking_first(found) == list(found)
    found["3"] = {"summary": {"objects": 4, "area_px_median": None}}
    assert set(striking_first(found)) == set(found)


@settings(deadline=None)
@given(st.permutations(range(9)))
def test_the_order_of_images_does_not_matter(order):
    found = images(8, share_cell=0.8)
    names = list(found)
    shuffled = {names[n]: found[names[n]] for n in order}
    scores = {name: u.score for name, u in unusual(found).items()}
    assert {name: u.score for name, u in unusual(shuffled).items()} == pytest.approx(scores)
