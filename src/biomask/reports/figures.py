"""Charts as SVG, each a small function that returns bytes.

Charts are deterministic and have no background. They are drawn for a light page; `on_dark` gives the twin for a dark
one. Colours are told apart by colour-blind readers (Okabe & Ito, 2008).
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from biomask.training.resume import LogRow

INK, GRID, MAIN, MARKED, QUIET = "#2c363f", "#dde2e7", "#0072b2", "#d55e00", "#8a96a1"

#: The same on a dark page.
ON_DARK = {INK: "#d3d9df", GRID: "#313a43", MAIN: "#56b4e9", MARKED: "#e69f00", QUIET: "#84909c"}

#: More images than this are ranked points without names.
MOST_NAMED = 40
LONGEST_NAME = 30

#: Inches at 96 CSS pixels each.
WIDTH, WIDE, _ROW = 7.5, 9.6, 0.235

_STYLE = {
    "svg.hashsalt": "biomask", "svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": QUIET, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
    "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.linewidth": 0.8, "axes.titlesize": 9.5,
    "axes.titlelocation": "left", "axes.titlepad": 10, "text.parse_math": False, "axes.unicode_minus": True,
    "path.simplify": True, "axes.formatter.use_mathtext": False,
}


def learning_curves(history: Sequence[LogRow], score: str = "Dice") -> bytes:
    """SVG: training loss, validation score and learning rate over optimisation steps, the best validation ringed. score: its
    name."""
    return fold_curves([history], score)


def fold_curves(histories: Sequence[Sequence[LogRow]], score: str = "Dice") -> bytes:
    """SVG: the same of several trainings, a line each."""
    loss = [[(r.step, r.loss) for r in h if r.loss is not None] for h in histories]
    scores = [[(r.step, r.validation_score) for r in h if r.validation_score is not None] for h in histories]
    rates = [[(r.step, r.lr) for r in h if r.loss is not None] for h in histories]
    drawn = ((_draw_loss, loss), (_draw_score(score), scores), (_draw_rate, rates))
    panels = [(draw_panel, [c for c in curves if c]) for draw_panel, curves in drawn if any(curves)]
    last = max((h[-1].step for h in histories if h), default=1)

    def draw(figure: Any) -> None:
        for n, (draw_panel, curves) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), n + 1)
            draw_panel(axes, curves)
            axes.set_xlabel("optimisation step")
            axes.set_xlim(0, 1.04 * max(1, last))
            axes.xaxis.get_major_locator().set_params(integer=True, nbins=4 if len(panels) > 2 else 6)
        if not panels:
            figure.text(0.5, 0.5, "nothing was logged", ha="center")
        figure.subplots_adjust(left=0.055, right=0.985, top=0.87, bottom=0.17, wspace=0.21)

    return svg(draw, ({3: WIDE, 2: WIDTH}.get(len(panels), WIDTH * 0.62), 2.7))


def best_validation(history: Sequence[LogRow]) -> LogRow | None:
    """The row whose validation score is highest, the latest of equals; None without validation."""
    scored = [r for r in history if r.validation_score is not None]
    return max(scored, key=lambda r: (r.validation_score, r.step)) if scored else None


def per_image_scores(names: Sequence[str], values: Sequence[float | None], label: str) -> bytes:
    """SVG: one dot an image, lowest first, with the mean; by name up to 40 images, by rank beyond. None comes last."""
    order = sorted(range(len(values)), key=lambda i: (values[i] is None, values[i] or 0.0, names[i]))
    defined = [float(v) for i in order if (v := values[i]) is not None]
    if len(order) > MOST_NAMED:
        return svg(lambda figure: _draw_ranks(figure, defined, len(order), label), (WIDTH, 2.9))
    height = 0.8 + _ROW * max(1, len(order))
    rows = [(names[i], values[i]) for i in order]
    return svg(lambda figure: _draw_rows(figure, rows, label, height, mean=True), (WIDTH, height))


def score_bars(names: Sequence[str], values: Sequence[float | None], label: str, marked: int | None = None) -> bytes:
    """SVG: one bar each in the given order, from 0; the bar number `marked` stands out."""
    height = 0.7 + 1.35 * _ROW * max(1, len(names))
    rows = list(zip(names, values, strict=True))
    return svg(lambda figure: _draw_rows(figure, rows, label, height, marked=marked, bars=True), (WIDTH, height))


def on_dark(svg: bytes) -> bytes:
    """A chart of this module in the colours of a dark page."""
    return re.sub(rb"#[0-9a-f]{6}", lambda m: ON_DARK.get(m[0].decode(), m[0].decode()).encode(), svg)


def svg(draw: Callable[[Any], None], size: tuple[float, float]) -> bytes:
    """What `draw` puts on a figure of `size` inches, as SVG without date, version or background."""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's font draws it, not matplotlib's
        figure = Figure(figsize=size)
        draw(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    fonts = "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"
    return re.sub(r"'DejaVu Sans'(, sans-serif)?", fonts, buffer.getvalue().decode()).encode()


Curve = list[tuple[int, float]]


def _draw_loss(axes: Axes, curves: list[Curve]) -> None:
    for points in curves:
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=MAIN, linewidth=1.4, marker="o" if len(points) == 1 else None, markersize=4)
    axes.set_ylim(bottom=0)
    last = sorted(points[-1][1] for points in curves)
    axes.set_title(f"Training loss · {_range(last)} at the end")


def _draw_score(name: str) -> Callable[[Axes, list[Curve]], None]:
    said = f"Validation {name}" if len(name) < 8 else name[:1].upper() + name[1:]  # a title has to fit over its panel

    def draw(axes: Axes, curves: list[Curve]) -> None:
        best = [max(points, key=lambda p: (p[1], p[0])) for points in curves]
        for points, highest in zip(curves, best, strict=True):
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=MAIN, linewidth=1.4, marker="o", markersize=4)
            axes.plot(*highest, marker="o", markersize=10, markerfacecolor="none", markeredgecolor=MARKED, markeredgewidth=1.6)
        lowest = min(value for points in curves for _, value in points)
        axes.set_ylim(max(0.0, np.floor(lowest * 10 - 0.5) / 10), 1.0)
        axes.set_title(f"{said} · best {best[0][1]:.3f} at step {best[0][0]:,}" if len(curves) == 1 else
                       f"{said} · best {_range(sorted(b[1] for b in best))}")

    return draw


def _draw_rate(axes: Axes, curves: list[Curve]) -> None:
    for points in curves:
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=QUIET, linewidth=1.4, marker="o" if len(points) == 1 else None, markersize=4)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    axes.set_title(f"Learning rate · up to {max(v for points in curves for _, v in points):.2g}")


def _range(values: Sequence[float]) -> str:
    """Ascending values in short."""
    low, high = f"{values[0]:.3f}", f"{values[-1]:.3f}"
    return low if low == high else f"{low} to {high}"


def _draw_rows(figure: Any, rows: Sequence[tuple[str, float | None]], label: str, height: float, *,
               bars: bool = False, mean: bool = False, marked: int | None = None) -> None:
    """Horizontal rows, the first on top, each with its name on the left and its value on the right."""
    axes = figure.add_subplot()
    names = [_short(name) for name, _ in rows]
    defined = [(n, v) for n, (_, v) in enumerate(rows) if v is not None]
    longest = max((len(n) for n in names), default=0)
    figure.subplots_adjust(left=0.015 + 0.0102 * longest, right=0.92, bottom=0.5 / height,
                           top=1 - (0.3 if mean else 0.02) / height)
    colours = [MARKED if n == marked else MAIN if marked is None else QUIET for n, _ in defined]
    if bars:
        axes.barh([n for n, _ in defined], [v for _, v in defined], height=0.62, color=colours)
    else:
        axes.scatter([v for _, v in defined], [n for n, _ in defined], s=26, color=colours, zorder=3, clip_on=False)
    if mean and len(defined) > 1:
        average = float(np.mean([v for _, v in defined]))
        axes.axvline(average, color=MARKED, linewidth=1.1)
        axes.text(average, -0.75, f"mean {average:.3f}", ha="center", va="bottom", color=MARKED)
    axes.set_xlim(0, max(1.0, 1.05 * max((v for _, v in defined), default=0.0)))
    axes.set_ylim(max(0, len(rows) - 1) + 0.65, -0.65)
    axes.set_yticks(range(len(rows)), names)
    axes.set_xlabel(label)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=not bars, axis="y")
    for n, (_, value) in enumerate(rows):
        axes.text(1.015, n, "–" if value is None else f"{value:.3f}", transform=axes.get_yaxis_transform(), va="center")


def _draw_ranks(figure: Any, values: Sequence[float], images: int, label: str) -> None:
    """Dots by rank; values ascend, images without one are only counted."""
    axes = figure.add_subplot()
    figure.subplots_adjust(left=0.08, right=0.9, top=0.95, bottom=0.18)
    axes.scatter(range(1, len(values) + 1), values, s=12, color=MAIN, zorder=3, clip_on=False)
    axes.set_ylim(0, max(1.0, 1.05 * max(values, default=0.0)))
    axes.set_ylabel(label)
    axes.set_xlabel(f"{len(values):,} images, from lowest to highest" if len(values) == images else
                    f"{len(values):,} of {images:,} images, from lowest to highest; the others are undefined")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if values:
        average = float(np.mean(values))
        axes.axhline(average, color=MARKED, linewidth=1.1)
        axes.text(1.01, average, f"mean {average:.3f}", transform=axes.get_yaxis_transform(), va="center", color=MARKED)


def _short(name: str) -> str:
    """At most LONGEST_NAME printable characters; the end of a name tells more than its middle."""
    clean = "".join(c if c.isprintable() else "�" for c in name)
    return clean if len(clean) <= LONGEST_NAME else f"{clean[: LONGEST_NAME // 2 - 1]}…{clean[-LONGEST_NAME // 2 :]}"
