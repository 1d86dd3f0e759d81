"""The report of a prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biomask.labels import Legend
from biomask.reports.examples import Example
from biomask.reports.html import Block, Headline, KeyValues, Paragraph, Section, Table, render
from biomask.reports.parts import class_names, count, duration, examples_section, folded

UNJUDGED = ("No truth was compared here, so nothing on this page says how right the masks are. Look at the outlines, "
            "and score some images with 'biomask evaluate'.")


def prediction_report(record: Mapping[str, Any], examples: Sequence[Example]) -> str:
    """HTML page on one prediction. record: the content of its run.json; examples: some of its images."""
    images, failed = record.get("images") or {}, record.get("failed") or {}
    legend = Legend.from_json(record["legend"])
    sections = [
        Section("", (_headline(record), Paragraph(UNJUDGED))),
        *([Section("Failed", (_failures(failed),))] if failed else []),
        examples_section(examples, over="the images predicted here"),
        Section("Each image", (_images(images, legend),)),
        Section("How it was made", (KeyValues(_provenance(record, legend)),)),
    ]
    return render("Prediction report", f"{count(len(images), 'image')} segmented into {_classes(legend)}", sections)


def _headline(record: Mapping[str, Any]) -> Headline:
    images, failed = record.get("images") or {}, record.get("failed") or {}
    pixels = sum(int(np.prod(i["size"], dtype=np.int64)) for i in images.values())
    seconds = sum(float(i.get("seconds") or 0) for i in images.values())
    return Headline((("images done", len(images), f"{len(failed):,} failed" if failed else "none failed"),
                     ("megapixels", f"{pixels / 1e6:,.2f}", "over all images done"),
                     ("computing time", duration(seconds), "reading and writing included")))


def _failures(failed: Mapping[str, Any]) -> Table:
    return Table(("image", "what is wrong, and what to do"), tuple((str(k), str(v)) for k, v in failed.items()))


def _images(images: Mapping[str, Any], legend: Legend) -> Block:
    if not images:
        return Paragraph("No image was done.")
    rows = []
    for name, image in images.items():
        pixels = int(np.prod(image["size"], dtype=np.int64))
        counts = image.get("class_pixels") or {}
        shares = (_percent(counts.get(str(e.value)), pixels) for e in list(legend)[1:])
        rows.append((str(name), _size(image["size"]), _size(image.get("tile")), image.get("seconds"), *shares))
    columns = ("image", "size, px", "tile, px", "seconds", *(f"{e.name}, share of pixels" for e in list(legend)[1:]))
    notes = ("Share of pixels: pixels predicted as the class, of all pixels of the image.",)
    return folded(Table(columns, tuple(rows), notes), "images with size, time and share of each class")


def _provenance(record: Mapping[str, Any], legend: Legend) -> tuple[tuple[str, str | None], ...]:
    known = (("model", "model"), ("SHA-256 of the model", "model_sha256"), ("device", "device"), ("tile", "tile"),
             ("biomask", "biomask_version"), ("torch", "torch_version"))
    pairs = tuple((name, None if record.get(key) is None else str(record[key])) for name, key in known)
    return (("classes (value in masks)", class_names(legend)), *pairs)


def _classes(legend: Legend) -> str:
    return ", ".join(e.name for e in legend)


def _size(size: Sequence[int] | None) -> str | None:
    return " × ".join(str(n) for n in size) if size else None


def _percent(count_: int | None, pixels: int) -> str | None:
    if count_ is None or not pixels:
        return None
    return f"{100 * count_ / pixels:.1f} %" if count_ == 0 or count_ / pixels >= 0.001 else "< 0.1 %"
