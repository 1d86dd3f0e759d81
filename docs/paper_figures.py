"""Plots of docs/explanation/papers.md; `python docs/papers.py` draws them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"

Results = Sequence[Mapping[str, Any]]
Published = Mapping[str, Mapping[str, Mapping[str, float]]]


def digest(results: Results, published: Published) -> str:
    """Of all that figures are drawn from."""
    return hashlib.sha256(json.dumps([list(results), published], sort_keys=True).encode()).hexdigest()


def first(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Scores of its first variant."""
    return next(iter(result["scores"].values()))  # type: ignore[no-any-return]


def isbi2012(results: Results, published: Published) -> Figure | None:
    """Three scores of each recipe."""
    rows = [r for r in results if r["row"]["table"] == "isbi2012"]
    if not rows:
        return None
    rows.sort(key=lambda r: first(r)["metrics"]["isbi"]["pooled"]["rand_f_thinned"] or 0)
    names = [r["row"]["recipe"] + (" (full)" if r["row"]["size"] == "full" else "") for r in rows]
    shown: list[tuple[str, Callable[[Mapping[str, Any]], float | None], str | None]] = [
        ("membrane Dice", lambda s: s["per_class"]["0"]["dice"], None),
        ("Rand F after thinning", lambda s: s["metrics"]["isbi"]["pooled"]["rand_f_thinned"], None),
        ("warping error, splits and mergers", lambda s: s["metrics"]["isbi"]["pooled"]["splits_and_mergers"], "warping")]
    figure = Figure((10, 1.2 + 0.24 * len(rows)), layout="constrained")
    for axes, (title, score, key) in zip(figure.subplots(1, 3, sharey=True), shown, strict=True):
        values = [score(first(r)) for r in rows]
        axes.scatter([float("nan") if v is None else v for v in values], range(len(rows)), color=BLUE, zorder=3)
        if key is not None:
            for recipe, colour in (("unet-2015", ORANGE), ("sliding-window-2012", GREY)):
                axes.axvline(published["isbi2012"][recipe][key], color=colour, ls="--", lw=1.5)
            axes.set_xscale("log")
            axes.text(published["isbi2012"]["unet-2015"][key], 1.01, "the papers, other test slices", fontsize=7, color="0.3",
                      transform=axes.get_xaxis_transform(), ha="left")
            axes.set_xlabel(title)
        else:
            axes.set_title(title, fontsize=10)
        axes.grid(axis="y", color="0.9", lw=0.8)
        axes.set_yticks(range(len(rows)), names, fontsize=8)
    return figure


def published_beside(results: Results, published: Published) -> Figure | None:
    """Ours and the paper's IoU, where both are."""
    score = {"drishti": lambda s: s["metrics"]["article"]["mean"]["iou"], "dsb2018": lambda s: s["mean"]["iou"],
             "hela": lambda s: s["metrics"]["ctc"]["pooled"]["seg"]}
    pairs = []
    for r in results:
        table, recipe = r["row"]["table"], r["row"]["recipe"]
        theirs = published.get(table, {}).get(recipe, {})
        value = theirs.get("seg", theirs.get("iou"))
        if table in score and value is not None:
            pairs.append((f"{table}: {recipe}" + (" (full)" if r["row"]["size"] == "full" else ""), score[table](first(r)), value))
    if not pairs:
        return None
    figure = Figure((7.5, 1 + 0.32 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    for n, (_, ours, theirs) in enumerate(pairs):
        axes.plot((ours, theirs), (n, n), color="0.8", lw=2, zorder=1)
    axes.scatter([p[1] for p in pairs], range(len(pairs)), color=BLUE, zorder=3, label="ours, reduced")
    axes.scatter([p[2] for p in pairs], range(len(pairs)), color=ORANGE, marker="D", zorder=3, label="the paper")
    axes.set_yticks(range(len(pairs)), [p[0] for p in pairs])
    axes.set(xlabel="IoU (SEG for hela)", xlim=(0, 1), ylim=(len(pairs) - 0.5, -0.5))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8)
    return figure


def pruning(results: Results, published: Published) -> Figure | None:
    """IoU against time of L1 to L4."""
    rows = [r for r in results if r["row"]["table"] == "dsb2018" and r["heads"]]
    if not rows:
        return None
    figure = Figure((6, 3.4), layout="constrained")
    axes = figure.subplots()
    for r in rows:
        points = []
        for h in r["heads"]:
            scores = r["scores"].get(f"depth {h['depth']}" if h["mode"] == "fast" else "")
            if scores is not None:
                points.append((h["seconds"], scores["mean"]["iou"], scores["intervals"]["iou"],
                               f"L{h['depth']}" if h["mode"] == "fast" else "mean of four"))
        for x, y, ends, name in points:
            axes.errorbar(x, y, yerr=[[y - ends["low"]], [ends["high"] - y]], color=ORANGE if name.startswith("mean") else BLUE,
                          marker="o", capsize=3)
            axes.annotate(name, (x, y), xytext=(7, 5), textcoords="offset points", fontsize=9)
    axes.set(xlabel="seconds a megapixel, CPU", ylabel="IoU, test crops")
    axes.set_xlim(0, 1.25 * axes.get_xlim()[1])
    return figure


def curve(results: Results, published: Published) -> Figure | None:
    """AP against the number of training images."""
    rows = sorted((r for r in results if r["row"]["table"] == "curve"), key=lambda r: r["row"]["training_images"])
    if len(rows) < 2:
        return None
    figure = Figure((6, 3.2), layout="constrained")
    axes = figure.subplots()
    x = [r["row"]["training_images"] for r in rows]
    y = [first(r)["mean"]["ap50"] for r in rows]
    ends = [first(r)["intervals"]["ap50"] for r in rows]
    axes.errorbar(x, y, yerr=[[s - e["low"] for s, e in zip(y, ends, strict=True)],
                              [e["high"] - s for s, e in zip(y, ends, strict=True)]],
                  marker="o", capsize=3, color=BLUE)
    for n, s in zip(x, y, strict=True):
        axes.annotate(f"{s:.2f}", (n, s), xytext=(7, -12), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", xlabel="training images, drawn at random", ylabel="AP at IoU 0.5, 59 test images", ylim=(0, 1))
    axes.set_xlim(0.85 * x[0], 1.25 * x[-1])
    axes.set_xticks(x, [str(n) for n in x])
    axes.minorticks_off()
    return figure


#: Name of the file in docs/images/papers: what draws it.
FIGURES: dict[str, Callable[[Results, Published], Figure | None]] = {
    "published": published_beside, "isbi2012": isbi2012, "pruning": pruning, "curve": curve}
