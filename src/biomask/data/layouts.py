"""`find_layout`: from any folder of images and labels to pairs.

Arrangements are tried from the most particular to the plainest; the first that gives labelled images is taken, and said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from biomask.data.annotations import coco_files, coco_images, list_annotations, with_overlays
from biomask.data.naming import plain, says_mask
from biomask.data.pairing import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    Layout,
    Pair,
    Part,
    Truth,
    index,
    label_files,
    pair_up,
    part_of,
    unread_error,
)
from biomask.data.split_table import apply_split_table
from biomask.errors import MissingPathError, PairingError
from biomask.io import READERS, list_images

#: Folders within folders that are searched for a data set.
DEEPEST = 2

#: Share of the images that must find labels in a folder of another name for it to be taken for one of labels.
ENOUGH = 0.5


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
    layout = apply_split_table(layout)
    return replace(layout, pairs=tuple(sorted(layout.pairs, key=lambda p: p.name)))


def _whole(folder: Path) -> Layout:
    if folder.is_file():
        return Layout(folder.parent, "one image", (Pair(folder.stem, folder, None),))
    found = _labelled(folder)
    if found is None or len(found.labelled) < ENOUGH * len(found.pairs):
        # A few pairs among many images may be one of several data sets below.
        found = _deeper(folder, DEEPEST) or found
    return found or Layout(folder, "images without labels", _bare(index(folder)), problems=tuple(unread_error(folder)))


def _bare(images: dict[str, Path]) -> tuple[Pair, ...]:
    return tuple(Pair(stem, path, None) for stem, path in images.items())


def _labelled(folder: Path) -> Layout | None:
    """The first arrangement of this very folder that has labels."""
    ways: Sequence[Callable[[Path], Layout | None]] = (
        _coco, _tracking_challenge, _parts, _folder_an_image, _two_folders, _side_by_side, _overlays)
    for way in ways:
        layout = way(folder)
        if layout is not None and layout.labelled:
            return layout
    return None


def _deeper(folder: Path, depth: int) -> Layout | None:
    """The only folder below that holds labelled images. Raises PairingError where several do."""
    if depth == 0:
        return None
    below = [_labelled(sub) or _deeper(sub, depth - 1) for sub in _folders(folder)]
    found = [layout for layout in below if layout is not None]
    if len(found) > 1:
        names = ", ".join(str(f.root.relative_to(folder)) for f in found[:10])
        raise PairingError(f"holds several data sets: {names}", where=folder, fix=f"give one of them, e.g. {found[0].root}")
    return found[0] if found else None


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []


# --masks


def _apart(folder: Path, masks: str | Path) -> Layout:
    """Images of `folder` with labels that the user points to."""
    wanted = str(masks)
    challenge = _tracking_challenge(folder, wanted) or next(
        (found for sub in _folders(folder) if (found := _tracking_challenge(sub, wanted))), None)
    if challenge is not None:
        return challenge
    place = next((p for p in (folder / masks, Path(masks)) if p.exists()), None)
    if place is None:
        raise MissingPathError("no such folder of labels", where=masks, fix="--masks FOLDER")
    if place.is_file():
        return _from_coco(folder, [place])
    inside = [p for p in _folders(folder) if p.name.casefold() in IMAGE_FOLDERS]
    images = inside[0] if len(inside) == 1 else folder
    chosen = [p for p in list_images(images) if place.resolve() not in p.resolve().parents]
    return paired(images, place, folder, index(images, chosen))


# Two folders


def _two_folders(folder: Path) -> Layout | None:
    """`images/` and `masks/`, whatever they are called; images with a folder of masks beside them; a folder a structure."""
    subs = _folders(folder)
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
    if len(fitting) == 1:
        return paired(images, fitting[0], root, stems)
    return _structures(stems, fitting, root, f"{images.name}/ and a folder a structure") if fitting else None


def _share(stems: dict[str, Path], folder: Path) -> float:
    """Share of the images that find labels in a folder."""
    pairs, _, _ = pair_up(stems, label_files(folder), labels_in=folder)
    return sum(p.truth is not None for p in pairs) / max(1, len(pairs))


def paired(images: Path, masks: Path, root: Path, stems: dict[str, Path] | None = None) -> Layout:
    """Images with the labels of a folder: files, folders of objects, folders of structures, or a COCO file."""
    stems = index(images) if stems is None else stems
    how = f"{images.name}/ and {masks.name}/"
    problems = [*unread_error(images), *unread_error(masks)]
    direct = [p for p in list_images(masks) if p.parent == masks]
    subs = _folders(masks)
    if not direct and subs:
        objects = {p.name: p for p in subs if p.name in stems and list_images(p)}
        if len(objects) >= ENOUGH * len(subs):
            pairs = [Pair(s, p, _objects(objects[s]) if s in objects else None) for s, p in stems.items()]
            return Layout(root, f"{how}, where a folder holds the objects of an image", tuple(pairs), problems=tuple(problems))
        fitting = [p for p in subs if _share(stems, p) >= ENOUGH]
        if len(fitting) > 1:
            return _structures(stems, fitting, root, f"{how}, in it a folder a structure", problems)
    coco = coco_files(masks)
    if coco and not direct:
        return _from_coco(images, coco, root)
    pairs, said, over = pair_up(stems, label_files(masks), labels_in=masks)
    notes = (said,) if said != "same names" else ()
    return Layout(root, how, tuple(pairs), notes, (*problems, *over))


def _structures(stems: dict[str, Path], folders: Sequence[Path], root: Path, how: str,
                problems: Sequence[PairingError] = ()) -> Layout:
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
    return Layout(root, f"{how}: {', '.join(names)}", tuple(Pair(s, p, whole.get(s)) for s, p in stems.items()), (), tuple(errors))


def _objects(folder: Path) -> Truth:
    return Truth("objects", tuple(list_images(folder)), folder=folder)


# Particular arrangements


def _parts(folder: Path) -> Layout | None:
    """`train/`, `val/`, `test/`, each with an arrangement of its own; or images/train and masks/train; or imagesTr and imagesTs."""
    parts = [(p, part) for p in _folders(folder) if (part := part_of(p.name)) is not None]
    if not parts:
        return _decathlon(folder)
    layouts = [(p, part, _labelled(p) or Layout(p, "", _bare(_images_of(p)), problems=tuple(unread_error(p))))
               for p, part in parts]
    if not any(layout.labelled for _, _, layout in layouts):
        return None
    pairs = [replace(pair, name=f"{p.name}/{pair.name}", part=part) for p, part, layout in layouts for pair in layout.pairs]
    how = "; ".join(f"{p.name}/: {layout.how or 'images without labels'}" for p, _, layout in layouts)
    return Layout(folder, how, tuple(pairs), tuple(f"{p.name}/: {n}" for p, _, layout in layouts for n in layout.notes),
                  tuple(e for _, _, layout in layouts for e in layout.problems))


def _images_of(folder: Path) -> dict[str, Path]:
    """Images of a folder without labels, from its folder of images if it has one."""
    inside = [p for p in _folders(folder) if p.name.casefold() in IMAGE_FOLDERS]
    return index(inside[0] if len(inside) == 1 else folder)


def _decathlon(folder: Path) -> Layout | None:
    """imagesTr, labelsTr and imagesTs, labelsTs of the Medical Segmentation Decathlon and nnU-Net."""
    subs = {p.name.casefold(): p for p in _folders(folder)}
    if not {"imagestr", "labelstr"} <= subs.keys() or "imagests" not in subs:
        return None
    train = paired(subs["imagestr"], subs["labelstr"], folder)
    test = (paired(subs["imagests"], subs["labelsts"], folder) if "labelsts" in subs
            else Layout(folder, "imagesTs/", _bare(index(subs["imagests"]))))
    pairs = [*(replace(p, name=f"train/{p.name}", part="train") for p in train.pairs),
             *(replace(p, name=f"test/{p.name}", part="test") for p in test.pairs)]
    return Layout(folder, f"{train.how}; {test.how}", tuple(pairs), (*train.notes, *test.notes), (*train.problems, *test.problems))


def _folder_an_image(folder: Path) -> Layout | None:
    """A folder an image, which holds `images/` with it and `masks/` with one binary mask an object (Data Science Bowl 2018)."""
    pairs = []
    subs = _folders(folder)
    for sub in subs:
        inside = {p.name.casefold(): p for p in _folders(sub)}
        images = list_images(inside["images"]) if "images" in inside else []
        if len(images) != 1 or ("masks" not in inside and len(inside) > 1):
            return None
        objects = _objects(inside["masks"]) if "masks" in inside else None
        if objects is not None and len(objects.files) == 1 and objects.files[0].stem == images[0].stem and len(subs) < 3:
            return None  # a data set of one image
        pairs.append(Pair(sub.name, images[0], objects))
    return Layout(folder, "a folder an image, with one mask an object", tuple(pairs)) if pairs else None


def _tracking_challenge(folder: Path, wanted: str | None = None) -> Layout | None:
    """Sequences `01`, `02` with truths `01_GT/SEG` (drawn by people) and `01_ST/SEG` (made by programs; all frames)."""
    sequences = [p for p in _folders(folder) if re.fullmatch(r"\d\d", p.name)]
    truths = {kind: [p for p in sequences if (folder / f"{p.name}_{kind}" / "SEG").is_dir()] for kind in ("ST", "GT")}
    kinds = [kind for kind, there in truths.items() if there]
    if not kinds or (wanted is not None and wanted.upper() not in kinds):
        return None
    kind = wanted.upper() if wanted else kinds[0]
    pairs, errors = [], list[PairingError]()
    for sequence in sequences:
        frames = {_number(p): p for p in list_images(sequence)}
        masks = {_number(p): p for p in list_images(folder / f"{sequence.name}_{kind}" / "SEG")} if sequence in truths[kind] else {}
        over = [p.name for n, p in masks.items() if n not in frames]
        if over:
            errors.append(PairingError(f"{', '.join(over[:10])}: no frame has that number",
                                       where=folder / f"{sequence.name}_{kind}"))
        pairs += [Pair(f"{sequence.name}/{p.stem}", p, Truth("mask", (masks[n],)) if n in masks else None, group=None)
                  for n, p in frames.items()]
    labelled = [p for p in pairs if p.truth is not None]
    other = [k for k in kinds if k != kind]
    said = {"ST": "silver truth (ST), made by programs", "GT": "gold truth (GT), drawn by people"}
    notes = (f"{said[kind]}, on {len(labelled)} of {len(pairs)} frames"
             + (f"; for the {said[other[0]]}, say --masks {other[0]}" if other else ""),)
    # Gold truth covers some frames by design: the others are not forgotten.
    kept = labelled if kind == "GT" else pairs
    return Layout(folder, "sequences of the Cell Tracking Challenge", tuple(kept), notes, tuple(errors))


def _number(path: Path) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", path.stem))


def _coco(folder: Path) -> Layout | None:
    """COCO files here or in `annotations/`, and their images below."""
    places = [folder, *(p for p in _folders(folder) if p.name.casefold() in ("annotations", "annotation"))]
    files = [f for place in places for f in coco_files(place)]
    return _from_coco(folder, files) if files else None


def _from_coco(folder: Path, files: Sequence[Path], root: Path | None = None) -> Layout:
    """Images of COCO files. Of several files about the same images, the one called `instances…` counts."""
    there = {p.name: p for p in list_images(folder)}
    images, notes = dict[str, tuple[Path, str]](), []
    for file in sorted(files, key=lambda p: (not p.name.startswith("instances"), p.name)):
        entries = coco_images(file)
        new = [e for e in entries if e not in images]
        if not new:
            notes.append(f"{file.name} is about the same images and not used")
        images |= {e: (file, Path(e).name) for e in new}
    listed = [(entry, file, there[name]) for entry, (file, name) in images.items() if name in there]
    pairs = [Pair(_stem(p, folder), p, Truth("coco", (file,), entry=entry), part=_part_above(p, folder))
             for entry, file, p in listed]
    missing = [entry for entry, (_, name) in images.items() if name not in there]
    errors = [PairingError(f"{len(missing)} of {len(images)} images of the COCO files are not below this folder: "
                           + ", ".join(missing[:10]), where=folder,
                           fix="put them there, or remove them from the file")] if missing else []
    known = {p.image for p in pairs}
    bare = [Pair(_stem(p, folder), p, None, part=_part_above(p, folder)) for p in there.values() if p not in known]
    return Layout(root or folder, "COCO files and their images", (*pairs, *bare), tuple(notes), tuple(errors))


def _stem(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _part_above(path: Path, root: Path) -> Part | None:
    return next((p for part in path.relative_to(root).parts[:-1] if (p := part_of(part)) is not None), None)


# One folder


def _side_by_side(folder: Path) -> Layout | None:
    """Images and labels in the same folders: `x.png` with `x_mask.png`, `img_1` with `mask_1`, or with an annotation file."""
    images = list_images(folder)
    annotations = list_annotations(folder)
    masks = _masks_among(images, folder)
    if not masks and not annotations:
        return None
    labels = sorted([*masks, *annotations])
    rest = index(folder, [p for p in images if p not in set(masks)])
    pairs, said, over = pair_up(rest, index(folder, labels), labels_in=folder)
    notes = (said,) if said != "same names" else ()
    return Layout(folder, "images and labels side by side", tuple(pairs), notes, (*unread_error(folder), *over))


def _overlays(folder: Path) -> Layout | None:
    """ImageJ's overlays inside the images' own files; only where these lie in this very folder."""
    images = index(folder, [p for p in list_images(folder) if p.parent == folder])
    drawn = set(with_overlays(folder))
    pairs = [Pair(s, p, Truth("shapes", (p,)) if p in drawn else None) for s, p in images.items()]
    return Layout(folder, "images with overlays of ImageJ", tuple(pairs), (), tuple(unread_error(folder)))


def _masks_among(files: Iterable[Path], folder: Path) -> list[Path]:
    """Files whose names say "mask", and become that of another file without the word."""
    stems = {p: p.relative_to(folder).with_suffix("").as_posix() for p in files}
    masks = [p for p, s in stems.items() if says_mask(s)]
    images = {plain(s) for p, s in stems.items() if not says_mask(s)}
    return [p for p in masks if plain(stems[p]) in images] and masks
