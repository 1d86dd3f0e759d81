"""Masks as stretches down the columns: against arrays of pixels, and pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask.errors import LabelsError
from biomask.instances.rle import encode_counts, pack
from biomask.instances.runs import Runs, grouped, shared_pixels

#: pycocotools' own arrays, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STACKS = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9), elements=st.booleans(),
                    fill=st.booleans())


def runs_of(stack: np.ndarray) -> Runs:
    return Runs.of_crops([(mask, (0, 0)) for mask in stack], stack.shape[1:])


@settings(max_examples=60)
@given(STACKS, st.data())
def test_like_pixels_and_pycocotools(stack: np.ndarray, data: st.DataObject) -> None:
    from pycocotools import mask as coco

    runs, size = runs_of(stack), stack.shape[1:]
    assert len(runs) == len(stack)
    assert runs.areas.tolist() == stack.sum(axis=(1, 2)).tolist()
    packed = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in stack]
    np.testing.assert_array_equal(runs.boxes, coco.toBbox(packed))
    assert [pack(runs.counts(n)) for n in range(len(runs))] == [p["counts"].decode() for p in packed]
    again = Runs.of_counts([p["counts"].decode() for p in packed], size)
    np.testing.assert_array_equal(again.bounds, runs.bounds)
    np.testing.assert_array_equal(again.offsets, runs.offsets)
    for n, mask in enumerate(stack):
        crop, (top, left) = runs.crop(n)
        whole = np.zeros(size, bool)
        whole[top:top + crop.shape[0], left:left + crop.shape[1]] = crop
        np.testing.assert_array_equal(whole, mask)
    picked = np.array(data.draw(st.lists(st.integers(0, len(stack) - 1), max_size=5)), np.int64)
    np.testing.assert_array_equal(runs.take(picked).bounds, runs_of(stack[picked]).bounds)


@settings(max_examples=60)
@given(STACKS, st.data())
def test_shared_pixels(stack: np.ndarray, data: st.DataObject) -> None:
    other = data.draw(hnp.arrays(bool, (data.draw(st.integers(1, 4)), *stack.shape[1:])))
    pairs = np.array([(a, b) for a in range(len(stack)) for b in range(len(other)) if data.draw(st.booleans())],
                     np.int64).reshape(-1, 2)
    got = shared_pixels(runs_of(stack), runs_of(other), pairs)
    assert got.tolist() == [int((stack[a] & other[b]).sum()) for a, b in pairs]


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
                  elements=st.sampled_from([0, 1, 7, 900])))
def test_of_ids(labels: np.ndarray) -> None:
    runs, ids = Runs.of_ids(labels)
    assert ids.tolist() == sorted(set(np.unique(labels).tolist()) - {0})
    expected = runs_of(np.stack([labels == i for i in ids])) if len(ids) else Runs.none(labels.shape)
    np.testing.assert_array_equal(runs.bounds, expected.bounds)
    np.testing.assert_array_equal(runs.offsets, expected.offsets)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=14))
def test_counts_with_zeros(counts: list[int]) -> None:
    """Runs of no pixel, which other programs may write, are dropped, and what touches is joined."""
    size = (1, max(1, sum(counts)))
    counts = counts if sum(counts) else [*counts, 1]
    line = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(1, -1)
    runs = Runs.of_counts([counts, pack(counts), encode_counts(line)], size)
    expected = runs_of(np.stack([line] * 3))
    np.testing.assert_array_equal(runs.bounds, expected.bounds)
    np.testing.assert_array_equal(runs.offsets, expected.offsets)


def test_crops_in_their_image() -> None:
    runs = Runs.of_crops([(np.ones((2, 3)), (4, 1)), (np.zeros((0, 0), bool), (9, 9))], (6, 4))
    assert runs.boxes.tolist() == [[1, 4, 3, 2], [0, 0, 0, 0]]
    assert len(Runs.joined([runs, Runs.none((6, 4)), runs], (6, 4))) == 4
    for origin in ((5, 1), (4, 2), (-1, 0), (0, -1)):
        with pytest.raises(LabelsError, match="beyond"):
            Runs.of_crops([(np.ones((2, 3), bool), origin)], (6, 4))
    with pytest.raises(LabelsError, match="nothing to share"):
        shared_pixels(runs, Runs.none((4, 6)), np.zeros((0, 2), np.int64))


@pytest.mark.parametrize("counts", [[3], [-1, 5], [2.0, 2.0], "P", [2**62, 2**62]])
def test_counts_that_are_none(counts: list[int]) -> None:
    with pytest.raises(LabelsError):
        Runs.of_counts([[4], counts], (2, 2))


def test_grouped() -> None:
    assert [g.tolist() for g in grouped(np.array([5, 2, 5, 9]))] == [[1], [0, 2], [3]]
    assert grouped(np.zeros(0, np.int64)) == []
