"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DATA = "How the data are read"

#: Of the number of a plane or time point.
MOST_DIGITS = 9

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps; what is asked for is used or refused.")]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Also write the result as JSON; - is stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Discard what an earlier run left in the output folder.")]

Network = Annotated[str | None, typer.Option(
    "--network", metavar="FILE.py:NAME", help="A network of your own, a torch.nn.Module: its code is run. Default: the recipe's.")]

Masks = Annotated[Path | None, typer.Option(
    "--masks", metavar="FOLDER", rich_help_panel=DATA,
    help="Where the labels are, if not in DATA; also the name of a folder in it, a COCO file, or GT or ST. Default: found.")]
Labels = Annotated[str | None, typer.Option(
    "--labels", metavar="KIND", rich_help_panel=DATA,
    help="classes, multilabel, instances or soft (expert averages). Default: inferred, with the reason.")]
Ignore = Annotated[int | None, typer.Option(
    "--ignore", metavar="VALUE", rich_help_panel=DATA, help="Label value of pixels where nothing is known. Default: none.")]
LegendText = Annotated[str | None, typer.Option(
    "--legend", metavar="VALUE=NAME,…", rich_help_panel=DATA,
    help="Names of classes, by value or colour: 0=background,1=cell or #ff0000=tumour. Default: the values found.")]
Values = Annotated[str | None, typer.Option(
    "--values", metavar="A,B,…", rich_help_panel=DATA,
    help="Each mask value stands for the nearest of these: mends smoothed or JPEG masks. Default: as it is.")]
MaskScale = Annotated[float | None, typer.Option(
    "--mask-scale", rich_help_panel=DATA,
    help="How many image pixels one mask pixel is wide, for masks exported smaller. Default: 1.")]
Unlabelled = Annotated[str | None, typer.Option(
    "--unlabelled", metavar="ignore|background", rich_help_panel=DATA,
    help="What images, masks and planes without labels mean. Default: asked where there are any.")]
Groups = Annotated[str | None, typer.Option(
    "--groups", metavar="RULE", rich_help_panel=DATA,
    help="What is never split: folder, column:NAME of split.csv, a pattern such as '(.*)_\\d+', none. Default: split.csv's, or "
         "images that are found to show the same or neighbouring places.")]
Axes = Annotated[str | None, typer.Option(
    "--axes", metavar="LETTERS", rich_help_panel=DATA,
    help="The files' axes in their order: T time, C channel, Z Y X space, S colour; e.g. ZCYX. Default: as the files say.")]
Channels = Annotated[str | None, typer.Option(
    "--channels", metavar="A,B,…", rich_help_panel=DATA,
    help="By name or by number from 0; grey = one channel of colour, rgb = three of grey. Default: all.")]
Z = Annotated[str | None, typer.Option(
    "--z", metavar="max|N|each", rich_help_panel=DATA,
    help="The brightest of all planes, one plane from 0, or every plane as an image. Default: volumes stay volumes.")]
Time = Annotated[str | None, typer.Option(
    "--time", metavar="N|each", rich_help_panel=DATA,
    help="One time point from 0, or every one as an image. Default: files have one.")]


def selection_settings(axes: str | None, channels: str | None, z: str | None, time: str | None) -> dict[str, Any]:
    """--axes, --channels, --z and --time as fields of `DataSettings`. Raises UsageError for what they cannot be."""
    return {"axes": axes, "channels": _parts(channels), "z": _number_or(z, "--z", ("max", "each")),
            "time": _number_or(time, "--time", ("each",))}


def label_settings(labels: str | None, ignore: int | None, legend: str | None, values: str | None, mask_scale: float | None,
                   unlabelled: str | None) -> dict[str, Any]:
    """--labels, --ignore, --legend, --values, --mask-scale and --unlabelled as fields of `DataSettings`."""
    from biomask.errors import UsageError
    from biomask.labels import LABEL_KINDS

    if labels is not None and labels not in LABEL_KINDS:
        raise UsageError(f"--labels {labels}: no such kind", fix=f"one of {', '.join(LABEL_KINDS)}")
    if unlabelled not in (None, "ignore", "background"):
        raise UsageError(f"--unlabelled {unlabelled} is not known", fix="--unlabelled ignore or --unlabelled background")
    if mask_scale is not None and mask_scale <= 0:
        raise UsageError(f"--mask-scale {mask_scale:g} must be above 0", fix="e.g. --mask-scale 4")
    return {"kind": labels, "ignore": ignore, "legend": _legend(legend), "mask_scale": mask_scale, "unlabelled": unlabelled,
            "values": _whole_numbers(values)}


def _parts(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip()) or None


def _number_or(text: str | None, flag: str, words: tuple[str, ...]) -> int | str | None:
    from biomask.errors import UsageError

    if text is None or text in words:
        return text
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise UsageError(f"{flag} {text[:20]!r} is neither a number from 0 nor {' nor '.join(words)}",
                         fix=f"e.g. {flag} {words[-1]}")
    return int(text)


def _whole_numbers(text: str | None) -> tuple[int, ...] | None:
    from biomask.errors import UsageError

    try:
        found = None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--values {text!r} are not whole numbers", fix="e.g. --values 0,255") from error
    if found is not None and max(map(abs, found)) >= 2**63:
        raise UsageError("--values has a number that no mask can hold", fix="e.g. --values 0,255")
    return found


def _is_value(text: str) -> bool:
    """Whether a mask can hold it: an integer of at most 18 digits."""
    digits = text.removeprefix("-")
    return digits.isdecimal() and len(digits) <= 18


def _legend(text: str | None) -> dict[int | str, str] | None:
    """{value or "#rrggbb": name}."""
    from biomask.errors import UsageError

    if text is None:
        return None
    found: dict[int | str, str] = {}
    for part in text.split(","):
        value, sign, name = (p.strip() for p in part.partition("="))
        if not sign or not name or not (_is_value(value) or (value.startswith("#") and len(value) == 7)):
            raise UsageError(f"--legend {part!r} is not VALUE=NAME", fix="e.g. --legend 0=background,255=cell or '#ff0000=tumour'")
        found[int(value) if not value.startswith("#") else value.lower()] = name
    return found
