"""`predict_array`: an array in memory, without a folder of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.allocator import freed_memory_kept
from biomask.checkpoint import Model, ModelHeader, load_model
from biomask.errors import SizeError
from biomask.image import Image
from biomask.prediction.detections import Detections
from biomask.prediction.objects import measure_found
from biomask.prediction.one_image import predict_image
from biomask.prediction.options import PredictOptions
from biomask.prediction.work import Work
from biomask.words import count


@dataclass(frozen=True)
class Prediction:
    """What a model found in an array."""

    mask: npt.NDArray[Any]
    """(*S), values of the training's labels; of structures, which may overlap, bool (K, *S)."""
    labels: npt.NDArray[np.int32]
    """(*S), a number an object, 0 = background; of structures (K, *S). Objects of models that were not trained on objects are the
    connected pieces of each class."""
    probabilities: npt.NDArray[np.float32]
    """(channels, *S), as `channels` names them; of detectors, which give none, (0, *S)."""
    channels: tuple[str, ...]
    """Classes, background first; of objects also distance and border; of structures those alone."""
    objects: Mapping[str, npt.NDArray[Any]]
    """The columns of objects.csv but "image", a value an object: see `biomask.instances.measure.measure_objects`."""
    detections: Detections | None = None
    """Of detectors: boxes, scores, masks and key points, before each pixel was given to one object; None of other models."""


@freed_memory_kept()
def predict_array(model: str | Path | Model, array: npt.NDArray[Any], *, spacing: Mapping[str, float] | None = None,
                  axes: str | None = None, options: PredictOptions | None = None) -> Prediction:
    """Predict one image in memory: in the same tiles, copies and with the same thresholds as `predict`, so the same pixels.

    model: open it once with `load_model` to predict many arrays. array: (Y, X) or (C, Y, X), of volumes (Z, Y, X) or (C, Z, Y, X);
    any real dtype, grey values as they are in files. spacing: µm per pixel, e.g. {"y": 0.5, "x": 0.5}; measurements are in
    µm too with it. axes: a letter an axis where the order is another, e.g. "YXC". options: of tiles, memory, device, copies and
    rescaling; the others are those of files and mean nothing here.

    Raises SizeError for shapes that the model does not take, ReadError for an array of NaN and infinite values alone.
    """
    opened = model if isinstance(model, Model) else load_model(model)
    work = Work.of(opened, replace(options or PredictOptions(), probabilities=True, objects=True))
    image = _as_image(np.asarray(array), axes, spacing, opened.header)
    predicted = predict_image(work, image)
    if predicted.maps is None and not opened.is_detector:
        raise SizeError(f"array of shape {np.shape(array)} gave no probabilities")
    tables, ids = measure_found(predicted.found, image, opened), [f.ids for f in predicted.found]
    several = opened.task.kind == "multilabel"
    return Prediction(
        mask=predicted.decided > 0 if several else opened.legend.values_of(predicted.decided),
        labels=np.stack(ids) if several else ids[0],
        probabilities=np.zeros((0, *image.size), np.float32) if predicted.maps is None else predicted.maps,
        channels=() if opened.is_detector else opened.task.names(opened.legend),
        objects={name: np.concatenate([t[name] for t in tables]) for name in tables[0]},
        detections=predicted.detections,
    )


def _as_image(array: npt.NDArray[Any], axes: str | None, spacing: Mapping[str, float] | None, header: ModelHeader) -> Image:
    """The array as (C, *S). Raises SizeError for axes that it cannot have, and for other channels than the model's."""
    space = "zyx"[-header.spatial_dims:]
    letters = (axes or {len(space): space, len(space) + 1: f"c{space}"}.get(array.ndim, "")).lower()
    wanted = ", ".join(space.upper())
    if sorted(letters) not in (sorted(space), sorted(f"c{space}")) or len(letters) != array.ndim:
        said = f" with axes {axes}" if axes else ""
        fix = f'say what the axes are, e.g. axes="{space.upper()}C"' if axes else "give one image, with these axes and no others"
        raise SizeError(f"array has shape {array.shape}{said}, the model takes ({wanted}) or (C, {wanted})", fix=fix)
    channels = array.shape[letters.index("c")] if "c" in letters else 1
    if channels != header.in_channels:
        raise SizeError(f"array has shape {array.shape}, read as ({', '.join(letters.upper())}): {count(channels, 'channel')}, the "
                        f"model was trained on {header.in_channels}",
                        fix=_channel_advice(array, letters, space, header.in_channels))
    ordered = array if "c" in letters else array[np.newaxis]
    letters = letters if "c" in letters else f"c{letters}"
    ordered = np.ascontiguousarray(ordered.transpose([letters.index(letter) for letter in f"c{space}"]))
    return Image(ordered.astype(np.uint8) if ordered.dtype == bool else ordered, f"c{space}", "array", spacing)


def _channel_advice(array: npt.NDArray[Any], letters: str, space: str, channels: int) -> str:
    """What to do where the axis of channels, as it was read, has another length."""
    for order, where, axis in ((f"{space}c", "last", -1), (f"c{space}", "first", 0)):
        if "c" in letters and letters != order and array.shape[axis] == channels:
            return f'if the channels come {where}, say so: axes="{order.upper()}"'
    shape = ", ".join(space.upper())
    return f"give an array ({channels}, {shape})" + (f" or ({shape})" if channels == 1 else "")
