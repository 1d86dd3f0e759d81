"""Which images belong together, so that they are resampled together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from biomask.data.groups import COLUMN, NONE, named_groups
from biomask.data.pairing import MASK_FOLDERS, Layout, Pair
from biomask.data.split_table import apply_split_table
from biomask.errors import PairingError
from biomask.evaluation.cases import Case
from biomask.progress import Progress


def groups_of(cases: Sequence[Case], truth: Path, rule: str | None, progress: Progress) -> tuple[dict[str, str] | None, str]:
    """({name: group} of the cases, how it is known); (None, "") where each is its own.

    rule: as --groups of training: folder, column:NAME, a pattern, none; or a table FILE; None = what a split.csv beside the truth
    says. Raises UsageError or PairingError for a rule that fits nothing.
    """
    pairs = [replace(c.pair, name=c.name) for c in cases]
    table = Path(rule) if rule is not None and Path(rule).is_file() else None
    if table is not None:
        pairs, rule = _from_table(pairs, truth, None, table), None
        if not any(p.group for p in pairs):
            raise PairingError("names no group of any of the images", where=table,
                               fix="write the columns image and group, with names as the files have them")
    elif rule is not None and rule.startswith(COLUMN):
        pairs = _from_table(pairs, truth, rule.removeprefix(COLUMN), None)
    elif rule is None and not any(p.group for p in pairs):
        try:
            pairs = _from_table(pairs, truth, None, None)
        except PairingError as error:
            progress.warn(f"{error.where}: {error.what}; images count each for itself (--groups none says so)")
    named, says = named_groups(pairs, rule)
    if named is None or rule == NONE or len(set(named)) == len(named):
        return None, ""
    return dict(zip([p.name for p in pairs], named, strict=True)), f"by {table.name}" if table is not None else says


def _from_table(pairs: Sequence[Pair], truth: Path, column: str | None, table: Path | None) -> list[Pair]:
    """The pairs with the groups of a table: the one given, or that beside the truth if there is one."""
    root = truth if truth.is_dir() else truth.parent
    place = root.parent if root.name.casefold() in MASK_FOLDERS else root
    layout = apply_split_table(Layout(root, "", tuple(pairs), table=table), column, folder=place)
    return list(layout.pairs)
