"""Two sides on the same images: how much one is better, and which images became wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biomask.evaluation.bootstrap import Rows, Units, differences
from biomask.evaluation.instances import object_columns
from biomask.evaluation.scored import columns

#: An image became wrong where its main score fell by more than this, or from this level to below it.
FALL, LEVEL = 0.1, 0.5

RULE = (f"newly wrong where their main score fell by more than {FALL:g}, or from {LEVEL:g} or more to below it; newly right the "
        "other way round. An image with nothing in truth and prediction counts as right (1)")

DIFFERENCE = ("A difference is this less the other, of their means over the same images; its interval comes from resamples that "
              "both share, p from the two-sided sign-flip test.")


def main_score(kind: str) -> str:
    """The score by which images are sorted: "ap50" of objects, else "dice"."""
    return "ap50" if kind == "instances" else "dice"


def difference(this: Mapping[str, Any], other: Mapping[str, Any], seed: int = 0) -> dict[str, dict[str, Any]]:
    """{score: {mean, low, high, kind, p, n}} of two evaluations against the same truth, over the images that both have."""
    rows = {r["name"]: r for r in other["per_image"]}
    mine = [r for r in this["per_image"] if r["name"] in rows]
    groups = tuple(r["group"] for r in mine) if all("group" in r for r in mine) else None
    one, two = (_columns(side, this) for side in (mine, [rows[r["name"]] for r in mine]))
    return differences({key: (one[key], two[key]) for key in one if key in two}, Units(groups, seed))


def _columns(rows: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any]) -> dict[str, Rows]:
    """All scores of images, for the classes that the means of an evaluation are over."""
    kind, values = evaluation["kind"], list(evaluation["per_class"])
    found: dict[str, Rows] = {**columns(rows, values if kind == "multilabel" else values[1:]),
                              "pixel_error": [r["pixel_error"] for r in rows]}
    return {**found, **object_columns(rows)} if kind == "instances" else found


def changed(this: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """({name, this, other} of images that are newly wrong, and of those newly right), the largest change first; see RULE."""
    key, rows = main_score(this["kind"]), {r["name"]: r for r in other["per_image"]}
    wrong, right = list[dict[str, Any]](), list[dict[str, Any]]()
    for row in this["per_image"]:
        if row["name"] not in rows:
            continue
        mine, theirs = row[key], rows[row["name"]][key]
        if mine is None and theirs is None:
            continue
        now, before = (1.0 if v is None else float(v) for v in (mine, theirs))
        entry = {"name": row["name"], "this": mine, "other": theirs, "by": now - before}
        if _fell(before, now):
            wrong.append(entry)
        elif _fell(now, before):
            right.append(entry)
    wrong.sort(key=lambda e: (e["by"], e["name"]))
    right.sort(key=lambda e: (-e["by"], e["name"]))
    for entry in (*wrong, *right):
        del entry["by"]
    return wrong, right


def _fell(before: float, now: float) -> bool:
    return before - now > FALL + 1e-9 or now < LEVEL <= before  # 0.8 − 0.7 is a little more than 0.1


def paired(this: Mapping[str, Any], other: Mapping[str, Any], folder: str, seed: int = 0) -> dict[str, Any]:
    """The comparison with other predictions, JSON-ready: the evaluations of both, and where the others are."""
    wrong, right = changed(this, other)
    return {"other": folder, "metric": main_score(this["kind"]), "n": len(other["per_image"]), "only_here": _only(this, other),
            "mean": other["mean"], "intervals": other["intervals"], "difference": difference(this, other, seed),
            "newly_wrong": wrong, "newly_right": right, "rule": RULE}


def ceiling(this: Mapping[str, Any], second: Mapping[str, Any], folder: str, seed: int = 0) -> dict[str, Any]:
    """What a second annotator scores against the same truth, JSON-ready, and how far the predictions are from that."""
    count = len(second["per_image"])
    key = main_score(this["kind"])
    found = {"folder": folder, "n_images": count, "only_here": _only(this, second), "mean": second["mean"],
             "intervals": second["intervals"], "difference": difference(this, second, seed),
             "per_image": [{"name": r["name"], key: r[key]} for r in second["per_image"]],
             "says": f"Scores of a second annotator against the same truth, over {count} image{'s' * (count != 1)}: so well do two "
                     "people agree. A score above it does not show that predictions are better than people. Differences are "
                     "predictions less annotator."}
    return {**found, "agreement": second["agreement"]} if "agreement" in second else found


def _only(this: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of images that the other evaluation lacks."""
    there = {r["name"] for r in other["per_image"]}
    return [r["name"] for r in this["per_image"] if r["name"] not in there]
