"""Mask R-CNN (He et al. 2017): one file a box of the paper's figure, put together in `assembly`."""

from biomask.models.mask_rcnn.assembly import MaskRCNN
from biomask.models.mask_rcnn.types import Detection, Limits, Target

__all__ = ["Detection", "Limits", "MaskRCNN", "Target"]
