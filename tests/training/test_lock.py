"""One training at a time in a folder, and no trace where nothing was trained."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from biomask import api
from biomask.errors import BiomaskError, InputError
from biomask.training.lock import locked

HOLD = """
import sys
from pathlib import Path
from biomask.training.lock import locked
with locked(Path(sys.argv[1])):
    print(flush=True)
    input()
"""


@contextmanager
def held(folder: Path):
    """Another process holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_training_is_refused_and_the_first_unharmed(objects, tmp_path, train):
    out = tmp_path / "m"
    train(objects, out, steps=2)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with held(out / "resume"):
        for overwrite in (False, True):
            with pytest.raises(InputError, match="another training is writing into this folder") as caught:
                train(objects, out, steps=4, overwrite=overwrite)
            assert caught.value.exit_code == 1
            assert caught.value.fix
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert train(objects, out, steps=4).step == 4  # the other was killed: the system let go


def test_others_are_not_held_up(tmp_path):
    with held(tmp_path / "a" / "resume"), locked(tmp_path / "b" / "resume"):
        pass


def test_it_is_let_go_after_an_error(tmp_path):
    (tmp_path / "state").touch()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="inside"), locked(tmp_path):
            raise RuntimeError("inside")
    assert (tmp_path / "state").exists()


def test_nothing_is_left_where_nothing_was_written(tmp_path):
    with locked(tmp_path / "new" / "resume"):
        assert (tmp_path / "new" / "resume").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with locked(tmp_path / "mine" / "resume"):
        pass
    assert list((tmp_path / "mine").iterdir()) == []
    with pytest.raises(BiomaskError):
        api.train(tmp_path / "nowhere", tmp_path / "model", api.TrainOptions(steps=1))
    assert not (tmp_path / "model").exists()
