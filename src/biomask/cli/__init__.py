"""The command line: parse, call, print. Importing it loads neither torch nor numpy."""

import os

# Threads of a step wait for each other all the time. Those of GNU's OpenMP, which torch brings, do so by keeping their core
# busy, which takes it from each other as soon as any other program runs: steps took 2.0 s then instead of 0.4 s, and 1.0 s
# with less of it (two cores, one other busy process; alone it makes no difference). It is read when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from biomask.cli.app import app, main

__all__ = ["app", "main"]
