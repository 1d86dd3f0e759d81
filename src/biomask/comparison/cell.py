"""One training of a comparison, in a process of its own: train, predict the images that it is judged by, note what it cost.

`python -m biomask.comparison.cell FOLDER` does what FOLDER/cell.json says. What was begun goes on; it ends when whoever started it
does.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch

from biomask.checkpoint import Model, load_model, network_of
from biomask.comparison.splits import test_pairs
from biomask.data.dataset import Dataset, open_dataset
from biomask.data.pairing import Pair
from biomask.data.task import Task
from biomask.device import choose_device
from biomask.errors import BiomaskError, DiskFullError, StoppedError
from biomask.io.files import write_text
from biomask.models.blocks import parameter_count
from biomask.models.own import is_own
from biomask.prediction.folder import Job, Wanted
from biomask.prediction.options import PredictOptions
from biomask.prediction.predict import predict
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings, Recipe
from biomask.recipes.describe import flops
from biomask.training.distributed import World
from biomask.training.lock import locked
from biomask.training.setup import Place, make_trainer
from biomask.transforms import normalization_of

CELL_FILE, RESULT_FILE = "cell.json", "result.json"

#: The exit code where the disk is full, which ends the other trainings, too.
DISK_FULL = 4

#: Sides of the prediction whose operations are counted: 2D, 3D.
SIDES = {2: 512, 3: 64}


def run_cell(folder: Path, progress: Progress) -> dict[str, Any]:
    """Do what cell.json in a folder says; returns what result.json then holds. Raises StoppedError where a signal stopped it."""
    told = json.loads((folder / CELL_FILE).read_text(encoding="utf-8"))
    recipe = Recipe.model_validate(told["recipe"])
    device = choose_device(told["device"])
    whole = open_dataset(told["data"], DataSettings.model_validate(told["settings"]), normalization_of(recipe.normalization),
                         masks=told["masks"], progress=progress)
    recipe = recipe.model_copy(update={"data": whole.settings.model_copy(
        update={"validation_share": recipe.data.validation_share})})
    dataset = chosen(whole, told["train"])
    with locked(folder / "model" / "resume"):
        trainer = make_trainer(dataset, recipe, Place(folder / "model", device, World(), progress))
        state, stopped = trainer.run()
    if stopped:
        raise StoppedError(f"by {stopped} at step {state.step}", fix="run the same command again to go on")
    model = load_model(folder / "model")
    seconds, pixels = _predict(model, judged(told, whole), folder, told["device"], progress)
    result = {"parameters": parameter_count(trainer.network), "flops": operations(model), "steps": state.step,
              "training_seconds": round(state.seconds, 2), "prediction_seconds": round(seconds, 3), "predicted_pixels": pixels,
              "peak_bytes": peak_bytes(device), "device": str(device), "validation_score": state.best_score,
              "train_images": len(dataset)}
    write_text(folder / RESULT_FILE, json.dumps(result, indent=2))
    return result


def chosen(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The part of a data set with these images; nothing of the others is known to it but the range of their grey values."""
    wanted = set(names)
    found = dataset.subset([i for i, p in enumerate(dataset.pairs) if p.name in wanted])
    hashes = {k: v for item in found.inspected for k, v in item.hashes.items()}
    pairs = [replace(p, part=None) for p in found.pairs]  # what is held out to choose weights is chosen anew, for all alike
    return replace(found, pairs=pairs, facts=replace(found.facts, hashes=hashes))


def judged(told: dict[str, Any], dataset: Dataset) -> list[Pair]:
    """The images that a training is judged by."""
    wanted = set(told["test"])
    own = [p for p in dataset.pairs if p.name in wanted]
    return own or [p for p in test_pairs(told["data"], dataset, told["masks"]) if p.name in wanted]


def _predict(model: Model, pairs: Sequence[Pair], folder: Path, device: str, progress: Progress) -> tuple[float, int]:
    """(seconds, pixels) of predicting images into the cell's out/."""
    out = folder / "out"
    structures = tuple(e.name for e in model.legend)[1:] if model.task.kind == "multilabel" else ()
    wanted = Wanted(objects=True, structures=structures, detections=model.is_detector)
    began = time.perf_counter()
    predict(model, folder, out, PredictOptions(device=device, overwrite=True), progress=progress,
            jobs=[Job(p.short_name, p.image, out, wanted, p.plane) for p in pairs])
    seconds = time.perf_counter() - began
    images = json.loads((out / "run.json").read_text(encoding="utf-8"))["images"]
    return seconds, sum(prod(entry["size"]) for entry in images.values())


def operations(model: Model) -> float | None:
    """Of one prediction of 512² pixels or 64³ voxels; None of a network of the user's own, which may not run without data, and of a
    detector, whose work depends on what it finds."""
    header = model.header
    if is_own(header.recipe.network.name) or header.is_detector:
        return None
    with torch.device("meta"):
        network = network_of(header.recipe, Task.of(header.kind, model.legend, header.recipe.instances.target),
                             in_channels=header.in_channels, spatial_dims=header.spatial_dims)
    return flops(network, SIDES[header.spatial_dims])


def peak_bytes(device: torch.device) -> int | None:
    """Most memory of this process so far: of the GPU where one is used, else the resident set; None where it is not known."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) * (1 if sys.platform == "darwin" else 1024)


class Lines(Silent):
    """Progress as plain lines on stdout, which go into the cell's log."""

    def say(self, message: str) -> None:
        print(message, flush=True)  # noqa: T201  this process has no other voice

    def warn(self, message: str) -> None:
        print(f"warning: {message}", flush=True)  # noqa: T201


def _end_with_parent() -> None:
    """Stop as by SIGTERM when stdin, which the parent holds, closes: a parent that was killed leaves nothing running."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(folder: Path) -> int:
    """The exit code: 0 done, 3 stopped, 4 the disk is full, 1 failed, with the error as the last lines of the output."""
    _end_with_parent()
    lines: Progress = Lines()
    try:
        run_cell(folder, lines)
    except (BiomaskError, OSError) as error:
        if _is_full(error):
            sys.stdout = None  # what the log did not take is not tried once more when the process ends
            return DISK_FULL
        if not isinstance(error, BiomaskError):
            raise
        lines.say(f"error: {error}")
        return error.exit_code
    return 0


def _is_full(error: BiomaskError | OSError) -> bool:
    """Whether the disk is full; the log of the training itself may be what it does not take."""
    return isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
