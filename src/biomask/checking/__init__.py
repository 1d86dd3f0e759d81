"""`check`: what is in a folder, what is wrong with it, and what to type about it."""

from biomask.checking.check import Checked, check
from biomask.checking.problems import Problem

__all__ = ["Checked", "Problem", "check"]
