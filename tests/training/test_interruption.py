"""Killed, stopped and shared-out trainings, as real processes."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from biomask import api
from biomask.checkpoint import load_model
from biomask.data.synthetic import phase_contrast_cells
from biomask.instances import Thresholds
from biomask.io.files import write_picture
from biomask.progress import Silent
from biomask.training.segmentation import SegmentationObjective

TINY = ["--set", "network.options.width=4", "--set", "network.options.depth=2", "--set", "training.patch=[48, 48]"]


#: The launcher behind `torchrun`.
TWO = ("torch.distributed.run", "--nproc-per-node", "2", "-m")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cells")
    for i in range(6):
        image, cells = phase_contrast_cells(3, i, (96, 96))
        write_picture(folder / "images" / f"{i}.png", image)
        write_picture(folder / "masks" / f"{i}.png", np.where(cells > 0, 255, 0).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> Path:
    """The same images with an id for each cell."""
    folder = tmp_path_factory.mktemp("objects")
    for i in range(6):
        image, cells = phase_contrast_cells(3, i, (96, 96))
        write_picture(folder / "images" / f"{i}.png", image)
        write_picture(folder / "masks" / f"{i}.png", cells.astype(np.uint16))
    return folder


def start(data: Path, out: Path, *options: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [sys.executable, "-m", *launcher, "biomask", "train", str(data), "-o", str(out), *TINY, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"OMP_NUM_THREADS": "1"})


def finish(process: subprocess.Popen) -> tuple[int, str]:
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err, err
    return process.returncode, out + err


def state_of(model: Path) -> dict[str, np.ndarray]:
    return load_file(model / "resume" / "state.safetensors")


def written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def assert_identical(a: Path, b: Path) -> None:
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    left, right = state_of(a), state_of(b)
    assert left.keys() == right.keys()
    assert [k for k in left if left[k].tobytes() != right[k].tobytes()] == []

    def without_time(log: Path) -> list[list[str]]:
        return [[c for i, c in enumerate(line.split(",")) if i != 1] for line in log.read_text().splitlines()]

    assert without_time(a / "log.csv") == without_time(b / "log.csv")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "steps"), [("data", "400"), ("objects", "150")])
def test_killed_at_random_steps_and_resumed_equals_uninterrupted_bit_for_bit(kind, steps, tmp_path, request):
    """With dropout, warps, changed looks and the average of the weights; for objects also with distances and thresholds."""
    data = request.getfixturevalue(kind)
    options = ("--steps", steps, "--seed", "5", "--set", "network.options.dropout=0.2", "--set", "augmentation.warp=0.5",
               "--set", "prediction.augment=none", *(("--labels", "instances") if kind == "objects" else ()))
    assert finish(start(data, tmp_path / "straight", *options))[0] == 0
    draw, resumed, output = random.Random(os.getpid()), 0, ""
    for _ in range(12):
        process = start(data, tmp_path / "killed", *options)
        model, last = tmp_path / "killed" / "model.safetensors", time.monotonic()  # the state is there from step 0 on
        before = written(model)
        while process.poll() is None and time.monotonic() - last < 60 and written(model) == before:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        _, output = process.communicate()
        resumed += "resuming at step" in output
        if process.returncode == 0:
            break
    code, output = finish(start(data, tmp_path / "killed", *options))
    assert code == 0, output
    assert resumed + ("resuming at step" in output) >= 2
    assert_identical(tmp_path / "straight", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_usable_model_and_the_run_goes_on_bit_for_bit(data, tmp_path, number):
    out, options = tmp_path / "stopped", ("--steps", "150")
    process = start(data, out, *options)
    while not (out / "model.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    code, output = finish(process)
    assert code == 3
    assert f"by {number.name} at step" in output
    assert "run the same command again" in output
    command = [sys.executable, "-m", "biomask", "predict", str(out), str(data / "images"), "-o", str(tmp_path / "p")]
    predicted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert predicted.returncode == 0, predicted.stderr
    code, output = finish(start(data, out, *options))
    assert code == 0
    assert "resuming at step" in output
    assert finish(start(data, tmp_path / "straight", *options))[0] == 0
    assert_identical(tmp_path / "straight", out)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "steps"), [("sgd", "8"), ("adamw", "3")])
def test_two_processes_equal_one(data, tmp_path, optimizer, steps):
    """Weights for SGD, the loss for both: AdamW divides by the gradient's own size, and so turns the rounding noise of
    weights without influence (biases that a batch normalisation takes away) into steps of full length."""
    options = ("--steps", steps, "--set", "training.precision=float32", "--set", "training.validations=2",
               "--set", f"training.optimizer={optimizer}")
    assert finish(start(data, tmp_path / "one", *options))[0] == 0
    code, output = finish(start(data, tmp_path / "two", *options, launcher=TWO))
    assert code == 0, output
    assert "x 2 processes" in output
    one, two = state_of(tmp_path / "one"), state_of(tmp_path / "two")
    assert one.keys() == two.keys()
    for key in (k for k in one if k.startswith("network.") and optimizer == "sgd"):
        assert np.abs(one[key].astype(float) - two[key]).max() <= 1e-5 * max(1.0, np.abs(one[key]).max()), key
    losses = [[line.split(",")[3] for line in (tmp_path / n / "log.csv").read_text().splitlines()[1:]] for n in ("one", "two")]
    assert np.allclose([float(v or 0) for v in losses[0]], [float(v or 0) for v in losses[1]], atol=1e-5)
    # One process goes on with what two left, and the other way round: the state does not know how many there were.
    more = ("--steps", "12", *options[2:])
    code, output = finish(start(data, tmp_path / "two", *more))
    assert code == 0
    assert f"resuming at step {steps}" in output


@pytest.mark.slow
def test_two_trainings_at_once_the_second_is_refused_and_the_first_unharmed(data, tmp_path):
    out, options = tmp_path / "m", ("--steps", "120", "--set", "prediction.augment=none")
    first = start(data, out, *options)
    while not (out / "model.safetensors").exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # so that it is still at work when the second comes
    code, output = finish(start(data, out, *options))
    first.send_signal(signal.SIGCONT)
    assert code == 1
    assert "another training is writing into this folder" in output
    assert finish(first)[0] == 0
    assert finish(start(data, tmp_path / "straight", *options))[0] == 0
    assert_identical(tmp_path / "straight", out)


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_out_is_refused(data, tmp_path):
    process = start(data, tmp_path / "m", "--steps", "2", "--set", "training.batch=3",
                    launcher=TWO)
    _, output = process.communicate(timeout=300)  # the launcher shows a traceback of its own
    assert process.returncode != 0
    assert "--set training.batch=4" in output
    assert not (tmp_path / "m" / "model.safetensors").exists()


@pytest.mark.slow
def test_running_again_after_the_end_does_nothing_and_more_steps_go_on(data, tmp_path):
    out = tmp_path / "m"
    assert finish(start(data, out, "--steps", "6"))[0] == 0
    before = (out / "model.safetensors").read_bytes()
    code, output = finish(start(data, out, "--steps", "6"))
    assert (code, (out / "model.safetensors").read_bytes()) == (0, before)
    code, output = finish(start(data, out, "--steps", "9"))
    assert code == 0
    assert "resuming at step 6" in output
    assert "9" in [line.split(",")[0] for line in (out / "log.csv").read_text().splitlines()]


@pytest.mark.slow
def test_other_settings_or_data_are_refused_and_nothing_is_lost(data, tmp_path):
    out = tmp_path / "m"
    assert finish(start(data, out, "--steps", "3"))[0] == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    code, output = finish(start(data, out, "--steps", "3", "--set", "training.lr=0.5"))
    assert code == 1
    assert re.search(r"training\.lr: \S+ → 0\.5", output)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    code, output = finish(start(data, out, "--steps", "3", "--set", "training.lr=0.5", "--overwrite"))
    assert code == 0, output


class StopsAt(Silent):
    """Sends Ctrl-C to this process when a step is done."""

    def __init__(self, step: int) -> None:
        self.step = step

    @contextmanager
    def bar(self, title):
        yield self

    def update(self, fraction, note=""):
        if note.startswith(f"step {self.step} "):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("step", range(1, 12, 2))
def test_a_signal_loses_no_validation(data, tmp_path, step):
    """Whatever step is the last before the stop, also one that is scored, and the one before the end."""
    settings = ("network.options.width=2", "network.options.depth=1", "training.patch=[32, 32]", "training.lr=1e-2")
    options = api.TrainOptions(steps=12, settings=settings, device="cpu")
    stopped = api.train(data, tmp_path / "stopped", options, progress=StopsAt(step))
    assert stopped.stopped_by == "SIGINT" or stopped.step == 12
    api.train(data, tmp_path / "stopped", options)
    api.train(data, tmp_path / "straight", options)
    assert_identical(tmp_path / "straight", tmp_path / "stopped")


def test_a_stopped_training_of_objects_predicts_with_the_thresholds_that_chose_its_weights(objects, tmp_path, monkeypatch):
    """Not with bare defaults: these hold for no data in particular."""
    own = SegmentationObjective.score
    monkeypatch.setattr(SegmentationObjective, "score", lambda *given: replace(own(*given), thresholds={"valley": 0.61}))
    settings = ("network.options.width=2", "network.options.depth=1", "training.patch=[32, 32]", "training.batch=2")
    options = api.TrainOptions(steps=40, settings=settings, device="cpu")
    stopped = api.train(objects, tmp_path / "m", options, progress=StopsAt(13))
    assert stopped.stopped_by == "SIGINT"
    thresholds = load_model(tmp_path / "m").thresholds
    assert thresholds.valley == 0.61
    assert thresholds.sigma > Thresholds().sigma
    assert thresholds.min_size > 1
