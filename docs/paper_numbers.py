"""What docs/papers.py takes from benchmarks/results/papers/*.json, as text; and what the papers print."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"

#: What the papers print, by table, then by recipe. Of the optic disc article "printed" is what it calls Dice.
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "isbi2012": {"unet-2015": {"warping": 0.000353, "rand_error": 0.0382, "pixel": 0.0611},
                 "sliding-window-2012": {"warping": 0.000420, "rand_error": 0.0504, "pixel": 0.0613}},
    "hela": {"unet-2015-same": {"seg": 0.7756}},
    "drishti": {"unet-drishti": {"iou": 0.8421, "printed": 0.8367, "bce": 0.3319},
                "unet++-drishti": {"iou": 0.8580, "printed": 0.8104, "bce": 0.2650}},
    "dsb2018": {"narrow-unet": {"iou": 0.9077}, "wide-unet": {"iou": 0.9092}, "unet++-l4": {"iou": 0.9263},
                "unet++": {"iou": 0.9252}},
}

#: A row's result: the content of its file.
Result = dict[str, Any]


def load() -> list[Result]:
    """Every row that was made, in the order of its name."""
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted((RESULTS / "papers").glob("*.json"))]


def rows_of(results: Sequence[Result], name: str) -> list[Result]:
    """Of a table, those that were made, reduced before full."""
    return sorted((r for r in results if r["row"]["table"] == name), key=lambda r: r["row"]["size"] == "full")


def called(r: Result) -> str:
    """A row's recipe, with what is special about it."""
    more = [*(["full"] if r["row"]["size"] == "full" else []), *([f"seed {r['seed']}"] if r["seed"] else [])]
    return f"`{r['row']['recipe']}`" + (f" ({', '.join(more)})" if more else "")


def cost(r: Result) -> list[str]:
    """Parameters, steps, minutes."""
    return [f"{r['parameters'] / 1e6:.2f} M", f"{r['steps']}", f"{r['minutes_training']:.1f}"]


def of(r: Result, *keys: str, variant: str | None = None) -> Any:
    """A value of the scores of a variant, by default the first; None where there is none."""
    found: Any = r["scores"][next(iter(r["scores"])) if variant is None else variant]
    for key in keys:
        found = None if found is None else found.get(key)
    return found


def number(value: float | None, digits: int = 3) -> str:
    """A score."""
    return "–" if value is None else f"{value:.{digits}f}"


def within(r: Result, *keys: str, variant: str | None = None) -> str:
    """A mean with its interval. keys: the group that holds "mean" and "intervals", where it is not the whole; and the score."""
    *where, score = keys
    mean, ends = (of(r, *where, kind, score, variant=variant) for kind in ("mean", "intervals"))
    if mean is None or ends is None or ends["low"] is None:
        return number(mean)
    return f"{mean:.3f} ({ends['low']:.2f}–{ends['high']:.2f})"


def isbi(r: Result, key: str, variant: str | None = None) -> float | None:
    """A score of the ISBI challenge, over all slices together."""
    found = of(r, "metrics", "isbi", "pooled", variant=variant)
    if key != "rand_error":
        return found[key]  # type: ignore[no-any-return]
    return None if found["rand_f"] is None else 1 - found["rand_f"]


def printed(name: str, recipe: str, key: str, digits: int = 4) -> str:
    """The paper's number."""
    return number(PUBLISHED.get(name, {}).get(recipe, {}).get(key), digits)


def sizes(rows: Sequence[Result]) -> str:
    """What was changed in reduced rows, the same changes once."""
    changed: dict[str, list[str]] = {}
    for r in rows:
        if r["row"]["size"] == "reduced":
            said = ", ".join(f"`{s}`" for s in r["row"]["settings"]) or "nothing but the budget"
            changed.setdefault(said, []).append(f"`{r['row']['recipe']}`")
    each = [said if len(changed) == 1 else f"{said}: {', '.join(dict.fromkeys(names))}" for said, names in changed.items()]
    return f"Changed in the reduced rows: {'; '.join(each)}."


def reached(name: str, rows: Sequence[Result], score: Callable[[Result], float | None], key: str) -> str:
    """Ours less the paper's, of each row that has both."""
    said = []
    for r in rows:
        theirs, ours = PUBLISHED[name].get(r["row"]["recipe"], {}).get(key), score(r)
        if theirs is not None and ours is not None:
            said.append(f"{called(r)} {ours - theirs:+.3f}")
    return f"Ours less the paper's: {', '.join(said)}." if said else ""
