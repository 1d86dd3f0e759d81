"""`images.csv`: one row an image, of a folder of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.image import Image
from biomask.instances.measure import Columns
from biomask.instances.table import ObjectsTable
from biomask.io.files import writing

if TYPE_CHECKING:
    from biomask.checkpoint import Model
    from biomask.labels import Legend

#: Micrometres a millimetre.
MILLIMETRE = 1e3


def summary_of(model: Model, image: Image, pixels: Mapping[int, int], tables: Sequence[Columns] | None) -> dict[str, Any]:
    """The row of an image, by column; None where a figure is not defined or not known.

    pixels: of each position in the legend. tables: measurements of the objects, a table a structure; None where objects were
    not looked for, whose columns are missing then.

    pixels                    of the image; voxels in 3D
    share_NAME                pixels of a class or structure, over all pixels of the image, 0..1
    objects                   number of objects
    objects_NAME              the same of each class, where there are several
    objects_per_mm2           objects over the area of the image (in 3D _per_mm3, its volume); where the spacing is known
    area_px_mean, _median, _p10, _p90     over the objects, by pixels; in 3D volume_px_…
    area_um2_mean, …          the same in µm² (3D: volume_um3_…); where the spacing is known
    touching_border           number of objects that touch the edge of the image, so that they may be cut
    probability_mean          mean over the objects of their probability; where probabilities were kept
    score_mean                the same of their scores; of detectors

    Objects that touch the border count as others do.
    """
    total = prod(image.size)
    names = class_names(model.legend)
    row: dict[str, Any] = {"pixels": total}
    row |= {f"share_{names[k]}": pixels.get(k, 0) / total for k in range(1, len(names))}
    if tables is None:
        return row
    flat = image.spatial_dims == 2
    classes = _joined(tables, "class")
    row["objects"] = len(classes)
    if len(names) > 2:
        row |= {f"objects_{name}": int((classes == entry.name).sum())
                for name, entry in zip(names[1:], list(model.legend)[1:], strict=True)}
    if image.spacing is not None:
        size = total * prod(image.spacing.values()) / MILLIMETRE ** image.spatial_dims
        row["objects_per_mm2" if flat else "objects_per_mm3"] = len(classes) / size
    for unit in ("px", "um2" if flat else "um3"):
        column = f"{'area' if flat else 'volume'}_{unit}"
        if unit == "px" or image.spacing is not None:
            row |= {f"{column}_{name}": value for name, value in _spread(_joined(tables, column)).items()}
    row["touching_border"] = int(_joined(tables, "touching_border").sum())
    if all("probability" in t for t in tables):
        row["probability_mean"] = _spread(_joined(tables, "probability"))["mean"]
    if all("score" in t for t in tables):
        row["score_mean"] = _spread(_joined(tables, "score"))["mean"]
    return row


def class_names(legend: Legend) -> list[str]:
    """A name for each class of the legend that no other has."""
    names = [e.name for e in legend]
    return [e.name if names.count(e.name) == 1 else f"{e.name} ({e.value})" for e in legend]


def _joined(tables: Sequence[Columns], column: str) -> npt.NDArray[Any]:
    return np.concatenate([np.asarray(t[column]) for t in tables]) if tables else np.zeros(0)


def _spread(values: npt.NDArray[Any]) -> dict[str, float | None]:
    if not values.size:
        return dict.fromkeys(("mean", "median", "p10", "p90"))
    low, middle, high = np.percentile(values.astype(np.float64), [10, 50, 90])
    return {"mean": float(values.mean(dtype=np.float64)), "median": float(middle), "p10": float(low), "p90": float(high)}


def write_images_csv(path: Path, images: Mapping[str, Mapping[str, Any]]) -> None:
    """A row for each entry of run.json's images, in its order, whole or not at all; `warnings` is the last column.

    Columns are all those of any image; what an image lacks is empty.
    """
    rows = {name: {**entry.get("summary", {}), "warnings": "; ".join(entry.get("warnings", ()))} for name, entry in images.items()}
    columns = [c for c in dict.fromkeys(c for row in rows.values() for c in row) if c != "warnings"]
    with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = ObjectsTable(file, [*columns, "warnings"])
        for name, row in rows.items():
            table.write(name, {c: np.array([np.nan if v is None else v], object if isinstance(v, str) else None)
                               for c, v in row.items()})
