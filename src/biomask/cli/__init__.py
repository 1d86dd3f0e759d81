"""The command line: parse, call, print. Importing it loads neither torch nor numpy."""

from biomask.cli.app import app, main

__all__ = ["app", "main"]
