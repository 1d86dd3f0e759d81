"""`split.csv`: which image is for training, validation or test, and which belong together."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from biomask.data.naming import normal
from biomask.data.pairing import Layout, Pair, part_of
from biomask.errors import PairingError

NAMES = ("split.csv", "splits.csv", "groups.csv", "split.tsv")
IMAGE_COLUMNS = ("image", "images", "name", "file", "filename", "file_name", "image_id", "id", "path")
PART_COLUMNS = ("part", "split", "set", "subset", "partition", "fold_part")
GROUP_COLUMNS = ("group", "groups", "patient", "patient_id", "subject", "case", "slide", "animal", "well", "plate")


def apply_split_table(layout: Layout, group_column: str | None = None) -> Layout:
    """The layout with parts and groups from a table in its folder, if there is one.

    group_column: the column that names groups; None = the first of the usual ones. Raises PairingError for a table that
    cannot be understood; names that are in only one of table and folder become problems and notes.
    """
    path = next((layout.root / name for name in NAMES if (layout.root / name).is_file()), None)
    if path is None:
        if group_column is not None:
            raise PairingError(f"--groups column:{group_column}: there is no split.csv", where=layout.root,
                               fix="write one with the columns image and " + group_column)
        return layout
    rows = _rows(path)
    columns = {c.strip().casefold(): c for c in rows[0]} if rows else {}
    image = next((columns[c] for c in IMAGE_COLUMNS if c in columns), None)
    if image is None:
        raise PairingError(f"has the columns {', '.join(columns.values()) or 'none'}, none of which names images", where=path,
                           fix=f"call that column image; the others part ({', '.join(('train', 'validation', 'test'))}) and group")
    part = next((columns[c] for c in PART_COLUMNS if c in columns), None)
    wanted = (group_column.casefold(),) if group_column else GROUP_COLUMNS
    group = next((columns[c] for c in wanted if c in columns), None)
    if group_column and group is None:
        raise PairingError(f"has no column {group_column!r}, but {', '.join(columns.values())}", where=path)
    return _applied(layout, path, {_key(r[image]): r for r in rows}, part, group)


def _applied(layout: Layout, path: Path, rows: dict[str, dict[str, str]], part: str | None, group: str | None) -> Layout:
    pairs, used, strange = [], set[str](), set[str]()
    for pair in layout.pairs:
        key = next((k for k in _names(pair) if k in rows), None)
        if key is None:
            pairs.append(pair)
            continue
        used.add(key)
        said = rows[key][part].strip() if part else ""
        if said and part_of(said) is None:
            strange.add(said)
        pairs.append(replace(pair, part=part_of(said) if said else pair.part,
                             group=(rows[key][group].strip() or None) if group else pair.group))
    errors = list(layout.problems)
    if strange:
        errors.append(PairingError(f"{part} {', '.join(sorted(strange)[:10])} is not known", where=path,
                                   fix="say train, validation or test"))
    missing = [p.name for p in layout.pairs if not used & set(_names(p))] if len(used) < len(layout.pairs) else []
    if missing and part:
        errors.append(PairingError(f"lacks {len(missing)} of {len(layout.pairs)} images: {_some(missing)}", where=path,
                                   fix="add a row for each"))
    gone = [k for k in rows if k not in used]
    notes = list(layout.notes)
    if gone:
        notes.append(f"{path.name} names {len(gone)} images that are not there: {_some(gone)}")
    said = " and ".join(word for word, column in (("parts", part), ("groups", group)) if column)
    notes.append(f"{said or 'nothing'} from {path.name}")
    return replace(layout, pairs=tuple(pairs), notes=tuple(notes), problems=tuple(errors))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PairingError(f"cannot be read as text ({error})", where=path, fix="save it as CSV in UTF-8") from error
    delimiter = max((",", ";", "\t"), key=text.split("\n", 1)[0].count)
    return [{k: v or "" for k, v in row.items() if k is not None} for row in csv.DictReader(text.splitlines(), delimiter=delimiter)]


def _key(name: str) -> str:
    return normal(name.strip().replace("\\", "/")).casefold()


def _names(pair: Pair) -> list[str]:
    """What a table may call an image: with folders or without, with suffix or without."""
    name, file = PurePosixPath(pair.name), pair.image.name
    return [_key(n) for n in (pair.name, str(name.parent / file), file, file.split(".", 1)[0], pair.image.stem, name.name)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
