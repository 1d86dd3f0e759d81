"""The training loop.

Training counts steps. Sample n is a pure function of (seed, n) and step s uses the samples s B … (s + 1) B - 1, shared
out among the processes; dropout is seeded by (seed, step, rank). So a run that was killed and resumed equals one that
was not, bit for bit, and several processes equal one up to rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from biomask.errors import BiomaskError, DiskFullError, InputError, UsageError
from biomask.prediction.overlap_tile import CHANNELS_LAST
from biomask.progress import Bar, Progress
from biomask.training.averaging import update_average, weights_of
from biomask.training.budget import FLOAT32_WORK, STEP_WORK, Budget, cooldown_now, learning_rate
from biomask.training.distributed import World
from biomask.training.guard import LOWER, MOST_RETRIES, diagnosis, gave_up, gradient_norm, nothing_learnt
from biomask.training.objective import Objective, Score
from biomask.training.optimizer import make_optimizer, use_bfloat16
from biomask.training.resume import LogRow, State, load_state, save_state
from biomask.training.selection import clearly_better, keep
from biomask.training.stopping import StopFlag, stop_on_signals

if TYPE_CHECKING:
    from biomask.recipe import Recipe

#: Seconds between saved states: what a power cut can cost.
SAVE_EVERY = 30.0


@dataclass
class Trainer:
    """One training of one network; `run` does all of it."""

    network: nn.Module
    recipe: Recipe
    objective: Objective[Any]
    """What is learnt: its samples, loss and score."""
    device: torch.device
    world: World
    folder: Path
    """Where the state is kept, to resume from."""
    identity: dict[str, Any]
    """What must be the same for a resumed run."""
    publish: Callable[[dict[str, Tensor], State], None]
    """Writes the model file from weights; called by the leading process only."""
    progress: Progress
    started_from: bool = False
    """Whether the network's weights come from elsewhere and are to be scored before."""

    def run(self) -> tuple[State, str | None]:
        """Train until the budget ends or a signal comes; returns the state and the signal's name.

        Resumes from `folder`. When it returns, the model file holds the best weights, or the last ones where none was
        scored.
        """
        settings = self.recipe.training
        self._prepare()
        if self._was_finished():
            self.progress.say("this training was finished already: give more --steps or --minutes to go on")
            self._save()
            return self.state, None
        with stop_on_signals(lambda: self.progress.warn("finishing this step and saving; Ctrl-C again to leave at once")) as stop:
            with self.progress.bar("training") as bar:
                stopped = self._steps(stop, bar)
            if not stopped:
                with self._reading():
                    self._try_out()
                self.state.finished = [settings.steps, settings.minutes]
            self._save(last=True)
        return self.state, (stop.signal or "a signal in another process") if stopped else None

    def _prepare(self) -> None:
        settings, patch = self.recipe.training, self.objective.patch
        self.batch = settings.batch or 4
        if self.batch % self.world.size:
            raise UsageError(f"training.batch={self.batch} cannot be shared out among {self.world.size} processes",
                             fix=f"--set training.batch={math.ceil(self.batch / self.world.size) * self.world.size}")
        network = self.network.to(self.device, memory_format=CHANNELS_LAST[len(patch)])  # type: ignore[call-overload]
        self.optimizer = make_optimizer(network, settings, self.device)
        self.budget = Budget(settings.steps, settings.minutes, settings.validations)
        self.state = load_state(self.folder, network, self.optimizer, self.identity) or State()
        self.state.thresholds = self.state.thresholds or dict(self.objective.thresholds)
        first, last = self.world.largest([self.state.step, -self.state.step], self.device)
        if first != -last:
            raise InputError(f"processes would resume at different steps ({first:.0f} and {-last:.0f})", where=self.folder,
                             fix="give a folder that all machines share")
        if self.state.step:
            self.progress.say(f"resuming at step {self.state.step}, {self.state.seconds / 60:.1f} minutes in")
        self.wrapped = self.world.prepare(network).train()
        self.low = use_bfloat16(settings.precision, self.device, patch)
        self.retries, self.warned = 0, False
        if self.world.leads and self.state.step == 0:
            save_state(self.folder, self.state, network, self.optimizer, self.identity)  # to go back to
        self.began = time.perf_counter() - self.state.seconds
        self.saved = time.perf_counter()

    def _was_finished(self) -> bool:
        """Whether an earlier run used up a budget of the same kind and at least this size."""
        return any(done is not None and now is not None and now <= done
                   for done, now in zip(self.state.finished, (self.budget.steps, self.budget.minutes), strict=False))

    def _steps(self, stop: StopFlag, bar: Bar) -> bool:
        """Steps until the budget ends; True when a signal stopped them."""
        state = self.state
        begun = {k: v.clone() for k, v in self.network.state_dict().items()} if self.started_from and not state.before else {}
        fraction = self.budget.fraction(state.step, state.seconds, state.reserve)
        while fraction < self._end():
            start = time.perf_counter()
            self._step(fraction)
            state = self.state  # another one where training went back
            if self.held_out and not state.images:
                self._plan_validations(time.perf_counter() - start)
                if begun:
                    self._score_before(begun)
            # What decisions depend on is made the same in all processes.
            state.seconds, stopped, state.reserve, state.foreseen, state.validation_seconds = self.world.largest(
                [time.perf_counter() - self.began, float(stop.signal is not None), state.reserve, state.foreseen,
                 state.validation_seconds], self.device)
            before, fraction = fraction, self.budget.fraction(state.step, state.seconds, state.reserve)
            at_end = fraction >= self._end()
            if self.budget.logs(state.step) or at_end:
                self._log()
            if self.held_out and (at_end or self.budget.crossed(before, fraction)) and (
                    at_end or self.budget.affordable(state.validation_seconds + state.foreseen, state.seconds)):
                self._validate(fraction)
            elif time.perf_counter() - self.saved > SAVE_EVERY:
                self._save()
            bar.update(min(1.0, fraction / self._end()), self._note())
            if stopped:
                return fraction < self._end()
        return False

    def _end(self) -> float:
        return self.state.cooldown[1] if self.state.cooldown else 1.0

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Where an image cannot be read any more, all that was learnt is saved before the error goes on."""
        try:
            yield
        except BiomaskError as error:
            self._save()
            raise InputError(f"{error.what} (training stopped at step {self.state.step}; all that was learnt is saved)",
                             where=error.where, fix=f"{error.fix or 'mend it'}; then run the same command again") from error

    def _step(self, fraction: float) -> None:
        """One optimisation step on the batch of its number."""
        settings, step, world = self.recipe.training, self.state.step, self.world
        share = self.batch // world.size
        first = step * self.batch + world.rank * share
        with self._reading():
            batch = self.objective.batch(range(first, first + share))
        rate = self.state.rate * learning_rate(fraction, settings.lr, "constant" if settings.until_flat else settings.schedule,
                                               settings.warmup, self.state.cooldown, (settings.drop_every, settings.drop_factor),
                                               settings.drop_at)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, norm = self._backward(batch, low=self.low and not self.state.float32)
        if not math.isfinite(norm) and self.low and not self.state.float32:
            self.progress.warn(f"numbers became infinite in bfloat16 at step {step}: going on in float32")
            self.state.float32 = True
            loss, norm = self._backward(batch, low=False)
        if not math.isfinite(norm):
            self._go_back(diagnosis(self.objective.pixels(batch), loss, norm, rate, step))
            return
        self.optimizer.step()
        self.state.step += 1
        if settings.average is not None:
            update_average(self.state.average, self.network, settings.average, self.state.step)
        self.state.loss_sum += loss
        self.state.loss_count += 1

    def _backward(self, batch: Any, *, low: bool) -> tuple[float, float]:
        """(loss, norm of its gradients), which are in the network then."""
        torch.manual_seed(((self.recipe.training.seed * 1_000_003 + self.state.step) * 4099 + self.world.rank) % 2**63)
        loss = self.objective.loss(self.wrapped, batch, low=low)
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), gradient_norm(self.optimizer, self.recipe.training.clip)

    def _go_back(self, found: str) -> None:
        """To the saved state, with a lower rate; raises after a few times."""
        self.retries += 1
        before = self.state
        saved = load_state(self.folder, self.network, self.optimizer, self.identity)
        if saved is None or self.retries > MOST_RETRIES:
            raise gave_up(found)
        self.state = replace(saved, rate=before.rate * LOWER, seconds=before.seconds, float32=before.float32)
        self.progress.warn(f"{found}; going back to step {saved.step} with a rate of {LOWER:g} of what it was")

    def _log(self) -> None:
        state = self.state
        total = float(self.world.total(torch.tensor(state.loss_sum, device=self.device)))
        loss = total / self.world.size / max(1, state.loss_count)
        state.history.append(LogRow(state.step, round(state.seconds, 3), self.optimizer.param_groups[0]["lr"], loss, None))
        state.loss_sum, state.loss_count = 0.0, 0

    @property
    def held_out(self) -> int:
        """How many images are."""
        return 0 if self.objective.validation is None else len(self.objective.validation)

    def _scored(self, *, last: bool = False) -> int:
        """How many of the held-out images are scored at a time, or in the end."""
        return (self.state.images or [self.held_out, self.held_out])[last]

    def _plan_validations(self, step_seconds: float) -> None:
        """How many of the held-out images each validation scores, and what time is kept back for the end."""
        step_seconds, _ = self.world.largest([step_seconds, 0.0], self.device)
        work = self.objective.work(self.network)
        pixels, both = work.pixels, 2 if self.recipe.training.average is not None else 1
        usual = self.budget.affordable_images(pixels, work.step, step_seconds, networks=both)
        last = self.budget.affordable_images(pixels, work.step, step_seconds, networks=work.trials, last=True)
        self.state.images = [usual, last]
        a_pixel = FLOAT32_WORK / STEP_WORK * step_seconds / work.step
        self.state.foreseen = a_pixel * both * sum(pixels[:usual])
        self.state.reserve = self.state.foreseen + a_pixel * work.trials * sum(pixels[:last]) + work.seconds
        if usual < len(pixels):
            self.progress.say(f"{usual} of the {len(pixels)} images held out are scored at a time, the same ones always, to keep "
                              "validation within a tenth of the work")

    def _score_before(self, begun: dict[str, Tensor]) -> None:
        """Of weights that come from elsewhere: they are the best until others score better on the same images."""
        with self._reading(), weights_of(self.network, begun):
            score = self.objective.score(self.network, self._scored())
        self.state.before = {"value": score.value, **score.parts}
        keep(self.state, score, begun, 0)
        self.progress.say(f"before training, {self.objective.score_is} on the images held out: {score.value:.4f}")

    def _validate(self, fraction: float) -> None:
        """Score the weights and their average, keep them unless earlier ones are clearly better, save."""
        start, state = time.perf_counter(), self.state
        with self._reading():
            scores = {False: self.objective.score(self.network, self._scored())}
            if state.average:
                with weights_of(self.network, state.average):
                    scores[True] = self.objective.score(self.network, self._scored())
        averaged = max(scores, key=lambda averaged: scores[averaged].value)
        self._keep(scores[averaged], averaged=averaged)
        best = scores[averaged].value
        state.barren = state.barren + 1 if all(s.barren for s in scores.values()) else 0
        state.history.append(LogRow(state.step, round(state.seconds, 3), self.optimizer.param_groups[0]["lr"], None, best))
        state.foreseen = time.perf_counter() - start
        state.validation_seconds += state.foreseen
        state.seconds = time.perf_counter() - self.began
        if self.recipe.training.until_flat and not state.cooldown:
            found = cooldown_now([r.validation_score for r in state.history if r.validation_score is not None], fraction,
                                 self.recipe.training.patience, state.step)
            if found is not None:
                state.cooldown = list(found)
                self.progress.say(f"the score is flat at step {state.step}: the rate is brought down, then training ends"
                                  if fraction < 0.79 else "the last fifth of the time: the rate is brought down")
        self._save()
        if nothing_learnt(fraction, state.step, state.barren, state.history):
            raise self.objective.barren()

    def _keep(self, score: Score, *, averaged: bool) -> None:
        state = self.state
        if state.best_step is not None and clearly_better(state.best_images, score.images):
            return
        if score.value < (state.before.get("value") or -1.0):
            return  # what it began with is never replaced by less
        keep(state, score, state.average if averaged else self.network.state_dict(), state.step)
        state.averaged = averaged

    def _try_out(self) -> None:
        """With the best weights: the thresholds of objects, and whether the mean over copies predicts better."""
        state = self.state
        state.augment = self.recipe.prediction.augment or "none"
        if not self.held_out or not state.best:
            return
        with weights_of(self.network, state.best):
            found = self.objective.try_out(self.network, self._scored(last=True), state.thresholds)
        state.augment, state.heads = found.augment, list(found.heads)
        state.trials |= found.scores
        if found.thresholds is not None:
            state.thresholds = dict(found.thresholds)
        state.seconds = time.perf_counter() - self.began

    def _save(self, *, last: bool = False) -> None:
        """The state first, then the model file made from it, so that both agree after a kill at any moment.

        A full disk stops nothing: what is there stays, and it is tried again later; only at the very end it is an error.
        """
        self.saved = time.perf_counter()
        if not self.world.leads:
            return
        try:
            save_state(self.folder, self.state, self.network, self.optimizer, self.identity)
            self.publish(self.state.best or self.network.state_dict(), self.state)
        except DiskFullError as error:
            if last:
                raise
            if not self.warned:
                self.progress.warn(f"{error.where}: the disk is full; training goes on, and saving is tried again every "
                                   f"{SAVE_EVERY:.0f} seconds: free some space")
            self.warned = True

    def _note(self) -> str:
        rows = self.state.history
        loss = next((f"loss {r.loss:.3f}" for r in reversed(rows) if r.loss is not None), "")
        score = next((f"validation {self.objective.score_is} {r.validation_score:.3f}" for r in reversed(rows)
                      if r.validation_score is not None), "")
        return " · ".join(part for part in (f"step {self.state.step}", loss, score) if part)
