"""How long to train, at which rate, and when to look at the held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, cos, floor, pi

#: Steps before which a score may stand still because the network has hardly moved.
SETTLED = 200

#: Validations may take this share of the time; where they would, some are left out (never the last one).
VALIDATION_SHARE = 0.1

#: Share of it for what is tried when training ends: averaging over copies, thresholds.
TRIALS_SHARE = 0.4

#: At most this share of a budget in minutes is kept back for the last validation.
MOST_RESERVED = 0.3

#: Work of an optimisation step over that of a prediction of the same pixels: forward, backward for input and for weights.
STEP_WORK = 3.0

#: Precision of validation over that of training: float32 takes about twice as long as bfloat16.
FLOAT32_WORK = 2.0

#: A training that goes until the score is flat brings the rate down over this share of the time so far.
COOLDOWN = 0.25

#: Scores that differ by less are alike.
ALIKE = 1e-3

#: 0.6 / 0.2 is a little less than 3.
ROUNDING = 1e-9


#: Images that are scored at a time if that takes no more than so many times the work that is meant for it.
FEW, DEARER = 8, 3.0


@dataclass(frozen=True)
class Budget:
    """Steps or minutes; exactly one is given."""

    steps: int | None
    minutes: float | None
    validations: int
    """How often the held-out images are scored, spread evenly."""

    def fraction(self, step: int, seconds: float, reserve: float = 0.0) -> float:
        """How much is used, 0..1. reserve: seconds kept back for what comes after the last step (minutes only)."""
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

    def affordable_images(self, pixels: Sequence[int], step_pixels: int, step_seconds: float, *, networks: int,
                          last: bool = False) -> int:
        """How many of the held-out images, in this order, one validation can score within the share of all; at least 2.

        A budget in time lets up to `FEW` of them be scored for up to `DEARER` times that work, since scores of two or three tell
        little; there are fewer validations then (`affordable`).

        pixels: of each image. step_pixels, step_seconds: of an optimisation step. networks: scored each time. last: for the
        trials at the end. For a budget in steps only work is counted, never time.
        """
        share = VALIDATION_SHARE * (TRIALS_SHARE if last else (1 - TRIALS_SHARE) / self.validations)
        if self.steps is not None:
            affordable = share * self.steps * step_pixels * STEP_WORK / FLOAT32_WORK
        else:
            affordable = share * (self.minutes or 0.0) * 60 * step_pixels / step_seconds * STEP_WORK / FLOAT32_WORK
        total = 0.0
        for n, size in enumerate(pixels):
            total += size * networks
            dear = self.steps is not None or last or n >= FEW or total > DEARER * affordable
            if total > affordable and n >= 2 and dear:
                return n
        return len(pixels)


def learning_rate(fraction: float, highest: float, schedule: str, warmup: float, cooldown: Sequence[float] = (),
                  drops: tuple[float, float] = (0.2, 0.1), drop_at: Sequence[float] | None = None) -> float:
    """The rate at a fraction of the budget: a linear rise from a tenth over `warmup`, then constant, a half cosine down to 0, or
    falls by a factor.

    cooldown: (start, end) of the fall of a rate that was constant until then, in fractions of the budget: linear to 0.
    drops: of schedule "step", (every, factor): after each such fraction of the budget the rate is multiplied by the factor.
    drop_at: at these fractions instead.
    """
    if fraction < warmup:
        return highest * (0.1 + 0.9 * fraction / warmup)
    if cooldown:
        return highest * max(0.0, min(1.0, (cooldown[1] - fraction) / (cooldown[1] - cooldown[0])))
    if schedule == "constant":
        return highest
    if schedule == "step":
        every, factor = drops
        falls = floor(fraction / every + ROUNDING) if drop_at is None else sum(fraction + ROUNDING >= at for at in drop_at)
        return highest * factor ** falls
    return highest * 0.5 * (1 + cos(pi * (fraction - warmup) / (1 - warmup)))


def cooldown_now(scores: Sequence[float], fraction: float, patience: int, step: int) -> tuple[float, float] | None:
    """(start, end) of the fall of the rate, if it begins now: the score is flat, or the rest of the budget is needed for it.

    scores: of all validations so far, the latest last. Before `SETTLED` steps none is flat, it has not begun to rise.
    """
    latest = 1 / (1 + COOLDOWN)
    best, since = -1.0, 0
    for score in scores:
        best, since = (score, 0) if score > best + ALIKE else (best, since + 1)
    if (since < patience or step < SETTLED) and fraction < latest:
        return None
    return fraction, min(1.0, fraction * (1 + COOLDOWN))
