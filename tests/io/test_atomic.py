"""What is no file is never replaced by one."""

import os

import pytest

from biomask.errors import WriteError
from biomask.io.files import write_text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(WriteError, match="not a file"):
        write_text(pipe, "report")
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [pipe]


def test_a_folder_stays_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="not a file"):
        write_text(tmp_path / "folder", "report")
    assert (tmp_path / "folder").is_dir()
