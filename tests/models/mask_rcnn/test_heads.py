"""Pieces of the heads against loops, and truth with crowds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from biomask.errors import SizeError
from biomask.models.mask_rcnn.box_head import detections
from biomask.models.mask_rcnn.boxes import BoxCoder
from biomask.models.mask_rcnn.keypoint_head import IGNORED, decode_keypoints, keypoint_cells
from biomask.models.mask_rcnn.mask_head import mask_in_window, mask_targets, paste_masks
from biomask.models.mask_rcnn.matcher import BELOW, BETWEEN, Matcher
from biomask.models.mask_rcnn.resize import Resize, rescale_boxes, rescale_masks, resized
from biomask.models.mask_rcnn.truth import Truth
from biomask.models.mask_rcnn.types import Limits, Target


def boxes_in(rng: np.random.Generator, n: int, size: tuple[int, int], least: float = 0.3) -> Tensor:
    """(n, 4) float64, not all of them inside."""
    low = rng.uniform(-4, [size[1], size[0]], (n, 2))
    return torch.from_numpy(np.concatenate((low, low + rng.uniform(least, 25, (n, 2))), axis=1))


def bilinear(mask: np.ndarray, y: float, x: float) -> float:
    """RoIAlign's rule for one point, written out."""
    height, width = mask.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = y - y0, x - x0
    return float((1 - dy) * ((1 - dx) * mask[y0, x0] + dx * mask[y0, x1]) + dy * ((1 - dx) * mask[y1, x0] + dx * mask[y1, x1]))


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_mask_targets_are_roi_align_with_a_sample_a_pixel(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 24)), int(rng.integers(1, 24)))
    masks = (rng.random((2, *shape)) > 0.4).astype(np.uint8)
    boxes, matched = boxes_in(rng, 3, shape), torch.tensor([1, 0, 1])
    expected = np.zeros((3, size, size))
    for n, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        high, wide = max(y1 - y0, 1), max(x1 - x0, 1)
        rows, columns = int(np.ceil(high / size)), int(np.ceil(wide / size))
        for i, j in np.ndindex(size, size):
            ys = [y0 + (i + (a + 0.5) / rows) * high / size for a in range(rows)]
            xs = [x0 + (j + (b + 0.5) / columns) * wide / size for b in range(columns)]
            points = [bilinear(masks[matched[n]], y, x) for y in ys for x in xs]
            expected[n, i, j] = np.mean(points)
    np.testing.assert_allclose(mask_targets(torch.from_numpy(masks), matched, boxes, size).numpy(), expected, atol=1e-9)


def test_a_mask_goes_into_its_box_and_back() -> None:
    """A smooth shape, cut to its box at 28 x 28, then laid over the image again."""
    y, x = np.mgrid[:60, :80]
    mask = torch.from_numpy((((y - 30.5) / 20) ** 2 + ((x - 40.5) / 30) ** 2 < 1).astype(np.uint8))
    box = torch.tensor([[10.0, 10, 71, 51]])
    small = mask_targets(mask[None], torch.tensor([0]), box, 28)
    back = paste_masks(small[:, None], box, (60, 80))[0] >= 0.5
    assert (back & (mask > 0)).sum() / (back | (mask > 0)).sum() > 0.9


@given(st.integers(0, 2**32 - 1))
def test_a_window_is_what_pasting_gives_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 30)), int(rng.integers(1, 30)))
    masks = torch.from_numpy(rng.random((3, 1, 4, 4)))
    boxes = boxes_in(rng, 3, size).clamp(0).minimum(torch.tensor([size[1], size[0]] * 2))
    whole = paste_masks(masks, boxes, size)
    for mask, box, pasted in zip(masks, boxes, whole, strict=True):
        crop, (top, left) = mask_in_window(mask, box, size)
        again = np.zeros(size, bool)
        again[top:top + crop.shape[0], left:left + crop.shape[1]] = crop
        np.testing.assert_array_equal(again, pasted.numpy() >= 0.5)


def test_pasting_no_masks() -> None:
    assert paste_masks(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)


@given(st.integers(0, 2**32 - 1))
def test_keypoints_survive_their_cells(seed: int) -> None:
    """Where the map is largest at the cell of the truth and falls evenly from there, the decoded point lies in that cell."""
    rng = np.random.default_rng(seed)
    boxes = boxes_in(rng, 4, (40, 40), least=1.5)
    points = boxes[:, None, :2] + torch.from_numpy(rng.random((4, 3, 2))) * (boxes[:, 2:] - boxes[:, :2])[:, None]
    cells = keypoint_cells(torch.cat((points, torch.ones(4, 3, 1)), dim=2), boxes, 56)
    assert ((cells >= 0) & (cells < 56 * 56)).all()
    along = torch.arange(56)
    y, x = (along - (cells // 56)[..., None]) ** 2, (along - (cells % 56)[..., None]) ** 2
    found, _ = decode_keypoints(-(y[..., :, None] + x[..., None, :]).double(), boxes)
    reach = 1 + (boxes[:, 2:] - boxes[:, :2]) / 56  # a pixel of the resized map, or a cell where that is larger
    assert ((found[..., :2] - points).abs() <= reach[:, None]).all()


def test_keypoints_on_the_edge_and_outside() -> None:
    box = torch.tensor([[10.0, 20, 66, 76]])
    keypoints = torch.tensor([[[66.0, 76, 2], [66.5, 30, 2], [9.9, 30, 2], [10, 20, 1], [12, 21, 0]]])
    assert keypoint_cells(keypoints, box, 56).tolist() == [[56 * 56 - 1, IGNORED, IGNORED, 0, IGNORED]]


def test_detections_against_a_loop() -> None:
    rng = np.random.default_rng(3)
    logits, deltas = torch.from_numpy(rng.normal(0, 2, (40, 4))), torch.from_numpy(rng.normal(0, 1, (40, 16)))
    proposals = boxes_in(rng, 40, (50, 60), least=4).clamp(0)
    coder = BoxCoder()
    found = detections(logits, deltas, proposals, (50, 60), coder, Limits(score=0.2, nms=0.3, detections=15))
    candidates = []
    for n, chances in enumerate(logits.softmax(1)):
        for label in range(1, 4):
            box = coder.decode(deltas[n:n + 1, 4 * label:4 * label + 4], proposals[n:n + 1])[0, 0]
            box = torch.stack((box[0].clamp(0, 60), box[1].clamp(0, 50), box[2].clamp(0, 60), box[3].clamp(0, 50)))
            if chances[label] > 0.2 and min(box[2] - box[0], box[3] - box[1]) >= 0.01:
                candidates.append((float(chances[label]), label, box))
    kept: list[tuple[float, int, Tensor]] = []
    for score, label, box in sorted(candidates, key=lambda c: -c[0]):
        if all(label != other or iou(box, before) <= 0.3 for _, other, before in kept):
            kept.append((score, label, box))
    assert len(kept) > 15
    assert found["labels"].tolist() == [label for _, label, _ in kept[:15]]
    torch.testing.assert_close(found["boxes"], torch.stack([box for *_, box in kept[:15]]))
    torch.testing.assert_close(found["scores"], torch.tensor([score for score, *_ in kept[:15]], dtype=torch.float64))


def iou(a: Tensor, b: Tensor) -> float:
    """Of two boxes (4,)."""
    width, height = (max(0.0, float(min(a[n + 2], b[n + 2]) - max(a[n], b[n]))) for n in (0, 1))
    area = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b)]
    return width * height / (sum(area) - width * height)


def test_what_lies_in_a_crowd_is_neither_object_nor_background() -> None:
    truth = Truth.of({"boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 60, 60]]), "labels": torch.tensor([1, 1]),
                      "crowd": torch.tensor([False, True]), "masks": torch.ones(2, 80, 80, dtype=torch.uint8)}, (80, 80), 2,
                     masks=True, keypoints=0)
    assert truth.boxes.tolist() == [[0, 0, 10, 10]]
    assert truth.masks is not None
    assert truth.masks.shape == (1, 80, 80)
    boxes = torch.tensor([[0.0, 0, 10, 10], [25, 25, 30, 30], [15, 25, 25, 30], [14, 25, 25, 30], [70, 70, 80, 80],
                          [20, 20, 60, 60]])
    assert truth.match(Matcher(0.5, 0.5), boxes).tolist() == [0, BETWEEN, BETWEEN, BELOW, BELOW, BETWEEN]


@pytest.mark.parametrize("learnt", [True, False])
def test_a_frame_of_unknown_pixels_leaves_the_background_within_it(learnt: bool) -> None:
    """The whole image lies in the frame's box. A crowd without a mask is its box."""
    frame = torch.ones(1, 80, 80, dtype=torch.uint8)
    frame[:, 5:75, 5:75] = 0
    masks = torch.cat((frame, torch.zeros_like(frame)))
    target: Target = {"boxes": torch.tensor([[0.0, 0, 80, 80], [30.2, 30, 40, 40]]), "labels": torch.tensor([1, 1]),
                      "crowd": torch.tensor([True, True])}
    target["masks" if learnt else "crowd_masks"] = masks
    truth = Truth.of(target, (80, 80), 2, masks=learnt, keypoints=0)
    boxes = torch.tensor([[30.0, 50, 40, 60], [0, 0, 10, 8], [0, 20, 10, 30], [0, 20, 21, 30], [31, 31, 39, 39], [0.2, 3, 0.4, 3.1],
                          [-3, -3, 2, 2]])
    assert truth.match(Matcher(0.5, 0.5), boxes).tolist() == [BELOW, BETWEEN, BETWEEN, BELOW, BETWEEN, BETWEEN, BELOW]
    twice = truth.resized((80, 80), (160, 160)).match(Matcher(0.5, 0.5), boxes * 2)
    assert twice.tolist() == [BELOW, BETWEEN, BETWEEN, BELOW, BETWEEN, BETWEEN, BELOW]


@pytest.mark.parametrize(("size", "short", "long", "expected"), [
    ((480, 640), 800, 1333, (800, 1066)), ((800, 1066), 800, 1333, (800, 1066)), ((100, 400), 800, 1600, (400, 1600)),
    ((50, 60), None, None, (50, 60)), ((50, 60), None, 30, (25, 30)), ((50, 60), None, 90, (50, 60)),
    ((1, 1024), 64, 128, (1, 128))])
def test_sizes(size: tuple[int, int], short: int | None, long: int | None, expected: tuple[int, int]) -> None:
    assert resized(size, short, long) == expected


def test_a_batch_lies_at_the_top_left_of_multiples_of_32() -> None:
    resize = Resize(None, None, (0.5,), (0.25,)).eval()
    batch = resize([torch.ones(1, 20, 33), torch.ones(1, 40, 5)])
    assert batch.sizes == [(20, 33), (40, 5)]
    assert batch.images.shape == (2, 1, 64, 64)
    assert (batch.images[0, 0, :20, :33] == 2).all()
    assert batch.images.sum() == 2 * (20 * 33 + 40 * 5)


def test_several_sizes_are_drawn_in_training_alone() -> None:
    resize = Resize((32, 48, 64), None, (0.0,), (1.0,))
    torch.manual_seed(0)
    drawn = {resize([torch.rand(1, 16, 16)]).sizes[0][0] for _ in range(30)}
    assert drawn == {32, 48, 64}
    assert {resize.eval()([torch.rand(1, 16, 16)]).sizes[0][0] for _ in range(5)} == {64}


def test_boxes_and_masks_follow_the_image() -> None:
    mask = torch.zeros(1, 10, 20, dtype=torch.uint8)
    mask[0, 2:6, 5:15] = 1
    large = rescale_masks(mask, (30, 40))
    (y,), (x,) = (torch.nonzero(large[0].amax(axis)).flatten()[[0]] for axis in (1, 0))
    box = rescale_boxes(torch.tensor([[5.0, 2, 15, 6]]), (10, 20), (30, 40))
    assert box.tolist() == [[10, 6, 30, 18]]
    assert (int(x), int(y), int(large.sum())) == (10, 6, 20 * 12)


@pytest.mark.parametrize(("short", "long"), [(10**9, None), (None, 10**9), (0, None), ([64, 10**9], 80)])
def test_sides_that_no_memory_holds_are_refused(short: int | list[int] | None, long: int | None) -> None:
    with pytest.raises(SizeError, match="must be from 1 to 16384"):
        Resize(short, long, (0.0,), (1.0,))
