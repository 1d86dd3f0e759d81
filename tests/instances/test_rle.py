"""Run lengths, with pycocotools as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask.errors import LabelsError
from biomask.instances.rle import decode_counts, decode_crop, encode_counts, pack, unpack

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40), elements=st.booleans(),
                   fill=st.booleans())


@given(MASKS)
@settings(max_examples=100, deadline=None)
def test_like_pycocotools(mask: np.ndarray) -> None:
    from pycocotools import mask as coco

    counts = encode_counts(mask)
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert pack(counts) == expected["counts"].decode()
    assert unpack(pack(counts)).tolist() == counts
    np.testing.assert_array_equal(decode_counts(counts, mask.shape), mask)


@given(MASKS, st.integers(0, 5), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_a_crop_in_its_image(mask: np.ndarray, top: int, left: int) -> None:
    whole = np.pad(mask, ((top, 3), (left, 2)))
    counts = encode_counts(mask, size=whole.shape, origin=(top, left))
    assert counts == encode_counts(whole)
    crop, (y, x) = decode_crop(counts, whole.shape)
    out = np.zeros_like(whole)
    out[y:y + crop.shape[0], x:x + crop.shape[1]] = crop
    np.testing.assert_array_equal(out, whole)
    assert not mask.any() or (crop.any(axis=0)[[0, -1]].all() and crop.any(axis=1)[[0, -1]].all())


def test_a_large_crop_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros((30, 20), bool)
    mask[4:29, 3:15] = True
    few = decode_crop(encode_counts(mask), mask.shape)
    monkeypatch.setattr("biomask.instances.rle.CHUNK", 10)
    many = decode_crop(encode_counts(mask), mask.shape)
    assert few[1] == many[1] == (4, 3)
    np.testing.assert_array_equal(few[0], many[0])


@given(st.lists(st.integers(0, 2**31), max_size=12))
@settings(max_examples=50, deadline=None)
def test_any_counts_can_be_packed(counts: list[int]) -> None:
    assert unpack(pack(counts)).tolist() == counts


@pytest.mark.parametrize("text", ["é", "P", "1P", " ", "\x7f", "o" * 9 + "0", "oooooooooooooooo0"])
def test_text_that_is_none(text: str) -> None:
    with pytest.raises(LabelsError, match="packed"):
        unpack(text)


@pytest.mark.parametrize(("counts", "reason"), [
    ([3, 4], "add up to the 3 x 4"), ([20, -8], "add up"), ([2**62, 2**62, 2**62], "add up"), ([6.5, 5.5], "whole"),
    (["a"], "whole"),
    ([[12]], "whole"), ([], "whole"), (None, "whole"), ([10**40], "whole"), ([[1], [1, 2]], "whole"),
])
def test_counts_that_are_none(counts: object, reason: str) -> None:
    with pytest.raises(LabelsError, match=reason):
        decode_counts(counts, (3, 4))  # type: ignore[arg-type]
