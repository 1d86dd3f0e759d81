"""`biomask predict`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from biomask.cli.console import ConsoleProgress, check_json, show, write_json
from biomask.cli.options import Axes, Channels, Device, Json, Network, Overwrite, Time, Z, selection_settings
from biomask.words import count


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, or its model.safetensors alone.")],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="An image, or a folder of images of any size.")],
    out: Annotated[Path, typer.Option("--out", "-o",
        help="Results: masks/, labels/, objects.csv, images.csv, outlines/, run.json, report.html; of detectors detections.json.")],
    probabilities: Annotated[bool, typer.Option(
        "--probabilities", help="Also write probabilities/ (float32, all classes).")] = False,
    tile: Annotated[str | None, typer.Option(
        help="Pixels kept a tile, whole, or auto (by memory; tiled equals untiled). Of detectors the side of a window, auto as in "
             "training. Default: the recipe's, auto.")] = None,
    memory: Annotated[str | None, typer.Option(help="Bound on the memory used, e.g. 2GB. Default: half of what is free.")] = None,
    augment: Annotated[str | None, typer.Option(
        help="Mean over copies: none, mirrors, symmetries (mirrored and turned, 8 times the work in 2D), or rotations (those that "
             "the recipe lists, seven). Default: what training found best.")] = None,
    objects: Annotated[bool, typer.Option(
        "--objects/--no-objects", help="Also write labels/ (a number an object) and objects.csv (its measurements).")] = True,
    export: Annotated[str | None, typer.Option(
        "--export", metavar="A,B,…", help="Also write the objects for other programs: geojson (QuPath), roi (ImageJ), coco. With "
                                          "class, colour and measurements. Default: none.")] = None,
    rescale: Annotated[str | None, typer.Option(
        "--rescale", metavar="auto|FACTOR", help="Resample images before they are predicted; results keep the images' own pixels. "
                                                 "auto = to the size of the training's pixels, 0.5 = to half as many along each "
                                                 "axis, or one factor an axis, z,y,x: 1,0.5,0.5. Default: as they are.")] = None,
    depth: Annotated[int | None, typer.Option(
        help="Of UNet++: the deepest head that counts, 1 to 4; what only deeper ones need is not computed. 'biomask train' says "
             "which one to take. Default: as trained.", min=1)] = None,
    mode: Annotated[str | None, typer.Option(
        metavar="fast|accurate", help="Of UNet++: one head, or the mean of it and those before it. Default: as trained, with "
                                      "--depth fast.")] = None,
    attention: Annotated[bool, typer.Option(
        "--attention", help="Also write attention/: what the gates of an Attention U-Net let pass, as maps and pictures.")] = False,
    score: Annotated[float | None, typer.Option(
        help="Of detectors: leave out objects of at most this score, 0 to 1. Default: as tuned in training.")] = None,
    part: Annotated[str | None, typer.Option(
        metavar="train|validation|test", help="IMAGES is a data folder with a split, by split.csv or folders: predict this part.")
    ] = None,
    network: Network = None,
    axes: Axes = None,
    channels: Channels = None,
    z: Z = None,
    time: Time = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = None,
) -> int:
    """Segment images, read as in training unless told. Failed inputs are listed; run again, only what is missing is done."""
    from biomask import api
    from biomask.errors import ManyErrors
    from biomask.prediction.options import (
        parse_augment,
        parse_exports,
        parse_memory,
        parse_mode,
        parse_part,
        parse_rescale,
        parse_tile,
    )
    from biomask.recipe import DataSettings

    check_json(json, model, images, out)
    selection = DataSettings(**selection_settings(axes, channels, z, time)).selection
    options = api.PredictOptions(tile=parse_tile(tile) if tile is not None else None,
                                 memory=parse_memory(memory) if memory is not None else None,
                                 device=device, probabilities=probabilities, overwrite=overwrite, selection=selection,
                                 augment=parse_augment(augment), objects=objects, exports=parse_exports(export),
                                 rescale=parse_rescale(rescale), depth=depth, mode=parse_mode(mode), attention=attention,
                                 part=parse_part(part), score=score)
    try:
        opened = model if network is None else api.load_model(model, model=api.own_network(network))
        result = api.predict(opened, images, out, options, progress=ConsoleProgress())
    except ManyErrors as error:
        write_json({"out": str(out), "failed": [str(e) for e in error.errors]}, json)
        raise
    if not write_json({**asdict(result), "out": str(result.out)}, json):
        there = f", {len(result.skipped)} were there" if result.skipped else ""
        show(f"{result.out}: {count(len(result.done), 'image')} in {result.seconds:.1f} s{there} · report: "
             f"{result.out / 'report.html'} · next: biomask evaluate {result.out} TRUTH --report evaluation.html")
    return 0
