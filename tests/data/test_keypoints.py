"""Which keypoints a mirror image exchanges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomask.data.keypoints import KeypointNames, swaps_of
from biomask.errors import LabelsError


@pytest.mark.parametrize(("names", "swaps"), [
    (["nose", "left_eye", "right_eye"], [(1, 2)]),
    (["right_eye", "nose", "left_eye"], [(0, 2)]),
    (["l_ear", "r_ear", "tail"], [(0, 1)]),
    (["ear L", "ear-R"], [(0, 1)]),
    (["wing.left", "wing.right"], [(0, 1)]),
    (["EyeL", "EyeR", "LEar", "REar"], [(0, 1), (2, 3)]),
    (["leftEye", "rightEye"], [(0, 1)]),
    (["Left Eye", "Right Eye"], [(0, 1)]),
    (["lefteye", "righteye", "eyeleft", "eyeright"], [(0, 1), (2, 3)]),
    (["L1", "R1", "L2", "R2"], [(0, 1), (2, 3)]),
    (["left", "right"], [(0, 1)]),
    (["left_eye", "mouth"], []),
    (["bright", "left_l", "upright"], []),
    (["left_leg_l", "right_leg_l", "left_leg_r", "right_leg_r"], [(0, 1), (2, 3)]),
    (["1", "2"], []),
    (["knie_l", "knie_r", "größe"], [(0, 1)]),
])
def test_pairs_by_name(names: list[str], swaps: list[tuple[int, int]]) -> None:
    assert list(swaps_of(names)) == swaps


@given(st.lists(st.text(st.sampled_from("lrLRefightLFT_ 1"), max_size=8), unique=True, max_size=12))
def test_any_names_give_disjoint_pairs(names: list[str]) -> None:
    found = KeypointNames(tuple(names), (), swaps_of(names))
    assert sorted(found.mirrored) == list(range(len(names)))
    assert [found.mirrored[k] for k in found.mirrored] == list(range(len(names))), "a mirror image of a mirror image is the image"


def test_what_was_inferred_is_said() -> None:
    names = ("nose", "left_eye", "right_eye")
    assert KeypointNames(names, (), swaps_of(names)).said == (
        "3 keypoints; a mirror image exchanges left_eye and right_eye; nose stays")
    assert KeypointNames(("a", "b")).said == "2 keypoints; a mirror image exchanges none of them"


@pytest.mark.parametrize("swaps", [((0, 1), (1, 2)), ((0, 0),), ((0, 3),)])
def test_pairs_that_are_none(swaps: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(LabelsError, match="one pair at most"):
        KeypointNames(("a", "b", "c"), (), swaps)
