"""`biomask convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biomask.cli.console import ConsoleProgress, check_json, show, write_json
from biomask.cli.options import (
    Axes,
    Ignore,
    Json,
    Labels,
    LegendText,
    Masks,
    MaskScale,
    Overwrite,
    Time,
    Values,
    Z,
    label_settings,
    selection_settings,
)

#: Notes that are printed; --json has all.
MOST_NOTES = 20


def convert(
    labels: Annotated[Path, typer.Argument(
        metavar="LABELS", help="A folder of images and labels, a folder of labels, or one file of labels.")],
    to: Annotated[str, typer.Option(
        "--to", help="geojson (QuPath), roi (ImageJ), labelme, napari, coco, labels (ids as TIFF) or masks (classes as TIFF).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; of coco also the file.")],
    images: Annotated[Path | None, typer.Option(
        "--images", metavar="FOLDER", help="Where the images are, if not beside the labels: outlines become pixels at their size. "
                                           "Default: found.")] = None,
    masks: Masks = None,
    kind: Labels = None,
    ignore: Ignore = None,
    legend: LegendText = None,
    values: Values = None,
    mask_scale: MaskScale = None,
    axes: Axes = None,
    z: Z = None,
    time: Time = None,
    overwrite: Overwrite = False,
    json: Json = None,
) -> int:
    """Turn labels into those of another program. Outlines stay outlines; pixels keep every pixel."""
    from biomask import api

    check_json(json, labels, images, out)
    settings = {**label_settings(kind, ignore, legend, values, mask_scale, None), **selection_settings(axes, None, z, time)}
    done = api.convert(labels, out, to, settings, masks=masks, images=images, overwrite=overwrite, progress=ConsoleProgress())
    content = {"out": str(done.out), "files": [str(f) for f in done.files], "objects": done.objects, "notes": list(done.notes)}
    if not write_json(content, json):
        for note in done.notes[:MOST_NOTES]:
            show(f"note: {note}")
        if len(done.notes) > MOST_NOTES:
            show(f"… and {len(done.notes) - MOST_NOTES} more (--json lists all)")
        what = f"{done.objects} {'masks' if to == 'masks' else 'objects'}"
        show(f"{done.out}: {what} in {len(done.files)} file{'s' * (len(done.files) > 1)}")
    return 0
