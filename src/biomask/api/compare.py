"""`compare`: recipes, and other people's predictions, on one data folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biomask import recipes as shipped
from biomask.comparison.options import CompareOptions
from biomask.comparison.run import compare as _compare
from biomask.errors import ManyErrors
from biomask.progress import Progress
from biomask.recipe import Recipe
from biomask.words import count

__all__ = ["CompareOptions", "compare"]


def compare(data: str | Path, recipes: Sequence[str | Recipe], out: str | Path, options: CompareOptions | None = None, *,
            settings: Sequence[str] = (), progress: Progress | None = None) -> dict[str, Any]:
    """Train every recipe on the same splits of a data folder with the same seeds and budget, and put them into one table.

    recipes: names, .yaml files or recipes; the first is the one that the others are compared with. settings: `section.key=value`
    on top of each. Run again, it does what is missing. Returns the content of comparison.json, and writes report.html beside it.

    Raises ManyErrors, after all good trainings are done, listing those that failed; otherwise as `biomask.comparison.run.compare`.
    """
    from biomask.reports.write import write_comparison_report

    found = [(r if isinstance(r, Recipe) else shipped.get(r)).with_settings(settings) for r in recipes]
    compared = _compare(data, found, out, options, progress=progress)
    write_comparison_report(Path(out), compared)
    if compared.errors:
        raise ManyErrors(f"{count(len(compared.errors), 'training')} failed; the table holds the recipes whose trainings are all "
                         "there:", compared.errors, fix="mend them and run the same command again: what is done is kept")
    return compared.record
