"""`Labels` and `Legend`: what a person drew, and what its values mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError

LabelKind = Literal["classes", "multilabel", "instances", "soft"]
LABEL_KINDS: tuple[str, ...] = get_args(LabelKind)

#: Colours of the classes after background, told apart by colour-blind readers too (Okabe & Ito, 2008).
PALETTE: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (255, 255, 255),
)


#: Pixels looked up at a time.
STRIP = 2**20


@dataclass(frozen=True)
class LegendEntry:
    """One class: the value on disk, the name, the colour."""

    value: int
    """The value in label files, and in the masks that biomask writes."""
    name: str
    """What a person calls it."""
    colour: tuple[int, int, int]
    """RGB, 0..255."""


@dataclass(frozen=True)
class Legend:
    """Class value ↔ name ↔ colour, in ascending value; position = class id = network output channel.

    >>> legend = Legend.of_values([0, 255])
    >>> legend.ids(np.array([[0, 255]])).tolist(), legend.values_of(np.array([[1, 0]])).tolist()
    ([[0, 1]], [[255, 0]])
    """

    entries: tuple[LegendEntry, ...]

    def __post_init__(self) -> None:
        values = [e.value for e in self.entries]
        if not values or values != sorted(set(values)):
            raise LabelsError(f"legend values {values} are not distinct and ascending")

    @classmethod
    def of_values(cls, values: Sequence[int], names: Mapping[int, str] | None = None) -> Legend:
        """A legend for bare values; the lowest is background (black), the others take the palette's colours."""
        names = names or {}
        ordered = sorted({int(v) for v in values})
        return cls(tuple(
            LegendEntry(v, names.get(v, "background" if i == 0 else f"class {v}"),
                        (0, 0, 0) if i == 0 else PALETTE[(i - 1) % len(PALETTE)])
            for i, v in enumerate(ordered)
        ))

    @classmethod
    def from_json(cls, entries: Sequence[Mapping[str, Any]]) -> Legend:
        """Back from `to_json`."""
        return cls(tuple(LegendEntry(int(e["value"]), str(e["name"]), tuple(int(c) for c in e["colour"]))  # type: ignore[arg-type]
                         for e in entries))

    def to_json(self) -> list[dict[str, Any]]:
        """A list of {value, name, colour}."""
        return [{"value": e.value, "name": e.name, "colour": list(e.colour)} for e in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[LegendEntry]:
        return iter(self.entries)

    @property
    def values(self) -> tuple[int, ...]:
        """The values on disk, ascending."""
        return tuple(e.value for e in self.entries)

    def ids(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Class ids 0..K-1 for an array of values on disk: uint8 for up to 256 classes, else int64.

        Raises LabelsError naming the values that the legend lacks.
        """
        values, array = np.asarray(self.values), np.asarray(array)
        out = np.empty(array.shape, np.uint8 if len(values) <= 256 else np.int64)
        flat, found = array.reshape(-1), out.reshape(-1)
        for start in range(0, flat.size, STRIP):  # positions are int64: never of a whole large image at once
            part = flat[start : start + STRIP]
            position = np.searchsorted(values, part).clip(max=len(values) - 1)
            strange = values[position] != part
            if strange.any():
                raise LabelsError(f"values {np.unique(part[strange])[:10].tolist()} are not in the legend {list(self.values)}")
            found[start : start + STRIP] = position
        return out

    def values_of(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values on disk for class ids, in the smallest unsigned dtype (int32 if one is negative)."""
        out = np.empty(ids.shape, self.dtype)
        for position, value in enumerate(self.values):  # indexing would make an int64 copy of a large image
            out[ids == position] = value
        return out

    @property
    def dtype(self) -> npt.DTypeLike:
        """The dtype that holds every value on disk."""
        low, high = self.values[0], self.values[-1]
        if low < 0:
            return np.int32
        return np.uint8 if high < 2**8 else np.uint16 if high < 2**16 else np.uint32


@dataclass(frozen=True)
class Labels:
    """The truth for one image.

    kind        array
    classes     integer (*S), class ids 0..K-1 = positions in the legend
    multilabel  bool (K, *S), one channel per structure
    instances   int32 (*S), ids, 0 = background
    soft        float32 (K, *S), 0..1, e.g. the share of experts who said so
    """

    array: npt.NDArray[Any]
    kind: LabelKind
    name: str
    legend: Legend
    ignore: npt.NDArray[np.bool_] | None = None
    """bool (*S), True where nothing is known; None when everything is."""
    spacing: Mapping[str, float] | None = None
    """As in `Image`."""
    classes: Mapping[int, int] | None = None
    """Of instances: the class of each id, as a position in the legend; None when they are all of one."""

    def __post_init__(self) -> None:
        if self.kind not in LABEL_KINDS:
            raise LabelsError(f"kind {self.kind!r} is not one of {LABEL_KINDS}", where=self.name)
        if self.ignore is not None and self.ignore.shape != self.size:
            raise LabelsError(f"ignore has shape {self.ignore.shape}, labels {self.size}", where=self.name)

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial shape, (Y, X) or (Z, Y, X), in pixels."""
        return tuple(self.array.shape[1:] if self.kind in ("multilabel", "soft") else self.array.shape)
