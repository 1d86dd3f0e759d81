"""What the README tells people to type."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from biomask.data.synthetic import phase_contrast_cells
from biomask.io.files import write_picture

README = Path(__file__).parents[1] / "README.md"
PAGES = sorted((README.parent / "docs").glob("*.md"))


def blocks(language: str, page: Path = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """DATA, IMAGES and TRUTH as the README names them."""
    for i in range(4):
        image, cells = phase_contrast_cells(1, i, (64, 64))
        for part in ("DATA/images", "IMAGES"):
            write_picture(tmp_path / part / f"{i}.png", image)
        for part in ("DATA/masks", "TRUTH"):
            write_picture(tmp_path / part / f"{i}.png", np.where(cells > 0, 255, 0).astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(page: Path = README) -> list[list[str]]:
    lines = [line.split("  #")[0] for block in blocks("", page) for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("biomask ")]


@pytest.mark.slow
def test_the_commands_work_in_the_order_given(folder):
    assert [c[1] for c in commands()] == ["check", "train", "predict", "evaluate"]
    run_all(commands())
    assert (folder / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_commands_of_the_pages_work(folder, page):
    assert commands(page)
    run_all(commands(page))


def run_all(given: list[list[str]]) -> None:
    for command in given:
        short = ["0.02" if before == "--minutes" else word for before, word in zip(["", *command], command, strict=False)]
        if "train" in short and "--minutes" not in short:  # until the score is flat: too long for a test
            short = [*short, "--minutes", "0.02"]
        run = subprocess.run([sys.executable, "-m", "biomask", *short[1:]], capture_output=True, text=True, check=False,
                             env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert run.returncode == 0, (command, run.stdout, run.stderr)


@pytest.mark.slow
def test_the_python_works(folder):
    (code,) = blocks("python")
    assert "minutes=30" in code
    run = subprocess.run([sys.executable, "-c", code.replace("minutes=30", "steps=2")], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert 0 <= float(run.stdout) <= 1


def test_what_it_points_to_is_there():
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"`(tests/[^`]+)`", text):
        assert (README.parent / target).exists(), target
