"""Which value each class gets where outlines, that have names alone, become masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from biomask.data.annotations import coco_categories
from biomask.data.encoding import Encoding
from biomask.data.pairing import Pair
from biomask.errors import UsageError
from biomask.labels import Legend, LegendEntry

#: Values that an 8-bit mask has besides 0.
LARGEST = 255


def with_values(encoding: Encoding, pairs: Sequence[Pair], told: Mapping[int | str, str] | None) -> tuple[Encoding, str]:
    """(the encoding of outlines with other values, what is to be said of them; empty where nothing is).

    Values are those that were told, else of COCO the ids of categories, else the places of the names in their order. Raises
    UsageError where only some names were told.
    """
    own = encoding.names
    if told is not None:
        values = {name: value for value, name in told.items() if isinstance(value, int)}
        background, *others = sorted(values.values()) or [0]
        if len(own) == len(others) == 1:  # one class, whatever it was called
            return _valued(encoding, {own[0]: others[0]}, background, {own[0]: told[others[0]]}), ""
        lacking = [name for name in own if name not in values]
        if lacking or background in (values[name] for name in own):
            raise UsageError(f"--legend gives {', '.join(lacking) or 'the background'} no value",
                             fix="give all: --legend 0=background," + ",".join(f"{i}={n}" for i, n in enumerate(own, start=1)))
        return _valued(encoding, {name: values[name] for name in own}, background, {}), ""
    ids = _ids(pairs)
    if ids is not None and set(own) <= set(ids):
        return _valued(encoding, {name: ids[name] for name in own}, 0, {}), ""
    shown = ", ".join(f"{e.value} = {e.name}" for e in encoding.legend.entries[1:10]) + " …" * (len(own) > 9)
    given = ",".join(f"{e.value}={e.name}" for e in encoding.legend.entries[:3]) + ",…" * (len(own) > 2)
    return encoding, f"outlines know no values, so classes got these, by the order of names: {shown}; --legend {given} gives others"


def _ids(pairs: Sequence[Pair]) -> dict[str, int] | None:
    """Categories of COCO files by name; None where not all labels are such, or their ids are no values of a mask."""
    files = {f for p in pairs if p.truth is not None for f in p.truth.files}
    if any(p.truth is None or p.truth.form != "coco" for p in pairs):
        return None
    said = {(c.name, c.id) for f in files for c in coco_categories(f)}
    found = {name: number for name, number in said if number is not None and 0 < number <= LARGEST}
    return found if len(found) == len(said) == len(set(found.values())) else None


def _valued(encoding: Encoding, values: Mapping[str, int], background: int, renamed: Mapping[str, str]) -> Encoding:
    """The same classes in the order of these values."""
    colours = {name: e.colour for name, e in zip(encoding.names, encoding.legend.entries[1:], strict=True)}
    names = sorted(values, key=lambda name: values[name])
    entries = [LegendEntry(values[n], renamed.get(n, n), colours[n]) for n in names]
    first = replace(encoding.legend.entries[0], value=background)
    return replace(encoding, names=tuple(names), legend=Legend((first, *entries)))
