"""How long to train, at which rate, and when to look at the held-out images."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, cos, floor, pi

#: Validations may take this share of the time; where they would, some are left out (never the last one).
VALIDATION_SHARE = 0.1


#: At most this share of a budget in minutes is kept back for the last validation.
MOST_RESERVED = 0.3


@dataclass(frozen=True)
class Budget:
    """Steps or minutes; exactly one is given."""

    steps: int | None
    minutes: float | None
    validations: int
    """How often the held-out images are scored, spread evenly."""

    def fraction(self, step: int, seconds: float, reserve: float = 0.0) -> float:
        """How much is used, 0..1. reserve: seconds kept back for the last validation (minutes only)."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        budget = (self.minutes or 0.0) * 60
        return min(1.0, seconds / (budget - min(reserve, MOST_RESERVED * budget)))

    def crossed(self, before: float, after: float) -> bool:
        """Whether a validation point lies in (before, after]; the end always is one."""
        return after >= 1 or floor(after * self.validations) > floor(before * self.validations)

    def affordable(self, validation_seconds: float, seconds: float) -> bool:
        """Whether another validation keeps their share; always for a budget in steps, which must not depend on time."""
        return self.steps is not None or validation_seconds <= VALIDATION_SHARE * max(seconds, 1e-9)

    def logs(self, step: int) -> bool:
        """Whether a step gets a row in the log: about 200 of them in all, and in minutes fewer the longer it takes."""
        every = max(1, ceil(self.steps / 200)) if self.steps is not None else 10 if step < 2000 else 100 if step < 20_000 else 1000
        return step % every == 0


def learning_rate(fraction: float, highest: float, schedule: str, warmup: float) -> float:
    """The rate at a fraction of the budget: a linear rise from a tenth over `warmup`, then constant or a half cosine
    down to 0."""
    if fraction < warmup:
        return highest * (0.1 + 0.9 * fraction / warmup)
    if schedule == "constant":
        return highest
    return highest * 0.5 * (1 + cos(pi * (fraction - warmup) / (1 - warmup)))
