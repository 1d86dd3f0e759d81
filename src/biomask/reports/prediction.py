"""The report of a prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biomask.labels import Legend
from biomask.reports.blocks import (
    Block,
    Cell,
    Files,
    Finding,
    Findings,
    Fold,
    Headline,
    Jump,
    KeyValues,
    Paragraph,
    Section,
    Table,
)
from biomask.reports.contents import object_chart
from biomask.reports.examples import Example, example_blocks
from biomask.reports.html import render
from biomask.reports.methods import methods_section, prediction_methods
from biomask.reports.parts import duration, folded
from biomask.reports.run import versions
from biomask.reports.scores import legend_fact
from biomask.reports.unusual import FEWEST
from biomask.words import count

if TYPE_CHECKING:
    from biomask.checkpoint import ModelHeader


@dataclass(frozen=True)
class Sizes:
    """Of all objects of a prediction, where they are known."""

    values: tuple[float, ...]
    unit: str


UNJUDGED = ("No truth was compared here, so nothing on this page says how right the masks are. Look at the outlines, "
            "and score some images with 'biomask evaluate'.")


#: Of the summary of an image, what the table shows: key, title.
MEASURED = {"objects_per_mm2": "objects a mm²", "objects_per_mm3": "objects a mm³", "area_um2_median": "median area, µm²",
            "volume_um3_median": "median volume, µm³", "area_px_median": "median area, px", "volume_px_median": "median volume, px",
            "touching_border": "cut by the edge", "probability_mean": "mean probability", "score_mean": "mean score"}

#: How often an image is predicted, by name.
COPIES = {"none": "once", "mirrors": "as the mean over mirrored copies",
          "symmetries": "as the mean over mirrored and turned copies",
          "rotations": "as the mean over copies turned as the recipe lists"}

#: What counts as an object, by kind.
OBJECTS = {"classes": "connected pieces of a class", "multilabel": "connected pieces of a structure",
           "instances": "each told from those that touch it"}


def prediction_report(record: Mapping[str, Any], examples: Sequence[Example], sizes: Sizes | None = None,
                      header: ModelHeader | None = None) -> str:
    """HTML page on one prediction.

    record: the content of its run.json; examples: some of its images; sizes: of all its objects; header: of its model.
    """
    images, failed = record.get("images") or {}, record.get("failed") or {}
    legend = Legend.from_json(record["legend"])
    stored = {"biomask": record.get("biomask_version"), "torch": record.get("torch_version")}
    used = {**versions(), **{k: str(v) for k, v in stored.items() if v}}
    sections = [
        *_warnings(record),
        *([Section("Failed", (_failures(failed),), "failed")] if failed else []),
        _examples(images, examples),
        *_objects(images, sizes),
        Section("Each image", (_images(record, legend),), "images"),
        *((Section("Files", (Files(_files(record)),), "files"),) if images else ()),
        methods_section(prediction_methods(record, header, used)),
        Section("How it was made", (KeyValues(_provenance(record, legend)),), "made"),
    ]
    ways = Jump(tuple((s.title, s.anchor) for s in sections))
    return render("Prediction report", f"{count(len(images), 'image')} segmented into {_segmented(record, legend)}",
                  [Section("", (_headline(record), ways, Paragraph(UNJUDGED))), *sections])


def _warnings(record: Mapping[str, Any]) -> tuple[Section, ...]:
    """What was remarkable over all images, then image by image; none where nothing was."""
    told = [str(w) for w in record.get("warnings") or ()]
    each = tuple((str(name), str(text)) for name, entry in (record.get("images") or {}).items()
                 for text in entry.get("warnings") or ())
    if not told and not each:
        return ()
    parts = [text.partition(": ") for text in told]
    blocks: list[Block] = [Findings(tuple(
        Finding("warning", head[:1].upper() + head[1:], (rest,) if rest else ()) for head, _, rest in parts))] if told else []
    if each:
        blocks.append(Fold(f"{count(len(each), 'remark')} on single images", (Table(("image", "in what it differs"), each),)))
    return (Section("Warnings", tuple(blocks), "warnings"),)


def _examples(images: Mapping[str, Mapping[str, Any]], examples: Sequence[Example]) -> Section:
    blocks = example_blocks(examples, over="the images predicted here", ordered=True)
    said: tuple[Block, ...] = ()
    if len(images) >= FEWEST and examples:
        said = (Paragraph("Images with warnings come first, then those whose number of objects, share of a class, sizes or "
                          "probabilities are farthest from those of the others, then usual ones. Far is not wrong: look."),)
    return Section("Examples, the most unusual first" if said else "Examples", (*said, *blocks), "examples")


def _objects(images: Mapping[str, Mapping[str, Any]], sizes: Sizes | None) -> tuple[Section, ...]:
    counted = [int(i["objects"]) for i in images.values() if i.get("objects") is not None]
    if sizes is None or len(set(sizes.values)) < 2 or not counted:
        return ()
    return (Section("Objects", (object_chart(sizes.values, counted, sizes.unit),), "objects"),)


def _kind(record: Mapping[str, Any]) -> str:
    """classes, multilabel or instances."""
    kind = str(record.get("kind") or "classes")
    return "classes" if kind == "soft" else kind


def _counted(record: Mapping[str, Any]) -> bool:
    """Whether objects were counted in any image."""
    return any(i.get("objects") is not None for i in (record.get("images") or {}).values())


def _headline(record: Mapping[str, Any]) -> Headline:
    images, failed = record.get("images") or {}, record.get("failed") or {}
    pixels = sum(int(np.prod(i["size"], dtype=np.int64)) for i in images.values())
    seconds = sum(float(i.get("seconds") or 0) for i in images.values())
    numbers: list[tuple[str, Cell, str]] = [
        ("images done", len(images), f"{len(failed):,} failed" if failed else "none failed")]
    if _counted(record):
        numbers.append(("objects", sum(i.get("objects") or 0 for i in images.values()), OBJECTS[_kind(record)]))
    return Headline((*numbers, ("megapixels", f"{pixels / 1e6:,.2f}", "over all images done"),
                     ("computing time", duration(seconds), "reading and writing included")))


def _failures(failed: Mapping[str, Any]) -> Table:
    return Table(("image", "what is wrong, and what to do"), tuple((str(k), str(v)) for k, v in failed.items()))


def _images(record: Mapping[str, Any], legend: Legend) -> Block:
    images = record.get("images") or {}
    if not images:
        return Paragraph("No image was done.")
    kind, counted = _kind(record), _counted(record)
    measured = {key: name for key, name in MEASURED.items() if any(key in (i.get("summary") or {}) for i in images.values())}
    rows = []
    for name, image in images.items():
        pixels = int(np.prod(image["size"], dtype=np.int64))
        counts, summary = image.get("class_pixels") or {}, image.get("summary") or {}
        shares = (_percent(counts.get(str(e.value)), pixels) for e in list(legend)[1:])
        rows.append((str(name), _size(image["size"]), _size(image.get("tile")), image.get("seconds"),
                     *((image.get("objects"),) if counted else ()), *shares, *(_rounded(summary.get(key)) for key in measured)))
    columns = ("image", "size, px", "tile, px", "seconds", *(("objects",) if counted else ()),
               *(f"{e.name}, share of pixels" for e in list(legend)[1:]), *measured.values())
    what = {"classes": "the class", "multilabel": "the structure", "instances": "an object of the class"}[kind]
    notes = (f"Share of pixels: pixels predicted as {what}, of all pixels of the image.",
             *((f"Objects: {OBJECTS[kind]}.",) if counted else ()),
             *(("All figures are in images.csv.",) if measured else ()))
    return folded(Table(columns, tuple(rows), notes), "images with size, time, objects and share of each class")


def _rounded(value: Any) -> Cell:
    """Three digits, whole from 100 on."""
    if not isinstance(value, float):
        return value if isinstance(value, int) else None
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _files(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What lies beside the page."""
    first: Mapping[str, Any] = next(iter(record["images"].values()))
    several = _kind(record) == "multilabel"
    masks = "a folder a structure: 255 where it is, 0 elsewhere" if several else "the value of its class a pixel"
    detected = any(entry.get("detections") is not None for entry in record["images"].values())
    return (*((("objects.csv", "a row an object: its image, class, size, place, shape and brightness"),
               ("images.csv", "a row an image: shares, counts, densities and sizes"),
               ("labels/", "the number of its object a pixel, as in objects.csv; 0 = none")) if _counted(record) else ()),
            *((("detections.json", "each object with box, score, mask and key points, in COCO's form; they may overlap"),)
              if detected else ()),
            *((("masks/", masks),) if first.get("mask") else ()), ("outlines/", "each image with what was found"))


def _provenance(record: Mapping[str, Any], legend: Legend) -> tuple[tuple[str, str | None], ...]:
    known = (("model", "model"), ("SHA-256 of the model", "model_sha256"), ("device", "device"), ("tile", "tile"),
             ("kind of labels", "kind"), ("biomask", "biomask_version"), ("torch", "torch_version"))
    pairs = tuple((name, None if record.get(key) is None else str(record[key])) for name, key in known)
    copies = COPIES.get(str(record.get("augment")))
    return (legend_fact(_kind(record), legend, "masks"), *pairs, ("each image was predicted", copies))


def _segmented(record: Mapping[str, Any], legend: Legend) -> str:
    names = [e.name for e in legend]
    if _kind(record) == "classes":
        return ", ".join(names)
    if _kind(record) == "multilabel":
        return "structures that may overlap: " + ", ".join(names[1:])
    return "single objects" + (f": {', '.join(names[1:])}" if len(names) > 2 else "")


def _size(size: Sequence[int] | None) -> str | None:
    return " × ".join(str(n) for n in size) if size else None


def _percent(count_: int | None, pixels: int) -> str | None:
    if count_ is None or not pixels:
        return None
    return f"{100 * count_ / pixels:.1f} %" if count_ == 0 or count_ / pixels >= 0.001 else "< 0.1 %"
