"""The page of the networks: `python docs/networks.py` draws its figures and writes its tables, from runs of the networks.

What it writes lies between marks in docs/explanation/networks.md; what lies around them is written by hand.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
from matplotlib.figure import Figure
from network_figures import draw_pyramid, draw_row, draw_triangle, draw_u, pixels
from network_graph import Box, Graph, Step, by, graph, record
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from biomask import api, recipes
from biomask.models import DETECTORS, Network
from biomask.models.blocks import parameter_count
from biomask.recipes.catalogue import CATALOGUE
from biomask.recipes.describe import describe

PAGE = Path(__file__).parent / "explanation" / "networks.md"
IMAGES = Path(__file__).parent / "images" / "networks"
MARKED = re.compile(r"(<!-- written by docs/networks\.py: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, shown in SHOWN.items():
        save(shown.draw(graph_of(name)), IMAGES / f"{name}.png", digest(name))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def save(figure: Figure, path: Path, said: str) -> None:
    """As a small PNG, with `said` as its description."""
    drawn, about = BytesIO(), PngInfo()
    figure.savefig(drawn, dpi=110)
    about.add_text("Description", said)
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True, pnginfo=about)


def u_maps(raising: str) -> Callable[[int, Sequence[Step]], str | None]:
    """Every map of a U is a box, but those on the way up, in modules whose names begin with `raising`; so is every gate."""
    def name_of(number: int, steps: Sequence[Step]) -> str | None:
        step = steps[number]
        if step.kind == "product" and not step.module:  # attention times skip, outside of the gate's module
            return name_of(step.sources[0], steps)
        if gate := re.match(r"gate\d", step.module):
            return gate[0]
        if re.match(raising, step.module) and step.kind != "concatenation":
            return None
        return _map(step)
    return name_of


def row_maps(number: int, steps: Sequence[Step]) -> str | None:
    """Every map is a box."""
    return _map(steps[number])


def _map(step: Step) -> str | None:
    """The name of a map of its own."""
    if step.kind == "convolution":
        return step.module
    if step.kind == "concatenation":
        return f"concatenation {step.level}" if len(step.sources) == 2 else "all levels"
    return "image" if step.kind == "image" else f"{step.kind} {step.level}" if step.kind == "max-pooling" else None


def nodes(number: int, steps: Sequence[Step]) -> str | None:
    """Nodes of a UNet++, its heads and their mean."""
    step = steps[number]
    if node := re.match(r"(nodes|heads)\.x(\d\d)", step.module):
        return f"x{node[2]}" if node[1] == "nodes" else f"L{node[2][1]}"
    return step.kind if step.kind in ("image", "mean") else None


def pooled_and_scores(number: int, steps: Sequence[Step]) -> str | None:
    """Pooled maps of an FCN, the last one before scores, scores, sums and logits."""
    step = steps[number]
    names = {"image": "image", "max-pooling": f"pool{step.level}", "sum": f"sum {step.level}", "up-sampling": "logits"}
    if step.kind == "convolution":
        return "conv7" if step.module == "classifier.3" else step.module if step.module.startswith("score") else None
    return names.get(step.kind)


@dataclass(frozen=True)
class Shown:
    """A figure: the networks of one recipe, or of several that are drawn as one."""

    network: str
    """In biomask.models.MODELS."""
    recipes: tuple[str, ...]
    size: tuple[int, ...]
    """Of the image, in pixels."""
    name_of: Callable[[int, Sequence[Step]], str | None]
    """To which box each step belongs; see `network_graph.graph`."""
    draw: Callable[[Graph], Figure]
    table: Callable[[Graph], list[list[str]]]
    """Rows of its numbers, the head first."""
    caption: str


@cache
def network_of(recipe: str) -> Any:
    """The network of a recipe, of full width, without memory."""
    entry = CATALOGUE[recipe]
    undrawn = mock.patch("torch.nn.init.normal_", lambda tensor, *_, **__: tensor)  # nothing could hold the numbers
    with torch.device("meta"), undrawn:
        return api.build(recipe, in_channels=entry.in_channels, classes=entry.classes, spatial_dims=entry.spatial_dims)


@cache
def graph_of(name: str) -> Graph:
    """What a figure is drawn from. Raises ValueError where networks drawn as one differ in a box that they share."""
    shown = SHOWN[name]
    graphs = [graph(record(network_of(recipe), shown.size), shown.name_of) for recipe in shown.recipes]
    if len(graphs) == 1:
        return graphs[0]
    boxes, arrows = {}, {}
    for recipe, one in zip(shown.recipes, graphs, strict=True):
        own = {"logits": recipe.upper().replace("S", "s")}  # of each network
        for key, box in one.boxes.items():
            if boxes.setdefault(own.get(key, key), box) != box:
                raise ValueError(f"{recipe}: {key} is {box}, not {boxes[key]} as before")
        for arrow in one.arrows:
            target = own.get(arrow.target, arrow.target)
            arrows[arrow.source, target, arrow.words] = replace(arrow, target=target)
    return Graph(boxes, tuple(arrows.values()))


def digest(name: str) -> str:
    """Of what a figure is drawn from; kept in the picture, so that a test sees one that is out of date."""
    return hashlib.sha256(repr(asdict(graph_of(name))).encode()).hexdigest()


def u_table(drawn: Graph) -> list[list[str]]:
    """Channels and pixels of each level, on the way down and up."""
    gated = any(box.attention for box in drawn.boxes.values())
    rows = [["level", "channels down", "pixels", "channels up", "pixels"] + ["gate's attention"] * gated]
    for level in range(max(box.level for box in drawn.boxes.values()) + 1):
        here = [box for box in drawn.boxes.values() if box.level == level and not box.attention]
        up = next((n for n, box in enumerate(here) if box.parts), len(here))
        gates = [pixels(box.attention) for box in drawn.boxes.values() if box.level == level and box.attention]
        rows.append([str(level), *_run(here[:up]), *_run(here[up:])] + [" ".join(gates)] * gated)
    return rows


def _run(boxes: Sequence[Box]) -> tuple[str, str]:
    """Channels and pixels of maps one after the other; pixels once where they stay."""
    sizes = [pixels(box.size) for box in boxes]
    return " → ".join(str(box.channels) for box in boxes), " → ".join(sizes if len(set(sizes)) > 1 else sizes[:1])


def row_table(drawn: Graph) -> list[list[str]]:
    """A line a map."""
    rows = [["map", "made from", "by", "channels", "pixels"]]
    for name, box in drawn.boxes.items():
        into = drawn.into(name)
        made = "; ".join(", ".join(a.words) for a in into)
        rows.append([name, ", ".join(a.source for a in into), made, str(box.channels), pixels(box.size)])
    return rows


def triangle_table(drawn: Graph) -> list[list[str]]:
    """A line a row of nodes."""
    rows = [["row", "nodes", "channels", "pixels", "inputs of the nodes"]]
    of_rows: dict[int, list[str]] = {}
    for name in sorted(n for n in drawn.boxes if n.startswith("x")):
        of_rows.setdefault(int(name[1]), []).append(name)
    for row, names in of_rows.items():
        box = drawn.boxes[names[0]]
        rows.append([str(row), ", ".join(names), str(box.channels), pixels(box.size),
                     ", ".join(str(len(drawn.into(name))) for name in names)])
    return rows


SHOWN = {
    "unet": Shown(
        "unet", ("unet-2015",), (572, 572), u_maps(r"ups\."), draw_u, u_table,
        "The U-Net of 2015, recipe `unet-2015`: channels above each map, pixels below; white is what is copied."),
    "unet-default": Shown(
        "unet", ("default",), (256, 256), u_maps(r"ups\."), draw_u, u_table,
        "What `biomask train` takes when nothing is said, recipe `default`, at its usual size."),
    "unet-padded": Shown(
        "unet-padded", ("unet-milesial",), (572, 572), u_maps(r"up\d\.up"), draw_u, u_table,
        "Recipe `unet-milesial` on an image that 16 does not divide: pooling drops a last pixel, and what comes up is padded "
        "(+1) to what it is put beside."),
    "unet-padded-bilinear": Shown(
        "unet-padded", ("unet-milesial-bilinear",), (572, 572), u_maps(r"up\d\.up"), draw_u, u_table,
        "Recipe `unet-milesial-bilinear`: half the channels below, and up-sampling without weights."),
    "unet++": Shown(
        "unet++", ("unet++",), (96, 96), nodes, draw_triangle, triangle_table,
        "Recipe `unet++`: every node takes all nodes left of it in its row and the one below. L1 … L4: the heads, and what is "
        "left when the network is cut there."),
    "attention-unet": Shown(
        "attention-unet", ("attention-unet",), (224, 224), u_maps(r"up\d\."), draw_u, u_table,
        "Recipe `attention-unet`: each skip x passes a gate, which the map g from below opens or closes; the pixels of α are "
        "written under it."),
    "grid-attention-unet": Shown(
        "grid-attention-unet", ("attention-unet-3d",), (64, 64, 64), u_maps("gating"), draw_u, u_table,
        "Recipe `attention-unet-3d`: gates on the coarser grid of g, the topmost skip without one, and logits of all levels, "
        "raised and joined."),
    "fcn": Shown(
        "fcn", ("fcn-32s", "fcn-16s", "fcn-8s"), (512, 512), pooled_and_scores, draw_pyramid, row_table,
        "Recipes `fcn-32s`, `fcn-16s` and `fcn-8s`: scores of conv7, to which those of pool4 and of pool3 are added."),
    "sliding-window": Shown(
        "sliding-window", ("sliding-window-2012",), (95, 95), row_maps, draw_row, row_table,
        "Recipe `sliding-window-2012` on one window: kernels above the arrows."),
    "one-layer": Shown(
        "one-layer", ("one-layer",), (256, 256), row_maps, draw_row, row_table, "Recipe `one-layer`: all of it."),
}


def page(text: str) -> str:
    """The page with what lies between marks written anew."""
    return MARKED.sub(lambda found: f"{found[1]}{written(found[2])}{found[3]}", text)


def written(network: str) -> str:
    """What is written of a network: figures, levels, recipes, choices."""
    parts = []
    for name, shown in SHOWN.items():
        if shown.network == network:
            ends = [pixels(box.size) for box in graph_of(name).boxes.values()]
            parts.append(f"![{shown.caption.split(':')[0].replace('`', '')}](../images/networks/{name}.png)")
            parts.append(f"*{shown.caption} {ends[0]} → {ends[-1]}.*")
            parts.append(table(shown.table(graph_of(name))))
    own = [name for name in CATALOGUE if recipes.get(name).network.name == network]
    parts += [table(recipe_rows(own)), choices(own)]
    return "\n" + "".join(f"{part}\n\n" for part in parts if part)


def recipe_rows(names: Sequence[str]) -> list[list[str]]:
    """A line a recipe: what tiling asks for is that of the network itself; detectors see windows and need nothing of it."""
    rows = [["recipe", "what it is", "channels → classes", "parameters", "stride", "halo", "margin", "tiles exactly"]]
    if all(recipes.get(name).network.name in DETECTORS for name in names):
        shown = [describe(name) for name in names]
        return [rows[0][:4], *([f"`{d.name}`", recipes.get(d.name).title, f"{d.in_channels} → {d.classes}", f"{d.parameters:,}"]
                               for d in shown)]
    for name in names:
        network, entry = cast(Network, network_of(name)), CATALOGUE[name]
        rows.append([f"`{name}`", recipes.get(name).title, f"{entry.in_channels} → {entry.classes}",
                     f"{parameter_count(network_of(name)):,}",
                     *(by(sorted(set(along))) for along in (network.strides, network.halo, network.margin)),
                     "yes" if network.exact_tiling else "no"])
    return rows


def choices(names: Sequence[str]) -> str:
    """What the recipes decide where their source does not, or otherwise; those that share it are named unless all do."""
    shared: dict[str, list[str]] = {}
    for name in names:
        for choice in recipes.get(name).choices:
            shared.setdefault(choice, []).append(name)
    lines = [f"- {choice}" + ("" if of == list(names) else f" ({', '.join(f'`{n}`' for n in of)})")
             for choice, of in shared.items()]
    return "Where the source is silent, or biomask differs from it:\n\n" + "\n".join(lines) if lines else ""


def table(rows: Sequence[Sequence[str]]) -> str:
    """In Markdown, the first row as its head."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


if __name__ == "__main__":
    main()
