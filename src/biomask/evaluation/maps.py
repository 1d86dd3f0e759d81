"""The probabilities of an image in the order of the truth's classes or structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.evaluation.calibration import Channel
from biomask.io import read_image
from biomask.labels import Legend


def foreground_maps(path: Path, size: tuple[int, ...], legend: Legend, overlap: bool,
                    channels: Sequence[Channel]) -> npt.NDArray[np.float32]:
    """(C, *size): of each structure, or of each class but the first, in the order of the legend; 0 where it has no channel.

    overlap: whether they are structures, which are told by their names. channels: what the file's are; empty = those of the
    legend, or the last class alone. Raises LabelsError for maps of another size or number.
    """
    maps = np.asarray(read_image(path).array)
    if maps.shape[1:] != size:
        raise LabelsError(f"has size {maps.shape[1:]}, the truth {size}", where=path, fix="predict the image again")
    wanted: list[Any] = [e.name if overlap else e.value for e in list(legend)[1:]]
    there: list[Any] = [name if overlap else value for value, name in channels]
    if not channels:
        there = wanted if overlap or len(maps) == len(wanted) == 1 else list(legend.values)
    if len(there) != len(maps):
        raise LabelsError(f"has {len(maps)} channels of probabilities, which are not those of the truth ({len(there)} expected)",
                          where=path, fix="predict again with --probabilities, or move the folder probabilities elsewhere")
    return np.stack([maps[there.index(w)] if w in there else np.zeros(size) for w in wanted]).astype(np.float32)
