"""Small trainings that tests of the loop share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biomask import api
from biomask.io.files import write_picture
from biomask.progress import Silent

#: A training of 12 steps takes about a second.
SMALL = ("network.options.width=2", "network.options.depth=1", "training.batch=2", "training.patch=[32, 32]",
         "training.validations=3", "prediction.augment=none")


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said = list[str]()
        self.warned = list[str]()

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)


@pytest.fixture
def heard() -> Heard:
    """A progress that keeps what it is told, in `said` and `warned`."""
    return Heard()


def write_objects(folder: Path, count: int = 6, side: int = 40) -> Path:
    """Images of bright discs, some of which touch, and their ids."""
    y, x = np.indices((side, side))
    for i in range(count):
        rng = np.random.default_rng(i)
        ids, centres = np.zeros((side, side), np.uint16), list[np.ndarray]()
        while len(centres) < 6 + i % 4:
            centre = rng.uniform(4, side - 4, 2)
            if all(np.hypot(*(centre - c)) > 7 for c in centres):  # nearer ones would cut each other into pieces
                centres.append(centre)
                ids[((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= 20) & (ids == 0)] = len(centres)
        grey = 60 + 110 * (ids > 0) + rng.normal(0, 8, ids.shape)
        write_picture(folder / "images" / f"im_{i:02d}.png", grey.clip(0, 255).astype(np.uint8))
        (folder / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(folder / "masks" / f"im_{i:02d}.tif", ids)
    return folder


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """A data folder of six images of objects, the test's own."""
    return write_objects(tmp_path / "data")


@pytest.fixture
def train() -> Callable[..., api.TrainResult]:
    """train(data, out, *settings, steps=12, progress=None, **options): a small training on the CPU."""

    def run(data: Path, out: Path, *settings: str, steps: int | None = 12, progress: Any = None, **options: Any) -> api.TrainResult:
        wanted = api.TrainOptions(settings=(*SMALL, *settings), steps=steps, device="cpu", **options)
        return api.train(data, out, wanted, progress=progress)

    return run
