"""Objects of class ids: connected components; and the class of objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError, SizeError
from biomask.instances.filter import in_scan_order, require_ids


def components(classes: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The connected components of each class but background: their ids and the class of each.

    classes: integer class ids (*S), 0 = background, 2D or 3D; or bool, one structure. Pixels that share a side (in 3D a
    face) and the class are connected, those that meet in a corner or edge alone are not.
    Returns int32 ids (*S), 1..n in the order of their first pixels, and int64 (n + 1,), the class id of each, 0 for 0.
    Raises LabelsError for other arrays.

    >>> ids, of = components(np.array([[1, 1, 0], [2, 0, 1]]))
    >>> ids.tolist(), of.tolist()
    ([[1, 1, 0], [2, 0, 3]], [0, 1, 2, 1])
    """
    from skimage.measure import label

    require_ids(classes)
    if not classes.size:
        return np.zeros(classes.shape, np.int32), np.zeros(1, np.int64)
    ids = in_scan_order(label(classes, background=0, connectivity=1))
    classes_of = np.zeros(int(ids.max()) + 1, np.int64)
    classes_of[ids.reshape(-1)] = classes.reshape(-1)
    return ids, classes_of


def class_of_objects(ids: npt.NDArray[Any], probabilities: npt.NDArray[Any], classes: int) -> npt.NDArray[np.int64]:
    """The class of each object: the one other than background whose probabilities have the largest sum over its pixels.

    ids: integers (*S), 0 = background; probabilities: float (>= classes, *S), the first `classes` channels of which are
    background and the classes; classes: K >= 2. Returns int64 (n + 1,), n the highest id: class ids 1..K-1; 0 for
    background and ids that do not occur. The lower class wins a tie. Raises SizeError for other shapes.
    """
    require_ids(ids)
    if classes < 2 or len(probabilities) < classes or probabilities.shape[1:] != ids.shape:
        raise SizeError(f"probabilities {probabilities.shape} do not fit {classes} classes of labels {ids.shape}")
    flat = ids.reshape(-1)
    inside = np.flatnonzero(flat)
    own = flat[inside].astype(np.int64)
    area = np.bincount(own, minlength=1)
    if classes == 2:
        return (area > 0).astype(np.int64)
    sums = np.stack([np.bincount(own, probabilities[k].reshape(-1)[inside], minlength=len(area)) for k in range(1, classes)])
    if not np.isfinite(sums).all():
        raise LabelsError("probabilities are not finite")
    return np.where(area > 0, sums.argmax(axis=0) + 1, 0)
