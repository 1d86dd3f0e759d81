"""Command lines that nobody means to type, over every command: a message, the right exit code, and everything else as it was.

The numeric flags are those that the commands declare, so a new one is tried without being named here.
"""

import contextlib
import json
import os
import subprocess
import sys

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomask.cli import app, main

#: A line of each command that works, quickly.
LINES = {
    "check": ("check", "{data}", "--report", "{new}.html"),
    "train": ("train", "{data}", "-o", "{new}", "{quick}"),
    "predict": ("predict", "{model}", "{images}", "-o", "{new}", "--device", "cpu"),
    "evaluate": ("evaluate", "{masks}", "{data}", "--masks", "{masks}"),
    "convert": ("convert", "{data}", "--to", "coco", "-o", "{new}"),
    "demo": ("demo", "-o", "{new}", "--device", "cpu"),
    "doctor": ("doctor", "--no-self-test"),
    "recipes": ("recipes",),
}

#: What is no number, and what is no number that anything can be set to.
NO_NUMBERS = ("x", "1,5", "--", "nan", "inf", "1e999", "0x10", "9" * 400, "-" + "9" * 400)

#: What is no value of a flag that takes words.
NO_WORDS = {
    "--labels": ("magic", "Classes", "0", "classes,instances"),
    "--legend": ("x", "0", "=a", "0=", "0=a,,1=b", "a=b", "#12345=x", "#gggggg=x", "9" * 400 + "=a", "1.5=a"),
    "--values": ("x", "1,", ",", "1.5,2", "1;2", "9" * 400, "1e3"),
    "--unlabelled": ("x", "Ignore", "0"),
    "--z": ("x", "-1", "1.5", "²", "maximum", "1:3", "9" * 400),
    "--time": ("x", "-1", "max", "²"),
    "--axes": ("QQ", "YY", "X", "1", "ZZYX", "☃"),
    "--tile": ("x", "0", "-1", "1.5", "²", "1e3", "256x256"),
    "--rescale": ("x", "0", "-1", "nan", "inf", "1,2,3,4", ",", "1e999"),
    "--export": ("x", "png", "coco,,x", "GeoJSON"),
    "--memory": ("x", "0", "-1GB", "nan", "1XB", "GB", "1e999", "1 2"),
    "--augment": ("x", "None", "mirror", "8"),
    "--device": ("tpu", "cuda:x", "cpu:0", "CPU", "cuda:-1", "mps:3", "cuda:" + "9" * 30),
    "--no-flip": ("q", "x;y", "xy", "0", ","),
    "--to": ("x", "GeoJSON", "png", "coco,roi", "../coco"),
    "--recipe": ("nope", "../default", "default.yml.txt", "/", "☃"),
    "--groups": ("(", "[a", "*", "column:", "column:nope"),
    "--channels": ("9", "nope", "-1", "9" * 400),
}

#: What no setting can be.
NO_SETTINGS = (
    "a", "=", "a=", ".=1", "..=1", "a.b.c.d.e=1", "training=5", "training=", "training.=1", ".lr=1", "network=unet", "name=[1]",
    "training.lr={a: [b", "training.lr=&a [*a]", "training.lr=!!python/object/apply:os.system ['true']",
    "training.lr=" + "[" * 9999,
    "training.lr=.nan", "training.lr=.inf", "training.lr=-1", "training.lr=1e-999", "training.lr=null", "training.lr='1'x",
    "training.seed=" + "9" * 5000, "training.seed=-1", "training.batch=1.5", "training.batch=-1", "training.batch=" + "9" * 400,
    "training.patch=[1e9]", "training.patch=16", "training.patch=[]", "training.patch=[0,0]", "training.precision=float8",
    "data.legend={0: a, x: b}", "data.legend=[]", "data.validation_share=1", "data.spacing={y: -1}", "data.kind=Classes",
    "augmentation.flip=[w]", "augmentation.scale=5", "loss.class_weights=[-1]", "loss.cross_entropy=.nan", "instances.sigma=0",
    "network.name=", "network.options=5", "network.options.wings=2", "network.options.width=.inf", "network.options.width=-3",
    "network.options.width=" + "9" * 400, "network.options.depth=99", "network.options.depth=1.5", "network.options.scales=x",
    "network.options.in_channels=2", "network.options.spatial_dims=4", "network.options.__class__=1", "training.lr.x=1",
    "prediction.tile=0", "prediction.tile=half", "normalization.method=magic", "\udcff=1", "training.lr=\0",
)

COMMANDS = typer.main.get_command(app).commands


NUMERIC = [(verb, max(p.opts, key=len)) for verb in LINES for p in getattr(COMMANDS[verb], "params", ())
           if p.opts[0].startswith("-") and p.type_descriptor.annotation in (int, float)]


def test_numeric_flags_are_found():
    """Of the flags that exist today; otherwise nothing below would try them."""
    assert {("train", "--steps"), ("train", "--minutes"), ("demo", "--seed"), ("check", "--ignore"), ("evaluate", "--mask-scale"),
            ("convert", "--ignore")} <= set(NUMERIC)


@pytest.mark.parametrize(("verb", "flag"), NUMERIC, ids=str)
def test_no_numbers(odd, verb, flag):
    for value in NO_NUMBERS:
        code, _, err = odd(*LINES[verb], flag, value)
        assert code == 2, (value, err)
        assert flag.lstrip("-") in err.replace("_", "-"), (value, err)


@pytest.mark.parametrize(("verb", "flag"), [n for n in NUMERIC if n[1] != "--ignore"], ids=str)
def test_negative_numbers(odd, verb, flag):
    code, _, err = odd(*LINES[verb], flag, "-5")
    assert code == 2, err


@pytest.mark.parametrize(("verb", "flag"), [(verb, flag) for verb in LINES for flag in NO_WORDS
                                            if any(flag in p.opts for p in getattr(COMMANDS[verb], "params", ()))], ids=str)
def test_no_words(odd, verb, flag):
    """What cannot be read is wrong usage; a channel, group or GPU that is not there is of the data or the machine."""
    for value in NO_WORDS[flag]:
        code, _, err = odd(*LINES[verb], flag, value)
        mild = flag in ("--channels", "--groups", "--device")
        assert code in ((1, 2) if mild else (2,)), (value, err)


@pytest.mark.parametrize("setting", NO_SETTINGS, ids=lambda s: ascii(s)[:40])
def test_no_settings(odd, setting):
    code, _, err = odd(*LINES["train"], "--set", setting)
    assert code == 2, err
    assert len(err) < 3000


@pytest.mark.parametrize(("line", "code"), [
    ((), 2), (("",), 2), (("--",), 2), (("nope",), 2), (("TRAIN",), 2), (("--help",), 0), (("-h",), 0), (("--version",), 0),
    (("--debug", "--version"), 0), (("--version", "--nope"), 2), (("train",), 2), (("train", "--help", "x"), 0),
    (("train", "-h"), 0), (("train", "{data}"), 2), (("train", "-o", "{new}"), 2),
    (("train", "{data}", "{data}", "-o", "{new}"), 2),
    (("train", "{data}", "-o"), 2), (("train", "{data}", "--out="), 2), (("train", "", "-o", "{new}"), 2),
    (("train", "{data}", "-o", ""), 2),
    (("train", "{data}", "-o", "{new}", "--minutes", "1", "--steps", "1"), 2), (("train", "{data}", "-o", "{new}", "--st", "1"), 2),
    (("train", "{data}", "-o", "{new}", "--steps", "1", "--folds", "1"), 2),
    (("train", "{data}", "-o", "{new}", "--steps", "1", "--folds", "99"), 2),
    (("train", "{data}", "-o", "{new}", "--overwrite=yes"), 2), (("train", "{data}", "-o", "{new}", "--set"), 2),
    (("train", "{data}", "--", "-o", "{new}"), 2), (("predict", "{model}", "-o", "{new}"), 2),
    (("predict", "", "{images}", "-o", "{new}"), 2), (("predict", "{model}", "", "-o", "{new}"), 2),
    (("predict", "{images}", "{model}", "-o", "{new}"), 2), (("predict", "{model}", "{images}", "-o", "{images}"), 2),
    (("predict", "{model}", "{data}", "-o", "{new}"), 2), (("predict", "{model}", "{model}", "-o", "{new}"), 1),
    (("predict", "{model}", "{images}", "-o", "{new}", "--probabilities=maybe"), 2),
    (("predict", "{model}", "{images}", "-o", "{new}", "--memory", "1"), 1),
    (("evaluate", "{masks}"), 2), (("evaluate", "{masks}", "{masks}"), 2), (("evaluate", "{data}", "{data}"), 2),
    (("evaluate", "{data}", "{out}"), 1), (("evaluate", "{masks}", "{model}"), 1),
    (("evaluate", "{masks}", "{data}", "--mask", "x"), 2),
    (("convert", "{data}", "-o", "{new}"), 2), (("convert", "{data}", "--to", "coco"), 2),
    (("convert", "{data}", "--to", "", "-o", "{new}"), 2), (("convert", "{model}", "--to", "coco", "-o", "{new}"), 1),
    (("check",), 2), (("check", "{data}", "--report"), 2), (("check", "{data}", "extra"), 2), (("check", "{model}"), 1),
    (("demo", "extra"), 2), (("demo", "--minutes", "0"), 2), (("doctor", "extra"), 2), (("doctor", "--self-test=5"), 2),
    (("recipes", "nope"), 2), (("recipes", "show"), 2), (("recipes", "show", "nope"), 2),
    (("recipes", "show", "{world}/no.yaml"), 1),
    (("recipes", "show", "default"), 0), (("recipes", "show", "{bad}/recipes/bomb.yaml"), 1),
    (("doctor", "--no-self-test", "--log"), 2), (("doctor", "--no-self-test", "--log="), 2), (("doctor", "--log", "--json"), 2),
    (("doctor", "--no-self-test", "--log", "-"), 2), (("doctor", "--no-self-test", "--log", "a.log", "--log", "b.log"), 0),
    (("doctor", "--no-self-test", "--json", "a.json", "--json", "-"), 0), (("doctor", "--no-self-test", "--json", ""), 2),
    (("doctor", "--no-self-test", "--no-self-test"), 0), (("doctor", "--self-test", "--no-self-test"), 0),
    (("evaluate", "{out}", "{data}", "--json", "-", "--json", "-"), 0), (("evaluate", "--", "{out}", "{data}"), 0),
    (("evaluate", "--debug=1", "{out}", "{data}"), 2), (("train", "@{data}", "-o", "{new}"), 1),
], ids=lambda x: (" ".join(x) or "nothing")[:60] if isinstance(x, tuple) else str(x))
def test_lines(odd, line, code):
    got, _, err = odd(*line)
    assert got == code, err


def test_arguments_after_two_dashes_are_names(odd, make_dataset, tmp_path, monkeypatch):
    make_dataset(tmp_path / "cwd" / "--debug", n=2)
    code, _, err = odd("predict", "-o", "{new}", "--device", "cpu", "--", "{model}", "--debug/images")
    assert code == 0, err


TEXT = st.text(st.characters(blacklist_characters="\0"), min_size=1, max_size=12)
WORDS = st.sampled_from([
    "-1", "0", "1", "nan", "-", "--", "", " ", "none", "auto", "each", "max", "ignore", "instances", "classes", "0=a", "0,255",
    "YX", "a" * 300,
    "{data}", "{images}", "{masks}", "{model}", "{out}", "{world}", "{world}/nowhere", "{world}/notes.txt", "{bad}/places/empty",
    "{images}/im_00.png", "{model}/model.safetensors"]) | TEXT
#: Not of the demo, which trains for a minute and a half when it is told nothing else.
VERBS = ("check", "evaluate", "convert", "predict", "recipes")
LONG = {"--json", "--report", "--log", "--out"}


@st.composite
def any_line(draw):
    """A line that works with flags and values strewn in, its own or any; places of results only new ones or those of others."""
    verb = draw(st.sampled_from(VERBS))
    known = [max(p.opts, key=len) for p in getattr(COMMANDS[verb], "params", ()) if p.opts[0].startswith("-")]
    line = list(LINES[verb])
    for _ in range(draw(st.integers(1, 4))):
        flag = draw(st.sampled_from([*known, "--debugger", "--nope", "-x"]))
        value = draw(st.sampled_from(["{new}-2", "{images}/im_00.png", "{world}/notes.txt", "{model}"]) if flag in LONG else WORDS)
        place = draw(st.integers(1, len(line)))
        line[place:place] = [flag, value] if draw(st.booleans()) else [f"{flag}={value}"] if draw(st.booleans()) else [value]
    return line


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(line=any_line())
def test_any_line(odd, line):
    odd(*line)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(flag=st.sampled_from(["--legend", "--values", "--channels", "--z", "--time", "--axes", "--groups", "--labels", "--ignore",
                             "--mask-scale"]), value=TEXT)
def test_any_value(odd, flag, value):
    odd("check", "{images}", "--report", "{new}.html", f"{flag}={value}")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(setting=st.tuples(st.sampled_from(["training.lr", "training", "network.options.width", "network.options.x", "data.legend",
                                          "loss.class_weights", "name", "x.y"]) | TEXT, TEXT).map("=".join))
def test_any_setting(setting):
    """Recipes alone: hardly any of them is one."""
    from biomask.errors import UsageError
    from biomask.recipe import Recipe

    with contextlib.suppress(UsageError):  # and nothing else
        Recipe(name="x").with_settings([setting])


class TestStreams:
    """What happens to stdout and stderr, in processes of their own."""

    def run(self, command, **more):
        return subprocess.run(command, shell=True, text=True, stderr=subprocess.PIPE, timeout=300,
                              env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}, **more)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a shell of Unix")
    @pytest.mark.parametrize(("command", "code"), [
        ('"$PYTHON" -m biomask --version >&-', 0), ('"$PYTHON" -m biomask --version 2>&-', 0),
        ('"$PYTHON" -m biomask nope 2>&-', 2),
        ('"$PYTHON" -m biomask recipes --json - >&-', 1), ('"$PYTHON" -m biomask recipes show default <&-', 0),
        ('set -o pipefail; "$PYTHON" -m biomask recipes --json - | head -c 5 > /dev/null', 0),
        ('set -o pipefail; "$PYTHON" -m biomask recipes show default | true', 0)])
    def test_closed(self, command, code):
        done = self.run(command, executable="/bin/bash", stdout=subprocess.DEVNULL)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    @pytest.mark.parametrize(("command", "code"), [('"$PYTHON" -m biomask recipes show default > /dev/full', 3),
                                                   ('"$PYTHON" -m biomask recipes show default 2> /dev/full', 0)])
    def test_full(self, command, code):
        done = self.run(command, stdout=subprocess.DEVNULL)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


def test_results_are_still_right_after_all_that(world, capsys):
    """Nothing that went wrong before has changed what the same process does next."""
    capsys.readouterr()
    assert main(["evaluate", str(world / "out"), str(world / "data"), "--json", "-"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["evaluate", "--ignore", "x", "a", "b"]) == 2
    capsys.readouterr()
    assert main(["evaluate", str(world / "out"), str(world / "data"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == first
