"""`biomask demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biomask.cli.console import ConsoleProgress, check_json, show, write_json
from biomask.cli.options import Device, Json


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything that the demo makes.")] = Path("biomask-demo"),
    minutes: Annotated[float, typer.Option(help="Training time.", min=0.0)] = 1.5,
    seed: Annotated[int, typer.Option(help="Another seed gives other cells.", min=0, max=2**63 - 1)] = 0,
    device: Device = "auto",
    json: Json = None,
) -> int:
    """Train, predict, evaluate and report on images of cells that it makes."""
    from biomask.cli.evaluate import print_scores
    from biomask.demo import run

    check_json(json, out)
    result = run(out, minutes=minutes, seed=seed, device=device, progress=ConsoleProgress())
    if write_json(result.evaluation, json):
        return 0
    print_scores(result.evaluation)
    show("\nDice of the cells on the same held-out images:")
    for name, dice in result.comparison.items():
        show(f"  {name:<28} {dice:.3f}")
    show(f"\nopen {result.report}")
    return 0
