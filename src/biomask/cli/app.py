"""The commands, and what happens to their errors."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

import typer

import biomask
from biomask.cli import check, convert, demo, evaluate, predict, train
from biomask.cli.console import stderr
from biomask.errors import BiomaskError

#: What typer makes of Ctrl-C.
INTERRUPTED = 130

app = typer.Typer(
    name="biomask", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="Thirty labelled images in, a segmentation you can trust out.",
    epilog="Exit codes: 0 done; 1 something that you can fix; 2 wrong usage; 3 out of memory, disk or time, or stopped. "
           "--debug anywhere shows tracebacks.",
)
app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("convert")(convert.convert)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        typer.echo(f"biomask {biomask.__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. No traceback leaves it without --debug."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not lose the result
    try:
        result = app([a for a in given if a != "--debug"], standalone_mode=False)
        if result == INTERRUPTED:
            return _report("interrupted", 3, debug)
        return result if isinstance(result, int) else 0
    except typer.TyperException as error:  # wrong options, unknown commands
        error.show() if hasattr(error, "show") else typer.echo(f"Error: {error}", err=True)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _report("interrupted", 3, debug)
    except BiomaskError as error:
        return _report(str(error), error.exit_code, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  the last line of defence: any other error becomes a message
        return _report(*_explain(error), debug)


def _explain(error: Exception) -> tuple[str, int]:
    """(message, exit code) for an error that biomask did not raise itself."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return "memory ran out\n  → use a smaller --tile, --memory, or --set training.batch", 3
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or error})\n  → free some space and run the command again", 3
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}", 1
    return (f"unexpected {type(error).__name__}: {error}\n  → this is a mistake in biomask; please report it with the output "
            "of the same command and --debug"), 1


def _report(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    stderr.print(f"[bold red]error:[/] {_escaped(message)}" if code != 3 else f"[bold yellow]stopped:[/] {_escaped(message)}")
    return code


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
