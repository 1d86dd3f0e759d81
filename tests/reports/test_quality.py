"""What an evaluation knows beside plain scores is shown with its numbers; what it lacks is left out."""

import re
import xml.etree.ElementTree as ET

import pytest

from biomask.evaluation.instances import COUNTS, SCORES
from biomask.reports import evaluation_report
from biomask.reports.charts import counts, reliability, threshold_curve
from biomask.reports.figures import INK, MAIN, MARKED, QUIET, on_dark
from biomask.reports.quality import annotator_section, calibration_section, counts_section, groups_section, paired_section, titles

BINS = [{"low": n / 5, "high": (n + 1) / 5, "confidence": n / 5 + 0.1 if n else None, "accuracy": n / 5 + 0.05 if n else None,
         "pixels": 100 * n} for n in range(5)]

ONE = {"mean": -0.125, "low": -0.25, "high": -0.0625, "kind": "bootstrap 95 %", "p": 0.03125, "n": 10}


def words(page):
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).replace("&#39;", "'").split())


def texts(svg):
    return [e.text for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def full(evaluation):
    """An evaluation of classes with all that there can be."""
    surfaces = {"hd95": 3.25, "assd": None, "nsd": 0.875}
    rows = [{**row, **surfaces, "group": f"g{n % 3}"} for n, row in enumerate(evaluation["per_image"])]
    return {**evaluation, "kind": "classes", "per_image": rows, "mean": {**evaluation["mean"], **surfaces},
            "boundary": {"unit": "µm", "tolerance": 1.5, "undefined": 1, "says": "on surfaces"}, "groups": {"n": 3,
                                                                                                            "says": "by folder"},
            "calibration": {"bce": 0.4375, "brier": 0.1875, "ece": 0.0625, "bins": BINS, "pixels": 1000, "says": "on calibration"},
            "paired": {"other": "elsewhere", "metric": "dice", "mean": {"dice": 0.9}, "difference": {"dice": ONE},
                       "newly_wrong": [{"name": "fallen", "this": 0.25, "other": 0.875}],
                       "newly_right": [{"name": "risen", "this": None, "other": 0.5}], "only_here": ["lonely"],
                       "rule": "wrong by rule"}, "footnotes": [*evaluation["footnotes"], "Images are wrong by rule."],
            "annotator": {"mean": {"dice": 0.9375}, "intervals": {}, "difference": {"dice": {**ONE, "mean": 0.03125}},
                          "says": "two people"}}


@pytest.fixture
def objects(evaluation):
    """An evaluation of objects: image n has 10 n true objects, of which 2 are not found."""
    scores = dict.fromkeys(SCORES, 0.5)
    rows = [{**row, **scores, **dict.fromkeys(COUNTS, 1), "true_objects": 10 * n, "predicted_objects": 10 * n - 2,
             "count_error": -2}
            for n, row in enumerate(evaluation["per_image"], start=1)]
    more = {**scores, "count_error": 2.0, "count_bias": -2.0}
    interval = {"low": -2.5, "high": -1.5, "kind": "bootstrap 95 %", "n": len(rows)}
    return {**evaluation, "kind": "instances", "per_image": rows, "mean": {**evaluation["mean"], **more},
            "pooled": {**evaluation["pooled"], **scores, **dict.fromkeys(COUNTS, 1)},
            "per_class": {v: {**c, **scores, **dict.fromkeys(COUNTS, 1)} for v, c in evaluation["per_class"].items()},
            "intervals": {**evaluation["intervals"], **dict.fromkeys(more, interval)},
            "agreement": {"bias": -2.0, "sd": 0.5, "low": -2.98, "high": -1.02, "slope": 0.125, "n": len(rows),
                          "bias_interval": interval},
            "thresholds": [{"iou": 0.5, "ap": 0.75, "f1": 0.875}, {"iou": 0.55, "ap": None, "f1": None}]}


def test_an_older_evaluation_has_none_of_it(evaluation):
    for section in (annotator_section, calibration_section, counts_section, groups_section, paired_section):
        assert section(evaluation) == ()
    page = evaluation_report(evaluation, [])
    assert "calibration" not in page
    assert '<th scope="row">HD95' not in page


def test_surfaces_have_their_unit(full):
    assert titles(full) | {"hd95": "HD95, µm", "assd": "ASSD, µm", "nsd": "NSD at 1.5 µm"} == titles(full)
    shown = words(evaluation_report(full, []))
    assert "HD95, µm 3.250" in shown
    assert "ASSD, µm – – –" in shown
    assert "NSD at 1.5 µm 0.875" in shown


def test_calibration(full):
    shown = words(evaluation_report(full, []))
    assert "expected calibration error 0.062 0 is perfect cross-entropy 0.438" in shown
    assert "Brier score 0.188" in shown
    assert "0.00 to 0.20 0 – – 0.20 to 0.40 100 0.300 0.250" in shown
    assert "on calibration" in shown


def test_a_comparison_says_whether_chance_explains_it(full):
    page = evaluation_report(full, [])
    shown = words(page)
    assert ("Compared with elsewhere, mean Dice differs by -0.125 over 10 images (-0.250 to -0.062, p = 0.031): these "
            "predictions are worse than chance explains.") in shown
    assert "fallen 0.875 0.250" in shown
    assert "risen 0.500 –" in shown
    assert "the others lack them: lonely." in shown
    assert shown.count("wrong by rule") == 1
    chance = {**full, "paired": {**full["paired"], "difference": {"dice": {**ONE, "high": 0.0625}}, "newly_wrong": []}}
    shown = words(evaluation_report(chance, []))
    assert "chance alone could explain it" in shown
    assert "No image became wrong." in shown
    few = {**full, "paired": {**full["paired"], "difference": {"dice": {**ONE, "kind": "range"}}}}
    assert "too few for an interval" in words(evaluation_report(few, []))
    better = {**full, "paired": {**full["paired"], "difference": {"dice": {**ONE, "mean": 0.2, "low": 0.1, "high": 0.3}}}}
    assert "better than chance explains" in words(evaluation_report(better, []))


def test_a_second_annotator(full):
    shown = words(evaluation_report(full, []))
    assert "Dice of the annotator 0.938" in shown
    assert "difference 0.031 predictions less annotator, same images" in shown
    assert "two people" in shown


def test_groups_are_the_means_of_their_images(full):
    section, = groups_section(full)
    table = next(b for b in section.blocks if b.kind == "table")
    for group, images, mean, low, high in table.rows:
        own = [r["dice"] for r in full["per_image"] if r["group"] == group]
        known = [v for v in own if v is not None]
        assert (images, mean, low, high) == (len(own), pytest.approx(sum(known) / len(known)), min(known), max(known))
    assert [r[2] for r in table.rows] == sorted(r[2] for r in table.rows)
    assert sum(r[1] for r in table.rows) == len(full["per_image"])


def test_intervals_over_groups_are_called_so(full):
    grouped = {**full, "intervals": {"dice": {"low": 0.25, "high": 0.75, "kind": "bootstrap 95 % over 9 groups", "n": 10},
                                     "iou": {"low": 0.25, "high": 0.75, "kind": "range over 3 groups", "n": 10}}}
    shown = words(evaluation_report(grouped, []))
    assert "0.250 to 0.750 (bootstrap 95 %, 9 groups of 10 images)" in shown
    assert "0.250 to 0.750 is the range of 3 groups, too few for an interval" in shown
    assert "lowest and highest group" in shown


def test_counts(objects):
    shown = words(evaluation_report(objects, []))
    assert "Bias -2.00 objects an image (-2.50 to -1.50, bootstrap 95 %), limits of agreement -3.0 to -1.0." in shown
    assert "The difference changes by +0.12 for each object more in an image." in shown
    assert "0.50 0.750 0.875 0.55 – –" in shown


def test_a_report_of_everything_gives_nothing_undefined_away(full, objects):
    for found in (full, objects):
        shown = words(evaluation_report(found, []))
        assert "None" not in shown
        assert "nan" not in shown.split()


def markers(svg):
    """Dots in the colour of data."""
    return len(re.findall(rb"<use [^>]*" + MAIN.encode(), svg))


def test_charts_draw_a_mark_each():
    assert "Pixels in each bin, %" in texts(reliability(BINS))
    fewer = [{**b, "pixels": 0, "confidence": None, "accuracy": None} if n == 4 else b for n, b in enumerate(BINS)]
    assert markers(reliability(BINS)) - markers(reliability(fewer)) == 1
    agreement = {"bias": 0.5, "low": -1.5, "high": 2.5}
    shown = texts(counts([1, 2, 3], [2, 2, 4], agreement))
    assert {"bias +0.5", "-1.5", "+2.5"} <= {t.replace("−", "-") for t in shown}
    assert not any("bias" in t for t in texts(counts([1], [1], {"bias": None, "low": None, "high": None})))
    assert {"AP", "F1"} <= set(texts(threshold_curve([{"iou": 0.5, "ap": 0.5, "f1": 0.6}])))
    assert not {"AP", "F1"} & set(texts(threshold_curve([{"iou": 0.5, "ap": None, "f1": None}])))


@pytest.mark.parametrize("svg", [reliability(BINS), counts([1, 5], [2, 4], {"bias": 0.0, "low": -1.0, "high": 1.0}),
                                 threshold_curve([{"iou": 0.5, "ap": 0.5, "f1": 0.6}, {"iou": 0.9, "ap": 0.1, "f1": 0.2}])])
def test_charts_have_a_twin_for_the_dark(svg):
    for colour in (INK, MAIN, MARKED, QUIET):
        assert colour.encode() not in on_dark(svg)
    drawn = set(re.findall(rb"#[0-9a-f]{6}", svg))
    assert drawn <= {c.encode() for c in (INK, MAIN, MARKED, QUIET, "#dde2e7", "#ffffff", "#000000")}
