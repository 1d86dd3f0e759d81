"""The wheel: built, installed into an environment of its own, and used."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_installs_and_runs(tmp_path):
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
                   check=True, capture_output=True, text=True)
    wheel = next(tmp_path.glob("biomask-*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("biomask/py.typed", "biomask/recipes/default.yaml", "biomask/reports/templates/report.html.j2"):
        assert needed in names
    assert not [n for n in names if n.startswith("tests/")]
    # The environment borrows the dependencies of this one: what is tested is the wheel, not the network.
    venv.create(tmp_path / "venv", with_pip=True)
    python = next(p for p in (tmp_path / "venv" / "bin" / "python", tmp_path / "venv" / "Scripts" / "python.exe") if p.exists())
    subprocess.run([str(python), "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    site = next(p for p in (tmp_path / "venv").rglob("site-packages") if p.is_dir())
    dependencies = [p for p in sys.path if p.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(dependencies) + "\n")
    run = subprocess.run([str(python), "-c", "import biomask, biomask.api as a; print(biomask.__file__, len(a.recipes.names()))"],
                         check=True, capture_output=True, text=True, cwd=tmp_path)
    assert str(site) in run.stdout
    command = python.with_name("biomask")
    version = subprocess.run([str(command), "--version"], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert version.stdout.startswith("biomask 0.")
