"""Blocks in, one page out: everything escaped, nothing loaded, numbers as numbers."""

import base64
import re
from dataclasses import replace

import pytest

from biomask.reports.blocks import (
    Code,
    ColourKey,
    Figure,
    Fold,
    Gallery,
    Headline,
    KeyValues,
    Numbered,
    Paragraph,
    Quote,
    Section,
    Subtitle,
    Table,
    Wall,
    show,
)
from biomask.reports.html import render

ODD = '<script>alert("1 & 2")</script>'
SAFE = "&lt;script&gt;alert(&#34;1 &amp; 2&#34;)&lt;/script&gt;"

BLOCKS = {
    "headline": Headline(((ODD, ODD, ODD),)),
    "paragraph": Paragraph(ODD),
    "table": Table((ODD, ODD), ((ODD, ODD),), (ODD,), ODD),
    "figure": Figure(b"x", "image/png", ODD, ODD),
    "gallery": Gallery((Figure(b"x", "image/png", ODD, ODD),), 2, ODD),
    "facts": KeyValues(((ODD, ODD),)),
    "key": ColourKey(((ODD, (1, 2, 3)),), ODD),
    "code": Code(ODD, ODD),
    "fold": Fold(ODD, (Paragraph(ODD),)),
    "subtitle": Subtitle(ODD),
    "numbered": Numbered((ODD,)),
    "quote": Quote(ODD),
    "wall": Wall((Gallery((Figure(b"x", "image/png", ODD, ODD),), 2, ODD),)),
}
TEXTS = {"headline": 3, "paragraph": 1, "table": 6, "figure": 2, "gallery": 3, "facts": 2, "key": 2, "code": 2,
         "fold": 2, "subtitle": 1, "numbered": 1, "quote": 1, "wall": 3}


def body(page):
    return re.search(r"<main>(.*)</main>", page, re.DOTALL)[1]


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_text_of_every_block_is_escaped_and_shown(kind):
    assert BLOCKS[kind].kind == kind
    shown = body(render("t", "s", (Section("", (BLOCKS[kind],)),)))
    assert "<script" not in shown
    assert shown.count(SAFE) == TEXTS[kind]


def test_titles_are_escaped():
    page = render(ODD, ODD, (Section(ODD, ()),))
    assert "<script" not in page
    assert page.count(SAFE) == 4  # in <title>, <h1>, subtitle, <h2>


def test_page_forbids_scripts_and_loads():
    page = render("t", "", ())
    assert "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; " in page
    assert "://" not in page


def test_undefined_is_a_dash_and_columns_of_numbers_are_right_aligned():
    table = Table(("image", "Dice", "size", "kind"), (("a", 0.5, "3 × 4", "range"), ("b", None, "12 × 4", None)))
    assert table.numeric == (False, True, True, False)
    shown = body(render("t", "", (Section("", (table,)),)))
    assert '<td class="number">0.500</td>' in shown
    assert '<td class="number">–</td>' in shown
    assert "<td>–</td>" in shown
    assert '<th scope="row">a</th>' in shown
    assert "None" not in shown


def test_a_file_called_like_a_number_stays_on_the_left():
    assert Table(("image", "Dice"), (("0012", 0.5),)).numeric == (False, True)


@pytest.mark.parametrize(("value", "text"), [
    (None, "–"), (float("nan"), "–"), (float("inf"), "–"), (0.0, "0.000"), (1.0, "1.000"), (0.9996, "1.000"),
    (-0.25, "-0.250"), (0.00004, "4e-05"), (1234567, "1,234,567"), (True, "yes"), ("a", "a"),
])
def test_show(value, text):
    assert show(value) == text


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 columns"):
        Table(("a", "b"), (("x",),))


def test_another_mime_is_refused():
    with pytest.raises(ValueError, match="text/html"):
        Figure(b"", "text/html", "", "")


def test_images_are_embedded_byte_by_byte():
    figure = Figure(b"\x00light", "image/svg+xml", "alt", "cap", dark=b"\xffdark")
    page = render("t", "", (Section("", (figure,)),))
    found = re.findall(r'<img class="([\w-]+)" src="data:image/svg\+xml;base64,([^"]+)" alt="alt">', page)
    assert [(c, base64.b64decode(d)) for c, d in found] == [("by-day", b"\x00light"), ("by-night", b"\xffdark")]
    alone = render("t", "", (Section("", (replace(figure, dark=None),)),))
    assert alone.count("<img") == 1
    assert 'class="always"' in alone


def test_footnotes_follow_the_table():
    shown = body(render("t", "", (Section("", (Table(("a",), (("x",),), ("first rule", "second rule")),)),)))
    assert re.search(r'</table>\s*</div>\s*<ul class="notes"><li>first rule</li><li>second rule</li></ul>', shown)


def test_fold_holds_any_block():
    fold = Fold("more", (Table(("a",), (("x",),)), Code("k: v", "yaml")))
    wanted = "<details><summary>more</summary>.*<table>.*<details><summary>yaml</summary><pre><code>k: v</code>"
    assert re.search(wanted, body(render("t", "", (Section("", (fold,)),))), re.DOTALL)


def test_name_that_utf8_cannot_hold_does_not_break_the_file():
    page = render("bad \udce4 name", "", ())
    assert "bad ? name" in page
    page.encode("utf-8")


def test_footer_names_the_version_and_what_it_is_not():
    import biomask

    page = render("t", "", ())
    assert f"Made by biomask {biomask.__version__}. Not a medical device" in page
