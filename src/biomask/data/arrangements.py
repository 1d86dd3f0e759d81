"""Arrangements that a challenge or a program gave: each a function from a folder to a layout, or None."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from biomask.data.annotations import coco_files, list_annotations, with_overlays
from biomask.data.coco_layout import from_coco
from biomask.data.naming import normal, plain, says_mask
from biomask.data.pairing import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    Layout,
    Pair,
    Truth,
    index,
    pair_up,
    unread_error,
)
from biomask.data.two_folders import _objects, paired, subfolders
from biomask.errors import PairingError
from biomask.io import list_images
from biomask.stored import Plane


def bare(images: dict[str, Path]) -> tuple[Pair, ...]:
    return tuple(Pair(stem, path, None) for stem, path in images.items())


def images_of(folder: Path) -> dict[str, Path]:
    """Images of a folder without labels, from its folder of images if it has one."""
    inside = [p for p in subfolders(folder) if p.name.casefold() in IMAGE_FOLDERS]
    return index(inside[0] if len(inside) == 1 else folder)


def decathlon(folder: Path) -> Layout | None:
    """imagesTr, labelsTr and imagesTs, labelsTs of the Medical Segmentation Decathlon and nnU-Net."""
    subs = {p.name.casefold(): p for p in subfolders(folder)}
    if not {"imagestr", "labelstr"} <= subs.keys() or "imagests" not in subs:
        return None
    train = paired(subs["imagestr"], subs["labelstr"], folder)
    test = (paired(subs["imagests"], subs["labelsts"], folder) if "labelsts" in subs
            else Layout(folder, "imagesTs/", bare(index(subs["imagests"]))))
    pairs = [*(replace(p, name=f"train/{p.name}", part="train") for p in train.pairs),
             *(replace(p, name=f"test/{p.name}", part="test") for p in test.pairs)]
    return Layout(folder, f"{train.how}; {test.how}", tuple(pairs), (*train.notes, *test.notes), (*train.problems, *test.problems))


def folder_an_image(folder: Path) -> Layout | None:
    """A folder an image, which holds `images/` with it and `masks/`: one binary mask an object (Data Science Bowl 2018), or one."""
    images, masks = dict[str, Path](), dict[str, Path]()
    for sub in subfolders(folder):
        if not list_images(sub):
            continue
        inside = {p.name.casefold(): p for p in subfolders(sub)}
        here = list_images(inside["images"]) if "images" in inside else []
        if len(here) != 1 or ("masks" not in inside and len(inside) > 1):
            return None
        images[normal(sub.name)] = here[0]
        if "masks" in inside:
            masks[normal(sub.name)] = inside["masks"]
    truths = _objects(masks)
    whole = bool(truths) and not any(t.form == "objects" for t in truths.values())
    if not images or (whole and len(images) == 1):
        return None  # a data set of one image, in a folder of its own
    pairs = tuple(Pair(name, path, truths.get(name)) for name, path in images.items())
    return Layout(folder, "a folder an image, with its mask" if whole else "a folder an image, with one mask an object", pairs)


def tracking_challenge(folder: Path, wanted: str | None = None) -> Layout | None:
    """Sequences `01`, `02` with truths `01_GT/SEG` (drawn by people) and `01_ST/SEG` (made by programs; all frames)."""
    sequences = [p for p in subfolders(folder) if re.fullmatch(r"\d\d", p.name)]
    truths = {kind: [p for p in sequences if (folder / f"{p.name}_{kind}" / "SEG").is_dir()] for kind in ("ST", "GT")}
    kinds = [kind for kind, there in truths.items() if there]
    if not kinds or (wanted is not None and wanted.upper() not in kinds):
        return None
    kind = wanted.upper() if wanted else kinds[0]
    pairs, errors = [], list[PairingError]()
    for sequence in sequences:
        frames = {_number(p): p for p in list_images(sequence)}
        masks = {_number(p): p for p in list_images(folder / f"{sequence.name}_{kind}" / "SEG")} if sequence in truths[kind] else {}
        over = [p.name for n, p in masks.items() if n not in frames and n[:1] not in frames]
        if over:
            errors.append(PairingError(f"{', '.join(over[:10])}: no frame has that number",
                                       where=folder / f"{sequence.name}_{kind}"))
        pairs += [pair for n, p in frames.items() for pair in _frame(f"{sequence.name}/{p.stem}", p, n, masks)]
    labelled = [p for p in pairs if p.truth is not None]
    other = [k for k in kinds if k != kind]
    said = {"ST": "silver truth (ST), made by programs", "GT": "gold truth (GT), drawn by people"}
    notes = (f"{said[kind]}, on {len(labelled)} of {len(pairs)} frames"
             + (f"; for the {said[other[0]]}, say --masks {other[0]}" if other else ""),)
    # Gold truth covers some frames by design: the others are not forgotten.
    kept = labelled if kind == "GT" else pairs
    return Layout(folder, "sequences of the Cell Tracking Challenge", tuple(kept), notes, tuple(errors))


def _frame(name: str, path: Path, number: tuple[int, ...], masks: Mapping[tuple[int, ...], Path]) -> list[Pair]:
    """A frame with its mask; or a pair a plane, of a volume of which single planes were drawn (`man_seg_TTT_ZZZ.tif`)."""
    drawn = {n[1]: p for n, p in masks.items() if len(n) == 2 and n[:1] == number}
    if number in masks or not drawn:
        return [Pair(name, path, Truth("mask", (masks[number],)) if number in masks else None)]
    return [Pair(f"{name}{Plane(z).suffix}", path, Truth("mask", (p,)), Plane(z), group=name) for z, p in sorted(drawn.items())]


def _number(path: Path) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", path.stem))


def coco_folder(folder: Path) -> Layout | None:
    """COCO files here or in `annotations/`, and their images below."""
    places = [folder, *(p for p in subfolders(folder) if p.name.casefold() in ("annotations", "annotation"))]
    files = [f for place in places for f in coco_files(place)]
    masks = [p for p in subfolders(folder) if p.name.casefold() in MASK_FOLDERS and p not in places and list_images(p)]
    if files and masks:
        raise PairingError(f"holds {files[0].name} and {masks[0].name}: which one is meant is open", where=folder,
                           fix=f"say which: --masks {files[0].relative_to(folder)} or --masks {masks[0].name}")
    return from_coco(folder, files) if files else None


def side_by_side(folder: Path) -> Layout | None:
    """Images and labels in the same folders: `x.png` with `x_mask.png`, `img_1` with `mask_1`, or with an annotation file."""
    images = list_images(folder)
    annotations = list_annotations(folder)
    masks = _masks_among(images, folder) or _same_names(images)
    if not masks and not annotations:
        return None
    labels, chosen = sorted([*masks, *annotations]), set(masks)
    rest = index(folder, [p for p in images if p not in chosen])
    pairs, said, over = pair_up(rest, index(folder, labels), labels_in=folder)
    notes = (said,) if said != "same names" else ()
    return Layout(folder, "images and labels side by side", tuple(pairs), notes, (*unread_error(folder), *over))


def with_overlay(folder: Path) -> Layout | None:
    """ImageJ's overlays inside the images' own files; only where these lie in this very folder."""
    images = index(folder, [p for p in list_images(folder) if p.parent == folder])
    drawn = set(with_overlays(folder))
    pairs = [Pair(s, p, Truth("shapes", (p,)) if p in drawn else None) for s, p in images.items()]
    return Layout(folder, "images with overlays of ImageJ", tuple(pairs), (), tuple(unread_error(folder)))


def _masks_among(files: Iterable[Path], folder: Path) -> list[Path]:
    """Files whose names say "mask", and become that of another file without the word."""
    stems = {p: p.relative_to(folder).with_suffix("").as_posix() for p in files}
    masks = [p for p, s in stems.items() if says_mask(s)] or _half_with_suffix(stems)
    images = {plain(s) for p, s in stems.items() if not says_mask(s)}
    chosen = set(masks)
    others = tuple(s for p, s in stems.items() if p not in chosen)
    return masks if any(plain(stems[p]) in images or stems[p].startswith(others) for p in masks) else []


def _same_names(files: Sequence[Path]) -> list[Path]:
    """The PNG files where each is beside a JPEG or TIFF of the same name, as QuPath exports tiles with their labels."""
    by_stem: dict[Path, list[Path]] = {}
    for path in files:
        by_stem.setdefault(path.with_suffix(""), []).append(path)
    kinds = {tuple(sorted(p.suffix.lower() for p in pair)) for pair in by_stem.values()}
    if len(kinds) != 1 or not kinds <= {(".jpeg", ".png"), (".jpg", ".png"), (".png", ".tif"), (".png", ".tiff")}:
        return []
    return [p for p in files if p.suffix.lower() == ".png"]


def _half_with_suffix(stems: dict[Path, str]) -> list[Path]:
    """The half of the files that is named like the other half, with one suffix of letters after it."""
    names = set(stems.values())
    found: dict[str, list[Path]] = {}
    for path, stem in stems.items():
        for cut in range(1, len(stem)):
            if stem[:cut] in names and re.fullmatch(r"[_\-. ]?[^\W\d]{2,}", stem[cut:]):
                found.setdefault(stem[cut:], []).append(path)
    whole = [paths for paths in found.values() if 2 * len(paths) == len(stems)]
    return whole[0] if len(whole) == 1 else []
