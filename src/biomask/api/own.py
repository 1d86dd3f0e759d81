"""A network of the user's own, by the name of its code."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from biomask.errors import MissingPathError, UsageError

#: What a network may be given as: a module, its class or a function that makes one, or where that stands: "my_nets.py:MyNet".
Own = nn.Module | Callable[..., nn.Module] | str

#: Marks modules that were loaded from a file here.
OURS = "_biomask_own"

_FORM = "--network my_nets.py:MyNet, or an installed module: my_package.nets:MyNet"


def own_network(given: Own) -> nn.Module | Callable[..., nn.Module]:
    """The module, or what makes one; the code of "FILE.py:NAME" and "MODULE:NAME" is run.

    Raises UsageError or MissingPathError for what is not there, or fails.
    """
    if not isinstance(given, str):
        return given
    place, colon, name = given.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"--network {given!r} does not say where the network stands", fix=_FORM)
    module = _module(place)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, nn.Module) and not callable(found):
        there = [k for k, v in vars(module).items()
                 if isinstance(v, type) and issubclass(v, nn.Module) and v.__module__ == module.__name__]
        raise UsageError(f"--network {given}: {place} has no network {name}", fix=f"it has {', '.join(there)}" if there else _FORM)
    return found  # type: ignore[no-any-return]


def _module(place: str) -> ModuleType:
    """Of a file or by name. Raises UsageError for code that fails, with its error."""
    path = Path(place)
    try:
        if path.suffix != ".py":
            return importlib.import_module(place)
        if not path.is_file():
            raise MissingPathError("no such file", where=path, fix=_FORM)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"--network {place} is no Python file", fix=_FORM)
        module = importlib.util.module_from_spec(spec)
        if path.stem not in sys.modules or hasattr(sys.modules[path.stem], OURS):
            sys.modules[path.stem] = module  # dataclasses look there; another module of this name stays what it is
        setattr(module, OURS, True)
        spec.loader.exec_module(module)
        return module
    except (MissingPathError, UsageError):
        raise
    except ModuleNotFoundError as error:
        raise UsageError(f"--network {place}: {error}", fix="give a file, or install the package into this environment") from error
    except (Exception, SystemExit) as error:  # anything that somebody's code may raise
        raise UsageError(f"--network {place}: its code fails with {type(error).__name__}: {error}", fix="try: python "
                         + place) from error
