"""Images in one folder and their labels in another: masks, objects, structures, outlines or a COCO file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from biomask.data.annotations import coco_files
from biomask.data.coco_layout import from_coco
from biomask.data.naming import normal, unmatched_lines
from biomask.data.pairing import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    Layout,
    Pair,
    Truth,
    index,
    label_files,
    pair_up,
    unread_error,
)
from biomask.errors import PairingError
from biomask.io import list_images

#: Share of the images that must find labels in a folder of another name for it to be taken for one of labels.
ENOUGH = 0.5


def subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []


def leads_back(folder: Path) -> bool:
    """Whether a link leads to what lies around it or beside it, which is looked at anyway."""
    if not folder.is_symlink():
        return False
    target, here = folder.resolve(), folder.parent.resolve()
    return target in (here, *here.parents) or here in target.parents


def two_folders(folder: Path) -> Layout | None:
    """`images/` and `masks/`, whatever they are called; images with a folder of masks beside them; a folder a structure."""
    subs = subfolders(folder)
    images = [p for p in subs if p.name.casefold() in IMAGE_FOLDERS]
    masks = [p for p in subs if p.name.casefold() in MASK_FOLDERS]
    others = [p for p in subs if p not in images and p not in masks]
    if len(images) > 1:
        raise PairingError(f"holds {' and '.join(p.name for p in images)}: which one is meant is open", where=folder,
                           fix=f"give the images and their masks apart: {images[0]} --masks {masks[0] if masks else 'FOLDER'}")
    if images:
        return _beside_images(images[0], masks, others, folder)
    if len(masks) != 1:
        return None
    with_images = [p for p in others if list_images(p)]
    here = [p for p in list_images(folder) if p.parent == folder]
    if here and not with_images:
        return paired(folder, masks[0], folder, index(folder, here))
    return paired(with_images[0], masks[0], folder) if len(with_images) == 1 and not here else None


def _beside_images(images: Path, masks: Sequence[Path], others: Sequence[Path], root: Path) -> Layout | None:
    if len(masks) > 1:
        raise PairingError(f"holds {' and '.join(p.name for p in masks)}: which one is meant is open", where=root,
                           fix=f"say which: --masks {masks[0].name} or --masks {masks[1].name}")
    if masks:
        return paired(images, masks[0], root)
    stems = index(images)
    fitting = [p for p in others if _share(stems, p) >= ENOUGH]
    if not fitting:
        return None
    notes = _rare([p for p in others if p not in fitting], stems)
    if len(fitting) == 1:
        found = paired(images, fitting[0], root, stems)
        return replace(found, notes=(*found.notes, *notes))
    return _structures(stems, fitting, root, f"{images.name}/ and a folder a structure", notes=notes)


def _rare(folders: Sequence[Path], stems: dict[str, Path]) -> list[str]:
    """A line for each folder that has labels of too few images to be taken."""
    found = [(p.name, _share(stems, p)) for p in folders]
    return [f"{name}/ has labels of only {share:.0%} of the images and is not used" for name, share in found if share > 0]


def _share(stems: dict[str, Path], folder: Path) -> float:
    """Share of the images that find labels in a folder."""
    pairs, _, _ = pair_up(stems, label_files(folder), labels_in=folder)
    return sum(p.truth is not None for p in pairs) / max(1, len(pairs))


def paired(images: Path, masks: Path, root: Path, stems: dict[str, Path] | None = None, *, anywhere: bool = False) -> Layout:
    """Images with the labels of a folder: files, folders of objects, folders of structures, or a COCO file.

    anywhere: as in `match`.
    """
    stems = index(images) if stems is None else stems
    how = f"{images.name}/ and {masks.name}/"
    problems = [*unread_error(images), *unread_error(masks)]
    direct = [p for p in list_images(masks) if p.parent == masks]
    subs = subfolders(masks)
    if not direct and subs:
        full = {normal(p.name): p for p in subs if list_images(p)}
        objects = {s: p for s, p in full.items() if s in stems}
        if objects and len(objects) >= ENOUGH * len(full):
            truths = _objects(objects)
            what = "objects" if any(t.form == "objects" for t in truths.values()) else "mask"
            pairs = [Pair(s, p, truths.get(s)) for s, p in stems.items()]
            return Layout(root, f"{how}, where a folder holds the {what} of an image", tuple(pairs),
                          problems=(*problems, *_strange_folders(full, stems, masks)))
        fitting = [p for p in subs if _share(stems, p) >= ENOUGH]
        if len(fitting) > 1:
            return _structures(stems, fitting, root, f"{how}, in it a folder a structure", problems,
                               _rare([p for p in subs if p not in fitting], stems))
    coco = coco_files(masks)
    if coco and not direct:
        return from_coco(images, coco, root)
    pairs, said, over = pair_up(stems, label_files(masks), labels_in=masks, anywhere=anywhere)
    notes = (said,) if said != "same names" else ()
    return Layout(root, how, tuple(pairs), notes, (*problems, *over))


def _strange_folders(folders: dict[str, Path], stems: dict[str, Path], masks: Path) -> list[PairingError]:
    """The error that names folders of objects that belong to no image."""
    over = [s for s in folders if s not in stems]
    free = [s for s in stems if s not in folders]
    lines = unmatched_lines(over, free, {s: str(folders[s]) for s in over} | {s: stems[s].name for s in free})
    return [PairingError(f"{len(over)} of {len(folders)} folders of objects belong to no image:\n  " + "\n  ".join(lines),
                         where=masks, fix="call each folder like its image, without the suffix")] if over else []


def _structures(stems: dict[str, Path], folders: Sequence[Path], root: Path, how: str,
                problems: Sequence[PairingError] = (), notes: Sequence[str] = ()) -> Layout:
    """A folder a structure; an image counts as labelled when all structures are there."""
    found, errors = dict[str, dict[str, Path]](), list(problems)
    for folder in folders:
        pairs, _, over = pair_up(stems, label_files(folder), labels_in=folder)
        errors += over
        for pair in pairs:
            if pair.truth is not None:
                found.setdefault(pair.name, {})[folder.name] = pair.truth.files[0]
    names = tuple(p.name for p in folders)
    for stem, there in found.items():
        lacking = [n for n in names if n not in there]
        if lacking:
            errors.append(PairingError(f"has labels of {', '.join(there)} but not of {', '.join(lacking)}", where=stems[stem],
                                       fix="add the missing mask (all 0 where the structure is not there)"))
    whole = {s: Truth("structures", tuple(there[n] for n in names), names) for s, there in found.items()
             if len(there) == len(names)}
    return Layout(root, f"{how}: {', '.join(names)}", tuple(Pair(s, p, whole.get(s)) for s, p in stems.items()),
                  tuple(notes), tuple(errors))


def _objects(folders: Mapping[str, Path]) -> dict[str, Truth]:
    """The truth of each image that has a folder: the objects in it, but its mask where every folder holds a single file."""
    files = {stem: tuple(list_images(folder)) for stem, folder in folders.items()}
    if all(len(f) < 2 for f in files.values()):
        return {stem: Truth("mask", f) for stem, f in files.items() if f}
    return {stem: Truth("objects", f, folder=folders[stem]) for stem, f in files.items()}
