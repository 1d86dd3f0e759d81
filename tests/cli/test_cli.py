"""The command line: exit codes, what is printed where, and no traceback or blame for anything a user can do."""

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import biomask
from biomask import api
from biomask.api import TrainOptions
from biomask.checkpoint import MODEL_FILE
from biomask.cli import main
from biomask.errors import BiomaskError
from biomask.io.files import write_picture
from biomask.progress import Silent

TINY = [part for setting in ("network.options.width=2", "network.options.depth=1", "training.batch=2")
        for part in ("--set", setting)]


@pytest.fixture
def run(capsys):
    """run(*arguments) → (exit code, stdout, stderr), in this process."""

    def run(*arguments, blame=False):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert ("mistake in biomask" in err) == blame, err
        return code, out, err

    return run


@pytest.fixture
def train(run, tiny_data, tmp_path):
    """`train` on good data with more options."""
    return lambda *more: run("train", tiny_data, "-o", tmp_path / "model", "--steps", "1", "--device", "cpu", *TINY, *more)


@pytest.fixture
def predict(run, tiny_data, tiny_model, tmp_path):
    """`predict` of good images with more options."""
    return lambda *more: run("predict", tiny_model, tiny_data / "images", "-o", tmp_path / "out", *more)


class TestGood:
    def test_the_three_commands(self, run, make_dataset, tmp_path):
        data = make_dataset(tmp_path / "data")
        code, out, err = run("train", data, "-o", tmp_path / "model", "--steps", "3", "--device", "cpu", *TINY)
        assert (code, "3 steps" in out) == (0, True)
        assert "held out" in err
        code, out, _ = run("predict", tmp_path / "model", data / "images", "-o", tmp_path / "out", "--device", "cpu")
        assert (code, "4 images" in out) == (0, True)
        code, out, _ = run("evaluate", tmp_path / "out", data)
        assert code == 0
        for word in ("Dice", "IoU", "pixel error", "255", "mean", "pooled", "range"):
            assert word in out

    def test_results_go_to_stdout_and_the_rest_to_stderr(self, predict):
        code, out, err = predict()
        assert code == 0
        assert len(out.splitlines()) == 1
        assert "device" in err

    def test_run_again_skips(self, predict):
        predict()
        assert "4 were there" in predict()[1]

    @pytest.mark.parametrize("option", ["--version", "--help", "-h"])
    def test_about(self, run, option):
        code, out, _ = run(option)
        assert code == 0
        assert "biomask" in out or "Usage" in out

    @pytest.mark.parametrize(("command", "defaults"), [
        ("train", ["Default without --steps: until the score is flat", "default: default", "default: auto"]),
        ("predict", ["default: auto", "half of"]),
        ("evaluate", []), ("demo", ["default: 0", "default: biomask-", "default: auto"])])
    def test_help_shows_defaults(self, run, command, defaults):
        code, out, _ = run(command, "--help")
        assert code == 0
        flat = " ".join(out.split())
        assert all(d in flat for d in defaults)
        assert "--json" in out

    def test_version_is_the_packages(self, run):
        assert biomask.__version__ in run("--version")[1]

    def test_negative_ignore_values(self, train):
        assert train("--ignore", "-1")[0] == 0

    def test_masks_as_objects(self, train, run, tiny_data, tmp_path):
        code, _, err = train("--labels", "instances")
        assert (code, "average precision" in err or "labels: instances (as told)" in err) == (0, True)
        code, out, _ = run("predict", tmp_path / "model", tiny_data / "images", "-o", tmp_path / "out", "--augment", "none")
        assert (code, "4 images" in out) == (0, True)
        assert (tmp_path / "out" / "objects.csv").is_file()


class TestJson:
    def test_train(self, train, tmp_path):
        code, out, _ = train("--json", "-")
        found = json.loads(out)
        assert code == 0
        assert (found["step"], found["stopped_by"]) == (1, None)
        assert (Path(found["model"]) / MODEL_FILE).is_file()

    def test_predict(self, predict, tmp_path):
        found = json.loads(predict("--json", "-")[1])
        assert found["done"] == [f"im_{i:02d}" for i in range(4)]
        assert found["out"] == str(tmp_path / "out")

    def test_evaluate(self, run, tiny_data, tmp_path):
        perfect = shutil.copytree(tiny_data / "masks", tmp_path / "perfect")
        code, out, _ = run("evaluate", perfect, tiny_data, "--json", "-")
        assert json.loads(out)["mean"]["dice"] == 1
        code, out, _ = run("evaluate", perfect, tiny_data, "--json", tmp_path / "new" / "e.json")
        assert code == 0
        assert json.loads((tmp_path / "new" / "e.json").read_text(encoding="utf-8"))["n_images"] == 4
        assert "Dice" in out

    def test_failed_runs_print_no_half_json(self, run, tiny_model, tmp_path):
        code, out, _ = run("predict", tiny_model, tmp_path / "no", "-o", tmp_path / "out", "--json", "-")
        assert (code, out) == (1, "")

    def test_in_a_process_of_its_own(self, run_cli, tiny_data, tmp_path):
        done = run_cli("evaluate", shutil.copytree(tiny_data / "masks", tmp_path / "perfect"), tiny_data, "--json", "-")
        assert done.returncode == 0
        assert json.loads(done.stdout)["mean"]["iou"] == 1

    def test_a_terminal_that_knows_no_unicode(self, run_cli, tmp_path):
        """Windows redirects stdout in cp1252; a file name in Chinese must not lose the result."""
        for side in ("p", "t"):
            write_picture(tmp_path / side / "细胞.png", np.array([[0, 255]], np.uint8))
        done = run_cli("evaluate", tmp_path / "p", tmp_path / "t", "--json", "-", encoding="cp1252")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["per_image"][0]["name"] == "细胞"


class TestUsage:
    """Exit code 2: the command line is wrong."""

    @pytest.mark.parametrize("arguments", [
        ["nope"], ["train"], ["predict"], ["evaluate", "a"], ["train", "a"], ["train", "a", "b", "-o", "c"], ["--nope"],
        ["predict", "a", "b", "-o", "c", "--nope"], ["evaluate", "a", "b", "--ignore", "x"], ["train", "a", "-o"],
        ["demo", "--minutes", "-1"], ["demo", "--seed", "x"],
    ], ids=" ".join)
    def test_commands_and_arguments(self, run, arguments):
        code, _, err = run(*arguments)
        assert code == 2
        assert err

    @pytest.mark.parametrize("options", [
        ["--tile", "0"], ["--tile", "-4"], ["--tile", "abc"], ["--tile", "1.5"], ["--tile", "²"], ["--tile", ""],
        ["--memory", "x"], ["--memory", "0"], ["--memory", "-1GB"], ["--memory", "1e999"], ["--memory", "nan"],
        ["--device", "xpu"], ["--device", ""], ["--device", "CUDA"], ["--device", "cpu:abc"],
    ], ids=" ".join)
    def test_predict(self, predict, tmp_path, options):
        code, _, err = predict(*options)
        assert code == 2, err
        assert options[0] in err
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("options", [
        ["--steps", "0"], ["--steps", "x"], ["--steps", "1.5"], ["--minutes", "1"], ["--seed", "-1"], ["--seed", str(10**23)],
        ["--recipe", "nope"], ["--recipe", ""], ["--labels", "magic"], ["--device", "tpu"],
        *(["--set", s] for s in (
            "training", "", "=1", "foo=1", "training.lrr=1", "training.lr=fast", "training.lr=0", "training.steps=2.5",
            "training.patch=[8]", "training.patch=[a]", "training.patch=[-4,-4]", "network.name=nope", "network.options.wings=2",
            "network.options.width=abc", "network.options.scales=3", "network.options.scales=[[a,b]]",
            "network.options.width=2.5", "network.options.dropout=3", "loss.class_weights=[1,2,3]", "data.kind=magic",
            "training.seed=99999999999999999999999", "augmentation.flip=[q]", "training.batch=0", "normalization.low=100",
        )),
    ], ids=" ".join)
    def test_train(self, train, tmp_path, options):
        code, _, err = train(*options)
        assert code == 2, err
        assert not (tmp_path / "model" / MODEL_FILE).exists()

    @pytest.mark.parametrize("setting", ["network.options.width=0", "network.options.depth=40", "network.options.padding=full",
                                         "network.options.scales=[[0,0]]", "network.options.norm=layer"])
    def test_settings_that_no_network_can_have(self, train, setting):
        assert train("--set", setting)[0] in (1, 2)

    @pytest.mark.parametrize("seed", [0, 2**31, 2**33, 2**53])
    def test_large_seeds_work(self, train, seed):
        code, _, err = train("--seed", seed)
        assert code == 0, err


class TestInput:
    """Exit code 1: the user can mend it, and is told what and where."""

    @pytest.mark.parametrize("arguments", [
        ["train", "{no}", "-o", "{out}"], ["train", "{empty}", "-o", "{out}"], ["train", "{file}", "-o", "{out}"],
        ["train", "{data}/images", "-o", "{out}"], ["train", "{data}", "-o", "{out}", "--recipe", "{no}.yaml"],
        ["train", "{data}", "-o", "{out}", "--labels", "multilabel", "--steps", "1"],
        ["predict", "{no}", "{data}/images", "-o", "{out}"], ["predict", "{empty}", "{data}/images", "-o", "{out}"],
        ["predict", "{file}", "{data}/images", "-o", "{out}"], ["predict", "{model}", "{no}", "-o", "{out}"],
        ["predict", "{model}", "{empty}", "-o", "{out}"], ["predict", "{model}", "{file}", "-o", "{out}"],
        ["predict", "{model}", "{data}/images", "-o", "{file}"], ["predict", "{model}", "{data}/images", "-o", "{file}/out"],
        ["predict", "{model}", "{data}/images", "-o", "{out}", "--memory", "1"],
        ["evaluate", "{no}", "{data}"], ["evaluate", "{data}/masks", "{no}"], ["evaluate", "{empty}", "{data}"],
        ["evaluate", "{data}/masks", "{empty}"], ["evaluate", "{data}/images", "{data}"], ["evaluate", "{file}", "{file}"],
    ], ids=lambda a: " ".join(a).replace("{", "").replace("}", ""))
    def test_paths(self, run, tiny_data, tiny_model, tmp_path, arguments):
        (tmp_path / "empty").mkdir()
        (tmp_path / "file.png").write_bytes(b"not an image")
        names = {"no": tmp_path / "no", "empty": tmp_path / "empty", "file": tmp_path / "file.png", "out": tmp_path / "out",
                 "data": tiny_data, "model": tiny_model}
        code, out, err = run(*(a.format(**names) for a in arguments))
        assert code == 1, err
        assert not out
        assert err.startswith("error:") or "\nerror:" in err

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
    @pytest.mark.parametrize("device", ["cuda", "cuda:0"])
    def test_a_device_that_is_not_there(self, predict, device):
        code, _, err = predict("--device", device)
        assert code == 1
        assert "--device cpu" in err

    def test_a_model_folder_that_is_a_file_is_found_before_training(self, tiny_data, tmp_path):
        """Ten minutes of training must not end in "cannot be written"."""
        class Titles(Silent):
            seen: list[str] = []  # noqa: RUF012

            def bar(self, title):
                self.seen.append(title)
                return super().bar(title)

        (tmp_path / "file").write_text("")
        progress = Titles()
        with pytest.raises(BiomaskError):
            api.train(tiny_data, tmp_path / "file", TrainOptions(steps=2, settings=TINY[1::2], device="cpu"), progress=progress)
        assert "training" not in progress.seen

    @pytest.mark.parametrize("below", ["", "images", "masks"])
    def test_a_model_is_never_written_among_the_data(self, run, make_dataset, tmp_path, below):
        """Nothing is ever written beside the inputs."""
        data = make_dataset(tmp_path / "data")
        before = sorted(data.rglob("*"))
        code, _, _ = run("train", data, "-o", data / below, "--steps", "1", "--device", "cpu", *TINY)
        assert code in (1, 2)
        assert sorted(data.rglob("*")) == before

    def test_the_demo_replaces_nothing_that_is_not_its_own(self, run, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("years of work")
        code, _, err = run("demo", "-o", tmp_path / "mine", "--minutes", "0.01")
        assert code in (1, 2)
        assert "mine" in err
        assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]

    def test_json_into_a_place_that_is_none_is_found_before_the_work(self, train, tmp_path):
        (tmp_path / "file").write_text("")
        code, _, _ = train("--json", tmp_path / "file" / "x.json")
        assert code == 1
        assert not (tmp_path / "model" / MODEL_FILE).exists()

    @pytest.mark.parametrize("line", [
        ("train", "{data}", "-o", "{out}", "--json", "{out}/run.json"),
        ("train", "{data}", "-o", "{out}", "--json", "{data}/x.json"),
        ("train", "{data}", "-o", "{out}", "--from", "{model}", "--json", "{model}/run.json"),
        ("convert", "{data}", "--to", "geojson", "-o", "{out}", "--json", "{out}/x.json"),
        ("convert", "{data}", "--to", "coco", "-o", "{out}.json", "--json", "{out}.json"),
        ("convert", "{data}", "--to", "labels", "-o", "{out}", "--json", "{data}/masks/x.json"),
        ("demo", "-o", "{out}", "--json", "{out}/sub/../run.json"),
        ("check", "{data}", "--json", "{data}/x.json"), ("check", "{data}", "--report", "{out}", "--json", "{out}"),
        ("predict", "{model}", "{data}/images", "-o", "{out}", "--json", "{out}/run.json"),
        ("predict", "{model}", "{data}/images", "-o", "{out}", "--json", "{model}/run.json"),
        ("compare", "{data}", "-o", "{out}", "--json", "{out}/comparison.json"),
        ("evaluate", "{data}/masks", "{data}", "--json", "{data}/masks/x.json"),
        ("evaluate", "{data}/masks", "{data}", "--report", "{data}/masks/report.html"),
        ("evaluate", "{data}/masks", "{data}", "--against", "{model}", "--json", "{model}/run.json"),
        ("evaluate", "{data}/masks", "{data}", "--report", "{out}", "--json", "{out}"),
    ], ids=" ".join)
    def test_json_never_replaces_what_a_command_reads_or_writes(self, run, make_dataset, tiny_model, tmp_path, line):
        names = {"data": make_dataset(tmp_path / "data", n=2), "out": tmp_path / "out",
                 "model": shutil.copytree(tiny_model, tmp_path / "model")}
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        code, out, err = run(*(part.format(**names) for part in line))
        assert code == 2, err
        assert not out
        assert ("--report" if "report.html" in line[-1] else "--json") in err
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before

    def test_json_beside_the_results_is_no_matter(self, run, tiny_data, tmp_path):
        assert run("convert", tiny_data, "--to", "labels", "-o", tmp_path / "out", "--json", tmp_path / "out.json")[0] == 0
        assert json.loads((tmp_path / "out.json").read_text())["files"]

    def test_several_bad_files_are_all_named(self, run, make_dataset, tmp_path):
        data = make_dataset(tmp_path / "data")
        for name in ("im_01", "im_03"):
            (data / "images" / f"{name}.png").write_bytes(b"")
        code, _, err = run("train", data, "-o", tmp_path / "m", "--steps", "1")
        assert code == 1
        assert "2 of 4" in err
        assert all(name in err for name in ("im_01", "im_03"))

    def test_an_error_in_a_process_of_its_own(self, run_cli, tmp_path):
        done = run_cli("train", tmp_path / "no", "-o", tmp_path / "m")
        assert (done.returncode, done.stdout) == (1, "")
        assert "no such folder" in done.stderr
        assert "Traceback" not in done.stderr


class TestResources:
    """Exit code 3: the same command works with more memory, disk or time."""

    @pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt(),
                                       OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "Quota"),
                                       RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")],
                             ids=lambda e: type(e).__name__)
    def test_whatever_gave_out(self, run, monkeypatch, error):
        def fail(*args, **options):
            raise error

        monkeypatch.setattr(api, "evaluate", fail)
        code, out, err = run("evaluate", "a", "b")
        assert (code, out) == (3, "")
        assert err

    def test_a_network_beyond_any_memory(self, train):
        code, _, err = train("--set", "network.options.width=1000000", "--set", "network.options.depth=0")
        assert code == 3
        assert "memory" in err

    def test_training_onto_a_full_disk(self, run, tiny_data, full_disk):
        code, _, err = run("train", tiny_data, "-o", full_disk / "model", "--steps", "1", "--device", "cpu",
                           "--set", "network.options.width=16", "--set", "network.options.depth=1")
        assert code == 3
        assert "disk is full" in err

    def test_predicting_onto_a_full_disk(self, run, tiny_model, tmp_path, full_disk):
        noise = np.random.default_rng(0).integers(0, 255, (400, 400)).astype(np.uint8)
        write_picture(tmp_path / "images" / "a.png", noise)
        code, _, err = run("predict", tiny_model, tmp_path / "images", "-o", full_disk / "out", "--device", "cpu")
        assert code == 3
        assert "disk is full" in err


class TestMessages:
    def test_debug_shows_the_traceback_anywhere(self, capsys, tmp_path):
        for arguments in (["--debug", "train", tmp_path / "no", "-o", "x"], ["train", "--debug", tmp_path / "no", "-o", "x"],
                          ["train", tmp_path / "no", "-o", "x", "--debug"]):
            assert main([str(a) for a in arguments]) == 1
            assert "Traceback" in capsys.readouterr().err

    def test_an_unforeseen_error_is_a_message_too(self, run, monkeypatch):
        def fail(*args, **options):
            raise ZeroDivisionError("by hand")

        monkeypatch.setattr(api, "evaluate", fail)
        code, out, err = run("evaluate", "a", "b", blame=True)
        assert (code, out) == (1, "")
        assert "ZeroDivisionError: by hand" in err
        assert "--debug" in err

    @pytest.mark.parametrize("name", ["out [new]", "[red]x", "a [link=x]b", "cells :x: here", "back\\slash", "tail\\"])
    def test_paths_are_printed_as_they_are(self, run, tiny_data, tiny_model, tmp_path, name):
        code, out, _ = run("predict", tiny_model, tiny_data / "images" / "im_00.png", "-o", tmp_path / name, "--device", "cpu")
        assert code == 0
        assert name in out
        code, _, err = run("evaluate", tmp_path / name / "nowhere", tiny_data)
        assert code == 1
        assert name in err

    @pytest.mark.parametrize("name", ["[/cell]", "[bold]cell", ":x:", "细胞"])
    def test_class_names_are_printed_as_they_are(self, run, tmp_path, name):
        for side in ("out/masks", "truth"):
            (tmp_path / side).mkdir(parents=True)
            tifffile.imwrite(tmp_path / side / "a.tif", np.array([[0, 1]], np.uint8))
        legend = [{"value": 0, "name": "nothing", "colour": [0, 0, 0]}, {"value": 1, "name": name, "colour": [9, 9, 9]}]
        (tmp_path / "out" / "run.json").write_text(json.dumps({"legend": legend}))
        code, out, err = run("evaluate", tmp_path / "out", tmp_path / "truth")
        assert code == 0, err
        assert name in out


def in_fresh_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr


class TestImports:
    def test_the_command_line_loads_nothing_heavy(self):
        in_fresh_python("""
            import sys
            import biomask.cli
            heavy = {"torch", "numpy", "scipy", "skimage", "matplotlib", "tifffile", "PIL", "pydantic"} & set(sys.modules)
            assert not heavy, heavy
        """)

    def test_help_and_mistakes_load_no_torch(self):
        in_fresh_python("""
            import sys
            from biomask.cli import main
            for arguments, code in ((["--help"], 0), (["train", "--help"], 0), (["--version"], 0), (["nope"], 2), (["train"], 2)):
                assert main(arguments) == code, arguments
            assert "torch" not in sys.modules
        """)

    @pytest.mark.parametrize("name", ["models", "losses", "metrics", "training.loop"])
    def test_the_pieces_need_four_packages_alone(self, name):
        """Design: models, losses, metrics and training import with torch, numpy, scipy and scikit-image alone."""
        in_fresh_python(f"""
            import sys
            blocked = {{"pydantic", "typer", "rich", "tifffile", "imagecodecs", "PIL", "safetensors", "matplotlib", "jinja2",
                        "psutil", "yaml"}}

            class Missing:
                def find_spec(self, fullname, path=None, target=None):
                    if fullname.partition(".")[0] in blocked:
                        raise ModuleNotFoundError(f"No module named {{fullname!r}} (blocked by the test)", name=fullname)

            sys.meta_path.insert(0, Missing())
            import biomask.{name}
            assert not blocked & set(sys.modules)
        """)
