"""Objects that lie over each other, moved, resampled and made one map of."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.prediction.stand_in import detections

from biomask.prediction.crops import box_crop
from biomask.prediction.detections import Detections, resolve, together


def painted(found: Detections, number: int, size: tuple[int, int]) -> np.ndarray:
    out = np.zeros(size, bool)
    pixels, (top, left) = found.masks[number]
    out[top:top + pixels.shape[0], left:left + pixels.shape[1]] = pixels
    return out


rectangle = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 6)] * 2).map(lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3]))


class TestResolve:
    @given(st.lists(st.tuples(rectangle, st.integers(0, 5)), max_size=6), st.integers(1, 8))
    def test_each_pixel_is_of_the_highest_score_that_is_left(self, objects, least):
        found = detections([r for r, _ in objects], [s / 5 for _, s in objects])
        resolved = resolve(found, (14, 14), least=least)
        taken, expected, kept = np.zeros((14, 14), bool), np.zeros((14, 14), int), []
        for n in sorted(range(len(objects)), key=lambda n: (-objects[n][1], n)):
            visible = painted(found, n, (14, 14)) & ~taken
            if visible.sum() >= least:
                kept.append(n)
                expected[visible] = len(kept)
                taken |= visible
        assert resolved.ids.tolist() == expected.tolist()
        assert resolved.of.tolist() == kept
        assert resolved.vanished == len(objects) - len(kept)
        ids = resolved.id_of(len(found))
        assert [int(ids[n]) for n in kept] == list(range(1, len(kept) + 1))
        assert np.count_nonzero(ids) == len(kept)

    def test_an_empty_mask_vanishes(self):
        empty = (np.zeros((0, 0), bool), (0, 0))
        found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.int64), np.ones(1, np.float32), (empty,))
        assert resolve(found, (4, 4)).vanished == 1

    def test_nothing_found(self):
        resolved = resolve(detections([], []), (3, 5))
        assert resolved.ids.shape == (3, 5)
        assert not resolved.ids.any()
        assert resolved.vanished == 0


class TestBoxCrop:
    @given(*[st.floats(-3, 12, width=32)] * 4)
    def test_pixels_whose_centres_lie_in_the_box(self, a, b, c, d):
        box = (min(a, c), min(b, d), max(a, c), max(b, d))
        pixels, (top, left) = box_crop(box, (7, 9))
        out = np.zeros((7, 9), bool)
        out[top:top + pixels.shape[0], left:left + pixels.shape[1]] = pixels
        y, x = np.indices((7, 9)) + 0.5
        assert out.tolist() == ((x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])).tolist()


class TestChanged:
    @given(rectangle, st.sampled_from([0.5, 1.0, 2.0, 2.5]), st.sampled_from([0.5, 1.0, 3.0]))
    def test_resampled_masks_are_the_nearest_pixels(self, rect, fy, fx):
        found = detections([rect], [1.0], np.array([[[3.0, 4.0, 1.0]]], np.float32))
        size = (round(14 * fy), round(14 * fx))
        larger = found.resampled((fy, fx), size)
        whole = painted(found, 0, (14, 14))
        y, x = np.floor((np.arange(size[0]) + 0.5) / fy).astype(int), np.floor((np.arange(size[1]) + 0.5) / fx).astype(int)
        assert painted(larger, 0, size).tolist() == whole[np.ix_(y, x)].tolist()
        assert np.allclose(larger.boxes, found.boxes * [fx, fy, fx, fy])
        assert np.allclose(larger.keypoints, [[[3 * fx, 4 * fy, 1]]])

    def test_moved_and_back_is_the_same(self):
        found = detections([(1, 2, 3, 5)], [0.5], np.array([[[3.0, 2.0, 1.0]]], np.float32))
        there = found.moved(10, 20)
        assert there.boxes.tolist() == [[22, 11, 25, 13]]
        assert there.keypoints.tolist() == [[[23, 12, 1]]]
        assert there.masks[0][1] == (11, 22)
        back = there.moved(-10, -20)
        assert (back.boxes == found.boxes).all()
        assert (back.keypoints == found.keypoints).all()
        assert back.masks[0][1] == (1, 2)

    def test_ordered_by_falling_score_then_place(self):
        found = detections([(5, 5, 6, 6), (0, 3, 1, 4), (0, 1, 1, 2)], [0.5, 0.9, 0.5]).ordered()
        assert found.boxes[:, :2].tolist() == [[3, 0], [1, 0], [5, 5]]

    def test_together_keeps_all_in_order(self):
        points = np.zeros((1, 2, 3), np.float32)
        parts = [detections([(0, 0, 1, 1)], [0.1], points), detections([(2, 2, 3, 3)], [0.9], points + 1)]
        both = together(parts)
        assert both.scores.tolist() == np.array([0.1, 0.9], np.float32).tolist()
        assert both.keypoints.tolist() == [*points.tolist(), *(points + 1).tolist()]
        assert both.tiles == 2
