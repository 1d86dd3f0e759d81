"""Objects one by one: outlines to pixels and back, run lengths; from probabilities, their thresholds, their measurements."""

from biomask.instances.components import class_of_objects, components
from biomask.instances.filter import fill_holes, in_scan_order, min_size_of
from biomask.instances.measure import Columns, measure_objects
from biomask.instances.polygons import Rasterised, crop_mask, parts_of, rasterise
from biomask.instances.table import ObjectsTable, object_columns, objects_csv
from biomask.instances.trace import objects_of, outlines
from biomask.instances.tune import Trial, Tuned, tune_thresholds
from biomask.instances.watershed import InstanceTarget, Thresholds, label_instances

__all__ = ["Columns", "InstanceTarget", "ObjectsTable", "Rasterised", "Thresholds", "Trial", "Tuned", "class_of_objects",
           "components", "crop_mask", "fill_holes", "in_scan_order", "label_instances", "measure_objects", "min_size_of",
           "object_columns", "objects_csv", "objects_of", "outlines", "parts_of", "rasterise", "tune_thresholds"]
