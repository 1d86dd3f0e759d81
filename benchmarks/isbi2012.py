"""ISBI 2012: train on slices 00-23, test on 24-29, with the command line and a stop-watch.

    python benchmarks/isbi2012.py --minutes 10
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from biomask.metrics.rand import TENTHS, isbi_rand_f, rand_after_thinning, regions
from common import data_root, record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--minutes", default="10")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--name", default="isbi2012", help="of the file in results/")
    parser.add_argument("--train", nargs="*", default=[], help="more options of biomask train, e.g. set=training.lr=1e-4")
    parser.add_argument("--work", type=Path, default=Path("runs/isbi2012"))
    options = parser.parse_args()
    split(data_root() / "isbi2012" / "train", options.work)
    model, out, report = options.work / "model", options.work / "out", options.work / "evaluation.json"
    for folder in (model, out):
        shutil.rmtree(folder, ignore_errors=True)
    test = options.work / "test"
    began = time.monotonic()
    biomask("train", options.work / "train", "-o", model, "--minutes", options.minutes, "--seed", options.seed,
            *(w for o in options.train for w in ("--" + o.partition("=")[0], o.partition("=")[2])))
    biomask("predict", model, test / "images", "-o", out, "--probabilities")
    minutes = (time.monotonic() - began) / 60
    biomask("evaluate", out, test, "--json", report, "--report", options.work / "evaluation.html")
    evaluation = json.loads(report.read_text(encoding="utf-8"))
    rand, raw, best = rand_of(out / "probabilities", test / "masks")
    record(options.name, {
        "what": "train slices 00-23, test 24-29 of the ISBI 2012 training stack; train and predict by the command line",
        "minutes_train_and_predict": round(minutes, 2),
        "membrane_dice": evaluation["per_class"]["0"]["dice"], "membrane_iou": evaluation["per_class"]["0"]["iou"],
        "cell_dice": evaluation["per_class"]["255"]["dice"], "pixel_error": evaluation["mean"]["pixel_error"],
        "rand_f_after_thinning": rand, "rand_f_best_threshold": best, "rand_f_without_thinning": raw,
        "images": evaluation["n_images"], "train_options": options.train,
    })


def rand_of(probabilities: Path, masks: Path) -> tuple[float | None, float | None, float]:
    """(foreground-restricted Rand F after thinning, the same without, the threshold of the former); spec 7.2."""
    names = sorted(p.stem for p in masks.iterdir())
    truth = regions(np.stack([np.asarray(Image.open(masks / f"{n}.png")) > 0 for n in names]))
    cells = np.stack([tifffile.imread(probabilities / f"{n}.tif")[1] for n in names])
    best, scores = rand_after_thinning(truth, cells)
    raw = max(s for t in TENTHS if (s := isbi_rand_f(truth, regions(cells > t))) is not None)
    return best, raw, max(scores, key=lambda t: scores[t] or 0.0)


def split(source: Path, work: Path) -> None:
    """train/ and test/ with images/ and masks/, copied from the data's own folder."""
    for path in sorted((source / "images").iterdir()):
        part = work / ("train" if int(path.stem) < 24 else "test")
        for kind in ("images", "masks"):
            (part / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(source / kind / path.name, part / kind / path.name)


def biomask(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "biomask", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
