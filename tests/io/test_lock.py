"""One process at a time, also while the file comes and goes."""

import subprocess
import sys

import pytest

from biomask.errors import WriteError
from biomask.io.lock import held

ADD = """
import sys
from pathlib import Path
from biomask.io import lock
lock.PAUSE = 0.002
folder = Path(sys.argv[1])
for _ in range(60):
    with lock.held(folder / "sub" / "x.lock", lambda: None):
        number = int((folder / "number").read_text())
        (folder / "number").write_text(str(number + 1))
"""


def test_sums_of_several_processes_are_right(tmp_path):
    (tmp_path / "number").write_text("0")
    adding = [subprocess.Popen([sys.executable, "-c", ADD, str(tmp_path)], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for process in adding:
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
    finally:
        for process in adding:
            process.kill()
    assert (tmp_path / "number").read_text() == "180"
    assert not list(tmp_path.rglob("*.lock"))


def test_what_the_block_wrote_stays(tmp_path):
    for stays in (False, True):
        folder = tmp_path / f"{stays}"
        with held(folder / "x.lock", lambda: None, stays=stays):
            (folder / "file").touch()
        assert (folder / "file").is_file()
        assert (folder / "x.lock").is_file() == (stays and sys.platform != "win32")


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError), held(tmp_path / "file" / "x.lock", lambda: None):
        pass
