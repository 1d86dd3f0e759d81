"""What labels and objects are written as."""

from __future__ import annotations

#: Formats of outlines, one file an image: as `--to` calls them, and as `SHAPE_WRITERS` does.
OUTLINES: dict[str, str] = {"geojson": "geojson", "roi": "imagej", "labelme": "labelme", "napari": "napari"}

#: What `--to` takes: the formats of outlines, one COCO file for all images, ids of objects and class masks as TIFF.
FORMATS = (*OUTLINES, "coco", "labels", "masks")
