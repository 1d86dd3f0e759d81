"""`biomask train`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from biomask.cli.console import ConsoleProgress, check_json, show, write_json
from biomask.cli.options import (
    Axes,
    Channels,
    Device,
    Groups,
    Ignore,
    Json,
    Labels,
    LegendText,
    Masks,
    MaskScale,
    Network,
    Overwrite,
    Time,
    Unlabelled,
    Values,
    Z,
    label_settings,
    selection_settings,
)
from biomask.words import count


def train(
    data: Annotated[Path, typer.Argument(
        metavar="DATA", help="Folder of images and their labels; 'biomask check' says how it is understood.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder; a training that is there is resumed.")],
    minutes: Annotated[float | None, typer.Option(
        help="Budget in wall time. Default without --steps: until the score is flat, at most an hour on a CPU.", min=0.0)] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in optimisation steps; bit-exact on one machine.", min=1)] = None,
    until_flat: Annotated[bool, typer.Option(
        "--until-flat", help="Stop before the budget ends when the images held out score no better any more.")] = False,
    begin: Annotated[Path | None, typer.Option(
        "--from", help="Begin with a model's weights, or a file of them; the better of before and after is kept.")] = None,
    folds: Annotated[int | None, typer.Option(
        help="Cross-validation: train so many times, holding out another part each time; their mean predicts.", min=2)] = None,
    no_flip: Annotated[str | None, typer.Option(
        help="Axes that carry meaning and are never mirrored: x, y, z or several, e.g. x,y.")] = None,
    recipe: Annotated[str, typer.Option(help="A recipe's name or a .yaml file.")] = "default",
    settings: Annotated[list[str] | None, typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Change one setting of the recipe, e.g. training.lr=1e-4; repeatable.")] = None,
    network: Network = None,
    masks: Masks = None,
    labels: Labels = None,
    ignore: Ignore = None,
    legend: LegendText = None,
    values: Values = None,
    mask_scale: MaskScale = None,
    unlabelled: Unlabelled = None,
    groups: Groups = None,
    axes: Axes = None,
    channels: Channels = None,
    z: Z = None,
    time: Time = None,
    seed: Annotated[int | None, typer.Option(help="Every random choice follows from it. Default: the recipe's, 0.", min=0)] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = None,
) -> int:
    """Train on labelled images. Ctrl-C leaves a usable model; run again to go on."""
    from biomask import api
    from biomask.errors import StoppedError

    check_json(json, data, out, begin)
    reading = {**label_settings(labels, ignore, legend, values, mask_scale, unlabelled), "groups": groups,
               **selection_settings(axes, channels, z, time)}
    unflipped = tuple(a.strip() for a in no_flip.split(",")) if no_flip else ()
    options = api.TrainOptions(recipe=recipe, settings=tuple(settings or ()), minutes=minutes, steps=steps, seed=seed,
                               device=device, masks=masks, data=reading, overwrite=overwrite, until_flat=until_flat, begin=begin,
                               folds=folds, network=network, no_flip=unflipped)
    result = api.train(data, out, options, progress=ConsoleProgress())
    taken = _leads() and write_json({**asdict(result), "model": str(result.model)}, json)
    if result.stopped_by:
        usable = f"the model in {result.model} is usable" if (result.model / "model.safetensors").is_file() else "no fold is lost"
        raise StoppedError(f"by {result.stopped_by} at step {result.step}; {usable}",
                           fix="run the same command again to go on")
    if _leads() and not taken:
        before = "" if result.score_before is None else f" (before: {result.score_before:.4f})"
        tuned = "" if result.tuned_score is None else f", {result.tuned_score:.4f} with what was tuned on them"
        score = "" if result.validation_score is None else (
            f", {result.score_is} {result.validation_score:.4f}{before} on {count(result.scored, 'image')} held out{tuned}")
        show(f"{result.model}: {result.step} steps in {result.seconds / 60:.1f} minutes{score}")
        show(f"report: {result.model / 'report.html'} · next: biomask predict {result.model} IMAGES -o OUT")
    return 0


def _leads() -> bool:
    """Whether this process is the one of a `torchrun` that prints."""
    import os

    return os.environ.get("RANK", "0") == "0"
