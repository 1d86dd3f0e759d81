"""Pictures of objects and structures: every pixel against a slow and plain account of what it has to be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biomask.image import Image
from biomask.labels import PALETTE, Legend
from biomask.reports.blocks import ColourKey
from biomask.reports.examples import Example, compared, example_blocks, panels, shrunk
from biomask.reports.pictures import (
    ADDED,
    CONFUSED,
    ERROR_STRENGTH,
    MISSED,
    NEIGHBOURS,
    RIGHT,
    RIGHT_STRENGTH,
    edges,
    error_overlay,
    object_errors,
    object_outlines,
    structure_outlines,
)

BLACK = Image(np.zeros((1, 12, 14), np.uint8), "cyx", "black")
TINTS = {"right": (RIGHT, RIGHT_STRENGTH), "missed": (MISSED, ERROR_STRENGTH), "added": (ADDED, ERROR_STRENGTH),
         "confused": (CONFUSED, ERROR_STRENGTH), "": ((0, 0, 0), 0.0)}


def tint(name, strength=None):
    colour, usual = TINTS[name]
    return [int(np.floor(c * (usual if strength is None else strength) + 0.5)) for c in colour]


def inner_edge(ids):
    """Pixels of objects with another value among their four neighbours, one by one."""
    found = np.zeros(ids.shape, bool)
    for y, x in np.argwhere(ids > 0):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        found[y, x] = any(0 <= a < ids.shape[0] and 0 <= b < ids.shape[1] and ids[a, b] != ids[y, x] for a, b in around)
    return found


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


ids = arrays(np.int32, (12, 14), elements=st.integers(0, 3))
blocks = arrays(np.int32, (4, 7), elements=st.integers(0, 4)).map(lambda a: a.repeat(3, axis=0).repeat(2, axis=1))
masks = arrays(np.bool_, (12, 14))


@settings(max_examples=60, deadline=None)
@given(blocks, blocks, masks)
def test_each_object_is_found_missed_or_added(truth, predicted, hidden):
    ignore = hidden & (np.arange(14) > 11)  # the last columns only, so that no object is hidden altogether by chance
    pairs = np.array([(t, p) for t in np.unique(truth[truth > 0]) for p in np.unique(predicted[predicted > 0])
                      if iou(truth == t, predicted == p) > 0.5]).reshape(-1, 2)
    out = object_errors(BLACK, truth, predicted, ignore, pairs)
    true_edge, found_edge = inner_edge(truth), inner_edge(predicted)
    for y, x in np.ndindex(12, 14):
        missed = truth[y, x] > 0 and truth[y, x] not in pairs[:, 0]
        added = predicted[y, x] > 0 and predicted[y, x] not in pairs[:, 1]
        right = truth[y, x] in pairs[:, 0]
        if ignore[y, x]:
            expected = [0, 0, 0]
        elif added:
            expected = tint("added", 1) if found_edge[y, x] else tint("confused" if missed else "added")
        elif missed:
            expected = tint("missed", 1 if true_edge[y, x] else None)
        else:
            expected = tint("right", 1 if true_edge[y, x] else None) if right else [0, 0, 0]
        assert out[:, y, x].tolist() == expected


@settings(max_examples=40, deadline=None)
@given(blocks, blocks)
def test_without_pairs_those_of_half_an_overlap_are_found(truth, predicted):
    pairs = compared(Example("e", BLACK, predicted, truth, Legend.of_values([0, 1]), None, kind="instances")).pairs
    np.testing.assert_array_equal(object_errors(BLACK, truth, predicted), object_errors(BLACK, truth, predicted, None, pairs))
    assert all(iou(truth == t, predicted == p) >= 0.5 for t, p in pairs)


@settings(max_examples=40, deadline=None)
@given(arrays(np.bool_, (3, 12, 14)), arrays(np.bool_, (3, 12, 14)))
def test_structures_pixel_by_pixel(truth, predicted):
    out = error_overlay(BLACK, truth, predicted)
    for y, x in np.ndindex(12, 14):
        true, found = truth[:, y, x], predicted[:, y, x]
        missed, added = any(true & ~found), any(found & ~true)
        name = ("confused" if added else "missed") if missed else "added" if added else "right" if any(true) else ""
        assert out[:, y, x].tolist() == tint(name)


@settings(max_examples=40, deadline=None)
@given(ids, ids, masks)
def test_classes_are_structures_that_exclude_each_other(truth, predicted, ignore):
    one_hot = [np.stack([a == k for k in (1, 2, 3)]) for a in (truth, predicted)]
    np.testing.assert_array_equal(error_overlay(BLACK, truth, predicted, ignore), error_overlay(BLACK, *one_hot, ignore))


@settings(max_examples=40, deadline=None)
@given(ids)
def test_edges_are_inner_ones(values):
    np.testing.assert_array_equal(edges(BLACK, values), inner_edge(values))


def test_objects_that_touch_have_outlines_of_their_own_and_none_is_white():
    values = np.zeros((12, 14), np.int32)
    values[2:6, 2:7], values[2:6, 7:12] = 8, 9
    out = object_outlines(BLACK, values, None, Legend.of_values([0, 1]))
    assert out[:, 3, 6].tolist() == list(NEIGHBOURS[0])  # 8 of seven colours
    assert out[:, 3, 7].tolist() == list(NEIGHBOURS[1])
    assert PALETTE[-1] == (255, 255, 255)
    assert PALETTE[-1] not in NEIGHBOURS


def test_objects_of_classes_have_their_colours():
    values, legend = np.zeros((12, 14), np.int32), Legend.of_values([0, 3, 5])
    values[2:6, 2:7], values[2:6, 7:12] = 1, 2
    out = object_outlines(BLACK, values, np.where(values == 1, 2, values // 2), legend)
    assert out[:, 3, 6].tolist() == list(legend.entries[2].colour)
    assert out[:, 3, 7].tolist() == list(legend.entries[1].colour)
    assert not out[:, 3, 4].any()


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_structures_are_drawn_over_each_other(dtype):
    legend, found = Legend.of_values([0, 1, 2]), np.zeros((2, 12, 14), dtype)
    found[0, 1:10, 1:10], found[1, 1:5, 3:7] = 1, 1
    out = structure_outlines(BLACK, found, legend)
    first, second = inner_edge(found[0].astype(int)), inner_edge(found[1].astype(int))
    for y, x in np.ndindex(12, 14):
        entry = 2 if second[y, x] else 1 if first[y, x] else 0
        assert out[:, y, x].tolist() == list(legend.entries[entry].colour)


def objects(shape=(12, 14)):
    """(truth, prediction): 1 is found as 5, 2 is missed, 3 is found as 6 in another class, 7 is added."""
    truth, predicted = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    truth[..., 0:3, 0:3], truth[..., 0:3, 5:8], truth[..., 0:3, 10:13] = 1, 2, 3
    predicted[..., 0:3, 0:3], predicted[..., 0:3, 10:13], predicted[..., 6:9, 6:9] = 5, 6, 7
    return truth, predicted


def test_scores_counts_and_classes_of_objects():
    truth, predicted = objects()
    example = compared(Example("e", BLACK, predicted, truth, Legend.of_values([0, 1, 2]), None, kind="instances",
                               true_classes=(truth > 0).astype(int), predicted_classes=np.where(predicted == 6, 2, predicted > 0)))
    assert example.score == 2 / 4
    assert example.note == "2 of 3 objects found, 1 added"
    assert example.pairs.tolist() == [[1, 5], [3, 6]]
    assert example.other_class.tolist() == [3]
    errors = dict(panels(example, longest=14))["errors"].astype(int)
    for y, x, name in ((1, 1, "right"), (1, 6, "missed"), (1, 11, "confused"), (7, 7, "added"), (10, 1, "")):
        assert np.abs(errors[:, y, x] - tint(name)).max() <= 3, name  # 64 levels


def test_objects_of_a_volume_are_matched_as_a_whole():
    """Alike in the middle slice, and elsewhere not."""
    truth, predicted = np.zeros((5, 12, 14), np.int32), np.zeros((5, 12, 14), np.int32)
    truth[2, 2:8, 2:8] = 4
    predicted[:, 2:8, 2:8] = 9
    volume = Image(np.zeros((1, 5, 12, 14), np.uint8), "czyx", "v")
    example = compared(Example("v", volume, predicted, truth, Legend.of_values([0, 1]), None, kind="instances"))
    assert example.score == 0
    assert np.abs(dict(panels(example, longest=14))["errors"][:, 4, 4].astype(int) - tint("confused")).max() <= 3
    assert shrunk(example, 14).predicted.shape == (12, 14)


def test_structures_of_a_volume_keep_their_axis():
    truth = np.zeros((2, 5, 12, 14), bool)
    truth[1, 2, 4:8, 4:8] = True
    volume = Image(np.zeros((1, 5, 12, 14), np.uint8), "czyx", "v")
    example = compared(Example("v", volume, truth, truth, Legend.of_values([0, 1, 2]), None, kind="multilabel"))
    assert example.score == 1.0  # the other structure is undefined
    assert shrunk(example, 7).truth.shape == (2, 6, 7)
    assert [caption for caption, _ in panels(example)] == ["image", "truth", "prediction", "errors"]


@pytest.mark.parametrize(("kind", "key"), [
    ("classes", "taken for another class"), ("instances", "in both, but not the same object"),
    ("multilabel", "one structure missed, another added"),
])
def test_key_explains_the_colours_of_the_kind(kind, key):
    values = np.ones((2, 12, 14), int) if kind == "multilabel" else np.ones((12, 14), int)
    example = Example("e", BLACK, values, values, Legend.of_values([0, 1, 2]), 1.0, kind=kind)
    keys = [b for b in example_blocks([example], over="here") if isinstance(b, ColourKey)]
    assert key in [name for name, _ in keys[-1].entries]
    assert len(keys) == (1 if kind == "instances" else 2)
