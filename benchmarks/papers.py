"""The papers' tables on real data: every row of paper_rows.py is trained, predicted and evaluated by the command line.

    python benchmarks/papers.py                              all rows at reduced size, an hour and a half on two cores
    python benchmarks/papers.py --rows 'dsb2018-*'           those whose names match
    python benchmarks/papers.py --full --rows 'drishti-*'    the recipe's own width, the paper's budget: wants a GPU
    python benchmarks/papers.py --list                       names, and which are done

A row that is done is not done again; one that was stopped goes on; one that fails is named, and the others go on. Each leaves
results/papers/NAME-seed-N.json (with -full), from which `python docs/papers.py` writes docs/explanation/papers.md.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from biomask.io import read_label_values
from common import RESULTS, ROOT, record
from paper_rows import ROWS, TABLES, Row, digest

PLACE = RESULTS / "papers"

#: What is kept of an evaluation's means.
KEPT = ("dice", "iou", "precision", "recall", "pixel_error", "ap50", "f1", "pq")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="*", help="a pattern of names, or several with commas")
    parser.add_argument("--full", action="store_true", help="the recipe's own sizes, and the paper's budget where it is known")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="another budget, to try something")
    parser.add_argument("--again", action="store_true", help="also those that are done")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--work", type=Path, default=Path("runs/papers"), help="where everything is written")
    options = parser.parse_args()
    chosen = [r for r in ROWS if any(fnmatch.fnmatch(r.name, p.strip()) for p in options.rows.split(","))]
    if not chosen:
        sys.exit(f"no row is called {options.rows}: there are {', '.join(r.name for r in ROWS)}")
    failed = []
    for row in chosen:
        done = not options.again and is_done(row, told(row, options), options)
        if options.list or done:
            print(f"{row.name}: {'done' if done else 'to do'}")
            continue
        try:
            make(row, options)
        except (subprocess.CalledProcessError, OSError, KeyError, ValueError) as error:
            failed.append(row.name)
            print(f"{row.name} failed: {error}")
    if failed:
        sys.exit(f"{len(failed)} of {len(chosen)} rows failed: {', '.join(failed)}")


def label(row: Row, options: argparse.Namespace) -> str:
    """Of the result and of the folder in which the row is made."""
    return f"{row.name}-seed-{options.seed}" + ("-full" if options.full else "")


def told(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """What defines a row; one that is done differently is done again."""
    budget = ["--steps", str(options.steps)] if options.steps else list(row.full) if options.full else ["--steps", str(row.steps)]
    return {"table": row.table, "recipe": row.recipe, "size": "full" if options.full else "reduced", "budget": budget,
            "settings": [] if options.full else list(row.reduced), "seed": options.seed, "begins_with": row.begin,
            "training_images": row.images, "variants": {k: list(v) for k, v in row.variants.items()}}


def is_done(row: Row, asked: Mapping[str, Any], options: argparse.Namespace) -> bool:
    path = PLACE / f"{label(row, options)}.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["row"] == asked


def make(row: Row, options: argparse.Namespace) -> None:
    """Train, predict and evaluate a row, and write its result."""
    table, asked, work = TABLES[row.table], told(row, options), options.work / label(row, options)
    data = prepared(row, options)
    if (work / "row.json").is_file() and json.loads((work / "row.json").read_text(encoding="utf-8")) != asked:
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    (work / "row.json").write_text(json.dumps(asked), encoding="utf-8")
    settings = [word for s in asked["settings"] for word in ("--set", s)]
    begin = ["--from", beginning(row, options)] if row.begin else []
    biomask("train", data, "-o", work / "model", "--recipe", row.recipe, *asked["budget"], "--seed", options.seed, *settings,
            *begin, *table.options)
    run = json.loads((work / "model" / "run.json").read_text(encoding="utf-8"))
    scores = {}
    for name, more in row.variants.items():
        out, report = work / f"out {name}".strip(), work / f"evaluation {name}.json"
        biomask("predict", work / "model", data, "--part", "test", "-o", out, "--overwrite", *more,
                *(["--probabilities"] if table.probabilities else []))
        biomask("evaluate", out, data, "--json", report, *(["--metrics", table.metrics] if table.metrics else []))
        scores[name] = {**summary(json.loads(report.read_text(encoding="utf-8"))), "seconds": seconds_of(out)}
    if row.name == "drishti-unet-drishti":
        overlay(work / "out", data, work / "overlay.png", ROOT / "docs" / "images" / "papers" / "drishti.png")
    PLACE.mkdir(parents=True, exist_ok=True)
    record(f"papers/{label(row, options)}", {
        "what": table.what, "row": asked, "seed": options.seed, "data_sha256": digest(data), "steps": run["step"],
        "best_step": run["best_step"], "minutes_training": round(run["seconds"] / 60, 2), "parameters": parameters(work / "model"),
        "device": run["device"], "choices": run["choices"], "heads": run.get("heads", []), "scores": scores})


def prepared(row: Row, options: argparse.Namespace) -> Path:
    """The data folder of a row, made once."""
    name = row.table if row.images is None else f"{row.table}-{row.images}-seed-{options.seed}"
    folder = Path(options.work) / "data" / name
    if not (folder / "split.csv").is_file():  # it is written last
        shutil.rmtree(folder, ignore_errors=True)
        TABLES[row.table].prepare(folder, row.images, options.seed)
    return folder


def beginning(row: Row, options: argparse.Namespace) -> Path:
    """The model of the row with whose weights this one begins. Raises ValueError where it is not there."""
    other = next(r for r in ROWS if r.name == row.begin)
    path = Path(options.work) / label(other, options) / "model" / "model.safetensors"
    if not path.is_file():
        raise ValueError(f"begins with the weights of {other.name}, which is not in {options.work}: make it first, with --again")
    return path


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an evaluation."""
    kept: dict[str, Any] = {
        "images": found["n_images"], "mean": {k: found["mean"][k] for k in KEPT if k in found["mean"]},
        "intervals": {k: found["intervals"][k] for k in KEPT if k in found["intervals"]},
        "pooled": {k: found["pooled"][k] for k in KEPT if k in found["pooled"]},
        "per_class": {k: {m: c[m] for m in ("name", "dice", "iou")} for k, c in found["per_class"].items()}}
    if found.get("metrics"):
        kept["metrics"] = {k: {m: v[m] for m in ("mean", "pooled", "intervals")} for k, v in found["metrics"].items()}
    return kept


def seconds_of(out: Path) -> float | None:
    """Of a prediction, files included."""
    found = json.loads((out / "run.json").read_text(encoding="utf-8")).get("seconds")
    return None if found is None else float(found)


def parameters(model: Path) -> int:
    import biomask

    return sum(p.numel() for p in biomask.load(model).parameters())


def overlay(out: Path, data: Path, shown: Path, alone: Path) -> None:
    """Truth above, prediction below, disc red and cup yellow, of four test images, cut out around the disc: on the photographs
    (`shown`, beside the prediction), and without them, since these may not be passed on (`alone`, for the page)."""
    names = sorted(p.stem for p in (out / "masks" / "disc").iterdir())
    chosen = [names[int(i)] for i in np.linspace(0, len(names) - 1, 4)]
    for path, photographs in ((shown, True), (alone, False)):
        rows = [np.concatenate([drawn(folder, data, name, photographs) for name in chosen], axis=1)
                for folder in (data, out / "masks")]
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(np.concatenate(rows)).save(path, optimize=True)


def drawn(folder: Path, data: Path, name: str, photograph: bool, side: int = 96) -> np.ndarray:
    """(Y, X, 3) uint8, twice as large, with a white margin: a window around the true disc."""
    picture = np.asarray(Picture.open(data / "images" / f"{name}.png").convert("RGB")).astype(np.float64)
    if not photograph:
        picture = np.full_like(picture, 225)
    coloured = picture.copy()
    for structure, colour in (("disc", (220, 30, 30)), ("cup", (255, 215, 0))):
        inside = read_label_values(next((folder / structure).glob(f"{name}.*"))).array[0] > 0
        coloured[inside] = 0.5 * picture[inside] + 0.5 * np.array(colour)
    middle = np.argwhere(read_label_values(data / "disc" / f"{name}.png").array[0] > 0).mean(axis=0)
    y, x = (int(np.clip(m - side // 2, 0, n - side)) for m, n in zip(middle, picture.shape, strict=False))
    window = coloured[y : y + side, x : x + side].astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    return np.pad(window, ((2, 2), (2, 2), (0, 0)), constant_values=255)


def biomask(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "biomask", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
