"""OKS, the similarity of key points that COCO puts in the place of the IoU (spec 7.4)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from biomask.errors import SizeError
from biomask.instances.runs import grouped

Floats = npt.NDArray[np.float64]

#: How far people disagree about each of COCO's 17 points, per square root of the object's area: nose, eyes, ears, shoulders,
#: elbows, wrists, hips, knees, ankles.
PERSON_SIGMAS: tuple[float, ...] = tuple(s / 10 for s in (
    .26, .25, .25, .35, .35, .79, .79, .72, .72, .62, .62, 1.07, 1.07, .87, .87, .89, .89))

#: The same for any other point, for which nobody has measured it: about that of COCO's shoulders and wrists.
OTHER_SIGMA = 0.07


def usual_sigmas(count: int) -> tuple[float, ...]:
    """COCO's for 17 points, which are taken for a person's; else OTHER_SIGMA for each."""
    return PERSON_SIGMAS if count == len(PERSON_SIGMAS) else (OTHER_SIGMA,) * count


def oks(true: Floats, areas: Floats, boxes: Floats, found: Floats, pairs: npt.NDArray[np.int64], sigmas: Floats) -> Floats:
    """(P,) similarity 0..1 of each pair: the mean over the labelled points of exp(-d² / (2 s² k²)), s² the area, k twice sigma.

    true, found: (G, K, 3) and (D, K, 3) of x, y, visibility; above 0 = labelled. areas: (G,) pixels. boxes: (G, 4) of x, y, width,
    height; of an object without labelled points, distances are those to its box doubled, 0 inside. pairs: (P, 2) numbers of a found
    and a true object. sigmas: (K,). Raises SizeError where numbers of points differ.
    """
    if true.shape[1:] != found.shape[1:] or len(sigmas) != true.shape[1]:
        raise SizeError(f"true objects have {true.shape[1]} key points, found ones {found.shape[1]}, and there are "
                        f"{len(sigmas)} sigmas")
    out = np.zeros(len(pairs))
    variances = (sigmas * 2)**2
    for members in grouped(pairs[:, 1]):
        g = pairs[members[0], 1]
        x, y = found[pairs[members, 0], :, 0], found[pairs[members, 0], :, 1]
        labelled = true[g, :, 2] > 0
        if labelled.any():
            dx, dy = x - true[g, :, 0], y - true[g, :, 1]
        else:
            left, top, width, height = boxes[g]
            dx = np.maximum(0, left - width - x) + np.maximum(0, x - (left + width * 2))
            dy = np.maximum(0, top - height - y) + np.maximum(0, y - (top + height * 2))
            labelled = ~labelled
        # In the order of the reference, so that equal similarities are equal to the last bit.
        e = (dx**2 + dy**2) / variances / (areas[g] + np.spacing(1)) / 2
        out[members] = np.ascontiguousarray(np.exp(-e[:, labelled])).sum(axis=1) / np.count_nonzero(labelled)
    return out


def points_area(points: Floats) -> Floats:
    """(D,) area of the box around all points of each object, in pixels. points: (D, K, 3), K > 0."""
    width, height = np.ptp(points[..., 0], axis=1), np.ptp(points[..., 1], axis=1)
    return np.asarray(width * height)
