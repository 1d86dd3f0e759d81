"""Fixtures that all tests share."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # a busy machine is no mistake of the code
settings.load_profile("unhurried")

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread a worker: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

#: The smallest U-Net that still pools, skips and normalises; predictions are those of the network itself.
TINY = ("network.options.width=2", "network.options.depth=1", "network.options.norm=batch", "prediction.augment=none")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data; skips where it is missing."""
    root = Path(os.environ.get("BIOMASK_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"real data are not in {root}: set BIOMASK_DATA to the folder that has them")
    return root


def draw_truth(index: int, size: tuple[int, ...], classes: tuple[int, ...]) -> np.ndarray:
    """Class positions 0..K-1 (*size): bands along the last axis, every class there, another place in every image."""
    along = (np.arange(size[-1]) + 3 * index) % size[-1]
    return np.broadcast_to(along * len(classes) // size[-1], size).copy()


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    """make_dataset(folder, n=4, size=(48, 48), classes=(0, 255), channels=1, volume=False) → folder.

    Writes images/ and masks/ named im_00, im_01, …: PNG, or TIFF for volumes, which get 8 slices of `size`. The grey
    value tells the class, so that a few steps learn it.
    """
    import tifffile

    from biomask.io.files import write_picture

    def make(folder: Path, n: int = 4, size: tuple[int, int] = (48, 48), classes: tuple[int, ...] = (0, 255),
             channels: int = 1, volume: bool = False) -> Path:
        shape = (8, *size) if volume else size
        for index in range(n):
            rng = np.random.default_rng(index)
            truth = draw_truth(index, shape, classes)
            grey = 40 + 160 * truth / max(1, len(classes) - 1)
            image = np.stack([np.clip(grey + rng.normal(0, 6, shape), 0, 255) for _ in range(channels)]).astype(np.uint8)
            mask = np.asarray(classes, np.min_scalar_type(max(classes)))[truth]
            name = f"im_{index:02d}"
            if volume:
                for sub, array, axes in (("images", image.swapaxes(0, 1) if channels > 1 else image[0],
                                          "ZCYX" if channels > 1 else "ZYX"), ("masks", mask, "ZYX")):
                    (folder / sub).mkdir(parents=True, exist_ok=True)
                    tifffile.imwrite(folder / sub / f"{name}.tif", array, imagej=True, metadata={"axes": axes})
            else:
                write_picture(folder / "images" / f"{name}.png", image[0] if channels == 1 else image)
                write_picture(folder / "masks" / f"{name}.png", mask)
        return folder

    return make


def _train(folder: Path, data: Path, *settings: str) -> Path:
    from biomask import api

    options = api.TrainOptions(settings=(*TINY, "training.batch=2", *settings), steps=3, seed=0, device="cpu")
    return api.train(data, folder, options).model


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory, make_dataset: Callable[..., Path]) -> Path:
    """The data folder of `tiny_model`: 4 images of 48 x 48 with values 0 and 255. Read it, don't write to it."""
    return make_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A model folder after 3 steps: 1 channel, classes 0 and 255. Read it, don't write to it."""
    return _train(tmp_path_factory.mktemp("tiny") / "model", tiny_data)


@pytest.fixture(scope="session")
def tiny_model_3d(tmp_path_factory: pytest.TempPathFactory, make_dataset: Callable[..., Path]) -> Path:
    """The same for volumes of 8 x 16 x 16."""
    folder = tmp_path_factory.mktemp("tiny3d")
    return _train(folder / "model", make_dataset(folder / "data", size=(16, 16), volume=True))


#: Of each kind: what the network of `rule_model` says of a grey value v, as (slope, offset) a channel in units of v - 100.
RULES = {"classes": [(0, 0), (1, 0)], "three": [(0, 0), (1, 0), (2, -90)], "multilabel": [(1, 0), (1, -100)],
         "instances": [(0, 0), (1, 0), (1, -100), (0, -9)]}


@pytest.fixture(scope="session")
def rule_model() -> Callable[..., Path]:
    """rule_model(folder, kind, dims=2, **header) → folder: a model whose output follows from the grey value of each pixel alone.

    Values above 100 are foreground; kind: a key of RULES, "three" = background, cell, bright (from 190 on).
    """
    import torch

    from biomask.checkpoint import MODEL_FILE, ModelHeader, build_network, save_model
    from biomask.labels import Legend
    from biomask.recipe import NetworkSettings, NormalizationSettings, Recipe

    def make(folder: Path, kind: str, dims: int = 2, **header: object) -> Path:
        recipe = Recipe(name="rule", network=NetworkSettings(name="one-layer", options={"kernel": 1}),
                        normalization=NormalizationSettings(method="none"))
        names = {"classes": {255: "cell"}, "three": {1: "cell", 7: "bright"}, "multilabel": {1: "disc", 2: "cup"},
                 "instances": {1: "cell"}}[kind]
        made = ModelHeader(**{"recipe": recipe, "in_channels": 1, "spatial_dims": dims,
                              "kind": "classes" if kind == "three" else kind,
                              "legend": Legend.of_values([0, *names], names).to_json(), "dtype": "uint8", **header})
        network = build_network(recipe, in_channels=1, channels=made.task.channels, spatial_dims=dims)
        slopes, offsets = torch.tensor(RULES[kind], dtype=torch.float32).T
        weight = slopes.reshape(network.state_dict()["conv.weight"].shape).contiguous()
        save_model(folder / MODEL_FILE, {"conv.weight": weight, "conv.bias": offsets - 100 * slopes}, made)
        return folder

    return make


@pytest.fixture(scope="session")
def draw_scene() -> Callable[..., np.ndarray]:
    """draw_scene(seed, size=(60, 70), count=6) → uint8: bright balls that do not touch, brightest inside."""

    def draw(seed: int, size: tuple[int, ...] = (60, 70), count: int = 6) -> np.ndarray:
        rng = np.random.default_rng(seed)
        image, placed = rng.integers(0, 80, size).astype(np.uint8), list[np.ndarray]()
        grid = np.stack(np.indices(size), -1)
        while len(placed) < count:
            centre = np.array([rng.uniform(5, n - 5) for n in size])
            if all(np.linalg.norm(centre - c) > 12 for c in placed):
                placed.append(centre)
                away = np.linalg.norm(grid - centre, axis=-1)
                image[away <= 4] = 150
                image[away <= 2] = 240
        return image

    return draw


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_cli(*arguments, cwd=None, encoding="utf-8") runs `python -m biomask …` in a process of its own."""

    def run(*arguments: object, cwd: Path | None = None, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": encoding}
        return subprocess.run([sys.executable, "-m", "biomask", *map(str, arguments)], capture_output=True, text=True,
                              encoding=encoding, timeout=120, cwd=cwd, env=environment)

    return run


@pytest.fixture
def time_limit() -> Callable[[float], object]:
    """`with time_limit(seconds):` fails the test, rather than the whole run, where something hangs."""

    @contextmanager
    def limit(seconds: float) -> Iterator[None]:
        if not hasattr(signal, "setitimer"):  # Windows: no limit
            yield
            return

        def expired(number: int, frame: object) -> None:
            pytest.fail(f"still running after {seconds} s")

        before = signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return limit


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 kB; skips where mounting one is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    except OSError:
        pytest.skip("this machine has no mount command")
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A web server of this process, see `web.py`; no proxy stands before it."""
    spec = importlib.util.spec_from_file_location("tests_web", Path(__file__).with_name("web.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["tests_web"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with module.serving() as found:
        yield found
