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

from common import data_root, record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--minutes", default="10")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--work", type=Path, default=Path("runs/isbi2012"))
    options = parser.parse_args()
    split(data_root() / "isbi2012" / "train", options.work)
    model, out, report = options.work / "model", options.work / "out", options.work / "evaluation.json"
    for folder in (model, out):
        shutil.rmtree(folder, ignore_errors=True)
    test = options.work / "test"
    began = time.monotonic()
    biomask("train", options.work / "train", "-o", model, "--minutes", options.minutes, "--seed", options.seed)
    biomask("predict", model, test / "images", "-o", out, "--probabilities")
    minutes = (time.monotonic() - began) / 60
    biomask("evaluate", out, test, "--json", report, "--report", options.work / "evaluation.html")
    evaluation = json.loads(report.read_text(encoding="utf-8"))
    record("isbi2012", {
        "what": "train slices 00-23, test 24-29 of the ISBI 2012 training stack; train and predict by the command line",
        "minutes_train_and_predict": round(minutes, 2),
        "membrane_dice": evaluation["per_class"]["0"]["dice"], "membrane_iou": evaluation["per_class"]["0"]["iou"],
        "cell_dice": evaluation["per_class"]["255"]["dice"], "pixel_error": evaluation["mean"]["pixel_error"],
        "images": evaluation["n_images"],
    })


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
