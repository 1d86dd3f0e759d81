"""Whether masks/ and labels/ of a predicted image still agree, and which of them somebody changed.

`predict` writes both alike. It notes the pixels of each class in run.json, and the size of each object in objects.csv: what no
longer fits these was changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError
from biomask.exports.folder import PredictedFolder, PredictedImage, Row

Ints = npt.NDArray[np.int64]


#: Pixels counted at a time.
STRIP = 2**22


def _pixels(ids: npt.NDArray[Any], mask: npt.NDArray[np.uint8] | None = None, entries: int = 1) -> tuple[Ints, Ints]:
    """(pixels of each object in each class (n, entries), the id of each row, of which the first is 0). mask: None = one class."""
    numbers, flat = np.arange(int(ids.max(initial=0)) + 1), ids.reshape(-1)
    if len(numbers) > ids.size + 1:
        numbers, flat = np.unique(np.append(ids, 0), return_inverse=True)
        flat = flat[:-1]
    counts = np.zeros(len(numbers) * entries, np.int64)
    for start in range(0, flat.size, STRIP):
        part = flat[start:start + STRIP].astype(np.int64) * entries
        if mask is not None:
            part += mask.reshape(-1)[start:start + STRIP]
        counts += np.bincount(part, minlength=len(counts))
    return counts.reshape(len(numbers), entries), numbers.astype(np.int64)


def are_alike(ids: npt.NDArray[Any], mask: npt.NDArray[np.uint8], entries: int) -> bool:
    """Whether foreground is where objects are, and each object is of one class."""
    if ids.shape != mask.shape:
        return False
    counts, _ = _pixels(ids, mask, entries)
    return not counts[0, 1:].any() and not counts[1:, 0].any() and bool(((counts[1:] > 0).sum(axis=1) <= 1).all())


def which_changed(folder: PredictedFolder, image: PredictedImage, ids: Sequence[npt.NDArray[Any]],
                  masks: Sequence[npt.NDArray[np.uint8]], rows: Sequence[Row] | None) -> Literal["labels", "masks"]:
    """Which of the two, that differ, is no longer as it was predicted. Raises LabelsError where that is both or open."""
    mask, labels = mask_is_changed(folder, image, masks), labels_are_changed(folder, ids, rows)
    if mask is not labels:
        if mask or labels is False:
            return "masks"
        return "labels"
    sizes_of = [f"{' x '.join(map(str, a[0].shape))} pixels" for a in (masks, ids)]
    differ = "" if sizes_of[0] == sizes_of[1] else f" ({sizes_of[0]} and {sizes_of[1]})"
    raise LabelsError(f"masks/ and labels/ of {image.name} do not agree{differ}, and which of them counts is open",
                      where=folder.out, names=[image.name],
                      fix="--masks labels takes the ids of labels/, --masks masks the connected pieces of masks/")


def mask_is_changed(folder: PredictedFolder, image: PredictedImage, masks: Sequence[npt.NDArray[np.uint8]]) -> bool | None:
    """Whether classes have other numbers of pixels than run.json says; None where it does not."""
    said = image.entry.get("class_pixels")
    if not isinstance(said, dict):
        return None
    values = folder.legend.values
    if folder.structures:
        return any(int(m.sum()) != said.get(str(v)) for v, m in zip(values[1:], masks, strict=True))
    counts = np.bincount(masks[0].reshape(-1), minlength=len(values)).tolist()
    return {str(v): n for v, n in zip(values, counts, strict=True)} != said


def labels_are_changed(folder: PredictedFolder, ids: Sequence[npt.NDArray[Any]], rows: Sequence[Row] | None) -> bool | None:
    """Whether objects are others, or have other sizes, than objects.csv says; None where there is no table."""
    if rows is None:
        return None
    return any(sizes(array) != {int(r["id"]): size_said(r) for r in rows_of_part(folder, k, rows)}
               for k, array in enumerate(ids))


def sizes(ids: npt.NDArray[Any]) -> dict[int, int]:
    """Pixels of each object."""
    counts, numbers = _pixels(ids)
    there = np.flatnonzero(counts[:, 0])
    return {int(numbers[k]): int(counts[k, 0]) for k in there if numbers[k]}


def size_said(row: Row) -> int:
    """-1 where it is not said."""
    return next((int(float(v)) for c in ("area_px", "volume_px") if (v := row.get(c))), -1)


def rows_of_part(folder: PredictedFolder, k: int, rows: Sequence[Row]) -> list[Row]:
    """Those of a structure; ids are counted anew in each."""
    return [r for r in rows if r["class"] == folder.structures[k]] if folder.structures else list(rows)


def classes_in(ids: npt.NDArray[Any], mask: npt.NDArray[np.uint8], entries: int) -> dict[int, int]:
    """The class that most pixels of each object have, of those that have one."""
    counts, numbers = _pixels(ids, mask, entries)
    return {int(i): int(n[1:].argmax()) + 1 for i, n in zip(numbers, counts, strict=True) if i and n[1:].any()}
