"""Files that no program should stumble over: all listed together, exit code 1, no traceback, nothing hangs."""

import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biomask.io.files import write_picture


def bomb(path: Path, side: int = 60_000) -> None:
    """A PNG of a few bytes that claims 3.6 gigapixels."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10_000))
                     + chunk(b"IEND", b""))


@pytest.fixture
def folder(tmp_path, make_dataset) -> Path:
    """Six sound pairs, and one of each bad kind."""
    data = make_dataset(tmp_path / "data", n=6)
    images, masks = data / "images", data / "masks"
    sound = (images / "im_00.png").read_bytes()
    mask = (masks / "im_00.png").read_bytes()
    rng = np.random.default_rng(0)
    for name in ("zero", "cut", "text", "size", "nan", "tiny", "bomb", "many", "secret"):
        (images / f"{name}.png").write_bytes(sound)
        (masks / f"{name}.png").write_bytes(mask)
    (images / "zero.png").write_bytes(b"")
    (images / "cut.png").write_bytes(sound[: len(sound) // 2])
    (images / "text.png").unlink()
    (images / "text.tif").write_text("this is a shopping list")
    write_picture(masks / "size.png", np.zeros((47, 48), np.uint8))
    (images / "nan.png").unlink()
    grey = rng.random((48, 48)).astype(np.float32)
    grey[3, 5] = np.nan
    tifffile.imwrite(images / "nan.tif", grey)
    write_picture(images / "tiny.png", np.full((1, 1), 7, np.uint8))
    write_picture(masks / "tiny.png", np.full((1, 1), 255, np.uint8))
    bomb(images / "bomb.png")
    (masks / "many.png").unlink()
    tifffile.imwrite(masks / "many.tif", rng.permutation(2**16)[:40_000].astype(np.uint16).reshape(200, 200))
    write_picture(images / "many.png", rng.integers(0, 255, (200, 200)).astype(np.uint8))
    os.symlink(images / "circle.png", images / "circle.png")
    os.symlink(images, images / "loop")
    return data


NAMED = ("zero.png", "cut.png", "text.tif", "size.png", "nan.tif", "tiny.png", "bomb.png", "many.tif", "circle.png")


@pytest.mark.parametrize("command", ["check", "train"])
def test_all_are_listed_together(folder, run_cli, tmp_path, command):
    more = ["--report", tmp_path / "check.html"] if command == "check" else ["-o", tmp_path / "model", "--steps", "1"]
    done = run_cli(command, folder, *more)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    missing = [name for name in NAMED if name not in said]
    assert not missing, said
    assert "im_03" not in said.replace(str(tmp_path), "").partition("shows each")[0].partition("images  ")[0]


def test_a_file_that_may_not_be_read(folder, tmp_path):
    """As another user, since root reads everything."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root to become another user")
    data = tmp_path / "data"
    os.chmod(data / "images" / "secret.png", 0o000)
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == 0 and path.stat().st_mode & 0o005 != 0o005 and path != Path("/"):
            os.chmod(path, 0o755)
    out = tmp_path / "out"
    out.mkdir()
    os.chmod(out, 0o777)
    import sys

    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "biomask", "check",
                           str(data), "--report", str(out / "check.html")], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "HOME": str(out), "MPLCONFIGDIR": str(out), "OMP_NUM_THREADS": "1"}, cwd=out)
    if "No module named" in done.stderr or "Permission denied" in done.stderr.partition("error")[0]:
        pytest.skip("another user may not read the environment that runs the tests")
    assert done.returncode == 1
    assert "secret.png" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_same_without_them_is_usable(make_dataset, run_cli, tmp_path):
    done = run_cli("check", make_dataset(tmp_path / "data", n=6), "--report", tmp_path / "check.html")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "check.html").is_file()


def test_masks_that_are_all_empty(make_dataset, run_cli, tmp_path):
    data = make_dataset(tmp_path / "data", n=4)
    for mask in (data / "masks").iterdir():
        write_picture(mask, np.zeros((48, 48), np.uint8))
    done = run_cli("check", data, "--report", tmp_path / "check.html")
    assert done.returncode == 1
    assert "nothing to tell apart" in done.stdout, done.stderr
    assert (tmp_path / "check.html").is_file()
