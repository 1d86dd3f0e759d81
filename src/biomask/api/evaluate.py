"""`evaluate`: predictions against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biomask.api.settings import data_settings
from biomask.evaluation.evaluate import EvaluateOptions, judge
from biomask.progress import Progress
from biomask.recipe import DataSettings

__all__ = ["EvaluateOptions", "Evaluation", "Interval", "evaluate"]


@dataclass(frozen=True)
class Interval:
    """How sure a mean over images is."""

    low: float | None
    """None where the score is undefined in every image."""
    high: float | None
    kind: str
    """"bootstrap 95 %", over what is resampled; "range" (the lowest and the highest image) where images are too few for that."""
    n: int
    """Images, or groups of them, in which the score is defined."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of predictions. Undefined ones are None, never 0 or 1."""

    scores: dict[str, Any]
    """All of them, JSON-ready, as `biomask evaluate --json` writes them: see docs/reference/file-formats.md."""

    @property
    def kind(self) -> str:
        """What was compared: "classes", "multilabel" or "instances"; "detections" of a file of results, which has `metrics`
        alone."""
        return str(self.scores["kind"])

    @property
    def n_images(self) -> int:
        """Over how many images."""
        return int(self.scores["n_images"])

    @property
    def mean(self) -> Mapping[str, float | None]:
        """Each score, the mean over images, then over the classes but the background: dice, iou, …; of objects also ap50, pq, …."""
        return dict(self.scores["mean"])

    @property
    def intervals(self) -> Mapping[str, Interval]:
        """How sure each mean is."""
        return {key: Interval(i["low"], i["high"], i["kind"], i["n"]) for key, i in self.scores["intervals"].items()}

    @property
    def per_class(self) -> Mapping[str, Mapping[str, Any]]:
        """Class value, as text: its name and its scores, mean over the images that have it."""
        return dict(self.scores["per_class"])

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """What `EvaluateOptions.metrics` asked for, by name: `pooled`, `mean` and `intervals` of its scores, and what they are."""
        return dict(self.scores["metrics"])

    @property
    def per_image(self) -> list[dict[str, Any]]:
        """A row an image: its name and its scores; `pandas.DataFrame(evaluation.per_image)` is the table."""
        return list(self.scores["per_image"])

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return self.scores


def evaluate(predictions: str | Path, truth: str | Path, *, settings: DataSettings | Mapping[str, Any] | None = None,
             masks: str | Path | None = None, report: str | Path | None = None, options: EvaluateOptions | None = None,
             progress: Progress | None = None) -> Evaluation:
    """Scores of predictions against the truth; see `biomask.evaluation.evaluate.judge`.

    settings: how the truth is read, as in training, and which images belong together (`groups`): fields of
    `biomask.recipe.DataSettings`. masks: where the labels are in it, as in training. report: also write an HTML report to this
    file. options: other predictions or a second annotator to compare with, scores of challenges and papers, the tolerance of NSD,
    the seed.
    """
    judged = judge(predictions, truth, settings=data_settings(settings), options=options, progress=progress, masks=masks)
    if report is not None:
        from biomask.reports.write import write_evaluation_report

        write_evaluation_report(Path(report), judged)
    return Evaluation(judged.scores)
