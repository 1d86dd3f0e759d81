"""`Pair`: an image with its truth; the words of folders and what two listings have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from biomask.data.annotations import is_annotation, list_annotations
from biomask.data.naming import match, normal, unmatched_lines
from biomask.errors import PairingError
from biomask.io import READERS, list_images, list_unread, relative_stem
from biomask.io.files import way_for
from biomask.stored import WHOLE, Plane
from biomask.words import count

#: Names of folders, folded.
IMAGE_FOLDERS = ("images", "imgs", "image", "img", "raw", "imagestr", "jpegimages", "originals")
MASK_FOLDERS = ("masks", "labels", "gt", "mask", "label", "groundtruth", "ground_truth", "ground-truth", "annotations",
                "annotation", "segmentation", "segmentations", "seg", "manual", "1st_manual", "labelstr", "segmentationclass",
                "segmentationobject", "targets", "truth", "rois")

Part = Literal["train", "validation", "test"]
PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "trn"), "train"), **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test")}

Form = Literal["mask", "objects", "structures", "shapes", "coco"]


@dataclass(frozen=True)
class Truth:
    """Where the labels of one image are."""

    form: Form
    """A mask file; a folder of one binary mask an object; one mask file a structure; outlines; an entry of a COCO file."""
    files: tuple[Path, ...]
    """All files that make it."""
    structures: tuple[str, ...] = ()
    """The name of each file, for structures."""
    folder: Path | None = None
    """Of objects."""
    entry: str = ""
    """The image's name in a COCO file."""

    @property
    def where(self) -> Path:
        """What a message names."""
        return self.folder or self.files[0]


@dataclass(frozen=True)
class Pair:
    """One image and its truth."""

    name: str
    """Path below the image folder without suffix, with '/' between folders; after a part, and before a plane."""
    image: Path
    truth: Truth | None
    """None where the image has none."""
    plane: Plane = WHOLE
    part: Part | None = None
    group: str | None = None

    @property
    def short_name(self) -> str:
        """Without the folder of its part."""
        first, *rest = PurePosixPath(self.name).parts
        return "/".join(rest) if rest and self.part is not None and part_of(first) == self.part else self.name


@dataclass(frozen=True)
class Layout:
    """What a folder holds, and how it was understood."""

    root: Path
    how: str
    """The arrangement, in words."""
    pairs: tuple[Pair, ...]
    """All images in name order, those without truth too."""
    notes: tuple[str, ...] = ()
    """What was chosen or left aside, for the user to read."""
    problems: tuple[PairingError, ...] = field(default=())
    """What keeps it from being complete: labels without an image, formats that are not read."""
    table: Path | None = None
    """The split.csv that parts and groups come from."""

    @property
    def labelled(self) -> tuple[Pair, ...]:
        """Pairs with a truth."""
        return tuple(p for p in self.pairs if p.truth is not None)

    @property
    def unlabelled(self) -> tuple[Pair, ...]:
        """Images without a truth in a part where others have one."""
        parts = {p.part for p in self.labelled}
        return tuple(p for p in self.pairs if p.truth is None and p.part in parts)


def where_of(pair: Pair) -> Path:
    """What a message about the labels of a pair names."""
    return pair.truth.where if pair.truth is not None else pair.image


def part_of(name: str) -> Part | None:
    """The part of a split that a folder's name says: `train2017` is train."""
    return PARTS.get(re.sub(r"[_-]?\d*$", "", name.casefold()))


def index(folder: Path, files: Iterable[Path] | None = None) -> dict[str, Path]:
    """{path below the folder without suffix: file}, in name order. Raises PairingError where two files share a stem.

    files: those of the folder that count; None = all images below it.
    """
    found: dict[str, Path] = {}
    for path in list_images(folder) if files is None else files:
        stem = normal(relative_stem(path, folder).as_posix())
        if stem in found:
            raise PairingError(f"{found[stem].name} and {path.name} have the same name but for the suffix", where=folder,
                               fix="rename or remove one of them")
        found[stem] = path
    return found


def label_files(folder: Path) -> dict[str, Path]:
    """{stem: file} of masks and of annotation files below a folder."""
    return index(folder, sorted([*list_images(folder), *list_annotations(folder)]))


def pair_up(images: Mapping[str, Path], labels: Mapping[str, Path], *,
            labels_in: Path, anywhere: bool = False) -> tuple[list[Pair], str, list[PairingError]]:
    """(one pair an image, how the names correspond, an error for the labels that belong to no image).

    anywhere: as in `match`.
    """
    partners, how = match(list(images), list(labels), anywhere=anywhere)
    pairs = [Pair(stem, path, truth_of(labels[partners[stem]]) if stem in partners else None) for stem, path in images.items()]
    taken = set(partners.values())
    over = [stem for stem in labels if stem not in taken]
    if not over:
        return pairs, how, []
    free = [stem for stem in images if stem not in partners]
    shown = {s: str(p) for s, p in labels.items()} | {s: images[s].name for s in free}
    lines = unmatched_lines(over, free, shown)
    return pairs, how, [PairingError(f"{len(over)} of {len(labels)} label files belong to no image:\n  " + "\n  ".join(lines),
                                     where=labels_in, fix="give an image and its mask the same name, whatever their suffix")]


def truth_of(path: Path) -> Truth:
    """A mask file, or outlines."""
    return Truth("shapes" if is_annotation(path) else "mask", (path,))


def missing_truth(layout: Layout) -> PairingError | None:
    """The error that names images without labels where others have them."""
    missing = layout.unlabelled
    if not missing:
        return None
    further = [p for p in missing if re.search(r"_000[1-9]$", p.name)]
    if len(further) == len(missing) and any(p.name.endswith("_0000") for p in layout.labelled):
        return PairingError(f"further channels of images, which are not joined: {count(len(missing), 'file')} "
                            f"({Path(missing[0].name).name}, …)", where=layout.root, names=[p.name for p in missing],
                            fix="merge the channels of each image into one file (NIfTI of 4 dimensions, or TIFF), or remove all "
                                "but one; --unlabelled ignore leaves them out")
    free = _unused_labels(layout) if layout.problems else []
    ends = {p: _below_the_first(p.relative_to(layout.root)) for p in free}
    shown = {p.name: str(p.image) for p in missing} | {e: str(p.relative_to(layout.root)) for p, e in ends.items()}
    lines = unmatched_lines([p.name for p in missing], list(ends.values()), shown)
    return PairingError(
        f"{len(missing)} of {len(layout.pairs)} images have no labels:\n  " + "\n  ".join(lines), where=layout.root,
        fix="rename the files that belong together; or say --unlabelled ignore (leave these images out) or "
            "--unlabelled background (there is nothing on them)", names=[p.name for p in missing])


def _below_the_first(path: Path) -> str:
    """A label's path without the folder of all labels, and without suffix: what is like an image's name."""
    return Path(*path.parts[1:] or path.parts).with_suffix("").as_posix()


def _unused_labels(layout: Layout) -> list[Path]:
    """Files below the folder that belong to no pair."""
    used = {p.image for p in layout.pairs} | {f for p in layout.labelled if p.truth is not None for f in p.truth.files}
    return [p for p in sorted([*list_images(layout.root), *list_annotations(layout.root)]) if p not in used]


def unread_error(folder: Path) -> list[PairingError]:
    """An error that names files of formats that are not read, with the way for each format."""
    unread = list_unread(folder)
    if not unread:
        return []
    names = ", ".join(str(p.relative_to(folder)) for p in unread[:10]) + (" …" if len(unread) > 10 else "")
    ways = [way_for(p) for p in {p.suffix.lower(): p for p in unread}.values()]
    return [PairingError(f"{len(unread)} file(s) of a format that is not read: {names}", where=folder,
                         fix="; ".join(ways) + f"; or move them elsewhere. Formats read: {', '.join(READERS)}")]
