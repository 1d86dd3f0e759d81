"""Matching against the rule written out, and the draw of samples."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biomask.errors import SizeError
from biomask.models.mask_rcnn import matcher as module
from biomask.models.mask_rcnn.boxes import box_iou
from biomask.models.mask_rcnn.matcher import BELOW, BETWEEN, Matcher, sample_balanced

tables = st.tuples(st.integers(0, 4), st.integers(0, 8)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 1.0])))


def written_out(iou, high, low, low_quality):
    matches = []
    for column in range(iou.shape[1]):
        values = [float(v) for v in iou[:, column]]
        best = max(values, default=0.0)
        index = values.index(best) if values else BELOW
        is_best_of_an_object = any(v > 0 and v == max(map(float, iou[g])) for g, v in enumerate(values))
        if values and (best >= high or (low_quality and is_best_of_an_object)):
            matches.append(index)
        else:
            matches.append(BELOW if best < low or not values else BETWEEN)
    return matches


@given(tables, st.sampled_from([(0.75, 0.25), (0.5, 0.5), (1.0, 0.0)]), st.booleans())
def test_matches_are_those_written_out(iou, limits, low_quality):
    matches = Matcher(*limits, low_quality)(torch.from_numpy(iou))
    assert matches.dtype == torch.int64
    assert matches.tolist() == written_out(iou, *limits, low_quality)


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("objects", [0, 1, 7])
def test_matching_in_pieces_changes_nothing(objects, low_quality):
    generator = torch.Generator().manual_seed(objects)
    corner = torch.randint(0, 20, (60 + objects, 2), generator=generator).float()
    boxes = torch.cat([corner, corner + torch.randint(1, 9, (60 + objects, 2), generator=generator)], dim=1)
    truth, boxes = boxes[:objects], boxes[objects:]
    matcher = Matcher(0.6, 0.3, low_quality)
    whole = matcher(box_iou(truth, boxes))
    with patch.object(module, "PAIRS", 25):
        assert torch.equal(matcher.match_boxes(truth, boxes), whole)
    assert torch.equal(matcher.match_boxes(truth, boxes), whole)


def test_an_object_that_nothing_overlaps_takes_no_box():
    assert Matcher(0.7, 0.3, True)(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.2, 0.1]])).tolist() == [BELOW, 1, BELOW]


def test_limits_out_of_order_are_refused():
    with pytest.raises(SizeError, match=r"low=0\.7, high=0\.3"):
        Matcher(0.3, 0.7)


@given(st.lists(st.sampled_from([BELOW, BETWEEN, 0, 3]), max_size=30), st.integers(0, 20), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_samples_have_the_shares_asked_for(matches, count, share):
    positive, negative = sample_balanced(torch.tensor(matches, dtype=torch.int64), count, share)
    have_positive, have_negative = sum(m >= 0 for m in matches), matches.count(BELOW)
    assert len(positive) == min(have_positive, int(count * share))
    assert len(negative) == min(have_negative, count - len(positive))
    assert all(matches[i] >= 0 for i in positive)
    assert all(matches[i] == BELOW for i in negative)
    for drawn in (positive.tolist(), negative.tolist()):
        assert drawn == sorted(set(drawn))


def test_every_sample_has_its_chance_and_the_generator_decides():
    matches = torch.tensor([0, 1, 2, 3, BELOW, BELOW, BETWEEN])
    drawn = [sample_balanced(matches, 3, 0.67, torch.Generator().manual_seed(seed)) for seed in range(40)]
    assert {i for positive, _ in drawn for i in positive.tolist()} == {0, 1, 2, 3}
    assert {i for _, negative in drawn for i in negative.tolist()} == {4, 5}
    again = sample_balanced(matches, 3, 0.67, torch.Generator().manual_seed(7))
    assert all(torch.equal(a, b) for a, b in zip(again, drawn[7], strict=True))
