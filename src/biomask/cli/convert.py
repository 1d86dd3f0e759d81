"""`biomask convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biomask.cli.console import ConsoleProgress, check_json, show, write_json
from biomask.cli.options import (
    DATA,
    Axes,
    Ignore,
    Json,
    Labels,
    LegendText,
    MaskScale,
    Overwrite,
    Time,
    Values,
    Z,
    label_settings,
    selection_settings,
)
from biomask.words import count

#: Notes that are printed; --json has all.
MOST_NOTES = 20


def convert(
    labels: Annotated[Path, typer.Argument(
        metavar="LABELS", help="A folder of images and labels, a folder of labels, what 'biomask predict' wrote, or one file of "
                               "labels.")],
    to: Annotated[str, typer.Option(
        "--to", metavar="FORM", help="geojson (QuPath), roi (ImageJ, Fiji), labelme, napari, coco, labels (a number an object, "
                                     "as TIFF) or masks (a value a class, as TIFF).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into; with --to coco also the name of a .json file.")],
    images: Annotated[Path | None, typer.Option(
        "--images", metavar="FOLDER", help="Where the images are, if not beside the labels. Outlines need them to become pixels of "
                                           "the same size, COCO for their names. Default: found.")] = None,
    masks: Annotated[Path | None, typer.Option(
        "--masks", metavar="FOLDER", rich_help_panel=DATA,
        help="Which labels are meant, where LABELS holds several: a folder or its name, a COCO file, or GT or ST; of what 'biomask "
             "predict' wrote labels or masks. Default: found.")] = None,
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
    """Write labels in the form of another program.

    Outlines are passed on as they are. Outlines drawn around pixels follow their edges, so that no pixel is lost on the way back.
    Of what 'biomask predict' wrote, objects are those of its labels, or of masks that were corrected since, and it is said which.
    """
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
        what = count(done.objects, "mask" if to == "masks" else "object")
        show(f"{done.out}: {what} in {count(len(done.files), 'file')}")
    return 0
