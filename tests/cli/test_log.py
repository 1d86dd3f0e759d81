"""--log FILE and --debug, anywhere in the line of every command."""

import re
import subprocess
import sys
import warnings

import pytest
import typer
from rich.console import Console

from biomask import api
from biomask.cli import app, console, main
from biomask.cli.log import TITLE, logging_to
from biomask.errors import UsageError, WriteError

VERBS = ("check", "train", "predict", "evaluate", "compare", "convert", "demo", "doctor", "recipes", "datasets")

#: A line of each command that is an error.
WRONG = {
    "check": ("check", "nowhere"), "train": ("train", "nowhere", "-o", "m"), "predict": ("predict", "nowhere", "x", "-o", "o"),
    "evaluate": ("evaluate", "nowhere", "x"), "convert": ("convert", "nowhere", "--to", "coco", "-o", "o"),
    "compare": ("compare", "nowhere", "-o", "o"), "demo": ("demo", "-o", "taken"),
    "doctor": ("doctor", "--json", "taken"), "recipes": ("recipes", "show", "nowhere"),
    "datasets": ("datasets", "get", "nowhere", "-o", "o"),
}

#: Of each entry: time with its zone, process, level, text.
ENTRY = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \d+ (INFO|WARNING|ERROR) +(.+)")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    return tmp_path


def entries(path):
    """(level, text) of each; lines that go on an entry belong to it."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        if match := ENTRY.match(line):
            found.append([match[1], match[2]])
        else:
            found[-1][1] += f"\n{line}"
    return [tuple(e) for e in found]


def test_every_command_is_tried():
    assert set(VERBS) == set(typer.main.get_command(app).commands) == set(WRONG)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("place", ["first", "second", "last"])
def test_debug_shows_tracebacks_and_the_log_has_them_always(capsys, tmp_path, verb, place):
    line = list(WRONG[verb])
    at = {"first": 0, "second": 1, "last": len(line)}[place]
    code = main([*line[:at], "--log", "a.log", *line[at:]])
    quiet = capsys.readouterr().err
    assert code in (1, 2)
    assert "Traceback" not in quiet
    assert main([*line[:at], "--debug", *line[at:]]) == code
    assert "Traceback" in capsys.readouterr().err
    found = entries(tmp_path / "a.log")
    text = next(text for level, text in found if level == "ERROR")
    assert "Traceback" in text
    assert text.partition("\n")[0] in quiet
    assert found[0][1].endswith(" ".join([*line[:at], "--log", "a.log", *line[at:]]))
    assert f"exit code {code}" in [text for _, text in found]


def test_usage_errors_of_the_parser_too(capsys, tmp_path):
    assert main(["train", "--nope", "--debug", "--log=a.log"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert any(level == "ERROR" and "--nope" in text for level, text in entries(tmp_path / "a.log"))


def test_all_that_stderr_says_is_in_it_and_runs_are_appended(capsys, tiny_data, tiny_model, tmp_path):
    for _ in range(2):
        line = ["predict", tiny_model, tiny_data / "images", "-o", "out", "--device", "cpu", "--log", "new/a.log"]
        assert main([str(part) for part in line]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line]
    text = (tmp_path / "new" / "a.log").read_text(encoding="utf-8")
    assert said
    assert all(line.removeprefix("warning: ") in text for line in said)
    assert text.count(TITLE) == 1
    assert [t for _, t in entries(tmp_path / "new" / "a.log")].count("exit code 0") == 2


def test_warnings_of_libraries_are_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(api, "evaluate", lambda *a, **k: warnings.warn("pixels are odd", UserWarning, stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        heard = []
        monkeypatch.setattr(warnings, "showwarning", lambda message, *more, **named: heard.append(str(message)))
        before = warnings.showwarning
        main(["evaluate", "a", "b", "--log", "a.log"])
        assert warnings.showwarning is before
        assert heard == ["pixels are odd"]
    assert any(level == "WARNING" and "pixels are odd" in text for level, text in entries(tmp_path / "a.log"))


def test_names_that_are_not_utf8(tmp_path):
    # In a process of its own: pytest-xdist cannot send such a name to its main process.
    line = [sys.executable, "-m", "biomask", "train", b"nowhere\xff", "-o", "m", "--log", "a.log"]
    assert subprocess.run(line, cwd=tmp_path, capture_output=True).returncode == 1
    assert "nowhere\\udcff" in (tmp_path / "a.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [["--log"], ["--log", ""], ["--log="], ["--log", "-"], ["--log", "--debug"]])
def test_a_log_needs_a_name(capsys, options):
    assert main(["doctor", "--no-self-test", *options]) == 2
    assert "--log" in capsys.readouterr().err


def test_a_log_never_spoils_another_file(capsys, tmp_path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    assert main(["train", "nowhere", "-o", "m", "--log", "image.png"]) == 2
    assert (tmp_path / "image.png").read_bytes() == b"\x89PNG"
    with pytest.raises(UsageError), logging_to(tmp_path / "taken" / "thesis.txt", ()):
        pass
    with pytest.raises(WriteError), logging_to(tmp_path / "taken", ()):
        pass


def test_an_empty_file_becomes_a_log(tmp_path):
    (tmp_path / "a.log").write_bytes(b"")
    with logging_to(tmp_path / "a.log", ("doctor",)):
        pass
    assert (tmp_path / "a.log").read_text(encoding="utf-8").startswith(TITLE)


def test_options_after_two_dashes_are_names(capsys, tmp_path):
    assert main(["train", "-o", "m", "--", "--log"]) == 1
    assert "--log" in capsys.readouterr().err
    assert not (tmp_path / "a.log").exists()


def test_nobody_listens_without_it(tmp_path, capsys):
    main(["train", "nowhere", "-o", "m"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["taken"]


def test_a_live_bar_leaves_lines_in_it(tmp_path, monkeypatch):
    """On a terminal too, where the bar itself is drawn over and over."""
    with open(tmp_path / "screen", "w", encoding="utf-8") as screen:
        monkeypatch.setattr(console, "stderr", Console(file=screen, force_terminal=True, width=100))
        monkeypatch.setattr(console, "PATIENCE", 0.0)
        with logging_to(tmp_path / "a.log", ()), console.ConsoleProgress().bar("training") as bar:
            for n in range(5):
                bar.update(n / 4, f"loss [0.{n}]")
    lines = [text for _, text in entries(tmp_path / "a.log") if text.startswith("training: ")]
    assert len(lines) == 4
    assert "100%" in lines[-1]
    assert "loss [0.4]" in lines[-1]


def test_a_stderr_that_cannot_be_written_stops_nothing(monkeypatch):
    class Full:
        encoding = "utf-8"

        def write(self, text):
            raise OSError(28, "No space left on device")

        def flush(self):
            pass

    monkeypatch.setattr(console, "stderr", Console(file=Full()))
    progress = console.ConsoleProgress()
    progress.say("hello")
    progress.warn("again")
