"""`predict`: images into masks, objects and measurements."""

from __future__ import annotations

from pathlib import Path

from biomask.checkpoint import MODEL_FILE, Model, load_model
from biomask.errors import ManyErrors, UsageError
from biomask.prediction.options import PredictOptions
from biomask.prediction.predict import PredictResult
from biomask.prediction.predict import predict as _predict
from biomask.progress import Progress

__all__ = ["PredictOptions", "PredictResult", "predict"]


def predict(model: str | Path | Model, images: str | Path, out: str | Path, options: PredictOptions | None = None, *,
            progress: Progress | None = None) -> PredictResult:
    """Predict a file or folder of images into `out`: masks/, labels/, outlines/, objects.csv, images.csv, run.json and
    report.html; of detectors detections.json; on request probabilities/, and objects for QuPath, ImageJ and COCO.

    Raises ManyErrors, after all good images are done, listing the others.
    """
    if not isinstance(model, Model) and (Path(images) / MODEL_FILE).is_file() and not (Path(model) / MODEL_FILE).is_file():
        raise UsageError(f"{images} is the model, {model} is not", fix="biomask predict MODEL IMAGES -o OUT")
    opened = model if isinstance(model, Model) else load_model(model)
    options = options or PredictOptions()
    try:
        result = _predict(opened, images, out, options, progress=progress)
    except ManyErrors:
        _finish(opened, Path(out), options, progress)
        raise
    _finish(opened, Path(out), options, progress)
    return result


def _finish(model: Model, out: Path, options: PredictOptions, progress: Progress | None) -> None:
    """What is made of the results once they are there."""
    from biomask.exports.predicted import export_predictions
    from biomask.reports.write import write_prediction_report

    if options.exports:
        export_predictions(out, options.exports, progress)
    write_prediction_report(model, out)
