"""Windows of resized images: pixels, masks and points go the same way, against loops and torch's own resizing."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from biomask.data.objects import trimmed
from biomask.data.placement import (
    Placement,
    place_image,
    place_mask,
    place_points,
    turn_boxes,
    turn_mask,
    turn_points,
    visible_share,
)
from biomask.instances.polygons import Crop


@st.composite
def placements(draw: st.DrawFn, still: bool = False) -> Placement:
    image = draw(st.tuples(*[st.integers(1, 24)] * 2))
    whole = image if still else draw(st.tuples(*[st.integers(1, 40)] * 2))
    size = tuple(draw(st.integers(1, n)) for n in whole)
    start = tuple(draw(st.integers(0, n - s)) for n, s in zip(whole, size, strict=True))
    canvas = tuple(s + draw(st.integers(0, 3)) for s in size)
    flips = draw(st.sampled_from([(), (-1,), (-2,), (-1, -2)]))
    return Placement(image, whole, start, size, canvas, flips, draw(st.integers(0, 3)))  # type: ignore[arg-type]


def coordinates(size: tuple[int, int]) -> np.ndarray:
    """float32 (2, Y, X): x and y of each pixel's centre."""
    y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in size), indexing="ij")
    return np.stack([x, y]).astype(np.float32)


@given(placements())
def test_images_are_resized_as_torch_does(p: Placement) -> None:
    image = np.random.default_rng(p.image[0]).random((2, *p.image), np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(image)[None], p.whole, mode="bilinear")[0]
    (top, left), (height, width) = p.start, p.size
    canvas = torch.zeros(2, *p.canvas)
    canvas[:, :height, :width] = expected[:, top:top + height, left:left + width]
    canvas = canvas.flip(list(p.flips)) if p.flips else canvas
    found = place_image(image, p)
    assert found.shape[1:] == p.out
    torch.testing.assert_close(found, canvas.rot90(p.turns, (-2, -1)), rtol=0, atol=2e-5)


@given(placements(still=True), st.data())
def test_a_coloured_pixel_stays_at_its_point(p: Placement, data: st.DataObject) -> None:
    (top, left), (height, width) = p.start, p.size
    y, x = data.draw(st.integers(top, top + height - 1)), data.draw(st.integers(left, left + width - 1))
    image = np.zeros((1, *p.image), np.float32)
    image[0, y, x] = 1
    (point,) = turn_points(place_points(np.array([[x + 0.5, y + 0.5]]), p), p)
    found = place_image(image, p)
    assert found.sum() == 1
    assert found[0, int(point[1]), int(point[0])] == 1


@given(placements(), st.data())
def test_points_go_with_resized_pixels(p: Placement, data: st.DataObject) -> None:
    """The picture says of each of its pixels where it was: at a point it says that point, up to half a pixel of either grid."""
    point = np.array([[data.draw(st.floats(0, p.image[1])), data.draw(st.floats(0, p.image[0]))]])
    placed = place_points(point, p)
    if not (placed >= 0).all() or not (placed < p.size[::-1]).all():
        return
    (out,) = turn_points(placed, p)
    row, column = (min(int(v), n - 1) for v, n in zip(out[::-1], p.out, strict=True))
    said = place_image(coordinates(p.image), p)[:, row, column].numpy()
    sy, sx = p.scale
    # Mirroring may bring a point on the edge between two pixels to the other of them, and borders repeat the last centre.
    assert (np.abs(said - point[0]) <= np.array([1 / sx, 1 / sy]) + 0.5 + 1e-3).all()


@st.composite
def crops(draw: st.DrawFn, size: tuple[int, int]) -> Crop:
    top, left = (draw(st.integers(0, n - 1)) for n in size)
    height, width = draw(st.integers(1, size[0] - top)), draw(st.integers(1, size[1] - left))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    pixels = np.array(bits).reshape(height, width)
    pixels[0, 0] = True
    crop = trimmed((pixels, (top, left)))
    if crop is None:
        raise ValueError("one pixel is set")
    return crop


def pasted(crop: Crop | None, size: tuple[int, int]) -> np.ndarray:
    out = np.zeros(size, bool)
    if crop is not None:
        pixels, (top, left) = crop
        out[top:top + pixels.shape[0], left:left + pixels.shape[1]] = pixels
    return out


@given(placements(), st.data())
def test_masks_show_the_pixel_that_each_centre_lies_in(p: Placement, data: st.DataObject) -> None:
    crop = data.draw(crops(p.image))
    whole = pasted(crop, p.image)

    def source(i: int, axis: int) -> int:
        return int((i + p.start[axis] + Fraction(1, 2)) * p.image[axis] / p.whole[axis])

    expected = np.array([[whole[source(i, 0), source(j, 1)] for j in range(p.size[1])] for i in range(p.size[0])])
    found = place_mask(crop, p)
    np.testing.assert_array_equal(pasted(found, p.size), expected)
    if found is not None:
        pixels = found[0]
        assert pixels[[0, -1]].any(axis=1).all(), "nothing empty above or below it"
        assert pixels[:, [0, -1]].any(axis=0).all()


@given(placements(), st.data())
def test_the_visible_share_counts_pixels(p: Placement, data: st.DataObject) -> None:
    crop = data.draw(crops(p.image))
    (top, left), (height, width) = p.start, p.size
    seen = total = 0
    for y, x in np.argwhere(pasted(crop, p.image)):
        at_y, at_x = ((Fraction(int(v)) + Fraction(1, 2)) * w / n for v, w, n in zip((y, x), p.whole, p.image, strict=True))
        total += 1
        seen += top <= at_y < top + height and left <= at_x < left + width
    borders = (np.abs(np.array(p.whole) / np.array(p.image) % 1) > 0).any()
    assert visible_share(crop, p) == seen / total or borders  # rounding may decide on the very edge of the window alone
    assert abs(visible_share(crop, p) - seen / total) <= (crop[0].shape[0] + crop[0].shape[1]) / total


@given(st.integers(1, 4), st.data())
def test_areas_grow_by_the_square_of_the_scale(factor: int, data: st.DataObject) -> None:
    size = data.draw(st.tuples(*[st.integers(1, 16)] * 2))
    crop = data.draw(crops(size))
    whole = (size[0] * factor, size[1] * factor)
    found = place_mask(crop, Placement(size, whole, (0, 0), whole, whole))
    assert found is not None
    assert found[0].sum() == crop[0].sum() * factor**2


def test_areas_of_discs_grow_by_the_square_of_any_scale() -> None:
    y, x = np.mgrid[:101, :101] - 50
    crop = trimmed(((x**2 + y**2 < 40**2), (0, 0)))
    assert crop is not None
    for whole in (37, 64, 151, 233):
        found = place_mask(crop, Placement((101, 101), (whole, whole), (0, 0), (whole, whole), (whole, whole)))
        assert found is not None
        np.testing.assert_allclose(found[0].sum() / crop[0].sum(), (whole / 101)**2, rtol=0.02)


@given(placements(), st.data())
def test_boxes_and_masks_turn_alike(p: Placement, data: st.DataObject) -> None:
    crop = data.draw(crops(p.canvas))
    pixels, (top, left) = crop
    box = np.array([[left, top, left + pixels.shape[1], top + pixels.shape[0]]], float)
    whole = pasted(crop, p.canvas)
    whole = np.rot90(np.flip(whole, p.flips) if p.flips else whole, p.turns)
    (x0, y0, x1, y1) = turn_boxes(box, p)[0].astype(int)
    expected = np.zeros(p.out, bool)
    expected[y0:y1, x0:x1] = turn_mask(pixels, p)
    np.testing.assert_array_equal(expected, whole)


@given(placements(), st.lists(st.tuples(st.floats(0, 24), st.floats(0, 24)), min_size=1, max_size=4))
def test_mirroring_twice_is_nothing(p: Placement, points: list[tuple[float, float]]) -> None:
    still = Placement(p.image, p.whole, p.start, p.size, p.canvas, p.flips)
    array = np.array(points)
    np.testing.assert_allclose(turn_points(turn_points(array, still), still), array, atol=1e-9)
    mask = np.random.default_rng(0).random(p.canvas) > 0.5
    np.testing.assert_array_equal(turn_mask(turn_mask(mask, still), still), mask)
    turned = Placement(p.image, p.whole, p.start, p.size, p.out, (), p.turns)
    back = Placement(p.image, p.whole, p.start, p.size, turned.out, (), -p.turns % 4)
    np.testing.assert_allclose(turn_points(turn_points(array, turned), back), array, atol=1e-9)
