"""From COCO files to pairs: which of the images below a folder each entry means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from biomask.data.annotations import coco_categories, coco_files, coco_images, coco_left_out
from biomask.data.naming import normal
from biomask.data.pairing import IMAGE_FOLDERS, MASK_FOLDERS, Layout, Pair, Part, Truth, index, part_of
from biomask.errors import PairingError
from biomask.io import list_images
from biomask.words import count


def images_below(folder: Path) -> list[Path]:
    """Images below a folder, without those in folders called like masks."""
    return [p for p in list_images(folder)
            if not any(part.casefold() in MASK_FOLDERS for part in p.relative_to(folder).parts[:-1])]


def _named_below(folder: Path, images: Sequence[Path]) -> tuple[Path, Sequence[Path]]:
    """(the folder that images are named relative to, images): the one called images where all are in it, as predictions of that
    folder have their names."""
    tops = {p.relative_to(folder).parts[0] for p in images}
    top = tops.pop() if len(tops) == 1 else ""
    inside = top.casefold() in IMAGE_FOLDERS and all(len(p.relative_to(folder).parts) > 1 for p in images)
    return (folder / top if inside else folder), images


@dataclass
class _Found:
    """What is known while the files are gone through."""

    entries: dict[Path, tuple[Path, str]] = field(default_factory=dict)
    """Of each image its COCO file and its name there."""
    missing: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    """Entries that may mean several images, with these."""
    notes: list[str] = field(default_factory=list)


def from_coco(folder: Path, files: Sequence[Path], root: Path | None = None) -> Layout:
    """The images below `folder`, with what COCO files say of them.

    Of several files about the same images the one called `instances…` counts. root: of the layout; None = `folder`.
    """
    images = index(*_named_below(folder, images_below(folder)))
    by_name: dict[str, list[Path]] = {}
    for path in images.values():
        by_name.setdefault(normal(path.name), []).append(path)
    found, count = _Found(), 0
    for file in sorted(files, key=lambda p: (not p.name.startswith("instances"), p.name)):
        listed = coco_images(file)
        count += len(listed)
        _take(found, file, listed, by_name, folder)
    pairs = [Pair(stem, path, _truth(found, path), part=part_above(path, folder) or _part_said(found, path))
             for stem, path in images.items()]
    if found.missing and len(found.missing) < count:
        found.notes.append(f"{len(found.missing)} of {count} images of the COCO files are not here: "
                           + ", ".join(found.missing[:10]) + (" …" if len(found.missing) > 10 else ""))
        found.missing.clear()
    return Layout(root or folder, "COCO files and their images", tuple(pairs), tuple(found.notes), _errors(found, count, folder))


def _take(found: _Found, file: Path, listed: Sequence[str], by_name: dict[str, list[Path]], folder: Path) -> None:
    """Note which images the entries of a file mean."""
    again, new = 0, dict[Path, tuple[Path, str]]()
    for entry in listed:
        places = _meant(entry, file, by_name, folder)
        if not places:
            found.missing.append(entry)
        elif len(places) > 1:
            found.open.append(f"{entry} ({' or '.join(p.relative_to(folder).as_posix() for p in places[:3])})")
        elif places[0] in found.entries:
            again += 1
        else:
            new[places[0]] = (file, entry)
    if again:
        found.notes.append(f"{file.name} is about the same images and not used" if not new else
                           f"{again} images of {file.name} are in another COCO file too, which counts")
    found.entries |= new
    alone = coco_left_out(file)
    if alone and new:
        found.notes.append(f"left out of {file.name}: {', '.join(alone[:10])}" + (" …" if len(alone) > 10 else ""))


def with_keypoints(layout: Layout) -> Layout:
    """The same images with the COCO files that name keypoints, where others about the same images were taken.

    Raises PairingError where no file names any.
    """
    files = {f for p in layout.labelled if p.truth is not None and p.truth.form == "coco" for f in p.truth.files}
    beside = sorted({f for file in files for f in coco_files(file.parent)} | files)
    named = [f for f in beside if any(c.keypoints for c in coco_categories(f))]
    if not named:
        raise PairingError("no COCO file here names keypoints", where=layout.root,
                           fix="give a file whose categories have \"keypoints\": --masks FILE, or train without them")
    listed = {(f, entry) for f in named for entry in coco_images(f)}
    pairs, used, lost = list[Pair](), dict[Path, Path](), list[str]()
    for pair in layout.pairs:
        truth = pair.truth
        if truth is None or truth.form != "coco" or truth.files[0] in named:
            pairs.append(pair)
            continue
        file = next((f for f in named if (f, truth.entry) in listed), None)
        if file is None:
            lost.append(pair.name)
            pairs.append(replace(pair, truth=None))
        else:
            used[file] = truth.files[0]
            pairs.append(replace(pair, truth=replace(truth, files=(file,))))
    notes = [n for n in layout.notes if not any(n.startswith(f"{f.name} is about the same images") for f in used)]
    notes += [f"{file.name} is used and not {other.name}: it names keypoints" for file, other in used.items()]
    if lost:
        notes.append(f"{count(len(lost), 'image')} without keypoints, as no file lists them that names some: {', '.join(lost[:10])}"
                     + (" …" if len(lost) > 10 else ""))
    return replace(layout, pairs=tuple(pairs), notes=tuple(notes))


def _meant(entry: str, file: Path, by_name: dict[str, list[Path]], folder: Path) -> list[Path]:
    """The images that an entry may mean: those whose path agrees with it farthest, in the part of the file's name."""
    wanted = PurePosixPath(normal(entry.replace("\\", "/")))
    candidates = by_name.get(wanted.name, [])
    if len(candidates) < 2:
        return candidates
    at = {p: PurePosixPath(normal(p.relative_to(folder).as_posix())) for p in candidates}
    whole = [p for p in candidates if at[p] == wanted]
    if whole:
        return whole
    common = {p: _common_end(at[p].parts, wanted.parts) for p in candidates}
    best = [p for p in candidates if common[p] == max(common.values())]
    part = next((q for word in re.split(r"[_\-. ]+", file.stem) if (q := part_of(word)) is not None), None)
    beside = [p for p in best if part is not None and part_above(p, folder) == part] or [
        p for p in best if p.parent == file.parent]
    return beside or best


def _common_end(a: Iterable[str], b: Iterable[str]) -> int:
    """How many last parts two paths have in common."""
    count = 0
    for x, y in zip(reversed(tuple(a)), reversed(tuple(b)), strict=False):
        if x != y:
            break
        count += 1
    return count


def _truth(found: _Found, path: Path) -> Truth | None:
    if path not in found.entries:
        return None
    file, entry = found.entries[path]
    return Truth("coco", (file,), entry=entry)


def _part_said(found: _Found, path: Path) -> Part | None:
    """The part that the name of an image's COCO file says: instances_test.json."""
    file, _ = found.entries.get(path, (None, ""))
    words = re.split(r"[^a-z]+", file.stem.casefold()) if file is not None else []
    return next((part for word in words if (part := part_of(word)) is not None), None)


def _errors(found: _Found, count: int, folder: Path) -> tuple[PairingError, ...]:
    told = ((found.missing, "are not below this folder", "put them there, or remove them from the file"),
            (found.open, "may be one of several", "write the folder too in file_name, or keep one of the images"))
    return tuple(PairingError(f"{len(entries)} of {count} images of the COCO files {what}: {', '.join(entries[:10])}",
                              where=folder, fix=fix) for entries, what, fix in told if entries)


def part_above(path: Path, root: Path) -> Part | None:
    """The part that a folder above a file says."""
    return next((p for part in path.relative_to(root).parts[:-1] if (p := part_of(part)) is not None), None)
