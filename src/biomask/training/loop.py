"""The training loop.

Training counts steps. Sample n is a pure function of (seed, n) and step s uses the samples s B … (s + 1) B - 1, shared
out among the processes; dropout is seeded by (seed, step, rank). So a run that was killed and resumed equals one that
was not, bit for bit, and several processes equal one up to rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from biomask.data.patches import PatchGeometry, make_batch
from biomask.errors import InputError, UsageError
from biomask.losses import CombinedLoss
from biomask.prediction.overlap_tile import CHANNELS_LAST
from biomask.progress import Bar, Progress
from biomask.training.budget import Budget, learning_rate
from biomask.training.distributed import World
from biomask.training.resume import LogRow, State, load_state, save_state
from biomask.training.stopping import StopFlag, stop_on_signals
from biomask.training.validation import Score, validate

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset
    from biomask.recipe import Recipe, TrainingSettings

#: Patches of fewer voxels along an axis are thin.
THIN = 8

#: Seconds between saved states: what a power cut can cost.
SAVE_EVERY = 30.0


@dataclass
class Trainer:
    """One training of one network; `run` does all of it."""

    network: nn.Module
    recipe: Recipe
    training: Dataset
    validation: Dataset | None
    geometry: PatchGeometry
    device: torch.device
    world: World
    folder: Path
    """Where the state is kept, to resume from."""
    identity: dict[str, Any]
    """What must be the same for a resumed run."""
    publish: Callable[[dict[str, Tensor], State], None]
    """Writes the model file from weights; called by the leading process only."""
    progress: Progress

    def run(self) -> tuple[State, str | None]:
        """Train until the budget ends or a signal comes; returns the state and the signal's name.

        Resumes from `folder`. When it returns, the model file holds the best weights, or the last ones where none was
        scored.
        """
        settings = self.recipe.training
        if settings.batch % self.world.size:
            raise UsageError(f"training.batch={settings.batch} cannot be shared out among {self.world.size} processes",
                             fix=f"--set training.batch={math.ceil(settings.batch / self.world.size) * self.world.size}")
        network = self.network.to(self.device, memory_format=CHANNELS_LAST[len(self.geometry.target)])  # type: ignore[call-overload]
        self.optimizer = make_optimizer(network, settings, self.device)
        self.loss = CombinedLoss(cross_entropy_weight=self.recipe.loss.cross_entropy, dice_weight=self.recipe.loss.dice,
                                 class_weights=self.recipe.loss.class_weights).to(self.device)
        self.budget = Budget(settings.steps, settings.minutes, settings.validations)
        self.state = load_state(self.folder, network, self.optimizer, self.identity) or State()
        first, last = self.world.largest([self.state.step, -self.state.step], self.device)
        if first != -last:
            raise InputError(f"processes would resume at different steps ({first:.0f} and {-last:.0f})", where=self.folder,
                             fix="give a folder that all machines share")
        if self.state.step:
            self.progress.say(f"resuming at step {self.state.step}, {self.state.seconds / 60:.1f} minutes in")
        self.wrapped = self.world.prepare(network).train()
        self.began = time.perf_counter() - self.state.seconds
        self.saved = time.perf_counter()
        if self._was_finished():
            self.progress.say("this training was finished already: give more --steps or --minutes to go on")
            self._save()
            return self.state, None
        with stop_on_signals(lambda: self.progress.warn("finishing this step and saving; Ctrl-C again to leave at once")) as stop:
            with self.progress.bar("training") as bar:
                stopped = self._steps(stop, bar)
            self.state.finished = [] if stopped else [settings.steps, settings.minutes]
            self._save()
        return self.state, (stop.signal or "a signal in another process") if stopped else None

    def _was_finished(self) -> bool:
        """Whether an earlier run used up a budget of the same kind and at least this size."""
        return any(done is not None and now is not None and now <= done
                   for done, now in zip(self.state.finished, (self.budget.steps, self.budget.minutes), strict=False))

    def _steps(self, stop: StopFlag, bar: Bar) -> bool:
        """Steps until the budget ends; True when a signal stopped them."""
        state = self.state
        fraction = self.budget.fraction(state.step, state.seconds, state.reserve)
        while fraction < 1:
            start = time.perf_counter()
            self._step(fraction)
            if self.validation is not None and not state.reserve:
                state.reserve = self._foreseen(time.perf_counter() - start, self.validation)
            # What decisions depend on is made the same in all processes.
            state.seconds, stopped, state.reserve, state.validation_seconds = self.world.largest(
                [time.perf_counter() - self.began, float(stop.signal is not None), state.reserve, state.validation_seconds],
                self.device)
            before, fraction = fraction, self.budget.fraction(state.step, state.seconds, state.reserve)
            if self.budget.logs(state.step) or fraction >= 1:
                self._log()
            if self.validation is not None and self.budget.crossed(before, fraction) and (
                    fraction >= 1 or self.budget.affordable(state.validation_seconds + state.reserve, state.seconds)):
                self._validate(self.validation)
            elif time.perf_counter() - self.saved > SAVE_EVERY:
                self._save()
            bar.update(fraction, self._note())
            if stopped:
                return fraction < 1
        return False

    def _foreseen(self, step_seconds: float, held_out: Dataset) -> float:
        """Seconds that a validation will take, from those of a step: about the same work a pixel, forward only but float32."""
        pixels = sum(math.prod(size) for size in held_out.facts.sizes) / self.world.size
        patch = math.prod(self.geometry.target) * self.recipe.training.batch / self.world.size
        return step_seconds * pixels / patch

    def _step(self, fraction: float) -> None:
        """One optimisation step on the batch of its number."""
        settings, step, world = self.recipe.training, self.state.step, self.world
        share = settings.batch // world.size
        first = step * settings.batch + world.rank * share
        batch = make_batch(self.training, settings.seed, range(first, first + share), self.geometry,
                           self.recipe.augmentation, self.device)
        torch.manual_seed(((settings.seed * 1_000_003 + step) * 4099 + world.rank) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(fraction, settings.lr, settings.schedule, settings.warmup)
        low = use_bfloat16(settings.precision, self.device, self.geometry.target)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            logits = self.wrapped(batch.images.contiguous(memory_format=CHANNELS_LAST[len(self.geometry.target)]))
        heads = logits if isinstance(logits, tuple) else (logits,)
        loss = torch.stack([self.loss(head, batch.targets, batch.ignore) for head in heads]).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.optimizer.step()
        self.state.step += 1
        self.state.loss_sum += float(loss.detach())
        self.state.loss_count += 1

    def _log(self) -> None:
        state = self.state
        total = float(self.world.total(torch.tensor(state.loss_sum, device=self.device)))
        loss = total / self.world.size / max(1, state.loss_count)
        if not math.isfinite(loss):
            raise InputError(f"the loss became {loss} at step {state.step}", where="training",
                                fix="run again with a lower rate (--set training.lr=3e-4) and --overwrite; "
                                    "the best weights so far are kept")
        state.history.append(LogRow(state.step, round(state.seconds, 3), self.optimizer.param_groups[0]["lr"], loss, None))
        state.loss_sum, state.loss_count = 0.0, 0

    def _validate(self, held_out: Dataset) -> None:
        """Score, keep the weights if they are the best, save."""
        start, state = time.perf_counter(), self.state
        score = validate(self.network, held_out, self.device, self.world)
        if state.best_step is None or score.selection >= Score(tuple(state.best_dice)).selection:
            state.best_step, state.best_dice = state.step, list(score.dice)
            state.best = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
        state.history.append(LogRow(state.step, round(state.seconds, 3), self.optimizer.param_groups[0]["lr"], None,
                                    score.selection))
        state.reserve = time.perf_counter() - start
        state.validation_seconds += state.reserve
        state.seconds = time.perf_counter() - self.began
        self._save()

    def _save(self) -> None:
        """The state first, then the model file made from it, so that both agree after a kill at any moment."""
        if self.world.leads:
            save_state(self.folder, self.state, self.network, self.optimizer, self.identity)
            self.publish(self.state.best or self.network.state_dict(), self.state)
        self.saved = time.perf_counter()

    def _note(self) -> str:
        rows = self.state.history
        loss = next((f"loss {r.loss:.3f}" for r in reversed(rows) if r.loss is not None), "")
        dice = next((f"validation Dice {r.validation_dice:.3f}" for r in reversed(rows) if r.validation_dice is not None), "")
        return " · ".join(part for part in (f"step {self.state.step}", loss, dice) if part)


def make_optimizer(network: nn.Module, settings: TrainingSettings, device: torch.device) -> torch.optim.Optimizer:
    """AdamW or SGD; weights decay, biases and normalisation do not."""
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [g for g in groups if g["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.lr, fused=device.type in ("cpu", "cuda"))


def use_bfloat16(precision: str, device: torch.device, patch: Sequence[int]) -> bool:
    """Whether convolutions run in bfloat16: as told, or where the hardware computes it faster than float32.

    Not in thin volumes on the CPU: there gradients of weights became NaN, though all that went in was finite.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cpu" and len(patch) == 3 and min(patch) < THIN:
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(supported and supported())
    return False
