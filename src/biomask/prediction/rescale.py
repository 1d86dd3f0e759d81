"""Images resampled to the pixels that a model was trained on, and results brought back to those of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.checkpoint import ModelHeader
from biomask.data.input_range import rescale_factors
from biomask.errors import InputError, UsageError
from biomask.image import Image
from biomask.instances import Thresholds
from biomask.prediction.options import Rescale


def usual_spacing(header: ModelHeader) -> Mapping[str, float] | None:
    """µm a pixel of the training images along each axis: the middle of all, of older models that of the first image."""
    inputs = header.inputs
    return inputs.usual_spacing if inputs is not None and inputs.spacing is not None else header.spacing


def factors_of(rescale: Rescale | None, image: Image, header: ModelHeader) -> tuple[float, ...] | None:
    """The factor along each axis that an image is resampled by; None where it stays as it is.

    Raises InputError for "auto" where a spacing is unknown, UsageError for another number of factors than axes.
    """
    if rescale is None:
        return None
    dims = image.spatial_dims
    if rescale == "auto":
        if image.spacing is None or usual_spacing(header) is None:
            raise InputError("--rescale auto goes by the size of a pixel, which "
                             + ("this file does not state" if image.spacing is None else "is not known of the training images"),
                             fix="set it in the file (Fiji: Image › Properties), or say by how much: --rescale 0.5")
        return rescale_factors(image.spacing, usual_spacing(header))
    if len(rescale) not in (1, dims):
        raise UsageError(f"--rescale gives {len(rescale)} factors for an image with {dims} axes", fix="one factor, or one an axis")
    factors = rescale if len(rescale) == dims else rescale * dims
    return None if all(f == 1 for f in factors) else tuple(factors)


def scaled_size(size: Sequence[int], factors: Sequence[float]) -> tuple[int, ...]:
    """Pixels along each axis after resampling, at least one.

    >>> scaled_size((100, 3), (0.5, 0.1))
    (50, 1)
    """
    return tuple(max(1, round(n * f)) for n, f in zip(size, factors, strict=True))


def resampled(array: npt.NDArray[Any], size: Sequence[int]) -> npt.NDArray[np.float32]:
    """(C, *S) on a grid of `size` pixels over the same area, float32: linear, after a Gaussian where it becomes smaller.

    NaN and infinite values are taken for the mean of their channel.
    """
    from skimage.transform import resize

    out = np.empty((len(array), *size), np.float32)
    for channel, target in zip(array, out, strict=True):
        values = np.asarray(channel, np.float32)
        if array.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                values = np.where(finite, values, values[finite].mean(dtype=np.float64) if finite.any() else 0).astype(np.float32)
        smaller = any(n < m for n, m in zip(size, values.shape, strict=True))
        target[...] = resize(values, tuple(size), order=1, mode="edge", anti_aliasing=smaller, preserve_range=True)
    return out


def rescaled_image(image: Image, factors: Sequence[float]) -> Image:
    """The image with larger or smaller pixels."""
    size = scaled_size(image.size, factors)
    spacing = None
    if image.spacing is not None:
        spacing = {a: image.spacing[a] * n / m for a, n, m in zip(image.axes[1:], image.size, size, strict=True)}
    return replace(image, array=resampled(np.asarray(image.array), size), spacing=spacing)


def rescaled_thresholds(thresholds: Thresholds, factors: Sequence[float],
                        spacing: Mapping[str, float] | None) -> tuple[Thresholds, dict[str, float]]:
    """(thresholds for an image that was resampled by `factors`, in its own pixels; relative size of these along each axis).

    spacing: of the training images; without it their pixels are taken as equal along all axes.
    """
    axes = "zyx"[-len(factors):]
    trained = [spacing[a] if spacing else 1.0 for a in axes]
    own = [s * f for s, f in zip(trained, factors, strict=True)]
    volume = float(np.prod(factors))
    return replace(thresholds, sigma=min(10.0, thresholds.sigma * min(trained) / min(own)),
                   min_size=max(1, round(thresholds.min_size / volume))), dict(zip(axes, own, strict=True))
