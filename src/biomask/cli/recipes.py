"""`biomask recipes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from biomask.cli.console import check_json, show, write_json
from biomask.cli.options import Json

if TYPE_CHECKING:
    from biomask.recipes.describe import Description

app = typer.Typer(help="What can be trained: every recipe with its size, its source and what it is good for.",
                  invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def recipes(context: typer.Context, json: Json = None) -> None:
    """What can be trained: every recipe with its size, its source and what it is good for."""
    if context.invoked_subcommand is not None:
        return
    check_json(json)
    from biomask.recipes.describe import describe_all

    found = describe_all()
    if not write_json([_entry(d) for d in found], json):
        _print(found)


@app.command("show")
def show_one(name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe's name or alias, or a .yaml file.")]) -> None:
    """Print a recipe as YAML; save it, change it, and give it back by --recipe my.yaml."""
    from biomask.recipes import get

    show(get(name).to_yaml().rstrip("\n"))


def _entry(d: Description) -> dict[str, object]:
    return {"name": d.name, "parameters": d.parameters, "in_channels": d.in_channels, "classes": d.classes,
            "spatial_dims": d.spatial_dims, "source": d.source, "flops": d.flops, "good_for": d.good_for,
            "aliases": list(d.aliases)}


def _print(found: Sequence[Description]) -> None:
    """One line a recipe below its source."""
    widest = max(len(d.name) for d in found)
    show(f"  {'recipe':<{widest}} {'parameters':>11} {'GFLOP':>8}  good for")
    source = ""
    for d in found:
        if d.source != source:
            source = d.source
            show(source)
        show(f"  {d.name:<{widest}} {d.parameters:>11,} {d.flops / 1e9:>8,.1f}  {d.good_for}")
    show("")
    show("parameters: with as many channels and classes as the source has (--json tells them); default: where no data decide")
    show("GFLOP: operations of a prediction of 512 x 512 pixels, or of 64 x 64 x 64 voxels, which are as many")
    show("also: " + ", ".join(f"{alias} = {d.name}" for d in found for alias in d.aliases))
    show("next: biomask train DATA -o MODEL --recipe NAME; or biomask recipes show NAME > my.yaml, then --recipe my.yaml")
