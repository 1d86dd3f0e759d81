"""With and without the border weights of the U-Net paper, everything else alike: merges, splits, SEG, AP of three trainings each.

    python benchmarks/border_weights.py                  (about 25 minutes on two cores; goes on where it was stopped)
    python benchmarks/border_weights.py hela --steps 10 --seeds 0

`biomask compare` trains two recipes that differ in `instances.w0` alone, 10 and 0; budgets are steps, so that the load of the
machine changes nothing but the minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biomask import recipes
from biomask.evaluation.bootstrap import Units, differences, intervals
from common import data_root, record

#: Of both sides: the U-Net with what the paper weighs and learns; small, and with batch normalisation, to learn in few steps.
ALIKE = ("instances.target=borders", "instances.balance=true", "loss.dice=0", "network.options.width=16",
         "prediction.augment=none")
SIDES = {"weighted": "instances.w0=10", "unweighted": "instances.w0=0"}

#: Default steps of a training.
STEPS = {"hela": 600, "dsb2018": 800}

#: Frames of HeLa that test.
HAND_ANNOTATED, SILVER = (31, 33, 34, 39, 54), range(60, 84)

SCORES = ("merges", "splits", "seg", "ap50", "f1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", default=list(STEPS), help="hela, dsb2018; both by default")
    parser.add_argument("--steps", type=int, help="of each training; by default 600 on hela and 800 on dsb2018")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--name", default="border_weights", help="of the file in results/")
    parser.add_argument("--work", type=Path, default=Path("runs/border_weights"), help="where everything is written")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    files = []
    for side, setting in SIDES.items():
        recipe = recipes.get("default").with_settings([*ALIKE, setting])
        recipe = recipe.model_copy(update={"name": side, "title": f"the default with {setting}", "choices": ()})
        files.append(options.work / f"{side}.yaml")
        files[-1].write_text(recipe.to_yaml(), encoding="utf-8")
    found = {}
    more: Sequence[str]
    for name in options.datasets:
        if name == "hela":
            data, more = hela(options.work / "hela_data", HAND_ANNOTATED, SILVER), ()
        else:
            data, more = data_root() / "dsb2018", ("--channels", "rgb")
        found[name] = study(name, data, files, more, options)
    record(options.name, {
        "what": "U-Net with instances.target=borders, trained with the border weights of the paper (w0 = 10) and without (w0 = 0)",
        "recipe": {"begins with": "default", "alike": list(ALIKE), **{k: [v] for k, v in SIDES.items()}},
        "seeds": [int(s) for s in options.seeds.split(",")], "datasets": found})


def hela(folder: Path, by_hand: Sequence[int], silver: Sequence[int]) -> Path:
    """A data folder: frames 000-024 of the silver truth train, these frames test."""
    source = data_root() / "ctc" / "DIC-C2DH-HeLa"
    parts = dict.fromkeys(range(25), ("train", "01_ST")) | dict.fromkeys(by_hand, ("test", "01_GT"))
    parts |= dict.fromkeys(silver, ("test", "01_ST"))
    for side in ("images", "labels"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    with (folder / "split.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "part"])
        for n, (part, truth) in sorted(parts.items()):
            shutil.copy(source / "01" / f"t{n:03d}.tif", folder / "images" / f"t{n:03d}.tif")
            shutil.copy(source / truth / "SEG" / f"man_seg{n:03d}.tif", folder / "labels" / f"t{n:03d}.tif")
            rows.writerow([f"t{n:03d}", part])
    return folder


def study(name: str, data: Path, files: Sequence[Path], more: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Train both sides with all seeds, and compare them on the test images."""
    out = options.work / name
    steps = options.steps or STEPS[name]
    biomask("compare", data, "-o", out, "--recipes", ",".join(map(str, files)), "--steps", steps, "--seeds", options.seeds, *more)
    images: dict[str, list[list[dict[str, Any]]]] = {}
    for side in SIDES:
        images[side] = [scores_of(out, f"{side}-seed-{seed}", data) for seed in options.seeds.split(",")]
    comparison = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    costs = {row["name"]: row["costs"] for row in comparison["rows"]}
    tested = {"hand-annotated": [f"t{n:03d}" for n in HAND_ANNOTATED], "silver": [f"t{n:03d}" for n in SILVER]}
    parts = tested if name == "hela" else {"test": [r["name"] for r in images["weighted"][0]]}
    return {"data_sha256": comparison["data_sha256"], "splits": comparison["splits"], "steps": steps,
            "minutes_a_training": {side: round(c["training_seconds"] / 60, 2) for side, c in costs.items()},
            "parameters": costs["weighted"]["parameters"],
            "parts": {part: compared(images, set(names)) for part, names in parts.items()}}


def scores_of(out: Path, label: str, data: Path) -> list[dict[str, Any]]:
    """A row a test image: SCORES, its name, its group and its number of true objects."""
    path = out / f"{label}.json"
    biomask("evaluate", out / "predictions" / label, data, "--metrics", "ctc", "--json", path)
    found = json.loads(path.read_text(encoding="utf-8"))
    seg = {row["name"]: row["seg"] for row in found["metrics"]["ctc"]["per_image"]}
    return [{"name": r["name"], "group": r.get("group", r["name"]), "true_objects": r["true_objects"], "seg": seg[r["name"]],
             **{key: r[key] for key in SCORES if key != "seg"}} for r in found["per_image"]]


def compared(images: Mapping[str, Sequence[Sequence[dict[str, Any]]]], names: set[str]) -> dict[str, Any]:
    """Of both sides the mean over images and seeds, that of each seed, an interval over groups of images; and the difference."""
    chosen = {side: [[r for r in rows if r["name"] in names] for rows in seeds] for side, seeds in images.items()}
    first = chosen["weighted"][0]
    units = Units(tuple(r["group"] for r in first))
    means = {side: {key: [mean([rows[i][key] for rows in seeds]) for i in range(len(first))] for key in SCORES}
             for side, seeds in chosen.items()}
    result: dict[str, Any] = {"images": len(first), "true_objects": sum(r["true_objects"] for r in first), "sides": {}}
    by_seed: dict[str, dict[str, list[float | None]]] = {}
    for side, seeds in chosen.items():
        by_seed[side] = {key: [mean([r[key] for r in rows]) for rows in seeds] for key in SCORES}
        within = intervals(means[side], units)
        result["sides"][side] = {key: {"mean": mean(means[side][key]), "by_seed": by_seed[side][key], **within[key]}
                                 for key in SCORES}
    both = differences({key: (means["weighted"][key], means["unweighted"][key]) for key in SCORES}, units)
    each = {key: zip(by_seed["weighted"][key], by_seed["unweighted"][key], strict=True) for key in SCORES}
    result["difference"] = {key: {**both[key], "by_seed": [a - b for a, b in each[key]]} for key in SCORES}
    return result


def mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def biomask(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "biomask", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
