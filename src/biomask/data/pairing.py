"""Which mask belongs to which image."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from biomask.errors import MissingPathError, PairingError
from biomask.io import READERS, list_images, list_unread, relative_stem

IMAGE_FOLDERS = ("images", "imgs")
MASK_FOLDERS = ("masks", "labels", "gt")


@dataclass(frozen=True)
class Pair:
    """One image file and its label file."""

    name: str
    """Path below the image folder without suffix, with '/' between folders."""
    image: Path
    labels: Path


def find_pairs(folder: str | Path) -> list[Pair]:
    """Pairs of a data folder with `images/` and `masks/` (or `labels/`, `gt/`), matched by path without suffix.

    Raises PairingError naming what has no partner and the nearest name on the other side.
    """
    folder = Path(folder)
    if not folder.exists():
        raise MissingPathError("no such folder", where=folder)
    images, masks = _subfolder(folder, IMAGE_FOLDERS), _subfolder(folder, MASK_FOLDERS)
    if images is None or masks is None:
        missing = "images" if images is None else "masks"
        raise PairingError(f"holds no folder {missing!r}", where=folder, fix=_advice(folder))
    unread = list_unread(images) + list_unread(masks)
    if unread:
        names = ", ".join(str(p.relative_to(folder)) for p in unread[:10]) + (" …" if len(unread) > 10 else "")
        raise PairingError(f"{len(unread)} file(s) of a format that is not read: {names}", where=folder,
                           fix=f"convert them to one of {', '.join(READERS)}, or move them elsewhere")
    left, right = index(images), index(masks)
    if not left:
        raise PairingError("holds no images", where=images, fix=f"formats read: {', '.join(READERS)}")
    require_same(left, right, images, masks)
    return [Pair(stem, left[stem], right[stem]) for stem in left]


def _subfolder(folder: Path, names: Iterable[str]) -> Path | None:
    found = [folder / name for name in names if (folder / name).is_dir()]
    if len(found) > 1:
        raise PairingError(f"holds {' and '.join(p.name for p in found)}: which one is meant is open", where=folder,
                           fix="move all but one of them elsewhere")
    return found[0] if found else None


def _advice(folder: Path) -> str:
    if folder.is_file():
        return "give the folder that holds images/ and masks/"
    if (folder / "model.safetensors").is_file():
        return "this is a model; give the folder with the training images: biomask train DATA -o MODEL"
    siblings = {p.name for p in folder.parent.iterdir()} if folder.is_dir() else set()
    if folder.name in (*IMAGE_FOLDERS, *MASK_FOLDERS) and siblings & set(IMAGE_FOLDERS) and siblings & set(MASK_FOLDERS):
        return f"give the folder above, {folder.parent}"
    return f"put the images into {folder / 'images'} and their masks, named alike, into {folder / 'masks'}"


def index(folder: Path) -> dict[str, Path]:
    """{path below the folder without suffix: file}, in name order. Raises PairingError where two files share a stem."""
    files: dict[str, Path] = {}
    for path in list_images(folder):
        stem = relative_stem(path, folder).as_posix()
        if stem in files:
            raise PairingError(f"{files[stem].name} and {path.name} have the same name but for the suffix", where=folder,
                               fix="rename or remove one of them")
        files[stem] = path
    return files


def require_same(left: dict[str, Path], right: dict[str, Path], left_folder: Path, right_folder: Path) -> None:
    """Raise PairingError unless both sides have the same stems."""
    lines = [line for here, there, other in ((left, right, right_folder), (right, left, left_folder))
             for line in _unmatched(here, there, other)]
    if lines:
        shown = lines[:20] + ([f"… and {len(lines) - 20} more"] if len(lines) > 20 else [])
        total = len(left) + len(right)
        raise PairingError(f"{len(lines)} of {total} files in {left_folder} and {right_folder} have no partner:\n  "
                           + "\n  ".join(shown), fix="an image and its mask have the same name, whatever their suffix")


def _unmatched(here: dict[str, Path], there: dict[str, Path], other: Path) -> list[str]:
    lines, free = [], [stem for stem in there if stem not in here]
    for stem in here:
        if stem not in there:
            close = difflib.get_close_matches(stem, free, n=1, cutoff=0.4)
            lines.append(f"{here[stem]}: not in {other}" + (f" (nearest: {there[close[0]].name})" if close else ""))
    return lines
