"""The four reports: complete, self-contained, honest, the same each time."""

import base64
import html
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as Pillow

from biomask.image import Image
from biomask.labels import Legend
from biomask.reports import Example, demo_report, evaluation_report, prediction_report, training_report
from biomask.reports.examples import LONGEST, MOST_EXAMPLES, panels, typical, worst_first
from biomask.reports.gather import object_sizes
from biomask.reports.prediction import Sizes
from biomask.reports.run import Run, command_line

KINDS = ("training", "evaluation", "prediction", "demo")


class Tags(HTMLParser):
    """Every tag met with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.met = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.met.append((tag, dict(attrs)))


def images(page):
    """(mime, bytes) of every embedded image."""
    found = re.findall(r'<img [^>]*src="data:([\w/+]+);base64,([^"]*)"', page)
    return [(mime, base64.b64decode(data, validate=True)) for mime, data in found]


def text(page):
    """The words of a page, without style and pictures."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


@pytest.mark.parametrize("kind", KINDS)
def test_page_needs_nothing_but_itself(pages, kind):
    tags = Tags(pages[kind]).met
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in tags}
    for tag, attributes in tags:
        way = attributes.get("href", "")  # followed, not loaded: within the page, or to what lies beside it
        beside = tag == "a" and (way.startswith("#") or way in ("objects.csv", "images.csv", "labels/", "masks/", "outlines/"))
        loading = [a for a in attributes if a.startswith("on") or (a in ("href", "srcset", "data", "action") and not beside)]
        assert not loading, (tag, attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
    assert "@import" not in pages[kind]
    assert "url(" not in pages[kind]
    assert "://" not in pages[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_users_are_escaped_and_shown(pages, kind):
    assert "<script" not in pages[kind]
    assert pages[kind].count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") >= 4


@pytest.mark.parametrize("kind", KINDS)
def test_embedded_images_decode(pages, kind):
    found = images(pages[kind])
    assert found
    assert pages[kind].count("<img") == len(found)
    for mime, data in found:
        if mime == "image/png":
            Pillow.open(io.BytesIO(data)).load()
        else:
            assert ET.fromstring(data).tag.endswith("}svg")
            assert b"<script" not in data


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_has_words_for_those_who_cannot_see_it(pages, kind):
    assert all(attributes.get("alt") for tag, attributes in Tags(pages[kind]).met if tag == "img")


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_the_same_each_time(pages, make, kind):
    assert make[kind]() == pages[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_page_says_what_it_is_not(pages, kind):
    assert "Not a medical device" in text(pages[kind])


@pytest.mark.parametrize("kind", ["evaluation", "demo"])
def test_tables_of_scores_have_the_rules(pages, evaluation, kind):
    """The first has them all, once; each other one says in a few words where they stand."""
    rules = [[html.unescape(n) for n in re.findall("<li>(.*?)</li>", block)]
             for block in re.findall(r'</table>\s*</div>\s*<ul class="notes">(.*?)</ul>', pages[kind], re.DOTALL)]
    assert pages[kind].count("<table") == len(rules) == {"evaluation": 3, "demo": 4}[kind]
    assert any("does not count" in n for n in evaluation["footnotes"])
    assert rules[0] == evaluation["footnotes"]
    for later in rules[1:]:
        assert len(later) == 1
        assert "below the first table" in later[0]
        assert len(later[0]) < min(map(len, evaluation["footnotes"]))


def test_undefined_scores_are_dashes(empty_evaluation, header):
    demo = demo_report(header=header, history=[], evaluation=empty_evaluation, baselines={}, examples=[], facts={})
    for page in (demo, evaluation_report(empty_evaluation, [])):
        assert '<dd class="value">–</dd>' in page
        assert "over 1 image, no interval" in page
        assert "None" not in text(page)
        assert "nan" not in text(page).split()


def test_headline_gives_the_interval_and_its_kind(pages, evaluation):
    limits = evaluation["intervals"]["dice"]
    assert limits["n"] == 9  # of ten images, one is undefined
    assert f"{limits['low']:.3f} to {limits['high']:.3f} (bootstrap 95 %, 9 images)" in text(pages["evaluation"])
    assert f'<dd class="value">{evaluation["mean"]["dice"]:.3f}</dd>' in pages["evaluation"]


def test_a_range_is_not_called_an_interval(evaluation):
    few = {**evaluation, "intervals": {"dice": {"low": 0.25, "high": 0.75, "kind": "range", "n": 5}}}
    shown = text(evaluation_report(few, []))
    assert "0.250 to 0.750 is the range of 5 images, too few for an interval" in shown
    assert "lowest and highest image" in shown


def test_several_classes_get_a_column_each_background_none():
    legend = Legend.of_values([0, 1, 2], {1: "nucleus", 2: "body"})
    scores = {"dice": 0.5, "iou": 0.4}
    evaluation = {"n_images": 1, "predictions": "p", "truth": "t", "legend": legend.to_json(),
                  "per_image": [{"name": "a", "pixels": 9, "pixel_error": 0.1, **scores, "classes": {"1": scores}}],
                  "per_class": {str(e.value): {"name": e.name, **scores, "images": 1} for e in legend},
                  "mean": {**scores, "pixel_error": 0.1}, "pooled": {**scores, "pixel_error": 0.1}, "intervals": {},
                  "ignore": 255, "without_truth": ["lonely"]}
    page = evaluation_report(evaluation, [])
    assert "Dice, nucleus" in page
    assert "Dice, body" in page
    assert "Dice, background" not in page
    assert "Dice and IoU are those of nucleus, body, background left out, over 1 image." in text(page)
    assert "not judged: pixels of value 255" in text(page)
    assert "left out: predictions without a truth lonely" in text(page)


def test_long_tables_are_folded_but_complete(evaluation):
    rows = [{**evaluation["per_image"][0], "name": f"image-{i:03d}"} for i in range(120)]
    page = evaluation_report({**evaluation, "n_images": 120, "per_image": rows}, [])
    assert "<summary>120 images with all their scores</summary>" in page
    assert len(re.findall(r'<th scope="row">image-\d{3}</th>', page)) == 120


def test_training_says_that_its_score_flatters(pages, attack):
    shown = text(pages["training"])
    selected = "used to choose the weights, so it flatters a little"
    assert f"validation Dice 0.910 mean of all classes, background too; {selected}" in shown
    assert "weights of step 20 of 30 steps done" in shown
    assert f"Dice, cell {attack} –" in html.unescape(shown)
    assert "the highest is ringed" in shown


def test_recipe_is_there_to_copy(pages, header):
    code = re.search(r"<pre><code>(name: .*?)</code></pre>", pages["training"], re.DOTALL)[1]
    assert code.replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'") == header.recipe.to_yaml()


def test_training_of_one_step_without_validation(header, history):
    bare = header.model_copy(update={"scores": {}, "step": 5, "data_hashes": {}})
    page = training_report(bare, history[:1], Run())
    assert "validation Dice – no image was held out" in text(page)
    assert "weights of step 5 of 5 steps done" in text(page)
    assert "There is no validation score" in text(page)
    assert "No held-out image is shown" in text(page)


def test_training_before_its_first_entry(header):
    page = training_report(header, [], Run())
    assert "Nothing was logged" in text(page)
    assert not images(page)


def test_prediction_lists_failures_and_claims_nothing(pages):
    shown = text(pages["prediction"])
    assert "images done 1 1 failed" in shown
    assert "→ save it again" in shown
    assert "nothing on this page says how right the masks are" in shown
    assert "24 × 32 24 × 32 1.250 25.0 %" in shown
    assert "Dice" not in shown


def test_prediction_of_nothing(record):
    shown = text(prediction_report({**record, "images": {}, "failed": {}}, []))
    assert "none failed" in shown
    assert "No image was done." in shown


def test_prediction_of_an_older_record(legend):
    record = {"legend": legend.to_json(), "images": {"a": {"size": [2, 3]}}}
    assert "2 × 3 – – –" in text(prediction_report(record, []))


def test_prediction_shows_what_was_remarkable(record, attack):
    images = {f"im_{n}": {"size": [10, 10], "objects": n, "warnings": [f"it is darker {attack}"] if n == 1 else [],
                          "summary": {"pixels": 100, "objects": n, "objects_per_mm2": 1234.5, "area_um2_median": 3.25,
                                      "touching_border": 0, "probability_mean": None}} for n in range(3)}
    told = [f"1 of 3 images are darker than any in training: im_1 {attack}", "'cell' was never predicted"]
    page = prediction_report({**record, "images": images, "warnings": told}, [], Sizes((1.5, 20.0, 300.0), "µm²"))
    shown = html.unescape(text(page))
    assert "1 of 3 images are darker than any in training" in shown
    assert "'cell' was never predicted" in shown
    assert f"im_1 it is darker {attack}" in shown
    assert "objects a mm² median area, µm² cut by the edge" in shown
    assert "1,234 3.25 0 –" in shown
    assert "Size of 3 objects: 1.5 to 300 µm², median 20." in page
    assert "<script" not in page
    quiet = prediction_report({**record, "images": images | {"im_1": images["im_0"]}}, [])
    assert "Warnings" not in text(quiet)
    assert "Size of" not in quiet


@pytest.mark.parametrize(("argv", "typed"), [
    (["/usr/bin/biomask", "train", "a b"], "biomask train 'a b'"), (["C/biomask.exe", "demo"], "biomask demo"),
    (["/x/site-packages/biomask/__main__.py", "demo"], "biomask demo"), (["/x/pytest/__main__.py", "demo"], ""), (["my.py", "x"],
                                                                                                                  ""),
])
def test_the_command_is_what_was_typed(monkeypatch, argv, typed):
    monkeypatch.setattr("sys.argv", argv)
    assert command_line() == typed


@pytest.mark.parametrize(("lines", "expected"), [
    ("image,area_px,area_um2\na,4,2.5\nb,9,3", ((2.5, 3.0), "µm²")), ("image,area_px,area_um2\na,4,2.5\nb,9,", ((4.0, 9.0), "px")),
    ("image,volume_px\na,8", ((8.0,), "voxels")), ("image,area_px", None), ("", None),
])
def test_sizes_are_those_of_the_table(tmp_path, lines, expected):
    (tmp_path / "objects.csv").write_text(lines, encoding="utf-8")
    found = object_sizes(tmp_path)
    assert (None if found is None else (found.values, found.unit)) == expected
    assert object_sizes(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(("baselines", "order"), [
    ({"Otsu": 0.1, "one layer": 0.2}, ["Otsu", "one layer", "this model"]),
    ({"Otsu": 0.1, "U-Net (this model)": 0.9}, ["Otsu", "U-Net (this model)"]),
    ({}, ["this model"]),
])
def test_demo_compares_with_simpler_methods(header, history, evaluation, baselines, order):
    page = demo_report(header=header, history=history, evaluation=evaluation, baselines=baselines, examples=[],
                       facts={})
    table = re.search(r"<th scope=\"col\">method</th>.*?</table>", page, re.DOTALL)[0]
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == order
    if "Otsu" in order:
        assert "Otsu: mean Dice 0.100" in page


def test_demo_headline(pages, evaluation):
    shown = text(pages["demo"])
    assert f"held-out Dice {evaluation['mean']['dice']:.3f}" in shown
    assert f"held-out IoU {evaluation['mean']['iou']:.3f}" in shown
    assert "training time 1.5 min 20 steps behind these weights" in shown


def test_worst_example_comes_first(pages, examples):
    assert [e.name[:4] for e in worst_first(examples)] == ["bad ", "good", "unsc"]
    titles = re.findall(r"<h3>(.*?)</h3>", pages["evaluation"])
    assert [t.split()[0] for t in titles] == ["bad", "good", "unscored"]
    assert titles[1] == "good · Dice 0.920"
    assert typical(examples).score == 0.5  # the lower of two; none has an unknown score
    assert typical(examples[2:]) is None


def test_more_examples_than_fit_are_counted(evaluation, examples):
    page = evaluation_report(evaluation, [replace(examples[0], name=f"e{i}") for i in range(MOST_EXAMPLES + 5)])
    assert page.count("<h3>") == MOST_EXAMPLES
    assert f"{MOST_EXAMPLES} of {MOST_EXAMPLES + 5} examples" in page


def test_panels_follow_what_is_there(examples):
    whole = examples[0]
    assert [c for c, _ in panels(whole)] == ["image", "truth", "prediction", "errors"]
    assert [c for c, _ in panels(replace(whole, truth=None))] == ["image", "prediction"]
    assert [c for c, _ in panels(replace(whole, predicted=None))] == ["image", "truth"]
    assert [c for c, _ in panels(replace(whole, predicted=None, truth=None))] == ["image"]


def test_small_images_are_enlarged_by_whole_pixels(examples):
    for _, rgb in panels(examples[0], longest=100):
        assert rgb.shape == (3, 72, 96)  # three times 24 x 32
        np.testing.assert_array_equal(rgb, rgb[:, ::3, ::3].repeat(3, axis=1).repeat(3, axis=2))


@pytest.mark.parametrize("shape", [(1, 1000, 700), (3, 900, 901), (1, 3, 5000), (2, 64, 64)])
def test_large_images_are_shrunk_before_outlines_are_drawn(shape):
    truth = np.zeros(shape[1:], np.uint8)
    truth[shape[1] // 3 : 2 * shape[1] // 3, shape[2] // 3 : 2 * shape[2] // 3] = 1
    legend = Legend.of_values([0, 1])
    image = Image(np.full(shape, 7, np.uint16), "cyx", "large")
    example = Example("large", image, truth, truth, legend, 1.0, truth == 5)
    for caption, rgb in panels(example):
        assert max(rgb.shape[1:]) <= LONGEST
        if caption == "truth" and shape[1] > 3:
            colours = {tuple(c) for c in rgb.reshape(3, -1).T.tolist()}
            assert len(colours) == 2  # the outline keeps its one colour, unmixed


def test_of_a_volume_the_middle_slice_is_shown(legend, evaluation):
    array = np.zeros((1, 3, 8, 8), np.uint8)
    array[0, 1, :, 4:] = 200
    truth = np.zeros((3, 8, 8), np.uint8)
    truth[1, :, 4:] = 1
    volume = Example("v", Image(array, "czyx", "v"), truth, truth, legend, 1.0, np.zeros((3, 8, 8), bool))
    flat = replace(volume, image=Image(array[:, 1], "cyx", "v"), truth=truth[1], predicted=truth[1], ignore=None)
    for (_, seen), (_, expected) in zip(panels(volume), panels(flat), strict=True):
        np.testing.assert_array_equal(seen, expected)
    assert "Of a volume the middle slice is shown." in evaluation_report(evaluation, [volume])


def test_a_report_fits_into_a_mail(evaluation, legend):
    """Twelve examples of pure noise, which no file format can shrink."""
    rng = np.random.default_rng(0)
    noisy = [Example(f"n{i}", Image(rng.integers(0, 256, (1, LONGEST, LONGEST), np.uint8), "cyx", "n"),
                     rng.integers(0, 2, (LONGEST, LONGEST)), rng.integers(0, 2, (LONGEST, LONGEST)), legend, 0.5)
             for i in range(2)]
    per_example = len(evaluation_report(evaluation, noisy)) - len(evaluation_report(evaluation, noisy[:1]))
    assert per_example * MOST_EXAMPLES < 10e6
