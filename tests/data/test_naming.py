"""Names that mean the same image are matched, and names that differ in a number never are."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomask.data.naming import MASK_WORDS, match, nearest, normal, plain, says_mask, unmatched_lines

#: As biologists name files; no word that says "mask", which would have partners of its own.
STEMS = st.from_regex(r"[a-fx-z]{1,4}[_ -]?[0-9]{0,3}(_t[0-9]{1,2})?", fullmatch=True)
AFFIXES = st.from_regex(r"[_.-](mask|labels|gt|zz|cells)", fullmatch=True)


def numbers(name: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", name)]


class TestRules:
    @pytest.mark.parametrize(("images", "labels"), [
        (["a", "b"], ["a", "b"]),
        (["cell_1", "cell_10"], ["cell_1_mask", "cell_10_mask"]),
        (["x", "y"], ["x-labels", "y-labels"]),
        (["img_1", "img_2"], ["mask_1", "mask_2"]),
        (["image1", "image2"], ["mask1", "mask2"]),
        (["1", "2", "10"], ["1mask", "2mask", "10mask"]),
        (["img2d", "img3d"], ["mask2d", "mask3d"]),
        (["day 1/a", "day 2/a"], ["day 1/a_gt", "day 2/a_gt"]),
        (["t000", "t001"], ["man_seg_t000", "man_seg_t001"]),
        (["21_training", "22_training"], ["21_manual1", "22_manual1"]),
        (["cell_image_01", "cell_image_02"], ["cell_mask_01", "cell_mask_02"]),
        (["case_001_0000", "case_002_0000"], ["case_001", "case_002"]),
        (["Zelle_Ä", "Zelle_Ö"], [unicodedata.normalize("NFD", s) for s in ("Zelle_Ä", "Zelle_Ö")]),
        (["细胞一", "细胞二"], ["细胞一_掩膜", "细胞二_掩膜"]),
        (["Cell A", "Cell B"], ["cell a", "CELL B"]),
        (["image", "image (2)"], ["image_seg", "image (2)_seg"]),
        (["a.b", "a.c"], ["a.b_cp_masks", "a.c_cp_masks"]),
    ])
    def test_of_what_people_type(self, images, labels):
        assert match(images, labels)[0] == dict(zip(images, labels, strict=True))

    def test_the_rule_is_said(self):
        assert match(["a", "b"], ["a", "b"])[1] == "same names"
        assert match(["a", "b"], ["a_zz", "b_zz"])[1] == "masks are named like the images, with '_zz' after"
        assert "capitals" in match(["A", "b"], ["a", "b"])[1]

    def test_the_same_name_beats_any_other_rule(self):
        """`a_mask` is an image of its own here."""
        found, how = match(["a", "a_mask", "b"], ["a", "a_mask", "b"])
        assert found == {"a": "a", "a_mask": "a_mask", "b": "b"}
        assert how == "same names"

    def test_the_rule_that_pairs_more_is_taken(self):
        found, _ = match(["a", "b", "c"], ["a", "b_mask", "c_mask"])
        assert len(found) == 3

    def test_two_candidates_are_none(self):
        assert match(["x", "y"], ["x_mask", "x_label", "y_mask"])[0].get("x") in (None, "x_mask")
        assert match(["a_img", "a_raw", "b_img"], ["a_mask", "b_mask"])[0] == {"b_img": "b_mask"}

    def test_an_only_image_and_its_only_labels(self):
        assert match(["photo"], ["drawing"])[0] == {"photo": "drawing"}
        assert match(["IMG_0001"], ["my cells"])[0] == {"IMG_0001": "my cells"}

    @pytest.mark.parametrize(("image", "label"), [("cell_01", "cell_02"), ("day 1/a", "day 2/a"), ("a1", "b2")])
    def test_an_only_image_does_not_take_another_number(self, image, label):
        assert match([image], [label])[0] == {}

    def test_nothing_is_no_error(self):
        assert match([], [])[0] == match(["a"], [])[0] == match([], ["a"])[0] == {}

    def test_thousands_of_long_names_are_quick(self, time_limit):
        images = ["n" * 190 + f"{i:05d}" for i in range(5000)]
        with time_limit(20):
            assert len(match(images, [f"{s}_zz" for s in images])[0]) == 5000


class TestNeverAnotherNumber:
    """Two measurements of one series differ in a number: the mask of the one is never that of the other."""

    @given(st.lists(STEMS, min_size=1, max_size=12, unique=True), st.lists(STEMS, min_size=1, max_size=12, unique=True))
    def test_of_any_names(self, images, labels):
        for image, label in match(images, labels)[0].items():
            if numbers(image) and numbers(label):
                assert numbers(image) == numbers(label)

    @given(st.integers(1, 200), st.integers(1, 200), st.integers(2, 30), st.sampled_from(["", "img", "cell_", "t"]),
           st.sampled_from(["", "mask", "cell_", "t"]), st.integers(1, 4))
    def test_of_numbered_series(self, first, other, count, before, after, width):
        images = [f"{before}{n:0{width}d}" for n in range(first, first + count)]
        labels = [f"{after}{n:0{width}d}" for n in range(other, other + count)]
        for image, label in match(images, labels)[0].items():
            assert numbers(image) == numbers(label)

    def test_an_affix_that_is_the_end_of_a_number(self):
        assert match([str(n) for n in range(1, 10)], [str(n) for n in range(11, 20)])[0] == {}
        assert match([f"f{n}" for n in range(1, 10)], [f"f{n}0" for n in range(1, 10)])[0] == {}
        assert match(["s1", "s2"], ["s1_2", "s2_2"])[0] == {}

    def test_an_affix_that_is_a_word_with_a_number(self):
        for affix in ("_mask2d", "_seg_v2", "_labels3"):
            assert match(["s1", "s2"], [f"s1{affix}", f"s2{affix}"])[0] == {"s1": f"s1{affix}", "s2": f"s2{affix}"}


@given(st.lists(STEMS, min_size=1, max_size=15, unique_by=str.casefold), AFFIXES, st.booleans(), st.randoms())
def test_one_affix_is_learnt_and_finds_all(stems, affix, in_front, random):
    labels = [f"{affix[1:]}{affix[0]}{s}" if in_front else s + affix for s in stems]
    random.shuffle(labels)
    found, _ = match(stems, labels)
    assert found == {s: (f"{affix[1:]}{affix[0]}{s}" if in_front else s + affix) for s in stems}


@given(st.lists(STEMS, max_size=10, unique=True), st.lists(STEMS, max_size=10, unique=True))
def test_no_label_serves_two_images(images, labels):
    found, _ = match(images, labels)
    assert set(found) <= set(images)
    assert set(found.values()) <= set(labels)
    assert len(set(found.values())) == len(found)


@given(st.text(max_size=30))
def test_any_name_has_a_plain_one(text):
    assert isinstance(plain(text), str)
    assert says_mask(text) in (True, False)
    assert normal(normal(text)) == normal(text)


@pytest.mark.parametrize("word", MASK_WORDS)
def test_every_word_says_mask_before_and_behind(word):
    assert says_mask(f"x_{word}")
    assert says_mask(f"{word} x")
    assert plain(f"x-{word}") == plain(f"{word}.x") == "x"


@pytest.mark.parametrize("name", ["mask", "labels", "gtpase_01", "masked_cells", "overlays", "segment7b", "aligned", "x_maskless"])
def test_what_only_looks_like_a_word_is_none(name):
    assert not says_mask(name)
    assert plain(name) == name


def test_nearest_names():
    assert nearest("cell_01", ["cell_01_mask_final", "zzz"]) == "cell_01_mask_final"
    assert nearest("abc", ["xyz"]) is None
    assert nearest("abc", []) is None


def test_lines_of_the_unmatched_are_bounded():
    missing = [f"a{i}" for i in range(50)]
    lines = unmatched_lines(missing, ["a0_x"], {s: f"{s}.png" for s in [*missing, "a0_x"]})
    assert lines[0] == "a0.png (nearest: a0_x.png)"
    assert lines[-1] == "… and 30 more"
    assert len(lines) == 21
