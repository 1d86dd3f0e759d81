"""The folder of predictions: what is to be done, what is done, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from biomask.data.layouts import find_layout
from biomask.data.pairing import IMAGE_FOLDERS, MASK_FOLDERS, Part
from biomask.errors import BiomaskError, InputError, PairingError, UsageError
from biomask.io import READERS, list_images, list_unread, relative_stem
from biomask.io.detections import DETECTIONS
from biomask.io.files import open_stored, suffix_of, way_for
from biomask.progress import Progress
from biomask.stored import WHOLE, Plane, Selection, planes
from biomask.words import count

#: The folders that `predict` makes and, with --overwrite, removes.
FOLDERS = ("masks", "labels", "outlines", "probabilities", "attention", "detections", "geojson", "rois")

#: The table of objects.
OBJECTS_FILE = "objects.csv"

#: The table of images, and objects of all images as COCO.
IMAGES_FILE, COCO_FILE = "images.csv", "coco.json"

#: Files that are written whole: they must be ours before they are replaced.
OWN_FILES = (IMAGES_FILE, COCO_FILE, DETECTIONS)


@dataclass(frozen=True)
class Wanted:
    """What is written of each image beside outlines."""

    probabilities: bool = False
    objects: bool = True
    """Also labels/, ids of objects."""
    structures: tuple[str, ...] = ()
    """Of multilabel models."""
    attention: bool = False
    detections: bool = False
    """Of detectors: each object with box, score, mask and key points."""


@dataclass(frozen=True)
class Job:
    """One image, and where its results go; a folder a structure below masks and labels, where there are several."""

    name: str
    """Path below the input folder without suffix, with '/' between folders."""
    source: Path
    out: Path
    """The folder of predictions."""
    wanted: Wanted
    plane: Plane = WHOLE

    @property
    def suffix(self) -> str:
        """Of masks and labels: those of a NIfTI volume are one too, so that they lie where the volume does."""
        return ".nii.gz" if suffix_of(self.source) in (".nii", ".nii.gz") else ".tif"

    @property
    def masks(self) -> tuple[Path, ...]:
        """One, or one a structure."""
        return tuple(self.out / "masks" / s / f"{self.name}{self.suffix}" for s in self.wanted.structures or ("",))

    @property
    def labels(self) -> tuple[Path, ...]:
        """Of objects; none where they are not wanted."""
        return tuple(self.out / "labels" / s / f"{self.name}{self.suffix}"
                     for s in self.wanted.structures or ("",)) if self.wanted.objects else ()

    @property
    def outlines(self) -> Path:
        """The picture."""
        return self.out / "outlines" / f"{self.name}.png"

    @property
    def probabilities(self) -> Path | None:
        """None where they are not wanted."""
        return self.out / "probabilities" / f"{self.name}.tif" if self.wanted.probabilities else None

    @property
    def attention(self) -> tuple[Path, ...]:
        """The maps and a picture of them; none where they are not wanted."""
        return tuple(self.out / "attention" / f"{self.name}{s}" for s in (".tif", ".png")) if self.wanted.attention else ()

    @property
    def detections(self) -> Path | None:
        """None where they are not wanted."""
        return self.out / "detections" / f"{self.name}.json" if self.wanted.detections else None

    @property
    def image_name(self) -> str:
        """See `image_name`."""
        return image_name(self.name, self.source, self.plane)

    @property
    def mask_name(self) -> str:
        """The path of the (first) mask below the folder of predictions."""
        return self.masks[0].relative_to(self.out).as_posix()

    def is_there(self) -> bool:
        """Whether all files that were asked for exist."""
        files = (*self.masks, *self.labels, *self.attention, self.outlines, self.probabilities, self.detections)
        return all(p.is_file() for p in files if p is not None)


def image_name(name: str, source: Path, plane: Plane) -> str:
    """File name of an image below the folder of inputs; of a plane the name of its results."""
    return str(PurePosixPath(name).parent / source.name) if plane == WHOLE else f"{name}.tif"


def plan_jobs(images: Path, out: Path, selection: Selection, wanted: Wanted,
              progress: Progress) -> tuple[list[Job], list[tuple[Job, BiomaskError]]]:
    """(one job an image, the jobs whose file cannot be split into images, with the error).

    Raises UsageError or PairingError where results would land on inputs or on each other.
    """
    sources = list_images(images)
    parts = [[images / name for name in names if (images / name).is_dir()] for names in (IMAGE_FOLDERS, MASK_FOLDERS)]
    if all(parts):
        raise UsageError(f"{images} holds {parts[0][0].name} and {parts[1][0].name}: masks would be predicted like images",
                         fix=f"give {parts[0][0]}")
    _require_apart(images, sources, out)
    root, target = images if images.is_dir() else images.parent, out.resolve()
    ours = {target / folder for folder in FOLDERS}
    unread = [p for p in list_unread(images) if not ours & set(p.resolve().parents)]
    if unread:
        progress.warn(f"{len(unread)} file(s) of a format that is not read are left out: "
                      + ", ".join(str(p.relative_to(root)) for p in unread[:10]) + (" …" if len(unread) > 10 else "")
                      + f". To read them: {way_for(unread[0])}")
    labels = _labels_among(images)
    if labels:
        progress.say(f"{count(len(labels), 'file')} left out as labels of the others: "
                     + ", ".join(str(p.relative_to(root)) for p in sorted(labels)[:5]) + (" …" if len(labels) > 5 else ""))
    jobs: dict[str, Job] = {}
    for path in sources:
        if path in labels:
            continue
        if ours & set(path.resolve().parents):
            continue  # results of an earlier run, which a link leads to, are no inputs
        stem = relative_stem(path, root)
        name = stem.as_posix()
        if name.casefold() in jobs:
            raise PairingError(f"{path.name} and {jobs[name.casefold()].source.name} would both be written as {name}",
                               where=root, fix="rename one of them")
        jobs[name.casefold()] = Job(name, path, out, wanted)
    if not jobs:
        way = way_for(unread[0]) if unread else f"formats: {', '.join(READERS)}"
        raise InputError("holds no images of a format that is read", where=images, fix=way)
    return _split(list(jobs.values()), selection)


def _require_apart(images: Path, sources: Sequence[Path], out: Path) -> None:
    """Raise UsageError where results would lie among the images, or the images are results there that --overwrite removes."""
    root, target = (images if images.is_dir() else images.parent).resolve(), out.resolve()
    fix = "give another folder: nothing is written beside inputs"
    if target == root or target in [p.resolve() for p in sources]:
        raise UsageError(f"-o {out} is where the images are", fix=fix)
    if images.is_dir() and root in target.parents:
        raise UsageError(f"-o {out} lies among the images, in {images}", fix=fix)
    ours = {target / folder for folder in FOLDERS} & {images.resolve(), *images.resolve().parents}
    if ours:
        raise UsageError(f"-o {out} is where {images} lies, in its {ours.pop().name}", fix=fix)


def part_jobs(data: Path, part: Part, out: Path, selection: Selection,
              wanted: Wanted) -> tuple[list[Job], list[tuple[Job, BiomaskError]]]:
    """As `plan_jobs`, for the images of one part of a data folder: by split.csv, or by folders named train, validation and test.

    Raises UsageError for a folder that has no such part.
    """
    _require_apart(data, (), out)
    layout = find_layout(data)
    pairs = [p for p in layout.pairs if p.part == part]
    if not pairs:
        there = sorted({p.part for p in layout.pairs if p.part is not None})
        raise UsageError(f"{data} has no part {part}: " + (f"there are {', '.join(there)}" if there else "it is not split"),
                         fix="leave --part out, and give the folder with the images")
    jobs = [Job(p.short_name, p.image, out, wanted, p.plane) for p in pairs]
    names = [j.name.casefold() for j in jobs]
    if len(set(names)) < len(names):
        jobs = [Job(p.name, p.image, out, wanted, p.plane) for p in pairs]
    return _split(jobs, selection)


def _labels_among(images: Path) -> set[Path]:
    """Files below a folder that are labels of others there, as training would take them; not those of the very same name."""
    if not images.is_dir():
        return set()
    try:
        layout = find_layout(images)
    except BiomaskError:
        return set()
    pictures = {p.image for p in layout.pairs}
    stems = {relative_stem(p, images) for p in pictures}
    files = {f for p in layout.labelled if p.truth is not None for f in p.truth.files}
    return {f for f in files - pictures if relative_stem(f, images) not in stems}


def _split(jobs: list[Job], selection: Selection) -> tuple[list[Job], list[tuple[Job, BiomaskError]]]:
    """A job a plane or time point, where each is an image. Raises PairingError for a file that is called like a plane."""
    if not selection.splits:
        return jobs, []
    found, broken = list[Job](), list[tuple[Job, BiomaskError]]()
    taken: dict[str, Job] = {}
    for job in jobs:
        try:
            found += [job if plane == WHOLE else replace(job, name=job.name + plane.suffix, plane=plane)
                      for plane in planes(open_stored(job.source), selection)]
        except BiomaskError as error:
            broken.append((job, error))
    for job in found:
        other = taken.setdefault(job.name.casefold(), job)
        if other is not job:
            raise PairingError(f"{_described(other)} and {_described(job)} would both be written as {job.name}",
                               where=job.source.parent, fix="rename one of the files")
    return found, broken


def _described(job: Job) -> str:
    """The file, and the plane of it: "v.tif (z 3)"."""
    numbers = ", ".join(f"{letter} {n}" for letter, n in (("time", job.plane.time), ("z", job.plane.z)) if n is not None)
    return job.source.name + (f" ({numbers})" if numbers else "")


def selection_of(entry: Mapping[str, Any]) -> Selection:
    """The `Selection` of an entry of run.json, with the channels that were picked by name; JSON has lists for tuples."""
    found = Selection(**entry["selection"])
    channels = entry.get("channels") or found.channels
    return replace(found, channels=None if channels is None else tuple(channels))


def as_json(value: Selection | Plane) -> dict[str, Any]:
    """As it stands in run.json: tuples are lists there."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(value).items()}
