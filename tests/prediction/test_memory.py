"""`--memory` is a bound: measured on the whole process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from biomask import api
from biomask.data.synthetic import phase_contrast_cells
from biomask.io.files import write_picture
from biomask.models import UNet
from biomask.prediction.memory import TooLittleMemory, activation_bytes, fit_tile


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The default network, full width, one step."""
    root = tmp_path_factory.mktemp("memory")
    folder = root / "data"
    for i in range(2):
        image, cells = phase_contrast_cells(0, i, (64, 64))
        write_picture(folder / "images" / f"{i}.png", image)
        write_picture(folder / "masks" / f"{i}.png", np.where(cells > 0, 255, 0).astype(np.uint8))
    api.train(folder, root / "model", api.TrainOptions(steps=1, settings=("training.batch=1",)))
    write_picture(root / "large" / "large.png", np.random.default_rng(0).integers(0, 255, (1500, 1500), dtype=np.uint8))
    return root


#: Starts a command from a process that is small itself: until a child's exec, the peak that the system keeps for it is
#: that of its parent, and pytest is large.
LAUNCHER = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def predict(folder: Path, memory: str, images: Path | None = None) -> tuple[int, float, str]:
    """(exit code, peak resident bytes, stderr) of a real process."""
    command = [sys.executable, "-m", "biomask", "predict", str(folder / "model"), str(images or folder / "large"),
               "-o", str(folder / memory), "--memory", memory, "--device", "cpu"]
    run = subprocess.run([sys.executable, "-c", LAUNCHER, *command], capture_output=True, text=True, check=True)
    code, peak = run.stdout.split()
    return int(code), int(peak) * (1 if sys.platform == "darwin" else 1024), run.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the peak memory of a child is read with getrusage")
def test_the_process_stays_within_the_bound(model):
    """A bound a little above what this build of torch needs by itself."""
    code, _, errors = predict(model, "100MB")
    assert code == 1
    bound = float(errors.split("give at least --memory ")[1].split("MB")[0]) + 100
    code, peak, errors = predict(model, f"{bound:.0f}MB")
    assert code == 0, errors
    assert peak <= bound * 1e6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the peak memory of a child is read with getrusage")
@pytest.mark.parametrize("more", [1000, 2000, 3000])
def test_with_room_for_kept_memory_it_stays_within_the_bound_too(model, more):
    """Images of unlike size, one after the other: gaps between blocks add up."""
    images = model / "unlike"
    for n, size in enumerate([(300, 900), (1200, 700), (400, 400), (1500, 1500), (800, 1300)]):
        write_picture(images / f"{n}.png", np.random.default_rng(n).integers(0, 255, size, dtype=np.uint8))
    _, _, errors = predict(model, "100MB")
    bound = float(errors.split("give at least --memory ")[1].split("MB")[0]) + more
    code, peak, errors = predict(model, f"{bound:.0f}MB", images)
    assert code == 0, errors
    assert peak <= bound * 1e6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the peak memory of a child is read with getrusage")
def test_too_little_is_refused_and_what_is_named_suffices(model):
    code, _, errors = predict(model, "200MB")
    assert code == 1
    assert "Traceback" not in errors
    enough = errors.split("give at least --memory ")[1].split()[0]
    code, peak, errors = predict(model, enough)
    assert code == 0, errors
    assert peak <= float(enough.removesuffix("MB")) * 1e6


def test_activations_are_counted_without_running():
    """At the last concatenation the skip, the up-sampled map and both together are alive: 4 x width maps."""
    network = UNet(1, 2, width=8, depth=2).eval()
    assert activation_bytes(network, (64, 64)) >= 4 * 8 * 64 * 64 * 4
    assert activation_bytes(network, (64, 64)) <= 1.1 * (4 * 8 + 1) * 64 * 64 * 4
    assert activation_bytes(network, (128, 128)) == pytest.approx(4 * activation_bytes(network, (64, 64)), rel=0.01)


def test_more_memory_never_costs_more_work():
    network = UNet(1, 2, width=8, depth=3).eval()
    tiles = [fit_tile(network, (900, 700), budget) for budget in (2e7, 5e7, 2e8, 2e9)]
    areas = [t[0] * t[1] for t in tiles]
    assert areas == sorted(areas)
    assert tiles[-1][0] >= 900
    assert tiles[-1][1] >= 700
    with pytest.raises(TooLittleMemory):
        fit_tile(network, (900, 700), 1e5)


def test_counting_leaves_the_network_as_it_was():
    network = UNet(1, 2, width=2, depth=1).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    activation_bytes(network, (32, 32))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
