"""In what distances between surfaces are measured: micrometres where all files know the size of a pixel, else pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biomask.errors import BiomaskError
from biomask.evaluation.cases import Case
from biomask.evaluation.scored import ScoredImage
from biomask.io.files import open_stored
from biomask.recipe import DataSettings
from biomask.stored import resolve_axes

#: Without a tolerance, so many of the finest pixels.
USUAL_TOLERANCE = 2.0


@dataclass(frozen=True)
class Ruler:
    """The sizes of pixels, and how far apart surfaces may lie."""

    unit: str
    """"µm" or "px"."""
    tolerance: float
    sizes: Mapping[str, Mapping[str, float]]
    """Of each image: µm along z, y, x. Empty in pixels."""

    def spacing(self, name: str, dims: int) -> tuple[float, ...]:
        """The size of a pixel of an image along its axes."""
        return tuple(self.sizes[name][a] for a in "zyx"[-dims:]) if self.unit == "µm" else (1.0,) * dims

    def says(self, undefined: int) -> str:
        """What is measured, in words. undefined: how often a class or structure was on one side only."""
        lone = f" ({undefined} such)" if undefined else ""
        return ("A surface: the pixels of a class with a neighbour outside it; beyond the image is outside. HD95: the larger of "
                "the 95th percentiles of the distances from the true to the predicted surface and back; ASSD: the mean of all "
                f"these distances, both in {self.unit}; NSD: the share of both surfaces within {self.tolerance:g} {self.unit} of "
                "the other. All three are undefined where a class is on neither side; HD95 and ASSD also where it is on one side "
                f"only{lone}, for which NSD is 0.")


def boundary(images: Sequence[ScoredImage], ruler: Ruler) -> dict[str, Any]:
    """unit, tolerance, how often a class was on one side only, and what is measured, JSON-ready."""
    lone = sum(b.on_one_side for i in images for b in i.boundaries)
    return {"unit": ruler.unit, "tolerance": ruler.tolerance, "undefined": lone, "says": ruler.says(lone)}


def ruler_for(cases: Sequence[Case], settings: DataSettings, tolerance: float | None) -> Ruler:
    """The ruler of a data set: one unit for all images, so that they have a mean."""
    found = {c.name: spacing_of(c, settings) for c in cases}
    sizes = {name: size for name, size in found.items() if size is not None}
    if len(sizes) < len(found) or not found:
        return Ruler("px", USUAL_TOLERANCE if tolerance is None else tolerance, {})
    finest = min(min(size.values()) for size in sizes.values())
    return Ruler("µm", USUAL_TOLERANCE * finest if tolerance is None else tolerance, sizes)


def spacing_of(case: Case, settings: DataSettings) -> dict[str, float] | None:
    """µm along the axes of an image, from the headers of its prediction, image or truth; None where none of them says."""
    truth = case.pair.truth.files[:1] if case.pair.truth is not None and case.pair.truth.form in ("mask", "structures") else ()
    for path in dict.fromkeys((case.prediction, *((case.objects,) if case.objects else ()), case.pair.image, *truth)):
        found = _header_spacing(path, settings)
        if found:
            return found
    return None


def _header_spacing(path: Path, settings: DataSettings) -> dict[str, float] | None:
    try:
        stored = resolve_axes(open_stored(path), settings.selection)
    except BiomaskError:  # found when it is read
        return None
    deep = "Z" in stored.axes and stored.shape[stored.axes.index("Z")] > 1 and settings.z is None
    axes = "zyx" if deep else "yx"
    sizes = {a: float(v) for a, v in stored.spacing.items() if a in axes and 0 < v < float("inf")}
    return sizes if len(sizes) == len(axes) else None
