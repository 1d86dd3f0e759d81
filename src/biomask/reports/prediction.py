"""The report of a prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biomask.labels import Legend
from biomask.reports.examples import Example
from biomask.reports.html import Block, Cell, Files, Headline, KeyValues, Paragraph, Section, Table, render
from biomask.reports.parts import count, duration, examples_section, folded
from biomask.reports.scores import legend_fact

UNJUDGED = ("No truth was compared here, so nothing on this page says how right the masks are. Look at the outlines, "
            "and score some images with 'biomask evaluate'.")


#: How often an image is predicted, by name.
COPIES = {"none": "once", "mirrors": "as the mean over mirrored copies",
          "symmetries": "as the mean over mirrored and turned copies"}

#: What counts as an object, by kind.
OBJECTS = {"classes": "connected pieces of a class", "multilabel": "connected pieces of a structure",
           "instances": "each told from those that touch it"}


def prediction_report(record: Mapping[str, Any], examples: Sequence[Example]) -> str:
    """HTML page on one prediction. record: the content of its run.json; examples: some of its images."""
    images, failed = record.get("images") or {}, record.get("failed") or {}
    legend = Legend.from_json(record["legend"])
    sections = [
        Section("", (_headline(record), Paragraph(UNJUDGED))),
        *([Section("Failed", (_failures(failed),))] if failed else []),
        examples_section(examples, over="the images predicted here"),
        Section("Each image", (_images(record, legend),)),
        *((Section("Files", (Files(_files(record)),)),) if images else ()),
        Section("How it was made", (KeyValues(_provenance(record, legend)),)),
    ]
    return render("Prediction report", f"{count(len(images), 'image')} segmented into {_segmented(record, legend)}", sections)


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
    rows = []
    for name, image in images.items():
        pixels = int(np.prod(image["size"], dtype=np.int64))
        counts = image.get("class_pixels") or {}
        shares = (_percent(counts.get(str(e.value)), pixels) for e in list(legend)[1:])
        rows.append((str(name), _size(image["size"]), _size(image.get("tile")), image.get("seconds"),
                     *((image.get("objects"),) if counted else ()), *shares))
    columns = ("image", "size, px", "tile, px", "seconds", *(("objects",) if counted else ()),
               *(f"{e.name}, share of pixels" for e in list(legend)[1:]))
    what = {"classes": "the class", "multilabel": "the structure", "instances": "an object of the class"}[kind]
    notes = (f"Share of pixels: pixels predicted as {what}, of all pixels of the image.",
             *((f"Objects: {OBJECTS[kind]}.",) if counted else ()))
    return folded(Table(columns, tuple(rows), notes), "images with size, time and share of each class")


def _files(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What lies beside the page."""
    first: Mapping[str, Any] = next(iter(record["images"].values()))
    several = _kind(record) == "multilabel"
    masks = "a folder a structure: 255 where it is, 0 elsewhere" if several else "the value of its class a pixel"
    return (*((("objects.csv", "a row an object: its image, class, size, place, shape and brightness"),
               ("labels/", "the number of its object a pixel, as in objects.csv; 0 = none")) if _counted(record) else ()),
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
