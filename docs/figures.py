"""Figures of the explanation pages: `python docs/figures.py` draws them into docs/images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from skimage.draw import disk
from skimage.segmentation import find_boundaries

from biomask.data.distances import normalized_distance, touching_border
from biomask.data.synthetic import phase_contrast_cells
from biomask.data.weight_map import weight_map
from biomask.evaluation.bootstrap import interval
from biomask.metrics import instance_scores
from biomask.models import UNet
from biomask.prediction import geometry_of, predict_array
from biomask.tiling import plan_axis

IMAGES = Path(__file__).parent / "images"
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"


def main() -> None:
    for draw in (tiling, weights, metrics, intervals):
        draw().savefig(IMAGES / f"{draw.__name__}.png", dpi=110)


def tiling() -> Figure:
    """Windows along an axis; errors of a tiled prediction without and with context."""
    figure = Figure((11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.5, 1, 1.1))
    (geometry, _) = geometry_of(UNet(1, 2, width=2, depth=3))
    for row, tile in enumerate(plan_axis(512, 128, geometry)):
        left.add_patch(Rectangle((tile.start, row - 0.35), tile.stop - tile.start, 0.7, color=BLUE, alpha=0.3, lw=0))
        left.add_patch(Rectangle((tile.keep_start, row - 0.35), tile.keep_stop - tile.keep_start, 0.7, color=BLUE, lw=0))
    left.set(xlim=(-8, 520), ylim=(3.6, -0.6), xlabel="pixel", yticks=range(4), yticklabels=[f"tile {n}" for n in range(1, 5)],
             xticks=range(0, 513, 128), title=f"three poolings: stride {geometry.stride}, halo {geometry.halo}")
    torch.manual_seed(0)
    network = UNet(1, 2, width=4, depth=3, up="bilinear").eval()
    image = phase_contrast_cells(0, 1, (192, 192))[0][None] / np.float32(255)
    whole, naive = predict_array(network, image)[1], np.zeros(image.shape[1:], np.float32)
    for y in range(0, 192, 64):
        for x in range(0, 192, 64):
            naive[y : y + 64, x : x + 64] = predict_array(network, image[:, y : y + 64, x : x + 64])[1]
    exact = predict_array(network, image, tile=64)[1]
    for axes, tiled, title in ((middle, naive, "no context"), (right, exact, "halo read and cropped")):
        shown = axes.imshow(np.abs(tiled - whole) / whole.std(), vmin=0, vmax=0.5, cmap="magma")
        axes.set(title=title, xticks=(), yticks=())
    figure.colorbar(shown, ax=right, label="difference / standard deviation")
    return figure


def weights() -> Figure:
    """Labels, the paper's weight map, distance and border."""
    ids = phase_contrast_cells(2, 4, (200, 200))[1]
    batch = torch.from_numpy(ids)[None].long()
    figure = Figure((11, 3.1), layout="constrained")
    parts = figure.subplots(1, 4)
    shown: list[tuple[str, npt.NDArray[Any], dict[str, Any]]] = [
        ("labels", np.ma.masked_equal((ids * 7) % 20 + (ids > 0), 0), {"cmap": "tab20"}),
        ("weight", weight_map(batch)[0].numpy(), {"cmap": "viridis", "norm": LogNorm(1, 11)}),
        ("distance", normalized_distance(batch)[0].numpy(), {"cmap": "viridis", "vmin": 0, "vmax": 1}),
        ("border", touching_border(batch, width=1)[0].float().numpy(), {"cmap": "Greys"}),
    ]
    for axes, (title, array, how) in zip(parts, shown, strict=True):
        picture = axes.imshow(array, interpolation="nearest", **how)
        axes.set(title=title, xticks=(), yticks=())
        if title in ("weight", "distance"):
            bar = figure.colorbar(picture, ax=axes, shrink=0.8)
            bar.minorticks_off()
            bar.set_ticks([1, 2, 5, 11] if title == "weight" else [0, 0.5, 1], labels=["1", "2", "5", "11"] if title == "weight"
                          else ["0", "½", "1"])
    return figure


def metrics() -> Figure:
    """Objects that are matched, merged, split, missed and made up."""
    truth, predicted = np.zeros((2, 90, 330), np.int32)
    for number, (x, radius) in enumerate(((35, 22), (100, 18), (137, 18), (200, 26), (262, 18)), 1):
        truth[disk((45, x), radius, shape=truth.shape)] = number
    predicted[disk((47, 38), 21, shape=truth.shape)] = 1
    predicted[(truth == 2) | (truth == 3)] = 2
    columns = np.indices(truth.shape)[1]
    predicted[40:50, 110:128] = 2  # the bridge that merged them
    predicted[(truth == 4) & (columns < 198)], predicted[(truth == 4) & (columns > 202)] = 3, 4
    predicted[disk((45, 310), 13, shape=truth.shape)] = 5
    scores = instance_scores(truth, predicted)
    figure = Figure((9, 3.1), layout="constrained")
    axes = figure.subplots()
    picture = np.ones((*truth.shape, 3), np.float32)
    picture[predicted > 0] = (1.0, 0.9, 0.7)
    picture[find_boundaries(predicted, mode="inner")] = tuple(int(ORANGE[i : i + 2], 16) / 255 for i in (1, 3, 5))
    picture[find_boundaries(truth, mode="inner")] = tuple(int(BLUE[i : i + 2], 16) / 255 for i in (1, 3, 5))
    axes.imshow(picture, interpolation="nearest")
    for x, text in ((35, "match\nTP"), (118, "merge\nFP, 2 FN"), (200, "split\n2 FP, FN"), (262, "missed\nFN"),
                    (310, "made up\nFP")):
        axes.text(x, 78, text, ha="center", va="top")
    counts = f"TP {scores.tp(0.5)}, FP {scores.fp(0.5)}, FN {scores.fn(0.5)}; merges {scores.merges}, splits {scores.splits}; "
    axes.set(title=counts + f"AP at 0.5 = {scores.precision_at(0.5):.2f}, F1 = {scores.f1(0.5):.2f}, "
                            f"PQ = {scores.panoptic_quality:.2f}", ylim=(112, 5))
    axes.axis("off")
    return figure


def intervals() -> Figure:
    """The same experiment with 8 to 64 test images: mean and interval."""
    figure = Figure((9, 3), layout="constrained")
    parts = figure.subplots(1, 4, sharey=True)
    rng = np.random.default_rng(0)
    for axes, n in zip(parts, (8, 16, 32, 64), strict=True):
        for row in range(20):
            scores = rng.beta(8, 2, n)  # mean 0.8
            found = interval([float(s) for s in scores], seed=row)
            missed = not found["low"] <= 0.8 <= found["high"]
            colour = ORANGE if missed else BLUE
            axes.plot((row, row), (found["low"], found["high"]), color=colour, lw=1.5)
            axes.plot(row, scores.mean(), "o", color=colour, ms=3)
        axes.axhline(0.8, color=GREY, ls="--", lw=1)
        axes.set(title=f"{n} images", xticks=(), xlabel="20 experiments")
    parts[0].set_ylabel("score")
    return figure


if __name__ == "__main__":
    main()
