"""The report of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biomask.reports.blocks import Block, Cell, Code, Gallery, Headline, Jump, KeyValues, Paragraph, Points, Section, Table, show
from biomask.reports.figures import MAIN, MARKED, QUIET, WIDTH, score_bars, svg
from biomask.reports.html import render
from biomask.reports.parts import chart, duration, folded
from biomask.reports.run import versions
from biomask.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What a score is called.
SCORE = {"ap50": "AP at 0.5", "dice": "Dice"}

#: Below this p after Holm's correction a difference is called one.
SURE = 0.05


def comparison_report(record: Mapping[str, Any], pictures: Sequence[Gallery] = ()) -> str:
    """HTML page on one comparison.

    record: the content of comparison.json. pictures: an image each, with what every side made of it.
    """
    rows, name = record["rows"], SCORE.get(record["metric"] or "", "score")
    done = count(len(rows), "side")
    if not rows:
        nothing = Section("", (Paragraph("No recipe has all of its trainings yet: run the same command again."),))
        return render("Comparison", str(record["data"]), [nothing, *_failed(record)])
    sections = [_costs_section(rows, name), *_seeds_section(rows, name), *_curve_section(record, name),
                *_pictures_section(pictures), _images_section(record, name), *_failed(record), _how_section(record)]
    best = max(rows, key=lambda r: (r["score"] is not None, r["score"] or 0.0))
    headline = Headline(((f"best {name}", best["score"], best["name"]), ("compared", len(rows), "recipes and other predictions"),
                         ("images judged", len(record["images"]), str(record["splits"]))))
    bars = chart(score_bars([r["name"] for r in rows], [r["score"] for r in rows], name, rows.index(best)),
                 f"{name} of {done}.", f"{name}, mean over images.")
    ways = Jump(tuple((s.title, s.anchor) for s in sections if s.anchor))
    first = Section("", (headline, ways, Points(tuple(_verdicts(rows))), bars, _table(rows, name, record["footnotes"])))
    return render("Comparison", f"{', '.join(r['name'] for r in rows)} on {record['data']}", [first, *sections])


def _table(rows: Sequence[Mapping[str, Any]], name: str, footnotes: Sequence[str]) -> Table:
    first = rows[0]["name"]
    cells: list[tuple[Cell, ...]] = []
    for row in rows:
        d = row["difference"] or {}
        between = f"{_signed(d.get('low'))} … {_signed(d.get('high'))}" if d.get("low") is not None else None
        cells.append((row["name"], row["score"], _ends(row["interval"]), _signed(d.get("mean")), between, _p(d.get("p_holm"))))
    return Table(("", name, rows[0]["interval"]["kind"], f"less {first}", "of the difference", "p (Holm)"), tuple(cells),
                 tuple(footnotes))


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence a side that is compared with the first."""
    first, found = rows[0]["name"], list[str]()
    for row in rows[1:]:
        d = row["difference"]
        if d is None or d["mean"] is None or d.get("p_holm") is None:
            found.append(f"{row['name']} cannot be compared with {first}: no image has both scores.")
        elif d["p_holm"] <= SURE and d["mean"]:
            found.append(f"{row['name']} is {'better' if d['mean'] > 0 else 'worse'} than {first} by {abs(d['mean']):.3f} "
                         f"(p {_p(d['p_holm'])}).")
        else:
            found.append(f"{row['name']} and {first} cannot be told apart on these images: {_signed(d['mean'])} "
                         f"(p {_p(d['p_holm'])}).")
    return found


def _costs_section(rows: Sequence[Mapping[str, Any]], name: str) -> Section:
    """What each recipe costs, as a table and against its score."""
    own = [r for r in rows if r["costs"] is not None]
    if not own:
        return Section("What it costs", (Paragraph("Nothing is known of the costs of other people's predictions."),), "costs")
    cells: list[tuple[Cell, ...]] = []
    for row in own:
        c = row["costs"]
        cells.append((row["name"], c["parameters"], None if c["flops"] is None else round(c["flops"] / 1e9, 1), c["steps"],
                      duration(c["training_seconds"]), c["seconds_a_megapixel"],
                      None if c["peak_bytes"] is None else round(c["peak_bytes"] / 1e9, 2)))
    table = Table(("", "parameters", "GFLOP", "steps", "training", "s a megapixel", "peak memory, GB"), tuple(cells), (
        "GFLOP: operations of a prediction of 512² pixels, or of 64³ voxels; those of a detector depend on what it finds. Seconds "
        "a megapixel: prediction with reading, copies, objects and writing. Training: mean of all trainings. Peak memory: of the "
        "process, or of the GPU where one is used.",))
    points = [(r["name"], float(r["costs"]["seconds_a_megapixel"]), float(r["score"])) for r in own
              if r["score"] is not None and r["costs"]["seconds_a_megapixel"] is not None]
    blocks: list[Block] = [table]
    if len(points) > 1:
        blocks.append(chart(score_against_cost(points, name), f"{name} against the time of a prediction.",
                            f"{name} against seconds to predict a megapixel (logarithmic): up is better, left is cheaper."))
    return Section("What it costs", tuple(blocks), "costs")


def _seeds_section(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[Section, ...]:
    """Scores by seed; none where there is one."""
    own = [r for r in rows if not r["external"]]
    if max((len(r["by_seed"]) for r in own), default=0) < 2:
        return ()
    cells = tuple((r["name"], *r["by_seed"], *(None,) * (max(len(o["by_seed"]) for o in own) - len(r["by_seed"]))) for r in own)
    columns = ("", *(f"seed {n + 1}" for n in range(len(cells[0]) - 1)))
    return (Section("Other seeds", (Table(columns, cells, (f"{name}, mean over images, of each training anew.",)),), "seeds"),)


def _curve_section(record: Mapping[str, Any], name: str) -> tuple[Section, ...]:
    """Learning curves and what more images would give; none without sizes."""
    curves = record.get("curve")
    if not curves:
        return ()
    blocks: list[Block] = []
    for curve in curves.values():
        known = [p for p in curve["points"] if p["score"] is not None]
        ahead = curve["forecast"]["targets"] if curve["forecast"] else []
        caption = f"{name} of {curve['recipe']} by the number of training images" + (
            "; dashed: forecast, with its 95 % interval." if ahead else ".")
        blocks.append(chart(learning_curve(known, ahead, name), caption, caption))
        rows: list[tuple[Cell, ...]] = [(p["images"], p["score"], _ends(p["interval"]), "measured") for p in curve["points"]]
        rows += [(t["images"], round(t["score"], 3), f"{t['low']:.3f} to {t['high']:.3f}", "forecast") for t in ahead]
        blocks.append(Table(("training images", name, "95 %", ""), tuple(rows), (
            "Forecast: curves a − b n^−c that fit the measured points, drawn over resampled images and over what chance of "
            "training adds; the interval is for another training with so many images from where these came from.",)))
        if curve["forecast"]:
            blocks.append(Paragraph(f"{curve['recipe']}: {curve['forecast']['says']}."))
    return (Section("How many more images?", tuple(blocks), "curve"),)


def _pictures_section(pictures: Sequence[Gallery]) -> tuple[Section, ...]:
    if not pictures:
        return ()
    said = Paragraph("The images on which the sides differ most, then those on which each is worst. Outlines are predictions; the "
                     "truth stands beside the image. Of several seeds the first is shown.")
    return (Section("Side by side", (said, *pictures), "pictures"),)


def _images_section(record: Mapping[str, Any], name: str) -> Section:
    names = [r["name"] for r in record["rows"]]
    rows = tuple((str(i["name"]), *(i.get(n) for n in names)) for i in record["images"])
    table = Table(("image", *names), rows, (f"{name}; – where it is undefined, or was not predicted.",))
    return Section("Each image", (folded(table, "images with the scores of each side"),), "images")


def _failed(record: Mapping[str, Any]) -> tuple[Section, ...]:
    failed = record.get("failed") or ()
    return (Section("What failed", (Points(tuple(failed)),), "failed"),) if failed else ()


def _how_section(record: Mapping[str, Any]) -> Section:
    budget = f"{record['steps']:,} steps" if record["steps"] else f"{record['minutes']:g} minutes" if record["minutes"] else None
    device = next((r["costs"]["device"] for r in record["rows"] if r["costs"]), None)
    facts = (("data", str(record["data"])), ("splits", str(record["splits"])), ("seeds", ", ".join(map(str, record["seeds"]))),
             ("budget of each training", budget), ("device", device), ("SHA-256 of the data", record["data_sha256"]),
             *((name, version) for name, version in versions().items()))
    recipes = Code("\n".join(_recipe_line(name, recipe) for name, recipe in record["recipes"].items()), "Recipes")
    return Section("How it was compared", (KeyValues(tuple((k, v) for k, v in facts if v)), recipes), "how")


def _recipe_line(name: str, recipe: Mapping[str, Any]) -> str:
    network = recipe["network"]
    return f"{name}: {network['name']} {network['options'] or ''} · {recipe['source']}".rstrip(" ·")


def score_against_cost(points: Sequence[tuple[str, float, float]], name: str) -> bytes:
    """SVG: score over seconds a megapixel, a labelled dot a recipe; those that none is better and cheaper than stand out."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for label, cost, score in points:
            front = not any(c <= cost and s >= score and (c, s) != (cost, score) for _, c, s in points)
            axes.scatter([cost], [score], s=34, color=MARKED if front else MAIN, zorder=3)
            axes.annotate(label, (cost, score), xytext=(6, 4), textcoords="offset points")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.margins(x=0.25, y=0.2)
        axes.set_xlabel("seconds to predict a megapixel")
        axes.set_ylabel(name)
        figure.subplots_adjust(left=0.11, right=0.97, top=0.96, bottom=0.17)

    return svg(draw, (WIDTH * 0.72, 3.0))


def learning_curve(points: Sequence[Mapping[str, Any]], ahead: Sequence[Mapping[str, Any]], name: str) -> bytes:
    """SVG: score over the number of training images with intervals, and the forecast."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        _with_intervals(axes, [(p["images"], p["score"], p["interval"]["low"], p["interval"]["high"]) for p in points], MAIN, "-")
        if ahead:
            last = points[-1]
            joined = [(last["images"], last["score"], last["score"], last["score"]),
                      *((t["images"], t["score"], t["low"], t["high"]) for t in ahead)]
            _with_intervals(axes, joined, QUIET, (0, (4, 3)))
        axes.set_xscale("log")
        ticks = [p["images"] for p in (*points, *ahead)]
        axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
        axes.minorticks_off()
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("training images")
        axes.set_ylabel(name)
        figure.subplots_adjust(left=0.11, right=0.97, top=0.96, bottom=0.17)

    return svg(draw, (WIDTH * 0.72, 3.0))


def _with_intervals(axes: Axes, points: Sequence[tuple[float, float, float | None, float | None]], colour: str, style: Any) -> None:
    across = [p[0] for p in points]
    axes.plot(across, [p[1] for p in points], color=colour, linewidth=1.4, marker="o", markersize=4, linestyle=style)
    if all(p[2] is not None and p[3] is not None for p in points):
        axes.fill_between(across, [float(p[2] or 0) for p in points], [float(p[3] or 0) for p in points], color=colour, alpha=0.18,
                          linewidth=0)


def _ends(interval: Mapping[str, Any]) -> str | None:
    return None if interval["low"] is None else f"{interval['low']:.3f} to {interval['high']:.3f}"


def _signed(value: float | None) -> str | None:
    return None if value is None else f"{value:+.3f}"


def _p(value: float | None) -> str | None:
    return None if value is None else "< 0.001" if value < 0.001 else show(value)
