"""A small world of good results and bad files, and a way to run command lines in it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

#: Settings of the smallest training.
QUICK = ("--steps", "1", "--device", "cpu", *(part for setting in (
    "network.options.width=2", "network.options.depth=1", "training.batch=1", "training.patch=[16,16]", "training.validations=1",
    "prediction.augment=none") for part in ("--set", setting)))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing of it."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def npy_header(shape: str) -> bytes:
    """A .npy that claims a shape and holds 8 bytes."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"\0" * 8


def nifti_header(shape: tuple[int, ...]) -> bytes:
    """A gzipped NIfTI that claims a shape and holds nothing of it."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + b"\0" * 100)


def bad_images(folder: Path, good: Path) -> None:
    """Files that are no images, each in a folder of its own."""
    import tifffile

    rng = np.random.default_rng(0)
    content: dict[str, bytes] = {
        "empty.png": b"", "text.png": b"these are no pixels\n", "random.png": rng.bytes(500),
        "random.tif": b"II*\0" + rng.bytes(500),
        "truncated.png": good.read_bytes()[: good.stat().st_size // 2], "bomb.png": png_header(60000, 60000),
        "zero.png": png_header(0, 48), "bomb.npy": npy_header("(1000000, 1000000, 1000)"), "zero.npy": npy_header("(0, 48)"),
        "negative.npy": npy_header("(-4, 48)"), "code.npy": npy_header("__import__('os').system('true')"),
        "bomb.nii.gz": nifti_header((32000, 32000, 32000)), "truncated.nii.gz": nifti_header((16, 16, 16)),
        "random.nii.gz": gzip.compress(rng.bytes(1000)), "random.jpg": b"\xff\xd8\xff\xe0" + rng.bytes(300),
        "bomb.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 60, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 8, 0, 0, 1, 1, 0, 0),
    }
    for name, data in content.items():
        (folder / name.replace(".", "_")).mkdir(parents=True)
        (folder / name.replace(".", "_") / name).write_bytes(data)
    arrays = {"nan.tif": np.full((48, 48), np.nan, np.float32), "inf.tif": np.full((48, 48), np.inf, np.float32),
              "complex.tif": np.ones((48, 48), np.complex64), "channels.tif": np.ones((5, 48, 48), np.uint8)}
    for name, array in arrays.items():
        (folder / name.replace(".", "_")).mkdir(parents=True)
        options = {"imagej": True, "metadata": {"axes": "CYX"}} if array.ndim == 3 else {}
        tifffile.imwrite(folder / name.replace(".", "_") / name, array, **options)
    whole = folder / "whole.tif"
    tifffile.imwrite(whole, rng.integers(0, 255, (48, 48)).astype(np.uint8), compression="zlib")
    (folder / "truncated_tif").mkdir()
    (folder / "truncated_tif" / "truncated.tif").write_bytes(whole.read_bytes()[:-400])
    whole.unlink()


def bad_models(folder: Path, good: Path) -> None:
    """Files that are no models."""
    data = good.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]

    def packed(content: bytes, rest: bytes = tensors) -> bytes:
        return len(content).to_bytes(8, "little") + content + rest

    def changed(text: str) -> bytes:
        return packed(json.dumps({**header, "__metadata__": {"biomask": text}}).encode())

    ours = json.loads(header["__metadata__"]["biomask"])
    smaller = {k: v for k, v in header.items() if k != "__metadata__"}
    name, entry = next(iter(smaller.items()))
    unknown = {**ours["recipe"], "network": {"name": "nope"}}
    monster = {**ours["recipe"], "network": {"name": "unet", "options": {"width": 10**9}}}
    models = {
        "empty": b"", "random": np.random.default_rng(0).bytes(500), "pickle": pickle.dumps({"weights": [1, 2, 3]}),
        "zip": b"PK\x03\x04" + b"\0" * 100, "truncated": data[:-100], "half": data[: len(data) // 2],
        "header": data[: 8 + length // 2],
        "longer": data + b"\0" * 50, "huge": (2**62).to_bytes(8, "little") + data[8:], "nothing": packed(b"{}", b""),
        "json": packed(b"{ not json", tensors), "deep": packed(b"[" * 100000, b""), "foreign": packed(json.dumps(smaller).encode()),
        "header_json": changed("{ not json"), "header_deep": changed("[" * 50000), "header_empty": changed("{}"),
        "header_list": changed("[1]"), "header_null": changed("null"), "newer": changed(json.dumps({**ours, "schema_version": 99})),
        "other_network": changed(json.dumps({**ours, "in_channels": 3})),
        "unknown_network": changed(json.dumps({**ours, "recipe": unknown})),
        "monster": changed(json.dumps({**ours, "recipe": monster})),
        "no_legend": changed(json.dumps({**ours, "legend": []})), "members": changed(json.dumps({**ours, "members": -1})),
        "offsets": packed(json.dumps({**header, name: {**entry, "data_offsets": [0, 2**60]}}).encode()),
    }
    for title, content in models.items():
        (folder / title).mkdir(parents=True)
        (folder / title / "model.safetensors").write_bytes(content)


def bad_recipes(folder: Path) -> None:
    """Files that are no recipes."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    recipes = {
        "empty": "", "list": "- 1\n- 2\n", "scalar": "hello\n", "number": "5\n", "null": "null\n",
        "tab": "network:\n\tname: unet\n",
        "bomb": bomb, "merged": bomb + "name: *a29\n", "deep": "[" * 20000, "recursive": "name: x\nchoices: &a [*a]\n",
        "code": "name: !!python/object/apply:os.system ['true']\n", "unknown": "nets: 5\n", "wrong": "training: {lr: fast}\n",
        "section": "training: 5\n", "nothing": "network: {name: nope}\n", "key": "? [1, 2]\n: x\n",
        "huge": f"training: {{seed: {'9' * 5000}}}\n",
        "nan": "training: {lr: .nan}\n", "documents": "name: a\n---\nname: b\n", "quote": "name: \"a\n",
        "date": "name: 2020-01-01\n",
    }
    folder.mkdir()
    for title, text in recipes.items():
        (folder / f"{title}.yaml").write_text(text)
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\0\1")
    (folder / "folder.yaml").mkdir()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path, tiny_model: Path) -> Path:
    """data/, model/, out/, json.json; bad/images/, bad/models/, bad/recipes/, bad/places/. Nothing may change in it."""
    from biomask import api

    root = tmp_path_factory.mktemp("world")
    data = Path(shutil.copytree(tiny_data, root / "data"))
    shutil.copytree(tiny_model, root / "model")
    api.predict(root / "model", data / "images", root / "out", api.PredictOptions(device="cpu"))
    (root / "notes.txt").write_text("years of work\n")
    (root / "json.json").write_text("{}\n")
    bad_images(root / "bad" / "images", data / "images" / "im_00.png")
    bad_models(root / "bad" / "models", root / "model" / "model.safetensors")
    bad_recipes(root / "bad" / "recipes")
    places = root / "bad" / "places"
    (places / "empty").mkdir(parents=True)
    (places / "text_only").mkdir()
    (places / "text_only" / "readme.txt").write_text("nothing to see\n")
    (places / "folder.png").mkdir()
    (places / "file").write_text("a file, no folder\n")
    if hasattr(os, "mkfifo"):
        (places / "loop").symlink_to(places / "loop")
        (places / "dangling").symlink_to(places / "nowhere")
        (places / "turning").mkdir()
        (places / "turning" / "self").symlink_to(places / "turning")
        (places / "fifo").mkdir()
        os.mkfifo(places / "fifo" / "pipe.png")
    return root


def fingerprint(root: Path) -> dict[str, str]:
    """Every path below a folder, links not followed, with the hash of its content."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            kind = "link" if path.is_symlink() else "file" if path.is_file() else "other"
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if kind == "file" else kind
    return found


@pytest.fixture
def odd(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        time_limit: Callable[[float], object]) -> Callable[..., tuple[int, str, str]]:
    """odd(*arguments) → (exit code, stdout, stderr), in an empty current folder.

    {world} and the names below it are replaced: {data}, {model}, {images}, {out}, {bad}; {new} is a place where nothing is, and
    {quick} the options of the smallest training.
    Fails where a traceback or the blame of biomask is printed, anything in the world changed, or an error says nothing.
    """
    from biomask.cli import main

    before = fingerprint(world)
    names = {"world": world, "data": world / "data", "images": world / "data" / "images", "masks": world / "data" / "masks",
             "model": world / "model", "out": world / "out", "bad": world / "bad", "new": tmp_path / "new"}
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def run(*arguments: str) -> tuple[int, str, str]:
        given = [part for a in arguments for part in (QUICK if a == "{quick}" else (str(a),))]
        for name, path in names.items():
            given = [a.replace(f"{{{name}}}", str(path)) for a in given]
        capsys.readouterr()
        with time_limit(200):
            code = main(given)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err, err
        assert "mistake in biomask" not in err, err
        assert code in (0, 1, 2, 3), given
        if code and given and not (given[0] == "check" and out):  # check prints what is wrong as its result
            assert "error: " in err or "stopped: " in err, (given, err)
            assert "→" in err, f"says no way out: {err}"
        assert fingerprint(world) == before, f"{given} changed {set(fingerprint(world).items()) ^ set(before.items())}"
        return code, out, err

    return run
