"""Boxes against unit squares that are counted, and suppression against the rule written out."""

from math import log
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from biomask.errors import SizeError
from biomask.models.mask_rcnn import boxes as module
from biomask.models.mask_rcnn.boxes import BoxCoder, batched_nms, box_ioa, box_iou, clip_boxes, large_enough, nms


def box(low=0, high=9, least=0):
    edges = st.tuples(st.integers(low, high), st.integers(low, high)).filter(lambda e: e[1] - e[0] >= least)
    return st.tuples(edges, edges).map(lambda e: (e[0][0], e[1][0], e[0][1], e[1][1]))


def tensor(boxes):
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def squares(b):
    return {(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])}


@given(st.lists(box(), max_size=5), st.lists(box(), max_size=5))
def test_overlaps_count_unit_squares(a, b):
    shared = np.array([[len(squares(p) & squares(q)) for q in b] for p in a]).reshape(len(a), len(b))
    union = np.array([[len(squares(p) | squares(q)) for q in b] for p in a]).reshape(len(a), len(b))
    own = np.array([len(squares(p)) for p in a]).reshape(-1, 1)
    np.testing.assert_allclose(box_iou(tensor(a), tensor(b)), shared / np.maximum(union, 1), rtol=1e-6)
    np.testing.assert_allclose(box_ioa(tensor(a), tensor(b)), shared / np.maximum(own, 1), rtol=1e-6)


@given(st.lists(box(-5, 15), min_size=1, max_size=5), st.integers(1, 10), st.integers(1, 10))
def test_clipping_keeps_the_squares_inside(boxes, height, width):
    inside = {(x, y) for x in range(width) for y in range(height)}
    for given_box, clipped in zip(boxes, clip_boxes(tensor(boxes), (height, width)).int().tolist(), strict=True):
        assert squares(clipped) == squares(given_box) & inside
        assert 0 <= clipped[0] <= clipped[2] <= width
        assert 0 <= clipped[1] <= clipped[3] <= height


def test_clipping_takes_boxes_of_several_classes():
    boxes = torch.rand(4, 3, 4) * 40 - 10
    assert torch.equal(clip_boxes(boxes, (20, 10)), torch.stack([clip_boxes(b, (20, 10)) for b in boxes]))


def test_large_enough_asks_for_both_sides():
    boxes = tensor([(0, 0, 2, 2), (0, 0, 1.9, 5), (0, 0, 5, 1.9), (3, 3, 5, 6), (4, 4, 4, 4)])
    assert large_enough(boxes, 2).tolist() == [True, False, False, True, False]


def suppressed_one_by_one(boxes, scores, threshold):
    """The rule itself, in float32 as torchvision has it."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # stable: the first of equal ones first
        def overlap(j, i=i):
            shared, union = len(squares(boxes[i]) & squares(boxes[j])), len(squares(boxes[i]) | squares(boxes[j]))
            return float(np.float32(shared) / np.float32(union)) if union else 0.0
        if all(overlap(j) <= threshold for j in kept):
            kept.append(i)
    return kept


scored = st.lists(st.tuples(box(0, 5), st.integers(0, 4), st.integers(0, 2)), max_size=25)


@pytest.mark.parametrize("block", [1, 4, 128])
@given(scored, st.sampled_from([0.0, 0.2, 0.3, 0.5, 0.6, 0.7, 1.0]))
@example([((0, 1, 1, 4), 0, 0), ((0, 0, 3, 3), 0, 0)], 0.2)  # an IoU of float32's 0.2, which is above 0.2
def test_suppression_is_the_greedy_rule(block, boxes, threshold):
    with patch.object(module, "BLOCK", block):
        kept = nms(tensor([b for b, _, _ in boxes]), torch.tensor([float(s) for _, s, _ in boxes]), threshold)
    assert kept.dtype == torch.int64
    assert kept.tolist() == suppressed_one_by_one([b for b, _, _ in boxes], [s for _, s, _ in boxes], threshold)


@given(scored)
def test_groups_are_suppressed_apart_and_sorted_together(boxes):
    scores, groups = torch.tensor([float(s) for _, s, _ in boxes]), torch.tensor([g for _, _, g in boxes], dtype=torch.int64)
    corners = tensor([b for b, _, _ in boxes])
    kept = batched_nms(corners, scores, groups, 0.4)
    apart = [here[nms(corners[here], scores[here], 0.4)] for g in range(3) for here in [torch.nonzero(groups == g).flatten()]]
    assert kept.tolist() == sorted(torch.cat(apart).tolist(), key=lambda i: (-scores[i].item(), i))


def test_many_boxes_in_clusters():
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 60, (40, 2))[rng.integers(0, 40, 700)] + rng.integers(0, 4, (700, 2))
    corners = np.concatenate([corner, corner + rng.integers(6, 12, (700, 2))], axis=1)
    scores = rng.permutation(700)
    kept = nms(torch.from_numpy(corners).double(), torch.from_numpy(scores).double(), 0.5).numpy()
    overlaps = box_iou(torch.from_numpy(corners).double(), torch.from_numpy(corners).double()).numpy()
    assert 40 < len(kept) < 600
    assert (np.diff(scores[kept]) < 0).all()
    assert (overlaps[np.ix_(kept, kept)] - np.eye(len(kept)) <= 0.5).all()
    for lost in np.setdiff1d(np.arange(700), kept):
        assert overlaps[lost, kept[scores[kept] > scores[lost]]].max() > 0.5


def test_suppression_names_wrong_shapes():
    with pytest.raises(SizeError, match=r"\(3, 4\), \(2,\)"):
        nms(torch.zeros(3, 4), torch.zeros(2), 0.5)


coordinates = st.floats(-500, 500, width=32)
lengths = st.floats(1, 60, width=32)


corners_and_lengths = (coordinates, coordinates, lengths, lengths)


@given(st.lists(st.tuples(*corners_and_lengths, *corners_and_lengths), min_size=1, max_size=4))
def test_decoding_undoes_encoding(rows):
    given_rows = torch.tensor(rows, dtype=torch.float64)
    boxes, proposals = (torch.cat([part[:, :2], part[:, :2] + part[:, 2:]], dim=1) for part in given_rows.split(4, dim=1))
    for coder in (BoxCoder(), BoxCoder((1.0, 1.0, 1.0, 1.0))):
        torch.testing.assert_close(coder.decode(coder.encode(boxes, proposals), proposals)[:, 0], boxes)


def test_encoding_of_one_box_by_hand():
    deltas = BoxCoder((10.0, 20.0, 5.0, 7.0)).encode(tensor([(10, 20, 50, 30)]), tensor([(20, 10, 40, 30)]))
    torch.testing.assert_close(deltas, torch.tensor([[0.0, 20 * 5 / 20, 5 * log(2), 7 * log(0.5)]]))


def test_decoding_of_several_classes_and_its_clamp():
    proposals = tensor([(0, 0, 16, 16), (8, 4, 24, 12)])
    deltas = torch.tensor([[0.0, 0, 0, 0, 1, -1, 0, 0], [0.5, 0, log(2), 0, 0, 0, 99, -99]])
    boxes = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode(deltas, proposals)
    expected = [[(0, 0, 16, 16), (16, -16, 32, 0)], [(8, 4, 40, 12), (16 - 500, 8, 16 + 500, 8)]]
    torch.testing.assert_close(boxes, torch.tensor(expected, dtype=torch.float32), atol=1e-4, rtol=1e-5)


def test_decoding_names_wrong_shapes():
    with pytest.raises(SizeError, match="of 2 proposals"):
        BoxCoder().decode(torch.zeros(2, 6), torch.zeros(2, 4))
