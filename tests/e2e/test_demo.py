"""`biomask demo`, as a newcomer runs it, with less training."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_demo_shows_a_task_that_thresholds_do_not_solve(tmp_path):
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "biomask", "demo", "-o", str(out), "--minutes", "1.2"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["mean"]["dice"] >= 0.90
    assert evaluation["n_images"] == 8
    assert evaluation["comparison"]["Otsu's threshold"] <= 0.75
    assert evaluation["comparison"]["one-layer network"] <= 0.85
    report = (out / "report.html").read_text()
    assert "data:image/png;base64" in report
    assert {p.name for p in (out / "model").iterdir()} == {
        "model.safetensors", "run.json", "log.csv", "report.html", "model_card.md", "resume"}
    assert (out / "predictions" / "report.html").is_file()
    for line in ("Otsu", "one-layer", "U-Net", "report.html"):
        assert line in run.stdout


def test_a_folder_of_others_is_not_taken(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    command = [sys.executable, "-m", "biomask", "demo", "-o", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "was not made by biomask demo" in run.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]
