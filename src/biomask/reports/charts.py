"""Charts of an evaluation as SVG: calibration, counts, thresholds. Drawn as those of `figures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biomask.reports.figures import MAIN, MARKED, QUIET, WIDTH, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def reliability(bins: Sequence[Mapping[str, Any]]) -> bytes:
    """SVG: share of right pixels over confidence, with the diagonal of honest ones, and how many pixels each bin has.

    bins: {low, high, confidence, accuracy, pixels} each, in ascending confidence; None in a bin without pixels.
    """
    filled = [b for b in bins if b["pixels"]]
    total = sum(b["pixels"] for b in bins) or 1

    def draw(figure: Any) -> None:
        left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
        left.plot([0, 1], [0, 1], color=QUIET, linewidth=1.1, linestyle=(0, (4, 3)))
        left.plot([b["confidence"] for b in filled], [b["accuracy"] for b in filled], color=MAIN, linewidth=1.4, marker="o",
                  markersize=4.5)
        left.set_xlim(0, 1.02)
        left.set_ylim(0, 1.02)
        left.set_xlabel("confidence")
        left.set_title("Share of right pixels · dashed: as it should be")
        right.bar([(b["low"] + b["high"]) / 2 for b in bins], [100 * b["pixels"] / total for b in bins],
                  width=[0.9 * (b["high"] - b["low"]) for b in bins], color=MAIN)
        right.set_xlim(0, 1.02)
        right.set_xlabel("confidence")
        right.set_title("Pixels in each bin, %")
        right.grid(visible=False, axis="x")
        figure.subplots_adjust(left=0.06, right=0.985, top=0.88, bottom=0.16, wspace=0.17)

    return svg(draw, (WIDTH, 3.0))


def counts(true: Sequence[int], predicted: Sequence[int], agreement: Mapping[str, Any]) -> bytes:
    """SVG, a dot an image: predicted over true counts, and their difference over their mean with bias and limits of agreement
    (Bland and Altman 1986). agreement: {bias, low, high}, None where undefined."""
    most = max([1, *true, *predicted])

    def draw(figure: Any) -> None:
        left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
        left.plot([0, most], [0, most], color=QUIET, linewidth=1.1, linestyle=(0, (4, 3)))
        left.scatter(true, predicted, s=18, color=MAIN, alpha=0.75, zorder=3)
        left.set_xlim(-0.03 * most, 1.05 * most)
        left.set_ylim(-0.03 * most, 1.05 * most)
        left.set_xlabel("true objects")
        left.set_title("Predicted objects · dashed: the same")
        _differences(right, true, predicted, agreement)
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        figure.subplots_adjust(left=0.06, right=0.9, top=0.88, bottom=0.16, wspace=0.2)

    return svg(draw, (WIDTH, 3.0))


def _differences(axes: Axes, true: Sequence[int], predicted: Sequence[int], agreement: Mapping[str, Any]) -> None:
    axes.axhline(0, color=QUIET, linewidth=1.1, linestyle=(0, (4, 3)))
    axes.scatter([(t + p) / 2 for t, p in zip(true, predicted, strict=True)], [p - t for t, p in zip(true, predicted, strict=True)],
                 s=18, color=MAIN, alpha=0.75, zorder=3)
    for key, name, style in (("bias", "bias", "-"), ("low", "", (0, (1, 2))), ("high", "", (0, (1, 2)))):
        value = agreement.get(key)
        if value is not None:
            axes.axhline(value, color=MARKED, linewidth=1.1, linestyle=style)
            axes.text(1.01, value, f"{name} {value:+.1f}".strip(), transform=axes.get_yaxis_transform(), va="center", color=MARKED)
    axes.set_xlabel("mean of true and predicted objects")
    axes.set_title("Predicted less true · dotted: limits of agreement")


def threshold_curve(thresholds: Sequence[Mapping[str, Any]]) -> bytes:
    """SVG: AP and F1 over the IoU that a match needs. thresholds: {iou, ap, f1} each, ascending; None where undefined."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for key, name, colour, up_by in (("f1", "F1", MARKED, 5), ("ap", "AP", MAIN, -5)):
            points = [(t["iou"], t[key]) for t in thresholds if t[key] is not None]
            if points:
                across, up = zip(*points, strict=True)
                axes.plot(across, up, color=colour, linewidth=1.4, marker="o", markersize=4)
                axes.annotate(name, points[0], xytext=(-8, up_by), textcoords="offset points", ha="right", va="center",
                              color=colour)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0.46, 0.97)
        axes.set_xlabel("IoU that a match needs")
        figure.subplots_adjust(left=0.09, right=0.985, top=0.97, bottom=0.18)

    return svg(draw, (WIDTH * 0.72, 2.7))
