"""`find_layout`: from any folder of images and labels to pairs.

Arrangements are tried from the most particular to the plainest; the first that gives labelled images is taken, and said.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from biomask.data.arrangements import (
    bare,
    coco_folder,
    decathlon,
    folder_an_image,
    images_of,
    side_by_side,
    tracking_challenge,
    with_overlay,
)
from biomask.data.coco_layout import from_coco, images_below
from biomask.data.naming import match
from biomask.data.pairing import (
    IMAGE_FOLDERS,
    Layout,
    Pair,
    Part,
    index,
    part_of,
    truth_of,
    unread_error,
)
from biomask.data.split_table import apply_split_table
from biomask.data.two_folders import ENOUGH, leads_back, paired, subfolders, two_folders
from biomask.errors import MissingPathError, PairingError
from biomask.io import READERS, list_images
from biomask.io.annotations import sniff
from biomask.io.listing import yolo_labels
from biomask.io.unread import YOLO_WAY

#: Folders within folders that are searched for a data set.
DEEPEST = 2

#: Share of files of the same names from which on one of two folders holds labels.
ALIKE = 0.9


def find_layout(folder: str | Path, masks: str | Path | None = None) -> Layout:
    """What is in `folder`, with labels in it or in `masks`.

    masks: a folder of labels or a COCO file, also by its name within `folder`, or GT or ST of the Cell Tracking Challenge.
    Raises MissingPathError, and PairingError where no image is found or what is meant stays open.
    """
    folder = Path(folder)
    if not folder.exists():
        raise MissingPathError("no such folder", where=folder)
    if (folder / "model.safetensors").is_file():
        raise PairingError("this is a model, not a folder of images", where=folder,
                           fix="give the folder with the images: biomask train DATA -o MODEL")
    layout = _apart(folder, masks) if masks is not None else _whole(folder)
    if not layout.pairs:
        if layout.problems:
            raise layout.problems[0]
        raise PairingError("holds no images", where=folder, fix=f"formats read: {', '.join(READERS)}")
    layout = apply_split_table(_parts_within(layout), folder=folder)
    layout = replace(layout, notes=(*layout.notes, *_left_aside(layout, folder)))
    return replace(layout, pairs=tuple(sorted(layout.pairs, key=lambda p: p.name)))


def _left_aside(layout: Layout, folder: Path) -> list[str]:
    """A note of the images below the folder that no pair has, by the folders that they are in."""
    if folder.is_file():
        return []
    used = {p.image for p in layout.pairs} | {f for p in layout.labelled if p.truth is not None for f in p.truth.files}
    named = any(e.what.split("\n")[0].endswith("belong to no image:") for e in layout.problems)
    rest = [p for p in list_images(folder) if p not in used] if not named else []
    tops = [p.relative_to(folder).parts for p in rest]
    places = Counter(f"{parts[0]}/" if len(parts) > 1 else "this folder" for parts in tops)
    shown = ", ".join(f"{n} in {place}" for place, n in places.most_common(6))
    notes = [f"{len(rest)} image files are not used: {shown}" + (" …" if len(places) > 6 else "")] if rest else []
    yolo = yolo_labels(folder) if len(layout.labelled) < len(layout.pairs) else []
    return notes + ([f"{len(yolo)} text files hold labels of YOLO, which are not read: {YOLO_WAY}"] if yolo else [])


def _alike_folders(folder: Path) -> PairingError | None:
    """The error that asks which of two folders with files of the same names holds the labels."""
    subs = [(p, index(p)) for p in subfolders(folder) if list_images(p)]
    for i, (a, files) in enumerate(subs):
        for b, others in subs[:i]:
            if len(files) > 1 and len(match(list(files), list(others))[0]) >= ALIKE * max(len(files), len(others)):
                return PairingError(f"holds files named alike in {b.name}/ and {a.name}/: which are the labels is open",
                                    where=folder, fix=f"say --masks {shlex.quote(a.name)} or --masks {shlex.quote(b.name)}")
    return None


def _whole(folder: Path) -> Layout:
    if folder.is_file():
        return Layout(folder.parent, "one image", (Pair(folder.stem, folder, None),))
    found = _labelled(folder)
    if found is None or len(found.labelled) < ENOUGH * len(found.pairs):
        # A few pairs among many images may be one of several data sets below.
        found = _deeper(folder, DEEPEST) or found
    question = _alike_folders(folder) if found is None else None
    return found or _unmatched(folder) or Layout(
        folder, "images without labels", bare(index(folder)),
        problems=(*unread_error(folder), *([question] if question is not None else [])))


def _labelled(folder: Path) -> Layout | None:
    """The first arrangement of this very folder that has labels."""
    ways: Sequence[Callable[[Path], Layout | None]] = (
        coco_folder, tracking_challenge, _parts, folder_an_image, two_folders, side_by_side, with_overlay)
    for way in ways:
        layout = way(folder)
        if layout is not None and layout.labelled:
            return layout
    return None


def _unmatched(folder: Path) -> Layout | None:
    """Images and labels of which none belong together, so that they are named and masks are not taken for images."""
    ways = (coco_folder, _parts, two_folders, side_by_side)
    found = [layout for way in ways if (layout := way(folder)) is not None and layout.pairs]
    return next((layout for layout in found if layout.problems or layout.how), None)


def _parts_within(layout: Layout) -> Layout:
    """With the parts that folders below the images are called after, where one of them is for training."""
    if any(p.part is not None for p in layout.pairs):
        return layout
    said = [next((part for name in PurePosixPath(p.name).parts[:-1] if (part := part_of(name)) is not None), None)
            for p in layout.pairs]
    if "train" not in said:
        return layout
    return replace(layout, pairs=tuple(replace(p, part=part) for p, part in zip(layout.pairs, said, strict=True)))


def _deeper(folder: Path, depth: int) -> Layout | None:
    """The only folder below that holds labelled images. Raises PairingError where several do."""
    if depth == 0:
        return None
    below = [_labelled(sub) or _deeper(sub, depth - 1) for sub in subfolders(folder) if not leads_back(sub)]
    found = [layout for layout in below if layout is not None]
    numbered = len({re.sub(r"\d+", "#", f.root.name) for f in found}) == 1
    if len(found) > 1 and numbered and len({f.how for f in found}) == 1 and all(f.root.parent == folder for f in found):
        return _alike(folder, found)
    if len(found) > 1:
        names = ", ".join(str(f.root.relative_to(folder)) for f in found[:10])
        raise PairingError(f"holds several data sets: {names}", where=folder, fix=f"give one of them, e.g. {found[0].root}")
    return found[0] if found else None


def _alike(folder: Path, found: Sequence[Layout]) -> Layout:
    """Numbered folders of one arrangement, such as one a patient, as one data set; each is a group."""
    pairs = [replace(p, name=f"{layout.root.name}/{p.name}", group=p.group or layout.root.name)
             for layout in found for p in layout.pairs]
    return Layout(folder, f"{len(found)} folders with {found[0].how}, each a group", tuple(pairs),
                  tuple(dict.fromkeys(n for layout in found for n in layout.notes)),
                  tuple(e for layout in found for e in layout.problems))


def _apart(folder: Path, masks: str | Path) -> Layout:
    """Images of `folder` with labels that the user points to."""
    wanted = str(masks)
    challenge = tracking_challenge(folder, wanted) or next(
        (found for sub in subfolders(folder) if (found := tracking_challenge(sub, wanted))), None)
    if challenge is not None:
        return challenge
    below = [sub / masks for sub in subfolders(folder) if part_of(sub.name) is None]
    near = [folder / masks, Path(masks), folder.parent / masks, *below]
    place = next((p for p in near if p.exists()), None)
    within = [(p, part) for p in subfolders(folder) if (part := part_of(p.name)) is not None and (p / masks).is_dir()]
    if place is None and within:
        return _joined(folder, [(p, part, _apart(p, masks)) for p, part in within])
    if place is None:
        raise MissingPathError(f"no such folder of labels, neither in {folder} nor in the current folder", where=masks,
                               fix="--masks FOLDER")
    inside = [p for p in subfolders(folder) if p.name.casefold() in IMAGE_FOLDERS]
    images = inside[0] if len(inside) == 1 else folder
    chosen = [p for p in images_below(images) if place.resolve() not in (p.resolve(), *p.resolve().parents)]
    if not chosen and list_images(images):
        raise PairingError(f"--masks {masks} holds the images themselves", where=folder, fix="--masks FOLDER with the labels alone")
    if place.is_file():
        return _with_file(folder, place, index(images, chosen))
    layout = paired(images, place, folder, index(images, chosen), anywhere=True)
    return replace(layout, root=folder.parent, problems=()) if folder.is_file() else layout


def _with_file(folder: Path, file: Path, images: dict[str, Path]) -> Layout:
    """Images with a COCO file, or the only image with its labels."""
    if sniff(file) == "coco":
        return from_coco(folder, [file])
    if len(images) != 1:
        raise PairingError(f"{file} is one file of labels, and there are {len(images)} images", where=folder,
                           fix="--masks FOLDER, or a COCO file")
    pairs = tuple(Pair(stem, path, truth_of(file)) for stem, path in images.items())
    return Layout(folder.parent if folder.is_file() else folder, f"one image with {file.name}", pairs)


def _parts(folder: Path) -> Layout | None:
    """`train/`, `val/`, `test/`, each with an arrangement of its own; or images/train and masks/train; or imagesTr and imagesTs."""
    parts = [(p, part) for p in subfolders(folder) if (part := part_of(p.name)) is not None]
    if not parts:
        return decathlon(folder)
    layouts = [(p, part, _labelled(p) or _unmatched(p) or folder_an_image(p)
                or Layout(p, "", bare(images_of(p)), problems=tuple(unread_error(p)))) for p, part in parts]
    if not any(layout.labelled or layout.problems for _, _, layout in layouts):
        return None
    own = two_folders(folder)
    if own is not None and own.labelled:
        if any(part == "train" for _, part, _ in layouts):
            raise PairingError(f"holds {own.how} and a folder for training: which one is meant is open", where=folder,
                               fix="move one of them elsewhere")
        layouts = [(folder, "train", own), *layouts]
    return _joined(folder, layouts)


def _joined(folder: Path, layouts: Sequence[tuple[Path, Part, Layout]]) -> Layout:
    """Parts as one layout; names begin with the folder of the part."""
    pairs = [replace(pair, name=pair.name if p == folder else f"{p.name}/{pair.name}", part=part)
             for p, part, layout in layouts for pair in layout.pairs]
    how = "; ".join(f"{p.name}/: {layout.how or 'images without labels'}" for p, _, layout in layouts)
    return Layout(folder, how, tuple(pairs), tuple(f"{p.name}/: {n}" for p, _, layout in layouts for n in layout.notes),
                  tuple(e for _, _, layout in layouts for e in layout.problems))
