"""A disk that fills up and an image that breaks while training runs: nothing that was learnt is lost."""

import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from biomask import api
from biomask.checkpoint import load_model
from biomask.data import dataset as dataset_module
from biomask.errors import DiskFullError, InputError
from biomask.progress import Silent


class At(Silent):
    """Does something once after each of some steps; keeps what it is warned of."""

    def __init__(self, **actions) -> None:
        self.actions = {f"step {name.removeprefix('step')} ": action for name, action in actions.items()}
        self.warned = list[str]()

    def warn(self, message):
        self.warned.append(message)

    @contextmanager
    def bar(self, title):
        yield self

    def update(self, fraction, note=""):
        for start in [s for s in self.actions if f"{note} ".startswith(s)]:
            self.actions.pop(start)()


@pytest.fixture
def disk(tmp_path):
    """A folder on a disk of 16 MB; skips where mounting one is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    except OSError:
        pytest.skip("this machine has no mount command")
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Not a byte is left."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue


def test_a_disk_that_is_full_for_a_while_costs_nothing(objects, tmp_path, train, disk):
    at = At(step5=lambda: fill(disk), step9=lambda: (disk / "filler").unlink())
    result = train(objects, disk / "m", progress=at)
    assert (result.step, result.stopped_by) == (12, None)
    assert len([w for w in at.warned if "disk is full" in w and "training goes on" in w]) == 1
    train(objects, tmp_path / "straight")
    assert (disk / "m" / "model.safetensors").read_bytes() == (tmp_path / "straight" / "model.safetensors").read_bytes()


def test_a_disk_that_stays_full_leaves_the_earlier_model_and_the_run_goes_on(objects, tmp_path, train, disk):
    with pytest.raises(DiskFullError) as caught:
        train(objects, disk / "m", progress=At(step5=lambda: fill(disk)))
    assert caught.value.exit_code == 3
    assert load_model(disk / "m").header.step == 4  # the last validation that could be saved
    assert [p.name for p in disk.rglob("*.part*")] == []
    predicted = api.predict(disk / "m", objects / "images", tmp_path / "p", api.PredictOptions(device="cpu"))
    assert len(predicted.done) == 6
    (disk / "filler").unlink()
    assert train(objects, disk / "m").step == 12
    train(objects, tmp_path / "straight")
    assert (disk / "m" / "model.safetensors").read_bytes() == (tmp_path / "straight" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b"nothing"), lambda p: p.unlink()], ids=["garbled", "gone"])
def test_an_image_that_breaks_is_named_and_the_run_goes_on_once_it_is_mended(objects, tmp_path, train, monkeypatch, damage):
    monkeypatch.setattr(dataset_module, "_cache_bytes", lambda: 1)  # every image is read again and again
    images = sorted((objects / "images").iterdir())
    good = {p: p.read_bytes() for p in images}
    with pytest.raises(InputError, match=r"training stopped at step [5-9]|training stopped at step 1\d") as caught:
        train(objects, tmp_path / "m", progress=At(step5=lambda: [damage(p) for p in images]))
    assert caught.value.exit_code == 1
    assert any(p.name in str(caught.value) for p in images)
    assert "run the same command again" in (caught.value.fix or "")
    for path, content in good.items():
        path.write_bytes(content)
    assert train(objects, tmp_path / "m").step == 12
    train(objects, tmp_path / "straight")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (tmp_path / "straight" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("breaks", "stops"), [("step5", 8), ("step12", 12)], ids=["before a validation", "before the last trials"])
def test_a_held_out_image_that_breaks_is_named_and_the_run_goes_on_once_it_is_mended(objects, tmp_path, train, monkeypatch,
                                                                                     breaks, stops):
    monkeypatch.setattr(dataset_module, "_cache_bytes", lambda: 1)
    held_out = sorted((objects / "images").iterdir())[-2:]  # numbered images give up a block at the end
    good = {p: p.read_bytes() for p in held_out}
    tried = ("data.validation_share=0.34", "prediction.augment=null")  # so that they are needed after the last step too
    with pytest.raises(InputError, match=f"training stopped at step {stops}") as caught:
        train(objects, tmp_path / "m", *tried, progress=At(**{breaks: lambda: [p.write_bytes(b"nothing") for p in held_out]}))
    assert any(p.name in str(caught.value) for p in held_out)
    assert "run the same command again" in (caught.value.fix or "")
    load_model(tmp_path / "m")
    for path, content in good.items():
        path.write_bytes(content)
    assert train(objects, tmp_path / "m", *tried).step == 12
    train(objects, tmp_path / "straight", *tried)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (tmp_path / "straight" / "model.safetensors").read_bytes()


def test_an_image_that_breaks_after_training_costs_only_the_report(objects, tmp_path, train):
    damage = At(step12=lambda: [p.write_bytes(b"nothing") for p in (objects / "images").iterdir()])
    assert train(objects, tmp_path / "m", progress=damage).step == 12
    assert any("report" in w and ".png" in w for w in damage.warned)
    load_model(tmp_path / "m")
