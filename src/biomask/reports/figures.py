"""Charts as SVG and pictures as PNG, each a small function that returns bytes.

Charts are deterministic and have no background. They are drawn for a light page; `on_dark` gives the twin for a dark
one. Colours are told apart by colour-blind readers: Okabe & Ito (2008), but for a violet where theirs is too pale
as a tint; the tests simulate it.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.image import Image
from biomask.labels import Legend
from biomask.prediction.outlines import draw_outlines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from biomask.training.resume import LogRow

INK, GRID, MAIN, MARKED, QUIET = "#2c363f", "#dde2e7", "#0072b2", "#d55e00", "#8a96a1"

#: The same on a dark page.
ON_DARK = {INK: "#d3d9df", GRID: "#313a43", MAIN: "#56b4e9", MARKED: "#e69f00", QUIET: "#84909c"}

#: RGB and strength of the tints of `error_overlay`.
RIGHT, MISSED, ADDED, CONFUSED = (0, 114, 178), (240, 228, 66), (213, 94, 0), (160, 0, 224)
RIGHT_STRENGTH, ERROR_STRENGTH = 0.45, 0.8

#: More images than this are ranked points without names.
MOST_NAMED = 40
LONGEST_NAME = 30

#: Inches at 96 CSS pixels each.
WIDTH, _ROW = 7.5, 0.235

_STYLE = {
    "svg.hashsalt": "biomask", "svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": QUIET, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
    "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.linewidth": 0.8, "axes.titlesize": 9.5,
    "axes.titlelocation": "left", "axes.titlepad": 10, "text.parse_math": False, "axes.unicode_minus": True,
    "path.simplify": True, "axes.formatter.use_mathtext": False,
}


def learning_curves(history: Sequence[LogRow]) -> bytes:
    """SVG: training loss and validation Dice over optimisation steps, the best validation ringed."""
    loss = [(r.step, r.loss) for r in history if r.loss is not None]
    dice = [(r.step, r.validation_score) for r in history if r.validation_score is not None]
    panels = [p for p in ((_draw_loss, loss), (_draw_dice, dice)) if p[1]]

    def draw(figure: Any) -> None:
        for n, (draw_panel, points) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), n + 1)
            draw_panel(axes, points)
            axes.set_xlabel("optimisation step")
            axes.set_xlim(0, 1.04 * max(1, history[-1].step))
            axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        if not panels:
            figure.text(0.5, 0.5, "nothing was logged", ha="center")
        figure.subplots_adjust(left=0.07, right=0.985, top=0.87, bottom=0.17, wspace=0.17)

    return svg(draw, (WIDTH if len(panels) == 2 else WIDTH * 0.62, 2.7))


def best_validation(history: Sequence[LogRow]) -> LogRow | None:
    """The row whose validation Dice is highest, the latest of equals, as training chooses; None without validation."""
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


def picture(rgb: npt.NDArray[np.uint8], longest: int = 512) -> bytes:
    """PNG of uint8 (3, Y, X), shrunk so that no side exceeds `longest`; never enlarged, no colour changed.

    Pictures of up to 256 colours are stored with a palette, at half the size.
    """
    from PIL import Image as Pillow

    image = Pillow.fromarray(np.ascontiguousarray(np.moveaxis(rgb, 0, -1)))
    share = longest / max(image.size)
    if share < 1:
        size = max(1, round(image.width * share)), max(1, round(image.height * share))
        image = image.resize(size, Pillow.Resampling.BOX)
    pixels = np.asarray(image).astype(np.uint32)
    colours, index = np.unique(pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2], return_inverse=True)
    if colours.size <= 256:
        image = Pillow.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8)).convert("P")
        image.putpalette(np.stack([colours >> 16, colours >> 8, colours], axis=1).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def side_by_side(panels: Sequence[npt.NDArray[np.uint8]], gap: int = 4) -> npt.NDArray[np.uint8]:
    """Panels uint8 (3, Y, X) in one uint8 (3, max Y, sum of X and gaps), aligned at the top, on white."""
    height = max(p.shape[1] for p in panels)
    width = sum(p.shape[2] for p in panels) + gap * (len(panels) - 1)
    out = np.full((3, height, width), 255, np.uint8)
    left = 0
    for panel in panels:
        out[:, : panel.shape[1], left : left + panel.shape[2]] = panel
        left += panel.shape[2] + gap
    return out


def error_overlay(image: Image, truth_ids: npt.NDArray[Any], predicted_ids: npt.NDArray[Any],
                  ignore: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.uint8]:
    """uint8 (3, Y, X): the image in grey, its foreground tinted RIGHT, MISSED, ADDED or CONFUSED (another class).

    truth_ids, predicted_ids: class ids (*S), 0 = background; ignore: bool (*S), True = unknown, shown at half
    brightness and not judged. Of a volume the middle slice.
    """
    truth, predicted = middle(truth_ids), middle(predicted_ids)
    stretched = draw_outlines(image, np.zeros(truth.shape, np.uint8), Legend.of_values([0]))
    grey = stretched.astype(np.float32).mean(axis=0)
    known = np.ones(truth.shape, bool) if ignore is None else ~middle(ignore)
    out = np.broadcast_to(np.where(known, grey, grey / 2), (3, *truth.shape)).copy()
    for where, colour, strength in (
        ((truth > 0) & (truth == predicted), RIGHT, RIGHT_STRENGTH),
        ((truth > 0) & (predicted == 0), MISSED, ERROR_STRENGTH),
        ((truth == 0) & (predicted > 0), ADDED, ERROR_STRENGTH),
        ((truth > 0) & (predicted > 0) & (truth != predicted), CONFUSED, ERROR_STRENGTH),
    ):
        judged = where & known
        out[:, judged] = out[:, judged] * (1 - strength) + np.array(colour, np.float32)[:, None] * strength
    return np.asarray(np.floor(out + 0.5), np.uint8)


def middle(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(Y, X) as it is; of (Z, Y, X) the middle slice."""
    return array if array.ndim == 2 else array[array.shape[0] // 2]


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


def _draw_loss(axes: Axes, points: list[tuple[int, float]]) -> None:
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color=MAIN, linewidth=1.4, marker="o" if len(points) == 1 else None, markersize=4)
    axes.set_ylim(bottom=0)
    axes.set_title(f"Training loss · {values[-1]:.3f} at the end")


def _draw_dice(axes: Axes, points: list[tuple[int, float]]) -> None:
    steps, values = zip(*points, strict=True)
    best = max(points, key=lambda p: (p[1], p[0]))
    axes.plot(steps, values, color=MAIN, linewidth=1.4, marker="o", markersize=4)
    axes.plot(*best, marker="o", markersize=10, markerfacecolor="none", markeredgecolor=MARKED, markeredgewidth=1.6)
    axes.set_ylim(max(0.0, np.floor(min(values) * 10 - 0.5) / 10), 1.0)
    axes.set_title(f"Validation Dice · best {best[1]:.3f} at step {best[0]:,}")


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
        axes.scatter([v for _, v in defined], [n for n, _ in defined], s=26, color=colours, zorder=3)
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
    axes.scatter(range(1, len(values) + 1), values, s=12, color=MAIN, zorder=3)
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
