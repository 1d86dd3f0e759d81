"""The measures of the ISBI 2012 challenge on regions: Rand and information, as in its Fiji code (spec 7.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.segmentation import watershed

from biomask.errors import SizeError
from biomask.metrics.matching import count_overlaps
from biomask.metrics.overlap import mean

#: Thresholds of probability maps.
TENTHS: tuple[float, ...] = tuple(n / 10 for n in range(1, 10))


@dataclass(frozen=True)
class RandScore:
    """Ordered pairs of true foreground pixels, each pixel with itself too, summed over slices."""

    tp: int
    """In one region on both sides."""
    fp: int
    """In one region of the segmentation alone: what merges cost."""
    fn: int
    """In one region of the truth alone: what splits cost."""

    def __add__(self, other: RandScore) -> RandScore:
        return RandScore(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float | None:
        """tp / (tp + fp); None without foreground."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """tp / (tp + fn); None without foreground."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def f(self) -> float | None:
        """2 tp / (2 tp + fp + fn), the harmonic mean of both; None without foreground. The challenge's error is 1 - f."""
        whole = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / whole if whole else None


def isbi_rand(truth: npt.NDArray[Any], segmentation: npt.NDArray[Any]) -> RandScore:
    """The foreground-restricted Rand score, N² normalised.

    truth, segmentation: ids of regions, integer (Y, X), or (Z, Y, X) of slices with ids of their own; 0 is membrane. Only pixels
    of true regions count; those of them that the segmentation calls membrane are regions of one pixel each. Raises SizeError
    for other shapes. `skimage.metrics.adapted_rand_error` leaves out the pair of each pixel with itself, takes membrane for one
    region, and returns precision and recall exchanged.

    >>> isbi_rand(np.array([[1, 1, 0, 2]]), np.array([[1, 1, 1, 1]]))
    RandScore(tp=5, fp=4, fn=0)
    """
    return region_scores(truth, segmentation)[0]


def isbi_rand_f(truth: npt.NDArray[Any], segmentation: npt.NDArray[Any]) -> float | None:
    """The F-score of `isbi_rand`, 0..1."""
    return isbi_rand(truth, segmentation).f


def isbi_information_f(truth: npt.NDArray[Any], segmentation: npt.NDArray[Any]) -> float | None:
    """V_info: the F-score of the foreground-restricted mutual information over both entropies, mean over slices, 0..1.

    Arguments as in `isbi_rand`. Slices without true regions do not count; None where all are such. With a single region on
    either side there is no information to share, and the score is 0, as in Fiji, even if both sides agree.

    >>> isbi_information_f(np.array([[1, 1, 2, 2]]), np.array([[7, 7, 3, 3]]))
    1.0
    """
    return mean(region_scores(truth, segmentation)[1])


def region_scores(truth: npt.NDArray[Any], segmentation: npt.NDArray[Any]) -> tuple[RandScore, tuple[float | None, ...]]:
    """(`isbi_rand`, for each slice what `isbi_information_f` is the mean of) from one count of the regions."""
    rand, scores = RandScore(0, 0, 0), list[float | None]()
    for true, found, pairs, alone in _tables(truth, segmentation):
        tp = _squares(pairs) + alone
        rand += RandScore(tp, _squares(found) + alone - tp, _squares(true) - tp)
        n = int(true.sum())
        single = alone / n * np.log(n) if n else 0.0
        h_true, h_found, h_both = _entropy(true, n), _entropy(found, n) + single, _entropy(pairs, n) + single
        # F of I / H(A) and I / H(B), which needs no case of its own where one of them is 0.
        whole = h_true + h_found
        scores.append(None if not n else max(0.0, float(2 * (whole - h_both) / whole)) if whole > 0 else 0.0)
    return rand, tuple(scores)


def regions(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Ids of the 4-connected regions of each slice: bool (Y, X) or (Z, Y, X) to int32 of the same shape, 0 = membrane."""
    return np.stack([ndimage.label(plane)[0] for plane in planes(inside)]).astype(np.int32).reshape(inside.shape)


def thinned(probabilities: npt.NDArray[Any], threshold: float) -> npt.NDArray[np.int32]:
    """Regions grown until only lines of one pixel part them.

    probabilities: of cell interior, (Y, X) or (Z, Y, X), 0..1. The 4-connected regions above the threshold are the
    markers of a 4-connected watershed of -p over each slice, with a line between basins. int32 ids, 0 = line.
    """
    out = np.zeros(probabilities.shape, np.int32)
    for plane, result in zip(planes(probabilities), planes(out), strict=True):
        markers = ndimage.label(plane > threshold)[0]
        if markers.any():  # without any, watershed would choose its own
            result[:] = watershed(-plane.astype(np.float64), markers, connectivity=1, watershed_line=True)
    return out


def rand_after_thinning(truth: npt.NDArray[Any], probabilities: npt.NDArray[Any],
                        thresholds: Sequence[float] = TENTHS) -> tuple[float | None, dict[float, float | None]]:
    """V_rand after thinning: (the best F-score of `isbi_rand` over the thresholds, that of each of them).

    truth: ids as in `isbi_rand`; of a binary map, those of `regions`. probabilities: as in `thinned`.
    """
    scores = {t: isbi_rand_f(truth, thinned(np.asarray(probabilities), t)) for t in thresholds}
    return max((s for s in scores.values() if s is not None), default=None), scores


def information_after_thinning(truth: npt.NDArray[Any], probabilities: npt.NDArray[Any],
                               thresholds: Sequence[float] = TENTHS) -> tuple[float | None, dict[float, float | None]]:
    """V_info after thinning: the same for `isbi_information_f`."""
    scores = {t: isbi_information_f(truth, thinned(np.asarray(probabilities), t)) for t in thresholds}
    return max((s for s in scores.values() if s is not None), default=None), scores


def planes(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """The slices of (Y, X) or (Z, Y, X). Raises SizeError for other shapes."""
    if array.ndim not in (2, 3):
        raise SizeError(f"an array of shape {array.shape} is neither a slice (y, x) nor a stack of them")
    yield from array if array.ndim == 3 else array[None]


def _tables(truth: npt.NDArray[Any], segmentation: npt.NDArray[Any]) -> Iterator[tuple[Any, Any, Any, int]]:
    """(pixels of each true region, of each found one in them, of each pair, pixels in no found region) of each slice."""
    truth, segmentation = np.asarray(truth), np.asarray(segmentation)
    if truth.shape != segmentation.shape:
        raise SizeError(f"truth has shape {truth.shape}, segmentation {segmentation.shape}")
    for true, found in zip(planes(truth), planes(segmentation), strict=True):
        overlaps = count_overlaps(true, np.where(true != 0, found, 0))
        yield (overlaps.true_areas, overlaps.predicted_areas, overlaps.shared,
               int(overlaps.true_areas.sum() - overlaps.shared.sum()))


def _squares(counts: npt.NDArray[np.int64]) -> int:
    return int(counts @ counts)


def _entropy(counts: npt.NDArray[np.int64], n: int) -> float:
    """-Σ p log p of shares p = counts / n."""
    return float(-(counts / n) @ np.log(counts / n)) if n and len(counts) else 0.0
