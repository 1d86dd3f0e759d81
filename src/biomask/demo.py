"""`biomask demo`: synthetic cells, and the whole way from labelled images to a report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask import api
from biomask.data.layouts import find_layout
from biomask.data.synthetic import phase_contrast_cells
from biomask.device import choose_device
from biomask.errors import UsageError
from biomask.evaluation.evaluate import Judged, judge
from biomask.io import read_image, read_label_values
from biomask.io.files import write_picture, write_text
from biomask.metrics import confusion_matrix, mean, overlap
from biomask.progress import Progress, Silent

TRAINING_IMAGES, TEST_IMAGES = 24, 8
SIZE = (256, 256)

#: Share of the training time that the one-layer network gets: it has converged long before.
BASELINE_SHARE = 0.15

#: A U-Net small enough for minutes on two cores.
SETTINGS = ("network.options.width=16", "network.options.depth=3", "training.lr=3e-3", "training.patch=[128, 128]",
            "training.batch=8", "data.legend={0: background, 255: cell}")

MARKER = "made by biomask demo"


@dataclass(frozen=True)
class DemoResult:
    """Where the report is, and what is in it."""

    report: Path
    evaluation: Mapping[str, Any]
    comparison: Mapping[str, float]
    """Method: mean Dice of the cells on the held-out images."""


def run(out: str | Path, *, minutes: float = 1.5, seed: int = 0, device: str = "auto",
        progress: Progress | None = None) -> DemoResult:
    """Make data, train, predict, evaluate and report into `out`; an earlier demo there is replaced.

    Raises UsageError where `out` holds something else.
    """
    choose_device(device)  # before the drawing, not after it
    if not 0 < minutes < inf:
        raise UsageError(f"--minutes {minutes:g} is no time", fix="e.g. --minutes 1.5")
    out, progress, began = Path(out), progress or Silent(), time.perf_counter()
    _claim(out)
    make_data(out / "data", seed, progress)
    train_folder, test_folder = out / "data" / "train", out / "data" / "test"
    progress.say(f"data: {TRAINING_IMAGES} images to train on, {TEST_IMAGES} held out, in {out / 'data'}")
    comparison = {"Otsu's threshold": otsu(train_folder, test_folder)}
    progress.say("\none-layer network (biomask train --recipe one-layer)")
    baseline = _train_and_score(out / "one-layer", out / "data", api.TrainOptions(
        recipe="one-layer", minutes=minutes * BASELINE_SHARE, seed=seed, device=device, overwrite=True), progress)
    comparison["one-layer network"] = baseline.scores["mean"]["dice"] or 0.0
    progress.say("\nU-Net (biomask train)")
    judged = _train_and_score(out, out / "data", api.TrainOptions(
        settings=SETTINGS, minutes=minutes * (1 - BASELINE_SHARE), seed=seed, device=device, overwrite=True), progress)
    evaluation = judged.scores
    comparison["U-Net (this model)"] = evaluation["mean"]["dice"] or 0.0
    write_text(out / "evaluation.json", json.dumps({**evaluation, "comparison": comparison}, indent=2, ensure_ascii=False))
    from biomask.reports.write import write_demo_report

    report = write_demo_report(out, judged, comparison, seconds=time.perf_counter() - began)
    return DemoResult(report, evaluation, comparison)


def make_data(folder: Path, seed: int, progress: Progress) -> None:
    """Write train/ and test/, each with images/ and masks/ (0 = background, 255 = cell) as PNG."""
    with progress.bar("drawing cells") as bar:
        for index in range(TRAINING_IMAGES + TEST_IMAGES):
            image, cells = phase_contrast_cells(seed, index, SIZE)
            part = folder / ("train" if index < TRAINING_IMAGES else "test")
            write_picture(part / "images" / f"cells_{index:02d}.png", image)
            write_picture(part / "masks" / f"cells_{index:02d}.png", np.where(cells > 0, 255, 0).astype(np.uint8))
            bar.update((index + 1) / (TRAINING_IMAGES + TEST_IMAGES))


def otsu(train_folder: Path, test_folder: Path) -> float:
    """Mean Dice of Otsu's threshold an image on the test images; whether cells are the darker or the brighter side is
    decided on the training images."""
    darker = _otsu_dice(train_folder, darker=True) >= _otsu_dice(train_folder, darker=False)
    return _otsu_dice(test_folder, darker=darker)


def _otsu_dice(folder: Path, *, darker: bool) -> float:
    from skimage.filters import threshold_otsu

    scores = []
    for pair in find_layout(folder).labelled:
        if pair.truth is None:
            continue
        grey = read_image(pair.image).array[0]
        cells: npt.NDArray[np.bool_] = (grey <= threshold_otsu(grey)) == darker
        truth = read_label_values(pair.truth.files[0]).array[0] > 0
        scores.append(overlap(confusion_matrix(truth, cells, 2)).dice[1])
    return mean(scores) or 0.0


def _train_and_score(out: Path, data: Path, options: api.TrainOptions, progress: Progress) -> Judged:
    api.train(data / "train", out / "model", options, progress=progress)
    api.predict(out / "model", data / "test" / "images", out / "predictions",
                api.PredictOptions(device=options.device, overwrite=True), progress=progress)
    return judge(out / "predictions", data / "test", progress=progress)


def _claim(out: Path) -> None:
    """Take a new folder, or one that an earlier demo made; never another."""
    marker = out / ".biomask-demo"
    if out.exists() and not marker.is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and was not made by biomask demo", fix="give another folder with -o")
    write_text(marker, MARKER + "\n")
