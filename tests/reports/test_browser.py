"""Pages in a real browser: nothing is asked for or complained of, and they can be read on paper, in the dark and on a phone."""

import re
import shutil
from itertools import pairwise

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
KINDS = ("training", "evaluation", "prediction", "demo")

#: What a screen reader would meet, and how far the page reaches to the right.
LOOK = """() => ({
    headings: [...document.querySelectorAll("h1, h2, h3, h4")].map(h => Number(h.tagName[1])),
    unnamed: [...document.images].filter(i => !i.alt).length,
    broken: [...document.images].filter(i => i.offsetParent !== null && i.complete && !i.naturalWidth).length,
    shown: [...document.images].filter(i => i.offsetParent !== null).length,
    lost: [...document.querySelectorAll('a[href^="#"]')].map(a => a.getAttribute("href").slice(1))
        .filter(id => !document.getElementById(id)),
    scopes: [...document.querySelectorAll("th")].filter(t => !t.scope).length,
    width: document.documentElement.scrollWidth,
    page: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
})"""


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with api.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory, pages):
    folder = tmp_path_factory.mktemp("pages")
    for kind, page in pages.items():
        (folder / f"{kind}.html").write_text(page, encoding="utf-8")
    return {kind: folder / f"{kind}.html" for kind in pages}


class Seen:
    """A page, with all that it said and asked for."""

    def __init__(self, browser, file, **context):
        self.said, self.asked = [], []
        self.page = browser.new_context(**context).new_page()
        self.page.on("console", lambda m: self.said.append(m.text))
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(file.as_uri())
        self.look = self.page.evaluate(LOOK)


def luminance(colour):
    """Relative luminance 0..1 of "rgb(r, g, b)" (WCAG 2.2)."""
    channels = [int(n) / 255 for n in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_asked_for_and_nothing_said(browser, files, kind):
    seen = Seen(browser, files[kind])
    own = [url for url in seen.asked if not url.startswith("data:image/")]
    assert own == [files[kind].as_uri()]
    assert seen.said == []
    assert seen.look["shown"] > 0
    assert seen.look["broken"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_heard(browser, files, kind):
    look = Seen(browser, files[kind]).look
    headings = look["headings"]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert (look["unnamed"], look["scopes"], look["lost"]) == (0, 0, [])


@pytest.mark.parametrize("kind", KINDS)
def test_it_fits_a_phone(browser, files, kind):
    assert Seen(browser, files[kind], viewport={"width": 360, "height": 700}).look["width"] <= 360


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_read_in_the_light_and_in_the_dark(browser, files, kind):
    looks = {scheme: Seen(browser, files[kind], color_scheme=scheme).look for scheme in ("light", "dark")}
    assert luminance(looks["light"]["page"]) > 0.9
    assert luminance(looks["dark"]["page"]) < 0.05
    for look in looks.values():
        low, high = sorted((luminance(look["page"]), luminance(look["ink"])))
        assert (high + 0.05) / (low + 0.05) >= 7  # WCAG 2.2, level AAA
    assert looks["light"]["shown"] == looks["dark"]["shown"]  # each chart once: the one for this page


def test_paper_is_white_and_has_what_is_folded(browser, files):
    seen = Seen(browser, files["training"], color_scheme="dark")
    seen.page.emulate_media(media="print")
    found = seen.page.evaluate("""() => ({page: getComputedStyle(document.body).backgroundColor,
        code: document.querySelector("details pre").getBoundingClientRect().height,
        night: [...document.querySelectorAll(".by-night")].filter(i => i.offsetParent !== null).length})""")
    assert luminance(found["page"]) > 0.9
    assert found["code"] > 0
    assert found["night"] == 0


def test_a_policy_keeps_strangers_out(browser, files, tmp_path):
    """What a page may not do it is kept from: the policy is not only written there."""
    bad = ('<script>document.title = "run"</script><img src="https://example.com/a.png" alt="a">'
           '<style>body { background: url(https://example.com/b.png) }</style>'
           '<iframe src="https://example.com" title="c"></iframe>')
    page = files["demo"].read_text(encoding="utf-8")
    (tmp_path / "bad.html").write_text(page.replace("</body>", bad + "</body>"), encoding="utf-8")
    seen = Seen(browser, tmp_path / "bad.html")
    assert sum("Content Security Policy" in text for text in seen.said) >= 3
    assert seen.page.title() == "Demo report"
