"""`compare`: every recipe with every seed on every split, then the table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import biomask
from biomask.comparison.cell import CELL_FILE, DISK_FULL, RESULT_FILE
from biomask.comparison.cells import Cell, plan_cells
from biomask.comparison.options import CompareOptions, checked_names
from biomask.comparison.splits import Splits, choose_splits
from biomask.comparison.table import assemble
from biomask.data.dataset import open_dataset
from biomask.errors import BiomaskError, DiskFullError, InputError, ResourceError, StoppedError, UsageError
from biomask.evaluation.evaluate import Judged
from biomask.io.files import require_writable, write_text
from biomask.progress import Progress, Silent
from biomask.recipe import Recipe
from biomask.training.lock import locked
from biomask.training.stopping import StopFlag, stop_on_signals
from biomask.transforms import normalization_of
from biomask.words import count

RECORD_FILE, CELLS = "comparison.json", "cells"

#: Of each training where no budget is given.
DEFAULT_MINUTES = 10.0

#: Seconds between two looks at a running cell, and those that a stopped one gets to save.
LOOK, GRACE = 0.2, 120.0


@dataclass(frozen=True)
class Compared:
    """A comparison, with what it takes to look at its images."""

    record: dict[str, Any]
    """The content of comparison.json."""
    sides: dict[str, Judged]
    """The evaluation of each row of the table, of its first seed."""
    errors: tuple[BiomaskError, ...] = ()
    """Of trainings that failed; the table lacks their recipes."""


def compare(data: str | Path, recipes: Sequence[Recipe], out: str | Path, options: CompareOptions | None = None, *,
            progress: Progress | None = None) -> Compared:
    """Train and judge every recipe on the same splits of a data folder; what is there already is kept.

    Writes below `out`: cells/ (a model, its predictions and costs each), predictions/ and evaluations/ of each recipe and seed,
    comparison.csv and comparison.json. Raises InputError for data or a folder that cannot work, StoppedError where a signal
    stopped it, and DiskFullError at once, before the trainings that follow.
    """
    options, progress, out = options or CompareOptions(), progress or Silent(), Path(out)
    checked_names(recipes, options.external)
    if Path(data).exists() and Path(data).resolve() in (out.resolve(), *out.resolve().parents):
        raise UsageError(f"-o {out} lies in the data folder", fix="give another folder: nothing is written beside inputs")
    require_writable(out)
    _require_ours(out)
    with locked(out / CELLS):
        if options.overwrite:
            _forget(out)
        return _compare(data, recipes, out, options, progress)


def _compare(data: str | Path, recipes: Sequence[Recipe], out: Path, options: CompareOptions, progress: Progress) -> Compared:
    """As `compare`, in a folder that is ours alone."""
    dataset = open_dataset(data, options.data, normalization_of(recipes[0].normalization) if recipes else
                           normalization_of(Recipe(name="none").normalization), masks=options.masks, progress=progress)
    splits = choose_splits(data, dataset, options)
    progress.say(f"splits: {splits.says}")
    cells = plan_cells([_budgeted(r, options) for r in recipes], splits, options)
    record = _plan(data, cells, splits, options, dataset.facts.hashes)
    _take(out, record, cells, options)
    errors = _run_all(cells, out, record, options, progress)
    done = [c for c in cells if (out / CELLS / c.place / RESULT_FILE).is_file()]
    found, sides = assemble(out, data, _complete(done, len(splits.splits)), options, dataset.settings, progress)
    record |= found | {"failed": [str(e) for e in errors]}
    write_text(out / RECORD_FILE, json.dumps(record, indent=2, ensure_ascii=False))
    return Compared(record, sides, tuple(errors))


def _budgeted(recipe: Recipe, options: CompareOptions) -> Recipe:
    minutes = DEFAULT_MINUTES if options.minutes is None and options.steps is None else options.minutes
    training = recipe.training.model_copy(update={"minutes": minutes, "steps": options.steps})
    return recipe.model_copy(update={"training": training})


def _plan(data: str | Path, cells: Sequence[Cell], splits: Splits, options: CompareOptions,
          hashes: Mapping[str, str]) -> dict[str, Any]:
    """What comparison.json says before anything is trained, and what must be the same to go on."""
    return {"command": "compare", "biomask_version": biomask.__version__, "data": str(data), "data_sha256": _digest(hashes),
            "splits": splits.says, "folds": len(splits.splits), "seeds": list(options.seeds), "sizes": sorted(options.sizes),
            "minutes": cells[0].recipe.training.minutes if cells else None, "steps": options.steps,
            "judged": [list(s.test) for s in splits.splits],
            "recipes": {c.recipe.name: c.recipe.model_dump(mode="json", exclude={"data"}) for c in cells}}


def _digest(hashes: Mapping[str, str]) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()


#: Keys of a plan in which a comparison that goes on may not differ; recipes may be added.
SAME = ("data_sha256", "judged", "minutes", "steps")


def _require_ours(out: Path) -> None:
    """Raise InputError for a folder with something else that has our names."""
    if not (out / RECORD_FILE).is_file() and any((out / name).exists() for name in ("predictions", "evaluations")):
        raise InputError("holds folders that biomask compare did not write", where=out, fix="choose another -o")


def _take(out: Path, record: Mapping[str, Any], cells: Sequence[Cell], options: CompareOptions) -> None:
    """Raise InputError for a folder with another comparison; note the plan in an empty one."""
    path = out / RECORD_FILE
    if not path.is_file():
        write_text(path, json.dumps(record, indent=2, ensure_ascii=False))
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["command"] != "compare":
            raise KeyError("command")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("is not a record of biomask compare", where=path, fix="choose another -o") from error
    changed = [key for key in SAME if before.get(key) != record[key]]
    changed += sorted({f"recipe {c.recipe.name}" for c in cells if _differs(c, out / CELLS / c.place, options)})
    if changed:
        raise InputError(f"holds a comparison with other settings or data ({', '.join(changed)})", where=out,
                         fix="choose another -o, or start again with --overwrite")


def _differs(cell: Cell, folder: Path, options: CompareOptions) -> bool:
    """Whether a cell that is there was trained otherwise: what it was told says so, whatever was compared since."""
    try:
        before = json.loads((folder / CELL_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    now = json.loads(json.dumps(_told(cell, "", options)))
    return any(before.get(key) != now[key] for key in ("recipe", "settings", "train", "test"))


def _forget(out: Path) -> None:
    """Remove an earlier comparison's files, and nothing else."""
    if not (out / RECORD_FILE).is_file():
        return
    for folder in (out / "predictions", out / "evaluations", *(p for p in (out / CELLS).iterdir() if p.is_dir())):
        shutil.rmtree(folder, ignore_errors=True)
    for name in (RECORD_FILE, "comparison.csv", "report.html"):
        (out / name).unlink(missing_ok=True)


def _run_all(cells: Sequence[Cell], out: Path, record: Mapping[str, Any], options: CompareOptions,
             progress: Progress) -> list[BiomaskError]:
    """Do what is missing, one after the other; the errors of those that failed. Raises StoppedError where a signal came."""
    errors = list[BiomaskError]()
    missing = [c for c in cells if not (out / CELLS / c.place / RESULT_FILE).is_file()]
    if len(missing) < len(cells):
        progress.say(f"done already: {len(cells) - len(missing)} of {count(len(cells), 'training')}")
    if missing and record["minutes"] is not None:
        hours = len(missing) * record["minutes"] / 60
        progress.say(f"{count(len(missing), 'training')} of {record['minutes']:g} minutes each: about {hours:.1f} hours, and "
                     "the time to predict")
    stopping = "stopping: the training that runs is saved"
    with stop_on_signals(lambda: progress.warn(stopping)) as stop, progress.bar("comparing") as bar:
        for n, cell in enumerate(missing):
            note = f"{cell.place} ({n + 1} of {len(missing)})"
            bar.update(n / len(missing), note)
            error = _run_cell(cell, out / CELLS / cell.place, str(record["data"]), options, stop)
            if stop.signal is not None:
                raise StoppedError(f"by {stop.signal}: {n} of {len(missing)} trainings were done, and what ran is saved",
                                   fix="run the same command again to go on")
            if error is not None:
                errors.append(error)
                progress.warn(str(error))
            bar.update((n + 1) / len(missing), note)
    return errors


def _told(cell: Cell, data: str, options: CompareOptions) -> dict[str, Any]:
    """What a cell's process needs to know."""
    recipe = cell.recipe.model_copy(update={"training": cell.recipe.training.model_copy(update={"seed": cell.seed})})
    return {"recipe": recipe.model_dump(mode="json"), "data": data, "masks": None if options.masks is None else str(options.masks),
            "settings": options.data.model_dump(mode="json"), "device": options.device, "train": list(cell.split.train),
            "test": list(cell.split.test)}


def _run_cell(cell: Cell, folder: Path, data: str, options: CompareOptions, stop: StopFlag) -> BiomaskError | None:
    """Run a cell in a process of its own; its error where it failed. Raises DiskFullError, since no other could be done either."""
    write_text(folder / CELL_FILE, json.dumps(_told(cell, data, options), ensure_ascii=False))
    log = folder / "log.txt"
    with log.open("ab") as file, subprocess.Popen([sys.executable, "-m", "biomask.comparison.cell", str(folder)],
                                                  stdin=subprocess.PIPE, stdout=file, stderr=file) as process:
        told: float | None = None
        try:
            while process.poll() is None:
                if stop.signal is not None and told is None:
                    process.terminate()
                    told = time.monotonic()
                if told is not None and time.monotonic() - told > GRACE:
                    process.kill()
                time.sleep(LOOK)
        except BaseException:
            process.terminate()
            raise
    if process.returncode == 0 or stop.signal is not None:
        return None
    if process.returncode == DISK_FULL:
        raise DiskFullError(f"the disk is full: it ended the training {cell.place}", where=folder,
                            fix="free some space and run the same command again: what is done is kept")
    kind = ResourceError if process.returncode < 0 or process.returncode == ResourceError.exit_code else InputError
    return kind(f"{cell.place}: {_last_words(log, process.returncode)}", where=log,
                fix="mend it and run the same command again: what is done is kept")


def _last_words(log: Path, code: int) -> str:
    """Why a cell failed, from the end of its log."""
    if code < 0:
        return f"was ended by signal {-code}, as when memory runs out"
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    if "error: " in text:
        return text.rpartition("error: ")[2].strip().splitlines()[0]
    lines = text.strip().splitlines()
    return lines[-1] if lines else f"ended with code {code}"


def _complete(done: Sequence[Cell], folds: int) -> list[Cell]:
    """The cells of recipes, seeds and sizes of which all folds are there."""
    counts: dict[tuple[str, int, int | None], int] = {}
    for c in done:
        counts[c.recipe.name, c.seed, c.size] = counts.get((c.recipe.name, c.seed, c.size), 0) + 1
    return [c for c in done if counts[c.recipe.name, c.seed, c.size] == folds]
