"""How much of a training step is spent inside the network: the rest is reading, warping, targets, loss, optimiser.

    python benchmarks/step_profile.py

Real images where they are there, the recipe `default` with the sizes that it chooses for ten minutes; each part is timed
in the same steps, side by side. All images are read once before, as a training of minutes has soon done.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from biomask import api
from biomask.allocator import freed_memory_kept
from biomask.data.dataset import open_dataset
from biomask.device import choose_device
from biomask.progress import Silent
from biomask.training import loop, segmentation
from biomask.training.distributed import World
from biomask.training.loop import Trainer
from biomask.training.setup import Place, make_trainer
from biomask.transforms import normalization_of
from common import data_root, record

SETS = {"isbi2012": ("isbi2012/train", {}), "dsb2018": ("dsb2018", {"channels": ("rgb",)}), "hippocampus": ("hippocampus", {}),
        "mouse_embryo3d": ("mouse_embryo3d/train", {})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    options = parser.parse_args()
    what = "share of a training step inside the network: forward, and backward from the loss on; median; images in memory"
    record("step_profile", {"what": what, "threads": torch.get_num_threads(),
                            "sets": {n: profile(n, options.steps) for n in options.sets}})


@contextmanager
def prepared(name: str) -> Iterator[Trainer]:
    """A trainer of the recipe `default` before its first step, with all images in memory."""
    folder, data = SETS[name]
    recipe = api.resolve_recipe(api.TrainOptions(minutes=10, data=data))
    dataset = open_dataset(data_root() / folder, recipe.data, normalization_of(recipe.normalization))
    with tempfile.TemporaryDirectory() as out:
        place = Place(Path(out), choose_device("cpu"), World(), Silent())
        trainer = make_trainer(dataset, recipe.model_copy(update={"data": dataset.settings}), place)
        trainer._prepare()
        for i in range(len(trainer.objective.training)):
            trainer.objective.training.item(i)
        yield trainer


def profile(name: str, steps: int) -> dict[str, Any]:
    with prepared(name) as trainer, freed_memory_kept():
        learnt = trainer.objective
        loss = learnt.combined
        object.__setattr__(learnt, "combined", lambda *given: loss(*given))
        shares, parts = [], Counter[str]()
        for step in range(steps + 3):
            spent = Counter[str]()
            with timed(segmentation, "make_batch", spent), timed(segmentation, "make_targets", spent), \
                    timed(loop, "update_average", spent), timed(loop, "gradient_norm", spent), timed(learnt, "combined", spent), \
                    timed(trainer, "_backward", spent):
                began = time.perf_counter()
                trainer._step(0.5)
                whole = time.perf_counter() - began
            spent["loss"] = spent.pop("combined")
            spent["network"] = spent.pop("_backward") - spent["loss"] - spent["gradient_norm"]
            if step >= 3:  # memory is warm
                shares.append(spent["network"] / whole)
                parts.update({**spent, "step": whole})
    return {"share_inside_network": round(median(shares), 4),
            "patch": list(learnt.patch), "batch": trainer.batch,
            "milliseconds": {k: round(1000 * v / steps, 1) for k, v in parts.items()}}


class timed:
    """Adds up the time of a function of a module while the block runs."""

    def __init__(self, module: Any, name: str, spent: Counter[str]) -> None:
        self.module, self.name, self.spent, self.own = module, name, spent, getattr(module, name)

    def __enter__(self) -> None:
        setattr(self.module, self.name, self.measured(self.own))

    def __exit__(self, *_: object) -> None:
        setattr(self.module, self.name, self.own)

    def measured(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.spent[self.name] += time.perf_counter() - began
        return run


if __name__ == "__main__":
    main()
