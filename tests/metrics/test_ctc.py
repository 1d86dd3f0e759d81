"""SEG and DET against their definitions, object by object, and against py-ctcmetrics on real frames."""

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask.metrics import Detections, det, detections, seg, seg_of_objects


@st.composite
def frames(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=5))
    array = hnp.arrays(np.uint16, shape, elements=st.integers(0, 4))
    truth, other = draw(array), draw(array)
    return truth, np.where(draw(hnp.arrays(bool, shape)), other, truth)


def jaccards(truth, predicted):
    found = []
    for r in np.unique(truth[truth > 0]):
        reference, best = truth == r, 0.0
        for s in np.unique(predicted[predicted > 0]):
            segment = predicted == s
            if (reference & segment).sum() > 0.5 * reference.sum():
                best = (reference & segment).sum() / (reference | segment).sum()
        found.append(best)
    return found


@given(st.lists(frames(), max_size=4))
def test_equals_the_definition(movie):
    scores = [j for frame in movie for j in jaccards(*frame)]
    assert seg(movie) == (pytest.approx(np.mean(scores)) if scores else None)
    for frame in movie:
        assert seg_of_objects(*frame).tolist() == pytest.approx(jaccards(*frame))


def test_half_an_object_is_not_enough():
    assert seg([(np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2]))]) == 0
    assert seg([(np.array([1, 1, 1, 1]), np.array([1, 1, 1, 2]))]) == 0.75


def test_objects_are_averaged_over_all_frames_and_extra_ones_cost_nothing():
    one, many = np.array([1, 0, 0, 0]), np.array([1, 2, 3, 4])
    assert seg([(one, many), (many, np.zeros(4, int))]) == pytest.approx(1 / 5)


def test_a_merged_segment_serves_two_objects():
    """Unlike in one-to-one matching."""
    assert seg_of_objects(np.array([1, 1, 2, 2]), np.array([9, 9, 9, 9])).tolist() == [0.5, 0.5]


def operations(truth, predicted):
    """(true, splits, missed, added) of a frame, by asking of every segment which true objects it covers by more than half."""
    true, segments = np.unique(truth[truth > 0]), np.unique(predicted[predicted > 0])
    covers = {s: [r for r in true if (truth[predicted == s] == r).sum() > 0.5 * (truth == r).sum()] for s in segments}
    return (len(true), sum(max(0, len(c) - 1) for c in covers.values()), len(true) - sum(map(len, covers.values())),
            sum(not c for c in covers.values()))


@given(st.lists(frames(), max_size=4))
def test_det_equals_the_definition(movie):
    each = [operations(*frame) for frame in movie]
    for frame, want in zip(movie, each, strict=True):
        got = detections(*frame)
        assert (got.true, got.splits, got.missed, got.added) == want
    true, splits, missed, added = np.sum(each, axis=0) if each else (0, 0, 0, 0)
    whole = 10 * true
    want = 1 - min(5 * splits + 10 * missed + added, whole) / whole if true else None
    assert det(movie) == (None if want is None else pytest.approx(want))


def test_what_each_mistake_costs():
    truth = np.array([1, 1, 2, 2, 3, 3, 4, 4, 0, 0])
    assert det([(truth, truth + 10 * (truth > 0))]) == 1
    assert det([(truth, np.array([1, 1, 1, 1, 3, 3, 4, 4, 0, 0]))]) == pytest.approx(1 - 5 / 40)
    assert det([(truth, np.array([1, 1, 2, 2, 3, 3, 0, 4, 0, 0]))]) == pytest.approx(1 - 11 / 40)  # half of it is not enough
    assert det([(truth, np.array([1, 1, 2, 2, 3, 3, 4, 4, 5, 6]))]) == pytest.approx(1 - 2 / 40)
    assert det([(truth, truth * 0)]) == 0
    assert det([(np.array([1, 0, 0]), np.array([0, 2, 3]))]) == 0  # never below that of nothing


def test_unknown_pixels_are_in_no_detection():
    truth, predicted = np.array([1, 1, 1, 0, 2, 2]), np.array([5, 5, 0, 6, 0, 0])
    unknown = np.array([0, 0, 0, 1, 1, 1], bool)
    assert detections(truth, predicted, unknown) == Detections(true=1, splits=0, missed=0, added=0)


@pytest.mark.data
def test_equals_py_ctcmetrics_on_annotated_frames(data_root, tmp_path):
    """Hand-annotated frames as the truth; the silver ones as they are, and with merged, missing and added cells, as the result."""
    pytest.importorskip("ctc_metrics", reason="py-ctcmetrics is not installed")
    from ctc_metrics.metrics import det as their_det
    from ctc_metrics.metrics import seg as their_seg
    from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations, match

    folder = data_root / "ctc" / "DIC-C2DH-HeLa"
    pairs = [(p, folder / "01_ST" / "SEG" / p.name) for p in sorted((folder / "01_GT" / "SEG").glob("man_seg*.tif"))]
    assert pairs
    for spoil in (False, True):
        frames, matched = [], []
        for n, (true_file, found_file) in enumerate(pairs):
            found = tifffile.imread(found_file)
            if spoil:
                ids = np.unique(found[found > 0])
                found[found == ids[0]] = ids[1]
                found[found == ids[2]] = 0
                found[:5, :5 + n] = found.max() + 1
            path = tmp_path / f"{n}.tif"
            tifffile.imwrite(path, found)
            frames.append((tifffile.imread(true_file), found))
            matched.append(match(str(true_file), str(path)))
        true, segments, by_true, by_segment, ious = map(list, zip(*matched, strict=True))
        counts = count_acyclic_graph_correction_operations(np.zeros((0, 4)), np.zeros((0, 4)), true, segments, by_true, by_segment)
        assert det(frames) == pytest.approx(their_det(**counts), abs=1e-12)
        assert seg(frames) == pytest.approx(their_seg(true, ious), abs=1e-12)
