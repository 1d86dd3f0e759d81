"""What may follow the network's probabilities of classes: calibration and a median filter (Cireşan et al. 2012)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.task import Task
from biomask.models.calibration import Calibration, median_filter

#: Names of a calibration's coefficients in a model's header.
CALIBRATION = tuple(f"calibration.{n}" for n in range(4))


@dataclass(frozen=True)
class Refinement:
    """Calibration of the second of two classes, then the median of each class's map."""

    calibration: Calibration | None = None
    radius: int = 0
    """Of the median, in pixels; 0 = none."""

    @classmethod
    def of(cls, task: Task, thresholds: Mapping[str, float], radius: int) -> Refinement:
        """As a model's header says. Objects and structures are left as they are."""
        if task.kind != "classes":
            return cls()
        known = all(math.isfinite(thresholds.get(name, math.nan)) for name in CALIBRATION)
        found = [min(max(float(thresholds[name]), 0.0), 1.0) for name in CALIBRATION] if known else None
        return cls(Calibration((found[0], found[1], found[2], found[3])) if found else None, radius)

    @property
    def does_something(self) -> bool:
        """Whether probabilities change."""
        return self.calibration is not None or self.radius > 0

    def __call__(self, maps: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Probabilities float32 (K, *S) → the same, summing to 1 at each pixel."""
        if self.calibration is not None and len(maps) == 2:
            second = self.calibration(maps[1])
            maps = np.stack([1 - second, second])
        if self.radius:
            maps = np.stack([median_filter(m, self.radius) for m in maps])
            maps = maps / np.maximum(maps.sum(axis=0), np.finfo(np.float32).tiny)
        return np.asarray(maps, np.float32)

    def to_thresholds(self) -> dict[str, float]:
        """The calibration as it stands in a model's header."""
        return {} if self.calibration is None else dict(zip(CALIBRATION, self.calibration.coefficients, strict=True))
