"""`Encoding`: what stored labels mean: their kind, with its reason, and the way to `Labels`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.colours import (
    nearest_colours,
    pack,
    snapped,
)
from biomask.data.truth import Raw
from biomask.errors import LabelsError
from biomask.labels import LabelKind, Labels, Legend

#: The class of objects that nobody gave one, among others that have one.
UNNAMED = "without a class"


@dataclass(frozen=True)
class Encoding:
    """How the labels of a data set are stored, and what they mean."""

    kind: LabelKind
    reason: str
    """Why they are taken for this kind."""
    legend: Legend
    """Of classes: all of them. Of instances: background and the classes of objects. Multilabel, soft: background (0) and
    the structures."""
    form: str
    """As in `Raw`."""
    full: tuple[float, ...] = ()
    """Of multilabel and soft: the value of each structure on which all experts agree."""
    colours: tuple[tuple[int, int, int], ...] = ()
    """Of colour-coded masks: RGB of each entry of the legend."""
    tolerance: int = 0
    values: tuple[int, ...] | None = None
    """Values of which each stored one stands for the nearest."""
    ignore: int | None = None
    names: tuple[str, ...] = ()
    """Of outlines: the class name of each entry of the legend after background."""

    def labels(self, raws: Sequence[Raw], name: str, where: Path) -> Labels:
        """The labels of one image. Raises LabelsError for values that the legend lacks."""
        if self.form == "colours":
            raws = [_in_colour(r) for r in raws]
        raw = raws[0]
        unknown = raw.ignore
        if self.ignore is not None and raw.form == "values":
            marked = np.logical_or.reduce([self._stored(r) == self.ignore for r in raws])
            unknown = marked if unknown is None else unknown | marked
        if unknown is not None and not unknown.any():
            unknown = None
        if self.kind == "multilabel":
            shares = [_share(r, full) >= 0.5 for r, full in zip(raws, self.full, strict=True)]
            return Labels(np.stack(shares), "multilabel", name, self.legend, unknown, raw.spacing)
        if self.kind == "soft":
            return Labels(_share(raw, self.full[0])[None], "soft", name, self.legend, unknown, raw.spacing)
        if self.kind == "instances":
            return self._instances(raw, name, unknown)
        return Labels(self._classes(raw, unknown, where), "classes", name, self.legend, unknown, raw.spacing)

    def class_ids(self, labels: Labels) -> npt.NDArray[np.uint8]:
        """Class ids (*S), 0..K-1, of labels of kind classes or soft: of expert averages, at least half of them."""
        if labels.kind == "soft":
            return np.asarray(labels.array[0] >= 0.5, np.uint8)
        return labels.array.astype(np.uint8, copy=False)

    def _stored(self, raw: Raw) -> npt.NDArray[Any]:
        """Values, those near the ignored one as it, where it is among those that others stand for."""
        return snapped(raw.array, self.values) if self.values is not None and self.ignore in self.values else raw.array

    def stands_for(self, value: int) -> int:
        """The value of the legend for a stored one."""
        if self.values is None or value == self.ignore:
            return value
        return int(snapped(np.asarray(value), self.values))

    def _classes(self, raw: Raw, unknown: npt.NDArray[np.bool_] | None, where: Path) -> npt.NDArray[Any]:
        if raw.form == "colours":
            return nearest_colours(raw.array, self.colours)[0]
        if raw.form == "objects":
            table = np.zeros(int(raw.array.max(initial=0)) + 1, np.uint8)
            for number in range(1, len(table)):
                found = raw.classes.get(number, "")
                table[number] = 1 + self.names.index(found if found in self.names or len(self.names) == 1 else UNNAMED) if (
                    found in self.names or UNNAMED in self.names) else min(1, len(self.legend) - 1)
            return np.asarray(table[raw.array])
        values = raw.array if unknown is None else np.where(unknown, self.legend.values[0], raw.array)
        if self.values is not None:
            values = snapped(values, self.values)
        try:
            return self.legend.ids(values)
        except LabelsError as error:
            raise LabelsError(error.what, where=where, fix="relabel them, or leave them out with --ignore VALUE") from error

    def _instances(self, raw: Raw, name: str, unknown: npt.NDArray[np.bool_] | None) -> Labels:
        if raw.form == "colours":
            packed = pack(raw.array)
            values, flat = np.unique(packed, return_inverse=True)
            ids = flat.reshape(packed.shape).astype(np.int32) + (0 if values[0] == 0 else 1)
        else:
            ids = raw.array if unknown is None else np.where(unknown, 0, raw.array)
            ids = _in_32_bits(ids)
        classes = None
        if self.names and raw.classes:
            named = {n: raw.classes.get(n, UNNAMED) for n in np.unique(ids).tolist() if n}
            classes = {n: 1 + self.names.index(c) for n, c in named.items() if c in self.names}
        return Labels(ids, "instances", name, self.legend, unknown, raw.spacing, classes)


def _in_32_bits(ids: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """The same ids, numbered anew where they do not fit; 0 stays 0."""
    if int(ids.min(initial=0)) >= -(2**31) and int(ids.max(initial=0)) < 2**31:
        return ids.astype(np.int32, copy=False)
    values, flat = np.unique(ids, return_inverse=True)
    numbers = np.arange(1, len(values) + 1, dtype=np.int32)
    numbers[values == 0] = 0
    return np.asarray(numbers[flat].reshape(ids.shape))


def _in_colour(raw: Raw) -> Raw:
    """Three equal colours as what they are among colour-coded masks."""
    return replace(raw, array=np.stack([raw.array] * 3), form="colours") if raw.in_colour else raw


def _share(raw: Raw, full: float) -> npt.NDArray[np.float32]:
    if raw.form == "colours":
        raise LabelsError("is colour-coded where one structure is expected")
    if raw.form == "objects":
        return np.asarray(raw.array > 0, np.float32)
    return np.asarray(np.clip(raw.array.astype(np.float32) / np.float32(full), 0, 1))
