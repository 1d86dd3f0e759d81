"""Classes with their share of the pixels, objects with their sizes, and the colours of their outlines."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomask.checking.probe import _ids, small_picture
from biomask.data.encoding import Encoding
from biomask.data.facts import ImageFacts, Inspected, LabelFacts
from biomask.data.pairing import Pair
from biomask.data.truth import Raw
from biomask.image import Image
from biomask.labels import PALETTE, Legend
from biomask.reports.contents import agreed, caption, content_blocks, drawn, held, outline_colours

ATTACK = "<script>alert('x')</script>"
TWO = Encoding("classes", "the values are [0, 255]", Legend.of_values([0, 255], {255: f"cell {ATTACK}"}), "values")
OBJECTS = Encoding("instances", "ids", Legend.of_values([0, 1], {1: "object"}), "values")


def facts(counts, form="values", **more):
    objects = sum(v != 0 for v in counts)
    return LabelFacts(form, counts, len(counts), sum(counts.values()), 0, 255, objects, (1, 2, 3), objects, None, (), 0, **more)


def item(name, labels=None):
    image = ImageFacts((12, 16), "cyx", 1, "uint8", None, (), 0.0, 250.0, 0, 0.0, False)
    return Inspected(Pair(name, Path(f"{name}.png"), None), image, (facts({0: 150, 255: 42}),) if labels is None else labels, {})


def test_classes_have_their_share_of_what_is_known():
    encoding = replace(TWO, ignore=128, legend=Legend.of_values([0, 255], {255: "cell"}))
    found = held(item("a", (facts({0: 60, 255: 20, 128: 120}),)), encoding)
    assert (found.share(0), found.share(1), found.ignored) == (0.75, 0.25, 120)
    assert caption(item("a", (facts({0: 60, 255: 20, 128: 120}),)), encoding) == [("cell 25 %", None), ("ignored 60 %", None)]
    blocks = content_blocks([item("a", (facts({0: 60, 255: 20, 128: 120}),)), item("b", (facts({0: 100, 255: 100}),))], encoding)
    assert blocks[0].rows == (("background", 0, "57 %", 2, "50 %", "62 %", "75 %"),
                              ("cell", 255, "43 %", 2, "25 %", "38 %", "50 %"))
    assert any("ignored: 30 %" in note for note in blocks[0].footnotes)


def test_colours_count_for_the_nearest_of_the_legend():
    legend = Legend.of_values([0, 1], {1: "tumour"})
    encoding = Encoding("classes", "", legend, "colours", colours=((0, 0, 0), (255, 0, 0)), tolerance=48)
    found = held(item("a", (facts({0x000000: 70, 0xFF0000: 20, 0xF00808: 10}, "colours"),)), encoding)
    assert found.pixels == {0: 70, 1: 30}


def test_objects_by_class():
    legend = Legend.of_values([0, 1, 2], {1: "cell", 2: "debris"})
    encoding = replace(OBJECTS, legend=legend, form="objects", names=("cell", "debris"))
    labels = facts({0: 100, 1: 30, 2: 10, 3: 50, 4: 2}, "objects", classes={1: "cell", 2: "debris", 3: "cell"})
    found = held(item("a", (labels,)), encoding)
    assert (found.pixels, found.objects) == ({0: 100, 1: 82, 2: 10}, {1: 3, 2: 1})
    assert caption(item("a", (labels,)), encoding) == [("cell 3", None), ("debris 1", None)]
    table = content_blocks([item("a", (labels,))], encoding)[0]
    assert table.rows == (("cell", 3, 1, 30), ("debris", 1, 1, 10))


def test_structures_count_where_half_of_the_experts_agree():
    legend = Legend.of_values([0, 1, 2], {1: "cup", 2: "disc"})
    encoding = Encoding("multilabel", "", legend, "values", full=(255.0, 1.0))
    two = item("a", (facts({0: 80, 64: 10, 128: 4, 255: 6}), facts({0: 75, 1: 25})))
    assert held(two, encoding).pixels == {1: 10, 2: 25}
    assert drawn(two, encoding) == {2: PALETTE[1]}  # the levels of the cup have several colours
    assert content_blocks([two], encoding)[0].rows == (("cup", "10 %", 1, *["10 %"] * 3), ("disc", "25 %", 1, *["25 %"] * 3))


@given(st.dictionaries(st.sampled_from([0, 1, 2, 7, 255]), st.integers(1, 10**6), min_size=1), st.sampled_from([None, 2, 255]))
def test_pixels_of_the_classes_add_up(counts, ignore):
    encoding = replace(TWO, ignore=ignore, legend=Legend.of_values([v for v in (0, 1, 2, 7, 255) if v != ignore]))
    found = held(item("a", (facts(counts),)), encoding)
    assert sum(found.pixels.values()) + found.ignored == sum(counts.values())
    assert sum(found.share(p) for p in range(len(encoding.legend))) == pytest.approx(1 if found.total else 0)


def test_fractions_and_unknown_labels_are_not_counted():
    assert held(item("a", (facts({}, "fractions"),)), TWO) is None
    assert held(item("a"), None) is None
    assert content_blocks([item("a")], None) == ()
    assert caption(item("a", (facts({0: 5, 1: 2, 9: 2}),)), None) == [("2 values", None)]


@pytest.mark.parametrize("values", [(0, 255), (0, 3, 7, 9), (3, 7), (0, 70000)])
@pytest.mark.parametrize("number", [0, 1])
def test_colours_of_the_captions_are_those_of_the_pictures(values, number):
    array = np.repeat(np.array(values), 6)[None].repeat(8, axis=0)
    ids = [np.zeros_like(array, dtype=np.int32)] * number + [_ids(Raw(array, "values"), None)]
    rgb = small_picture(Image(np.zeros((1, *array.shape), np.uint8), "cyx", "a"), ids)
    counts = {int(v): int((array == v).sum()) for v in values}
    for value, colour in outline_colours(facts(counts), number).items():
        met = {tuple(p) for p in rgb[:, array == value].T.tolist()} - {(0, 0, 0)}
        assert met <= {colour}
        assert met or value == values[-1]  # the last one ends at the border of the image


def test_colours_of_all_only_where_all_pictures_agree():
    encoding = replace(TWO, legend=Legend.of_values([0, 1, 2], {1: "anterior", 2: "posterior"}))
    both, second = item("a", (facts({0: 9, 1: 2, 2: 2}),)), item("b", (facts({0: 9, 2: 2}),))
    assert agreed([both], encoding) == {1: PALETTE[0], 2: PALETTE[1]}
    assert agreed([both, second], encoding) == {}
    assert drawn(second, encoding) == {2: PALETTE[0]}


def test_charts_of_classes_and_objects():
    good = [item(f"{n}", (facts({0: 100, **{k: 5 * k * k for k in range(1, n + 2)}}),)) for n in range(5)]
    chart = content_blocks(good, OBJECTS)[-1]
    assert chart.alt == ("Two histograms. Size of 15 objects: 5 to 125 px, median 20. Objects in an image: 1 to 5, median 3.")
    assert b"<svg" in chart.data
    assert chart.dark != chart.data
    shares = content_blocks([item(f"{n}", (facts({0: 90 - n, 255: 10 + n}),)) for n in range(4)], TWO)[-1]
    assert shares.alt == f"Share of the pixels of an image. cell {ATTACK}: 10 % to 13 %, median 12 %."
    assert b"<script" not in shares.data
