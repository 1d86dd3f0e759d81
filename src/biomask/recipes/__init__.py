"""The named recipes, as data: one YAML file each; what their sources print of them is in `catalogue`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from biomask.errors import UsageError
from biomask.recipe import Recipe
from biomask.recipes.catalogue import ALIASES


def names() -> list[str]:
    """Names of the recipes that come with biomask, without their aliases."""
    return sorted(p.name.removesuffix(".yaml") for p in files(__name__).iterdir() if p.name.endswith(".yaml"))


def get(name: str) -> Recipe:
    """A recipe by name or alias, or from a YAML file by path. Raises UsageError naming what there is."""
    if name.endswith((".yaml", ".yml")):
        return Recipe.from_yaml(name)
    known = ALIASES.get(name, name)
    if known not in names():
        raise UsageError(f"no recipe is called {name!r}", fix=f"there are {', '.join(names())}, or give a .yaml file")
    return Recipe.from_yaml(Path(str(files(__name__) / f"{known}.yaml")))
