"""Objects one by one: outlines to pixels and back, run lengths."""

from biomask.instances.polygons import Rasterised, crop_mask, parts_of, rasterise
from biomask.instances.trace import objects_of, outlines

__all__ = ["Rasterised", "crop_mask", "objects_of", "outlines", "parts_of", "rasterise"]
