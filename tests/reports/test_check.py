"""The contact sheet: complete, in order, bounded in size, safe with any file name."""

import base64
import io
import re
import shlex
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from biomask.checking import Checked, Problem, check
from biomask.checking.probe import Extra
from biomask.cli.options import label_settings, selection_settings
from biomask.data.encoding import Encoding
from biomask.data.facts import ImageFacts, Inspected, LabelFacts
from biomask.data.pairing import Layout, Pair, Truth
from biomask.data.survey import Survey
from biomask.data.understand import Understood
from biomask.errors import LabelsError, ReadError
from biomask.labels import PALETTE, Legend
from biomask.recipe import DataSettings
from biomask.reports import tiles as tiles_module
from biomask.reports.blocks import Finding, Findings, Jump, Section, Sheet, Tag, Tile, Verdict
from biomask.reports.check import check_report
from biomask.reports.html import render, typed

ROOT = Path("/data/my folder")
ATTACK = "<script>alert(\"1 & 'x'\")</script>"
TURNED = "\u202egnp.exe\x07"
TWO = Encoding("classes", "the values are [0, 255]", Legend.of_values([0, 255], {255: f"cell {ATTACK}"}), "values")
OBJECTS = Encoding("instances", "ids", Legend.of_values([0, 1], {1: "object"}), "values")


def jpeg(seed=0, size=(12, 16)):
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)
    return bytes(imagecodecs.jpeg_encode(pixels, level=80))


def facts(counts, form="values", **more):
    objects = sum(v != 0 for v in counts)
    return LabelFacts(form, counts, len(counts), sum(counts.values()), 0, 255, objects, (1, 2, 3), objects, None, (), 0, **more)


def item(name, labels=None, part=None, size=(12, 16), picture=None):
    labels = (facts({0: 150, 255: 42}),) if labels is None else labels
    truth = Truth("mask", (ROOT / f"masks/{Path(name).name}.png",)) if labels else None
    image = ImageFacts(size, "cyx", 1, "uint8", None, (), 0.0, 250.0, 0, 0.0, False)
    extra = Extra(None, None, picture or jpeg(size=size), size)
    return Inspected(Pair(name, ROOT / f"images/{Path(name).name}.png", truth, part=part), image, tuple(labels), {}, extra)


def checked(good, bad=None, problems=(), encoding=TWO, groups=None, reason="", settings=None, verdict=(("images", "all"),)):
    bad = bad or {}
    pairs = [i.pair for i in good] + [Pair(n, ROOT / f"images/{Path(n).name}.png", Truth("mask", (ROOT / "m.png",))) for n in bad]
    layout = Layout(ROOT, "images/ and masks/", tuple(sorted(pairs, key=lambda p: p.name)))
    errors = tuple(e for several in bad.values() for e in several)
    found = Understood(layout, settings or DataSettings(), Survey(tuple(good), bad), encoding, errors, (f"a note {ATTACK}",))
    unread = [Problem("error", "unreadable", (n,), f"{e.where}: {e.what}", e.fix or "") for n, s in bad.items() for e in s]
    return Checked(found, (*unread, *problems), tuple(groups or [i.pair.name for i in good]), reason, tuple(verdict))


class Page(HTMLParser):
    """Every tag met with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.met = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.met.append((tag, dict(attrs)))

    def all(self, tag):
        return [a for t, a in self.met if t == tag]


def text(page):
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<(?:wbr|/?code|/?bdi)>|<[^>]+>", lambda m: "" if m[0][1:4] in (
        "wbr", "cod", "/co", "bdi", "/bd") else " ", page, flags=re.DOTALL)).split())


def sheet_items(page):
    """(heading, HTML of a tile) of the contact sheet, in order."""
    sheet = page[page.index('<section id="sheet"'):]
    sheet = sheet[: sheet.index("</section>")]
    found, heading = [], ""
    for part in re.split(r'(<h3 class="group">.*?</h3>|<li id="image-\d+".*?</li>)', sheet, flags=re.DOTALL):
        if part.startswith("<h3"):
            heading = re.sub("<[^>]+>", "", part)
        elif part.startswith("<li"):
            found.append((heading, part))
    return found


def name_of(tile):
    return unescape(re.search(r'<p class="name"><bdi>(.*?)</bdi>', tile, re.DOTALL)[1].replace("<wbr>", ""))


@pytest.fixture(scope="module")
def full():
    """Unreadable, with an error, with warnings, and clean images; names of all sorts."""
    good = [item("a clean", part="train"), item(f"b {ATTACK}", part="test"), item("train/größe ١", part="train"),
            item(f"d {TURNED}"), item("e" * 200), item("f empty", labels=(facts({0: 192}),)), item("g bare", labels=())]
    bad = {"broken": [ReadError("is empty (0 bytes)", where=ROOT / "images/broken.png", fix="copy it again")]}
    problems = [
        Problem("error", "labels", ("f empty",), f"not annotated? {ATTACK}", "say --unlabelled background or --unlabelled ignore"),
        Problem("warning", "saturated", (f"b {ATTACK}", "train/größe ١"), f"2 images are saturated: b {ATTACK}", "expose less"),
        Problem("warning", "odd values", ("train/größe ١",), "other values", "leave a value out with --ignore VALUE"),
        Problem("note", "few images", (), "7 images only")]
    return checked(good[::-1], bad, problems, groups=["g", "f", "e", "d", "b", "b", "a"], reason="by folder")


@pytest.fixture(scope="module")
def page(full):
    return check_report(full)


def test_page_needs_nothing_but_itself(page):
    met = Page(page).met
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in met}
    for tag, attributes in met:
        assert not [a for a in attributes if a.startswith("on") or a in ("srcset", "data", "action")], (tag, attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert attributes.get("href", "#").startswith("#")
    assert "@import" not in page
    assert "url(" not in page


def test_names_are_escaped_and_shown(page):
    assert "<script" not in page
    assert name_of(sheet_items(page)[2][1]) == f"b {ATTACK}"
    assert page.count("&lt;script&gt;") >= 8  # problem, tag, tile, tooltip, class, note, files …


def test_names_cannot_turn_the_text_around_them(page):
    assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069]", page)
    assert "d \N{REPLACEMENT CHARACTER}gnp.exe\N{REPLACEMENT CHARACTER}" in page
    assert page.count("<bdi>") == page.count("</bdi>") >= 8


def test_long_names_keep_their_ends_and_are_whole_under_the_pointer(page):
    tile = next(t for _, t in sheet_items(page) if "eeee" in t)
    assert len(name_of(tile)) == tiles_module.LONGEST_NAME
    assert "…" in name_of(tile)
    assert "e" * 200 in tile


def test_suspicious_come_first(page):
    order = [(heading, name_of(tile)) for heading, tile in sheet_items(page)]
    assert order == [
        ("Could not be used · 1", "broken"), ("With errors · 1", "f empty"), ("With warnings · 2", f"b {ATTACK}"),
        ("With warnings · 2", "train/größe ١"), ("Nothing wrong was found · 4", "a clean"),
        ("Nothing wrong was found · 4", "d \N{REPLACEMENT CHARACTER}gnp.exe\N{REPLACEMENT CHARACTER}"),
        ("Nothing wrong was found · 4", order[6][1]), ("Nothing wrong was found · 4", "g bare")]


def test_a_tile_says_what_is_known(page):
    tiles = {name_of(t): text(t) for _, t in sheet_items(page)}
    assert tiles["broken"] == "✕ is empty (0 bytes) broken ✕ error: unreadable"
    assert tiles["f empty"] == "f empty empty mask ✕ error: labels"
    assert tiles["train/größe ١"] == f"train/größe ١ cell {ATTACK} 22 % train group b ▲ warning: saturated ▲ warning: odd values"
    assert tiles["a clean"] == f"a clean cell {ATTACK} 22 % train"
    assert tiles["g bare"] == "g bare no labels"


def test_tags_tell_all_of_it_under_the_pointer_and_lead_to_the_problem(page):
    tags = [a for a in Page(page).all("a") if a.get("class", "").startswith("tag")]
    noted = [(a["class"], a["title"]) for a in tags]
    assert ("tag warning", "other values → leave a value out with --ignore VALUE") in noted
    assert ("tag error", f"{ROOT}/images/broken.png: is empty (0 bytes) → copy it again") in noted


def test_every_way_leads_somewhere(page):
    met = Page(page).met
    ids = [a["id"] for _, a in met if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for t, a in met if t == "a"}
    assert wanted <= set(ids)
    assert {"problems", "sheet", "files", "labels", "groups"} <= wanted
    assert sum(a.startswith("image-") for a in ids) == 8


def test_pictures_decode_have_words_and_their_own_size(page):
    sheet = [Page(t).all("img") for _, t in sheet_items(page)]
    assert [len(i) for i in sheet] == [0, 1, 1, 1, 1, 1, 1, 1]
    for image in (i[0] for i in sheet if i):
        opened = Pillow.open(io.BytesIO(base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,"), validate=True)))
        assert (image["width"], image["height"]) == (str(opened.width), str(opened.height)) == ("16", "12")
        assert image["alt"].endswith(("with the outlines of its labels", "without labels"))
        assert (image["loading"], image["decoding"], image["class"]) == ("lazy", "async", "few")


def test_colour_is_never_alone(page):
    for level, sign in (("error", "✕"), ("warning", "▲"), ("note", "i")):
        for tag in re.findall(rf'<(?:a|span) class="tag {level}".*?</(?:a|h3)>', page, re.DOTALL):
            assert sign in tag
            assert level in text(tag)


def test_problems_come_by_level_with_what_to_type_as_code(page):
    findings = re.findall(r'<article class="finding (\w+).*?</article>', page, re.DOTALL)
    assert findings == ["error", "error", "warning", "warning", "note"]
    assert "<code>--unlabelled background</code> or <code>--unlabelled ignore</code>" in page
    assert "with <code>--ignore VALUE</code>" in page
    assert "Unreadable images/broken.png: is empty (0 bytes) To do copy it again" in text(page)  # as seen from the folder
    saturated = re.search(r'<article[^>]*id="problem-3".*?</article>', page, re.DOTALL)[0]
    assert [a["href"] for a in Page(saturated).all("a")] == ["#image-3", "#image-4"]


def test_headline_and_verdict(page):
    assert "✕ Not usable yet: 2 errors and 2 warnings" in text(page)
    assert "<code>biomask check &#39;/data/my folder&#39;</code>" in page  # quoted, since it holds a space
    assert "images 8 1 could not be used with labels 7 1 without errors 2 to be mended before training warnings 2" in text(page)


def test_page_is_the_same_each_time(full, page):
    assert check_report(full) == page


def test_verdicts():
    clean = checked([item("a"), item("b")])
    assert "✓ Usable: nothing wrong was found Next: biomask train '/data/my folder' -o MODEL" in text(check_report(clean))
    assert 'id="problems"' not in check_report(clean)
    warned = checked([item("a")], problems=[Problem("warning", "specks", ("a",), "specks", "")])
    assert "▲ Usable, with 1 warning Look at what is listed below, then: biomask train" in text(check_report(warned))
    noted = text(check_report(checked([item("a")], problems=[Problem("note", "few images", (), "few", "")])))
    assert "✓ Usable: nothing wrong was found" in noted
    assert "Notes i note Few images few" in noted


def test_the_command_has_the_flags_of_the_check():
    settings = DataSettings(kind="classes", ignore=9, legend={0: "background", 255: "a cell"}, values=(0, 255), mask_scale=4.5,
                            unlabelled="ignore", groups=r"(.*)_\d+", axes="ZYX", channels=("DAPI", "1"), z="max", time=0)
    shown = re.search(r"<code>(biomask train.*?)</code>", check_report(checked([item("a")], settings=settings)))[1]
    words = shlex.split(unescape(shown))
    assert words[:3] == ["biomask", "train", str(ROOT)]
    assert words[-2:] == ["-o", "MODEL"]
    flags = dict(zip(words[3:-2:2], words[4:-2:2], strict=True))
    read = label_settings(flags["--labels"], int(flags["--ignore"]), flags["--legend"], flags["--values"],
                          float(flags["--mask-scale"]), flags["--unlabelled"])
    read |= selection_settings(flags["--axes"], flags["--channels"], flags["--z"], flags["--time"])
    assert DataSettings(**read, groups=flags["--groups"]) == settings


def test_no_labels_at_all():
    shown = text(check_report(checked([item("a", labels=()), item("b", labels=())], encoding=None)))
    assert "Usable for prediction, not for training: no image has labels" in shown
    assert "biomask predict MODEL '/data/my folder' -o OUT" in shown
    assert shown.count("no labels") == 2
    assert "None" not in shown


@pytest.mark.parametrize("count", [0, 1, 30])
def test_no_good_image(count):
    bad = {f"{n}": [ReadError("is empty", where=ROOT / f"images/{n}.png", fix=f"fix {n}"), LabelsError("is blurred")]
           for n in range(count)}
    page = check_report(checked([], bad, encoding=None))
    assert len(sheet_items(page)) == count
    assert ("There is no image to show." in page) == (count == 0)
    assert page.count("is empty; is blurred") == count
    assert ("Not usable yet" in page) == (count > 0)


def test_many_problems_of_a_kind_are_folded_but_all_there():
    problems = [Problem("warning", "shifted mask", (f"{n:03d}",), f"{n:03d}: it would fit", "move it back") for n in range(40)]
    page = check_report(checked([item(f"{n:03d}") for n in range(40)], problems=problems))
    assert page.count("<article") == 1
    assert "<summary>28 more like these</summary>" in page
    assert all(f"{n:03d}: it would fit" in page for n in range(40))
    assert "and 33 more" in page


def test_nothing_is_said_to_be_right_where_a_problem_names_no_image():
    good = [item("a"), item("b")]
    own = Problem("warning", "specks", ("a",), "specks", "")
    assert "Nothing wrong was found · 1" in check_report(checked(good, problems=[own]))
    page = check_report(checked(good, problems=[Problem("error", "labels", (), "1 of 2 masks is empty", ""), own]))
    assert "The others · 1" in page
    assert "Nothing wrong" not in page


def test_groups_of_several_images_are_listed():
    good = [item("a", part="train"), item("b", part="test"), item("c")]
    page = check_report(checked(good, groups=["a", "a", "c"], reason="as pixels say"))
    assert '<th scope="row">a</th><td class="number">2</td><td>test, train</td><td>a, b</td>' in page
    assert "2 groups of 3 images: as pixels say" in page
    assert 'id="groups"' not in check_report(checked([item("a"), item("b")], reason="by folder"))


def test_of_5000_images_the_page_stays_below_40_mb():
    pictures = [jpeg(n, (160, 160)) for n in range(7)]  # noise: the worst that JPEG can meet
    assert sum(map(len, pictures)) * 5000 / 7 > 60e6
    good = [item("x" * 180 + f"_{n:05d}", picture=pictures[n % 7], size=(160, 160)) for n in range(5000)]
    names = tuple(i.pair.name for i in good[::2])
    page = check_report(checked(good, problems=[Problem("warning", "saturated", names, ", ".join(names), "expose less " * 50)]))
    assert len(page.encode()) < 40e6
    sheet = sheet_items(page)
    assert len(sheet) == 5000
    assert "--json lists every file" in text(page)
    image = Page(sheet[0][1]).all("img")[0]
    data = base64.b64decode(image["src"].split(",")[1])
    assert Pillow.open(io.BytesIO(data)).size == (int(image["width"]), int(image["height"]))
    assert max(Pillow.open(io.BytesIO(data)).size) < 160


def test_small_pages_keep_the_pictures_as_they_are():
    one = item("a")
    assert base64.b64encode(one.extra.picture).decode() in check_report(checked([one]))


def test_of_too_many_images_all_suspicious_ones_are_shown(monkeypatch):
    monkeypatch.setattr(tiles_module, "MOST_TILES", 20)
    good = [item(f"{n:03d}") for n in range(100)]
    odd = tuple(f"{n:03d}" for n in range(90, 100))
    page = check_report(checked(good, problems=[Problem("warning", "specks", odd, "specks", "")]))
    shown = [name_of(t) for _, t in sheet_items(page)]
    assert tuple(shown[:10]) == odd
    assert len(set(shown)) == 20
    assert shown[10] == "000"
    assert "Nothing wrong was found · 10 of 90" in page
    assert "The other 80 are not shown" in page


def test_one_legend_for_all_only_where_all_pictures_agree():
    encoding = replace(TWO, legend=Legend.of_values([0, 1, 2], {1: "anterior", 2: "posterior"}))
    both, second = item("a", (facts({0: 9, 1: 2, 2: 2}),)), item("b", (facts({0: 9, 2: 2}),))
    assert "Outlines: " in text(check_report(checked([both], encoding=encoding)))
    page = check_report(checked([both, second], encoding=encoding))
    assert "Outlines have the colours that stand below each picture." in page
    orange = "rgb({}, {}, {})".format(*PALETTE[0])
    assert [t.count(orange) for _, t in sheet_items(page)] == [1, 1]


ODD = '<script>alert("1 & 2")</script>'
SAFE = "&lt;script&gt;alert(&#34;1 &amp; 2&#34;)&lt;/script&gt;"


@pytest.mark.parametrize(("block", "times"), [
    (Verdict("good", ODD, ODD, ODD), 3),
    (Sheet((Tile(ODD, b"x", (1, 1), ODD, (ODD,), ((ODD, (1, 2, 3)),), (Tag("error", ODD, ODD, "p"),), note=ODD),), ODD, ODD), 9),
    (Sheet((Tile(ODD, None, reason=ODD),)), 2),
    (Findings((Finding("note", ODD, (ODD,), ODD, (Tile(ODD, b"x", note=ODD, anchor="a"),), 1, "b"),)), 5),
    (Jump(((ODD, "a"),)), 1),
])
def test_every_text_of_the_blocks_is_escaped_and_shown(block, times):
    page = render("t", "", (Section("", (block,)),))
    assert "<script" not in page
    assert page.count(SAFE.replace(")&lt;/", ")&lt;/<wbr>")) + page.count(SAFE) == times


@pytest.mark.parametrize(("fix", "codes"), [
    ("--channels grey turns colour into grey, --channels rgb repeats grey three times", ["--channels grey", "--channels rgb"]),
    ('name its colours: --legend "#000000=background,#ff0000=tumour"', ['--legend "#000000=background,#ff0000=tumour"']),
    ("or say --values 0,255: each value then stands for the nearest", ["--values 0,255"]),
    ("name them in --legend, or leave one out with --ignore VALUE", ["--legend", "--ignore VALUE"]),
    ("--channels with names or numbers of these", ["--channels"]),
    ("they are never split (--groups none: they are)", ["--groups none"]),
    ("what 'biomask train' wrote, or `bfconvert -series 0 IN OUT.tif`", ["biomask train", "bfconvert -series 0 IN OUT.tif"]),
    ("near-by, well--known and don't", []),
    ("", []),
])
def test_what_can_be_typed_is_told_from_prose(fix, codes):
    pieces = typed(fix)
    assert [p for p, code in pieces if code] == codes
    assert "".join(p for p, _ in pieces) == fix.replace("`", "").replace("'biomask train'", "biomask train")


def test_a_real_folder(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "d" / folder).mkdir(parents=True)
    for n in range(5):
        mask = np.zeros((40, 60), np.uint8)
        mask[10:25, 5 + 6 * n : 30 + 6 * n] = 255
        image = (mask // 2 + rng.integers(0, 90, mask.shape)).astype(np.uint8)
        Pillow.fromarray(image).save(tmp_path / f"d/images/cell {n} <b>.png")
        Pillow.fromarray(mask).save(tmp_path / f"d/masks/cell {n} <b>.png")
    (tmp_path / "d/images/cell 3 <b>.png").write_bytes(b"")
    page = check_report(check(tmp_path / "d"))
    assert [name_of(t) for _, t in sheet_items(page)] == [f"cell {n} <b>" for n in (3, 0, 1, 2, 4)]
    assert "<b>" not in page.replace("<bdi>", "").replace("<body>", "")
    assert "background 0 84 % 4" in text(page)
