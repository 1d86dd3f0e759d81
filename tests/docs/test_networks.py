"""docs/explanation/networks.md and its figures say what the networks do."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from biomask import recipes
from biomask.models import MODELS
from biomask.models.blocks import CONVOLUTION, TRANSPOSED
from biomask.recipes.describe import describe_all

DOCS = Path(__file__).parents[2] / "docs"
PAGE, IMAGES = DOCS / "explanation" / "networks.md", DOCS / "images" / "networks"
BUILT_IN = sorted(name for name in MODELS if ":" not in name)
FIGURES = sorted(p.stem for p in IMAGES.glob("*.png"))

#: Bytes of a picture, and its width in pixels: pages show 800.
LARGEST, WIDEST = 120_000, 1000

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs the repository")


@pytest.fixture(scope="module")
def networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        yield importlib.import_module("networks")


@pytest.fixture(scope="module")
def record(networks):
    return importlib.import_module("network_graph").record


@pytest.fixture(scope="module")
def text():
    return PAGE.read_text(encoding="utf-8")


def section(text, network):
    """Of the page, that of a network."""
    return text.partition(f" (`{network}`)\n")[2].partition("\n## ")[0]


def cells(text):
    """Of each row of each table in a text."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def links(graph, kind=None):
    """(source, target) of the arrows of a kind, or of all."""
    return {(a.source, a.target) for a in graph.arrows if kind in (None, a.kind)}


@pytest.mark.parametrize("module", ["network_graph", "network_figures"])
def test_examples_in_docstrings(networks, module):
    found = doctest.testmod(importlib.import_module(module))
    assert (found.failed, found.attempted > 0) == (0, True)


class TestThePage:
    @pytest.mark.parametrize("name", BUILT_IN)
    def test_every_network_has_a_section_and_a_figure(self, networks, text, name):
        assert f" (`{name}`)\n" in text, f"docs/explanation/networks.md has no section of {name}: write one"
        own = [figure for figure, shown in networks.SHOWN.items() if shown.network == name]
        assert own, f"docs/networks.py draws no figure of {name}"
        for figure in own:
            assert (IMAGES / f"{figure}.png").is_file()
            assert f"](../images/networks/{figure}.png)" in section(text, name)

    def test_no_picture_is_left_over(self, networks):
        assert sorted(networks.SHOWN) == FIGURES

    def test_it_is_up_to_date(self, networks, text):
        assert networks.page(text) == text, "run: python docs/networks.py"

    @pytest.mark.parametrize(("right", "wrong"), [("31,030,658", "31,030,659"), ("572² → 570²", "572² → 571²"),
                                                  ("| 96 |", "| 95 |")])
    def test_a_wrong_number_is_seen(self, networks, text, right, wrong):
        assert right in text
        assert networks.page(text.replace(right, wrong)) == text

    def test_every_recipe_with_its_parameters_as_the_command_prints_them(self, text):
        for d in describe_all():
            rows = [row for row in cells(section(text, recipes.get(d.name).network.name)) if row[0] == f"`{d.name}`"]
            assert [row[2:4] for row in rows] == [[f"{d.in_channels} → {d.classes}", f"{d.parameters:,}"]], d.name

    def test_every_choice_of_every_recipe(self, text):
        for name in recipes.names():
            recipe = recipes.get(name)
            for choice in recipe.choices:
                assert f"- {choice}" in section(text, recipe.network.name)


@pytest.mark.parametrize("name", FIGURES)
class TestEveryFigure:
    def test_it_is_drawn_from_what_the_network_does_now(self, networks, name):
        with Image.open(IMAGES / f"{name}.png") as picture:
            assert picture.text["Description"] == networks.digest(name), "run: python docs/networks.py"
            assert picture.width <= WIDEST
        assert (IMAGES / f"{name}.png").stat().st_size <= LARGEST

    def test_its_convolutions_are_those_that_hooks_see(self, networks, record, name):
        """By another way: what each convolution of the network gives."""
        shown = networks.SHOWN[name]
        for recipe in shown.recipes:
            seen, network = [], networks.network_of(recipe)

            def see(_, __, out, seen=seen):
                seen.append((out.shape[1], *out.shape[2:]))

            convolutions = [m for m in network.modules() if isinstance(m, (*CONVOLUTION.values(), *TRANSPOSED.values()))]
            hooks = [module.register_forward_hook(see) for module in convolutions]
            steps = record(network, shown.size)
            for hook in hooks:
                hook.remove()
            assert [(s.channels, *s.size) for s in steps if "convolution" in s.kind] == seen
            assert len(seen) == len(convolutions) > 0

    def test_every_map_is_reached_and_used(self, networks, name):
        graph = networks.graph_of(name)
        assert {a.source for a in graph.arrows} | {a.target for a in graph.arrows} == set(graph.boxes)
        without = [box for box in graph.boxes if not graph.into(box)]
        assert without == ["image"]

    def test_nothing_overlaps_and_all_is_on_the_sheet(self, networks, name):
        figure = networks.SHOWN[name].draw(networks.graph_of(name))
        figure.draw_without_rendering()
        axes, sheet = figure.axes[0], figure.bbox
        texts = [(t.get_text(), t.get_window_extent()) for t in axes.texts]
        shapes = [("shape", p.get_window_extent()) for p in axes.patches if p.get_facecolor()[:3] != (1, 1, 1)]
        for what, box in (*texts, *shapes):
            assert sheet.x0 <= box.x0 <= box.x1 <= sheet.x1, what
            assert sheet.y0 <= box.y0 <= box.y1 <= sheet.y1, what
        for n, (what, box) in enumerate(texts):
            for other, beside in texts[:n]:
                assert not box.padded(-1).overlaps(beside.padded(-1)), f"{what!r} and {other!r}"


class TestUNet:
    def test_sizes_and_channels_of_the_papers_figure_1(self, networks):
        boxes = list(networks.graph_of("unet").boxes.values())
        assert [box.size[0] for box in boxes] == [
            572, 570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28,
            56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388]
        assert [box.channels for box in boxes] == [
            1, 64, 64, 64, 128, 128, 128, 256, 256, 256, 512, 512, 512, 1024, 1024,
            1024, 512, 512, 512, 256, 256, 256, 128, 128, 128, 64, 64, 2]
        assert all(len(set(box.size)) == 1 for box in boxes)

    def test_23_convolutions_and_four_copies_as_the_paper_counts(self, networks):
        arrows = networks.graph_of("unet").arrows
        words = [word for arrow in arrows for word in arrow.words]
        assert [words.count(w) for w in ("3×3 convolution", "2×2 up-convolution", "1×1 convolution")] == [18, 4, 1]
        assert [words.count(w) for w in ("ReLU", "2×2 max-pooling", "crop", "batch norm")] == [18, 4, 4, 0]
        assert sorted(a.kind for a in arrows) == ["1×1"] + ["convolution"] * 18 + ["copy"] * 4 + ["pooling"] * 4 + ["up"] * 4

    def test_copies_come_from_the_last_map_of_their_level(self, networks):
        graph = networks.graph_of("unet")
        sizes = {(graph.boxes[a].size[0], graph.boxes[b].size[0]) for a, b in links(graph, "copy")}
        assert sizes == {(568, 392), (280, 200), (136, 104), (64, 56)}
        for source, target in links(graph, "copy"):
            assert graph.boxes[source].channels == graph.boxes[target].parts[0] == graph.boxes[target].parts[1]

    def test_default_differs_where_its_recipe_says(self, networks):
        words = {word for arrow in networks.graph_of("unet-default").arrows for word in arrow.words}
        assert {"batch norm", "bilinear up-sampling ×2"} <= words
        assert not {"crop", "2×2 up-convolution"} & words


def test_padded_unet_pads_where_pooling_dropped_a_pixel(networks):
    graph = networks.graph_of("unet-padded")
    padded = {graph.boxes[a.target].size[0] for a in graph.arrows if "padding by 1" in a.words}
    assert padded == {71, 143}  # 572 → 286 → 143 → 71 → 35
    assert not any("crop" in a.words for a in graph.arrows)
    bilinear = networks.graph_of("unet-padded-bilinear")
    assert max(box.channels for box in bilinear.boxes.values() if box.level == 4) == 512
    assert any("aligned corners" in word for a in bilinear.arrows for word in a.words)


def test_unet_plus_plus_has_the_links_of_figure_1(networks):
    graph = networks.graph_of("unet++")
    wanted = {("image", "x00")}
    for i in range(5):
        for j in range(5 - i):
            if j:
                wanted |= {(f"x{i}{k}", f"x{i}{j}") for k in range(j)} | {(f"x{i + 1}{j - 1}", f"x{i}{j}")}
            elif i:
                wanted.add((f"x{i - 1}0", f"x{i}0"))
    wanted |= {(f"x0{j}", f"L{j}") for j in range(1, 5)} | {(f"L{j}", "mean") for j in range(1, 5)}
    assert links(graph) == wanted
    assert links(graph, "pooling") == {(f"x{i}0", f"x{i + 1}0") for i in range(4)}
    assert links(graph, "up") == {(a, b) for a, b in wanted if a[0] == b[0] == "x" and int(a[1]) == int(b[1]) + 1}
    for name, box in graph.boxes.items():
        if name.startswith("x"):
            assert (box.channels, box.size) == (32 * 2 ** int(name[1]), (96 // 2 ** int(name[1]),) * 2)
            assert box.words == ("3×3 convolution", "ReLU") * 2


def test_attention_unet_gates_all_skips_at_their_size(networks):
    graph = networks.graph_of("attention-unet")
    gates = {name: box for name, box in graph.boxes.items() if box.attention}
    assert [box.attention for box in gates.values()] == [(28, 28), (56, 56), (112, 112), (224, 224)]
    for name, box in gates.items():
        levels = {graph.boxes[a.source].level for a in graph.into(name)}
        assert levels == {box.level, box.level + 1}
        (target,) = (b for a, b in links(graph) if a == name)
        assert graph.boxes[target].parts[0] == box.channels
    assert not links(graph, "copy")


def test_grid_attention_gates_the_lower_skips_on_the_grid_of_g(networks):
    graph = networks.graph_of("grid-attention-unet")
    gates = {name: box for name, box in graph.boxes.items() if box.attention}
    assert [box.level for box in gates.values()] == [3, 2, 1]
    for name, box in gates.items():
        assert box.attention == tuple(n // 2 for n in box.size)
        (below,) = (a for a in graph.into(name) if graph.boxes[a.source].level > box.level)
        assert graph.boxes[below.source].size == box.attention
    assert [graph.boxes[b].level for _, b in links(graph, "copy")] == [0, 0]  # the topmost skip, and logits of the topmost level
    joined = graph.into("all levels")
    assert [graph.boxes[a.source].level for a in joined] == [0, 1, 2, 3]
    assert [a.words for a in joined] == [(), *((f"trilinear up-sampling ×{2**level}",) for level in (1, 2, 3))]


def test_fcn_sums_scores_of_three_depths(networks):
    graph = networks.graph_of("fcn")
    assert [graph.boxes[f"pool{n}"].size[0] for n in range(1, 6)] == [256, 128, 64, 32, 16]
    assert [graph.boxes[f"pool{n}"].channels for n in range(1, 6)] == [64, 128, 256, 512, 512]
    scores = {("conv7", "score_fc7"), ("pool4", "score_pool4"), ("pool3", "score_pool3")}
    assert links(graph, "1×1") == scores
    assert {(a, b) for a, b in links(graph) if b.startswith("sum")} == {
        ("score_fc7", "sum 4"), ("score_pool4", "sum 4"), ("sum 4", "sum 3"), ("score_pool3", "sum 3")}
    last = {b: (a, words) for a, b, words in ((a.source, a.target, a.words) for a in graph.arrows) if b.startswith("FCN")}
    assert last == {"FCN-32s": ("score_fc7", ("bilinear up-sampling ×32",)), "FCN-16s": ("sum 4", ("bilinear up-sampling ×16",)),
                    "FCN-8s": ("sum 3", ("bilinear up-sampling ×8",))}


def test_sliding_window_ends_at_one_pixel(networks):
    boxes = networks.graph_of("sliding-window").boxes.values()
    assert [box.size[0] for box in boxes] == [95, 92, 46, 42, 21, 18, 9, 6, 3, 1, 1]
    assert [box.channels for box in boxes] == [1, *[48] * 8, 200, 2]


class Odd(nn.Module):
    """A convolution, and then what no network of the page does."""

    in_channels = 1

    def __init__(self, last):
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 3, 5, padding=1, device="meta"), last

    def forward(self, x):
        return self.last(self.conv(x))


@pytest.mark.parametrize(("last", "message"), [
    (lambda x: x.cumsum(dim=1), "cumsum"),
    (lambda x: torch.cat([torch.relu(x), x], dim=1), "before the activation"),
])
def test_what_would_be_drawn_wrongly_is_refused(record, last, message):
    with pytest.raises(NotImplementedError, match=message):
        record(Odd(last), (16, 16))


def test_an_activation_of_a_map_that_was_used_is_a_step_of_its_own(record):
    steps = record(Odd(lambda x: torch.cat([torch.cat([x, x], dim=1), torch.relu(x)], dim=1)), (16, 16))
    assert [(s.kind, s.words) for s in steps] == [("image", ()), ("convolution", ("5×5 convolution",)), ("concatenation", ()),
                                                  ("relu", ("ReLU",)), ("concatenation", ())]
    assert steps[-1].sources == (2, 3)
    assert (steps[-1].channels, steps[-1].size) == (9, (14, 14))
