"""Features of regions against loops that are written out, and gradients against differences."""

from math import ceil, floor
from unittest.mock import patch

import numpy as np
import pytest
import torch

from biomask.errors import SizeError
from biomask.models.mask_rcnn import roi_align as module
from biomask.models.mask_rcnn.roi_align import MultiScale, roi_align, roi_pool, roi_warp

#: image, x0, y0, x1, y1 at stride 4 of maps 6 high and 9 wide: inside, over two edges each, far outside, less than a pixel,
#: empty, whole, beyond the right edge.
ROIS = torch.tensor([
    [0, 5.2, 3.1, 21.7, 18.4], [1, -3.9, -9.0, 12.0, 7.0], [1, 25.0, 15.0, 44.0, 31.0], [0, -60.0, -50.0, -30.0, -20.0],
    [1, 10.3, 11.2, 10.9, 12.6], [0, 8.0, 8.0, 8.0, 8.0],
    [1, 0.0, 0.0, 36.0, 24.0], [0, 70.0, 2.0, 90.0, 9.0]], dtype=torch.float64)
SCALE = 0.25


def random_map(seed=0, size=(6, 9), images=2, channels=3):
    return torch.randn(images, channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def interpolated(plane, y, x):
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = floor(y), floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    return ((top + 1 - y) * ((left + 1 - x) * plane[top, left] + (x - left) * plane[top, right])
            + (y - top) * ((left + 1 - x) * plane[bottom, left] + (x - left) * plane[bottom, right]))


def align_written_out(features, rois, size, scale, sampling):
    out = np.zeros((len(rois), features.shape[1], size, size))
    for r, (image, *corners) in enumerate(rois.tolist()):
        x0, y0, x1, y1 = (c * scale for c in corners)
        high, wide = max(y1 - y0, 1) / size, max(x1 - x0, 1) / size
        for c, i, j in np.ndindex(out.shape[1:]):
            points = [(y0 + (i + (a + 0.5) / sampling) * high, x0 + (j + (b + 0.5) / sampling) * wide)
                      for a in range(sampling) for b in range(sampling)]
            out[r, c, i, j] = np.mean([interpolated(features[int(image), c], y, x) for y, x in points])
    return out


def nearest(x):
    return floor(abs(x) + 0.5) * (1 if x > 0 else -1)


def pool_written_out(features, rois, size, scale):
    height, width = features.shape[2:]
    out = np.zeros((len(rois), features.shape[1], size, size))
    for r, (image, *corners) in enumerate(rois.tolist()):
        x0, y0, x1, y1 = (nearest(c * scale) for c in corners)
        high, wide = max(y1 - y0 + 1, 1) / size, max(x1 - x0 + 1, 1) / size
        for c, i, j in np.ndindex(out.shape[1:]):
            rows = range(max(0, y0 + floor(i * high)), min(height, y0 + ceil((i + 1) * high)))
            columns = range(max(0, x0 + floor(j * wide)), min(width, x0 + ceil((j + 1) * wide)))
            out[r, c, i, j] = max((features[int(image), c, y, x] for y in rows for x in columns), default=0.0)
    return out


@pytest.mark.parametrize(("size", "sampling"), [(1, 1), (2, 2), (3, 3), (7, 2)])
def test_align_is_the_rule_written_out(size, sampling):
    features = random_map()
    out = roi_align(features, ROIS, size, SCALE, sampling)
    np.testing.assert_allclose(out, align_written_out(features.numpy(), ROIS, size, SCALE, sampling), atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_pool_is_the_rule_written_out(size):
    features = random_map(1)
    np.testing.assert_array_equal(roi_pool(features, ROIS, size, SCALE), pool_written_out(features.numpy(), ROIS, size, SCALE))


def test_pool_rounds_halves_away_from_zero():
    features = torch.arange(12.0).view(1, 1, 1, 12)
    roi = torch.tensor([[0, 2.5, 0, 4.5, 0], [0, -2.5, 0, 0.5, 0]])
    assert roi_pool(features, roi, 1, 1.0).flatten().tolist() == [5.0, 1.0]


def test_warp_is_align_of_the_rounded_region():
    features = random_map(2)
    rounded = ROIS.clone()
    rounded[:, 1:] = torch.tensor([[nearest(c * SCALE) for c in row] for row in ROIS[:, 1:].tolist()])
    out = roi_warp(features, ROIS, 2, SCALE)
    np.testing.assert_allclose(out, align_written_out(features.numpy(), rounded, 2, 1.0, 2), atol=1e-12)
    assert (out - roi_align(features, ROIS, 2, SCALE)).abs().max() > 0.1


@pytest.mark.parametrize("layer", [lambda x: roi_align(x, ROIS, 2, SCALE), lambda x: roi_warp(x, ROIS, 2, SCALE),
                                   lambda x: roi_pool(x, ROIS, 2, SCALE)])
def test_gradients_are_those_of_differences(layer):
    features = random_map(3, channels=2).requires_grad_()
    assert torch.autograd.gradcheck(layer, features)


def test_align_of_a_slope_is_the_middle_of_each_bin():
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    out = roi_align((3 * y + x)[None, None], torch.tensor([[0, 4.0, 3.0, 18.0, 17.0]]), 7, 1.0)
    i, j = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    torch.testing.assert_close(out[0, 0], 3 * (3 + 2 * i + 1) + 4 + 2 * j + 1)


@pytest.mark.parametrize("layer", [roi_align, roi_pool, roi_warp])
def test_pieces_and_memory_layout_change_nothing(layer):
    features = random_map(4).float()
    whole = layer(features, ROIS.float(), 3, SCALE)
    assert whole.shape == (len(ROIS), 3, 3, 3)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer(features.contiguous(memory_format=torch.channels_last), ROIS.float(), 3, SCALE), whole)
    with patch.object(module, "CHUNK", 300):
        assert torch.equal(layer(features, ROIS.float(), 3, SCALE), whole)


def test_the_way_for_other_devices_gives_the_same():
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(11, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    index, weights = torch.randint(0, 11, (6, 5), generator=generator), torch.rand(6, 5, dtype=torch.float64, generator=generator)
    sums = [way(rows, index, weights) for way in (module.weighted_rows, module._weighted_rows_by_column)]
    torch.testing.assert_close(*sums)
    torch.testing.assert_close(*(torch.autograd.grad(s.square().sum(), rows)[0] for s in sums))


def test_half_features_are_sampled_in_single_precision():
    features = random_map(6).half()
    out = roi_align(features, ROIS.half(), 2, SCALE)
    assert out.dtype == torch.float16
    assert torch.equal(out, roi_align(features.float(), ROIS.half().float(), 2, SCALE).half())


def test_no_regions_give_nothing():
    for layer in (roi_align, roi_pool, roi_warp):
        assert layer(random_map(), ROIS[:0], 2, SCALE).shape == (0, 3, 2, 2)
    assert MultiScale([0.25, 0.125], 2)([random_map(), random_map(size=(3, 5))], [ROIS[:0, 1:]] * 2).shape == (0, 3, 2, 2)


def test_wrong_shapes_are_named():
    with pytest.raises(SizeError, match=r"rois \(R, 5\)"):
        roi_align(random_map(), ROIS[:, 1:], 2, SCALE)
    with pytest.raises(SizeError, match="half of the one before"):
        MultiScale([0.25, 0.0625], 7)
    with pytest.raises(SizeError, match="kind='crop'"):
        MultiScale([0.25], 7, kind="crop")
    with pytest.raises(SizeError, match="2 maps and the boxes of each image"):
        MultiScale([0.25, 0.125], 7)([random_map()], [ROIS[:, 1:]] * 2)


def test_boxes_go_to_the_level_of_their_size():
    sides = torch.tensor([0.0, 20, 111, 112, 223, 224, 447, 448, 3000])
    boxes = torch.stack([torch.zeros(9), torch.zeros(9), sides, sides], dim=1)
    assert MultiScale([1 / 4, 1 / 8, 1 / 16, 1 / 32], 7).levels(boxes).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert MultiScale([1 / 8, 1 / 16], 7).levels(boxes).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert MultiScale([1 / 4], 7).levels(torch.tensor([[0.0, 0, 4 * 224, 224 / 4]])).tolist() == [0]
    assert MultiScale([1 / 4, 1 / 8, 1 / 16], 7).levels(torch.tensor([[0.0, 0, 4 * 224, 224 / 4]])).tolist() == [2]


@pytest.mark.parametrize(("kind", "layer"), [("align", roi_align), ("pool", roi_pool), ("warp", roi_warp)])
def test_levels_are_read_apart_and_boxes_keep_their_order(kind, layer):
    scales = [1 / 8, 1 / 16, 1 / 32]
    maps = [random_map(7, (60, 80)), random_map(8, (30, 40)), random_map(9, (15, 20))]
    boxes = [torch.tensor([[0.0, 0, 460, 450], [9, 9, 60, 70], [30, 10, 270, 300]], dtype=torch.float64),
             torch.tensor([[5.0, 7, 50, 90], [1, 2, 600, 400]], dtype=torch.float64)]
    out = MultiScale(scales, 2, kind=kind)(dict(zip("012", maps, strict=True)) | {"pool": maps[0]}, boxes)
    expected = [(0, boxes[0][0], 2), (0, boxes[0][1], 0), (0, boxes[0][2], 1), (1, boxes[1][0], 0), (1, boxes[1][1], 2)]
    for row, (image, box, level) in zip(out, expected, strict=True):
        roi = torch.tensor([[image, *box.tolist()]], dtype=torch.float64)
        torch.testing.assert_close(row, layer(maps[level], roi, 2, scales[level])[0])


def test_gradients_reach_every_level_that_is_read():
    maps = [random_map(7, (60, 80)).requires_grad_(), random_map(8, (30, 40)).requires_grad_()]
    boxes = torch.tensor([[0.0, 0, 460, 450], [9, 9, 60, 70]], dtype=torch.float64)
    MultiScale([1 / 8, 1 / 16], 2)(maps, [boxes, boxes[:0]]).square().sum().backward()
    assert all(m.grad[0].abs().sum() > 0 and m.grad[1].abs().sum() == 0 for m in maps)
