"""What the labels of a data folder hold: classes with their share of the pixels, objects with their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from biomask.checking.held import Held, held, position_of
from biomask.data.encoding import Encoding
from biomask.labels import PALETTE
from biomask.reports.blocks import Block, Table
from biomask.reports.figures import GRID, MAIN, MARKED, QUIET, WIDTH, svg
from biomask.reports.parts import chart, folded
from biomask.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from biomask.data.facts import Inspected, LabelFacts

Rgb = tuple[int, int, int]

#: Fewer images have no distribution to look at.
FEWEST = 4

#: More classes than this are not drawn.
MOST_DRAWN = 24

#: Classes named under a picture.
MOST_NAMED = 4


def outline_colours(facts: LabelFacts, number: int = 0) -> dict[int, Rgb]:
    """{stored value: RGB of its outline in the small picture}; empty where the values are not all known.

    number: of the structure, where there are several. The colours go by the rank of a value within its image.
    """
    if facts.distinct != len(facts.counts):
        return {}
    ranks = enumerate(sorted({0, *facts.counts}))
    return {value: PALETTE[(rank - 1 + number) % (len(PALETTE) - 1)] for rank, value in ranks if rank > 0}


def drawn(item: Inspected, encoding: Encoding | None) -> dict[int, Rgb]:
    """{position in the legend: RGB of its outlines in the small picture of an image}, where they have one colour."""
    if encoding is None or encoding.kind not in ("classes", "multilabel") or encoding.form not in ("values", "colours"):
        return {}
    if encoding.kind == "multilabel":
        colours = [outline_colours(f, k) for k, f in enumerate(item.labels)]
        return {k + 1: next(iter(c.values())) for k, c in enumerate(colours) if len(c) == 1}
    found: dict[int, list[Rgb]] = {}
    for value, colour in outline_colours(item.labels[0]).items() if item.labels else ():
        position = position_of(value, encoding) if value != encoding.ignore else None
        if position is not None:
            found.setdefault(position, []).append(colour)
    return {p: c[0] for p, c in found.items() if len(c) == 1}


def agreed(items: Sequence[Inspected], encoding: Encoding | None) -> dict[int, Rgb]:
    """The same for all images; empty where they differ."""
    found: dict[int, Rgb] = {}
    for item in items:
        for position, colour in drawn(item, encoding).items():
            if found.setdefault(position, colour) != colour:
                return {}
    return found


def caption(item: Inspected, encoding: Encoding | None) -> list[tuple[str, Rgb | None]]:
    """What an image holds, in a few words: (words, the colour of its outlines) each."""
    if not item.labels:
        return [("no labels", None)]
    if all(f.empty and f.form != "fractions" for f in item.labels):
        return [("empty mask", None)]
    found = held(item, encoding)
    if encoding is None or found is None:
        objects = sum(f.objects for f in item.labels)
        return [(count(objects, "value"), None)] if objects else []
    names = [e.name for e in encoding.legend]
    if encoding.kind == "instances":
        total = sum(found.objects.values())
        by_class = [(f"{names[p]} {n:,}", None) for p, n in sorted(found.objects.items(), key=lambda i: -i[1])]
        return [(count(total, "object"), None)] if len(names) <= 2 else _few(by_class)
    colours = drawn(item, encoding) if len(names) > 2 else {}
    shares = sorted(((p, found.share(p)) for p, n in found.pixels.items() if p > 0 and n), key=lambda s: -s[1])
    if encoding.form != "objects":
        shares.sort()
    said = _few([(f"{names[p]} {percent(share)}", colours.get(p)) for p, share in shares])
    return [*said, (f"ignored {percent(found.ignored / (found.total + found.ignored))}", None)] if found.ignored else said


def _few(parts: Sequence[tuple[str, Rgb | None]]) -> list[tuple[str, Rgb | None]]:
    return [*parts[:MOST_NAMED], *([(f"and {len(parts) - MOST_NAMED} more", None)] if len(parts) > MOST_NAMED else [])]


def percent(share: float) -> str:
    """A share for people.

    >>> percent(0.7804), percent(0.034), percent(0.0002), percent(0)
    ('78 %', '3.4 %', '< 0.1 %', '0 %')
    """
    if not share:
        return "0 %"
    return f"{share:.0%}".replace("%", " %") if share >= 0.0995 else f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"


def _number(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def content_blocks(items: Sequence[Inspected], encoding: Encoding | None) -> tuple[Block, ...]:
    """A table of the classes and a chart of what varies between images; nothing where nothing can be counted."""
    found = [h for h in (held(i, encoding) for i in items) if h is not None]
    if encoding is None or not found:
        return ()
    if encoding.kind == "instances":
        sizes = [n for h in found for several in h.sizes.values() for n in several]
        unit = "voxels" if len(items[0].image.size) == 3 else "px"
        blocks = [folded(_object_classes(found, encoding, unit), "classes of objects")] if len(encoding.legend) > 2 else []
        if len(found) >= FEWEST and len(set(sizes)) > 1:
            blocks.append(object_chart(sizes, [sum(h.objects.values()) for h in found], unit))
        return tuple(blocks)
    table = folded(_class_table(found, encoding), "classes")
    foreground = list(enumerate(encoding.legend))[1:]
    if len(found) < FEWEST or len(foreground) > MOST_DRAWN:
        return (table,)
    if not foreground:
        return (table,)
    return (table, _share_chart([e.name for _, e in foreground], [[h.share(p) for h in found] for p, _ in foreground]))


def _class_table(found: Sequence[Held], encoding: Encoding) -> Table:
    total = sum(h.total for h in found)
    rows = []
    for position, entry in enumerate(encoding.legend):
        if position == 0 and encoding.kind in ("multilabel", "soft"):
            continue
        shares = [h.share(position) for h in found]
        value = f"#{entry.colour[0]:02x}{entry.colour[1]:02x}{entry.colour[2]:02x}" if encoding.form == "colours" else entry.value
        rows.append((entry.name, value if encoding.kind == "classes" and encoding.form != "objects" else None,
                     percent(sum(h.pixels.get(position, 0) for h in found) / total if total else 0.0), sum(s > 0 for s in shares),
                     percent(min(shares)), percent(median(shares)), percent(max(shares))))
    columns = ("class", "value in masks", "share of pixels", "images with it", "lowest share", "median share", "highest share")
    if all(row[1] is None for row in rows):
        rows, columns = [row[:1] + row[2:] for row in rows], columns[:1] + columns[2:]  # type: ignore[misc, assignment]
    notes = [f"Share of pixels: over all pixels of {count(len(found), 'image')}; lowest, median and highest: over the images."]
    ignored = sum(h.ignored for h in found)
    if ignored:
        notes.append(f"Value {encoding.ignore} is ignored: {percent(ignored / (total + ignored))} of the pixels, in no share.")
    if encoding.kind in ("multilabel", "soft"):
        notes.append("Structures may overlap; of averages of experts, pixels count where at least half agree.")
    return Table(columns, tuple(rows), tuple(notes))


def _object_classes(found: Sequence[Held], encoding: Encoding, unit: str) -> Table:
    rows = []
    for position, entry in list(enumerate(encoding.legend))[1:]:
        sizes = [n for h in found for n in h.sizes.get(position, [])]
        images = sum(position in h.objects for h in found)
        rows.append((-len(sizes), (entry.name, len(sizes), images, round(median(sizes)) if sizes else None)))
    rows.sort(key=lambda r: r[0])
    return Table(("class", "objects", "images with it", f"median size, {unit}"), tuple(row for _, row in rows))


def object_chart(sizes: Sequence[float], per_image: Sequence[int], unit: str) -> Block:
    """Two histograms: sizes of objects on a logarithmic axis, and objects an image. sizes: above 0."""

    def draw(figure: Any) -> None:
        left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
        low, high = min(sizes), max(sizes)
        _histogram(left, sizes, np.geomspace(low, max(high, low * 1.01) * 1.0001, 33),
                   f"Size of an object · median {_round(median(sizes))} {unit}", unit)
        left.set_xscale("log")
        left.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        left.xaxis.set_minor_formatter(lambda value, _: "")
        left.set_ylabel("objects")
        most = max(per_image)
        bins = np.linspace(-0.5, most + 0.5, most + 2) if most <= 32 else np.linspace(0, most + 1, 33)
        _histogram(right, per_image, bins, f"Objects in an image · median {_number(median(per_image))}", "objects")
        right.set_ylabel("images")
        figure.subplots_adjust(left=0.08, right=0.985, top=0.86, bottom=0.21, wspace=0.24)

    alt = (f"Two histograms. Size of {len(sizes):,} objects: {_round(min(sizes))} to {_round(max(sizes))} {unit}, median "
           f"{_round(median(sizes))}. Objects in an image: {min(per_image):,} to {max(per_image):,}, median "
           f"{_number(median(per_image))}.")
    said = f"{count(len(sizes), 'object')} in {count(len(per_image), 'image')}, sizes on a logarithmic axis; the lines are medians."
    return chart(svg(draw, (WIDTH, 2.3)), alt, said)


def _round(value: float) -> str:
    """Whole from 10 on, else with two digits."""
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.2g}"


def _histogram(axes: Axes, values: Sequence[float], bins: Any, title: str, label: str) -> None:
    axes.hist(values, bins=bins, color=MAIN)
    axes.axvline(float(median(values)), color=MARKED, linewidth=1.1)
    axes.set_title(title)
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="y", integer=True, nbins=4)


def _share_chart(names: Sequence[str], shares: Sequence[Sequence[float]]) -> Block:
    """One row a class: line from the lowest to the highest image, bar of the middle 80 %, dot at the median."""
    height = 0.55 + 0.27 * len(names)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        short = [n if len(n) <= 24 else f"{n[:11]}…{n[-12:]}" for n in names]
        figure.subplots_adjust(left=0.02 + 0.0105 * max(map(len, short)), right=0.975, top=0.98, bottom=0.46 / height)
        for row, values in enumerate(shares):
            low, ten, middle, ninety, high = (100 * float(v) for v in np.percentile(values, [0, 10, 50, 90, 100]))
            axes.plot([low, high], [row, row], color=QUIET, linewidth=1.2, solid_capstyle="round")
            axes.plot([ten, ninety], [row, row], color=MAIN, linewidth=6, solid_capstyle="butt")
            axes.plot([middle], [row], marker="o", markersize=6.5, color=MARKED, markeredgecolor=GRID, markeredgewidth=0.8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(0, max(1.0, min(100.0, 105 * max(max(s) for s in shares))))
        axes.set_yticks(range(len(names)), ["".join(c if c.isprintable() else "�" for c in n) for n in short])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share of the pixels of an image, %")

    alt = "; ".join(f"{name}: {percent(min(s))} to {percent(max(s))}, median {percent(median(s))}"
                    for name, s in zip(names, shares, strict=True))
    said = f"Line: from the lowest to the highest of {count(len(shares[0]), 'image')}; bar: the middle 80 % of them; dot: median."
    return chart(svg(draw, (WIDTH, height)), f"Share of the pixels of an image. {alt}.", said)
