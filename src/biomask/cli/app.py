"""The commands, and what happens to their errors."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer

import biomask
from biomask.cli import check, compare, convert, datasets, demo, doctor, evaluate, predict, recipes, train
from biomask.cli.console import abandon, complain
from biomask.cli.log import log, logging_to
from biomask.errors import BiomaskError, UsageError

#: What typer makes of Ctrl-C.
INTERRUPTED = 130

#: What to do about an error of the system, by its number; otherwise the path is to be looked at.
FIXES = {
    errno.EACCES: "look at who may read and write there, or give another place",
    errno.EPERM: "look at who may read and write there, or give another place",
    errno.EROFS: "give a place that can be written to",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "a link leads back to itself: give the folder that it was meant to lead to",
    errno.EMFILE: "allow more open files: ulimit -n 4096",
}

app = typer.Typer(
    name="biomask", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="Thirty labelled images in, a segmentation you can trust out.",
    epilog="Exit codes: 0 done; 1 something that you can fix; 2 wrong usage; 3 out of memory, disk or time, or stopped. "
           "Anywhere in the line: --debug shows tracebacks, --log FILE keeps all that is said, with the time.",
)
app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("convert")(convert.convert)
app.command("doctor")(doctor.doctor)
app.add_typer(recipes.app, name="recipes")
app.add_typer(datasets.app, name="datasets")


@app.callback(invoke_without_command=True)
def _root(context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        typer.echo(f"biomask {biomask.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise UsageError("no command is given", fix="biomask --help lists them")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. No traceback leaves it without --debug."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not lose the result
    debug = False
    try:
        debug, target, rest = _everywhere(given)
        with logging_to(target, given):
            code = _guarded(rest, debug)
            log.info("exit code %d", code)
            return code
    except BiomaskError as error:  # of --log itself
        return _report(_with_fix(error), error.exit_code, debug)


def _everywhere(given: Sequence[str]) -> tuple[bool, Path | None, list[str]]:
    """(--debug, the file of --log, the rest): options that may stand anywhere before a "--". Raises UsageError."""
    end = given.index("--") if "--" in given else len(given)
    debug, target, rest, waiting = False, None, list[str](), iter(given[:end])
    for argument in waiting:
        if argument == "--debug":
            debug = True
        elif argument == "--log" or argument.startswith("--log="):
            target = next(waiting, "") if argument == "--log" else argument.removeprefix("--log=")
            if target in ("", "-") or target.startswith("--"):
                raise UsageError("needs the name of a file", where="--log", fix="--log biomask.log")
        else:
            rest.append(argument)
    return debug, Path(target) if target else None, [*rest, *given[end:]]


def _guarded(arguments: Sequence[str], debug: bool) -> int:
    """Run a command; whatever it raises becomes a message and an exit code."""
    try:
        _refuse_empty(arguments)
        result = app(list(arguments), prog_name="biomask", standalone_mode=False)
        if result == INTERRUPTED:
            return _report("interrupted", 3, debug)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a reader that left or a full disk can still be answered
        return result if isinstance(result, int) else 0
    except typer.TyperException as error:  # wrong options, unknown commands
        return _misused(error, arguments, debug)
    except (typer.Abort, KeyboardInterrupt):
        return _report("interrupted", 3, debug)
    except BiomaskError as error:
        return _report(_with_fix(error), error.exit_code, debug)
    except (SystemExit, BrokenPipeError):  # whoever read stdout has seen enough, as `| head`
        return 0
    except Exception as error:  # noqa: BLE001  the last line of defence: any other error becomes a message
        return _report(*_explain(error), debug)
    finally:
        _settle_stdout()


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise UsageError for an empty argument: a path that is empty would be taken for the current folder."""
    for before, argument in zip(("", *arguments), arguments, strict=False):
        flag = argument.removesuffix("=")
        if not argument or (argument.startswith("--") and argument.endswith("=") and "=" not in flag and flag != "--"):
            raise UsageError("is empty", where=flag or (before if before.startswith("-") else "an argument"),
                             fix="leave it out, or give it a value; a variable of the shell that is not set is empty")


def _with_fix(error: BiomaskError) -> str:
    """Its message, with the usual way out of its kind where it names none itself."""
    text = str(error)
    return text if "→" in text else f"{text}\n  → {error.usual_fix}"


def _settle_stdout() -> None:
    """Where what is left in its buffer cannot be written, let it go nowhere: the interpreter would complain when it ends."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        abandon(sys.stdout)


def _explain(error: Exception) -> tuple[str, int]:
    """(message, exit code) for an error that biomask did not raise itself."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return "memory ran out\n  → use a smaller --tile, --memory, or --set training.batch", 3
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or error})\n  → free some space and run the command again", 3
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # so says pathlib up to Python 3.12
        return f"{error}\n  → {FIXES[errno.ELOOP]}", 1
    if isinstance(error, OSError):
        fix = FIXES.get(error.errno or 0, "look at the path, and whether its disk is still there")
        return f"{error.filename or 'a file'}: {error.strerror or error}\n  → {fix}", 1
    return (f"unexpected {type(error).__name__}: {error}\n  → this is a mistake in biomask; please report it with the output "
            "of the same command and --debug, and that of biomask doctor"), 1


def _misused(error: typer.TyperException, arguments: Sequence[str], debug: bool) -> int:
    """What the parser of the command line did not understand, in the words of the other errors."""
    context = getattr(error, "ctx", None)
    if not arguments and context is not None:  # biomask alone
        typer.echo(context.get_help(), err=True)
        return error.exit_code
    named = [*(c.name for c in app.registered_commands), *(g.name for g in app.registered_groups)]
    known = [name for name in named if name and name in arguments]
    command = context.command_path if context is not None else " ".join(["biomask", *known[:1]])
    return _report(f"{error.format_message().rstrip('.')}\n  → {command} --help shows what can be given", error.exit_code, debug)


def _report(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    complain(message, stopped=code == 3)
    return code
