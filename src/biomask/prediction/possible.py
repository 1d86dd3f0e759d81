"""Whether a model can do what is asked of it."""

from __future__ import annotations

from biomask.checkpoint import Model
from biomask.errors import UsageError
from biomask.prediction.options import PredictOptions
from biomask.prediction.rescale import usual_spacing


def require_possible(model: Model, options: PredictOptions) -> None:
    """Raise UsageError for what cannot be, before any work is done."""
    rescale, dims = options.rescale, model.header.spatial_dims
    if rescale == "auto" and usual_spacing(model.header) is None:
        raise UsageError("--rescale auto goes by the size of the training's pixels, and the files of the training images did not "
                         "state it", fix="say by how much: --rescale 0.5 makes images half as large before they are predicted")
    if isinstance(rescale, tuple) and len(rescale) not in (1, dims):
        raise UsageError(f"--rescale gives {len(rescale)} factors, the images have {dims} axes", fix="one factor, or one an axis")
    if model.is_detector:
        _check_detector(options)
    elif options.score is not None:
        raise UsageError("--score is of detectors, whose objects have one, and this model is none", fix="leave it out")
    if "coco" in options.exports and model.header.spatial_dims == 3:
        raise UsageError("--export coco: COCO has no place for volumes", fix="--export geojson or roi, which name the plane")


def _check_detector(options: PredictOptions) -> None:
    """Raise UsageError for what a detector has none of."""
    asked = {"--probabilities": options.probabilities, "--attention": options.attention, "--depth": options.depth is not None,
             "--mode": options.mode is not None, "--augment": options.augment not in (None, "none")}
    what = {"--probabilities": "gives no map of probabilities: its scores are in detections.json and objects.csv",
            "--attention": "has no gates", "--depth": "has no heads of several depths", "--mode": "has no heads of several depths",
            "--augment": "is not the mean over copies: their objects would be counted several times"}
    for flag, given in asked.items():
        if given:
            raise UsageError(f"{flag}: the model is a detector, which {what[flag]}", fix="leave it out")
