"""Where converted labels go, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from biomask.errors import BiomaskError, ManyErrors, PairingError, UsageError, WriteError
from biomask.exports.formats import OUTLINES
from biomask.io.annotations import SHAPE_SUFFIXES, SHAPE_WRITERS
from biomask.io.coco import write_coco
from biomask.io.files import require_writable, write_text
from biomask.labels import Legend
from biomask.shapes import Annotations, object_ids

#: What values mean, beside the files that hold them: names and colours of masks, or that each is an object.
LEGEND_FILE, OF_LABELS = "legend.json", {"kind": "instances"}

#: Said where objects have classes.
CLASSES_LOST = "a number an object does not say of which class it is: --to masks writes the classes"


@dataclass(frozen=True)
class Converted:
    """What was written."""

    out: Path
    files: tuple[Path, ...]
    objects: int
    """Objects written, all images together; of class masks the number of masks."""
    notes: tuple[str, ...]
    """What was taken, what could not be kept or is written in another way, by image."""


@dataclass(frozen=True)
class Named:
    """One image whose labels are converted."""

    name: str
    """Path below the folder of images without suffix, with "/"."""
    called: str
    """What a person calls its labels."""
    where: Path
    """What a message about it names."""


class Writing:
    """Writes image by image, and keeps what is to be said at the end."""

    def __init__(self, out: Path, to: str, targets: Mapping[str, Path]) -> None:
        self.out, self.to, self.targets = out, to, targets
        self.files, self.notes = list[Path](), list[str]()
        self.errors = list[BiomaskError]()
        self.count = 0
        self._together: dict[str, Annotations] = {}
        self._called: dict[str, str] = {}

    @contextmanager
    def image(self, item: Named) -> Iterator[None]:
        """Keep the error of one image, so that the others are converted."""
        try:
            yield
        except BiomaskError as error:
            self.errors.append(error if error.where is not None else type(error)(error.what, where=item.where, fix=error.fix))

    def draw(self, name: str, drawn: Annotations) -> None:
        """Outlines of one image; for COCO all are kept for one file in the end. Raises PairingError for a name that another has."""
        drawn = drawn if self.to == "coco" else for_others(drawn)
        if self.to == "coco":
            other = self._called.setdefault(drawn.image or "", name)
            if other != name:
                raise PairingError(f"{other} and {name} would both be called {drawn.image}", fix="rename one of the images")
            self._together[name] = drawn
        else:
            SHAPE_WRITERS[OUTLINES[self.to]](self.targets[name], drawn)
            self.files.append(self.targets[name])
        self.notes += [f"{name}: {lost}" for lost in (drawn.lost if self.to == "coco" else drawn.left_out)]
        # Outlines on several planes may be one object.
        self.count += max(object_ids(drawn.shapes), default=0) + (len(drawn.boxed) if self.to == "coco" else 0)

    def add(self, name: str, files: Sequence[Path], objects: int, note: str) -> None:
        """Pixels of one image, which are written."""
        self.files += files
        self.count += objects
        self.notes += [f"{name}: {note}"] if note else []

    def finish(self, names: Sequence[str], legend: Legend | None) -> Converted:
        """names: of all images, in the order in which one file lists them. legend: what masks mean.

        Raises ManyErrors listing the images that could not be converted, or the only error.
        """
        if self._together:
            target = next(iter(self.targets.values()))
            write_coco(target, [self._together[n] for n in names if n in self._together])
            self.files.append(target)
        meant = OF_LABELS if self.to == "labels" else legend.to_json() if self.to == "masks" and legend is not None else None
        if meant is not None and self.files:
            file = self.out / LEGEND_FILE
            self.files.append(file)
            write_text(file, json.dumps(meant, indent=2, ensure_ascii=False))
        if self.errors:
            if len(names) == 1:
                raise self.errors[0]
            others = f", the others are in {self.out}" if self.files else ""
            raise ManyErrors(f"{len(self.errors)} of {len(names)} could not be converted{others}:", self.errors)
        return Converted(self.out, tuple(self.files), self.count, tuple(self.notes))


def draws(to: str) -> bool:
    """Whether a format holds outlines."""
    return to in (*OUTLINES, "coco")


def for_others(drawn: Annotations) -> Annotations:
    """Without what only COCO can say: crowds, which are no objects, keypoints, and folders in the name of the image, which lies
    beside its file; what is lost is left out by name."""
    crowds = [s for s in drawn.shapes if s.crowd]
    said = [f"{s.name or 'object'} {s.title}".strip() + " (a crowd of objects that nobody told apart)" for s in crowds]
    pointed = sum(s.keypoints is not None and bool((s.keypoints[:, 2] > 0).any()) for s in drawn.shapes)
    if pointed:
        said.append(f"keypoints of {pointed} object{'s' * (pointed != 1)} (only COCO holds them)")
    name = None if drawn.image is None else drawn.image.rpartition("/")[2]
    return replace(drawn, shapes=tuple(s for s in drawn.shapes if not s.crowd), left_out=(*drawn.left_out, *said), image=name)


def targets_of(items: Sequence[Named], out: Path, to: str) -> dict[str, Path]:
    """Where the labels of each image go. Raises PairingError for names that lead out of the folder, or to one file."""
    if to == "coco":
        file = out if out.suffix.lower() == ".json" else out / "labels.json"
        return {i.name: file for i in items}
    strange = [i for i in items if _leads_out(i.name)]
    if strange:
        raise PairingError(f"{len(strange)} names of images are no paths below a folder: "
                           + ", ".join(repr(i.called) for i in strange[:10]) + (" …" if len(strange) > 10 else ""),
                           where=strange[0].where, fix="give names without '..' and without a folder at the root")
    ending = SHAPE_SUFFIXES[OUTLINES[to]] if to in OUTLINES else ".tif"
    taken: dict[str, Named] = {}
    for item in items:
        other = taken.setdefault(item.name.casefold(), item)
        if other is not item:
            raise PairingError(f"{other.called} and {item.called} would both be written as {item.name}{ending}",
                               where=item.where, fix="rename one of them")
    return {i.name: out / f"{i.name}{ending}" for i in items}


def _leads_out(name: str) -> bool:
    """Whether a name may lie elsewhere than below a folder, on any system."""
    parts = name.replace("\\", "/").split("/")
    rooted = PureWindowsPath(name)
    return bool(rooted.drive or rooted.root) or ".." in parts or parts[-1] in ("", ".") or "\0" in name


def of_structure(target: Path, out: Path, structure: str) -> Path:
    """Where the file of one of several structures goes: into a folder of its own, as `predict` lays them."""
    return out / structure / target.relative_to(out)


def check_targets(targets: Sequence[Path], source: Path, overwrite: bool, *, inputs: Sequence[Path] = ()) -> None:
    """Refuse to write among the labels or over files, before any work is done. inputs: the labels."""
    for target in set(targets):
        if source.is_dir() and source.resolve() in target.resolve().parents:
            raise UsageError(f"-o {target.parent} lies in {source}", fix="give another folder: nothing is written beside inputs")
    read = {p.resolve() for p in inputs}
    over = next((t for t in targets if t.resolve() in read), None)
    if over is not None:
        raise UsageError(f"{over} is one of the labels that are read", fix="choose another -o")
    there = [t for t in dict.fromkeys(targets) if t.exists()]
    if there and not overwrite:
        raise WriteError(f"{len(there)} file(s) would be written over, such as this one", where=there[0],
                         fix="choose another -o, or --overwrite")
    require_writable(targets[0].parent)

