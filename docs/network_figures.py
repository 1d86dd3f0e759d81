"""Figures of networks, drawn from graphs of boxes and arrows. All lengths are inches."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import hypot

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from network_graph import Arrow, Graph

WIDTH, TEXT = 9.0, 9
COLOURS = {"convolution": "#0072B2", "copy": "#999999", "pooling": "#E69F00", "up": "#009E73", "1×1": "#CC79A7",
           "gate": "#D55E00", "sum": "#333333", "mean": "#333333"}
MAP, EDGE = "#b3d5e8", "#0072B2"

#: Of the tallest and of the widest map, of the least that is seen.
TALL, WIDE, LEAST = 0.62, 0.28, 0.05

#: Of a line of text, of a line of the legend, between rows, at the edges.
LINE, ROW, GAP, MARGIN = 0.17, 0.2, 0.3, 0.1

#: Radius of a node and of a gate.
NODE, GATE = 0.29, 0.13


def pixels(size: Sequence[int]) -> str:
    """572², or 64 × 80 where sides differ.

    >>> pixels((64, 64, 64)), pixels((64, 80))
    ('64³', '64 × 80')
    """
    return f"{size[0]}{ {2: '²', 3: '³'}[len(size)]}" if len(set(size)) == 1 else " × ".join(map(str, size))


def sides(graph: Graph, name: str, tall: float = TALL) -> tuple[float, float]:
    """Width and height of a map, by the roots of its channels and pixels."""
    box, every = graph.boxes[name], graph.boxes.values()
    width = WIDE * (box.channels / max(b.channels for b in every)) ** 0.5
    return max(LEAST, width), max(2 * LEAST, tall * (box.size[-1] / max(b.size[-1] for b in every)) ** 0.5)


class Canvas:
    """A sheet on which the boxes of a graph are laid and joined."""

    def __init__(self, graph: Graph, width: float, height: float, tall: float = TALL) -> None:
        self.graph, self.height, self.tall = graph, height, tall
        self.figure = Figure((width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")
        self.at: dict[str, tuple[float, float]] = {}
        self.half: dict[str, tuple[float, float, float]] = {}
        """From the middle of a box to its side, to above its upper text, to below its lower one."""

    def map(self, name: str, x: float, y: float, title: str = "") -> None:
        """A rectangle, higher with its pixels and wider with its channels: these above it, those below."""
        box = self.graph.boxes[name]
        width, height = sides(self.graph, name, self.tall)
        copied = width * box.parts[0] / box.channels if len(box.parts) == 2 else 0
        for start, stop, colour in ((0, copied, "white"), (copied, width, MAP)):
            self.axes.add_patch(Rectangle((x - width / 2 + start, y - height / 2), stop - start, height, facecolor=colour,
                                          edgecolor=EDGE, lw=1 if stop > start else 0))
        self.say(x, y + height / 2 + LINE / 2, str(box.channels))
        self.say(x, y - height / 2 - LINE / 2, pixels(box.size))
        if title:
            self.say(x, y + height / 2 + 1.5 * LINE, title, weight="bold")
        self.at[name] = x, y
        self.half[name] = width / 2, height / 2 + LINE * (2 if title else 1), height / 2 + LINE

    def circle(self, name: str, x: float, y: float, text: str, radius: float, below: str = "", colour: str = MAP) -> None:
        """A node or a gate."""
        self.axes.add_patch(Circle((x, y), radius, facecolor=colour, edgecolor=EDGE, lw=1, zorder=3))
        self.say(x, y - 0.01, text, zorder=4)
        if below:
            self.say(x, y - radius - LINE / 2, below)
        self.at[name], self.half[name] = (x, y), (radius, radius, radius + (LINE if below else 0))

    def say(self, x: float, y: float, text: str, **how: object) -> None:
        if text:
            self.axes.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": TEXT, **how})

    def join(self, arrow: Arrow, text: str = "") -> None:
        """Straight along a row or column, else to the right and then up or down; text above or at its right."""
        (x0, y0), (x1, y1) = self.at[arrow.source], self.at[arrow.target]
        (right, over, under), (left, above, below) = self.half[arrow.source], self.half[arrow.target]
        if abs(y0 - y1) < 0.01:
            self.line([(x0 + right, y0), (x1 - left, y1)], arrow.kind)
            self.say((x0 + right + x1 - left) / 2, y0 + LINE * 0.6, text)
        elif abs(x0 - x1) < 0.01:
            start, end = (y0 + over, y1 - below) if y1 > y0 else (y0 - under, y1 + above)
            self.line([(x0, start), (x1, end)], arrow.kind)
            self.say(x0 + 0.06, (start + end) / 2, text, ha="left")
        else:
            self.line([(x0 + right, y0), (x1, y0), (x1, y1 - below if y1 > y0 else y1 + above)], arrow.kind)
            self.say((x0 + right + x1) / 2, y0 + LINE * 0.6, text)

    def across(self, arrow: Arrow, bend: float = 0.0) -> None:
        """From edge to edge of two boxes by the shortest way, or bent."""
        (x0, y0), (x1, y1) = self.at[arrow.source], self.at[arrow.target]
        length = hypot(x1 - x0, y1 - y0)
        along = (x1 - x0) / length, (y1 - y0) / length
        a, b = max(self.half[arrow.source][0], NODE if bend else 0), self.half[arrow.target][0]
        start, end = (x0 + a * along[0], y0 + a * along[1]), (x1 - b * along[0], y1 - b * along[1])
        if bend:
            start, end = (x0 + 0.6 * a, y0 + 0.8 * a), (x1 - 0.6 * b, y1 + 0.8 * b)
        self.line([start, end], arrow.kind, bend)

    def up_to_gate(self, arrow: Arrow) -> None:
        """Aslant, from above the text of a map to the lower side of a gate."""
        (x0, y0), (x1, y1) = self.at[arrow.source], self.at[arrow.target]
        self.line([(x0 - 0.06, y0 + self.half[arrow.source][1]), (x1 + 0.1, y1 - GATE - LINE)], arrow.kind)
        self.say((x0 + x1) / 2 - 0.17, (y0 + y1) / 2, "g")

    def line(self, points: Sequence[tuple[float, float]], kind: str, bend: float = 0.0) -> None:
        """Through points, with a head at the last one."""
        colour = COLOURS[kind]
        if len(points) > 2:
            self.axes.plot(*zip(*points[:-1], strict=True), color=colour, lw=1.4, solid_capstyle="butt")
        self.axes.add_patch(FancyArrowPatch(points[-2], points[-1], arrowstyle="-|>", mutation_scale=8, lw=1.4, color=colour,
                                            shrinkA=0, shrinkB=0, connectionstyle=f"arc3,rad={-bend}", zorder=2))

    def legend(self, x: float, y: float, said: Mapping[str, str] | None = None, second: float | None = None) -> None:
        """What each colour of arrow does, downwards from a corner: the operations as they were recorded, or `said` of a kind.

        second: where a second column begins.
        """
        rows = legend_rows(self.graph, said or {})
        half = lines_of(rows, second is not None)
        for n, (kind, text) in enumerate(rows):
            left, row = (x, y - n * ROW) if n < half else (second or x, y - (n - half) * ROW)
            self.line([(left, row), (left + 0.3, row)], kind)
            self.say(left + 0.38, row, text, ha="left")


def legend_rows(graph: Graph, said: Mapping[str, str]) -> list[tuple[str, str]]:
    """(kind, text) of what arrows do; without kernels and factors where they alone differ."""
    texts: dict[tuple[str, str], dict[str, None]] = {}
    for kind in COLOURS:
        for text in (said.get(kind) or in_words(arrow) for arrow in graph.arrows if arrow.kind == kind):
            texts.setdefault((kind, re.sub(r"\d+(×\d+)+ | ×\d+", "", text)), {})[text] = None
    return [(kind, next(iter(full)) if len(full) == 1 else short) for (kind, short), full in texts.items()]


def lines_of(rows: Sequence[object], columns: bool) -> int:
    """Lines that a legend takes, in two columns or in one."""
    return -(-len(rows) // 2) if columns else len(rows)


def in_words(arrow: Arrow) -> str:
    """What an arrow does."""
    text = ", ".join(word for word in arrow.words if word != "sum" or len(arrow.words) == 1)
    return {"": "copy", "crop": "copy and crop"}.get(text, text)


def draw_u(graph: Graph) -> Figure:
    """Contracting path, bottom and expanding path, a row a level."""
    said = {"gate": "skip x and signal g into a gate, α x out of it"}
    column = _columns(graph)
    levels = range(max(box.level for box in graph.boxes.values()) + 1)
    tall = [max(sides(graph, name)[1] for name, box in graph.boxes.items() if box.level == level) for level in levels]
    low = MARGIN + lines_of(legend_rows(graph, said), True) * ROW
    height = low + sum(tall) + len(tall) * (2 * LINE + GAP) + MARGIN
    middle = [height - MARGIN - sum(tall[:n]) - n * (2 * LINE + GAP) - LINE - tall[n] / 2 for n in levels]
    pitch = (WIDTH - 0.5) / max(column.values())
    canvas = Canvas(graph, WIDTH, height)
    for name, box in graph.boxes.items():
        x, y = 0.25 + column[name] * pitch, middle[box.level]
        if box.attention:
            canvas.circle(name, x, y, "α", GATE, pixels(box.attention), "#f6d3bd")
            canvas.say(x - GATE - 0.1, y + 0.5 * LINE, "x")
        else:
            canvas.map(name, x, y)
    for arrow in graph.arrows:
        if graph.boxes[arrow.target].attention and graph.boxes[arrow.source].level > graph.boxes[arrow.target].level:
            canvas.up_to_gate(arrow)
        elif len(graph.boxes[arrow.target].parts) > 2 and arrow.kind == "up":
            canvas.join(arrow, f"×{arrow.words[0].rpartition('×')[2]}")
        else:
            padded = [word.removeprefix("padding by ") for word in arrow.words if word.startswith("padding")]
            canvas.join(arrow, f"+{padded[0]}" if padded else "")
    canvas.legend(0.15, low - 0.6 * ROW, said, second=3.7)
    return canvas.figure


def _columns(graph: Graph) -> dict[str, float]:
    """Of every box of a U: down and up stay in a column, a convolution goes one to the right."""
    found: dict[str, float] = {}
    for name, box in graph.boxes.items():
        sources = [a.source for a in graph.into(name) if not graph.boxes[a.source].attention]
        if not sources:
            found[name] = 0
        elif len(box.parts) > 2:
            found[name] = max(found[s] for s in sources) + 1
        elif not box.attention:
            deepest = max(sources, key=lambda s: graph.boxes[s].level)
            found[name] = found[deepest] + (box.level == graph.boxes[deepest].level)
            for arrow in graph.into(name):
                if graph.boxes[arrow.source].attention:  # a gate stands left of where its map goes
                    found[arrow.source] = found[name] - 1
    return found


def draw_row(graph: Graph) -> Figure:
    """One map after the other."""
    rows = len(legend_rows(graph, {}))
    pitch = min(1.5, (WIDTH - 0.7) / (len(graph.boxes) - 1))
    canvas = Canvas(graph, 0.7 + pitch * (len(graph.boxes) - 1), TALL + 2 * LINE + GAP + rows * ROW + 2 * MARGIN)
    middle = canvas.height - MARGIN - LINE - TALL / 2
    for n, name in enumerate(graph.boxes):
        canvas.map(name, 0.35 + n * pitch, middle)
    for arrow in graph.arrows:
        canvas.join(arrow, arrow.words[0].split()[0])
    canvas.legend(0.2, MARGIN + (rows - 0.5) * ROW)
    return canvas.figure


def draw_triangle(graph: Graph) -> Figure:
    """Nodes of a UNet++, a row a level, its heads above them."""
    nodes = {name: (int(name[1]), int(name[2])) for name in graph.boxes if name.startswith("x")}
    depth = max(i for i, _ in nodes.values())
    left, pitch, row, flat = 1.25, 1.62, 0.92, 0.3
    top = MARGIN + NODE + depth * row
    heads = top + 1.1
    mean = heads + 0.75
    canvas = Canvas(graph, WIDTH, mean + flat / 2 + 2 * LINE + MARGIN, tall=flat)
    for name, (i, j) in nodes.items():
        x, y = left + (j + i / 2) * pitch, top - i * row
        canvas.circle(name, x, y, f"$X^{{{i},{j}}}$", NODE)
        if j == depth - i:
            canvas.say(x + NODE + 0.1, y, f"{graph.boxes[name].channels} × {pixels(graph.boxes[name].size)}", ha="left")
    canvas.map("image", 0.35, top, "image")
    canvas.map("mean", WIDTH - 0.4, mean, "mean")
    for name in graph.boxes:
        if name.startswith("L"):
            canvas.map(name, canvas.at[f"x0{name[1:]}"][0], heads, name)
    for arrow in graph.arrows:
        if arrow.source in nodes and arrow.target in nodes:
            neighbours = arrow.kind != "copy" or nodes[arrow.target][1] - nodes[arrow.source][1] == 1
            canvas.across(arrow, 0 if neighbours else 0.15)
        elif arrow.target == "mean":
            x, y = canvas.at[arrow.source]
            canvas.line([(x, y + canvas.half[arrow.source][1]), (x, mean), (WIDTH - 0.4 - canvas.half["mean"][0], mean)], "mean")
        else:
            canvas.join(arrow)
    lowest = MARGIN + 0.5 * ROW
    canvas.legend(0.15, lowest + len(legend_rows(graph, {})) * ROW)
    canvas.say(0.15, lowest, f"X: {', '.join(graph.boxes['x00'].words)}", ha="left")
    return canvas.figure


def draw_pyramid(graph: Graph) -> Figure:
    """Pooled maps from left to right, scores of some of them below, and what is summed of these."""
    said = {"pooling": "3×3 convolutions with ReLU, 2×2 max-pooling"}
    row, pitch, legend = 1.3, 1.15, lines_of(legend_rows(graph, said), True) * ROW
    canvas = Canvas(graph, WIDTH, MARGIN + 2 * LINE + TALL + 3 * row + LINE + legend + 2 * MARGIN)
    top = canvas.height - MARGIN - 2 * LINE - TALL / 2
    for n, name in enumerate(["image", *(name for name in graph.boxes if name.startswith("pool")), "conv7"]):
        canvas.map(name, 0.4 + pitch * n, top, name)
    places = {"score_fc7": (1, "conv7"), "score_pool4": (2, "pool4"), "sum 4": (2, "conv7"), "score_pool3": (3, "pool3"),
              "sum 3": (3, "conv7")}
    for name, (line, under) in places.items():
        canvas.map(name, canvas.at[under][0], top - line * row, "sum" if name.startswith("sum") else "")
    for n, name in enumerate(("FCN-32s", "FCN-16s", "FCN-8s"), 1):
        canvas.map(name, WIDTH - 0.45, top - n * row, name)
    for arrow in graph.arrows:
        count = sum(word.endswith(" convolution") for word in arrow.words)
        factor = arrow.words[0].split()[-1] if "up-sampling" in arrow.words[0] else ""
        canvas.join(arrow, f"{count} conv" if arrow.kind == "pooling" else factor)
    canvas.legend(0.15, MARGIN + legend - 0.5 * ROW, said, second=4.0)
    return canvas.figure
