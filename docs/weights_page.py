"""Write what the border weights are worth into docs/explanation/weights.md, from benchmarks/results/border_weights.json.

    python docs/weights_page.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from networks import table
from paper_numbers import RESULTS

PAGE = Path(__file__).parent / "explanation" / "weights.md"
MARKED = re.compile(r"(<!-- written by docs/weights_page\.py -->\n).*?(<!-- end -->)", re.DOTALL)

#: Key: title, digits, whether more is better.
SCORES = {"merges": ("merges an image", 2, False), "splits": ("splits an image", 2, False), "seg": ("SEG", 3, True),
          "ap50": ("AP at IoU 0.5", 3, True), "f1": ("F1", 3, True)}

PARTS = {("hela", "hand-annotated"): "DIC HeLa, hand-annotated frames", ("hela", "silver"): "DIC HeLa, silver frames 060–083",
         ("dsb2018", "test"): "DSB 2018, test part"}


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def page(text: str) -> str:
    """The page with what lies between the marks written anew."""
    result = json.loads((RESULTS / "border_weights.json").read_text(encoding="utf-8"))
    return MARKED.sub(lambda found: f"{found[1]}{written(result)}{found[2]}", text)


def written(result: Mapping[str, Any]) -> str:
    """Set-up, a table of each set of test images, and which differences are more than chance."""
    sets, seeds = result["datasets"], result["seeds"]
    how = "; ".join(f"{name} {found['steps']} steps, about {max(found['minutes_a_training'].values()):.1f} minutes on two cores"
                    for name, found in sets.items())
    settings = ", ".join(f"`{s}`" for s in result["recipe"]["alike"])
    parts = [f"Recipe `default` with {settings}, once with `instances.w0=10` and once with `instances.w0=0`, everything else "
             f"alike: touching cells are parted by background on both sides, and classes are balanced. Seeds "
             f"{', '.join(map(str, seeds))}; budget: {how}."]
    clear = list[str]()
    for (name, part), title in PARTS.items():
        if name not in sets or part not in sets[name]["parts"]:
            continue
        found = sets[name]["parts"][part]
        parts += [f"**{title}**: {found['images']} images, {found['true_objects']} objects.", table([
            ["", "with the weights", "without", "difference", "difference of each seed"],
            *(line(found, key) for key in SCORES)])]
        told = [said for key in SCORES if (said := verdict(found["difference"][key], key))]
        clear += [f"- {title}: {'; '.join(told)}."] if told else []
    parts += ["Means over images and seeds, in brackets the lowest and highest seed. Difference: with less without, over the same "
              "images; in brackets the 95 % bootstrap interval over images, whole groups where they belong together, of fewer than "
              "eight images their range; p by the sign-flip test over them, with five images 0.0625 at best. Frames of a film are "
              "alike, so intervals over them are too narrow. A merge is a predicted object that covers more than half of each of "
              "several true ones, a split the reverse; SEG is that of the Cell Tracking Challenge, a mean over images here."]
    parts += ["\n".join(["Differences whose interval leaves out 0, and whose sign all seeds share:", "", *clear]) if clear else
              "No difference has an interval that leaves out 0 and the same sign with all seeds."]
    return "\n" + "\n\n".join(parts) + "\n\n"


def line(found: Mapping[str, Any], key: str) -> list[str]:
    """A score of both sides, their difference, that of each seed."""
    title, digits, _ = SCORES[key]
    cells = [title]
    for side in ("weighted", "unweighted"):
        own = found["sides"][side][key]
        cells.append(f"{own['mean']:.{digits}f} ({spread(own['by_seed'], digits)})")
    d = found["difference"][key]
    cells.append(f"{d['mean']:+.{digits}f} ({d['low']:+.{digits}f} to {d['high']:+.{digits}f}), p = {d['p']:.2g}")
    cells.append(", ".join(f"{v:+.{digits}f}" for v in d["by_seed"]))
    return cells


def spread(values: Sequence[float], digits: int) -> str:
    return f"{min(values):.{digits}f}–{max(values):.{digits}f}"


def verdict(d: Mapping[str, Any], key: str) -> str | None:
    """What is said of a difference that is more than chance; None of others. A range of images is no interval."""
    title, digits, more_is_better = SCORES[key]
    outside = d["low"] > 0 or d["high"] < 0
    alike = all(v > 0 for v in d["by_seed"]) or all(v < 0 for v in d["by_seed"])
    if not outside or not alike or d["kind"].startswith("range"):
        return None
    return f"{title} {d['mean']:+.{digits}f} ({'better' if (d['mean'] > 0) == more_is_better else 'worse'} with the weights)"


if __name__ == "__main__":
    main()
