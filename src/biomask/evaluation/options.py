"""What is computed beside the scores of the predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from biomask.errors import UsageError

#: What --metrics takes, in the order of tables; ALL = all that fit.
METRICS: tuple[str, ...] = ("isbi", "fcn", "ctc", "coco", "article")
ALL = "all"


@dataclass(frozen=True)
class EvaluateOptions:
    """The flags of `biomask evaluate` that do not say how the truth is read."""

    seed: int = 0
    """Of the bootstrap and of the sign-flip test."""
    tolerance: float | None = None
    """Of NSD, in µm, or in pixels where the spacing is unknown; None = two of the finest pixels."""
    against: str | Path | None = None
    """Other predictions of the same images, which these are compared with."""
    annotator: str | Path | None = None
    """A second annotator's labels of the same images. Pixels that they leave unknown are not judged for the annotator."""
    metrics: tuple[str, ...] = ()
    """Scores of challenges and papers beside the usual ones: of isbi, fcn, ctc, coco, article; or all, for those that fit the
    labels. Those of coco come unasked where a detector wrote detections.json."""

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 < self.tolerance < float("inf"):
            raise UsageError(f"--tolerance {self.tolerance:g} must be above 0", fix="e.g. --tolerance 2")
        for name in self.metrics:
            if name not in (*METRICS, ALL):
                raise UsageError(f"--metrics {name} is unknown", fix=f"one or more of {', '.join(METRICS)}, with commas; or {ALL}")
