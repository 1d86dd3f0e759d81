"""Groups: images that must not be split between training and validation, since knowing one flatters the score of another."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from biomask.data.matches import Match
from biomask.data.matches import groups as joined
from biomask.data.pairing import Pair
from biomask.errors import UsageError
from biomask.stored import WHOLE

NONE, FOLDER, COLUMN = "none", "folder", "column:"


def groups_for(pairs: Sequence[Pair], groups: str | None, look: Callable[[], Sequence[Match]]) -> tuple[list[str], str]:
    """(the group of each image, how it is known; "" where each is its own).

    look: finds images that show the same or neighbouring places; called only where nobody names groups.
    """
    named, reason = named_groups(pairs, groups)
    if named is not None:
        return named, reason
    numbers = joined(len(pairs), look())
    if len(set(numbers)) == len(numbers):
        return [p.name for p in pairs], ""
    first = {n: p.name for n, p in reversed(list(zip(numbers, pairs, strict=True)))}
    return [first[n] for n in numbers], "images that show the same or neighbouring places, as their pixels say"


def named_groups(pairs: Sequence[Pair], groups: str | None) -> tuple[list[str] | None, str]:
    """(the group of each pair, how it is known), or (None, "") where nobody says: then similar images are looked for.

    groups: "none", "folder", "column:NAME" of a split.csv, or a regular expression whose first group, or whole match,
    names the group. Raises UsageError for a pattern that is none or fits no name.
    """
    own = [p.name for p in pairs]
    if groups == NONE:
        return own, "every image for itself, as told"
    if groups == FOLDER:
        return [PurePosixPath(p.name).parent.as_posix() for p in pairs], "by folder"
    if groups is None or groups.startswith(COLUMN):
        if not any(p.group for p in pairs):
            return None, ""
        split = any(p.plane != WHOLE for p in pairs)
        reason = "planes of one file belong together" if split else "by split.csv" if groups is None else f"by {groups}"
        return [p.group or p.name for p in pairs], reason
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise UsageError(f"--groups {groups!r} is not a pattern ({error})",
                         fix="say folder, none, column:NAME, or a pattern such as '(.*)_\\d+'") from error
    found = [pattern.search(name) for name in own]
    if not any(found):
        raise UsageError(f"--groups {groups!r} fits no image name, such as {own[0]!r}", fix="a pattern such as '(.*)_\\d+'")
    alone = sum(m is None for m in found)
    rest = f" ({alone} names do not fit it and stand alone)" if alone else ""
    return [(m[1] if m.re.groups and m[1] is not None else m[0]) if m else name for m, name in zip(found, own, strict=True)], (
        f"by the pattern {groups}{rest}")
