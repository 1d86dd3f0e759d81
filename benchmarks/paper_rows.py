"""The rows of benchmarks/papers.py: which data, recipe, sizes and budget each has."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from skimage.transform import resize

from biomask.io import read_image, read_label_values
from biomask.io.files import write_picture
from border_weights import HAND_ANNOTATED, hela
from common import data_root

#: Predictions of one model, by name: more options of `biomask predict`.
Variants = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    table: str
    recipe: str
    steps: int
    """Budget of the reduced row."""
    reduced: Sequence[str] = ()
    """Settings that make it small enough for a CPU; --full leaves them out."""
    full: Sequence[str] = ("--minutes", "60")
    """Budget of --full."""
    begin: str | None = None
    """The row with whose weights it begins."""
    images: int | None = None
    """Train on so many images only."""
    variants: Variants = field(default_factory=lambda: {"": ()})

    @property
    def name(self) -> str:
        """Of its result, and what --rows is matched with."""
        return f"{self.table}-{self.recipe}" + (f"-{self.images}-images" if self.images else "")


@dataclass(frozen=True)
class Table:
    """What the rows of a table share."""

    what: str
    prepare: Callable[[Path, int | None, int], None]
    """Makes a data folder with a split.csv, from (folder, number of training images or all, seed)."""
    options: Sequence[str] = ()
    """Of train, and of predict."""
    metrics: str | None = None
    """--metrics of evaluate."""
    probabilities: bool = False


def isbi2012(folder: Path, images: int | None, seed: int) -> None:
    """Slices 00-23 train, 24-29 test."""
    source = data_root() / "isbi2012" / "train"
    for side in ("images", "masks"):
        shutil.copytree(source / side, folder / side)
    write_split(folder, {p.stem: "train" if int(p.stem) < 24 else "test" for p in (folder / "images").iterdir()})


def hela_by_hand(folder: Path, images: int | None, seed: int) -> None:
    """Frames 000-024 of the silver truth train, the five complete hand-annotated ones test."""
    hela(folder, HAND_ANNOTATED, ())


def drishti(folder: Path, images: int | None, seed: int) -> None:
    """As the article prepared them: padded with zeros to a square, resized to 224 x 224, a structure wherever one expert at least
    saw it (the soft map, resized, is above 0); official split."""
    parts = {}
    for part in ("train", "test"):
        source = data_root() / "drishti_gs" / part
        for path in sorted((source / "images").iterdir()):
            parts[path.stem] = part
            image = np.moveaxis(read_image(path).array, 0, -1)
            resized = np.rint(square(image)).astype(np.uint8)
            write_picture(folder / "images" / f"{path.stem}.png", np.moveaxis(resized, -1, 0))
            for structure in ("disc", "cup"):
                soft = read_label_values(next((source / structure).glob(f"{path.stem}.*"))).array[0]
                write_picture(folder / structure / f"{path.stem}.png", np.where(square(soft) > 0, 255, 0).astype(np.uint8))
    write_split(folder, parts)


def square(image: npt.NDArray[np.generic], side: int = 224) -> npt.NDArray[np.float64]:
    """(Y, X) or (Y, X, C), padded with zeros on both sides of the shorter axis and resized, in the values that it had."""
    short = [max(image.shape[:2]) - n for n in image.shape[:2]]
    margins = [(s // 2, s - s // 2) for s in short] + [(0, 0)] * (image.ndim - 2)
    return np.asarray(resize(np.pad(image, margins).astype(np.float64), (side, side), order=1, anti_aliasing=False))


def nuclei_96(folder: Path, images: int | None, seed: int) -> None:
    """A grey crop of 96 x 96 of each image, around a pixel of a nucleus that is drawn at random; masks of all nuclei together."""
    source, draw = data_root() / "dsb2018", np.random.default_rng(0)
    rows = list(csv.DictReader((source / "split.csv").open(encoding="utf-8")))
    for row in rows:
        grey = np.asarray(Picture.open(next((source / "images").glob(f"{row['image']}.*"))).convert("L"))
        inside = read_label_values(next((source / "labels").glob(f"{row['image']}.*"))).array[0] > 0
        middle = draw.permutation(np.argwhere(inside))[0] if inside.any() else np.array(inside.shape) // 2
        y, x = (int(np.clip(m - 48, 0, n - 96)) for m, n in zip(middle, inside.shape, strict=True))
        crop = (slice(y, y + 96), slice(x, x + 96))
        write_picture(folder / "images" / f"{row['image']}.png", grey[crop])
        write_picture(folder / "masks" / f"{row['image']}.png", np.where(inside[crop], 255, 0).astype(np.uint8))
    write_split(folder, {r["image"]: r["part"] for r in rows}, {r["image"]: r["group"] for r in rows})


def nuclei(folder: Path, images: int | None, seed: int) -> None:
    """The test part of split.csv, and so many images of the training part, drawn by the seed; the ids of nuclei."""
    source = data_root() / "dsb2018"
    rows = list(csv.DictReader((source / "split.csv").open(encoding="utf-8")))
    train = [r for r in rows if r["part"] == "train"]
    order = np.random.default_rng(seed).permutation(len(train))[:images]
    chosen = [r for r in rows if r["part"] == "test"] + [train[int(i)] for i in order]
    for row in chosen:
        for side in ("images", "labels"):
            (folder / side).mkdir(parents=True, exist_ok=True)
            shutil.copy(next((source / side).glob(f"{row['image']}.*")), folder / side)
    write_split(folder, {r["image"]: r["part"] for r in chosen}, {r["image"]: r["group"] for r in chosen})


def hippocampus(folder: Path, images: int | None, seed: int) -> None:
    """Every fifth volume in name order tests."""
    source = data_root() / "hippocampus"
    for side in ("images", "labels"):
        shutil.copytree(source / side, folder / side)
    names = sorted(p.name.removesuffix(".gz").removesuffix(".nii") for p in (source / "images").iterdir())
    write_split(folder, {name: "test" if n % 5 == 4 else "train" for n, name in enumerate(names)})


def write_split(folder: Path, parts: Mapping[str, str], groups: Mapping[str, str] | None = None) -> None:
    """split.csv of a data folder."""
    with (folder / "split.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "part", *(["group"] if groups else [])])
        rows.writerows([name, part, *([groups[name]] if groups else [])] for name, part in sorted(parts.items()))


def digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files of a folder."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


TABLES = {
    "isbi2012": Table("membranes of ISBI 2012, slices 00-23 train, 24-29 test", isbi2012, metrics="isbi", probabilities=True),
    "hela": Table("DIC HeLa, frames 000-024 of 01_ST train, 031, 033, 034, 039, 054 of 01_GT test", hela_by_hand, metrics="ctc"),
    "drishti": Table("optic disc and cup of Drishti-GS as the article prepared them: 224 x 224, a structure where any of four "
                     "experts saw it; official split", drishti, metrics="article", probabilities=True),
    "dsb2018": Table("nuclei of DSB 2018, a grey crop of 96 x 96 of each image, nucleus or not; parts of split.csv", nuclei_96),
    "hippocampus": Table("hippocampus of the Medical Segmentation Decathlon, every fifth volume tests", hippocampus),
    "curve": Table("nuclei of DSB 2018 as objects, whole images, parts of split.csv", nuclei, ("--channels", "rgb")),
}

#: Of reduced rows: an eighth to a half of the width, small steps, and a rate at which a few hundred of them do something.
NARROW = ("network.options.width=16",)
STEP = ("training.patch=[192,192]", "training.batch=2")
FASTER = ("training.lr=1e-3",)
LONGER = (*FASTER, "training.until_flat=false")  # early stopping ends UNet++ before it has begun to learn
CROPS = ("training.batch=8", *FASTER)

HOURS = ("--minutes", "600")
SEVEN: Variants = {"seven rotations": ("--augment", "rotations"), "alone": ("--augment", "none")}
DEPTHS: Variants = {"": (), **{f"depth {d}": ("--depth", str(d)) for d in (1, 2, 3, 4)}}


def isbi_row(recipe: str, *more: str, begin: str | None = None, steps: int = 200) -> Row:
    """A row of recipes that take patches; fewer steps of those whose steps take longer. Who begins with weights has their width."""
    return Row("isbi2012", recipe, steps, (*(() if begin else NARROW), *STEP, *more), begin=begin)


#: In the order in which they run: of each table something first, what is heavy last.
ROWS = (
    Row("drishti", "unet-drishti", 250, (*NARROW, *FASTER), ("--steps", "500")),
    isbi_row("default"),
    Row("isbi2012", "unet-2015", 400, (*NARROW, "training.patch=[260,260]"), HOURS, variants=SEVEN),
    Row("dsb2018", "narrow-unet", 500, (*NARROW, *CROPS)),
    Row("dsb2018", "unet++", 500, (*NARROW, *CROPS), variants=DEPTHS),
    Row("hippocampus", "default", 200, NARROW),
    Row("hela", "default", 200, NARROW),
    Row("curve", "default", 120, NARROW, images=5),
    Row("curve", "default", 120, NARROW, images=20),
    Row("curve", "default", 120, NARROW, images=10),
    Row("curve", "default", 120, NARROW, images=30),
    Row("hippocampus", "attention-unet-3d", 120, FASTER),
    Row("dsb2018", "wide-unet", 500, ("network.options.width=18", "network.options.up_width=16", *CROPS)),
    Row("drishti", "attention-unet", 150, (*NARROW, *FASTER), ("--steps", "500")),
    isbi_row("narrow-unet", *FASTER),
    isbi_row("attention-unet", *FASTER),
    isbi_row("unet-milesial", *FASTER),
    isbi_row("unet-rwzzz"),
    isbi_row("unet-drishti", *FASTER),
    isbi_row("fcn-32s"),
    isbi_row("fcn-16s", begin="isbi2012-fcn-32s"),
    isbi_row("fcn-8s", begin="isbi2012-fcn-16s"),
    Row("isbi2012", "sliding-window-2012", 200, ("network.options.width=24",)),
    isbi_row("unet++", *LONGER, steps=120),
    Row("isbi2012", "one-layer", 200, STEP),
    isbi_row("unet++-l1", *LONGER),
    isbi_row("wide-unet", *FASTER),
    Row("isbi2012", "unet-2015-same", 200, (*NARROW, *STEP[:1]), HOURS, variants=SEVEN),
    Row("hela", "unet-2015-same", 200, (*NARROW, *STEP[:1]), HOURS, variants={"": ("--augment", "none")}),
    Row("hippocampus", "unet++-3d", 80, ("network.options.width=8", *FASTER)),
    Row("drishti", "unet++-drishti", 80, (*NARROW, *FASTER), ("--steps", "500")),
    Row("dsb2018", "unet++-l4", 500, (*NARROW, *CROPS)),
    isbi_row("unet-milesial-bilinear", *FASTER),
    isbi_row("unet++-l2", *LONGER),
    isbi_row("unet++-l4", *LONGER, steps=120),
    isbi_row("unet++-l3", *LONGER, steps=120),
    isbi_row("wide-unet-released", *LONGER),
    isbi_row("unet++-drishti", *FASTER, steps=120),
)
