"""The generated pages of the reference say what the program says, and the site builds."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "mkdocs.yml").is_file(), reason="needs the repository")


def generator():
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["command-line.md", "python.md"])
def test_the_page_is_up_to_date(page):
    module = generator()
    assert page in module.PAGES
    assert (module.REFERENCE / page).read_text(encoding="utf-8") == module.PAGES[page](), "run: python docs/generate.py"


def test_every_command_and_option_is_in_the_page():
    """By another way: what --help lists."""
    text = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    from biomask.cli.app import app

    for command in app.registered_commands:
        assert f"## biomask {command.name}\n" in text, command.name
    for word in ("--minutes", "--memory", "--mask-scale", "--until-flat", "--no-objects"):
        assert f"`{word}" in text or f"/ {word}" in text, word


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    run = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)], cwd=ROOT,
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "how-to" / "your-data.html").is_file()
    pages = list(tmp_path.rglob("*.html"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text, f"{page}: loads something from elsewhere"
        assert not any('href="http' in line and "stylesheet" in line for line in text.splitlines()), page
    assert not list(tmp_path.rglob("*.py"))
