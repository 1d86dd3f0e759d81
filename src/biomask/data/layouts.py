"""`find_layout`: from any folder of images and labels to pairs.

Arrangements are tried from the most particular to the plainest; the first that gives labelled images is taken, and said.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from biomask.data.annotations import coco_files, list_annotations, with_overlays
from biomask.data.coco_layout import from_coco, images_below
from biomask.data.naming import match, normal, plain, says_mask, unmatched_lines
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
    truth_of,
    unread_error,
)
from biomask.data.split_table import apply_split_table
from biomask.errors import MissingPathError, PairingError
from biomask.io import READERS, list_images
from biomask.io.annotations import sniff
from biomask.io.listing import yolo_labels
from biomask.io.unread import YOLO_WAY
from biomask.stored import Plane

#: Folders within folders that are searched for a data set.
DEEPEST = 2

#: Share of files of the same names from which on one of two folders holds labels.
ALIKE = 0.9

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
    subs = [(p, index(p)) for p in _folders(folder) if list_images(p)]
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
        folder, "images without labels", _bare(index(folder)),
        problems=(*unread_error(folder), *([question] if question is not None else [])))


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


def _unmatched(folder: Path) -> Layout | None:
    """Images and labels of which none belong together, so that they are named and masks are not taken for images."""
    found = [layout for way in (_coco, _parts, _two_folders, _side_by_side) if (layout := way(folder)) is not None and layout.pairs]
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
    below = [_labelled(sub) or _deeper(sub, depth - 1) for sub in _folders(folder) if not _leads_back(sub)]
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


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []


def _leads_back(folder: Path) -> bool:
    """Whether a link leads to what lies around it or beside it, which is looked at anyway."""
    if not folder.is_symlink():
        return False
    target, here = folder.resolve(), folder.parent.resolve()
    return target in (here, *here.parents) or here in target.parents


# --masks


def _apart(folder: Path, masks: str | Path) -> Layout:
    """Images of `folder` with labels that the user points to."""
    wanted = str(masks)
    challenge = _tracking_challenge(folder, wanted) or next(
        (found for sub in _folders(folder) if (found := _tracking_challenge(sub, wanted))), None)
    if challenge is not None:
        return challenge
    below = [sub / masks for sub in _folders(folder) if part_of(sub.name) is None]
    near = [folder / masks, Path(masks), folder.parent / masks, *below]
    place = next((p for p in near if p.exists()), None)
    within = [(p, part) for p in _folders(folder) if (part := part_of(p.name)) is not None and (p / masks).is_dir()]
    if place is None and within:
        return _joined(folder, [(p, part, _apart(p, masks)) for p, part in within])
    if place is None:
        raise MissingPathError(f"no such folder of labels, neither in {folder} nor in the current folder", where=masks,
                               fix="--masks FOLDER")
    inside = [p for p in _folders(folder) if p.name.casefold() in IMAGE_FOLDERS]
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
    subs = _folders(masks)
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


# Particular arrangements


def _parts(folder: Path) -> Layout | None:
    """`train/`, `val/`, `test/`, each with an arrangement of its own; or images/train and masks/train; or imagesTr and imagesTs."""
    parts = [(p, part) for p in _folders(folder) if (part := part_of(p.name)) is not None]
    if not parts:
        return _decathlon(folder)
    layouts = [(p, part, _labelled(p) or _unmatched(p) or _folder_an_image(p)
                or Layout(p, "", _bare(_images_of(p)), problems=tuple(unread_error(p)))) for p, part in parts]
    if not any(layout.labelled or layout.problems for _, _, layout in layouts):
        return None
    own = _two_folders(folder)
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
    """A folder an image, which holds `images/` with it and `masks/`: one binary mask an object (Data Science Bowl 2018), or one."""
    images, masks = dict[str, Path](), dict[str, Path]()
    for sub in _folders(folder):
        if not list_images(sub):
            continue
        inside = {p.name.casefold(): p for p in _folders(sub)}
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


def _coco(folder: Path) -> Layout | None:
    """COCO files here or in `annotations/`, and their images below."""
    places = [folder, *(p for p in _folders(folder) if p.name.casefold() in ("annotations", "annotation"))]
    files = [f for place in places for f in coco_files(place)]
    masks = [p for p in _folders(folder) if p.name.casefold() in MASK_FOLDERS and p not in places and list_images(p)]
    if files and masks:
        raise PairingError(f"holds {files[0].name} and {masks[0].name}: which one is meant is open", where=folder,
                           fix=f"say which: --masks {files[0].relative_to(folder)} or --masks {masks[0].name}")
    return from_coco(folder, files) if files else None


# One folder


def _side_by_side(folder: Path) -> Layout | None:
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


def _overlays(folder: Path) -> Layout | None:
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
