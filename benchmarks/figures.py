"""Pictures for docs/explanation/training.md, from what real_data.py left in runs/ and results/.

    python benchmarks/figures.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image as Picture

from biomask.image import Image
from biomask.io import read_image, read_label_values
from biomask.prediction.outlines import draw_outlines
from common import RESULTS, ROOT

IMAGES = ROOT / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsb2018", type=Path, default=Path("runs/dsb2018"), help="the folder in which real_data.py worked")
    parser.add_argument("--mask-rcnn", type=Path, default=Path("runs/dsb2018_mask_rcnn"), help="likewise, of mask-rcnn-small")
    options = parser.parse_args()
    detected(options.mask_rcnn, IMAGES / "mask_rcnn.png")
    curve(IMAGES / "learning_curve.png")
    nuclei(options.dsb2018, IMAGES / "dsb2018.png")


def curve(path: Path) -> None:
    """Score against the number of images, for every result there is."""
    points = {}
    for file in (RESULTS / "dsb2018.json", *RESULTS.glob("dsb2018_*.json")):
        images = file.stem.removeprefix("dsb2018").strip("_") or "523"
        if images.isdecimal() and file.is_file():
            points[int(images)] = json.loads(file.read_text(encoding="utf-8"))
    figure = Figure((6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    order = sorted(points)
    if len(order) < 2:
        print("no learning curve: run real_data.py dsb2018 with --images 5, 10 and 20 first")
        return
    scores = [points[n]["scores"]["mean"]["ap50"] for n in order]
    limits = [points[n]["scores"]["intervals"]["ap50"] for n in order]
    axes.errorbar(order, scores, yerr=[[s - i["low"] for s, i in zip(scores, limits, strict=True)],
                                       [i["high"] - s for s, i in zip(scores, limits, strict=True)]], marker="o", capsize=3)
    if (RESULTS / "forecast.json").is_file():
        ahead = json.loads((RESULTS / "forecast.json").read_text(encoding="utf-8"))["forecast"]
        axes.errorbar([f["images"] * 1.12 for f in ahead], [f["score"] for f in ahead], fmt="x", capsize=3, color="tab:gray",
                      yerr=[[f["score"] - f["low"] for f in ahead], [f["high"] - f["score"] for f in ahead]],
                      label="forecast from 5, 10 and 20")
        axes.legend(loc="lower right", fontsize=8)
    for n, s in zip(order, scores, strict=True):
        said = f"{s:.2f}, {points[n]['minutes_training']:.0f} min"
        late = n >= 200
        axes.annotate(said, (n, s), xytext=(-4 if late else 6, 22 if n == order[-1] else -12), textcoords="offset points",
                      fontsize=8, ha="right" if late else "left")
    axes.set(xscale="log", xlabel="training images, drawn at random", ylabel="AP at IoU 0.5, 59 test images", ylim=(0, 1))
    axes.set_xticks(order, [str(n) for n in order])
    axes.minorticks_off()
    figure.savefig(path, dpi=110)


def nuclei(work: Path, path: Path) -> None:
    """Four test images, truth above and prediction below: of each kind of image one."""
    files = sorted((work / "test" / "images").iterdir())
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, 40).astype(int)]
    kinds: dict[tuple[bool, bool], list[Path]] = {}
    for file in chosen:
        array = read_image(file).array
        kinds.setdefault((array.shape[0] == 3 and bool((array[0] != array[1]).any()), float(array.mean()) > 80), []).append(file)
    shown = [f for group in zip(*(k * 4 for k in kinds.values()), strict=False) for f in group][:4]
    rows = []
    for folder in (work / "test" / "labels", work / "out" / "labels"):
        panels = []
        for file in shown:
            image = read_image(file)
            ids = read_label_values(next(folder.glob(f"{file.stem}.*"))).array[0]
            crop = (slice(0, 256), slice(0, 256))
            view = Image(np.asarray(image.array)[(slice(None), *crop)], "cyx", image.name)
            drawn = draw_outlines(view, ids[crop].astype(np.int64), None)
            panels.append(np.pad(drawn, ((0, 0), (2, 2), (2, 2)), constant_values=255))
        rows.append(np.concatenate(panels, axis=2))
    Picture.fromarray(np.moveaxis(np.concatenate(rows, axis=1), 0, -1)).save(path, optimize=True)


def detected(work: Path, path: Path) -> None:
    """Boxes, scores and masks in three test images, each cut to its upper left square."""
    files = sorted((work / "out" / "outlines").iterdir())
    panels = []
    for file in (files[len(files) // 20], files[len(files) // 3], files[3 * len(files) // 4]):
        picture = Picture.open(file).convert("RGB")
        side = min(picture.size)
        shown = picture.crop((0, 0, side, side)).resize((400, 400), Picture.Resampling.LANCZOS)
        panels.append(np.pad(np.asarray(shown), ((0, 0), (2, 2), (0, 0)), constant_values=255))
    Picture.fromarray(np.concatenate(panels, axis=1)).save(path, optimize=True)


if __name__ == "__main__":
    main()
