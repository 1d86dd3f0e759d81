"""Targets and weights that networks learn objects by, made from their labels: torch tensors in and out, on any device.

>>> import torch
>>> ids = torch.zeros(1, 1, 9, dtype=torch.int64)
>>> ids[..., :4], ids[..., 5:] = 1, 2  # two cells, and one pixel of background between them
>>> [round(w, 1) for w in weight_map(ids)[0, 0].tolist()]
[1.0, 1.0, 1.0, 1.0, 10.2, 1.0, 1.0, 1.0, 1.0]
"""

from biomask.data.distances import normalized_distance, object_distance, renumber, separate, touching_border
from biomask.data.nearest import two_nearest, two_nearest_cropped
from biomask.data.weight_map import PlugIn, plug_in_weight_map, weight_map

__all__ = ["PlugIn", "normalized_distance", "object_distance", "plug_in_weight_map", "renumber", "separate", "touching_border",
           "two_nearest", "two_nearest_cropped", "weight_map"]
