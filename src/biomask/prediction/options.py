"""How to predict, and what is typed for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from biomask.data.pairing import Part
from biomask.errors import UsageError
from biomask.models.unet_plus_plus import Mode
from biomask.prediction.maps import Augment
from biomask.stored import Selection

TileChoice = int | Literal["whole", "auto"]

#: Size of a pixel after resampling over that before is 1 / factor: one factor for all axes, or one an axis in the order (z,) y, x.
Rescale = tuple[float, ...] | Literal["auto"]

#: What `--export` takes.
Export = Literal["geojson", "roi", "coco"]
EXPORTS: tuple[str, ...] = get_args(Export)

#: Factors that images are resampled by.
LEAST_FACTOR, LARGEST_FACTOR = 0.05, 20.0


@dataclass(frozen=True)
class PredictOptions:
    """How to predict."""

    tile: TileChoice | None = None
    """Pixels kept a tile, "whole" (untiled) or "auto" (by memory); None = the recipe's."""
    memory: int | None = None
    """Bound on the resident set in bytes; None = half of the free memory for tiles."""
    device: str = "auto"
    probabilities: bool = False
    """Also write the probabilities."""
    overwrite: bool = False
    """Predict again what is there."""
    augment: Augment | None = None
    """Copies that predictions are the mean of; None = as training found best."""
    objects: bool = True
    """Also labels/ and objects.csv."""
    selection: Selection = field(default_factory=Selection)
    """Axes, channels, planes and time points of the inputs; what is None is as in training."""
    rescale: Rescale | None = None
    """Images are resampled by it before the network sees them, and results are brought back to their own pixels: factors, or
    "auto" = to the size of the training's pixels. None = as they are."""
    exports: tuple[Export, ...] = ()
    """Also write objects for QuPath (geojson/), ImageJ (rois/) or as one coco.json."""
    depth: int | None = None
    """Of UNet++: the deepest head that counts; what only deeper ones need is not computed. None = as trained."""
    mode: Mode | None = None
    """Of UNet++: "fast" = one head, "accurate" = the mean of it and those before it; None = as trained, with a depth fast."""
    part: Part | None = None
    """Of a data folder with a split: predict the images of this part alone. None = all images below the folder."""
    attention: bool = False
    """Also attention/, what the gates of an Attention U-Net let pass."""
    score: float | None = None
    """Of detectors: objects of at most this score are left out, 0..1; None = as tuned in training."""

    def __post_init__(self) -> None:
        strange = [e for e in self.exports if e not in EXPORTS]
        if strange:
            raise UsageError(f"--export {strange[0]!r} is not known", fix=f"one or several of {','.join(EXPORTS)}")
        if self.exports and not self.objects:
            raise UsageError("--export writes objects, and --no-objects leaves them out", fix="leave one of the two out")
        if self.depth is not None and self.depth < 1:
            raise UsageError(f"--depth {self.depth} is not at least 1", fix="e.g. --depth 3")
        if self.score is not None and not 0 <= self.score <= 1:
            raise UsageError(f"--score {self.score:g} is not in 0 to 1", fix="e.g. --score 0.5")
        if isinstance(self.rescale, tuple) and not (
                self.rescale and all(LEAST_FACTOR <= f <= LARGEST_FACTOR for f in self.rescale)):
            raise UsageError(f"--rescale {','.join(f'{f:g}' for f in self.rescale)} is not in {LEAST_FACTOR:g} to "
                             f"{LARGEST_FACTOR:g}", fix="e.g. --rescale 0.5 for pixels half as large as the training's")


def parse_memory(text: str) -> int:
    """Bytes of "2GB", "1500MB", "1.5 GiB" or a plain number of bytes. GB = 1e9, GiB = 2**30.

    >>> parse_memory("2GB"), parse_memory("1.5GiB")
    (2000000000, 1610612736)
    """
    units = {"": 1, "b": 1, "k": 1e3, "kb": 1e3, "kib": 2**10, "m": 1e6, "mb": 1e6, "mib": 2**20, "g": 1e9, "gb": 1e9,
             "gib": 2**30, "t": 1e12, "tb": 1e12, "tib": 2**40}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text.strip()[len(number):].strip().lower()
    try:
        value = int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError) as error:
        raise UsageError(f"--memory {text!r} is not an amount of memory", fix="e.g. --memory 2GB") from error
    if value <= 0:
        raise UsageError(f"--memory {text!r} is less than a byte", fix="give a unit, e.g. --memory 2GB")
    return value


def parse_tile(text: str) -> TileChoice:
    """`whole`, `auto` or a number of pixels >= 1."""
    if text in ("whole", "auto"):
        return text  # type: ignore[return-value]
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--tile {text!r} is not a number of pixels, whole or auto", fix="e.g. --tile 512")
    return int(text)


def parse_augment(text: str | None) -> Augment | None:
    """none, mirrors, symmetries, rotations, or None."""
    if text not in (None, *get_args(Augment)):
        raise UsageError(f"--augment {text!r} is not none, mirrors, symmetries or rotations", fix="e.g. --augment none")
    return cast("Augment | None", text)


def parse_mode(text: str | None) -> Mode | None:
    """fast, accurate, or None."""
    if text not in (None, *get_args(Mode)):
        raise UsageError(f"--mode {text!r} is not known", fix="--mode fast or --mode accurate")
    return cast("Mode | None", text)


def parse_part(text: str | None) -> Part | None:
    """train, validation, test, or None."""
    if text not in (None, *get_args(Part)):
        raise UsageError(f"--part {text!r} is not known", fix=f"one of {', '.join(get_args(Part))}")
    return cast("Part | None", text)


def parse_rescale(text: str | None) -> Rescale | None:
    """`auto`, a factor, or one an axis: "0.5", "1,0.5,0.5".

    >>> parse_rescale("0.5"), parse_rescale("1,0.5,0.5"), parse_rescale("auto")
    ((0.5,), (1.0, 0.5, 0.5), 'auto')
    """
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    try:
        factors = tuple(float(part) for part in text.split(","))
    except ValueError:
        factors = ()
    if len(factors) not in (1, 2, 3) or not all(math.isfinite(f) for f in factors):
        raise UsageError(f"--rescale {text!r} is neither auto nor a factor, nor one an axis", fix="e.g. --rescale auto")
    return factors


def parse_exports(text: str | None) -> tuple[Export, ...]:
    """Formats separated by commas; those that there are not are refused by `PredictOptions`."""
    parts = (part.strip() for part in (text or "").split(","))
    return tuple(cast(Export, part) for part in dict.fromkeys(parts) if part)
