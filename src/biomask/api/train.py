"""`train`: a data folder into a model folder."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import biomask
from biomask.allocator import freed_memory_kept
from biomask.api.settings import TrainOptions, resolve_recipe
from biomask.checkpoint import MODEL_FILE
from biomask.data.dataset import open_dataset
from biomask.data.task import Task
from biomask.device import choose_device
from biomask.errors import BiomaskError, UsageError
from biomask.io.files import require_writable, write_text
from biomask.progress import Progress, Silent
from biomask.recipe import Recipe
from biomask.training.begin import begin_recipe, read_begin
from biomask.training.distributed import joined, local_device
from biomask.training.folds import train_folds
from biomask.training.lock import locked
from biomask.training.resume import State
from biomask.training.setup import PLAN_FILE, Place, make_trainer
from biomask.training.validation import score_name
from biomask.transforms import normalization_of

#: Fewer steps than this hardly train any network.
FEW_STEPS = 100


@dataclass(frozen=True)
class TrainResult:
    """What a training gave."""

    model: Path
    """The model folder."""
    step: int
    seconds: float
    """Training time in all runs, validation included."""
    validation_score: float | None
    """On the held-out images, of the weights kept: mean Dice, of objects average precision (`biomask.training.objective.Score`);
    over folds their mean. It chose the weights, so it flatters a little."""
    stopped_by: str | None
    """The signal that stopped it; None when the budget was used up."""
    score_is: str = "score"
    """What the score is, for people."""
    scored: int = 0
    """How many held-out images the score is over."""
    tuned_score: float | None = None
    """On held-out images, with thresholds or the cut tuned on them; None where nothing was tuned."""
    score_before: float | None = None
    """Of the weights that it began with, on the same images."""


@freed_memory_kept()
def train(data: str | Path, out: str | Path, options: TrainOptions | None = None, *,
          progress: Progress | None = None) -> TrainResult:
    """Train on a data folder into the model folder `out`; run again, it resumes.

    Under `torchrun` all processes train as one. Raises InputError for data, settings or an `out` that cannot work, and
    where nothing was learnt.
    """
    options, out = options or TrainOptions(), Path(out)
    device = local_device(choose_device(options.device))
    _check_place(out, Path(data))
    with joined(device) as world, locked(out / "resume") if world.leads else nullcontext():
        progress = progress if progress is not None and world.leads else Silent()
        begin = read_begin(options.begin) if options.begin is not None else None
        recipe = begin_recipe(resolve_recipe(options), begin, tuple(options.settings))
        dataset = open_dataset(data, recipe.data, normalization_of(recipe.normalization), masks=options.masks, progress=progress)
        recipe = recipe.model_copy(update={"data": dataset.settings})
        if options.overwrite and world.leads:
            _forget(out)
        world.total(torch.zeros(1, device=device))  # nobody reads the state before it is forgotten
        place = Place(out, device, world, progress)
        if options.folds is not None:
            results, stopped = train_folds(dataset, recipe, place, options.folds, begin)
            states, validation = [r.state for r in results], None
        else:
            trainer = make_trainer(dataset, recipe, place, begin=begin)
            state, stopped = trainer.run()
            states, validation, recipe = [state], trainer.objective.validation, trainer.recipe
    if world.leads and (out / MODEL_FILE).is_file():
        from biomask.reports.write import read_choices, write_training_report

        _write_record(out, data, recipe, device, states, stopped, read_choices(out))
        try:
            write_training_report(out, dataset, validation, device)
        except BiomaskError as error:  # such as an image that broke since
            progress.warn(f"the model is complete, its report is not written: {error}; mend it, then run the same command again")
    return _result(out, states, recipe, stopped, score_name(Task.of(dataset.facts.kind, dataset.legend)), progress)


def _result(out: Path, states: Sequence[State], recipe: Recipe, stopped: str | None, what: str, progress: Progress) -> TrainResult:
    last = states[-1]
    minutes, step = recipe.training.minutes, max(s.step for s in states)
    if minutes is not None and step < FEW_STEPS and not stopped:
        progress.warn(f"only {step} steps in {minutes:g} minutes: this model is hardly trained; "
                      f"run again with, for example, --minutes {max(10, round(10 * minutes))}")
    scores = [s.best_score for s in states if s.best_step is not None]
    before = last.before.get("value")
    if before is not None and last.best_step == 0 and not stopped:
        progress.warn("training did not improve the score on the images held out: the weights that it began with are kept")
    tuned = [v for s in states for k in ("thresholds tuned", "cut tuned") if (v := s.trials.get(k)) is not None]
    return TrainResult(out, step, sum(s.seconds for s in states), float(np.mean(scores)) if scores else None, stopped, what,
                       sum(len(s.best_images) for s in states), float(np.mean(tuned)) if tuned else None, before)


def _check_place(out: Path, data: Path) -> None:
    """Refuse a model folder among the data, or where nothing can be written, before any work is done."""
    if data.resolve() in (out.resolve(), *out.resolve().parents) and data.exists():
        raise UsageError(f"-o {out} lies in the data folder", fix="give another folder: nothing is written beside inputs")
    mine = any((out / name).exists() for name in (MODEL_FILE, "resume", "folds"))
    strange = [name for name in ("run.json", "log.csv", "report.html", "model_card.md") if (out / name).exists() and not mine]
    if strange:
        raise UsageError(f"-o {out} holds {', '.join(strange)} but no model: they would be overwritten", fix="give another folder")
    require_writable(out)


def _forget(out: Path) -> None:
    """Remove an earlier training's files, and nothing else."""
    folders = [out, *(p for p in (out / "folds").glob("*") if p.name.isdecimal())]
    for folder in folders:
        for name in (MODEL_FILE, "run.json", "log.csv", "report.html", "model_card.md", "resume/state.safetensors",
                     f"resume/{PLAN_FILE}"):
            (folder / name).unlink(missing_ok=True)


def _write_record(out: Path, data: str | Path, recipe: Recipe, device: torch.device, states: Sequence[State],
                  stopped: str | None, choices: Sequence[str]) -> None:
    state = states[-1]
    record = {"command": "train", "data": str(data), "biomask_version": biomask.__version__,
              "torch_version": torch.__version__, "device": str(device), "step": state.step,
              "best_step": state.best_step, "seconds": round(sum(s.seconds for s in states), 1),
              "folds": len(states) if len(states) > 1 else None, "finished": bool(state.finished),
              "stopped_by": stopped, "heads": [asdict(h) for h in state.heads], "choices": list(choices),
              "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "recipe": recipe.model_dump(mode="json")}
    write_text(out / "run.json", json.dumps(record, indent=2, ensure_ascii=False))
