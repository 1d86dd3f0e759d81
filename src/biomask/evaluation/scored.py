"""`ScoredImage`: what one image adds to an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.metrics import InstanceScores, Overlap, Reliability, SurfaceDistances, overlap

Matrix = npt.NDArray[np.int64]

#: Scores of a class or structure in an image: key, title.
CLASS_SCORES: dict[str, str] = {"dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall",
                                "specificity": "specificity", "hd95": "HD95", "assd": "ASSD", "nsd": "NSD"}

#: Those of the surface.
BOUNDARY_SCORES = ("hd95", "assd", "nsd")


@dataclass(frozen=True)
class BoundaryScores:
    """How far the surfaces of one class lie apart; None = undefined, as in `SurfaceDistances`."""

    hd95: float | None
    assd: float | None
    nsd: float | None

    @classmethod
    def of(cls, distances: SurfaceDistances, tolerance: float) -> BoundaryScores:
        """The three scores, in the unit of the distances."""
        return cls(distances.hausdorff(95), distances.average, distances.within(tolerance))

    @property
    def on_one_side(self) -> bool:
        """Whether only one side has the class."""
        return self.hd95 is None and self.nsd is not None


@dataclass(frozen=True)
class ScoredImage:
    """Scores of one image, or what they are made of."""

    name: str
    matrix: Matrix
    """(K, K) known pixels by true and predicted class; of structures (K, 2, 2)."""
    boundaries: tuple[BoundaryScores, ...] = ()
    """Of each class but the background, or of each structure; empty where they were not measured."""
    objects: InstanceScores | None = None
    """Of all objects, whatever their class; None where there are no objects."""
    of_class: tuple[InstanceScores, ...] = ()
    """Of the objects of each class but the background."""
    reliability: Reliability | None = None
    """None without probabilities."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What the image adds to each measure of --metrics, by name."""

    @property
    def known(self) -> int:
        """Pixels that are judged."""
        return int(self.matrix.sum() if self.matrix.ndim == 2 else self.matrix[0].sum())

    @property
    def overlap(self) -> Overlap:
        """Of each class, or of each structure."""
        return overlap_of(self.matrix)

    def class_scores(self) -> dict[str, tuple[float | None, ...]]:
        """{score: a value a class or structure, the background too} of CLASS_SCORES; without those that were not measured."""
        found = vars_of(self.overlap)
        if self.boundaries:
            skipped: tuple[None, ...] = (None,) * (len(found["dice"]) - len(self.boundaries))
            found |= {key: (*skipped, *(getattr(b, key) for b in self.boundaries)) for key in BOUNDARY_SCORES}
        return found


def overlap_of(matrix: Matrix) -> Overlap:
    """From a matrix (K, K), or one a structure (K, 2, 2): then of each structure, and the pixel error of all answers."""
    if matrix.ndim == 2:
        return overlap(matrix)
    each = [vars_of(overlap(m)) for m in matrix]
    return Overlap(**{key: tuple(scores[key][1] for scores in each) for key in each[0]},
                   pixel_error=overlap(matrix.sum(axis=0)).pixel_error)


def vars_of(found: Overlap) -> dict[str, tuple[float | None, ...]]:
    """{score: a value a class} of an overlap."""
    return {"dice": found.dice, "iou": found.iou, "precision": found.precision, "recall": found.recall,
            "specificity": found.specificity}


def columns(rows: Sequence[Mapping[str, object]], values: Sequence[str]) -> dict[str, list[tuple[float | None, ...]]]:
    """{score: for each image a value a class} from the rows of an evaluation. values: of the classes that means are over."""
    keys = [key for key in CLASS_SCORES if any(key in row for row in rows)]
    return {key: [tuple(_in(row, v, key) for v in values) for row in rows] for key in keys}


def _in(row: Mapping[str, object], value: str, key: str) -> float | None:
    classes = row.get("classes")
    scores = classes.get(value) if isinstance(classes, Mapping) else None
    found = scores.get(key) if isinstance(scores, Mapping) else None
    return float(found) if found is not None else None
