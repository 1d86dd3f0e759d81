"""`split.csv`: which image is for training, validation or test, and which belong together."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from biomask.data.naming import normal
from biomask.data.pairing import IMAGE_FOLDERS, Layout, part_of
from biomask.errors import PairingError
from biomask.io.files import READERS, UNREAD
from biomask.stored import stem_of, suffix_of
from biomask.words import count

NAMES = ("split.csv", "splits.csv", "groups.csv", "split.tsv")
IMAGE_COLUMNS = ("image", "images", "name", "file", "filename", "file_name", "image_id", "id", "path")
PART_COLUMNS = ("part", "split", "set", "subset", "partition", "fold_part")
GROUP_COLUMNS = ("group", "groups", "patient", "patient_id", "subject", "case", "slide", "animal", "well", "plate")

#: A name as its parts, folded and without suffix.
Key = tuple[str, ...]


def apply_split_table(layout: Layout, group_column: str | None = None, *, folder: Path | None = None) -> Layout:
    """The layout with parts and groups from a table in its folder, or above up to `folder`, if there is one.

    group_column: the column that names groups; None = the first of the usual ones. Raises PairingError for a table that
    cannot be understood; names that are in only one of table and folder become problems and notes.
    """
    path = layout.table or next((table for place in _places(layout.root, folder) if (table := _table_in(place)) is not None), None)
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
    return _applied(replace(layout, table=path), path, [(_key(r[image]), r) for r in rows if r[image].strip()], part, group)


def _places(root: Path, folder: Path | None) -> list[Path]:
    """The folder of the layout, those above it up to the one given, and the one around a folder of images."""
    places = [root]
    if folder is not None and folder in root.parents:
        places += [p for p in root.parents if p == folder or folder in p.parents]
    if places[-1].name.casefold() in IMAGE_FOLDERS:
        places.append(places[-1].absolute().parent)
    return places


def _table_in(place: Path) -> Path | None:
    there = {p.name.casefold(): p for p in place.glob("*") if p.name.casefold() in NAMES and p.is_file()}
    return next((there[name] for name in NAMES if name in there), None)


def _applied(layout: Layout, path: Path, listed: Sequence[tuple[Key, Mapping[str, str]]], part: str | None,
             group: str | None) -> Layout:
    rows = dict(listed)
    found = _found(layout, rows)
    pairs, strange = [], set[str]()
    for pair, key in zip(layout.pairs, found, strict=True):
        if key is None:
            pairs.append(pair)
            continue
        said = rows[key][part].strip() if part else ""
        if said and part_of(said) is None:
            strange.add(said)
        pairs.append(replace(pair, part=part_of(said) if said else pair.part,
                             group=(rows[key][group].strip() or None) if group else pair.group))
    # What an earlier look at the same table said is said anew.
    errors = [e for e in layout.problems if e.where != path]
    notes = [n for n in layout.notes if path.name not in n]
    if strange:
        errors.append(PairingError(f"{part} {', '.join(sorted(strange)[:10])} is not known", where=path,
                                   fix="say train, validation or test"))
    errors += _contradictions(listed, [c for c in (part, group) if c], path)
    missing = [p.name for p, key in zip(layout.pairs, found, strict=True) if key is None]
    if missing and part:
        errors.append(PairingError(f"lacks {len(missing)} of {len(layout.pairs)} images: {_some(missing)}", where=path,
                                   fix="add a row for each, with its folder where several have the same name"))
    if missing and not part:
        notes.append(f"{path.name} lacks {len(missing)} of {len(layout.pairs)} images, each of which stands alone: "
                     f"{_some(missing)}")
    if len(missing) == len(layout.pairs):
        errors.append(PairingError("none of its rows names an image that is here", where=path,
                                   fix="write names as the files have them, or move the table elsewhere"))
    gone = ["/".join(k) for k in rows if k not in found]
    if gone:
        notes.append(f"{path.name} names {count(len(gone), 'image')} that cannot be found: {_some(gone)}")
    said = " and ".join(word for word, column in (("parts", part), ("groups", group)) if column)
    notes.append(f"{said or 'nothing'} from {path.name}")
    return replace(layout, pairs=tuple(pairs), notes=tuple(notes), problems=tuple(errors))


def _found(layout: Layout, rows: Mapping[Key, object]) -> list[Key | None]:
    """The row of each image, by its name or any end of its path, or by a row that ends with them; None where it is open."""
    tails = Counter(k[i:] for k in rows for i in range(len(k)))
    whole = {k[i:]: k for k in rows for i in range(len(k)) if tails[k[i:]] == 1}
    found = []
    for pair in layout.pairs:
        inside = pair.image.relative_to(layout.root) if layout.root in pair.image.parents else Path(pair.image.name)
        name, place = _key(pair.name + pair.image.suffix), _key(inside.as_posix())
        ends = [name, *(place[i:] for i in range(len(place)))]
        found.append(next((k for k in ends if k in rows), None) or whole.get(place) or whole.get(name))
    shared = Counter(found)
    return [k if shared[k] == 1 else None for k in found]


def _contradictions(listed: Sequence[tuple[Key, Mapping[str, str]]], columns: Sequence[str], path: Path) -> list[PairingError]:
    """The error that names images in several rows that differ."""
    said: dict[Key, list[str]] = {}
    for key, row in listed:
        told = " ".join(row[c].strip() for c in columns)
        if told not in said.setdefault(key, []):
            said[key].append(told)
    twice = [f"{'/'.join(k)} ({' and '.join(v)})" for k, v in said.items() if len(v) > 1]
    return [PairingError(f"has rows that contradict each other: {_some(twice)}", where=path,
                         fix="keep one row an image")] if twice else []


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PairingError(f"cannot be read as text ({error})", where=path, fix="save it as CSV in UTF-8") from error
    delimiter = max((",", ";", "\t"), key=text.split("\n", 1)[0].count)
    try:
        found = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise PairingError(f"cannot be read as a table ({error})", where=path, fix="save it as CSV in UTF-8") from error
    return [{k: v or "" for k, v in row.items() if k is not None} for row in found]


def _key(name: str) -> Key:
    """Without the suffix of an image, if it has one: tables may name the mask, or the file that the image was made from."""
    path = PurePosixPath(normal(name.strip().replace("\\", "/")).casefold())
    suffix = suffix_of(Path(path.name))
    return (*path.parts[:-1], stem_of(Path(path.name)) if suffix in READERS or suffix in UNREAD else path.name)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
