"""Charts and pictures: exact where they can be, readable by program where they cannot."""

import io
import sys
import xml.etree.ElementTree as ET
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from PIL import Image as Pillow

from biomask.image import Image
from biomask.reports import figures
from biomask.reports.figures import best_validation, fold_curves, learning_curves, on_dark, per_image_scores, score_bars
from biomask.reports.pictures import (
    ADDED,
    CONFUSED,
    ERROR_STRENGTH,
    MISSED,
    RIGHT,
    RIGHT_STRENGTH,
    error_overlay,
    picture,
    side_by_side,
)
from biomask.training.resume import LogRow


def texts(svg):
    """Every text of an SVG in drawing order; fails where it is not XML."""
    return ["".join(e.itertext()).strip() for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def decode(png):
    return np.moveaxis(np.asarray(Pillow.open(io.BytesIO(png)).convert("RGB")), -1, 0)


def test_curves_name_the_best_validation(history):
    shown = texts(learning_curves(history))
    assert "Validation Dice · best 0.910 at step 20" in shown
    assert "Training loss · 0.067 at the end" in shown


def test_of_equal_validations_the_latest_is_the_best_as_in_training():
    rows = [LogRow(10, 1, 0, None, 0.8), LogRow(20, 2, 0, None, 0.8), LogRow(30, 3, 0, None, 0.7)]
    assert best_validation(rows).step == 20
    assert "Validation Dice · best 0.800 at step 20" in texts(learning_curves(rows))


def test_curves_without_validation(history):
    rows = [r for r in history if r.validation_score is None]
    shown = texts(learning_curves(rows))
    assert any(t.startswith("Training loss") for t in shown)
    assert not any("Validation" in t for t in shown)
    assert best_validation(rows) is None


@pytest.mark.parametrize("row", [LogRow(1, 0.5, 1e-3, 0.9, None), LogRow(1, 0.5, 1e-3, None, 0.0)])
def test_curves_of_one_row(row):
    shown = texts(learning_curves([row]))
    assert any(("Training loss · 0.900" if row.loss else "Validation Dice · best 0.000") in t for t in shown)


def test_curves_of_nothing():
    assert texts(learning_curves([])) == ["nothing was logged"]


def test_curves_bear_the_name_of_the_score(history):
    assert "Average precision · best 0.910 at step 20" in texts(learning_curves(history, "average precision"))


def test_curves_of_folds_have_a_line_and_a_ring_each(history):
    lower = [LogRow(r.step, r.seconds, r.lr, r.loss, r.validation_score and r.validation_score / 2) for r in history]
    svg = fold_curves([history, [], lower], "Dice")
    shown = texts(svg)
    assert "Validation Dice · best 0.455 to 0.910" in shown
    assert "Training loss · 0.067 at the end" in shown
    rings = [s.count(b"stroke: " + figures.MARKED.encode()) for s in (svg, learning_curves(history))]
    assert rings[0] == rings[1] + 1 > 1
    assert fold_curves([history]) == learning_curves(history)


def test_scores_come_lowest_first_with_undefined_last():
    shown = texts(per_image_scores(["b", "a", "none", "c"], [0.9, 0.25, None, 0.5], "Dice"))
    assert [t for t in shown if t in ("a", "b", "c", "none")] == ["a", "c", "b", "none"]
    assert [t for t in shown if t in ("0.250", "0.500", "0.900", "–")] == ["0.250", "0.500", "0.900", "–"]
    assert "mean 0.550" in shown
    assert "Dice" in shown


def test_hundreds_of_images_are_counted_not_named():
    values = [None if i % 50 == 0 else i / 300 for i in range(300)]
    svg = per_image_scores([f"name {i}" for i in range(300)], values, "Dice")
    shown = texts(svg)
    assert not any(t.startswith("name") for t in shown)
    assert "294 of 300 images, from lowest to highest; the others are undefined" in shown
    assert svg.count(b"<use ") >= 294  # one marker an image
    assert len(svg) < 100_000


@pytest.mark.parametrize("values", [[], [None], [None] * 50, [0.0], [1.0, 1.0], [3.5, 0.2]])
def test_scores_of_any_kind_can_be_drawn(values):
    texts(per_image_scores([f"n{i}" for i in range(len(values))], values, "x"))


def test_odd_names_are_shown_as_they_are_and_never_break_the_file():
    names = ["a$x_2$b", "<b>&amp;", "細胞", "tab\there", "x" * 200]
    shown = texts(per_image_scores(names, [0.5] * 5, "Dice"))
    assert {"a$x_2$b", "<b>&amp;", "細胞", "tab�here"} <= set(shown)
    assert max(map(len, shown)) <= 31


def test_bars_keep_their_order_and_mark_one():
    svg = score_bars(["Otsu", "this"], [0.9, 0.4], "Dice", marked=1)
    shown = texts(svg)
    assert [t for t in shown if t in ("Otsu", "this", "0.900", "0.400")] == ["Otsu", "this", "0.900", "0.400"]
    assert svg.count(f"fill: {figures.MARKED}".encode()) == 1
    assert svg.count(f"fill: {figures.QUIET}".encode()) == 1


def test_charts_are_the_same_each_time_and_undated(history):
    for draw in (lambda: learning_curves(history), lambda: per_image_scores(["a"], [0.5], "Dice")):
        first = draw()
        assert first == draw()
        assert b"date" not in first.lower()


def test_charts_leave_matplotlib_as_it_was_and_need_no_pyplot(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would now fail
    names = [name for name in matplotlib.rcParams if name != "backend"]  # reading that one imports pyplot
    before = {name: matplotlib.rcParams[name] for name in names}
    learning_curves(history)
    per_image_scores(["a"], [0.5], "Dice")
    assert {name: matplotlib.rcParams[name] for name in names} == before


def test_dark_twin_differs_in_colours_alone(history):
    light = learning_curves(history)
    dark = on_dark(light)
    for colour, instead in figures.ON_DARK.items():
        assert colour.encode() not in dark
        assert light.count(colour.encode()) == dark.count(instead.encode())
    assert texts(dark) == texts(light)
    assert b"#ffffff" not in light
    assert b"#000000" not in light


def luminance(colour):
    linear = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in bytes.fromhex(colour[1:])]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_chart_text_and_marks_stand_out_on_both_pages():
    for light, dark in figures.ON_DARK.items():
        least = {figures.INK: 7, figures.GRID: 1}.get(light, 2.9)
        assert (luminance("#ffffff") + 0.05) / (luminance(light) + 0.05) > least
        assert (luminance(dark) + 0.05) / (luminance("#14181d") + 0.05) > least


def test_picture_keeps_small_ones_exactly():
    rgb = np.random.default_rng(0).integers(0, 256, (3, 20, 31), np.uint8)
    np.testing.assert_array_equal(decode(picture(rgb)), rgb)


def test_picture_with_few_colours_is_exact_and_half_the_size():
    grey = np.random.default_rng(0).integers(0, 64, (64, 64)).astype(np.uint8) * 4
    rgb = np.stack([grey] * 3)
    rgb[:, 10, 10:20] = np.array([230, 159, 0], np.uint8)[:, None]
    png = picture(rgb)
    np.testing.assert_array_equal(decode(png), rgb)
    assert Pillow.open(io.BytesIO(png)).mode == "P"


def test_picture_shrinks_to_the_mean_and_never_enlarges():
    rgb = np.zeros((3, 40, 20), np.uint8)
    rgb[:, ::2] = 200
    small = decode(picture(rgb, longest=20))
    assert small.shape == (3, 20, 10)
    assert (small == 100).all()
    assert decode(picture(rgb, longest=40)).shape == (3, 40, 20)
    assert decode(picture(rgb, longest=4000)).shape == (3, 40, 20)
    assert decode(picture(np.zeros((3, 2, 5000), np.uint8))).shape == (3, 1, 512)


def test_side_by_side_places_panels_with_gaps():
    out = side_by_side([np.full((3, 2, 3), 7, np.uint8), np.full((3, 4, 2), 9, np.uint8)], gap=1)
    assert out.shape == (3, 4, 6)
    assert out[0].tolist() == [[7, 7, 7, 255, 9, 9]] * 2 + [[255, 255, 255, 255, 9, 9]] * 2


@pytest.fixture
def overlay_case():
    """Two rows of grey 0 and of 255; columns: background, right, missed, added, confused."""
    image = Image(np.array([[[0] * 5] * 2 + [[255] * 5] * 2], np.uint8), "cyx", "a")
    return image, np.tile(np.array([0, 1, 1, 0, 1]), (4, 1)), np.tile(np.array([0, 1, 0, 1, 2]), (4, 1))


def test_overlay_colours_exactly(overlay_case):
    image, truth, predicted = overlay_case
    out = error_overlay(image, truth, predicted)
    assert out.dtype == np.uint8
    assert out[:, 0].T.tolist() == [[0, 0, 0], [0, 51, 80], [192, 182, 53], [170, 75, 0], [128, 0, 179]]
    assert out[:, 3].T.tolist() == [[255, 255, 255], [140, 192, 220], [243, 233, 104], [221, 126, 51], [179, 51, 230]]


def test_overlay_does_not_judge_ignored_pixels(overlay_case):
    image, truth, predicted = overlay_case
    ignore = np.zeros(truth.shape, bool)
    ignore[[0, 3]] = True
    out = error_overlay(image, truth, predicted, ignore)
    assert (out[:, 0] == 0).all()
    assert (out[:, 3] == 128).all()
    np.testing.assert_array_equal(out[:, 1:3], error_overlay(image, truth, predicted)[:, 1:3])


def test_overlay_of_a_volume_shows_its_middle_slice(overlay_case):
    image, truth, predicted = overlay_case
    volume = Image(np.stack([np.zeros_like(image.array[0]), image.array[0], image.array[0] // 2])[None], "czyx", "v")
    other = np.zeros_like(truth)
    out = error_overlay(volume, np.stack([other, truth, other]), np.stack([other, predicted, other]),
                        np.stack([other, other, other]) > 0)
    np.testing.assert_array_equal(out, error_overlay(image, truth, predicted))


#: Machado, Oliveira & Fernandes (2009), severity 1.0; linear RGB.
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize("grey", [0, 40, 128, 215, 255])
def test_overlay_colours_differ_for_the_colour_blind(kind, grey):
    from skimage.color import rgb2lab

    tints = [(np.array(c) * s + grey * (1 - s)) / 255 for c, s in
             ((RIGHT, RIGHT_STRENGTH), (MISSED, ERROR_STRENGTH), (ADDED, ERROR_STRENGTH), (CONFUSED, ERROR_STRENGTH))]
    colours = np.array([*tints, (grey / 255,) * 3])
    seen = np.clip(np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
                   @ np.array(BLINDNESS[kind]).T, 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen[None])[0]
    closest = min((float(np.linalg.norm(lab[a] - lab[b])), a, b) for a, b in combinations(range(5), 2))
    assert closest[0] > 15, closest  # CIE 1976; 2.3 is just noticeable
