"""Whether probabilities are what they say: cross-entropy, Brier score, reliability and its error ECE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.errors import LabelsError, SizeError

#: Bins of equal width over 0..1; a value at an edge belongs to the upper one.
BINS = 10

#: The probability of the truth is raised to this in the cross-entropy, which is infinite at 0.
CLIP = 1e-7

#: Pixels at a time.
STRIP = 2**20

#: How far a probability may lie outside 0..1 by rounding.
ROUNDING = 1e-4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Sums over known pixels, of one image or of several: those of two images are added with +."""

    pixels: npt.NDArray[np.int64]
    """(BINS,) answers with a confidence in each bin."""
    confidence: Floats
    """(BINS,) sum of their confidences."""
    correct: Floats
    """(BINS,) how many of them are right."""
    cross_entropy: float
    """Sum of −ln of the probability of what is true, nats."""
    squares: float
    """Sum of Brier's squared differences."""

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.pixels + other.pixels, self.confidence + other.confidence, self.correct + other.correct,
                           self.cross_entropy + other.cross_entropy, self.squares + other.squares)

    @classmethod
    def none(cls) -> Reliability:
        """Of no pixel."""
        return cls(np.zeros(BINS, np.int64), np.zeros(BINS), np.zeros(BINS), 0.0, 0.0)

    @property
    def answers(self) -> int:
        """All of them."""
        return int(self.pixels.sum())

    @property
    def bce(self) -> float | None:
        """Mean cross-entropy, nats: of two classes, or of structures, the binary one. None without a known pixel."""
        return self.cross_entropy / self.answers if self.answers else None

    @property
    def brier(self) -> float | None:
        """Mean Brier score, 0..1 (0: sure and right, 1: sure and wrong). None without a known pixel."""
        return self.squares / self.answers if self.answers else None

    @property
    def ece(self) -> float | None:
        """Expected calibration error, 0..1 (Naeini et al. 2015; Guo et al. 2017): the mean over answers of the difference of
        mean confidence and share of right answers in their bin. None without a known pixel."""
        return float(np.abs(self.confidence - self.correct).sum() / self.answers) if self.answers else None


def class_reliability(probabilities: npt.NDArray[Any], truth: npt.NDArray[Any],
                      ignore: npt.NDArray[np.bool_] | None = None) -> Reliability:
    """Of classes that exclude each other: the confidence is the largest probability, right if that class is true.

    probabilities: (K, *S), 0..1. truth: integer (*S), 0..K-1; other numbers are classes without a probability, for which it is
    0. Brier: half the sum over classes of (probability − truth)², so that two classes give the usual one. ignore: bool (*S),
    True = unknown. Raises SizeError for other shapes, LabelsError for what is no probability.

    >>> found = class_reliability(np.array([[0.75, 0.5], [0.25, 0.5]]), np.array([0, 1]))
    >>> round(found.bce, 4), found.brier, found.ece
    (0.4904, 0.15625, 0.375)
    """
    if probabilities.shape[1:] != truth.shape:
        raise SizeError(f"probabilities have shape {probabilities.shape}, truth {truth.shape}")
    found = Reliability.none()
    for part, true in _strips(probabilities, truth, ignore):
        given = (true >= 0) & (true < len(part))
        right = np.where(given, part[np.where(given, true, 0), np.arange(part.shape[1])], 0.0)
        squares = (part**2).sum(axis=0) - 2 * right + 1
        found += _sums(part.max(axis=0), part.argmax(axis=0) == true, right, squares / 2)
    return found


def structure_reliability(probabilities: npt.NDArray[Any], truth: npt.NDArray[Any],
                          ignore: npt.NDArray[np.bool_] | None = None) -> Reliability:
    """Of one structure: the confidence is its probability, right if the pixel belongs to it.

    probabilities: (*S), 0..1. truth: bool (*S). Brier: (probability − truth)². ignore and errors: as in `class_reliability`.
    """
    if probabilities.shape != truth.shape:
        raise SizeError(f"probabilities have shape {probabilities.shape}, truth {truth.shape}")
    found = Reliability.none()
    for part, true in _strips(probabilities[None], np.asarray(truth, np.bool_), ignore):
        right = np.where(true, part[0], 1 - part[0])
        found += _sums(part[0], true, right, (1 - right) ** 2)
    return found


def _strips(probabilities: npt.NDArray[Any], truth: npt.NDArray[Any],
            ignore: npt.NDArray[np.bool_] | None) -> Iterator[tuple[Floats, npt.NDArray[Any]]]:
    """(probabilities (K, n), truth (n,)) of known pixels, some at a time."""
    flat, true = probabilities.reshape(len(probabilities), -1), truth.reshape(-1)
    known = None if ignore is None else ~ignore.reshape(-1)
    for start in range(0, true.size, STRIP):
        strip = slice(start, start + STRIP)
        part, here = flat[:, strip].astype(np.float64), true[strip]
        if known is not None:
            part, here = part[:, known[strip]], here[known[strip]]
        if not ((part >= -ROUNDING) & (part <= 1 + ROUNDING)).all():  # NaN is not either
            raise LabelsError(f"holds values from {part.min():g} to {part.max():g}, which are no probabilities",
                              fix="probabilities lie between 0 and 1")
        yield part.clip(0, 1), here


def _sums(confidence: Floats, right: npt.NDArray[np.bool_], of_truth: Floats, squares: Floats) -> Reliability:
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    count, sure, hits = (np.bincount(bins, weights, BINS) for weights in (None, confidence, right.astype(np.float64)))
    return Reliability(count.astype(np.int64), sure.astype(np.float64), hits.astype(np.float64),
                       float(-np.log(np.maximum(of_truth, CLIP)).sum()), float(squares.sum()))
