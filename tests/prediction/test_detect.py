"""A detector in windows: as in the whole image, whatever the windows."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prediction.stand_in import BrightSquares, detections

from biomask.errors import SizeError
from biomask.models.mask_rcnn.types import Limits
from biomask.prediction.crops import shared_pixels, union
from biomask.prediction.detect import detect_image
from biomask.prediction.detections import Detections
from biomask.prediction.seams import Windows, merged


def same(one: Detections, other: Detections) -> None:
    """Raise AssertionError unless two answers are equal."""
    assert one.boxes.tolist() == other.boxes.tolist()
    assert one.classes.tolist() == other.classes.tolist()
    assert one.scores.tolist() == other.scores.tolist()
    assert [(m.tolist(), o) for m, o in one.masks] == [(m.tolist(), o) for m, o in other.masks]


@st.composite
def scenes(draw: st.DrawFn, longest: int) -> np.ndarray:
    """(1, Y, X) with bright rectangles that do not touch, no side longer than `longest`; each has a brightness of its own."""
    image = np.zeros((1, draw(st.integers(5, 60)), draw(st.integers(5, 60))), np.float32)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    brightness = iter(rng.permutation(100) / 100 + 0.005)
    for _ in range(draw(st.integers(0, 25))):
        height, width = rng.integers(1, longest + 1, 2)
        top, left = rng.integers(0, max(1, image.shape[1] - height + 1)), rng.integers(0, max(1, image.shape[2] - width + 1))
        if not image[0, max(0, top - 1):top + height + 1, max(0, left - 1):left + width + 1].any():
            image[0, top:top + height, left:left + width] = next(brightness)
    return image


class TestTiled:
    @given(st.data(), st.integers(2, 12), st.integers(1, 15), st.integers(1, 15))
    @settings(max_examples=50)
    def test_equals_whole_for_objects_smaller_than_the_overlap(self, data, overlap, more_rows, more_columns):
        image = data.draw(scenes(overlap - 1))
        network = BrightSquares()
        whole = detect_image(network, image)
        tiled = detect_image(network, image, tile=(overlap + more_rows, overlap + more_columns), overlap=overlap)
        same(tiled, whole)
        assert tiled.keypoints.tolist() == whole.keypoints.tolist()
        assert tiled.joined == 0

    @given(st.data(), st.integers(2, 8), st.integers(1, 10))
    @settings(max_examples=30)
    def test_larger_ones_are_joined(self, data, overlap, more):
        image = data.draw(scenes(40))
        network = BrightSquares()
        same(detect_image(network, image, tile=overlap + more, overlap=overlap), detect_image(network, image))

    def test_a_bar_over_three_windows_is_one_object(self):
        image = np.zeros((1, 12, 60), np.float32)
        image[0, 5:8, 2:58] = 0.5
        found = detect_image(BrightSquares(), image, tile=24, overlap=6)
        assert found.boxes.tolist() == [[2, 5, 58, 8]]
        assert (found.tiles, found.joined) == (3, 1)

    def test_windows_are_all_of_one_size_and_small_images_are_seen_whole(self):
        network = BrightSquares()
        image = np.zeros((1, 50, 30), np.float32)
        assert detect_image(network, image, tile=32).tiles == 2
        assert network.seen == [(1, 32, 30)] * 2
        network.seen.clear()
        detect_image(network, image)
        detect_image(network, image, tile=64)
        assert network.seen == [(1, 50, 30)] * 2

    def test_a_detector_that_resizes_sees_small_images_on_a_whole_window(self):
        """Objects are as large as in training then, whose crops are filled up too. What lies in the fill is none of the image."""
        class Filled(BrightSquares):
            short_side = 128

            def forward(self, images, *, paste):
                assert not images[0][:, 30:].any()
                assert not images[0][:, :, 40:].any()
                (image,) = images
                image = image.clone()
                image[0, 25:33, 36:44] = 0.9  # half of it in the image
                image[0, 50:60, 50:60] = 0.8
                return super().forward([image], paste=paste)

        image = np.zeros((1, 30, 40), np.float32)
        image[0, 3:9, 5:12] = 0.5
        network = Filled()
        found = detect_image(network, image, tile=64)
        assert network.seen == [(1, 64, 64)]
        assert found.boxes.tolist() == [[36, 25, 40, 30], [5, 3, 12, 9]]
        assert [(m.shape, o) for m, o in found.masks] == [((5, 4), (25, 36)), ((6, 7), (3, 5))]
        assert found.scores.tolist() == pytest.approx([0.9, 0.5])
        plain = BrightSquares()
        detect_image(plain, image, tile=64)
        assert plain.seen == [(1, 30, 40)]

    def test_done_is_called_after_each(self):
        told = []
        detect_image(BrightSquares(), np.zeros((1, 20, 20), np.float32), tile=8, overlap=2, done=lambda n, of: told.append((n, of)))
        assert told == [(n, 9) for n in range(1, 10)]


class TestAnswer:
    def test_low_scores_are_left_out(self):
        image = np.zeros((1, 9, 9), np.float32)
        image[0, 1, 1], image[0, 5, 5] = 0.3, 0.7
        network = BrightSquares()
        assert detect_image(network, image, limits={"score": 0.5}).boxes.tolist() == [[5, 5, 6, 6]]
        assert len(detect_image(network, image)) == 2

    def test_windows_at_the_limit_are_counted(self):
        image = np.zeros((1, 10, 40), np.float32)
        image[0, 1:9:2, 1] = (0.9, 0.7, 0.5, 0.3)
        image[0, 5, 35] = 0.8
        found = detect_image(BrightSquares(Limits(detections=3, score=0.0)), image, tile=(10, 20), overlap=4)
        assert (found.at_limit, len(found)) == (1, 4)
        assert detect_image(BrightSquares(Limits(detections=6, score=0.0)), image).at_limit == 0

    def test_statistics_normalise_each_window(self):
        image = np.full((1, 20, 20), 100, np.uint8)
        image[0, 8:11, 8:11] = 150
        found = detect_image(BrightSquares(), image, tile=12, overlap=5, statistics=(np.array([100.0]), np.array([100.0])))
        assert found.boxes.tolist() == [[8, 8, 11, 11]]
        assert found.scores.tolist() == [0.5]

    @pytest.mark.parametrize("shape", [(3, 9, 9), (9, 9), (1, 1, 9, 9)])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(SizeError, match="takes \\(1, Y, X\\)"):
            detect_image(BrightSquares(), np.zeros(shape, np.float32))

    def test_refuses_windows_no_larger_than_the_overlap(self):
        with pytest.raises(SizeError, match="--tile"):
            detect_image(BrightSquares(), np.zeros((1, 9, 30), np.float32), tile=8, overlap=8)


class TestWindows:
    @given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 59))
    def test_cover_the_image_with_at_least_the_overlap(self, size, tile, overlap):
        if tile <= overlap and tile < size:
            return
        windows = Windows.of((size, size), (tile, tile), overlap)
        starts, long = windows.starts[0], windows.tile[0]
        assert starts[0] == 0
        assert starts[-1] + long == size
        assert all(a < b <= a + long - overlap for a, b in pairwise(starts))
        seen = {(a, b) for a in range(len(windows)) for b in windows.later(a)}
        places = [windows.place(n) for n in range(len(windows))]
        if len(places) < 50:
            assert seen == {(a, b) for a in range(len(places)) for b in range(a + 1, len(places))
                            if all(abs(p - q) < long for p, q in zip(places[a], places[b], strict=True))}


class TestMerged:
    #: Two windows side by side, columns 0..19 and 12..31, which share eight.
    WINDOWS = Windows.of((20, 32), (20, 20), 8)

    def test_of_two_that_see_an_object_whole_the_surer_stays(self):
        found = merged([detections([(2, 13, 8, 18)], [0.6]), detections([(2, 13, 8, 19)], [0.8])], self.WINDOWS)
        assert found.boxes.tolist() == [[13, 2, 19, 8]]

    def test_what_overlaps_within_a_window_stays(self):
        found = merged([detections([(2, 2, 8, 8), (2, 3, 8, 8)], [0.6, 0.5]), detections([], [])], self.WINDOWS)
        assert len(found) == 2

    def test_neighbours_that_touch_stay(self):
        found = merged([detections([(2, 13, 8, 16)], [0.6]), detections([(2, 16, 8, 19)], [0.8])], self.WINDOWS)
        assert len(found) == 2

    def test_other_classes_stay(self):
        other = replace(detections([(2, 13, 8, 18)], [0.6]), classes=np.array([2]))
        assert len(merged([detections([(2, 13, 8, 18)], [0.6]), other], self.WINDOWS)) == 2

    def test_a_piece_goes_even_if_it_is_surer(self):
        whole, piece = detections([(2, 8, 12, 17)], [0.5]), detections([(2, 13, 12, 17)], [0.9])
        found = merged([whole, piece], self.WINDOWS)
        assert found.boxes.tolist() == [[8, 2, 17, 12]]
        assert found.scores.tolist() == [0.5]

    def test_an_object_within_another_stays_where_both_windows_find_it(self):
        both = detections([(2, 3, 12, 18), (4, 13, 9, 17)], [0.5, 0.6])
        small = detections([(4, 13, 9, 17)], [0.9])
        found = merged([both, small], self.WINDOWS)
        assert found.boxes.tolist() == [[13, 4, 17, 9], [3, 2, 18, 12]]

    def test_parts_that_disagree_are_not_joined(self):
        found = merged([detections([(2, 2, 5, 20)], [0.5]), detections([(2, 12, 12, 30)], [0.6])], self.WINDOWS)
        assert len(found) == 2
        assert found.joined == 0

    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=4),
           st.integers(0, 1000))
    def test_pixels_of_masks(self, rects, seed):
        rng = np.random.default_rng(seed)
        masks = [(rng.random((h, w)) < 0.6, (y, x)) for y, x, h, w in rects]
        whole = np.zeros((len(masks), 10, 10), bool)
        for plane, (pixels, (y, x)) in zip(whole, masks, strict=True):
            plane[y:y + pixels.shape[0], x:x + pixels.shape[1]] = pixels
        assert shared_pixels(masks[0], masks[1]) == (whole[0] & whole[1]).sum()
        pixels, (top, left) = union(masks)
        out = np.zeros((10, 10), bool)
        out[top:top + pixels.shape[0], left:left + pixels.shape[1]] = pixels
        assert out.tolist() == whole.any(axis=0).tolist()
