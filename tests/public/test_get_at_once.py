"""Two processes that fetch the same at once: the second waits, and each byte is asked for once."""

import hashlib
import io
import json
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

WEIGHTS = np.random.default_rng(0).bytes(900_000)

#: `biomask datasets get` with offers of a server of our own: arguments are the offers as JSON, and the command's.
COMMAND = """
import json, sys
from dataclasses import replace
from types import MappingProxyType
from biomask.cli import main
from biomask.io.download import Checksum
from biomask.public import catalogue

found = {}
for name, files in json.loads(sys.argv[1]).items():
    known = catalogue.offer(name)
    found[name] = replace(known, files=tuple(
        replace(known.files[0], url=url, checksum=digits and Checksum(digits)) for url, digits in files))
catalogue.OFFERS = MappingProxyType(found)
catalogue.WEIGHTS = tuple(o for o in found.values() if o.kind == "weights")
sys.exit(main(["datasets", "get", *sys.argv[2:]]))
"""


def packed(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return made.getvalue()


@pytest.fixture
def offers(web):
    """{name: [(address, digits of its SHA-256)]}; the weights and the first archive stop in their middle until `gate` is set."""
    digits = hashlib.sha256(WEIGHTS).hexdigest()[:8]
    gate = threading.Event()
    archives = [packed({f"{kind}/{i}.png": WEIGHTS[i * 1000:][:70_000] for i in range(5)}) for kind in ("images", "masks")]
    found = {"resnet18": [(web.add(f"/resnet18-{digits}.pth", WEIGHTS, gate=gate), digits)],
             "dsb2018": [(web.add("/images.zip", archives[0], gate=gate), None), (web.add("/masks.zip", archives[1]), None)]}
    yield found, gate
    gate.set()  # whatever happened, nobody waits for it


@contextmanager
def fetching(offers, name: str, out: Path):
    """A process of its own; stderr is where it says what it does."""
    process = subprocess.Popen([sys.executable, "-c", COMMAND, json.dumps(offers), name, "-o", str(out)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until_half(web, path: Path) -> None:
    """Wait until the first half of a file has arrived, so that who fetches it is in its middle."""
    wanted = next(len(page.content) // 2 for name, page in web.pages.items() if path.name.endswith(f"{name[1:]}.part"))
    for _ in range(600):
        if path.is_file() and path.stat().st_size == wanted:
            return
        time.sleep(0.1)
    raise AssertionError(f"{path.name} does not arrive")


def said_it_waits(process) -> bool:
    """Reads until it says so, or ends."""
    return any("another process is fetching it" in line for line in process.stderr)


@pytest.mark.parametrize(("name", "half"), [("resnet18", "resnet18-{digits}.pth.part"), ("dsb2018", "dsb2018-images.zip.part")])
def test_the_second_waits_and_takes_what_the_first_brought(web, offers, tmp_path, name, half):
    found, gate = offers
    half = half.format(digits=found["resnet18"][0][1])
    with fetching(found, name, tmp_path) as first:
        until_half(web, tmp_path / half)
        with fetching(found, name, tmp_path) as second:
            assert said_it_waits(second)
            gate.set()
            (first_out, first_err), (second_out, second_err) = first.communicate(timeout=120), second.communicate(timeout=120)
            assert (first.returncode, second.returncode) == (0, 0), first_err + second_err
    assert ("was there" in first_out, "was there" in second_out) == (False, True)
    assert sorted(web.asked) == sorted((f"/{url.rsplit('/', 1)[1]}", None) for url, _ in found[name])
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    if name == "resnet18":
        place = half.removesuffix(".part")
        assert files == [place, f"{place}.source.json"]
        assert (tmp_path / place).read_bytes() == WEIGHTS
    else:
        assert files == ["dsb2018.source.json", *(f"dsb2018/{kind}/{i}.png" for kind in ("images", "masks") for i in range(5))]
        assert all((tmp_path / "dsb2018" / kind / f"{i}.png").read_bytes() == WEIGHTS[i * 1000:][:70_000]
                   for kind in ("images", "masks") for i in range(5))


def test_where_the_first_is_killed_the_second_goes_on(web, offers, tmp_path):
    found, gate = offers
    place = tmp_path / f"resnet18-{found['resnet18'][0][1]}.pth"
    with fetching(found, "resnet18", tmp_path) as first:
        until_half(web, place.with_name(f"{place.name}.part"))
        with fetching(found, "resnet18", tmp_path) as second:
            assert said_it_waits(second)
            first.kill()
            first.wait()
            gate.set()
            out, err = second.communicate(timeout=120)
            assert second.returncode == 0, err
    assert "was there" not in out
    assert place.read_bytes() == WEIGHTS
    assert [wanted for _, wanted in web.asked] == [None, f"bytes={len(WEIGHTS) // 2}-"]
    assert not list(tmp_path.glob("*.lock"))


def test_other_things_are_not_held_up(web, offers, tmp_path):
    found, _ = offers
    with fetching(found, "resnet18", tmp_path):
        until_half(web, tmp_path / f"resnet18-{found['resnet18'][0][1]}.pth.part")
        web.pages["/images.zip"].gate = None
        with fetching(found, "dsb2018", tmp_path) as second:
            _, err = second.communicate(timeout=120)
            assert second.returncode == 0, err
