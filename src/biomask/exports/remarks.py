"""What `convert` says of a folder of predictions: where objects are from, and what is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from biomask.data.mistakes import some
from biomask.exports.folder import PredictedFolder, PredictedImage, Row
from biomask.exports.objects import Found, Source, has_points
from biomask.exports.written import CLASSES_LOST, draws
from biomask.io.detections import DETECTIONS, read_detections
from biomask.words import count

#: Formats that hold measurements.
MEASURED = ("geojson", "roi", "coco")


class Remarks:
    """What is to be said of where objects are from, with the names of images."""

    def __init__(self, folder: PredictedFolder, to: str, *, chosen: bool) -> None:
        """chosen: whether somebody said what counts."""
        self.folder, self.to, self.chosen = folder, to, chosen
        self.sources: dict[tuple[Source, bool], list[str]] = {}
        self.lost: dict[str, list[str]] = {}
        self.counts = Counter[str]()

    def add(self, image: PredictedImage, found: Found, rows: Sequence[Row] | None) -> None:
        """Note one image."""
        self.sources.setdefault((found.source, found.changed), []).append(image.name)
        pieces = found.source == "masks" or (found.source == "labels" and rows is None)
        if self.to == "coco" and pieces and image.detections is not None and has_points(read_detections(image.detections)):
            self._lose("keypoints", image, 1)
        if self.to in MEASURED:
            self._lose("table", image, int(found.source == "labels" and rows is None))
            self._lose("unmeasured", image, found.unmeasured)
        if self.to != "labels":
            self._lose("recoloured", image, found.recoloured)
        if draws(self.to) and self.to != "coco" and found.filled:
            self._lose("boxes", image, 1)

    def _lose(self, what: str, image: PredictedImage, number: int) -> None:
        if number:
            self.lost.setdefault(what, []).append(image.name)
            self.counts[what] += number

    def said(self) -> tuple[str, ...]:
        """A sentence each."""
        out, strange = self.folder.out, self.folder.strange
        notes = [self._source_said(*key, names) for key, names in self.sources.items()]
        notes += ["masks are those of masks/"] if self.to == "masks" and not any(notes) else []
        if self.to == "labels" and len(self.folder.legend) > 2 and not self.folder.structures:
            notes.append(CLASSES_LOST)
        told = {
            "recoloured": "the class of {objects} is that of masks/, and not of objects.csv: {names}",
            "unmeasured": "objects.csv does not fit {objects}, which have no measurements: {names}",
            "table": "there are no measurements, as objects.csv is not there",
            "boxes": "outlines are boxes, as the detector has no masks",
            "keypoints": "keypoints of {images} are left out, for labels/ or objects.csv are missing or do not fit the masks: "
                         f"{{names}}; biomask convert {out / DETECTIONS} keeps them"}
        notes += [text.format(objects=count(self.counts[what], "object"), images=count(len(self.lost[what]), "image"),
                              names=some(self.lost[what])) for what, text in told.items() if what in self.lost]
        if strange:
            notes.append(f"{count(len(strange), 'mask')} that run.json does not know left out: {some(strange)}")
        return tuple(n for n in notes if n)

    def _source_said(self, source: Source, changed: bool, names: Sequence[str]) -> str:
        """Of images whose objects are from one place."""
        masks, what = self.to == "masks", "masks" if self.to == "masks" else "objects"
        where = "" if len(self.sources) == 1 else f" in {count(len(names), 'image')}"
        if changed and not self.chosen:
            said = f"{source}/ was changed since it was predicted, and counts: {some(names)}"
            if source == "masks" and not masks:
                said += ". Its objects are connected pieces, so those of one class that touch are one"
            other = "labels" if source == "masks" else "masks"
            return f"{said}; --masks {other} takes {other}/ there too" if self._has(other, names) else said
        if source == "labels":
            ids = f"{what} are {'made of ' if masks else ''}the ids of labels/{where}"
            return f"{ids}, as told; masks/ differs: {some(names)}" if changed else "" if masks else ids
        if source == "detections":
            return "" if masks else f"objects are those of detections/{where}, as labels/ has none; they may overlap"
        why = "as told" if self.chosen else "as nothing else says what is an object"
        return "" if masks else (f"objects are the connected pieces of masks/{where}, {why}: those of one class that touch are one")

    def _has(self, other: str, names: Sequence[str]) -> bool:
        return any(getattr(i, other) for i in self.folder.images if i.name in names)
