"""What is kept of the files that were opened last, and when it is not given."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from biomask.io import recent
from biomask.io.recent import Recent


@pytest.fixture
def old(monkeypatch):
    monkeypatch.setattr(recent, "YOUNG", 0)


def write(path, text="a"):
    path.write_text(text)
    return path


def test_made_once_while_the_file_stays(tmp_path, old):
    path, kept, made = write(tmp_path / "a"), Recent(2), []
    for _ in range(3):
        assert kept.get(path, lambda: made.append(1) or path.read_text()) == "a"
    assert len(made) == 1
    write(path, "longer")
    assert kept.get(path, path.read_text) == "longer"
    os.utime(path, (1, 1))
    assert kept.get(path, lambda: "again") == "again"
    assert kept.get(path, lambda: "labels", of=True) == "labels"


def test_a_file_that_was_just_written_is_not_kept(tmp_path):
    path, kept = write(tmp_path / "a"), Recent(2)
    assert [kept.get(path, lambda k=k: k) for k in range(3)] == [0, 1, 2]


def test_the_oldest_goes_first(tmp_path, old):
    a, b, c = (write(tmp_path / name) for name in "abc")
    kept = Recent(2)
    for path in (a, b, a, c):
        kept.get(path, lambda: "first")
    assert [kept.get(p, lambda: "second") for p in (a, c)] == ["first", "first"]
    assert kept.get(b, lambda: "second") == "second"


def test_all_together_have_a_limit(tmp_path, old):
    a, b = write(tmp_path / "a"), write(tmp_path / "b")
    kept = Recent(9, largest=100)
    for path, count in ((a, 60), (b, 60), (b, 60)):
        kept.get(path, lambda n=count: np.zeros(n, np.uint8), size=lambda x: x.nbytes)
    assert kept.get(a, lambda: None, size=lambda x: 0) is None, "made again"
    assert kept.get(b, lambda: None, size=lambda x: 0) is not None
    c = write(tmp_path / "c")
    assert kept.get(c, lambda: np.zeros(500, np.uint8), size=lambda x: x.nbytes).size == 500
    assert kept.get(c, lambda: None, size=lambda x: 0) is None


def test_each_thread_has_its_own(tmp_path, old):
    path, kept, found = write(tmp_path / "a"), Recent(2), []
    kept.get(path, lambda: "main")
    thread = threading.Thread(target=lambda: found.append(kept.get(path, lambda: "other")))
    thread.start()
    thread.join()
    assert found == ["other"]
    assert kept.get(path, lambda: "new") == "main"


def test_what_fails_is_not_kept(tmp_path, old):
    path, kept = write(tmp_path / "a"), Recent(2)
    with pytest.raises(ZeroDivisionError):
        kept.get(path, lambda: 1 // 0)
    assert kept.get(path, lambda: 1) == 1
    path.unlink()
    with pytest.raises(FileNotFoundError):
        kept.get(path, lambda: 1)
