"""`biomask doctor`: what it finds here, what it makes of other machines, and that nothing broken stops it."""

import getpass
import json
import os
import socket
import sys
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from biomask.cli import main
from biomask.cli.doctor import lines
from biomask.doctor import Accelerators, Check, Diagnosis, Disk, Extra, Package, Processor, Software, Speed, examine, gather
from biomask.doctor.problems import find_problems
from biomask.doctor.self_test import attempt, convolutions, files, tiles, training
from biomask.machine import Memory
from biomask.progress import Silent

GIB = 2**30
GOOD = {
    "software": Software("0.1", "3.11", "Linux", (Package("torch", "2.13.0"), Package("numpy", "2.0")), (), "utf-8"),
    "processor": Processor("CPU", 8, 8, {"AVX2": True, "AMX": False}, 8, "AVX2", True, 0.1, {}),
    "memory": Memory(32 * GIB, 20 * GIB, False),
    "disks": (Disk("this folder", 50 * GIB, True), Disk("temporary files", 50 * GIB, True)),
    "accelerators": Accelerators((), "the CPU alone", None),
    "checks": (Check("files", True, "well", 0.1),),
    "speeds": (Speed("cpu", 1e11, 2e11, True),),
}


def problems(**changed):
    return find_problems(**{**GOOD, **changed})


def with_cpu(**changed):
    return {"processor": replace(GOOD["processor"], **changed)}


def test_a_good_machine_has_no_problems():
    assert problems() == ()


@pytest.mark.parametrize(("changed", "level", "what", "fix"), [
    ({"software": replace(GOOD["software"], packages=(Package("scipy", None),))}, "error", "scipy is not", "pip install scipy"),
    ({"software": replace(GOOD["software"], packages=(Package("torch", "2", "OSError: libc10"),))}, "error", "libc10", "reinstall"),
    ({"software": replace(GOOD["software"], extras=(Extra("f", (Package("onnx", "1", "no"),)),))}, "warning", "optional", "onnx"),
    ({"software": replace(GOOD["software"], file_names="ascii")}, "warning", "ascii", "PYTHONUTF8=1"),
    ({"checks": (Check("files", False, "no", 0.1, "mend it"),)}, "error", "files: no", "mend it"),
    ({"checks": (Check("tiles on cuda:0", False, "no", 0.1),)}, "error", "cuda:0", "--device cpu"),
    (with_cpu(threads=1, limits={"OMP_NUM_THREADS": "1"}), "warning", "OMP_NUM_THREADS=1", "unset OMP_NUM_THREADS"),
    (with_cpu(threads=2), "warning", "2 threads", "OMP_NUM_THREADS=8"),
    (with_cpu(usable_cores=2), "warning", "2 of 8 cores", "OMP_NUM_THREADS=2"),
    (with_cpu(limits={"ATEN_CPU_CAPABILITY": "default"}), "warning", "ATEN_CPU_CAPABILITY=default", "unset"),
    (with_cpu(onednn=False), "warning", "oneDNN", "torch"),
    (with_cpu(busy=0.9), "warning", "90%", "close"),
    ({"memory": Memory(4 * GIB, GIB, False)}, "warning", "1.0 of 4.0 GiB", "close other programs"),
    ({"memory": Memory(2 * GIB, GIB, True)}, "warning", "batch job", "ask for more"),
    ({"disks": (Disk("this folder", GIB, True),)}, "warning", "1.0 GiB of disk", "free some space"),
    ({"disks": (Disk("this folder", GIB, False),)}, "warning", "cannot be written", "another folder"),
    ({"disks": (Disk("temporary files", GIB, False),)}, "error", "cannot be written", "TMPDIR"),
    ({"accelerators": Accelerators((), "the CPU alone", "580.1")}, "warning", "NVIDIA", "pytorch.org"),
    ({"accelerators": Accelerators((), "CUDA 13.0", "580.1")}, "warning", "580.1", "nvidia-smi"),
    ({"accelerators": Accelerators((), "CUDA 13.0", None, "driver too old")}, "warning", "driver too old", "update the driver"),
    ({"speeds": (Speed("cpu", 3e11, 1e11, True),)}, "warning", "3.0 times", "training.precision=float32"),
])
def test_problems(changed, level, what, fix):
    found, = problems(**changed)
    assert found.level == level
    assert what in found.what
    assert fix in found.fix


@pytest.mark.parametrize("changed", [
    with_cpu(cores=16, usable_cores=16),  # two logical cores a real one: torch takes the real ones
    with_cpu(threads=None, used=None, onednn=None), {"memory": None}, {"accelerators": None}, {"checks": (), "speeds": ()},
    {"speeds": (Speed("cpu", 3e11, 1e11, False), Speed("mps", 1e12, None, True))},
])
def test_no_problems(changed):
    assert problems(**changed) == ()


def test_errors_come_first():
    found = problems(**with_cpu(busy=0.9), checks=(Check("files", False, "no", 0.1),))
    assert [p.level for p in found] == ["error", "warning"]
    assert not Diagnosis(**GOOD, problems=found).well
    assert Diagnosis(**GOOD, problems=found[1:]).well


def test_this_machine():
    found = examine(self_test=False)
    assert found.software.version_of("torch") == torch.__version__
    assert all(p.usable for p in found.software.packages)
    assert found.processor.threads == torch.get_num_threads()
    assert found.accelerators is not None
    assert (found.accelerators.devices == ()) == (not torch.cuda.is_available() and not torch.backends.mps.is_available())
    assert found.memory is not None
    assert found.checks == ()
    assert not [p for p in found.problems if p.level == "error"]
    json.dumps(found.to_json())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="compares with Linux's flags")
def test_torch_and_the_system_agree_on_the_processor(monkeypatch):
    """Two sources: where torch is broken, the system's names must give the same."""
    found = gather.processor()
    monkeypatch.setattr(gather, "_torch", lambda: None)
    alone = gather.processor()
    assert alone.features == found.features
    assert (alone.threads, alone.used, alone.onednn) == (None, None, None)


def test_whatever_is_broken_is_found(monkeypatch):
    """torch that fails to load, as on Windows without its runtime, is the very case that a doctor is called for."""
    real = gather.importlib.import_module

    def fail(name, *more):
        if name == "torch":
            raise OSError("[WinError 126] The specified module could not be found: c10.dll")
        return real(name, *more)

    monkeypatch.setattr(gather.importlib, "import_module", fail)
    found = examine()
    assert not found.well
    assert "c10.dll" in found.problems[0].what
    assert (found.accelerators, found.checks, found.processor.threads) == (None, (), None)
    assert len(list(lines(found))) >= 5


def test_packages():
    assert gather.package("torch").version == torch.__version__
    assert gather.package("scikit-image").usable
    missing = gather.package("no-such-package-anywhere")
    assert (missing.version, missing.usable) == (None, False)
    assert Extra("x", (missing, gather.package("numpy"))).missing == ("no-such-package-anywhere",)


def test_the_self_test_passes_here():
    assert training("cpu").startswith("loss ")
    assert tiles("cpu").startswith("equal")
    assert files().startswith("PNG")


def test_the_self_test_leaves_random_numbers_as_they_are():
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    training("cpu")
    assert torch.equal(torch.rand(3), before)


def test_a_network_that_learns_nothing_fails(monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    found = attempt("training", lambda: training("cpu"))
    assert not found.passed
    assert "nothing was learnt" in found.found


def test_tiles_that_differ_fail(monkeypatch):
    import biomask.prediction

    real = biomask.prediction.predict_array
    monkeypatch.setattr(biomask.prediction, "predict_array",
                        lambda *a, tile=None, **k: real(*a, tile=tile, **k) * (1 if tile is None else 1.001))
    assert not attempt("tiles", lambda: tiles("cpu")).passed


def test_files_that_come_back_otherwise_fail(monkeypatch):
    import biomask.io

    real = biomask.io.read_image
    monkeypatch.setattr(biomask.io, "read_image", lambda path: replace(real(path), spacing=None))
    found = attempt("files", files)
    assert not found.passed
    assert ".tif" in found.found


def test_any_failure_is_a_line():
    def broken():
        raise RuntimeError("no kernel image is available\nfor this device")

    found = attempt("training on cuda:0", broken)
    assert (found.passed, found.found) == (False, "RuntimeError: no kernel image is available")


def test_speed_of_one_device(monkeypatch):
    monkeypatch.setattr("biomask.doctor.self_test.MEASURED", 0.01)
    monkeypatch.setattr("biomask.doctor.self_test.SIDE", 8)
    rate = convolutions(torch.device("cpu"), torch.float32)
    assert rate is not None
    assert rate > 0


def test_the_users_folder_is_not_named(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    assert gather.private("cannot read /home/anna/x/y.dll") == "cannot read ~/x/y.dll"
    monkeypatch.setenv("HOME", "/")
    assert gather.private("/a/b") == "/a/b"


class TestCommand:
    @pytest.fixture
    def quick(self, monkeypatch):
        monkeypatch.setattr("biomask.doctor.self_test.self_test", lambda devices, progress: (GOOD["checks"], GOOD["speeds"]))

    def test_one_screen_that_can_be_pasted(self, quick, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert main(["doctor"]) == 0
        out, _ = capsys.readouterr()
        assert len(out.splitlines()) <= 40
        for word in (torch.__version__, "cores", "GiB", "files", "biomask works here"):
            assert word in out
        user = getpass.getuser()
        private = [str(tmp_path), str(Path.home()), socket.gethostname(), *([user] if user != "root" else [])]
        assert not [name for name in private if len(name) > 1 and name in out]

    def test_nothing_is_left(self, quick, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        main(["doctor", "--no-self-test"])
        assert "nothing was tried" in capsys.readouterr().out
        assert os.listdir(tmp_path) == []

    def test_json(self, quick, capsys):
        assert main(["doctor", "--json", "-"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["well"] is True
        assert found["software"]["python"]
        assert found["checks"][0]["passed"] is True

    def test_exit_code_1_where_something_is_broken(self, capsys, monkeypatch):
        monkeypatch.setattr("biomask.doctor.self_test.self_test",
                            lambda devices, progress: ((Check("files", False, "lost a pixel", 0.1),), ()))
        assert main(["doctor"]) == 1
        out, err = capsys.readouterr()
        assert "lost a pixel" in out
        assert "does not work" in out
        assert "Traceback" not in out + err


@pytest.mark.slow
def test_the_whole_self_test():
    from biomask.doctor.self_test import self_test

    checks, speeds = self_test((), Silent())
    assert [c.name for c in checks] == ["files", "training on cpu", "tiles on cpu", "speed on cpu"]
    assert all(c.passed for c in checks), checks
    assert speeds[0].float32 is not None
    assert f"{speeds[0].float32 / 1e9:,.0f} GFLOP/s" in checks[-1].found


class TestGpu:
    """What is made of GPUs, with a torch of straw: no machine of the tests has them all."""

    @pytest.fixture
    def straw(self, monkeypatch):
        gib = SimpleNamespace(total_memory=80 * GIB)
        cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2, device=lambda index: nullcontext(),
                               get_device_name=lambda index: f"H100 number {index}", get_device_properties=lambda index: gib,
                               is_bf16_supported=lambda including_emulation: True)
        torch = SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="13.0", hip=None),
                                backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False, is_built=lambda: False)))
        monkeypatch.setattr(gather, "_torch", lambda: torch)
        return torch

    def test_two_of_nvidia(self, straw):
        found = gather.accelerators()
        assert [(d.name, d.model, d.memory, d.bfloat16) for d in found.devices] == [
            ("cuda:0", "H100 number 0", 80 * GIB, True), ("cuda:1", "H100 number 1", 80 * GIB, True)]
        assert (found.built_for, found.said) == ("CUDA 13.0", None)
        text = dict(lines(Diagnosis(**{**GOOD, "accelerators": found}, problems=())))["devices"]
        assert text.startswith("cpu · cuda:0: H100 number 0, 80 GiB, bfloat16 · cuda:1: ")

    def test_one_of_each_kind_is_tried(self, straw, monkeypatch):
        tried = []
        monkeypatch.setattr(gather, "processor", lambda: GOOD["processor"])
        monkeypatch.setattr("biomask.doctor.self_test.self_test", lambda devices, progress: tried.append(devices) or ((), ()))
        examine()
        assert tried == [("cuda:0",)]

    def test_what_torch_says_of_an_old_driver(self, straw):
        def too_old():
            warnings.warn("CUDA initialization: The NVIDIA driver is too old\n(found 11040)", UserWarning, stacklevel=1)
            return False

        straw.cuda.is_available = too_old
        assert gather.accelerators().said == "CUDA initialization: The NVIDIA driver is too old"

    def test_a_driver_that_fails(self, straw):
        def fails(index):
            raise RuntimeError("CUDA error: unknown error")

        straw.cuda.get_device_name = fails
        found = gather.accelerators()
        assert (found.devices, found.said) == ((), "RuntimeError: CUDA error: unknown error")
