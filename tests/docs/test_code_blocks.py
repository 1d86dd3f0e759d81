"""Every block of commands and of Python in the README and in docs/ is run, page by page, in the order given.

How a block is written:

- blocks of Python are marked `python`; those of one page share their names, as if pasted into one notebook;
- blocks of commands are marked `bash`, or by nothing; each line begins with `biomask`; a comment follows two spaces and `#`;
- a block that cannot be run here has `<!-- not run: reason -->` in the line before it;
- anything else (`text`, `csv`, `json`, `yaml`, `pycon`) is not run. Examples in docstrings are run where they stand.

Where it is run: in a folder of its own that holds DATA (images/ and masks/ of four synthetic images), IMAGES and TRUTH (the same
ones), MODEL, unless the page trains it, OUT, unless the page predicts it, and outlines of other programs in ROIS, GEOJSON and
SHAPES.
Trainings are those of the page, but cut down to three steps of a narrow network (conftest.py).
"""

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from biomask.cli import main
from biomask.recipe import Recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if (ROOT / "docs").is_dir() else []

pytestmark = pytest.mark.skipif(not PAGES, reason="needs the repository")

SHELL, PYTHON = ("", "bash", "console", "sh", "shell"), "python"

#: Languages of blocks that are only looked at.
SHOWN = ("text", "csv", "json", "yaml", "pycon")

#: No more blocks than this are excused.
MOST_EXCUSED = 6


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    excuse: str | None
    """Why it is not run."""

    @property
    def commands(self) -> list[str]:
        """Lines of a block of commands, comments and line breaks taken out."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [line for line in (re.split(r"\s+# ", ln)[0].strip() for ln in lines) if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    found = []
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^( *)```([^\n`]*)\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        excuse = re.fullmatch(r"\s*<!-- not run: (.+) -->", before)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match[2].strip(), match[3], excuse[1].strip() if excuse else None))
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def makes(page: Path, what: str) -> bool:
    """Whether a page makes MODEL or OUT itself."""
    text = "\n".join(b.text for b in blocks(page) if b.excuse is None)
    return re.search(rf"-o {what}\b|api\.train\([^)]*\"{what}\"|api\.predict\([^)]*\"{what}\"", text) is not None


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if any(b.language in (*SHELL, PYTHON) for b in blocks(p))], ids=name_of)
def test_the_blocks_of_a_page_run(folder, page, capsys):
    for what in ("MODEL", "OUT"):
        if makes(page, what):
            shutil.rmtree(folder / what)
    names: dict[str, object] = {"__name__": "__page__"}
    for block in blocks(page):
        if block.excuse is not None or block.language in SHOWN:
            continue
        if block.language == PYTHON:
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)  # noqa: S102  our own pages
            continue
        for command in block.commands:
            code = main(shlex.split(command)[1:])
            assert code == 0, f"{name_of(page)}:{block.line}: {command}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_block_is_run_shown_or_excused(page):
    for block in blocks(page):
        place = f"{name_of(page)}:{block.line}"
        assert block.language in (*SHELL, PYTHON, *SHOWN), f"{place}: what is a block of {block.language!r}?"
        if block.language in SHELL and block.excuse is None:
            assert block.commands, f"{place}: an empty block"
            strange = [c for c in block.commands if not c.startswith("biomask ")]
            assert not strange, f"{place}: {strange} is no biomask command: write <!-- not run: reason --> before the block"
        if block.language == PYTHON and block.excuse is None:
            compile(block.text, place, "exec")


def test_few_blocks_are_excused():
    excused = [f"{name_of(b.page)}:{b.line} {b.excuse}" for page in PAGES for b in blocks(page) if b.excuse is not None]
    assert len(excused) <= MOST_EXCUSED, excused


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_it_points_to_is_there(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    for target in re.findall(r"`((?:tests|benchmarks|docs)/[^` ]+)`|`python ((?:benchmarks|docs)/\S+\.py)", text):
        assert (ROOT / (target[0] or target[1])).exists(), target


def test_the_readme_trains_predicts_and_evaluates():
    assert [c.split()[1] for b in blocks(ROOT / "README.md") if b.language == "" and b.excuse is None for c in b.commands] == [
        "check", "train", "predict", "evaluate"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_shown_is_what_it_says_to_be(page):
    for block in blocks(page):
        if block.language == "json":
            json.loads(block.text)
        if block.language == "yaml":
            Recipe.model_validate(yaml.safe_load(block.text))


def test_blocks_are_found_with_their_excuses(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# T\n\n<!-- not run: no network -->\n```bash\nbiomask a\n```\n\n1. x\n\n"
                    "   ```\n   biomask b \\\n     --c  # why\n   ```\n\n```python\nx = 1\n```\n", encoding="utf-8")
    found = blocks(page)
    assert [(b.language, b.line, b.excuse) for b in found] == [("bash", 4, "no network"), ("", 10, None), ("python", 15, None)]
    assert found[1].commands == ["biomask b --c"]
