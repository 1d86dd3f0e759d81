"""Train, predict and evaluate by the command line on real data sets, with the splits of their README.

    python benchmarks/real_data.py dsb2018 --minutes 20
    python benchmarks/real_data.py hela --minutes 20
    python benchmarks/real_data.py drishti --minutes 15
    python benchmarks/real_data.py hippocampus --minutes 20
    python benchmarks/real_data.py mouse --minutes 20
    python benchmarks/real_data.py dsb2018 --images 10 --minutes 5       (a point of the learning curve)
    python benchmarks/real_data.py dsb2018 --recipe mask-rcnn-small --minutes 20 --name dsb2018_mask_rcnn --metrics coco

Every data set gets the same command, `biomask train DATA -o MODEL --minutes N`, but for what its files do not say: dsb2018 holds
grey and colour images (--channels rgb), and drishti_gs averages of experts, taken as at least half of them (biomask's rule).
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from biomask.metrics.ctc import seg
from common import data_root, record

Extra = Callable[[Path, Path], dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A data set ready to be trained on."""

    what: str
    train: Path
    test: Path
    """With images/ and labels beside them."""
    options: Sequence[str] = ()
    extra: Extra = lambda out, test: {}
    """More scores, from the folder of predictions and the test folder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=list(CASES))
    parser.add_argument("--minutes", default="20")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--images", type=int, help="train on so many images only, chosen by the seed (dsb2018)")
    parser.add_argument("--name", help="of the file in results/")
    parser.add_argument("--work", type=Path, help="where everything is written")
    parser.add_argument("--predict", nargs="*", default=[], help="more options of biomask predict")
    parser.add_argument("--metrics", help="more of biomask evaluate")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the recipe, to try something")
    options = parser.parse_args()
    suffix = f"_{options.images}" if options.images else ""
    work = options.work or Path("runs") / f"{options.dataset}{suffix}"
    shutil.rmtree(work, ignore_errors=True)
    case = CASES[options.dataset](work, options)
    model, out, report = work / "model", work / "out", work / "evaluation.json"
    began = time.monotonic()
    changed = [w for s in options.set for w in ("--set", s)]
    biomask("train", case.train, "-o", model, "--recipe", options.recipe, "--minutes", options.minutes, "--seed", options.seed,
            *case.options, *changed)
    trained = time.monotonic()
    biomask("predict", model, case.test / "images", "-o", out, *options.predict)
    predicted = time.monotonic()
    more = ("--metrics", options.metrics) if options.metrics else ()
    biomask("evaluate", out, case.test, "--json", report, "--report", work / "evaluation.html", *more)
    found = json.loads(report.read_text(encoding="utf-8"))
    run = json.loads((model / "run.json").read_text(encoding="utf-8"))
    keys = ("mean", "pooled", "intervals", "per_class")
    others = {"recipe": options.recipe} if options.recipe != "default" else {}
    others |= {"metrics": found["metrics"]} if options.metrics else {}
    scores = {k: {m: v for m, v in found[k].items() if not isinstance(v, dict) or k != "pooled"} for k in keys if k in found}
    record(options.name or f"{options.dataset}{suffix}", {
        "what": case.what, "minutes_training": round((trained - began) / 60, 2),
        "minutes_prediction": round((predicted - trained) / 60, 2), "test_images": found["n_images"], "steps": run["step"],
        **case.extra(out, case.test), "scores": scores, **others})


def dsb2018(work: Path, options: argparse.Namespace) -> Case:
    """Groups of split.csv are never cut; the test part takes no part in training."""
    source = data_root() / "dsb2018"
    rows = list(csv.DictReader((source / "split.csv").open(encoding="utf-8")))
    test = [r["image"] for r in rows if r["part"] == "test"]
    _copy(source, work / "test", test)
    what = "nuclei of DSB 2018: AP over images at IoU 0.5 is scores.mean.ap50, on the test part of split.csv"
    if options.images is None:
        return Case(what, source, work / "test", ("--channels", "rgb"))
    train = [r["image"] for r in rows if r["part"] == "train"]
    chosen = np.random.default_rng(int(options.seed)).permutation(len(train))[: options.images]
    _copy(source, work / "train", [train[int(i)] for i in chosen])
    return Case(f"{what}; trained on {options.images} images, drawn at random", work / "train", work / "test",
                ("--channels", "rgb"))


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    for side in ("images", "labels"):
        (target / side).mkdir(parents=True, exist_ok=True)
        for path in (source / side).iterdir():
            if path.stem in names:
                shutil.copy(path, target / side / path.name)


def hela(work: Path, options: argparse.Namespace) -> Case:
    """Frames 000-024 of the silver truth train, the complete hand-annotated frames test, frames 060-083 are silver."""
    source = data_root() / "ctc" / "DIC-C2DH-HeLa"
    gold, silver = (31, 33, 34, 39, 54), range(60, 84)

    def put(part: str, frames: Sequence[int], truth: str) -> None:
        for side in ("images", "labels"):
            (work / part / side).mkdir(parents=True, exist_ok=True)
        for n in frames:
            shutil.copy(source / "01" / f"t{n:03d}.tif", work / part / "images" / f"t{n:03d}.tif")
            shutil.copy(source / truth / "SEG" / f"man_seg{n:03d}.tif", work / part / "labels" / f"t{n:03d}.tif")

    put("train", range(25), "01_ST")
    put("test", gold, "01_GT")
    put("silver", silver, "01_ST")

    def extra(out: Path, test: Path) -> dict[str, Any]:
        biomask("predict", work / "model", work / "silver" / "images", "-o", work / "out_silver")
        return {"SEG": _seg(out, test), "SEG_silver": _seg(work / "out_silver", work / "silver"),
                "SEG_of_the_paper": 0.7756}

    return Case("DIC HeLa of the Cell Tracking Challenge: SEG on frames 031, 033, 034, 039, 054 of 01_GT (hand-annotated), trained "
                "on frames 000-024 of 01_ST; the paper's figure is of the challenge's own test sequences",
                work / "train", work / "test",
                extra=extra)


def _seg(out: Path, truth: Path) -> float | None:
    names = sorted(p.name for p in (truth / "labels").iterdir())
    return seg([(tifffile.imread(truth / "labels" / n), tifffile.imread(out / "labels" / n)) for n in names])


def drishti(work: Path, options: argparse.Namespace) -> Case:
    """The official split."""
    source = data_root() / "drishti_gs"
    return Case("optic disc and cup of Drishti-GS, multilabel, official split, truth = at least half of four experts",
                source / "train", source / "test")


def hippocampus(work: Path, options: argparse.Namespace) -> Case:
    """Every fifth volume in name order tests."""
    source = data_root() / "hippocampus"
    names = sorted(p.name for p in (source / "images").iterdir())
    for n, name in enumerate(names):
        part = work / ("test" if n % 5 == 4 else "train")
        for side in ("images", "labels"):
            (part / side).mkdir(parents=True, exist_ok=True)
            shutil.copy(source / side / name, part / side / name)
    return Case("hippocampus of the Medical Segmentation Decathlon: Dice of anterior (1) and posterior (2); every fifth volume "
                "tests", work / "train", work / "test")


def mouse(work: Path, options: argparse.Namespace) -> Case:
    """The data set's own split."""
    source = data_root() / "mouse_embryo3d"
    return Case("nuclei of mouse embryos in 3D (BBBC050): AP of objects over two test volumes", source / "train", source / "test")


CASES: dict[str, Callable[[Path, argparse.Namespace], Case]] = {
    "dsb2018": dsb2018, "hela": hela, "drishti": drishti, "hippocampus": hippocampus, "mouse": mouse}


def biomask(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "biomask", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
